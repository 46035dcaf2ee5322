"""Move the targets of one policy a step closer to it, within its budget, and report.

Gather, plan, assign, report: the pass has no branch about what happened, only about what is. It runs after every
change that may concern the policy and decides everything anew; steps that are not yet being written are withdrawn
first, so nothing is carried out that the newest plan does not want.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sidecarpolicy.core import plan as planning
from sidecarpolicy.core import progress
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import Plan, Situation
from sidecarpolicy.core.policy import Policy, Rollout
from sidecarpolicy.core.rendering import lacks_gate
from sidecarpolicy.core.selection import EVERYTHING
from sidecarpolicy.core.status import Rejection, Report, Warned, status_of
from sidecarpolicy.core.targets import State, Target, target
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import Workload, record_of
from sidecarpolicy.engine import acceptance
from sidecarpolicy.engine.examination import examine
from sidecarpolicy.engine.port import ApiError, Gone
from sidecarpolicy.engine.resources import POLICIES
from sidecarpolicy.engine.store import SeenPolicy
from sidecarpolicy.engine.workload_pass import policy_reference, reference
from sidecarpolicy.engine.world import World
from sidecarpolicy.names import DeletionPolicy, EventReason, Reason, SkipReason, WarningReason

log = logging.getLogger(__name__)

# A status is written only when it differs, and at most this often per policy, in seconds.
STATUS_INTERVAL = 1.0

# How much longer a status waits, in seconds, for steps that are being carried out.
STATUS_PATIENCE = 0.3

# How long a namespace is left alone after its own trouble made a workload fail; it doubles from time to time.
HOLD_BACK_SECONDS = 600.0
MOST_HOLD_BACK_SECONDS = 3600.0


@dataclass(slots=True, kw_only=True)
class Memory:
    """What the passes over one policy keep; all of it can be found again."""

    generation: int = 0
    rejection: Rejection | None = None
    status_written: float = 0.0
    skipped: dict[WorkloadId, SkipReason] | None = None
    held_back: dict[str, tuple[float, float]] = field(default_factory=dict)
    disturbed: set[WorkloadId] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class PolicyPasses:
    """The policy pass, with what it keeps per policy."""

    world: World
    memories: dict[PolicyId, Memory] = field(default_factory=dict)

    async def run(self, identity: PolicyId) -> None:
        """Do one pass; raises what the port raises where it should be tried again."""
        seen = self.world.store.policies.get(identity)
        if seen is None:
            self.memories.pop(identity, None)
            self._withdraw(identity)
            return
        memory = self.memories.setdefault(identity, Memory())
        if not seen.deleting:
            await self._accept(seen, memory)
            seen = self.world.store.policies.get(identity, seen)
            await self._resume(seen)
        situation = self._situation(seen, memory)
        if await self._examine(situation):
            situation = self._situation(seen, memory)
        self._hold_back(memory, situation)
        plan = planning.plan(situation)
        if plan.halts:
            situation = await self._halt(seen, situation)
            plan = planning.plan(situation)
        self._withdraw(identity)
        for step in plan.steps:
            self.world.steps[step.workload][identity] = step
            self.world.queue.add_after(step.workload, self.world.wait_of(step.workload))
        if seen.deleting and self._is_gone(seen, situation):
            await acceptance.drop_finalizer(seen, self.world)
            return
        try:
            if not seen.deleting:
                situation = await self._note_completion(seen, situation, plan)
                await self._prune(seen, situation)
        finally:  # whatever comes of it, the status tells the truth
            await self._report(seen, memory, situation, plan)
        if plan.looks_again is not None:
            self.world.queue.add_after(identity, max(0.05, plan.looks_again - self.world.now()))

    async def _accept(self, seen: SeenPolicy, memory: Memory) -> None:
        """Decide, once for each generation, whether the policy is accepted."""
        if seen.policy is None or seen.problems:
            memory.rejection = Rejection(reason=Reason.INVALID, message=seen.problems)
            memory.generation = seen.generation
            return
        await acceptance.ensure_finalizer(seen, self.world)
        invalid = memory.rejection is not None and memory.rejection.reason is Reason.INVALID
        if memory.generation == seen.generation and invalid:
            return
        memory.rejection = await acceptance.ensure_revision(seen.policy, self.world)
        memory.generation = seen.generation

    async def _resume(self, seen: SeenPolicy) -> None:
        """Go on with a halted rollout where its author says so, by the id of this very halt."""
        stored = self.world.store.update_revision(seen.id)
        if stored is None or stored.halt is None or stored.halt.id != seen.resume:
            return
        await acceptance.resume(stored, seen.id, self.world)
        if (about := policy_reference(seen.id, self.world)) is not None:
            self.world.events.emit(about, reason=EventReason.RESUMED, message=f"goes on after {seen.resume}")

    async def _examine(self, situation: Situation) -> bool:
        """Find out why late rollouts make no progress; return whether there was any to look at."""
        late = [each for each in situation.targets if each.failing or each.suspect]
        for each in late:
            workload = self.world.store.workloads.get(each.workload)
            if workload is not None:
                try:
                    await examine(workload, self.world)
                except ApiError as error:  # then the Deployment's own condition has to do
                    log.warning("could not look at the Pods of %s: %s", each.workload, error)
        return bool(late)

    def _hold_back(self, memory: Memory, situation: Situation) -> None:
        """Leave a namespace alone whose own trouble made a workload fail: ten minutes first, an hour at most."""
        now = self.world.now()
        for each in situation.targets:
            if each.failing and each.excused:
                until, seconds = memory.held_back.get(each.workload.namespace, (0.0, HOLD_BACK_SECONDS / 2))
                if until <= now:
                    seconds = min(MOST_HOLD_BACK_SECONDS, seconds * 2)
                    memory.held_back[each.workload.namespace] = (now + seconds, seconds)

    async def _halt(self, seen: SeenPolicy, situation: Situation) -> Situation:
        """Write the halt down before anything else is done about it."""
        stored = self.world.store.update_revision(seen.id)
        if stored is None:
            return situation
        failed = sorted((each for each in situation.targets if each.counts), key=lambda each: each.workload)
        why = "; ".join(f"{each.workload}: {each.message}" for each in failed[:3])
        await acceptance.halt(stored, seen.id, why, self.world)
        message = f"{stored.attempt_id} is halted: {why}"
        if (about := policy_reference(seen.id, self.world)) is not None:
            self.world.events.emit(about, reason=EventReason.HALTED, message=message, warning=True)
        return replace(situation, halted=True)

    async def _prune(self, seen: SeenPolicy, situation: Situation) -> None:
        """Keep the history within its limit; while a rollout is under way nothing is thrown away."""
        if seen.policy is None or situation.update != situation.current:
            return
        everyone = (*situation.targets, *situation.removing)
        in_use = {name for each in everyone for name in (each.revision, each.note.previous) if name}
        await acceptance.prune(seen.policy, frozenset(in_use), self.world)

    def _withdraw(self, identity: PolicyId) -> None:
        for workload, steps in list(self.world.steps.items()):
            steps.pop(identity, None)
            if not steps:
                del self.world.steps[workload]

    def _situation(self, seen: SeenPolicy, memory: Memory) -> Situation:
        """Gather everything that a plan depends on."""
        world, policy = self.world, seen.policy
        update = world.store.update_revision(seen.id)
        current = world.store.current_revision(seen.id)
        rollout = policy.rollout if policy is not None else Rollout()
        if update is not None and update.completed and current is not None and update.number == current.number:
            rollout = replace(rollout, min_ready_seconds=0)  # what was rolled out completely has soaked
        told = {(each["namespace"], each["name"]): each for each in items(seen.status, "failures")}
        targets: list[Target] = []
        removing: list[Target] = []
        for workload in world.store.reached_by(seen.id):
            selected = policy is not None and world.store.selects(policy, workload)
            if not selected and not self._carries(seen.id, workload):
                continue
            refusal = None
            if selected and not seen.deleting:
                refusal = world.judgement(workload).verdicts.get(seen.id)
            each = target(
                seen.id,
                update.revision.name if update else None,
                workload,
                world.store.replica_sets(workload),
                refusal,
                rollout=rollout,
                now=world.now(),
                attempt=update.attempt_id if update and selected and not seen.deleting else "",
                disturbed=workload.id in memory.disturbed,
            )
            _remember(memory.disturbed, each)
            each = self._explained(each, seen.id, told)
            if selected and not seen.deleting:
                targets.append(each)
            elif not workload.deleting and (each.recorded or each.holds_slot):
                removing.append(each)
        return Situation(
            policy=seen.id,
            rollout=rollout,
            update=update.revision.name if update else None,
            current=current.revision.name if current else None,
            tried=bool(update and update.completed),
            deleting=seen.deleting,
            orphaning=seen.deleting and policy is not None and policy.deletion_policy is DeletionPolicy.ORPHAN,
            frozen=memory.rejection is not None and not seen.deleting,
            attempt=update.attempt_id if update else "",
            halted=update is not None and update.halt is not None,
            held_back=frozenset(name for name, (until, _) in memory.held_back.items() if until > world.now()),
            targets=targets,
            removing=removing,
            assigned=frozenset(each for each, policies in world.writing.items() if seen.id in policies),
        )

    def _explained(self, each: Target, policy: PolicyId, told: Mapping[tuple[str, str], Json]) -> Target:
        """Return a late or failed target with what is known of the cause.

        Of one that has been turned back nothing can be seen any more; what was told of it is told again.
        """
        if each.turned_back and not each.message:
            before = told.get((each.workload.namespace, each.workload.name), {})
            return replace(each, reason=before.get("reason", ""), message=before.get("message", ""))
        found = self.world.diagnosed.get(each.workload)
        workload = self.world.store.workloads.get(each.workload)
        if not (each.failing or each.suspect) or found is None or workload is None:
            return each
        if (found.uid, found.generation) != (workload.uid, workload.generation):
            return each
        diagnosis = found.diagnosis
        failing = each.failing or diagnosis.ours
        return replace(
            each,
            reason=diagnosis.reason,
            message=diagnosis.message,
            excused=policy.cluster_wide and diagnosis.of_namespace,
            failing=failing,
            state=State.FAILED if failing and each.refusal is None else each.state,
        )

    def _carries(self, policy: PolicyId, workload: Workload) -> bool:
        """Whether *workload* bears a revision of *policy*, or Pods of it may still do."""
        if policy in record_of(workload.record).entries:
            return True
        return any(progress.borne(each.record, policy) is not None for each in self.world.store.replica_sets(workload))

    def _is_gone(self, seen: SeenPolicy, situation: Situation) -> bool:
        """Whether nothing holds a deleted policy back any more."""
        namespace = seen.id.namespace
        if namespace and self.world.store.namespace(namespace).terminating:
            return True
        return not any(
            each.recorded or (each.holds_slot and each.state is not State.FAILED) for each in situation.removing
        )

    async def _note_completion(self, seen: SeenPolicy, situation: Situation, plan: Plan) -> Situation:
        """Write down when every target that is not skipped has completed the update revision, one at least for real."""
        stored = self.world.store.update_revision(seen.id)
        moving = plan.counts[State.PENDING] + plan.counts[State.PROGRESSING] + plan.counts[State.FAILED]
        proven = any(each.evidence for each in situation.targets)
        current = situation.current
        if stored is None or moving or not proven or situation.frozen or current == stored.revision.name:
            return situation
        await acceptance.mark_completed(stored, seen.id, self.world)
        return replace(situation, current=stored.revision.name, tried=True)

    async def _report(self, seen: SeenPolicy, memory: Memory, situation: Situation, plan: Plan) -> None:
        now = self.world.now()
        report = Report(
            generation=seen.generation,
            situation=situation,
            plan=plan,
            rejection=memory.rejection,
            selects_everything=seen.policy is not None and seen.policy.selector == EVERYTHING,
            warnings=self._warnings(seen),
        )
        status = status_of(report, seen.status, now)
        self._tell(seen, memory, situation, status)
        if status == seen.status:
            return
        wait = memory.status_written + STATUS_INTERVAL - now
        if plan.steps or situation.assigned:  # what is being written at this moment belongs into it
            wait += STATUS_PATIENCE
        if wait > 0:
            self.world.queue.add_after(seen.id, wait)
            return
        memory.status_written = now
        resource = POLICIES[seen.id.kind]
        try:
            body = await self.world.api.json_patch(
                resource,
                seen.id.namespace,
                seen.id.name,
                [
                    {"op": "test", "path": "/metadata/uid", "value": seen.uid},
                    {"op": "add", "path": "/status", "value": status},
                ],
                subresource="status",
            )
        except Gone:
            return
        self.world.note(resource, body)

    def _warnings(self, seen: SeenPolicy) -> list[Warned]:
        found = [warned for by_policy in self.world.warned.values() for warned in by_policy.get(seen.id, ())]
        if seen.policy is None:
            return found
        found += [
            Warned(
                reason=WarningReason.NO_STARTUP_GATE,
                message="WaitUntilReady has nothing to wait for: the container has neither a startupProbe nor a "
                "readinessProbe",
                where=f"spec.sidecars[{index}]",
            )
            for index, sidecar in enumerate(seen.policy.sidecars)
            if lacks_gate(sidecar)
        ]
        return found + self._unknown_names(seen.policy)

    def _unknown_names(self, policy: Policy) -> list[Warned]:
        """`startAfter` names that no policy provides; they bind nothing."""
        wanted = {name for sidecar in policy.sidecars for name in sidecar.start_after}
        if not wanted:
            return []
        provided = {
            sidecar.name
            for other in self.world.store.policies.values()
            if other.policy is not None
            and (not policy.id.namespace or not other.id.namespace or other.id.namespace == policy.id.namespace)
            for sidecar in other.policy.sidecars
        }
        return [
            Warned(
                reason=WarningReason.UNKNOWN_START_AFTER,
                message=f"names {name!r}, which no policy provides",
                where=f"spec.sidecars[{index}].startAfter[{place}]",
            )
            for index, sidecar in enumerate(policy.sidecars)
            for place, name in enumerate(sidecar.start_after)
            if name not in provided
        ]

    def _tell_of_failures(self, seen: SeenPolicy, situation: Situation) -> None:
        """An Event for each failure that the status has not told yet."""
        told = {_failure_key(each) for each in items(seen.status, "failures")}
        about = policy_reference(seen.id, self.world)
        for each in situation.targets:
            key = (each.workload.namespace, each.workload.name, each.revision or "")
            workload = self.world.store.workloads.get(each.workload)
            if not each.failing or key in told or workload is None:
                continue
            message = f"{each.revision} of {seen.id.label}: {each.message}"
            self.world.events.emit(reference(workload), reason=EventReason.FAILED, message=message, warning=True)
            if about is not None:
                what = f"{each.workload}: {each.revision}: {each.message}"
                self.world.events.emit(about, reason=EventReason.FAILED, message=what, warning=True)

    def _tell(self, seen: SeenPolicy, memory: Memory, situation: Situation, status: Json) -> None:
        """Events for what is new: a rejection, and workloads that are skipped now and were not before.

        After a restart nothing is known of before; where the status says the same as then, nothing is new.
        """
        world = self.world
        about = policy_reference(seen.id, world)
        rejection = memory.rejection
        if rejection is not None and about is not None:
            told = [each["message"] for each in items(seen.status, "conditions") if each["type"] == "Ready"]
            said = next(each["message"] for each in status["conditions"] if each["type"] == "Ready")
            if said not in told:
                world.events.emit(about, reason=EventReason.REJECTED, message=said, warning=True, action="Accept")
        self._tell_of_failures(seen, situation)
        skipped = {each.workload: each.refusal for each in situation.targets if each.refusal is not None}
        before = memory.skipped
        memory.skipped = {workload: refusal.reason for workload, refusal in skipped.items()}
        if before is None:
            same = _reasons(at(seen.status), "skipped") == _reasons(status, "skipped")
            before = memory.skipped if same else {}
        for workload, refusal in skipped.items():
            if before.get(workload) is refusal.reason or refusal.reason is SkipReason.TERMINATING:
                continue  # told before, or it goes and so would the Event
            message = f"{refusal.reason}: {refusal.message}"
            known = world.store.workloads.get(workload)
            if known is not None:
                world.events.emit(
                    reference(known), reason=EventReason.SKIPPED, message=f"{seen.id.label}: {message}", action="Skip"
                )
            if about is not None:
                world.events.emit(about, reason=EventReason.SKIPPED, message=f"{workload}: {message}", action="Skip")


def _remember(disturbed: set[WorkloadId], each: Target) -> None:
    """Note who lost availability while watched: a crash loop that is up for a moment has not soaked."""
    if each.disturbed:
        disturbed.add(each.workload)
    else:
        disturbed.discard(each.workload)


def _failure_key(each: Mapping[str, Any]) -> tuple[str, str, str]:
    return each["namespace"], each["name"], each["revision"]


def _reasons(status: Json, listed: str) -> Counter[str]:
    return Counter({each["reason"]: each["count"] for each in items(status, listed)})
