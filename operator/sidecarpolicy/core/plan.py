"""Which workloads may change now: a pure function of a policy, its revisions, its targets and the time.

Every change of a template is a planned step under a budget. One workload goes first; when it has completed the
revision and soaked, a few at a time follow. A workload that does not complete keeps its slot, at whichever revision,
so a bad revision never reaches more workloads than the budget, and an edit half-way frees nothing. Nothing is
remembered between plans: a restart changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.record import NOTHING_NOTED, Note
from sidecarpolicy.core.targets import Health, State, Target
from sidecarpolicy.names import OnFailure, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One workload moves to *revision* (None: what it has of the policy goes), for *why*.

    *joins*: it is new, and takes no slot. *orphans*: what it has stays, and belongs to its owner from now on.
    """

    workload: WorkloadId
    revision: str | None
    joins: bool = False
    orphans: bool = False
    note: Note = NOTHING_NOTED
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a plan depends on.

    *update*: the revision to reach; None while none was ever accepted, or when the policy is being deleted. *tried*:
    it has been rolled out completely before. *current*: the last one that was, for new workloads. *assigned*: steps
    being written at this moment. *removing*: workloads that are not selected and still carry the policy. *orphaning*:
    the policy is being deleted and leaves its sidecars to the owners. *frozen*: nothing changes but new workloads.
    *attempt*: the `<revision>#<attempt>` under which failures are noted now. *halted*: the rollout is halted under it.
    *held_back*: namespaces whose own trouble made a workload fail, where nothing is tried for a while.
    """

    policy: PolicyId
    rollout: Rollout
    update: str | None
    current: str | None = None
    tried: bool = False
    deleting: bool = False
    orphaning: bool = False
    frozen: bool = False
    attempt: str = ""
    halted: bool = False
    held_back: frozenset[str] = frozenset()
    targets: Sequence[Target] = ()
    removing: Sequence[Target] = ()
    assigned: frozenset[WorkloadId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps to take now, why the rest waits, and when to look again (seconds since the epoch).

    *halts*: too many have failed, and the rollout is halted from now on, until the policy is edited or resumed.
    """

    steps: tuple[Step, ...] = ()
    budget: int = 1
    in_flight: int = 0
    first_is_done: bool = False
    halts: bool = False
    looks_again: float | None = None
    counts: dict[State, int] = field(default_factory=dict)


def plan(situation: Situation) -> Plan:
    """Return what may change now."""
    rollout, update = situation.rollout, situation.update
    counts = {state: sum(each.state is state for each in situation.targets) for state in State}
    everyone = [*situation.targets, *situation.removing]
    first_is_done = situation.tried or any(each.evidence for each in situation.targets)
    workloads = len(situation.targets) - counts[State.SKIPPED] + len(situation.removing)
    full = workloads if rollout.strategy is Strategy.ALL_AT_ONCE else rollout.budget(workloads)
    full = max(1, full)
    free_of_first = first_is_done or rollout.strategy is Strategy.ALL_AT_ONCE
    # A removal that makes no progress is never undone; it frees its slot.
    stuck = {each.workload for each in situation.removing if each.state is State.FAILED}
    # So does one that was unhealthy before we came: its failure is not ours.
    stuck |= {each.workload for each in situation.targets if each.failing and each.note.unhealthy_before}
    holding = {each.workload for each in everyone if each.holds_slot} - stuck | situation.assigned
    halts = _exceeded(situation) and not situation.halted and not situation.deleting
    steps: list[Step] = []
    still = rollout.paused or situation.frozen or situation.halted or halts
    if situation.orphaning:
        steps += _handovers(situation)
    elif update is not None and not situation.deleting:
        steps += _joining(situation)
        steps += _turnings_back(situation)
        if not still:
            steps += _updates(situation, holding, budget=full if free_of_first else 1, first=not free_of_first)
    if not situation.orphaning and (situation.deleting or not still):
        free = {each.workload for each in situation.targets if each.health is Health.EMPTY}
        started = {each.workload for each in steps if not each.joins} - free
        steps += _removals(situation, holding | started, full)
    return Plan(
        steps=tuple(steps),
        budget=full if free_of_first or situation.deleting else 1,
        in_flight=len(holding),
        first_is_done=first_is_done,
        halts=halts,
        looks_again=min((each.looks_again for each in everyone if each.looks_again is not None), default=None),
        counts=counts,
    )


def _exceeded(situation: Situation) -> bool:
    return sum(each.counts for each in situation.targets) > situation.rollout.max_failures


