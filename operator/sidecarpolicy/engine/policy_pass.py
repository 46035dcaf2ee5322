"""One policy: what is to be written about it next, and the pass that writes it and reports.

The pass has no branch about what happened, only about what is. Whatever goes wrong before the report is a sentence in
the report. That waits only for what is being written, where nothing else is left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sidecarpolicy import names
from sidecarpolicy.core import counting
from sidecarpolicy.core.approvals import approval_of, approvals, removal_approval
from sidecarpolicy.core.configs import ConfigObject, older
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.namespace_backoff import namespace_backoffs
from sidecarpolicy.core.plan import Plan, RolloutState, plan
from sidecarpolicy.core.policy import Policy, Rollout
from sidecarpolicy.core.progress import Target
from sidecarpolicy.core.report import WaitingFor
from sidecarpolicy.core.revision import Halt, StoredRevision, halt_text
from sidecarpolicy.core.sentences import changed_configs
from sidecarpolicy.core.status import Rejection
from sidecarpolicy.core.text_limits import one_line
from sidecarpolicy.core.times import micro_timestamp
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.acceptance import (
    Hindered,
    accept,
    canonical_form,
    is_too_large,
    is_unsupported,
    needs_canonical_form,
    revisions_namespace,
    too_large,
    without_finalizer,
)
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.events import Teller
from sidecarpolicy.engine.memory import PolicyMemory, Unwritten
from sidecarpolicy.engine.observe import DEFAULT_ROLLOUT, fleet_of
from sidecarpolicy.engine.pod_security import PodSecurity
from sidecarpolicy.engine.pods import LOOK_AGAIN, assume, examine, is_known
from sidecarpolicy.engine.port import Api, ApiError, Conflict, NotFound
from sidecarpolicy.engine.retries import OF_POLICIES, Trouble
from sidecarpolicy.engine.status_writer import Reporter
from sidecarpolicy.engine.write_requests import (
    ChangeFinalizers,
    CreateRevision,
    DeleteRevision,
    MarkRevision,
    PolicyWrite,
)
from sidecarpolicy.engine.writer import Writer
from sidecarpolicy.names import EventReason, Reason

log = logging.getLogger(__name__)

# So many writes about one policy are made in one pass; what remains is the next one's.
MOST_WRITES = 20

# A cluster that does not know native sidecars is asked again after this many seconds: it may have been upgraded.
UNSUPPORTED_SECONDS = 600.0

# In so many namespaces an edit of what was changed ends the halt that it brought.
MOST_HALTING = 10

# When a wait is over it is tried again; where nothing has failed for so many seconds more, the next failure is a first.
BETWEEN_TRIES = 30.0

# So many late workloads are looked at in one pass.
MOST_DIAGNOSED = 5


def _rollout_of(cached: CachedPolicy) -> Rollout:
    return cached.policy.rollout if cached.policy is not None else DEFAULT_ROLLOUT


def rollout_state(cached: CachedPolicy, remembered: PolicyMemory, context: Context) -> RolloutState:
    """Return what a plan depends on beside the fleet."""
    cache = context.cache
    update, current = cache.update_revision(cached.id), cache.current_revision(cached.id)
    stored = [each.revision.name for each in cache.revisions(cached.id)]
    return RolloutState(
        policy=cached.id,
        rollout=_rollout_of(cached),
        update=update.revision.name if update else None,
        current=current.revision.name if current else None,
        tried=bool(update and update.completion),
        deleting=cached.deleting,
        orphaning=cached.orphaning,
        frozen=not cached.deleting
        and (remembered.rejection is not None or _is_passed_over(cached, remembered, update)),
        attempt=update.attempt_id if update else "",
        halted=update is not None and update.halt is not None,
        now=context.now(),
        backoffs=remembered.backoffs,
        stopped=cache.stopped or is_unreadable(cached),
        generation=cached.generation,
        approved=approvals(cached.approve) | (update.approved if update is not None else frozenset()),
        removal_proven=remembered.removal_proven,
        config_since=update.config_since if update is not None else 0.0,
        stored={"", *stored, *map(older, stored)},
    )


def _is_passed_over(cached: CachedPolicy, remembered: PolicyMemory, update: StoredRevision | None) -> bool:
    """Whether *update* is not what *cached* declares, though that was accepted before: it is about to be, once more.

    Either its author has gone back to it, or its ControllerRevision is lost or mangled. Until it is the update revision
    again no workload goes to the other one.
    """
    name = cached.declares
    if not name or update is None or update.revision.name == name:
        return False
    return name in remembered.fleet.in_use


def note_backoffs(remembered: PolicyMemory, now: float) -> None:
    """Leave namespaces alone whose own trouble made a workload fail: before the next step there is decided."""
    if remembered.backoffs or remembered.fleet.not_counted:
        remembered.backoffs = namespace_backoffs(remembered.backoffs, remembered.fleet, now)


def is_unreadable(cached: CachedPolicy) -> bool:
    """Whether nothing may be removed on the strength of a policy, because its spec cannot be read."""
    return cached.policy is None and cached.deletion_policy is None


def next_write(cached: CachedPolicy, now: Plan, context: Context) -> tuple[PolicyWrite, EventReason | None] | None:
    """Return what is to be written about a policy and its revisions next, and what to tell of it; None for nothing.

    Raises Hindered where something is in the way that is no error of a request.
    """
    remembered = context.memory.of_policy(cached.id)
    if cached.deleting:
        if is_unreadable(cached):
            remembered.rejection = Rejection(reason=Reason.INVALID, message=cached.problems, unreadable=True)
        if not _is_gone(cached, context):
            return None
        return _to_collect(cached, context) or without_finalizer(cached), None
    if (write := accept(cached, remembered, context)) is not None:
        return write, None
    update = context.cache.update_revision(cached.id)
    if update is None or cached.policy is None:
        return None
    if update.halt is not None and update.halt.id == cached.resume:
        changes = {names.HALT: None, names.ATTEMPT: str(update.attempt + 1), names.CONFIG_SINCE: None}
        return _mark(update, cached.id, context, changes, f"rollout resumed (halt {cached.resume})"), (
            EventReason.RESUMED
        )
    if update.halt is not None and (edited := _edited_since(update.halt, cached.policy, context)):
        changes = {names.HALT: None, names.ATTEMPT: str(update.attempt + 1), names.CONFIG_SINCE: None}
        why = f"rollout resumed (halt {update.halt.id}): {changed_configs(edited)}"
        return _mark(update, cached.id, context, changes, why), EventReason.RESUMED
    if (approved := _approved(cached, update)) is not None:
        changes = {names.APPROVED: ",".join(sorted(approved))}
        return _mark(update, cached.id, context, changes, "approved by its author"), None
    if now.halts:
        why = "; ".join(f"{each.workload}: {each.message}" for each in remembered.fleet.failed[:3] if each.counts)
        remembered.halted_by = {
            each.workload: (each.reason, each.message) for each in remembered.fleet.failed if each.counts
        }
        halt = Halt(
            id=update.attempt_id,
            reason=why,
            since=micro_timestamp(context.now()),
            configs=_configs_that_halt(remembered, cached.policy, context),
        )
        changes = {names.HALT: halt_text(halt)}
        return _mark(update, cached.id, context, changes, f"{halt.id} is halted: {why}"), EventReason.HALTED
    if now.completes:
        completion = 1 + max(each.completion for each in context.cache.revisions(cached.id))
        changes = {names.COMPLETED: micro_timestamp(context.now()), names.COMPLETION: str(completion)}
        return _mark(update, cached.id, context, changes, "every workload has it"), None
    if now.config_begins:
        fleet = remembered.fleet
        count = fleet.count(counting.CONFIG_BEHIND)
        changes = {names.CONFIG_SINCE: micro_timestamp(context.now())}
        workloads = "1 workload restarts" if count == 1 else f"{count} workloads restart within the budget"
        why = f"{changed_configs(sorted(fleet.tally(counting.CHANGED)))}: {workloads}"
        return _mark(update, cached.id, context, changes, why), EventReason.CONFIG_CHANGED
    if now.config_ends and context.cache.configs.are_listed(cached.policy):
        return _mark(update, cached.id, context, {names.CONFIG_SINCE: None}, "every workload has restarted"), None
    return None


def _configs_that_halt(
    remembered: PolicyMemory, policy: Policy, context: Context
) -> tuple[tuple[str, tuple[tuple[ConfigObject, str], ...]], ...]:
    """The hashes of what had changed, where nothing but that failed; nothing where something else did too."""
    counted = [each for each in remembered.fleet.failed if each.counts]
    if not all(each.by_config for each in counted):
        return ()
    namespaces = sorted({each.workload.namespace for each in counted})[:MOST_HALTING]
    found = []
    for namespace in namespaces:
        known = context.cache.configs.wanted(policy, namespace).known
        changed = {config for each in counted if each.workload.namespace == namespace for config in each.to_blame}
        found.append((namespace, tuple(sorted((each, value) for each, value in known.items() if each in changed))))
    return tuple(found)


def _edited_since(halt: Halt, policy: Policy, context: Context) -> list[tuple[str, ConfigObject]]:
    """What has another content by now than when a change of it halted the rollout, by namespace."""
    return [
        (namespace, each)
        for namespace, hashes in halt.configs
        for each, value in hashes
        if context.cache.configs.wanted(policy, namespace).known.get(each, value) != value
    ]


def _mark(
    stored: StoredRevision, policy: PolicyId, context: Context, changes: dict[str, str | None], why: str
) -> MarkRevision:
    return MarkRevision(namespace=revisions_namespace(policy, context), stored=stored, annotations=changes, why=why)


def _approved(cached: CachedPolicy, update: StoredRevision) -> frozenset[str] | None:
    """What the author has approved, where that is not written down yet; what means nothing any more is dropped."""
    assert cached.policy is not None
    meant = {removal_approval(cached.generation), removal_approval(cached.generation, stuck=True)}
    meant |= {approval_of(each.name, update.revision.name) for each in cached.policy.rollout.canary}
    approved = (approvals(cached.approve) | update.approved) & meant
    return None if approved <= update.approved else approved


def _prune(cached: CachedPolicy, context: Context) -> DeleteRevision | None:
    """Keep the history within its limit, always; what a workload has, may go back to or is pinned to stays."""
    cache, remembered = context.cache, context.memory.of_policy(cached.id)
    update = cache.update_revision(cached.id)
    if update is None or cached.policy is None or cached.deleting:
        return None
    limit = cached.policy.revision_history_limit
    current = cache.current_revision(cached.id)
    needed = {each.revision.name for each in (update, current) if each is not None} | remembered.fleet.in_use
    old = sorted(
        (each for each in cache.revisions(cached.id) if each.revision.name not in needed), key=lambda each: each.number
    )
    if len(old) <= limit:
        return None
    return DeleteRevision(
        namespace=revisions_namespace(cached.id, context), stored=old[0], why=f"revisionHistoryLimit: {limit}"
    )


def _to_collect(cached: CachedPolicy, context: Context) -> DeleteRevision | None:
    """A revision that Kubernetes does not collect with the policy, because it is not, or will not be, owned by it.

    A backup may have brought it back without its owner, and `kubectl delete --cascade=orphan` takes that off.
    """
    if cached.id.namespace and context.cache.namespace(cached.id.namespace).terminating:
        return None
    orphaning = names.ORPHAN_FINALIZER in cached.finalizers
    left = [each for each in context.cache.revisions(cached.id) if orphaning or each.owner != cached.uid]
    if not left:
        return None
    namespace = revisions_namespace(cached.id, context)
    return DeleteRevision(namespace=namespace, stored=min(left, key=lambda each: each.number), why="its policy goes")


def _is_gone(cached: CachedPolicy, context: Context) -> bool:
    """Whether nothing holds a deleted policy back any more."""
    if names.FINALIZER not in cached.finalizers:
        return False
    namespace = cached.id.namespace
    if namespace and context.cache.namespace(namespace).terminating:
        return True
    if is_unreadable(cached):
        return not context.memory.of_policy(cached.id).fleet
    remembered = context.memory.of_policy(cached.id)
    released = _released(cached, remembered, context)
    return remembered.fleet.count(counting.RECORDED) <= len(released) and not remembered.fleet.slots


def _released(cached: CachedPolicy, remembered: PolicyMemory, context: Context) -> dict[WorkloadId, str]:
    """Where a removal could not be written for progressDeadlineSeconds: that must not hold the policy for ever.

    It counts from the first of the tries in a row that failed, and none is given up before one more has failed.
    """
    now = context.now()
    limit = _rollout_of(cached).progress_deadline_seconds
    failing = {
        each.workload: each.backoff
        for each in remembered.fleet.in_backoff
        if each.backoff is not None and each.recorded
    }
    for workload, backoff in failing.items():
        before = remembered.unwritten.get(workload)
        in_a_row = before is not None and now <= before.until + BETWEEN_TRIES
        since = before.since if before is not None and in_a_row else now
        last = before.last if before is not None and before.until == backoff.until else now
        remembered.unwritten[workload] = Unwritten(since=since, last=last, until=backoff.until, why=backoff.message)
    for workload in remembered.unwritten.keys() - failing.keys():
        found = remembered.fleet.get(workload)
        if found is None or not found.recorded:
            del remembered.unwritten[workload]
    return {
        workload: each.why
        for workload, each in remembered.unwritten.items()
        if workload in failing and each.last >= each.since + limit
    }


def _try_once_more(cached: CachedPolicy, remembered: PolicyMemory, context: Context) -> None:
    """Have each removal tried again that is to be given up unless that fails: what was refused waits much longer."""
    now = context.now()
    limit = _rollout_of(cached).progress_deadline_seconds
    for workload, each in remembered.unwritten.items():
        target = remembered.fleet.get(workload)
        if each.last < each.since + limit <= now and target is not None and target.backoff is not None:
            context.memory.of(workload).failed = None
            if context.cache.listener is not None:
                context.cache.listener.workload_changed(workload)


def waiting_for_others(remembered: PolicyMemory, context: Context) -> list[WaitingFor]:
    """Return for which other policies workloads of one policy wait, those first that are not taken out now."""
    found = []
    for policy, waiting in remembered.fleet.waiting_for.items():
        held, cached = "", context.cache.policies.get(policy)
        if cached is not None:
            other, fleet = context.memory.of_policy(policy), fleet_of(policy, context)
            state = rollout_state(cached, other, context)
            target = fleet.get(waiting[0].workload)
            held = _refused(policy, target) or _held(cached, state, plan(state, fleet), target)
        found.append(WaitingFor(policy=policy, workloads=waiting, held=held))
    return sorted(found, key=lambda each: not each.held)


def _held(cached: CachedPolicy, state: RolloutState, now: Plan, target: Target | None = None) -> str:
    """Why what *cached* has is not taken out where it is to go, of *target* if any; empty where it is."""
    label = cached.id.label
    if is_unreadable(cached):
        return f"the spec of {label} cannot be read"
    if state.rollout.paused and not state.deleting:
        return f"{label} is paused"
    if (state.halted or now.halts) and not state.deleting:
        return f"the rollout of {label} is halted"
    if state.frozen:
        return f"the newest spec of {label} is not accepted"
    if now.held and not (target is not None and target.deselected_by_owner):
        return f"set the annotation {names.APPROVE}: {now.held} on {label} to go on with its removal"
    return ""


def _refused(policy: PolicyId, target: Target | None) -> str:
    """Why the sidecars of *policy* cannot be taken out of one workload; empty where they can."""
    if target is None or target.backoff is None or not target.backoff.rejected:
        return ""
    return f"{policy.label} cannot be taken out of {target.workload}: {target.backoff.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPass:
    """The pass over one policy. *observed*: waits until the fleets show everything that is cached.

    *is_being_written*: whether a workload of a policy's fleet is being written; *has_steps_on_the_way*: by a step of
    that policy. A policy that was edited back meanwhile is not done, though its fleet shows nothing else.
    """

    api: Api
    writer: Writer
    context: Context
    teller: Teller
    reporter: Reporter
    observed: Callable[[], Awaitable[None]]
    is_being_written: Callable[[PolicyId], bool]
    has_steps_on_the_way: Callable[[PolicyId], bool]
    pod_security: PodSecurity

    async def run(self, identity: PolicyId) -> float | None:
        """Do what is due, and report; return when to look again (seconds since the epoch), None where nothing waits."""
        remembered = self.context.memory.of_policy(identity)
        await self.observed()
        await self._diagnose(remembered)
        if not remembered.trouble.waits(self.context.now(), OF_POLICIES.last):
            seconds = await self._try(identity, remembered.trouble)
            remembered.trouble.until = self.context.now() + seconds
        await self._keep_history_short(identity, remembered)
        await self.observed()
        cached = self.context.cache.policies.get(identity)
        if cached is None:
            return None
        moments = [each.until for each in (remembered.trouble, remembered.pruning) if each.failures]
        state = rollout_state(cached, remembered, self.context)
        now = plan(state, fleet_of(identity, self.context))
        moments += [each for each in (now.looks_again,) if each is not None]
        if is_unsupported(remembered.rejection):
            moments.append(max(remembered.asks_again, state.now + 1.0))
        if remembered.fleet.to_diagnose:
            moments.append(state.now + LOOK_AGAIN)
        if remembered.unwritten:
            limit = state.rollout.progress_deadline_seconds
            due_at = (each.since + limit for each in remembered.unwritten.values())
            moments += [each for each in due_at if each > state.now]
            _try_once_more(cached, remembered, self.context)
        self._tell_who_waits(cached, state, now)
        waiting_for = waiting_for_others(remembered, self.context)
        due = None
        if not self.pod_security.restores(cached) and not (
            remembered.fleet.rests and self.has_steps_on_the_way(identity)
        ):
            due = await self.reporter.report(cached, state, now, waiting_for)
        again = await self.pod_security.ask_again(identity)  # last: it may take long, and what it finds is told
        return min((*moments, *(each for each in (due, again) if each is not None)), default=None)

    def _tell_who_waits(self, cached: CachedPolicy, state: RolloutState, now: Plan) -> None:
        """Have policies that wait for this one to be taken out say what keeps it there now."""
        memory, held = self.context.memory, _held(cached, state, now)
        remembered = memory.of_policy(cached.id)
        if remembered.held == held:
            return
        remembered.held = held
        for policy, other in memory.policies.items():
            if cached.id in other.fleet.tally(counting.WAITING_FOR) and self.context.cache.listener is not None:
                self.context.cache.listener.policy_changed(policy)

    async def _try(self, identity: PolicyId, trouble: Trouble) -> float:
        """Write what is due; return for how many seconds nothing is tried again. What is in the way is remembered."""
        try:
            await self._write_what_is_due(identity)
        except Conflict as error:  # somebody wrote first: decide again on what is there now
            log.debug("%s: %s", identity.label, error)
            return trouble.again(error, OF_POLICIES)
        except Hindered as hindrance:  # what ends it is told by the cache
            if trouble.is_news(problem := one_line(str(hindrance))):
                log.warning("%s: %s", identity.label, problem)
            trouble.failures = 0
            return 0.0
        except ApiError as error:
            if isinstance(error, NotFound) and identity not in self.context.cache.policies:
                return 0.0  # it has gone: the answer to the write that let it go does not say so
            return _tried_in_vain(identity, trouble, error)
        trouble.end()
        return 0.0

    async def _keep_history_short(self, identity: PolicyId, remembered: PolicyMemory) -> None:
        """Delete old revisions. One that cannot be deleted is in nobody's way: the log tells it."""
        trouble = remembered.pruning
        if trouble.waits(self.context.now(), OF_POLICIES.last):
            return
        for _ in range(MOST_WRITES):
            await self.observed()
            cached = self.context.cache.policies.get(identity)
            if cached is None or remembered.trouble.failures or (write := _prune(cached, self.context)) is None:
                break
            try:
                await self.writer.apply(write)
            except ApiError as error:
                trouble.until = self.context.now() + _tried_in_vain(identity, trouble, error)
                return
        trouble.end()

    async def _write_what_is_due(self, identity: PolicyId) -> None:
        context = self.context
        remembered = context.memory.of_policy(identity)
        for _ in range(MOST_WRITES):
            await self.observed()
            cached = context.cache.policies.get(identity)
            if cached is None:
                return
            if cached.policy is not None and needs_canonical_form(cached, remembered, context):
                remembered.canonical = {cached.declares: await canonical_form(cached.policy, self.api, context)}
                remembered.asks_again = context.now() + UNSUPPORTED_SECONDS
                continue  # the policy may have changed meanwhile
            note_backoffs(remembered, context.now())
            # Where no workload is concerned none was observed since the update revision changed.
            now = plan(rollout_state(cached, remembered, context), fleet_of(identity, context))
            if now.completes and self.has_steps_on_the_way(identity):
                now = replace(now, completes=False)
            found = next_write(cached, now, context)
            if found is None:
                return
            write, tells = found
            if cached.deleting and self.is_being_written(identity):
                return  # it may bring the sidecars of which nothing is left; the pass after it sees that
            released = _released(cached, remembered, context) if cached.deleting else {}
            try:
                await self.writer.apply(write)
            except ApiError as error:
                if not (isinstance(write, CreateRevision) and is_too_large(error)):
                    raise
                remembered.canonical = {str(write.body["data"]["name"]): too_large(error)}
                continue
            if isinstance(write, ChangeFinalizers):
                self.teller.of_release(cached, released)
            if tells is not None:
                self.teller.on_policy(identity, tells, write.why, warning=tells is EventReason.HALTED)

    async def _diagnose(self, remembered: PolicyMemory) -> None:
        """Find out why late rollouts make no progress: by a fresh read first, for it may be the watch that is late."""
        looked_at = 0
        for each in list(remembered.fleet.to_diagnose):
            workload = self.context.cache.workloads.get(each.workload)
            if workload is None or looked_at == MOST_DIAGNOSED:
                continue
            if is_known(workload, self.context, since=each.late_at or 0.0):
                continue
            looked_at += 1
            try:
                if (found := await self._read_again(workload, remembered)) is None:
                    continue
                workload = found
                await examine(workload, self.api, self.context)
            except ApiError as error:
                log.warning("could not look at the Pods of %s: %s", each.workload, error)
                assume(workload, self.context)
            if self.context.cache.listener is not None:
                self.context.cache.listener.workload_changed(workload.id)
        await self.observed()

    async def _read_again(self, workload: Workload, remembered: PolicyMemory) -> Workload | None:
        """Return *workload* as it is now where it is late all the same. Raise ApiError."""
        place = workload.id
        await self.writer.read_workload(workload)
        await self.observed()
        each = remembered.fleet.get(place)
        return self.context.cache.workloads.get(place) if each is not None and (each.failing or each.suspect) else None


def _tried_in_vain(identity: PolicyId, trouble: Trouble, error: ApiError) -> float:
    """Return in how many seconds a write of a policy is tried again; the log has each problem once."""
    seconds = min(OF_POLICIES.last, trouble.again(error, OF_POLICIES))
    if trouble.is_news(problem := one_line(str(error))):
        log.warning("%s: %s; trying again in %.1f s", identity.label, problem, seconds)
    return seconds
