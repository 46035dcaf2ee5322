"""Events for people, on the workload and on the policy: what was written, and what is new in a policy's state.

Emitted on change only. What the status on the object says already has been told.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from sidecarpolicy import names
from sidecarpolicy.core.configs import ConfigObject
from sidecarpolicy.core.drift import culprit, edits
from sidecarpolicy.core.field_conflicts import FieldConflict
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds import kind_of
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.record import Entry, ItemKey
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import without_a_say
from sidecarpolicy.core.text_limits import cause
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import Workload, is_mangled
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import PolicyMemory
from sidecarpolicy.engine.port import Events, ObjectRef
from sidecarpolicy.engine.prepare import Prepared, undone_by
from sidecarpolicy.names import EventReason, OptOut, Reason, SkipReason

log = logging.getLogger(__name__)

# So many fields are named that somebody had changed.
MOST_EDITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Tells on workloads and policies."""

    events: Events
    context: Context

    def on_workload(self, workload: Workload, reason: EventReason, message: str, *, warning: bool = False) -> None:
        """One Event on *workload*."""
        self.events.emit(reference(workload), reason=reason, message=message, warning=warning, action="Patch")

    def on_policy(self, policy: PolicyId, reason: EventReason, message: str, *, warning: bool = False) -> None:
        """One Event on *policy*, where it still exists."""
        cached = self.context.cache.policies.get(policy)
        if cached is not None:
            self.events.emit(policy_reference(cached), reason=reason, message=message, warning=warning, action="Patch")

    def of_write(self, prepared: Prepared) -> None:
        """What has just been written on a workload."""
        workload, context = prepared.workload, self.context
        before, after = prepared.judgement.record.entries, prepared.composed.record.entries
        if problem := is_mangled(workload.record):
            what = f"annotation {names.RECORD} could not be read ({problem}) and was written anew from what is there"
            self.on_workload(workload, EventReason.RECORD_REBUILT, what, warning=True)
        self._of_yielded(prepared)
        for policy in sorted({*before, *after}):
            old, new = before.get(policy), after.get(policy)
            if old is not None and new is not None and old == new:
                continue
            if not prepared.changes_pods and _is_silent(old, new, prepared.composed.yielded):
                continue
            step = prepared.steps.get(policy)
            rolled_back = step is not None and bool(step.note.failed)
            if new is not None and new.revision:
                reason = EventReason.INJECTED
                images = _images(
                    context.revision(policy, old.revision) if old else None, prepared.desired.assigned.get(policy)
                )
                what = f"{new.revision} of {policy.label}: {images}"
                if old is not None and old.revision == new.revision and old.adjustment.effect != new.adjustment.effect:
                    what = f"{what}; from now on {new.adjustment}"
                elif old is not None and old.revision == new.revision and old.config.restart != new.config.restart:
                    named = ", ".join(map(str, _changed_configs(old, new))) or "its configuration"
                    what = f"{new.revision} of {policy.label}"
                    what += f" as it was before {named} changed" if rolled_back else f": restarted, {named} has changed"
                elif old is not None and old.revision == new.revision:
                    what = f"repaired {what}{_repaired(prepared, policy)}"
            else:
                reason = EventReason.REMOVED
                left = ", ".join(str(item) for item in prepared.composed.left_behind if old and item in old.items)
                how = "handed over to the owner" if policy in prepared.desired.orphaned else "removed"
                what = f"sidecars of {policy.label} {how}"
                what += f"; left because changed by others: {left}" if left else ""
            if rolled_back and step is not None:
                reason = EventReason.ROLLED_BACK
                back = f"to {what}" if new is not None and new.revision else "to what it was before the first injection"
                what = f"{step.note.failed.partition('+')[0]} rolled back {back}, because it failed: {step.why}"
            self.on_workload(workload, reason, what, warning=rolled_back)
            self.on_policy(policy, reason, f"{workload.id}: {what}", warning=rolled_back)
        why = "; ".join(map(_logged, prepared.steps.values())) or "as recorded"
        revisions = {policy.label: step.revision for policy, step in prepared.steps.items()}
        log.info("%s: %s", workload.id, why, extra={"workload": str(workload.id), "revisions": revisions})

    def of_switch(self, policy: PolicyId, *, stopped: bool) -> None:
        """The emergency switch was thrown, one way or the other."""
        bearer = self.context.cache.switch_bearer
        if stopped:
            message = f"no workload is changed while {bearer} has the annotation {names.STOP}"
            self.on_policy(policy, EventReason.STOPPED, f"{message}; to lift it: sidecarpolicy start", warning=True)
        else:
            self.on_policy(policy, EventReason.STARTED, f"{bearer} has no annotation {names.STOP} any more")

    def _of_yielded(self, prepared: Prepared) -> None:
        """What somebody else has written another value for in the application's containers: it is theirs now."""
        workload, yielded = prepared.workload, frozenset(prepared.composed.yielded)
        claims = workload.content.claims
        for policy, entry in sorted(prepared.judgement.record.entries.items()):
            for item in sorted(entry.items & yielded):
                who = claims.owners.get(item) or claims.touched.get(item)
                what = f"{item} is left to its owner: {who!r} has set it; {policy.label} keeps off it"
                self.on_workload(workload, EventReason.LEFT_TO_OWNER, what)
                self.on_policy(policy, EventReason.LEFT_TO_OWNER, f"{workload.id}: {what}")

    def of_missing(self, workload: Workload, missing: Iterable[PolicyId]) -> None:
        """Once in a term: the record names a policy that does not exist, and what it has there is held.

        Where no ClusterSidecarPolicy can be seen nobody knows whether one is missing.
        """
        for policy in sorted(missing):
            if policy.cluster_wide and self.context.cache.served:
                continue
            if self.context.memory.is_new(workload.uid, policy, "missing"):
                message = (
                    f"carries sidecars of {policy.label}, which {without_a_say(policy, workload.id)}; they are left as "
                    "they are"
                )
                self.on_workload(workload, EventReason.POLICY_MISSING, message, warning=True)

    def of_report(self, cached: CachedPolicy, remembered: PolicyMemory, status: Json) -> None:
        """What is new in a policy's state: a rejection, failures, conflicts, workloads that are skipped."""
        if remembered.rejection is not None:
            told = [each["message"] for each in items(cached.status, "conditions") if each["type"] == "Ready"]
            said = next(each["message"] for each in status["conditions"] if each["type"] == "Ready")
            if said not in told and self.context.memory.is_new(cached.uid, cached.id, f"rejected {said}"):
                self.on_policy(cached.id, EventReason.REJECTED, said, warning=True)
        self._of_failures(cached, remembered)
        self._of_skips(cached, remembered, status)

    def _of_failures(self, cached: CachedPolicy, remembered: PolicyMemory) -> None:
        """Each failure once, however many the status lists, and not again after it was rolled back."""
        if remembered.told is None:  # a new term: what the status tells has been told
            remembered.told = {
                (WorkloadId(namespace=each["namespace"], name=each["name"]), each.get("revision", ""))
                for each in items(cached.status, "failures")
            }
        fleet = remembered.fleet
        update = self.context.cache.update_revision(cached.id)
        for each in fleet.failed:
            workload = self.context.cache.workloads.get(each.workload)
            if workload is None:
                continue
            if each.conflict is not None:
                self._of_conflict(cached, workload, each.conflict)
                continue
            revision = ("" if each.rolled_back else each.revision) or (update.revision.name if update else "")
            key = (each.workload, revision)
            if key in remembered.told or not each.message:
                continue
            remembered.told.add(key)
            message = f"{revision} of {cached.id.label}: {each.message}"
            self.on_workload(workload, EventReason.FAILED, message, warning=True)
            self.on_policy(cached.id, EventReason.FAILED, f"{each.workload}: {revision}: {each.message}", warning=True)
        failed = {each.workload for each in fleet.failed}
        remembered.told = {key for key in remembered.told if key[0] in failed}

    def _of_conflict(self, cached: CachedPolicy, workload: Workload, conflict: FieldConflict) -> None:
        listed = {
            (each["namespace"], each["name"])
            for each in items(cached.status, "failures")
            if each["reason"] == Reason.FIELD_CONFLICT
        }
        if (
            not self.context.memory.is_new(workload.uid, cached.id, "conflict")
            or (workload.id.namespace, workload.id.name) in listed
            or conflict.put_back
        ):
            return
        what = f"{conflict.by} keeps undoing {conflict.what}"
        message = f"{what} of {cached.id.label}"
        if cached.policy is None or cached.policy.opt_out is OptOut.ALLOWED:
            message += f'; the label {names.INJECT}: "false" would keep that out'
        self.on_workload(workload, EventReason.FIELD_CONFLICT, message, warning=True)
        self.on_policy(cached.id, EventReason.FIELD_CONFLICT, f"{workload.id}: {what}", warning=True)

    def of_release(self, cached: CachedPolicy, released: Mapping[WorkloadId, str]) -> None:
        """What is left of a policy's sidecars on workloads where they could not be removed, and why."""
        for identity, why in sorted(released.items()):
            if (workload := self.context.cache.workloads.get(identity)) is not None:
                message = f"the sidecars of {cached.id.label} are left, because they cannot be removed: {why}"
                self.on_workload(workload, EventReason.REMOVAL_GIVEN_UP, message, warning=True)

    def _of_skips(self, cached: CachedPolicy, remembered: PolicyMemory, status: Json) -> None:
        skipped = {each.workload: each for listed in remembered.fleet.skipped.values() for each in listed}
        before = remembered.skipped
        remembered.skipped = {workload: each.skip.reason for workload, each in skipped.items() if each.skip is not None}
        if before is None:
            # After a restart nothing is known of before; where the status says the same as then, nothing is new.
            same = _counts(at(cached.status), "skipped") == _counts(status, "skipped")
            before = remembered.skipped if same else {}
        for identity, each in skipped.items():
            if each.skip is None or before.get(identity) is each.skip.reason:
                continue
            if each.skip.reason is SkipReason.TERMINATING:
                continue  # it goes, and so would the Event
            message = f"{each.skip.reason}: {each.skip.message}"
            if (workload := self.context.cache.workloads.get(identity)) is not None:
                self.on_workload(workload, EventReason.SKIPPED, f"{cached.id.label}: {message}")
            self.on_policy(cached.id, EventReason.SKIPPED, f"{identity}: {message}")