def _turnings_back(situation: Situation) -> list[Step]:
    """A failed workload goes back to what it had, free of budget, whether or not the rollout goes on."""
    if situation.rollout.on_failure is OnFailure.HALT:
        return []
    return [
        Step(
            workload=each.workload,
            revision=each.note.previous or None,
            note=Note(failed=situation.attempt, excused=each.excused),
            why=f"turned back, {each.reason}: {each.message}",
        )
        for each in situation.targets
        if each.failing
        and each.revision == situation.update
        and not each.note.unhealthy_before
        and each.refusal is None
        and each.workload not in situation.assigned
    ]


def _joining(situation: Situation) -> list[Step]:
    """New workloads get what has been rolled out completely before, at once: they serve nobody yet."""
    if situation.current is None:
        return []
    return [
        Step(workload=each.workload, revision=situation.current, joins=True, why="new workload")
        for each in _in_order(situation.targets)
        if each.new
        and each.revision is None
        and each.refusal is None
        and not each.turned_back
        and each.workload not in situation.assigned
    ]


def _updates(situation: Situation, holding: set[WorkloadId], *, budget: int, first: bool) -> list[Step]:
    """Those in progress first (they hold a slot already), then the healthy, the unhealthy, and those without Pods."""
    joining = situation.current is not None
    waiting = [
        each
        for each in situation.targets
        if each.refusal is None
        and each.revision != situation.update
        and not each.busy
        and each.workload not in situation.assigned
        and not (each.new and each.revision is None and joining)
        and not (each.turned_back and not each.excused)
        and each.workload.namespace not in situation.held_back
    ]
    moving = holding - situation.assigned
    at_update = sum(each.workload in moving and each.revision == situation.update for each in situation.targets)
    at_update += len(situation.assigned)
    why = "first one" if first else "next within the budget"
    steps: list[Step] = []
    taken = len(holding)
    for each in _in_order(each for each in waiting if each.health is not Health.EMPTY):
        if at_update >= budget:
            break
        if each.workload not in holding:
            if taken >= budget:
                continue
            taken += 1
        at_update += 1
        steps.append(
            Step(workload=each.workload, revision=situation.update, note=_note_before(each, situation.update), why=why)
        )
    others = sum(each.health is not Health.EMPTY for each in waiting)
    proven = not first or all(each.health is Health.EMPTY for each in situation.targets if each.refusal is None)
    if len(steps) == others and proven:
        steps += [
            Step(
                workload=each.workload,
                revision=situation.update,
                note=_note_before(each, situation.update),
                why="has no Pods",
            )
            for each in _in_order(each for each in waiting if each.health is Health.EMPTY)
        ]
    return steps


def _note_before(each: Target, update: str | None) -> Note:
    """What to write down with the step to *update*: where the workload could go back to, and how it was.

    Of a rollout under way nothing is known to be good: what it had before that stays the way back. One that is being
    turned back is on its way to just that.
    """
    if each.under_way and not each.new:
        before = (each.revision or "") if each.note.failed else each.note.previous
        previous = before if before != update else ""
        return Note(previous=previous, unhealthy_before=each.note.unhealthy_before)
    # A new workload is not unhealthy: it is not there yet.
    return Note(previous=each.revision or "", unhealthy_before=each.health is Health.UNHEALTHY and not each.new)


def _removals(situation: Situation, holding: set[WorkloadId], budget: int) -> list[Step]:
    leaving = [
        each
        for each in (*situation.removing, *(situation.targets if situation.deleting else ()))
        if each.recorded and each.workload not in situation.assigned and not each.busy
    ]
    steps: list[Step] = []
    taken = len(holding)
    why = "the policy is being deleted" if situation.deleting else "no longer selected"
    for each in _in_order(leaving):
        if each.health is not Health.EMPTY and each.workload not in holding:
            if taken >= budget:
                continue
            taken += 1
        steps.append(Step(workload=each.workload, revision=None, why=why))
    return steps


def _handovers(situation: Situation) -> list[Step]:
    """No template changes, so there is no budget."""
    return [
        Step(workload=each.workload, revision=None, orphans=True, why="the policy is being deleted and orphans them")
        for each in _in_order((*situation.targets, *situation.removing))
        if each.recorded and each.workload not in situation.assigned
    ]


def _in_order(targets: Iterable[Target]) -> list[Target]:
    """Sort for picking: holders of a slot, healthy, unhealthy, empty; each spread over namespaces by a stable hash."""
    by_namespace: dict[str, list[Target]] = defaultdict(list)
    for each in sorted(targets, key=lambda each: (_urgency(each), _hash(str(each.workload)))):
        by_namespace[each.workload.namespace].append(each)
    spread = [
        (_urgency(each), place, _hash(namespace), each.workload, each)
        for namespace, members in by_namespace.items()
        for place, each in enumerate(members)
    ]
    return [entry[-1] for entry in sorted(spread, key=lambda entry: entry[:4])]


def _urgency(each: Target) -> int:
    return 0 if each.holds_slot else 1 + list(Health).index(each.health)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
