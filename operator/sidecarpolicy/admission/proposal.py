"""An AdmissionReview of a workload as the engine reads workloads: what it would be, and what it was.

The API server fills in defaults and managedFields before it asks, and what only it may set (uid, resourceVersion,
generation, status) afterwards. A `kubectl replace` may bring anything in those, so they are taken from what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import eject as ejected
from sidecarpolicy.core.injection import recorded_item
from sidecarpolicy.core.kinds import deployment
from sidecarpolicy.core.likeness import is_as_it_should_be
from sidecarpolicy.core.record import Entry, ItemKey, Record, text_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import Workload, record_of
from sidecarpolicy.engine.context import Context

# What the API server sets itself, after admission.
SERVERS_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")


class NotReviewable(ValueError):
    """The request is no AdmissionReview of a workload; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A write under review.

    *workload*: as it would be; *before*: as it is, None where it is being created. *manager*: the writer's field
    manager. *key*: what tells it from others; from those of the same `generateName` too, to which no name is given yet.
    """

    workload: Workload
    before: Workload | None
    manager: str
    dry_run: bool
    key: str = ""

    @property
    def created(self) -> bool:
        """Whether the workload is being created."""
        return self.before is None


def proposal_from(request: Json) -> Proposal:
    """Return what the *request* of an AdmissionReview proposes; raise NotReviewable."""
    try:
        operation, new, old = request["operation"], request.get("object"), request.get("oldObject")
        if operation not in ("CREATE", "UPDATE") or not new or (operation == "UPDATE") is not bool(old):
            raise NotReviewable(f"operation {operation} with{'' if new else 'out'} an object")
        place = {"namespace": request["namespace"], "name": request.get("name") or _name_of(at(new, "metadata"))}
        before = deployment.workload_from({**old, "metadata": {**old["metadata"], **place}}) if old else None
        return Proposal(
            workload=deployment.workload_from(_as_stored(new, old, place, request["uid"])),
            before=before,
            manager=at(request, "options").get("fieldManager", ""),
            dry_run=request.get("dryRun") is True,
            key="" if request.get("name") else request["uid"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise NotReviewable(f"{type(error).__name__}: {error}") from error


def _name_of(metadata: Json) -> str:
    """The name of an object; where the API server has still to make one of `generateName`, what that begins with."""
    return str(metadata.get("name") or metadata.get("generateName") or "")


def _as_stored(new: Json, old: Json | None, place: Json, uid: str) -> Json:
    made: Json = {"uid": uid, "resourceVersion": "0", "generation": 1}
    stored = at(old, "metadata") if old else made
    metadata = {key: value for key, value in new["metadata"].items() if key not in SERVERS_OWN}
    metadata |= place | {key: stored[key] for key in SERVERS_OWN if key in stored}
    return {**new, "metadata": metadata, "status": at(old, "status")}


def with_record(workload: Workload, record: Record) -> Workload:
    """Return *workload* with *record* as its annotation."""
    return replace(workload, record=text_of(record) or None)


def restored_record(proposal: Proposal, context: Context) -> Record:
    """Return the record of the workload as it would be, with the entries that its owner's write has dropped.

    An entry comes back for a policy that selects the workload still. Of its items only those that the owner has not
    written anew are ours: what they declare under one of our names, and otherwise than we do, is theirs. `rollout undo`
    brings an old record with the old items; that one says what is there.
    """
    record = record_of(proposal.workload.record)
    if proposal.before is None:
        return record
    known = record_of(proposal.before.record)
    selecting = {each.id for each in context.cache.selecting(proposal.workload)}
    live = template_items(proposal.workload.content.template)
    stored = template_items(proposal.before.content.template)
    entries = dict(record.entries)
    for policy, entry in known.entries.items():
        if policy in entries or policy not in selecting:
            continue
        ours = {
            item for item in entry.items if item not in live or _is_ours(policy, entry, item, live, stored, context)
        }
        entries[policy] = replace(entry, items=frozenset(ours))
    orphaned = record.orphaned if proposal.workload.record else known.orphaned & live.keys()
    return Record(entries={policy: entries[policy] for policy in sorted(entries)}, orphaned=orphaned)


def _is_ours(
    policy: PolicyId,
    entry: Entry,
    item: ItemKey,
    live: dict[ItemKey, Json],
    stored: dict[ItemKey, Json],
    context: Context,
) -> bool:
    canonical = recorded_item(context.revision(policy, entry.revision), entry, item)
    as_injected = canonical is not None and is_as_it_should_be(live[item], canonical)
    return as_injected or live[item] == stored.get(item)


def asked_anew(record: Record) -> Record:
    """Return *record* without what was refused: the owner restarts the Pods, and asks for the same once more."""
    entries = {policy: replace(entry, adjustment=entry.adjustment.effect) for policy, entry in record.entries.items()}
    return replace(record, entries=entries)


def owner_changes(proposal: Proposal, record: Record) -> bool:
    """Whether the owner's own part of the template changes: what is left of it without what is ours."""
    if proposal.before is None:
        return True
    before = ejected(proposal.before.content.template, record_of(proposal.before.record))
    return bool(before != ejected(proposal.workload.content.template, record))