def _repaired(prepared: Prepared, policy: PolicyId) -> str:
    """`: image of init container 'proxy' was "x" instead of "y" (by 'kubectl-edit')`: what, and whose it was."""
    workload = prepared.workload
    undone = undone_by(prepared).get(policy, frozenset())
    found = [cause(str(each)) for each in edits(workload.content.template, prepared.composed.template, undone)]
    if not undone:
        return ""
    by = culprit(workload, undone, prepared.judgement.record.entries[policy].note.stepped)
    what = ", ".join(found[:MOST_EDITS]) or "their order"
    return f"; {what}{f' and {len(found) - MOST_EDITS} more' if len(found) > MOST_EDITS else ''} (by {by})"


def _is_silent(old: Entry | None, new: Entry | None, yielded: Collection[ItemKey]) -> bool:
    """Whether an entry differs by nothing but items that are left to their owner, or hashes that are noted down."""
    if old is None or new is None:
        return False
    return replace(old, items=old.items - set(yielded), config=new.config) == new


def _changed_configs(old: Entry, new: Entry) -> list[ConfigObject]:
    """What has another hash in the record than before."""
    before = dict(old.config.hashes)
    return [each for each, value in new.config.hashes if before.get(each, value) != value]


def _logged(step: Step) -> str:
    """Why a step was taken, as a line of the log has it."""
    return f"rolled back, {step.why}" if step.note.failed else step.why


def _counts(status: Json, listed: str) -> Mapping[str, int]:
    return {each["reason"]: each["count"] for each in items(status, listed)}


def _images(old: Revision | None, new: Revision | None) -> str:
    """`proxy envoy:1 → envoy:2, logger fluent-bit:3`."""
    if new is None:
        return "as it was"
    parts = []
    for sidecar in new.sidecars:
        image = sidecar.container.get("image")
        before = old.sidecar(sidecar.name) if old else None
        was = before.container.get("image") if before else None
        parts.append(f"{sidecar.name} {was} → {image}" if was and was != image else f"{sidecar.name} {image}")
    return ", ".join(parts)


def reference(workload: Workload) -> ObjectRef:
    """What an Event about *workload* refers to."""
    address = kind_of(workload).ADDRESS
    return ObjectRef(
        api_version=address.api_version,
        kind=address.kind,
        namespace=workload.id.namespace,
        name=workload.id.name,
        uid=workload.uid,
    )


def policy_reference(cached: CachedPolicy) -> ObjectRef:
    """What an Event about a policy refers to."""
    policy = cached.id
    return ObjectRef(
        api_version=names.API_VERSION, kind=policy.kind, namespace=policy.namespace, name=policy.name, uid=cached.uid
    )
