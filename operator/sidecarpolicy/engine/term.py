"""One term of leadership: it begins with fresh reads, looks at everything, and ends with all that it remembered.

    changed ─► dirty ─► observe ─► fleets ─► writes of workloads (a free worker takes the most urgent step)
                                        └──► passes over policies (revisions, halts, completion, report)

One direction: what was written comes back as a change. No step under a budget is taken while anything is dirty, so
none is older than the write that it leads to. What depends on its own workload alone does not wait for the others to be
observed: what is urgent (repairs, rollbacks, what is new), and a step of a policy that goes all at once. Steps come
before the initial look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from math import inf
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import UNKNOWN, Step, step_in_exchange, steps, urgent_step
from sidecarpolicy.core.tree import items
from sidecarpolicy.engine.alarms import Alarms
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.events import Teller
from sidecarpolicy.engine.metrics import Metrics
from sidecarpolicy.engine.observe import fleet_of, observe
from sidecarpolicy.engine.pod_security import PodSecurity
from sidecarpolicy.engine.policy_pass import PolicyPass, note_backoffs, rollout_state
from sidecarpolicy.engine.port import Api, Events, Leadership
from sidecarpolicy.engine.prepare import is_inspected, is_settled
from sidecarpolicy.engine.retries import OF_WORKLOADS
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.engine.status_writer import Reporter
from sidecarpolicy.engine.workload_pass import WorkloadPass
from sidecarpolicy.engine.writer import LeadershipLost, Writer
from sidecarpolicy.names import Reason, Strategy

log = logging.getLogger(__name__)

# So many workloads are observed, or looked at for the first time, before the loop turns to something else.
OBSERVED_AT_ONCE, INSPECTED_AT_ONCE = 20, 10

# What changes within so many seconds is looked at together, where nothing new and no answer to a write is among it.
GATHERED = 0.05

# Reasons of failures, as a status tells them, for which no rollout was halted: nothing is rolled back because of them.
NO_FAILURE_OF_PODS = frozenset({names.REFUSED, Reason.FIELD_CONFLICT.value})

# A clock that is set back by no more than so many seconds is as good as one that stands.
CLOCK_SLACK = 1.0

# Passes over one policy are at least this far apart, in seconds, and so many policies are passed over at a time.
PASS_INTERVAL, PASSES = 0.2, 16


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
        pod_security = PodSecurity(api=api, context=context)
        self._policies = PolicyPass(
            api=api,
            writer=self._writer,
            context=context,
            teller=self._teller,
            reporter=reporter,
            observed=self._observed,
            is_being_written=self._is_being_written,
            has_steps_on_the_way=self._has_steps_on_the_way,
            pod_security=pod_security,
        )
        self._alarms = Alarms()
        self._workloads = WorkloadPass(
            writer=self._writer,
            context=context,
            teller=self._teller,
            alarms=self._alarms,
            pod_security=pod_security,
            look_at=self._look_at,
        )
        self._wake = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None  # it is set then
        self._clean = asyncio.Event()  # nothing is dirty
        self._dirty: OrderedDict[WorkloadId, None] = OrderedDict()
        self._new: set[WorkloadId] = set()  # their first Pods are starting without sidecars
        self._to_inspect: dict[WorkloadId, None] = {}  # for the first time
        self._urgent: dict[WorkloadId, None] = {}
        self._writing: dict[WorkloadId, Mapping[PolicyId, Step]] = {}
        self._hungry: OrderedDict[PolicyId, None] = OrderedDict()
        self._waiting: dict[PolicyId, float] = {}  # for a pass, since when
        self._passing: set[PolicyId] = set()
        self._passed: dict[PolicyId, float] = {}
        self._latest = -inf  # what the clock showed last
        self._stopped = False
        self._begun = self._has_seen_all = False
        self._tasks: asyncio.TaskGroup | None = None

    # --- what it is told by the cache

    def workload_changed(self, workload: WorkloadId) -> None:
        """Look at *workload* again soon, at once if it is new; one that is being written when that has ended.

        A rollout changes it and its children a dozen times, several times within a moment: that is one look.
        """
        if workload in self._writing:
            if (remembered := self.context.memory.workloads.get(workload)) is not None:
                remembered.stale = True
        elif workload in self.context.memory.workloads:
            self._mark(workload)
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(GATHERED, self._wake.set)
        else:
            self.judgement_changed(workload)

    def judgement_changed(self, workload: WorkloadId) -> None:
        """Look at *workload* again at once, also while it is being written: a new fleet would lack it otherwise."""
        self._mark(workload)
        self._wake.set()

    def _mark(self, workload: WorkloadId) -> None:
        if (remembered := self.context.memory.workloads.get(workload)) is not None:
            remembered.stale = True
        if workload not in self._dirty:
            self._dirty[workload] = None
            if remembered is None:
                self._new.add(workload)
                self._dirty.move_to_end(workload, last=False)
            self.metrics.queued("workloads")
        self._clean.clear()

    def revision_completed(self, policy: PolicyId) -> None:
        """Look again at what is not done with it yet, or concerns other policies, which may have waited for that."""
        memory = self.context.memory
        fleet = memory.of_policy(policy).fleet
        for target in (*fleet.targets, *fleet.removing):
            remembered = memory.workloads.get(target.workload)
            if not target.is_done or remembered is None or remembered.in_fleets != {policy}:
                self.judgement_changed(target.workload)

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
        """Look at everything, and work from `begin` on, until cancelled."""
        cache = self.context.cache
        cache.listener = self
        self._look_at_everything()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                while True:
                    await self._turn()
        finally:
            if cache.listener is self:
                cache.listener = None
            if self._soon is not None:
                self._soon.cancel()

    def begin(self) -> None:
        """Work from now on: this process leads, and what is cached is as fresh as that."""
        cache = self.context.cache
        log.info("leading: looking at %d policies and %d workloads", len(cache.policies), len(cache.workloads))
        self._recall_failures()
        self._dirty |= dict.fromkeys(self._new)
        self._begun = True
        self._wake.set()

    def history_went_backwards(self) -> None:
        """Forget what this process has written: that it is not there is nobody's work."""
        for remembered in self.context.memory.workloads.values():
            remembered.written = {}

    def _look_at_everything(self) -> None:
        """First at what bears sidecars, and so may move."""
        cache = self.context.cache
        self._stopped = cache.stopped
        self._recall_failures()
        for policy in cache.policies:
            self._look_at(policy)
        for workload in sorted(cache.workloads.values(), key=lambda each: not each.record):
            self._dirty[workload.id] = None

    def _look_at_everything_again(self) -> None:
        self._dirty |= dict.fromkeys(self.context.cache.workloads)
        self._clean.clear()
        for policy in self.context.cache.policies:
            self._look_at(policy)

    def _recall_failures(self) -> None:
        """Take in what statuses tell of failures: what was seen of them can often not be seen again."""
        for policy, cached in self.context.cache.policies.items():
            remembered = self.context.memory.of_policy(policy)
            for each in items(cached.status, "failures"):
                place = WorkloadId(namespace=each["namespace"], name=each["name"])
                told = (each["reason"], each.get("message", ""))
                if remembered.explained.get(place) == told:
                    continue
                remembered.explained[place] = told
                if each["reason"] not in NO_FAILURE_OF_PODS:
                    remembered.halted_by[place] = told
                self._dirty[place] = None

    async def _turn(self) -> None:
        if self._begun and not self._writer.may_write:  # interrupted: it goes on, or is about to be ended
            await asyncio.sleep(PASS_INTERVAL)
            return
        self._ring()
        if self._dirty:
            self._observe_some()
            if self._dirty:
                self._start_writes()
                await asyncio.sleep(0)
                return
            # No pause here: of a burst of answers each would wait for the last before the next write begins.
        if not self._begun:
            await self._rest()
            return
        self._clean.set()
        self._has_seen_all = True
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
        if self._dirty and self._soon is None:
            await asyncio.sleep(0)
            return
        await self._woken()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def _woken(self) -> None:
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

    def _ring(self) -> None:
        now = self.context.now()
        if now < self._latest - CLOCK_SLACK:  # what was found before is of a time that is still to come
            self._look_at_everything_again()
        self._latest = now
        for key in self._alarms.ring(now):
            if isinstance(key, PolicyId):
                self._look_at(key)
            else:
                self._dirty[key] = None
                self._clean.clear()

    def _next_moment(self) -> float | None:
        now = self.context.now()
        moments = [self._alarms.next]
        moments += [
            self._passed[each] + PASS_INTERVAL
            for each in self._waiting
            if each in self._passed and each not in self._passing
        ]
        if (pause := self._workloads.paused_until - asyncio.get_running_loop().time()) > 0:
            moments.append(now + pause)
        return None if (moment := min(moments)) == inf else moment

    # --- observing

    def _observe_some(self) -> None:
        for _ in range(min(OBSERVED_AT_ONCE, len(self._dirty))):
            identity, _ = self._dirty.popitem(last=False)
            self._observe(identity)

    def _observe(self, identity: WorkloadId) -> None:
        context = self.context
        is_new = self._begun and identity in self._new
        if self._begun:
            self._new.discard(identity)
        remembered = context.memory.workloads.get(identity)
        before = remembered.in_fleets if remembered is not None else frozenset()
        try:
            self._alarms.set(identity, observe(identity, context))
        except Exception:  # a mistake of ours: told in full, and it must not stop everything else
            log.exception("looking at %s failed, trying again in %g s", identity, OF_WORKLOADS.last)
            self._alarms.set(identity, context.now() + OF_WORKLOADS.last)
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
        if is_new:
            self._inspect(identity)
            if self._urgent_steps(identity):
                self._urgent[identity] = None
        elif remembered.inspected is None:
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
            if self._workloads.inspect(workload):
                self._urgent[identity] = None
                self._wake.set()
        except Exception:  # a mistake of ours, as above
            log.exception("comparing %s failed, trying again in %g s", identity, OF_WORKLOADS.last)
            self._alarms.set(identity, self.context.now() + OF_WORKLOADS.last)

    def _note_the_switch(self) -> None:
        """After the emergency switch was thrown either way everything is looked at again."""
        if self._stopped != self.context.cache.stopped:
            self._stopped = self.context.cache.stopped
            for remembered in self.context.memory.workloads.values():
                remembered.settled = None
            for policy in self.context.cache.policies:
                self._teller.of_switch(policy, stopped=self._stopped)
            self._look_at_everything_again()

    # --- writing workloads

    def _start_writes(self) -> None:
        if not self._begun or self._workloads.paused_until > asyncio.get_running_loop().time():
            return
        while len(self._writing) < self._workers and (found := self._next_write()) is not None:
            identity, wanted = found
            self._writing[identity] = wanted
            self._start(self._write(identity, wanted), identity)

    def _next_write(self) -> tuple[WorkloadId, Mapping[PolicyId, Step]] | None:
        """What is urgent and observed; after all that a step."""
        for identity in self._urgent:
            if identity not in self._dirty and identity not in self._writing:
                del self._urgent[identity]
                return identity, self._urgent_steps(identity)
        return self._next_step()

    def _next_step(self) -> tuple[WorkloadId, Mapping[PolicyId, Step]] | None:
        """The most urgent step, fair over policies; with it every step on that workload that needs no budget.

        While anything is dirty only what needs no budget is taken, of what is observed by then.
        """
        for _ in range(len(self._hungry)):
            policy = next(iter(self._hungry))
            self._hungry.move_to_end(policy)
            if self._dirty and not self._goes_all_at_once(policy):
                continue
            step = self._step_of(policy)
            while step is not None and step.workload in self._dirty:
                del self._dirty[step.workload]
                self._observe(step.workload)
                step = self._step_of(policy)
            if step is None:
                del self._hungry[policy]
                continue
            if self._dirty and step.revision is None:
                continue
            wanted = {**self._urgent_steps(step.workload), policy: step}
            if step.revision is None and not step.orphans:
                wanted |= self._steps_in_exchange(policy, step.workload)
            return step.workload, wanted
        return None

    def _goes_all_at_once(self, policy: PolicyId) -> bool:
        """Whether the next step of *policy* depends on its own workload alone, once all were observed in this term."""
        cached = self.context.cache.policies.get(policy)
        if not self._has_seen_all or cached is None or cached.policy is None:
            return False
        rollout = cached.policy.rollout
        return rollout.strategy is Strategy.ALL_AT_ONCE and not rollout.canary

    def _steps_in_exchange(self, leaving: PolicyId, identity: WorkloadId) -> dict[PolicyId, Step]:
        """The steps of policies that *leaving* alone keeps off a workload, of which nothing is there.

        It is taken out for good, or because it has failed there: then those that it has overridden come back.
        """
        found = {}
        remembered = self.context.memory.workloads.get(identity)
        for policy in sorted(remembered.in_fleets) if remembered is not None else ():
            cached, of_policy = self.context.cache.policies.get(policy), self.context.memory.of_policy(policy)
            target = of_policy.fleet.get(identity)
            if cached is None or target is None or target.recorded:
                continue
            is_overridden = target.skip is not None and target.skip.overridden_by == leaving
            if target.waits_for != {leaving} and not is_overridden:
                continue
            note_backoffs(of_policy, self.context.now())
            state = rollout_state(cached, of_policy, self.context)
            step = step_in_exchange(state, fleet_of(policy, self.context), identity, self._steps_written(policy))
            if step is not None:
                found[policy] = step
        return found

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
            or Step(workload=workload, revision=UNKNOWN, takes_slot=not each, why="another write is on its way")
            for workload, each in self._writing.items()
        }

    def _is_being_written(self, policy: PolicyId) -> bool:
        """Whether a workload that *policy* selects, has something on, or has a step on the way to, is being written."""
        found = (self.context.memory.workloads.get(identity) for identity in self._writing)
        in_fleets = any(each is not None and policy in each.in_fleets for each in found)
        return in_fleets or self._has_steps_on_the_way(policy)

    def _has_steps_on_the_way(self, policy: PolicyId) -> bool:
        """Whether a step of *policy* is being written; its fleet may not show it yet."""
        return any(policy in wanted for wanted in self._writing.values())

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
            result = "skipped" if workload is None else await self._workloads.write(workload, wanted)
        finally:
            self.metrics.workload_write(result)
            del self._writing[identity]
            remembered = self.context.memory.workloads.get(identity)
            for policy in sorted({*wanted, *(remembered.in_fleets if remembered is not None else ())}):
                self._hungry[policy] = None
            for policy in wanted:  # the workload may be in its fleet no more, and it waits for this
                self._look_at(policy)
            self.judgement_changed(identity)

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
            self._alarms.set(policy, await self._policies.run(policy))
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
                log.debug("%s: not written, this process does not lead now", key)
                if isinstance(key, PolicyId):
                    self._look_at(key)
            except Exception:
                result = "error"
                log.exception("working on %s failed, trying again in %g s", key, OF_WORKLOADS.last)
                self._alarms.set(key, self.context.now() + OF_WORKLOADS.last)
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
