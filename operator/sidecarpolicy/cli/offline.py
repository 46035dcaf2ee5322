"""What inject and eject make of one Deployment, and why: the operator's own decisions, without a cluster.

Selection, checks and composition are the core's. Three things differ, because a file shows less than a cluster does:
containers have no defaults filled in (those are the API server's; see `_as_it_is`), a policy that was not given may
exist all the same, so what it has on a Deployment is kept, and nobody's claims hold a change back: whoever runs this
writes the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from sidecarpolicy import names
from sidecarpolicy.cli.deployments import Manifest, with_change
from sidecarpolicy.cli.locating import located
from sidecarpolicy.cli.policies import Given
from sidecarpolicy.core.adjusting import Wishes, adjusted, adjustment_on, ignored_overrides, readjusted, wishes_of
from sidecarpolicy.core.arithmetic.change import Change
from sidecarpolicy.core.arithmetic.findings import findings
from sidecarpolicy.core.arithmetic.injectors import calling
from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import Composition, compose
from sidecarpolicy.core.opt_out import opts_out, without_effect
from sidecarpolicy.core.ordering import order_cycle
from sidecarpolicy.core.pull_secrets import account_on
from sidecarpolicy.core.reading import Problem
from sidecarpolicy.core.record import ENV, INIT_CONTAINERS, VOLUME_MOUNTS, VOLUMES, Entry, Record, text_of
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import Skip, Subject, invalid_marks, judge, pins_among
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import Namespace, is_mangled, record_of
from sidecarpolicy.manifests import BadInput
from sidecarpolicy.names import DeletionPolicy, OptOut, WarningReason


class Did(StrEnum):
    """What a note is about."""

    INJECTED = "injected"
    MOVED = "moved"
    REPAIRED = "repaired"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    KEPT = "kept"
    SKIPPED = "skipped"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of the report on a Deployment: what was done, and a sentence; of a warning or a skip, the reason."""

    did: Did
    text: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A Deployment afterwards; *concerned*: some policy selects it, or it carries sidecars of one."""

    manifest: Manifest
    body: Json
    notes: tuple[Note, ...] = ()
    concerned: bool = True

    @property
    def changed(self) -> bool:
        """Whether anything is other than before."""
        return self.body != self.manifest.body


def injected(manifest: Manifest, given: Given) -> Result:
    """Return *manifest* with the sidecars of the policies that select it.

    Raises BadInput where the order of their sidecars is circular.
    """
    workload, record = manifest.workload, record_of(manifest.workload.record)
    candidates = given.selecting(workload.id, workload.pod_labels)
    if not candidates and not workload.record:
        return Result(manifest=manifest, body=manifest.body, concerned=False)
    if mangled := is_mangled(workload.record):
        note = _warning(
            WarningReason.INVALID_RECORD,
            f"left as it is, because the annotation {names.RECORD} cannot be read ({mangled}): restore it, "
            "or remove it together with the sidecars",
        )
        return Result(manifest=manifest, body=manifest.body, notes=(note,))
    namespace = given.namespace(workload.id.namespace)
    wishes = _wishes(manifest, record, given, namespace)
    revisions = {policy: _as_adjusted(policy, wishes, record, given) for policy in candidates}
    _refuse_cycles(manifest, list(revisions.values()))
    foreign = frozenset(
        each for each in record.entries if not each.cluster_wide and each.namespace != workload.id.namespace
    )
    unknown = frozenset(record.entries) - frozenset(given.policies) | foreign
    subject = Subject(
        workload=workload,
        namespace=namespace,
        template=manifest.template,
        record=record,
        missing=unknown,
        pins=pins_among(workload.annotations, revisions.values()),
        autoscalers=[each for each in given.autoscalers if each.scales == workload.id],
        emptied=workload.content.claims.emptied,
        binding=frozenset(policy for policy in candidates if given.policies[policy].opt_out is OptOut.FORBIDDEN),
        skipped=wishes.skipped,
        account=wishes.account,
        nodes=given.nodes.eligible(workload.node_demand),
    )
    verdicts = judge(subject, revisions.values())
    kept = {policy for policy, skip in verdicts.items() if skip is not None and not skip.removes}
    composed = compose(
        manifest.template,
        record,
        {policy: _as_it_is(revisions[policy], manifest, record) for policy, skip in verdicts.items() if skip is None},
        known=lambda policy, revision: _if_named(given.revisions.get(policy), revision),
        held=(unknown | kept) & frozenset(record.entries),
        abandoned=foreign,
        orphaned=frozenset(
            policy
            for policy in record.entries.keys() & given.policies.keys()
            if given.policies[policy].deleting and given.policies[policy].deletion_policy is DeletionPolicy.ORPHAN
        ),
    )
    body = with_change(manifest.body, composed.template, text_of(composed.record))
    edited = body["spec"] != manifest.body["spec"]
    notes = [
        *(verdict_note(revisions[policy], skip, record, edited) for policy, skip in verdicts.items()),
        *_leaving(record, given, verdicts.keys(), composed, foreign),
        *_warnings(manifest, namespace, composed, candidates, given, record, wishes),
        *(
            note
            for policy, skip in verdicts.items()
            if not skip
            for note in _foreseen(policy, manifest, namespace, composed, given)
        ),
    ]
    return Result(manifest=manifest, body=body, notes=tuple(notes))


def ejected(manifest: Manifest, only: frozenset[PolicyId] = frozenset()) -> Result:
    """Return *manifest* without what its record names, or what it names of the policies *only*.

    Raises BadInput where the record cannot be read: nothing is removed on the strength of a name alone.
    """
    workload = manifest.workload
    if mangled := is_mangled(workload.record):
        message = (
            f"must be as it was written ({mangled}): restore it, or remove it together with the sidecars from "
            f"Deployment {workload.id}"
        )
        path = f"metadata.annotations[{names.RECORD}]"
        raise BadInput([located(manifest.found, Problem(path=path, message=message))])
    record = record_of(workload.record)
    leaving = {policy: entry for policy, entry in record.entries.items() if not only or policy in only}
    if not leaving:
        return Result(manifest=manifest, body=manifest.body, concerned=False)
    composed = compose(manifest.template, record, {}, held=frozenset(record.entries) - leaving.keys())
    return Result(
        manifest=manifest,
        body=with_change(manifest.body, composed.template, text_of(composed.record)),
        notes=tuple(_removed(policy, entry) for policy, entry in leaving.items()),
    )


def _as_adjusted(policy: PolicyId, wishes: Wishes, record: Record, given: Given) -> Revision:
    """Return the revision of *policy* with what the owner of the Deployment has adjusted of it."""
    revision = given.revisions[policy]
    return adjusted(revision, adjustment_on(revision, wishes, given.policies[policy], record.entries.get(policy)))


def _wishes(manifest: Manifest, record: Record, given: Given, namespace: Namespace) -> Wishes:
    workload = manifest.workload
    wishes = wishes_of(workload.annotations, workload.pod_annotations)
    if opts_out(workload, namespace):
        wishes = replace(wishes, opts_out=True)
    if not any(policy.pull_secrets for policy in given.policies.values()):
        return wishes
    known = given.pull_secrets
    account = account_on(manifest.template, record, lambda name: known.get((workload.id.namespace, name)))
    return replace(wishes, account=account)


def _as_it_is(revision: Revision, manifest: Manifest, record: Record) -> Revision:
    """Return *revision* with the items that a Deployment of a cluster already has of it, as they are there.

    The API server has filled in defaults and dropped zeros, which only it can tell from somebody's edit. So items at
    the right revision are taken as they are, and inject changes nothing that the operator would not.
    """
    entry = record.entries.get(revision.policy)
    if entry is None or entry.revision != revision.name or not at(manifest.body, "metadata").get("uid"):
        return revision
    changed = readjusted(entry.adjustment, revision.adjustment)
    live = {item: content for item, content in template_items(manifest.template).items() if item in entry.items}

    def found(listed: str, name: str, otherwise: Json) -> Json:
        here = (content for item, content in live.items() if (item.list, item.name) == (listed, name))
        return next(here, otherwise)

    application = replace(
        revision.application,
        env=tuple(found(ENV, each["name"], each) for each in revision.application.env),
        volume_mounts=tuple(
            found(VOLUME_MOUNTS, each["mountPath"], each) for each in revision.application.volume_mounts
        ),
    )
    return replace(
        revision,
        sidecars=tuple(
            each if each.name in changed else replace(each, container=found(INIT_CONTAINERS, each.name, each.container))
            for each in revision.sidecars
        ),
        volumes=tuple(found(VOLUMES, each["name"], each) for each in revision.volumes),
        application=application,
    )


def _refuse_cycles(manifest: Manifest, revisions: list[Revision]) -> None:
    found = order_cycle(revisions)
    if found:
        policy, circle = found
        raise BadInput(
            [
                f"{policy.label}: startAfter must not go round in a circle: on Deployment {manifest.workload.id}, "
                f"{' after '.join((*circle, circle[0]))} (a BeforeInit sidecar never starts after an AfterInit one)"
            ]
        )


def _if_named(revision: Revision | None, name: str) -> Revision | None:
    return revision if revision is not None and revision.name == name else None


def verdict_note(revision: Revision, skip: Skip | None, record: Record, edited: bool) -> Note:
    """Return what becomes of what *record* has of the policy of *revision*; *edited*: whether anything changes."""
    entry = record.entries.get(revision.policy)
    what = f"{revision.policy.label} at {revision.name}"
    if skip is not None:
        if entry is None:
            text = f"{revision.policy.label}: {skip.reason}: {skip.message}"
            return Note(did=Did.SKIPPED, text=text, reason=skip.reason)
        fate = "removed" if skip.removes else "kept"
        return Note(
            did=Did.REMOVED if skip.removes else Did.SKIPPED,
            text=f"{revision.policy.label}: {skip.reason}: {skip.message}; {entry.revision} is {fate}",
            reason=skip.reason,
        )
    if entry is None:
        return Note(did=Did.INJECTED, text=f"{what} ({', '.join(each.name for each in revision.sidecars)})")
    if entry.revision != revision.name:
        return Note(did=Did.MOVED, text=f"{revision.policy.label} from {entry.revision} to {revision.name}")
    if entry.adjustment.effect != revision.adjustment.effect:
        return Note(did=Did.MOVED, text=f"{what}, {revision.adjustment}")
    return Note(did=Did.REPAIRED if edited else Did.UNCHANGED, text=what)


def _leaving(
    record: Record, given: Given, judged: Iterable[PolicyId], composed: Composition, foreign: frozenset[PolicyId]
) -> list[Note]:
    """Notes on policies of the record that do not select the Deployment."""
    notes: list[Note] = []
    for policy, entry in record.entries.items():
        if policy in judged or (policy in foreign and policy not in composed.record.entries):  # or taken over
            continue
        if policy in given.policies and policy not in foreign:
            gone = policy not in composed.record.entries and bool(entry.items & composed.record.orphaned)
            notes.append(
                Note(did=Did.KEPT, text=f"{policy.label} at {entry.revision}: the owner's own from now on (Orphan)")
                if gone
                else _removed(policy, entry, why="it does not select this Deployment any more")
            )
        else:
            notes.append(
                Note(
                    did=Did.KEPT,
                    text=f"{policy.label} at {entry.revision}: the policy was not given; eject removes its sidecars",
                )
            )
    return notes


def _removed(policy: PolicyId, entry: Entry, *, why: str = "") -> Note:
    return Note(did=Did.REMOVED, text=f"{policy.label} at {entry.revision}" + (f": {why}" if why else ""))


def _warnings(
    manifest: Manifest,
    namespace: Namespace,
    composed: Composition,
    candidates: Iterable[PolicyId],
    given: Given,
    record: Record,
    wishes: Wishes,
) -> list[Note]:
    workload = manifest.workload
    policies = [given.policies[policy] for policy in candidates]
    entries = record.entries
    found: list[tuple[WarningReason, str]] = [
        *(
            (WarningReason.INVALID_MARK, message)
            for message in invalid_marks(
                workload.labels,
                workload.annotations,
                workload.pod_labels,
                workload.pod_annotations,
                sidecars={sidecar.name for policy in policies for sidecar in policy.sidecars}
                | {item.name for item in record.items if item.list == INIT_CONTAINERS},
            )
        ),
        *(
            (WarningReason.OPT_OUT_FORBIDDEN, message)
            for policy in policies
            for message in without_effect(workload, namespace, wishes, policy, entries.get(policy.id))
        ),
        *(
            (WarningReason.OVERRIDE_IGNORED, message)
            for policy in policies
            for message in ignored_overrides(given.revisions[policy.id], wishes, policy, entries.get(policy.id))
        ),
        *((WarningReason.ENV_KEPT, f"{item} is the application's own and stays") for item in composed.env_kept),
        *((WarningReason.METADATA_KEPT, f"{item} is the owner's own and stays") for item in composed.metadata_kept),
        *(
            (
                WarningReason.UNKNOWN_CONTAINER,
                f"application.containers names {name!r}, which the Deployment does not have",
            )
            for name in composed.unknown_containers
        ),
    ]
    return [_warning(reason, message) for reason, message in found]


def _foreseen(
    policy: PolicyId, manifest: Manifest, namespace: Namespace, composed: Composition, given: Given
) -> list[Note]:
    """What the arithmetic says of one policy on the Deployment, as it does in the policy's status."""
    provided = composed.record.entries[policy].items
    change = Change(
        now=at(manifest.template, "spec"),
        after=at(composed.template, "spec"),
        ours=frozenset(item.name for item in provided if item.list == INIT_CONTAINERS),
        provided=provided,
        annotations=at(composed.template, "metadata", "annotations"),
        labels=at(composed.template, "metadata", "labels"),
        namespace=calling(namespace.labels),
        emptied=manifest.workload.content.claims.emptied,
        progress_deadline=given.policies[policy].rollout.progress_deadline_seconds,
        own_deadline=manifest.workload.deadline,
        own_wait=manifest.workload.min_ready,
    )
    return [_warning(each.reason, each.message) for each in findings(change)]


def _warning(reason: WarningReason, message: str) -> Note:
    return Note(did=Did.WARNING, text=f"{reason}: {message}", reason=reason)
