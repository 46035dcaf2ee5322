"""Which workloads may change now: pure functions of a policy, its revisions, its targets and the time.

Every change of a template is a planned step under a budget. One workload goes first; when it has completed the
revision and soaked, a few at a time follow; removals likewise. A workload that does not complete keeps its slot, at
whichever revision, so a bad revision never reaches more workloads than the budget, and an edit half-way frees nothing.
Nothing is remembered between plans: a restart changes nothing.

With the strategy OnNextChange nothing is updated from here: a workload gets the update revision with its owner's
next change, by admission (`step_with_owner`).

Where what `restartOn` names has changed, workloads that have the update revision restart: one first as well, then one
first in each namespace, for each has content of its own. It begins when that is written down (`config_begins`), and is
over when none can be restarted and none is on its way (`config_ends`): what has to wait for something else (an owner's
rollout, a conflict, a namespace that is left alone) goes first once more when it can.

`plan` says how a policy stands and why the rest waits. `steps` gives what is to be written next, one by one, so that
whoever writes takes one and asks again: a step is never older than what was written before it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sidecarpolicy.core import counting
from sidecarpolicy.core.approvals import removal_approval
from sidecarpolicy.core.canary_groups import Stage, empty_groups, stage_of
from sidecarpolicy.core.configs import NO_CONFIG, Config, is_older, older
from sidecarpolicy.core.counting import CONFIG, PIN, REMOVE, UPDATE
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.namespace_backoff import NamespaceBackoff
from sidecarpolicy.core.picking import HOLDERS, WITH_PODS, Order, Picked, Queue
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import Health, State, Target
from sidecarpolicy.core.record import NOTHING_NOTED, Entry, Note
from sidecarpolicy.names import OnFailure, Removal, Strategy

# Why a workload changes in the write that takes another policy out of it.
EXCHANGE = "in place of what is taken out"

# The revision of a write that is no step: it may put back any, the update revision too (a record that was lost).
UNKNOWN = ""

_NO_QUEUES: Mapping[tuple[bool, str], Queue] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One workload moves to *revision* (None: what it has of the policy goes), for *why*.

    *joins*: it is new, and takes no slot. *orphans*: what it has stays, and belongs to its owner from now on.
    *takes_slot*: from now on it is in flight, if it was not. *config*: what its Pods have read from then on; None: what
    there is to read now.
    """

    workload: WorkloadId
    revision: str | None
    joins: bool = False
    orphans: bool = False
    takes_slot: bool = False
    note: Note = NOTHING_NOTED
    config: Config | None = None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """Everything besides its targets that a plan depends on.

    *update*: the revision to reach; None while none was ever accepted. *tried*: it has been rolled out completely
    before. *current*: the last one that was, for new workloads. *stored*: the names of revisions that can be written.
    *orphaning*: the policy is being deleted and leaves its sidecars to the owners. *frozen*: nothing changes but new
    workloads. *attempt*: the `<revision>#<attempt>` under which failures are noted now. *halted*: the rollout is halted
    under it. *backoffs*: namespaces whose own trouble made a workload fail; *now* (seconds since the epoch) tells which
    of them are left alone and which have one workload tried at a time. *stopped*: by the emergency switch; no workload
    is changed. *generation*: the policy's, for approvals; *approved*: what its author has approved. *removal_proven*: a
    removal has completed and soaked since this leader leads (see `proves_removal`). *config_since*: since when
    workloads restart because their configuration has changed, 0 while none does.
    """

    policy: PolicyId
    rollout: Rollout
    update: str | None
    current: str | None = None
    stored: Container[str]
    tried: bool = False
    deleting: bool = False
    orphaning: bool = False
    frozen: bool = False
    attempt: str = ""
    halted: bool = False
    now: float = 0.0
    backoffs: Mapping[str, NamespaceBackoff] = field(default_factory=dict)
    stopped: bool = False
    generation: int = 0
    approved: frozenset[str] = frozenset()
    removal_proven: bool = False
    config_since: float = 0.0

    @property
    def still(self) -> bool:
        """Whether existing workloads stay as they are."""
        return self.rollout.paused or self.frozen or self.halted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a policy stands, why the rest waits, and when to look again (seconds since the epoch).

    *budget*: how many may be in flight; *in_flight*: how many are. *halts*: too many have failed, and the rollout is
    halted from now on, until the policy is edited or resumed. *stage*: how far the rollout may go now; None where no
    canary group holds it. *empty_groups*: canary groups whose selectors select nothing. *held*: the approval without
    which no more sidecars are taken out, empty where nothing waits for one. *acts*: there are steps to take now.
    *completes*: every target that is not skipped and waits for no other policy has the update revision, one at least
    with running replicas, no halt stands, and that is not written down yet. *stranded*: failed ones that cannot be
    rolled back, because what they had is not stored any more. *config_begins*: workloads can restart because their
    configuration has changed, and that is not written down yet; *config_ends*: none can, and none does, and it still
    is.
    """

    budget: int = 1
    in_flight: int = 0
    first_is_done: bool = False
    halts: bool = False
    stage: Stage | None = None
    empty_groups: tuple[str, ...] = ()
    held: str = ""
    acts: bool = False
    completes: bool = False
    stranded: tuple[WorkloadId, ...] = ()
    config_begins: bool = False
    config_ends: bool = False
    looks_again: float | None = None
    counts: dict[State, int] = field(default_factory=dict)


def plan(state: RolloutState, fleet: Fleet) -> Plan:
    """Return how the policy stands."""
    limits = _Limits(state, fleet)
    counts = fleet.counts
    unfinished = counts[State.PENDING] + counts[State.PROGRESSING] + counts[State.FAILED]
    unfinished -= fleet.count(counting.WAITING_FOR_OTHERS)
    return Plan(
        budget=limits.removals if state.deleting else limits.updates,
        in_flight=fleet.slots,
        first_is_done=limits.first_is_done and not limits.first_config,
        halts=limits.halts,
        stage=limits.stage,
        empty_groups=empty_groups(state.rollout.canary, fleet),
        held=limits.held,
        acts=next(steps(state, fleet, {}), None) is not None,
        completes=not unfinished
        and fleet.evidence > 0
        and not (state.halted or limits.halts)
        and not state.frozen
        and not state.deleting
        and state.update not in (None, state.current),
        stranded=_stranded(state, fleet),
        config_begins=not state.config_since and _restarts(state, fleet, limits),
        config_ends=state.config_since > 0
        and not (fleet.count(counting.CONFIG_MOVING) or fleet.count(counting.CONFIG_FAILING))
        and not (state.stopped or state.deleting)
        and not _restarts(state, fleet, limits),
        looks_again=_looks_again(state, fleet),
        counts=counts,
    )


def steps(state: RolloutState, fleet: Fleet, writing: Mapping[WorkloadId, Step]) -> Iterator[Step]:
    """Give what may be written now, the most urgent first, each as if those before it were being written.

    *writing*: steps of this policy that are being written and whose outcome is not in *fleet* yet.
    """
    limits = _Limits(state, fleet)
    ahead = _Ahead(fleet, writing.values())
    while (step := _next(state, fleet, limits, ahead)) is not None:
        yield step
        ahead.add(step)


def urgent_step(state: RolloutState, fleet: Fleet, workload: WorkloadId) -> Step | None:
    """Return the step that *workload* may take now whatever the others do, for a patch that is made there anyway."""
    each = fleet.get(workload)
    if each is None or state.stopped:
        return None
    listed = fleet.listed(workload)
    if state.orphaning:
        return _handover_of(each) if counting.HANDOVER in listed else None
    if state.update is None or state.deleting:
        return None
    if (counting.ROLLBACK, each.note.previous) in listed and _rolls_back(state, each.note.previous):
        return _rollback_of(each, state)
    return _join_of(each, state.current) if counting.JOINING in listed and state.current is not None else None


def step_in_exchange(
    state: RolloutState, fleet: Fleet, workload: WorkloadId, writing: Mapping[WorkloadId, Step]
) -> Step | None:
    """Return the step of *workload* that goes along with the removal of what has kept this policy off it, if any.

    It gets what has been rolled out completely, as a new workload does: that rollout is the other policy's, under its
    budget, and takes no slot here. Before anything has, it is an update like any other: under this policy's budget too,
    one first. What is halted is never brought so. None leaves the workload to wait for its turn.
    """
    each = fleet.get(workload)
    if each is None or state.stopped or state.deleting or state.update is None:
        return None
    limits, ahead = _Limits(state, fleet), _Ahead(fleet, writing.values())
    if state.current is not None:
        is_halted = (state.halted or limits.halts) and state.current == state.update
        return None if is_halted else Step(workload=workload, revision=state.current, joins=True, why=EXCHANGE)
    if limits.still or state.rollout.strategy is Strategy.ON_NEXT_CHANGE or each.health is Health.EMPTY:
        return None
    stage = limits.stage
    if stage is not None and stage.open is not None:
        has_room = bool(each.group) or ahead.room < stage.room
        if each.group not in stage.open or not has_room:
            return None
    _, tried = _closed(state, fleet, ahead)
    free = max(fleet.slots + ahead.slots, fleet.slots_at_update + ahead.at_update) < limits.updates
    if not free or (tried is not None and tried(workload.namespace)):
        return None
    return _to_update(each, state, EXCHANGE, takes_slot=True)


def step_of_new(
    state: RolloutState, workload: WorkloadId, *, pinned_to: str | None, has_room: Callable[[], bool]
) -> Step | None:
    """Return the step of a *workload* that is just being created, for admission to carry out in the same write.

    It gets what has been rolled out completely. Before anything has, it gets the update revision as long as one more
    may carry what nobody has completed (*has_room*), and no canary group goes first. *pinned_to*: where its owner wants
    it. What this leaves out is the operator's to decide.
    """
    if state.stopped or state.deleting or state.update is None:
        return None
    if pinned_to is not None:
        why = "pinned by its owner"
        return Step(workload=workload, revision=pinned_to, joins=True, why=why)
    if state.current is not None:
        return Step(workload=workload, revision=state.current, joins=True, why="new workload")
    rollout = state.rollout
    waits = state.still or rollout.strategy is Strategy.ON_NEXT_CHANGE
    if waits or rollout.canary or not has_room():
        return None
    # Never to have been available is to be unhealthy, be it because it is new.
    note = Note(unhealthy_before=True, stepped=float(int(state.now)))
    return Step(workload=workload, revision=state.update, takes_slot=True, note=note, why="new workload")


def step_with_owner(
    state: RolloutState, workload: WorkloadId, entry: Entry | None, *, changed: bool = False
) -> Step | None:
    """Return the step of *workload* that goes along with a change of its owner's, for admission to carry out.

    *entry*: what its record has of the policy; *changed*: its configuration is another by now. That rollout is the
    owner's own: it takes no slot, and its failure is not the policy's unless one of our containers is to blame.
    """
    if state.stopped or state.deleting or state.update is None or state.still:
        return None
    if entry is not None and entry.note.failed.partition("+")[0] == state.attempt:
        return None
    if entry is not None and entry.revision == state.update and not changed:
        return None
    previous, config = (entry.revision, entry.config) if entry is not None else ("", NO_CONFIG)
    if previous == state.update:
        previous = older(previous)
    note = Note(previous=previous, config=config, stepped=float(int(state.now)))
    return Step(workload=workload, revision=state.update, joins=True, note=note, why="the owner's own change")


def removal_with_owner(state: RolloutState, workload: WorkloadId, *, deselected_by_owner: bool) -> Step | None:
    """Return the step that takes what *workload* has of the policy out with a change of its owner's, for admission.

    It waits for what any removal waits for, the budget apart: that rollout is the owner's own. That others make no
    progress without the policy's sidecars shows in no object; the owner's Pods are replaced in any case.
    """
    if state.stopped or state.orphaning or (state.still and not state.deleting):
        return None
    if state.rollout.removal is Removal.MANUAL and not deselected_by_owner and not _may_remove(state):
        return None
    return Step(workload=workload, revision=None, why="taken out with the owner's own change")


def _may_remove(state: RolloutState) -> bool:
    """Whether its author has approved that sidecars are taken out."""
    generation = state.generation
    return not state.approved.isdisjoint({removal_approval(generation), removal_approval(generation, stuck=True)})


def proves_removal(before: Target | None, after: Target | None) -> bool:
    """Whether a removal that was in flight *before* has completed and soaked *after*, with running replicas.

    To hold no slot any more is not enough: it was scaled to none, or its owner changed it before the soak was over.
    """
    taken_out = before is not None and before.holds_slot and not before.recorded and before.revision is None
    return taken_out and after is not None and after.taken_out


class _Limits:
    """What bounds the steps, from counts alone.

    *full*: how many may be in flight once it is known to go well; *first*: one goes first; *updates*: how many may be
    in flight to the update revision; *removals*: how many removals, likewise one first, but where the author wants to
    go on all the same; *still*: existing workloads stay as they are.
    """

    def __init__(self, state: RolloutState, fleet: Fleet) -> None:
        assert state.update == fleet.update, "the targets were read with another update revision in view"
        self.state = state
        self.fleet = fleet
        rollout = state.rollout
        at_once = rollout.strategy is Strategy.ALL_AT_ONCE
        self.full = max(1, fleet.considered if at_once else rollout.budget(fleet.considered))
        self.first_is_done = state.tried or fleet.evidence > 0
        self.first = not self.first_is_done and not at_once
        self.updates = 1 if self.first else self.full
        # Each namespace has content of its own: one goes first in all of them, and one in each.
        self.one_a_namespace = not at_once
        # One that has failed and stays as it is (onFailure Halt) keeps its slot, and more go one by one.
        failing = fleet.count(counting.CONFIG_FAILING)
        proven = fleet.count(counting.CONFIG_PROVEN) > 0 and not failing
        self.configs = self.updates if at_once or proven else min(self.updates, 1 + failing)
        self.first_config = fleet.count(counting.CONFIG_BEHIND) > 0 and self.configs < self.full
        go_on = state.removal_proven or at_once or removal_approval(state.generation, stuck=True) in state.approved
        self.removals = self.full if go_on else 1
        exceeded = fleet.counted > rollout.max_failures
        self.halts = exceeded and not (state.halted or state.deleting or state.stopped)
        self.still = state.still or self.halts
        self._stage: tuple[Stage | None] | None = None

    @property
    def stage(self) -> Stage | None:
        """Going back to what was rolled out completely passes no canary group. The same for steps being written."""
        if self._stage is None:
            state, groups = self.state, self.state.rollout.canary
            free = not groups or state.update is None or state.update == state.current or state.deleting
            self._stage = (None if free else stage_of(groups, self.fleet, state.update or "", state.approved),)
        return self._stage[0]

    @property
    def held(self) -> str:
        """The approval that a removal waits for: by the author's wish, or because too many of them are stuck.

        One that is given although too many are stuck says that they may be removed, too: nobody is asked twice.
        """
        state = self.state
        if state.orphaning or not self.fleet.count(counting.REMOVALS_UNAPPROVED):
            return ""
        stuck = removal_approval(state.generation, stuck=True)
        if stuck in state.approved:
            return ""
        if self.fleet.removals_failed > state.rollout.max_failures:
            return stuck
        plain = removal_approval(state.generation)
        return plain if state.rollout.removal is Removal.MANUAL and plain not in state.approved else ""


class _Ahead:
    """Steps that are being written, and what they add to what the fleet knows.

    They take nothing away: until a write is answered nobody knows whether it takes effect.
    """

    def __init__(self, fleet: Fleet, writing: Iterable[Step]) -> None:
        self.fleet = fleet
        self.steps: dict[WorkloadId, Step] = {}
        self.load: dict[str, int] = {}  # by namespace, besides those that hold a slot
        self.slots = 0
        self.at_update = 0
        self.removals = 0
        self.room = 0
        for step in writing:
            self.add(step)

    def add(self, step: Step) -> None:
        """Take one more into account."""
        workload = step.workload
        self.steps[workload] = step
        each, wanted, holds = self.fleet.standing_of(workload)
        there = each is not None and each.revision == step.revision
        ahead = wanted and step.revision == self.fleet.update
        if ahead and not there and each is not None and not each.group and not each.rolled_back:
            self.room += 1
        if not step.takes_slot:
            return
        if not holds:
            self.slots += 1
            self.load[workload.namespace] = self.load.get(workload.namespace, 0) + 1
        if ahead or (wanted and step.revision == UNKNOWN):
            self.at_update += not (holds and each is not None and each.revision == self.fleet.update)
        elif not wanted and step.revision is None:
            self.removals += not (holds and there)


def _next(state: RolloutState, fleet: Fleet, limits: _Limits, ahead: _Ahead) -> Step | None:
    if state.stopped:
        return None
    if state.orphaning:
        return _handover(fleet, ahead)
    step = None
    if state.update is not None and not state.deleting:
        step = _rollback(state, fleet, ahead) or _join(state, fleet, ahead) or _pin(state, fleet, limits, ahead)
        if step is None and not limits.still and state.rollout.strategy is not Strategy.ON_NEXT_CHANGE:
            step = _update(state, fleet, limits, ahead) or _config(state, fleet, limits, ahead)
    if step is None and (state.deleting or not limits.still):
        step = _removal(state, fleet, limits, ahead)
    return step


def _handover(fleet: Fleet, ahead: _Ahead) -> Step | None:
    """No template changes, so there is no budget."""
    each = _first(fleet.handovers, ahead)
    return _handover_of(each) if each is not None else None


def _handover_of(each: Target) -> Step:
    why = "the policy is being deleted and orphans them"
    return Step(workload=each.workload, revision=None, orphans=True, why=why)


def _rollback(state: RolloutState, fleet: Fleet, ahead: _Ahead) -> Step | None:
    """A failed workload goes back to what it had, free of budget, whether or not the rollout goes on."""
    found = [
        each
        for previous, failing in fleet.rollbacks.items()
        if _rolls_back(state, previous) and (each := _first(failing, ahead)) is not None
    ]
    if not found:
        return None
    return _rollback_of(min(found, key=lambda each: (each.late_since or 0.0, each.workload)), state)


def _rolls_back(state: RolloutState, previous: str) -> bool:
    """Whether failed workloads go back to *previous* (empty: to nothing)."""
    return state.rollout.on_failure is not OnFailure.HALT and previous in state.stored


def _rollback_of(each: Target, state: RolloutState) -> Step:
    return Step(
        workload=each.workload,
        revision=each.note.previous or None,
        takes_slot=each.health is not Health.EMPTY,
        note=Note(failed=each.attempt if each.by_config else state.attempt, not_counted=each.not_counted),
        config=each.note.config,
        why=f"{each.reason}: {each.message}",
    )


def _stranded(state: RolloutState, fleet: Fleet) -> tuple[WorkloadId, ...]:
    if state.rollout.on_failure is OnFailure.HALT or state.update is None or state.deleting:
        return ()
    lost = [failing for previous, failing in fleet.rollbacks.items() if previous not in state.stored]
    return tuple(sorted(each.workload for failing in lost for each in failing))


def _join(state: RolloutState, fleet: Fleet, ahead: _Ahead) -> Step | None:
    """New workloads get what has been rolled out completely before, at once: they serve nobody yet."""
    if state.current is None or (each := _first(fleet.joining, ahead)) is None:
        return None
    return _join_of(each, state.current)


def _join_of(each: Target, current: str) -> Step:
    return Step(workload=each.workload, revision=current, joins=True, why="new workload")


def _pin(state: RolloutState, fleet: Fleet, limits: _Limits, ahead: _Ahead) -> Step | None:
    """Those that their owners pin go where they are pinned, whatever becomes of the rollout."""
    if not (waiting := fleet.queues(PIN)):
        return None
    free = fleet.slots + ahead.slots < limits.full
    for order in Order:
        found = [
            picked
            for (new, pin), queue in waiting.get(order, _NO_QUEUES).items()
            if pin in state.stored
            and (new or free or order in HOLDERS or order is Order.EMPTY)
            and (picked := _pick(queue, ahead)) is not None
        ]
        if found:
            each = _target(fleet, min(found))
            joins = each.new and each.revision is None
            return Step(
                workload=each.workload,
                revision=each.pinned_to,
                joins=joins,
                takes_slot=not joins and order is not Order.EMPTY,
                why="pinned by its owner",
            )
    return None


def _update(state: RolloutState, fleet: Fleet, limits: _Limits, ahead: _Ahead) -> Step | None:
    """Those in progress first (they hold a slot already), then the healthy, the unhealthy, and those without Pods."""
    if not (waiting := fleet.queues(UPDATE)):
        return None
    stage = limits.stage
    open_ = None if stage is None or stage.open is None else stage.open
    if open_ is not None and stage is not None and ahead.room >= stage.room:
        open_ -= {""}
    joining = state.current is not None

    def queues(order: Order) -> list[Queue]:
        return [
            queue
            for (new, group), queue in waiting.get(order, _NO_QUEUES).items()
            if not (new and joining) and (open_ is None or group in open_)
        ]

    resting, tried = _closed(state, fleet, ahead)
    why = "first one" if limits.first else "next within the budget"
    if stage is not None and stage.name:
        why = f"{why} of canary group {stage.name!r}"
    if fleet.slots_at_update + ahead.at_update < limits.updates:
        free = fleet.slots + ahead.slots < limits.updates
        for order in WITH_PODS:
            if not free and order not in HOLDERS:
                continue
            found = [each for queue in queues(order) if (each := _pick(queue, ahead, tried)) is not None]
            if found:
                chosen = _target(fleet, min(found))
                if _waits_for_others(order, chosen, limits, ahead):
                    return None
                return _to_update(chosen, state, why, takes_slot=True)
    if not (empty := queues(Order.EMPTY)) or (limits.first and fleet.count(counting.WITH_REPLICAS)):
        return None
    if any(_pick(queue, ahead, resting) is not None for order in WITH_PODS for queue in queues(order)):
        return None
    found = [each for queue in empty if (each := _pick(queue, ahead, resting)) is not None]
    return _to_update(_target(fleet, min(found)), state, "has no Pods", takes_slot=False) if found else None


def _waits_for_others(order: Order, each: Target, limits: _Limits, ahead: _Ahead) -> bool:
    """Whether *each* only soaks, and more are in flight than may be: to move it on would disturb a further one.

    The author may have lowered maxConcurrent, an owner has opted out, or one that has soaked lost availability and its
    Pods are being looked at. What is under way goes on to the next revision all the same: its Pods are being replaced
    anyway.
    """
    return order is Order.IN_PROGRESS and not each.under_way and limits.fleet.slots + ahead.slots > limits.full


_Closed = Callable[[str], bool]


def _closed(state: RolloutState, fleet: Fleet, ahead: _Ahead) -> tuple[_Closed | None, _Closed | None]:
    """Return which namespaces are left alone, and in which besides nothing more is begun now."""

    def is_resting(namespace: str) -> bool:
        backoff = state.backoffs.get(namespace)
        return backoff is not None and backoff.waits(state.now)

    def is_tried(namespace: str) -> bool:
        """One at a time, until one has completed; what has failed there already is not waited for."""
        backoff = state.backoffs.get(namespace)
        if backoff is None or backoff.is_over:
            return False
        moving = fleet.tally(counting.MOVING_IN).get(namespace, 0) + ahead.load.get(namespace, 0)
        return backoff.waits(state.now) or moving > 0

    return (is_resting, is_tried) if state.backoffs else (None, None)


def _restarts(state: RolloutState, fleet: Fleet, limits: _Limits) -> bool:
    """Whether there is one that can restart because its configuration has changed, now or when those before it have."""
    if limits.still or state.stopped or state.deleting or state.rollout.strategy is Strategy.ON_NEXT_CHANGE:
        return False
    resting, _ = _closed(state, fleet, nothing := _Ahead(fleet, ()))
    queues = [queue for each in fleet.queues(CONFIG).values() for queue in each.values()]
    return any(_pick(queue, nothing, resting) is not None for queue in queues)


def _config(state: RolloutState, fleet: Fleet, limits: _Limits, ahead: _Ahead) -> Step | None:
    """Restart one whose configuration has changed: in the order of updates, one first, and one first in its namespace.

    What is in flight already goes on to the newest content without waiting for that.
    """
    if not state.config_since or not (waiting := fleet.queues(CONFIG)):
        return None
    resting, tried = _closed(state, fleet, ahead)

    def is_closed(namespace: str) -> bool:
        if tried is not None and tried(namespace):
            return True
        proven = fleet.tally(counting.PROVEN_IN).get(namespace, 0)
        moving = fleet.tally(counting.SLOTS_IN).get(namespace, 0) + ahead.load.get(namespace, 0)
        return limits.one_a_namespace and not proven and moving > 0

    def picked(order: Order, closed: _Closed | None) -> Picked | None:
        queues = waiting.get(order, _NO_QUEUES).values()
        return min((each for queue in queues if (each := _pick(queue, ahead, closed)) is not None), default=None)

    why = "first one with its configuration of now" if limits.configs == 1 else "its configuration has changed"
    if fleet.slots_at_update + ahead.at_update < limits.configs:
        free = fleet.slots + ahead.slots < limits.configs
        for order in WITH_PODS:
            if not free and order not in HOLDERS:
                continue
            if (found := picked(order, tried if order in HOLDERS else is_closed)) is not None:
                chosen = _target(fleet, found)
                if _waits_for_others(order, chosen, limits, ahead):
                    return None
                return _to_update(chosen, state, why, takes_slot=True)
    if any(picked(order, resting) is not None for order in WITH_PODS) or fleet.slots + ahead.slots:
        return None
    found = picked(Order.EMPTY, resting)
    return _to_update(_target(fleet, found), state, "has no Pods", takes_slot=False) if found is not None else None


def _to_update(each: Target, state: RolloutState, why: str, *, takes_slot: bool) -> Step:
    note = _note_before(each, state.update, state.current)
    if is_older(each.revision):  # a leader whose clock is behind is not to write one from before the restarts began
        note = replace(note, stepped=float(int(state.config_since)))
    return Step(workload=each.workload, revision=state.update, takes_slot=takes_slot, note=note, why=why)


def _note_before(each: Target, update: str | None, current: str | None) -> Note:
    """What to write down with the step to *update*: where the workload could go back to, and how it was.

    Of a rollout under way nothing is known to be good: what it had before that stays the way back. One that is being
    rolled back is on its way to just that, and so is one on its way back to *current*, which was rolled out completely:
    its author has gone back, or its owner has undone our step. One that its owner has changed on top of ours may be
    broken by that already.
    """
    if each.under_way and not each.new:
        goes_back = bool(each.note.failed) or (each.revision is not None and each.revision == current)
        before = (each.revision or "") if goes_back else each.note.previous
        previous = before if before != update else ""
        config = each.config if goes_back else each.note.config
        return Note(previous=previous, config=config, unhealthy_before=each.note.unhealthy_before or each.amended)
    # Never to have been available is to be unhealthy, be it because it is new.
    unhealthy = each.health is Health.UNHEALTHY
    return Note(previous=each.revision or "", config=each.config, unhealthy_before=unhealthy)


def _removal(state: RolloutState, fleet: Fleet, limits: _Limits, ahead: _Ahead) -> Step | None:
    """Take out what is there without being wanted; where that is held, only what its owner takes out themselves."""
    if not (waiting := fleet.queues(REMOVE)):
        return None
    held = bool(limits.held)
    free = fleet.slots + ahead.slots < limits.full
    within = fleet.removals_in_flight + ahead.removals < limits.removals
    for order in Order:
        if order is not Order.EMPTY and not (within and (free or order in HOLDERS)):
            continue
        found = [
            picked
            for (left, _), queue in waiting.get(order, _NO_QUEUES).items()
            if (left or not held) and (picked := _pick(queue, ahead)) is not None
        ]
        if found and not _waits_for_others(order, _target(fleet, min(found)), limits, ahead):
            return Step(
                workload=min(found).workload,
                revision=None,
                takes_slot=order is not Order.EMPTY,
                why="the policy is being deleted" if state.deleting else "no longer selected",
            )
    return None


def _pick(queue: Queue, ahead: _Ahead, closed: Callable[[str], bool] | None = None) -> Picked | None:
    return queue.pick(taken=ahead.steps, extra=ahead.load, closed=closed)


def _first(targets: Iterable[Target], ahead: _Ahead) -> Target | None:
    return next((each for each in targets if each.workload not in ahead.steps), None)


def _target(fleet: Fleet, picked: Picked) -> Target:
    found = fleet.get(picked.workload)
    assert found is not None
    return found


def _looks_again(state: RolloutState, fleet: Fleet) -> float | None:
    """When time alone changes something: a soak or a deadline ends, a namespace has been left alone for long enough."""
    moments = [each.until for each in state.backoffs.values() if each.waits(state.now)]
    if (moment := fleet.looks_again) is not None:
        moments.append(moment)
    return min(moments, default=None)
