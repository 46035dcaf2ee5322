"""One term of leadership: it begins with fresh reads, looks at everything, and ends with all that it remembered.

    changed ─► dirty ─► observe ─► fleets ─► writes of workloads (a free worker takes the most urgent step)
                                        └──► passes over policies (revisions, halts, completion, report)

One direction: what was written comes back as a change. Nothing is decided while anything is dirty, so a step is never
older than the write that it leads to. Repairs and rollbacks come before steps, steps before the initial look.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any

from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.drift import mends
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import Step, steps, urgent_step
from sidecarpolicy.core.record import text_of
from sidecarpolicy.core.targets import Backoff
from sidecarpolicy.core.tree import at, items
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.apply import LeadershipLost, Writer
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.events import Teller
from sidecarpolicy.engine.judging import judged
from sidecarpolicy.engine.memory import Failed, Mutation
from sidecarpolicy.engine.metrics import Metrics
from sidecarpolicy.engine.observe import fleet_of, observe
from sidecarpolicy.engine.policies import PolicyPass, note_backoffs, one_line, rollout_state
from sidecarpolicy.engine.port import Api, ApiError, Conflict, Events, Json, Leadership, NotFound, Transient
from sidecarpolicy.engine.report import Reporter
from sidecarpolicy.engine.reverts import remember
from sidecarpolicy.engine.workloads import (
    NO_STEPS,
    Prepared,
    inspection_key,
    is_inspected,
    is_settled,
    may_repair,
    prepare,
    settled_key,
    undone_by,
    warn,
)
from sidecarpolicy.engine.writes import PatchWorkload

log = logging.getLogger(__name__)

# A refusal of the API server is tried again when the workload changes, or after this many seconds.
REJECTED_SECONDS = 600.0

# How long a workload waits after a write that failed for the moment, in seconds: doubling from the first to the last.
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0

# Statuses of an answer that says for sure that nothing was done. After any other, or none, it may have been.
WITHOUT_EFFECT = (401, 429)

# After this many such failures in a row, of whichever workload, nothing is begun for a while: doubling, in seconds.
TROUBLE, FIRST_PAUSE, LAST_PAUSE = 3, 0.25, 10.0

# So many workloads are observed, or looked at for the first time, before the loop turns to something else.
OBSERVED_AT_ONCE, INSPECTED_AT_ONCE = 50, 10

# Passes over one policy are at least this far apart, in seconds, and so many policies are passed over at a time.
PASS_INTERVAL, PASSES = 0.05, 16


class Term:
    """What one leader does. Create it when leadership is gained, `run` it until that is lost, and let it go."""

    def __init__(
        self, *, api: Api, events: Events, leadership: Leadership, context: Context, metrics: Metrics, workers: int = 16
    ) -> None:
        self.context, self.metrics = context, metrics
        self._workers = workers
        self._teller = Teller(events=events, context=context)
        self._writer = Writer(api=api, cache=context.cache, leadership=leadership)
        reporter = Reporter(writer=self._writer, context=context, teller=self._teller)
        self._pass = PolicyPass(
            api=api,
            writer=self._writer,
            context=context,
            teller=self._teller,
            reporter=reporter,
            observed=self._observed,
        )
        self._wake = asyncio.Event()
        self._clean = asyncio.Event()  # nothing is dirty
        self._dirty: dict[WorkloadId, None] = {}
        self._to_inspect: dict[WorkloadId, None] = {}  # for the first time
        self._urgent: deque[WorkloadId] = deque()
        self._writing: dict[WorkloadId, Mapping[PolicyId, Step]] = {}
        self._hungry: OrderedDict[PolicyId, None] = OrderedDict()
        self._waiting: dict[PolicyId, float] = {}  # for a pass, since when
        self._passing: set[PolicyId] = set()
        self._passed: dict[PolicyId, float] = {}
        self._alarms: list[tuple[float, PolicyId | WorkloadId]] = []
        self._alarmed: dict[PolicyId | WorkloadId, float] = {}
        self._failures = 0
        self._paused_until = 0.0  # by the loop's clock
        self._stopped = False
        self._tasks: asyncio.TaskGroup | None = None

    # --- what it is told by the cache

    def workload_changed(self, workload: WorkloadId) -> None:
        """Look at *workload* again."""
        if (remembered := self.context.memory.workloads.get(workload)) is not None:
            remembered.stale = True
        if workload not in self._dirty:
            self._dirty[workload] = None
            self.metrics.queued("workloads")
        self._clean.clear()
        self._wake.set()

    def policy_changed(self, policy: PolicyId) -> None:
        """Look at *policy* again."""
        self._look_at(policy)
        self._wake.set()

    def _look_at(self, policy: PolicyId) -> None:
        if policy not in self._waiting:
            self._waiting[policy] = time.perf_counter()
            self.metrics.queued("policies")
        self._hungry[policy] = None

    # --- the loop

    async def run(self) -> None:
        """Work until cancelled."""
        cache = self.context.cache
        cache.listener = self
        self._begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                while True:
                    await self._turn()
        finally:
            if cache.listener is self:
                cache.listener = None

    def _begin(self) -> None:
        """Look at everything: first what bears sidecars, and so may move."""
        cache = self.context.cache
        self._stopped = cache.stopped
        log.info("leading: looking at %d policies and %d workloads", len(cache.policies), len(cache.workloads))
        for policy, cached in cache.policies.items():
            remembered = self.context.memory.of_policy(policy)
            for each in items(cached.status, "failures"):  # what was seen of a failure can often not be seen again
                place = WorkloadId(namespace=each["namespace"], name=each["name"])
                remembered.explained[place] = (each["reason"], each["message"])
            self._look_at(policy)
        for workload in sorted(cache.workloads.values(), key=lambda each: not each.record):
            self._dirty[workload.id] = None

    async def _turn(self) -> None:
        if not self._writer.leadership.leading:  # this term is over, and is about to be ended
            await asyncio.sleep(PASS_INTERVAL)
            return
        self._ring()
        if self._dirty:
            self._observe_some()
            await asyncio.sleep(0)
            return
        self._clean.set()
        self._note_the_switch()
        if self._dirty:
            return
        self._start_writes()
        self._start_passes()
        if self._to_inspect:
            self._inspect_some()
            await asyncio.sleep(0)
            return
        await self._rest()

    async def _rest(self) -> None:
        """Wait until something changes, or until the next moment at which time alone changes something."""
        self._wake.clear()
        if self._dirty:
            return
        moment = self._next_moment()
        if moment is None:
            await self._wake.wait()
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.001, moment - self.context.now()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _observed(self) -> None:
        """Return when every fleet shows what is cached."""
        while self._dirty:
            self._wake.set()
            await self._clean.wait()

    # --- moments

    def alarm(self, key: PolicyId | WorkloadId, moment: float | None) -> None:
        """Look at *key* again at *moment* (seconds since the epoch) at the latest."""
        if moment is None or self._alarmed.get(key, float("inf")) <= moment:
            return
        self._alarmed[key] = moment
        heappush(self._alarms, (moment, key))

    def _ring(self) -> None:
        now = self.context.now()
        while self._alarms and self._alarms[0][0] <= now:
            moment, key = heappop(self._alarms)
            if self._alarmed.get(key) != moment:
                continue
            del self._alarmed[key]
            if isinstance(key, PolicyId):
                self._look_at(key)
            else:
                self._dirty[key] = None
                self._clean.clear()

    def _next_moment(self) -> float | None:
        now = self.context.now()
        moments = [self._alarms[0][0]] if self._alarms else []
        moments += [
            self._passed[each] + PASS_INTERVAL
            for each in self._waiting
            if each in self._passed and each not in self._passing
        ]
        if (pause := self._paused_until - asyncio.get_running_loop().time()) > 0:
            moments.append(now + pause)
        return min(moments, default=None)

    # --- observing

    def _observe_some(self) -> None:
        for _ in range(min(OBSERVED_AT_ONCE, len(self._dirty))):
            identity = next(iter(self._dirty))
            del self._dirty[identity]
            self._observe(identity)

    def _observe(self, identity: WorkloadId) -> None:
        context = self.context
        remembered = context.memory.workloads.get(identity)
        before = remembered.in_fleets if remembered is not None else frozenset()
        try:
            self.alarm(identity, observe(identity, context))
        except Exception:  # a mistake of ours: told in full, and it must not stop everything else
            log.exception("looking at %s failed, trying again in %g s", identity, LAST_BACKOFF)
            self.alarm(identity, context.now() + LAST_BACKOFF)
        remembered = context.memory.workloads.get(identity)
        for policy in sorted(before | (remembered.in_fleets if remembered is not None else frozenset())):
            self._look_at(policy)
        workload = context.cache.workloads.get(identity)
        if workload is None or remembered is None:
            self._to_inspect.pop(identity, None)
            return
        judgement = judged(workload, context)
        if is_settled(workload, judgement, context) and is_inspected(workload, judgement, context):
            return
        if remembered.inspected is None:
            if (
                judgement.record.entries
                or judgement.verdicts
                or workload.record
                or workload.annotations
                or workload.labels
            ):
                for policy in remembered.in_fleets:
                    context.memory.of_policy(policy).uninspected.add(identity)
                self._to_inspect[identity] = None
        else:
            self._inspect(identity)

    def _inspect_some(self) -> None:
        for _ in range(min(INSPECTED_AT_ONCE, len(self._to_inspect))):
            identity = next(iter(self._to_inspect))
            del self._to_inspect[identity]
            self._inspect(identity)

    def _inspect(self, identity: WorkloadId) -> None:
        """Compare a workload with what it should be, and keep what the status should warn of."""
        workload = self.context.cache.workloads.get(identity)
        if workload is None or identity in self._writing:
            return  # it is looked at again when that is written
        try:
            prepared = prepare(workload, NO_STEPS, self.context)
            self._note_inspection(prepared, workload)
        except Exception:  # a mistake of ours, as above
            log.exception("comparing %s failed, trying again in %g s", identity, LAST_BACKOFF)
            self.alarm(identity, self.context.now() + LAST_BACKOFF)
            return
        if prepared.operations and not self._cannot_be_written(workload):
            self._urgent.append(identity)
            self._wake.set()
        elif not prepared.operations:
            remembered = self.context.memory.of(identity)
            remembered.settled = settled_key(workload, prepared.judgement, self.context)

    def _note_inspection(self, prepared: Prepared, workload: Workload) -> None:
        context = self.context
        for policy in sorted(warn(prepared, workload, context)):
            self._look_at(policy)
        self._teller.of_missing(workload, prepared.judgement.missing)
        self.alarm(workload.id, prepared.waits_until)
        judgement = judged(workload, context)
        context.memory.of(workload.id).inspected = inspection_key(workload, judgement, context)

    def _cannot_be_written(self, workload: Workload) -> bool:
        return (
            self.context.cache.stopped
            or workload.deleting
            or self.context.cache.namespace(workload.id.namespace).terminating
        )

    def _note_the_switch(self) -> None:
        """After the emergency switch was thrown either way everything is looked at again."""
        if self._stopped != self.context.cache.stopped:
            self._stopped = self.context.cache.stopped
            self._dirty |= dict.fromkeys(self.context.cache.workloads)
            for remembered in self.context.memory.workloads.values():
                remembered.settled = None
            for policy in self.context.cache.policies:
                self._look_at(policy)

    # --- writing workloads

    def _start_writes(self) -> None:
        if self._paused_until > asyncio.get_running_loop().time():
            return
        while len(self._writing) < self._workers and not self._dirty:
            if self._urgent:
                identity, wanted = self._urgent.popleft(), NO_STEPS
                if identity in self._writing:
                    continue
                wanted = self._urgent_steps(identity)
            elif (found := self._next_step()) is not None:
                identity, wanted = found
            else:
                return
            self._writing[identity] = wanted
            self._start(self._write(identity, wanted), identity)

    def _next_step(self) -> tuple[WorkloadId, Mapping[PolicyId, Step]] | None:
        """The most urgent step, fair over policies; with it every step on that workload that needs no budget."""
        for _ in range(len(self._hungry)):
            policy = next(iter(self._hungry))
            step = self._step_of(policy)
            if step is None:
                del self._hungry[policy]
                continue
            self._hungry.move_to_end(policy)
            return step.workload, {**self._urgent_steps(step.workload), policy: step}
        return None

    def _step_of(self, policy: PolicyId) -> Step | None:
        cached = self.context.cache.policies.get(policy)
        if cached is None:
            return None
        remembered = self.context.memory.of_policy(policy)
        fleet_of(policy, self.context)
        note_backoffs(remembered, self.context.now())
        state = rollout_state(cached, remembered, self.context)
        return next(steps(state, remembered.fleet, self._steps_written(policy)), None)

    def _steps_written(self, policy: PolicyId) -> dict[WorkloadId, Step]:
        """The steps of *policy* that are being written; where another policy's is, there is none for it now.

        What is written without any step may be a removal that its owner wants, and that takes a slot like any other.
        """
        return {
            workload: each.get(policy)
            or Step(workload=workload, revision="", takes_slot=not each, why="another write is on its way")
            for workload, each in self._writing.items()
        }

    def _urgent_steps(self, identity: WorkloadId) -> dict[PolicyId, Step]:
        found = {}
        remembered = self.context.memory.workloads.get(identity)
        for policy in sorted(remembered.in_fleets) if remembered is not None else ():
            cached = self.context.cache.policies.get(policy)
            if cached is None:
                continue
            of_policy = self.context.memory.of_policy(policy)
            step = urgent_step(rollout_state(cached, of_policy, self.context), of_policy.fleet, identity)
            if step is not None:
                found[policy] = step
        return found

    async def _write(self, identity: WorkloadId, wanted: Mapping[PolicyId, Step]) -> None:
        """Write what is to be written on one workload; whatever comes of it, it is looked at again."""
        result = "failed"
        self.metrics.workload_write_requested()
        try:
            workload = self.context.cache.workloads.get(identity)
            if workload is None or self._cannot_be_written(workload):
                result = "skipped"
                return
            try:
                result = await self._bring(workload, wanted)
                self._failures = 0
            except NotFound:
                result = "skipped"
            except ApiError as error:
                self._note_failure(workload, error)
                if isinstance(error, Transient) and error.status not in WITHOUT_EFFECT:
                    await self._read_again(identity)
        finally:
            self.metrics.workload_write(result)
            del self._writing[identity]
            remembered = self.context.memory.workloads.get(identity)
            for policy in sorted({*wanted, *(remembered.in_fleets if remembered is not None else ())}):
                self._hungry[policy] = None
            self.workload_changed(identity)

    async def _read_again(self, identity: WorkloadId) -> None:
        """Find out what a write has done of which no answer came; until that is known it counts as being written."""
        for tries in itertools.count():
            if not self._writer.leadership.leading:
                return
            try:
                await self._writer.read_workload(identity)
            except Transient as error:
                await asyncio.sleep(error.retry_after or min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(tries, 10)))
            except ApiError:
                return
            else:
                return

    async def _bring(self, workload: Workload, wanted: Mapping[PolicyId, Step]) -> str:
        context = self.context
        prepared = prepare(workload, wanted, context)
        if not prepared.operations:
            self._note_inspection(prepared, workload)
            if not wanted:
                context.memory.of(workload.id).settled = settled_key(workload, prepared.judgement, context)
            else:
                self._note_idle_step(workload, wanted)
            return "unchanged"
        if prepared.is_repair and not await self._repair_lasts(prepared):
            context.memory.of(workload.id).settled = settled_key(workload, prepared.judgement, context)
            return "skipped"
        why = "; ".join(step.why for step in wanted.values()) or "as recorded"
        answer = await self._writer.apply(PatchWorkload(workload=workload, operations=prepared.operations, why=why))
        self._note_write(prepared, answer)
        return "patched"

    def _note_idle_step(self, workload: Workload, wanted: Mapping[PolicyId, Step]) -> None:
        """A step that changes nothing would be picked again at once; that must not be, whatever the reason."""
        why = "; ".join(step.why for step in wanted.values())
        log.warning("%s: nothing to write for %s; trying again in %g s", workload.id, why, LAST_BACKOFF)
        backoff = Backoff(
            until=self.context.now() + LAST_BACKOFF, message=f"nothing to write for: {why}", rejected=False
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
        answer = await self._writer.apply(
            PatchWorkload(workload=workload, operations=prepared.operations, why="would it last?", dry_run=True)
        )
        template, undone = at(answer, *workload.template), undone_by(prepared)
        remembered = context.memory.of(workload.id)
        if mends(workload.content.template, prepared.composed.template, template, undone):
            remembered.mutation = None
            return True
        there = {key for key, _ in template_items(at(template, "spec"))}
        remembered.mutation = Mutation(
            body=workload.body,
            missing={policy: gone for policy, taken in undone.items() if (gone := taken - there)},
            until=context.now() + REJECTED_SECONDS,
        )
        if remembered.mutation.missing:
            self.alarm(workload.id, context.now() + REJECTED_SECONDS + 1.0)
        return False

    def _note_write(self, prepared: Prepared, answer: Json) -> None:
        """Remember what was written and what the server made of it, and tell it."""
        context = self.context
        before = prepared.workload
        remember(prepared.composed.record, prepared.desired.held, prepared.decisions, before, answer, context)
        remembered = context.memory.of(before.id)
        remembered.failed = None
        self._teller.of_write(prepared)
        after = context.cache.workloads.get(before.id)
        if after is None:
            return
        judgement = judged(after, context)
        as_sent = after.content.template == prepared.composed.template
        as_sent = as_sent and (after.record or "") == text_of(prepared.composed.record)
        if as_sent and judgement.verdicts == prepared.judgement.verdicts:
            # Composing it again would give the same (a law of `core.injection`): no need to.
            remembered.settled = settled_key(after, judgement, context)
            self._note_inspection(replace(prepared, workload=after, judgement=judgement), after)

    def _note_failure(self, workload: Workload, error: ApiError) -> None:
        """Back off from a workload whose write failed: for long where the server would not have it."""
        context = self.context
        remembered = context.memory.of(workload.id)
        before = remembered.failed
        same = before is not None and (before.uid, before.generation) == (workload.uid, workload.generation)
        tries = 1 + (before.tries if before is not None and same else 0)
        rejected = not isinstance(error, Conflict | Transient)
        if isinstance(error, Conflict):
            seconds = min(5.0, 0.05 * 2.0 ** min(tries - 1, 10))
        elif isinstance(error, Transient):
            seconds = error.retry_after or min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(tries - 1, 10))
            self._failures += 1
            if self._failures >= TROUBLE:
                pause = min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - TROUBLE, 10))
                self._paused_until = asyncio.get_running_loop().time() + max(pause, error.retry_after or 0.0)
        else:
            seconds = REJECTED_SECONDS
        log.log(logging.DEBUG if isinstance(error, Conflict) else logging.WARNING, "%s", error)
        backoff = Backoff(until=context.now() + seconds, message=one_line(str(error)), rejected=rejected)
        remembered.failed = Failed(
            uid=workload.uid,
            generation=workload.generation,
            updates=self._updates_on(workload),
            tries=tries,
            backoff=backoff,
        )

    def _updates_on(self, workload: Workload) -> dict[PolicyId, str]:
        """The update revisions of the policies that *workload* concerns."""
        cache = self.context.cache
        return {
            policy: update.revision.name
            for policy in self.context.memory.of(workload.id).in_fleets
            if (update := cache.update_revision(policy)) is not None
        }

    # --- passes over policies

    def _start_passes(self) -> None:
        if not self._waiting:
            return
        now = self.context.now()
        for policy in list(self._waiting):
            if len(self._passing) >= PASSES:
                return
            passed = self._passed.get(policy, 0.0)
            if policy in self._passing or passed <= now < passed + PASS_INTERVAL:
                continue
            self.metrics.taken("policies", time.perf_counter() - self._waiting.pop(policy))
            if policy not in self.context.cache.policies:
                self.context.memory.policies.pop(policy, None)
                self._hungry.pop(policy, None)
                self._passed.pop(policy, None)
                continue
            self._passed[policy] = now
            self._passing.add(policy)
            self._start(self._pass_over(policy), policy)

    async def _pass_over(self, policy: PolicyId) -> None:
        try:
            self.alarm(policy, await self._pass.run(policy))
        finally:
            self._passing.discard(policy)
            self._hungry[policy] = None
            self._wake.set()

    def _start(self, work: Coroutine[Any, Any, None], key: PolicyId | WorkloadId) -> None:
        """Begin *work* beside the loop; a mistake of ours in it is told in full and stops nothing else."""

        async def guarded() -> None:
            began, result = time.perf_counter(), "success"
            try:
                await work
            except LeadershipLost:
                log.debug("%s: not written, leadership has ended", key)
            except Exception:
                result = "error"
                log.exception("working on %s failed, trying again in %g s", key, LAST_BACKOFF)
                self.alarm(key, self.context.now() + LAST_BACKOFF)
            finally:
                controller = "policy" if isinstance(key, PolicyId) else "workload"
                self.metrics.reconcile(controller, result, time.perf_counter() - began)

        assert self._tasks is not None
        self._tasks.create_task(guarded())

    # --- for metrics

    def sizes(self) -> dict[str, int]:
        """How many keys are where."""
        return {
            "dirty": len(self._dirty),
            "to_inspect": len(self._to_inspect),
            "urgent": len(self._urgent),
            "writing": len(self._writing),
            "policies": len(self._waiting) + len(self._passing),
        }
