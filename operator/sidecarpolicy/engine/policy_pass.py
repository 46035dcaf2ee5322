"""Move the targets of one policy a step closer to it, within its budget, and report.

Gather, plan, assign, report: the pass has no branch about what happened, only about what is. It runs after every
change that may concern the policy and decides everything anew; steps that are not yet being written are withdrawn
first, so nothing is carried out that the newest plan does not want.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from sidecarpolicy.core import plan as planning
from sidecarpolicy.core.held_back import holding_back
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import Plan, Situation, removal_approval
from sidecarpolicy.core.revision import approvals
from sidecarpolicy.core.selection import EVERYTHING
from sidecarpolicy.core.stages import approval_of
from sidecarpolicy.core.status import Rejection, Report, status_of
from sidecarpolicy.core.targets import State
from sidecarpolicy.engine import acceptance
from sidecarpolicy.engine.examination import examine
from sidecarpolicy.engine.gathering import Memory, situation_of
from sidecarpolicy.engine.port import ApiError, NotFound
from sidecarpolicy.engine.resources import POLICIES
from sidecarpolicy.engine.store import SeenPolicy
from sidecarpolicy.engine.telling import tell
from sidecarpolicy.engine.warned import warnings_of
from sidecarpolicy.engine.workload_pass import policy_reference, reference
from sidecarpolicy.engine.world import World
from sidecarpolicy.names import EventReason, Reason

log = logging.getLogger(__name__)

# How long, in seconds, changes are gathered before a policy is looked at again: in a large rollout each look takes
# longer than the next change, and the steps would wait behind the looks.
PASS_INTERVAL = 0.05

# A status is written only when it differs, and at most this often per policy, in seconds.
STATUS_INTERVAL = 1.0

# When a status is tried again that waits for workloads to be looked at for the first time, in seconds.
UNLOOKED_SECONDS = 0.1

# How long a status that differs waits, in seconds, for steps that are being carried out.
STATUS_PATIENCE = 0.3


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
            for workload in self._withdraw(identity):
                self.world.queue_policies_on(workload)
            return
        memory = self.memories.setdefault(identity, Memory())
        now = self.world.now()
        due = memory.passed + PASS_INTERVAL
        if memory.passed <= now < due:  # a clock that was set back holds nothing up
            self.world.queue.add_after(identity, due - now, urgent=True)
            return
        memory.passed = now
        if not seen.deleting:
            await self._accept(seen, memory)
            seen = self.world.store.policies.get(identity, seen)
            await self._resume(seen)
            await self._approve(seen)
        situation = situation_of(seen, memory, self.world)
        if await self._examine(situation):
            situation = situation_of(seen, memory, self.world)
        memory.held_back = holding_back(memory.held_back, situation.targets, self.world.now())
        situation = replace(situation, held_back=memory.held_back)
        plan = planning.plan(situation)
        if plan.halts:
            situation = await self._halt(seen, situation)
            plan = planning.plan(situation)
        withdrawn = self._withdraw(identity) - {step.workload for step in plan.steps}
        for step in plan.steps:
            self.world.steps[step.workload][identity] = step
            self.world.queue.add_after(step.workload, self.world.wait_of(step.workload))
        for workload in withdrawn:
            self.world.queue_policies_on(workload)  # one of them may have waited for this step
        if seen.deleting and self._is_gone(seen, memory, situation):
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

    async def _approve(self, seen: SeenPolicy) -> None:
        """Write down what the author approves now, and drop what no longer means anything."""
        stored = self.world.store.update_revision(seen.id)
        if stored is None or seen.policy is None:
            return
        meant = {removal_approval(seen.generation), removal_approval(seen.generation, stuck=True)}
        meant |= {approval_of(each.name, stored.revision.name) for each in seen.policy.rollout.canary}
        approved = (approvals(seen.approve) | stored.approved) & meant
        if not approved <= stored.approved:
            await acceptance.approve(stored, seen.id, approved, self.world)

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
        in_use = {name for each in everyone for name in (each.revision, each.note.previous, each.pinned_to) if name}
        await acceptance.prune(seen.policy, frozenset(in_use), self.world)

    def _withdraw(self, identity: PolicyId) -> set[WorkloadId]:
        """Take back the policy's steps that nobody carries out yet; return where there were any."""
        withdrawn = {workload for workload, steps in self.world.steps.items() if steps.pop(identity, None)}
        for workload in withdrawn:
            if not self.world.steps[workload]:
                del self.world.steps[workload]
        return withdrawn

    def _is_gone(self, seen: SeenPolicy, memory: Memory, situation: Situation) -> bool:
        """Whether nothing holds a deleted policy back any more."""
        namespace = seen.id.namespace
        if namespace and self.world.store.namespace(namespace).terminating:
            return True
        released = self._released(seen, memory, situation)
        return not any(
            (each.recorded and each.workload not in released) or (each.holds_slot and each.state is not State.FAILED)
            for each in situation.removing
        )

    def _released(self, seen: SeenPolicy, memory: Memory, situation: Situation) -> set[WorkloadId]:
        """Where a removal could not be written for progressDeadlineSeconds: that must not hold the policy for ever."""
        now, limit = self.world.now(), situation.rollout.progress_deadline_seconds
        for each in situation.removing:
            if each.recorded and (refused := situation.unwritable.get(each.workload)) is not None:
                since, _ = memory.unwritten.get(each.workload, (now, ""))
                memory.unwritten[each.workload] = (since, refused.message)
            elif not each.recorded:
                memory.unwritten.pop(each.workload, None)
        released = {identity for identity, (since, _) in memory.unwritten.items() if now >= since + limit}
        for identity in sorted(released):
            workload = self.world.store.workloads.get(identity)
            if workload is not None:
                _, why = memory.unwritten[identity]
                message = f"the sidecars of {seen.id.label} are left, because they cannot be removed: {why}"
                self.world.events.emit(
                    reference(workload), reason=EventReason.REMOVAL_GIVEN_UP, message=message, warning=True
                )
        waiting = [since + limit for since, _ in memory.unwritten.values() if now < since + limit]
        if waiting:
            self.world.queue.add_after(seen.id, max(0.05, min(waiting) - now))
        return released

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
        everyone = (*situation.targets, *situation.removing)
        if not {each.workload for each in everyone} <= self.world.looked_at:
            # What it warns of is known when each workload has been looked at once: soon after a start.
            self.world.queue.add_after(seen.id, UNLOOKED_SECONDS)
            return
        update = self.world.store.update_revision(seen.id)
        report = Report(
            generation=seen.generation,
            halt=update.halt if update is not None else None,
            situation=situation,
            plan=plan,
            rejection=memory.rejection,
            selects_everything=seen.policy is not None and seen.policy.selector == EVERYTHING,
            warnings=warnings_of(seen, self.world),
        )
        status = status_of(report, seen.status, now)
        tell(seen, memory, situation, status, self.world)
        if status == seen.status:
            memory.status_differs = 0.0
            return
        memory.status_differs = memory.status_differs or now
        due = memory.status_written + STATUS_INTERVAL if memory.status_written <= now else now
        if plan.steps or situation.assigned:  # what is being written at this moment belongs into it
            due = max(due, memory.status_differs + STATUS_PATIENCE)
        if due > now:
            self.world.queue.add_after(seen.id, due - now, urgent=True)
            return
        memory.status_written, memory.status_differs = now, 0.0
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
        except NotFound:
            return
        self.world.note(resource, body)
