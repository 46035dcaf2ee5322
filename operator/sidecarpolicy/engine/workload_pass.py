"""One workload: what is to be written on it now, the write, and what is remembered of it whatever the server answers.

(a step: are its Pods admitted?) ─► prepare ─► (a repair: would it last?) ─► one PATCH ─► remember, tell, or back off
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.drift import mends
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.progress import Backoff
from sidecarpolicy.core.text_limits import one_line
from sidecarpolicy.core.tree import at
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.alarms import Alarms
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.events import Teller
from sidecarpolicy.engine.field_conflicts import remember
from sidecarpolicy.engine.memory import Failed, Judgement, Mutation
from sidecarpolicy.engine.observe import failed_write
from sidecarpolicy.engine.pod_security import PodSecurity, answer_to
from sidecarpolicy.engine.port import ApiError, Conflict, Json, NotFound, Transient
from sidecarpolicy.engine.prepare import (
    NO_STEPS,
    Prepared,
    in_exchange,
    inspection_key,
    may_repair,
    prepare,
    question_before,
    settle,
    settled_key,
    taken_over,
    undone_by,
    warn,
)
from sidecarpolicy.engine.retries import OF_WORKLOADS
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.engine.write_requests import PatchWorkload
from sidecarpolicy.engine.writer import Writer

log = logging.getLogger(__name__)

# What admission makes of a repair is asked again after this many seconds.
MUTATION_SECONDS = 600.0

# Statuses of an answer that says for sure that nothing was done. After any other, or none, it may have been.
WITHOUT_EFFECT = (401, 429)

# After this many such failures in a row, of whichever workload, nothing is begun for a while: doubling, in seconds.
TROUBLE, FIRST_PAUSE, LAST_PAUSE = 3, 0.25, 10.0


@dataclass(slots=True, kw_only=True)
class WorkloadPass:
    """Passes over workloads, one at a time for each. *look_at*: called for a policy about which something is new."""

    writer: Writer
    context: Context
    teller: Teller
    alarms: Alarms
    pod_security: PodSecurity
    look_at: Callable[[PolicyId], None]
    paused_until: float = 0.0  # by the loop's clock: nothing is begun before, the API server is in trouble
    _failures: int = field(default=0, init=False)

    def cannot_be_written(self, workload: Workload) -> bool:
        """Whether nothing may be written on it now, whatever it lacks."""
        return self.context.cache.stopped or self.context.cache.goes(workload)

    def inspect(self, workload: Workload) -> bool:
        """Compare it with what it should be, keep what the status should warn of; return whether there is a write."""
        prepared = prepare(workload, NO_STEPS, self.context)
        self._note_inspection(prepared, workload)
        if prepared.operations or taken_over(workload, prepared.judgement, self.context):
            return not (self.cannot_be_written(workload) or self._rests(prepared))
        settle(prepared, workload, prepared.judgement, self.context)
        return False

    def _rests(self, prepared: Prepared) -> bool:
        """Whether just what is *prepared* has failed before, and is not to be tried again yet."""
        failed = failed_write(prepared.workload, self.context)
        if failed is None or failed.repaired is None:
            return False
        return failed.repaired == settled_key(prepared.workload, prepared.judgement, self.context)

    async def write(self, workload: Workload, steps: Mapping[PolicyId, Step]) -> str:
        """Write what is to be written, with *steps*; return patched, unchanged, skipped or failed.

        Raises LeadershipLost.
        """
        if self.cannot_be_written(workload):
            return "skipped"
        try:
            result = await self._bring(workload, steps)
        except NotFound:
            return "skipped"
        except ApiError as error:
            self._note_failure(workload, steps, error)
            if isinstance(error, Transient) and error.status not in WITHOUT_EFFECT:
                await self._read_again(workload)
            return "failed"
        self._failures = 0
        return result

    async def _read_again(self, workload: Workload) -> None:
        """Find out what a write has done of which no answer came; until that is known it is still being written."""
        for tries in itertools.count(1):
            try:
                await self.writer.read_workload(workload)
            except Transient as error:
                await asyncio.sleep(OF_WORKLOADS.seconds(error, tries))
            except ApiError:
                return
            else:
                return

    async def _bring(self, workload: Workload, steps: Mapping[PolicyId, Step]) -> str:
        context = self.context
        judgement = judged(workload, context)
        following = in_exchange(steps, judgement)
        own = {policy: step for policy, step in steps.items() if policy not in following}
        knew = self.pod_security.knows(own, judgement)
        if not await self.pod_security.admits(own, judgement) or not knew:
            return "skipped"  # to ask may take long: with the answer it is decided anew, on what is there by then
        if await self._asks_before(following, judgement):
            return "skipped"
        prepared = prepare(workload, steps, context)
        if not prepared.operations:
            if theirs := taken_over(workload, prepared.judgement, context):
                await self.writer.release(workload, theirs)
            self._note_inspection(prepared, workload)
            if not steps:
                settle(prepared, workload, prepared.judgement, context)
            else:
                self._note_idle_step(workload, steps)
            return "unchanged"
        if prepared.is_repair and not await self._repair_lasts(prepared):
            settle(prepared, workload, prepared.judgement, context)
            return "skipped"
        if self.cannot_be_written(workload):
            return "skipped"
        why = "; ".join(step.why for step in prepared.steps.values()) or "as recorded"
        answer = await self.writer.apply(PatchWorkload(workload=workload, operations=prepared.operations, why=why))
        self._note_write(prepared, answer)
        composed = prepared.composed
        if given := {*composed.left_behind, *composed.yielded, *composed.record.orphaned}:
            try:
                await self.writer.release(workload, given, answer)
            except ApiError as error:  # what was to be written is
                log.warning("%s: still owns in managedFields what its owner has now: %s", workload.id, error)
        return "patched"

    async def _asks_before(self, following: Mapping[PolicyId, Step], judgement: Judgement) -> bool:
        """Ask about what takes the place of what goes; return whether anything was. No answer keeps nothing there."""
        questions = (question_before(policy, step, judgement) for policy, step in following.items())
        unknown = [each for each in questions if each is not None and answer_to(each, self.context) is None]
        try:
            for each in unknown:
                await self.pod_security.ask(each)
        except Transient as error:
            log.debug("%s", error)
            return False
        return bool(unknown)

    def _note_idle_step(self, workload: Workload, steps: Mapping[PolicyId, Step]) -> None:
        """A step that changes nothing would be picked again at once; that must not be, whatever the reason."""
        why = "; ".join(step.why for step in steps.values())
        log.warning("%s: nothing to write for %s; trying again in %g s", workload.id, why, OF_WORKLOADS.last)
        backoff = Backoff(
            until=self.context.now() + OF_WORKLOADS.last, message=f"nothing to write for: {why}", rejected=False
        )
        self.context.memory.of(workload.id).failed = Failed(
            uid=workload.uid,
            generation=workload.generation,
            updates=self._updates_on(workload),
            tries=1,
            backoff=backoff,
        )

    async def _repair_lasts(self, prepared: Prepared) -> bool:
        """Whether a repair is ours to make, and would not be undone at once by an admission webhook."""
        context, workload = self.context, prepared.workload
        if not may_repair(workload, context):
            return False
        answer = await self.writer.apply(
            PatchWorkload(workload=workload, operations=prepared.operations, why="would it last?", dry_run=True)
        )
        template, undone = at(answer, *workload.template), undone_by(prepared)
        remembered = context.memory.of(workload.id)
        if mends(workload.content.template, prepared.composed.template, template, undone):
            remembered.mutation = None
            return True
        there = frozenset(template_items(template))
        remembered.mutation = Mutation(
            body=workload.body,
            missing={policy: gone for policy, taken in undone.items() if (gone := taken - there)},
            until=context.now() + MUTATION_SECONDS,
        )
        if remembered.mutation.missing:
            self.alarms.set(workload.id, context.now() + MUTATION_SECONDS + 1.0)
        return False

    def _note_write(self, prepared: Prepared, answer: Json) -> None:
        """Remember what was written and what the server made of it, and tell it."""
        context = self.context
        before = prepared.workload
        remember(prepared.composed.record, prepared.desired.held, prepared.decisions, before, answer, context)
        remembered = context.memory.of(before.id)
        remembered.failed = None
        self.teller.of_write(prepared)
        after = context.cache.workloads.get(before.id)
        if after is None:
            return
        judgement = judged(after, context)
        as_sent = after.content.template == prepared.composed.template
        as_sent = as_sent and (after.record or "") == prepared.record
        if as_sent and judgement.decides == prepared.judgement.decides:
            # Composing it again would give the same (a law of `core.injection`): no need to.
            settle(prepared, after, judgement, context)
            self._note_inspection(replace(prepared, workload=after, judgement=judgement), after)

    def _note_failure(self, workload: Workload, steps: Mapping[PolicyId, Step], error: ApiError) -> None:
        """Back off from a workload whose write failed: for long where the server would not have it."""
        context = self.context
        remembered = context.memory.of(workload.id)
        before = remembered.failed
        same = before is not None and (before.uid, before.generation) == (workload.uid, workload.generation)
        tries = 1 + (before.tries if before is not None and same else 0)
        rejected = not isinstance(error, Conflict | Transient)
        seconds = OF_WORKLOADS.seconds(error, tries)
        if isinstance(error, Transient):
            self._failures += 1
            if self._failures >= TROUBLE:
                pause = min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - TROUBLE, 10))
                self.paused_until = asyncio.get_running_loop().time() + max(pause, error.retry_after or 0.0)
        log.log(logging.DEBUG if isinstance(error, Conflict) else logging.WARNING, "%s", error)
        backoff = Backoff(until=context.now() + seconds, message=one_line(str(error)), rejected=rejected)
        remembered.failed = Failed(
            uid=workload.uid,
            generation=workload.generation,
            updates=self._updates_on(workload),
            tries=tries,
            backoff=backoff,
            orphaned=frozenset(policy for policy, step in steps.items() if step.orphans),
            repaired=None if steps else settled_key(workload, judged(workload, context), context),
        )

    def _updates_on(self, workload: Workload) -> dict[PolicyId, str]:
        """The update revisions of the policies that *workload* concerns."""
        cache = self.context.cache
        return {
            policy: update.revision.name
            for policy in self.context.memory.of(workload.id).in_fleets
            if (update := cache.update_revision(policy)) is not None
        }

    def _known_now(self, workload: Workload) -> frozenset[PolicyId]:
        """Note that *workload* has been looked at; return the policies of which that was the last one."""
        found = set()
        for policy in self.context.memory.of(workload.id).in_fleets:
            remembered = self.context.memory.of_policy(policy)
            if workload.id in remembered.uninspected:
                remembered.uninspected.discard(workload.id)
                if not remembered.uninspected:
                    found.add(policy)
        return frozenset(found)

    def _note_inspection(self, prepared: Prepared, workload: Workload) -> None:
        context = self.context
        for policy in sorted(warn(prepared, workload, context) | self._known_now(workload)):
            self.look_at(policy)
        self.teller.of_missing(workload, prepared.judgement.missing)
        self.alarms.set(workload.id, prepared.waits_until)
        judgement = judged(workload, context)
        context.memory.of(workload.id).inspected = inspection_key(workload, judgement, context)
