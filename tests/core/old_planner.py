"""The planner as it was when every plan walked over all targets: what the one that counts is held against.

It is slow and plain: it sorts all of them and takes what the budget allows.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from sidecarpolicy.core.approvals import approval_of, removal_approval
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.policy import CanaryGroup, Rollout, share_of
from sidecarpolicy.core.progress import Health, State, Target
from sidecarpolicy.core.record import NOTHING_NOTED, Note
from sidecarpolicy.names import Approval, OnFailure, Removal, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBack:
    """A namespace in which something failed for its own reasons.

    *until*: nothing is tried before (seconds since the epoch), and from then on one workload at a time. *seconds*: how
    long this wait is. *updated*: how many workloads there had the update revision by its end.
    """

    until: float
    seconds: float
    updated: int = 0


SETTLED = frozenset({State.UPDATED, State.FAILED, State.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class OldStage:
    """Where a rollout stands: in canary group *name*, or with the rest (empty).

    *open*: workloads that may get the update revision now. *done* of *size* workloads of the group have it. *awaits*:
    the approval without which it does not go on, empty for none.
    """

    name: str = ""
    open: frozenset[WorkloadId]
    done: int = 0
    size: int = 0
    awaits: str = ""


def stage_of(
    groups: Sequence[CanaryGroup], ordered: Sequence[Target], update: str, approved: frozenset[str]
) -> OldStage:
    """Return where the rollout of *update* to the targets stands; *ordered* is the order in which they are picked."""
    everyone = frozenset(each.workload for each in ordered)
    considered = sum(each.state is not State.SKIPPED for each in ordered)
    # Those that have it come first, then those that are getting it: the members of a group given by a number.
    pool = sorted((each for each in ordered if not each.group), key=lambda each: _distance(each, update))
    open_: frozenset[WorkloadId] = frozenset()
    for group in groups:
        if group.most is None:
            members = [each for each in ordered if each.group == group.name]
        else:
            size = share_of(group.most, considered)
            members, pool = pool[:size], pool[size:]
        open_ |= {each.workload for each in members}
        done = sum(each.state in (State.UPDATED, State.SKIPPED) for each in members)
        not_counted = any(each.state is State.FAILED and each.not_counted for each in members)
        proven = any(each.state is State.UPDATED for each in members) or not not_counted
        approval = approval_of(group.name, update)
        if not proven or any(not _is_settled(each) for each in members):
            return OldStage(name=group.name, open=open_, done=done, size=len(members))
        if group.approval is Approval.MANUAL and approval not in approved:
            return OldStage(name=group.name, open=open_, done=done, size=len(members), awaits=approval)
    return OldStage(open=everyone)


def _is_settled(each: Target) -> bool:
    """Whether a group need not wait for it: one without Pods never proves anything."""
    return each.state in SETTLED or each.health is Health.EMPTY


def _distance(each: Target, update: str) -> int:
    if each.state is State.SKIPPED:
        return 3
    if each.state is State.UPDATED or each.rolled_back:
        return 0
    return 1 if each.revision == update else 2


# In which order workloads are picked that hold no slot.
URGENCY = {health: place for place, health in enumerate(Health, start=1)}


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
class Unwritable:
    """The API server's words about a patch that it would not have, and when it is tried again (since the epoch)."""

    until: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a plan depends on.

    *update*: the revision to reach; None while none was ever accepted, or when the policy is being deleted. *tried*:
    it has been rolled out completely before. *current*: the last one that was, for new workloads. *assigned*: steps
    being written at this moment. *removing*: workloads that are not selected and still carry the policy. *orphaning*:
    the policy is being deleted and leaves its sidecars to the owners. *frozen*: nothing changes but new workloads.
    *attempt*: the `<revision>#<attempt>` under which failures are noted now. *halted*: the rollout is halted under it.
    *held_back*: namespaces whose own trouble made a workload fail; *now* (seconds since the epoch) tells which of them
    are left alone and which have one workload tried at a time. *stopped*: by
    the emergency switch; no workload is changed. *generation*: the policy's, for approvals; *approved*: what its author
    has approved. *unwritable*: workloads of which the API server would not have our last patch.
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
    now: float = 0.0
    held_back: Mapping[str, HoldBack] = field(default_factory=dict)
    stopped: bool = False
    generation: int = 0
    approved: frozenset[str] = frozenset()
    unwritable: Mapping[WorkloadId, Unwritable] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    removing: Sequence[Target] = ()
    assigned: frozenset[WorkloadId] = frozenset()

    @property
    def out_of_reach(self) -> AbstractSet[WorkloadId]:
        """Where no step is begun: one is being written, or the API server would not have the last."""
        return self.assigned | self.unwritable.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps to take now, why the rest waits, and when to look again (seconds since the epoch).

    *halts*: too many have failed, and the rollout is halted from now on, until the policy is edited or resumed.
    *stage*: how far the rollout may go now; None where no canary group holds it. *held*: the approval without which no
    more sidecars are taken out, empty where nothing waits for one.
    """

    steps: tuple[Step, ...] = ()
    budget: int = 1
    in_flight: int = 0
    first_is_done: bool = False
    halts: bool = False
    stage: OldStage | None = None
    held: str = ""
    looks_again: float | None = None
    counts: dict[State, int] = field(default_factory=dict)


def old_plan(situation: Situation) -> Plan:
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
    stuck |= {each.workload for each in situation.targets if each.failing and each.is_its_owners}
    holding = {each.workload for each in everyone if each.holds_slot} - stuck | situation.assigned
    halts = _exceeded(situation) and not situation.halted and not situation.deleting and not situation.stopped
    still = rollout.paused or situation.frozen or situation.halted or halts
    stage = _stage(situation)
    held = _held(situation)
    steps: list[Step] = []
    if situation.stopped:
        pass
    elif situation.orphaning:
        steps += _handovers(situation)
    else:
        if update is not None and not situation.deleting:
            steps += _joining(situation)
            steps += _turnings_back(situation)
            steps += _to_their_pins(situation, holding, full)
            if not still:
                taken = holding | _started(steps, situation)
                first = not free_of_first
                steps += _updates(situation, taken, stage, budget=1 if first else full, first=first)
        if situation.deleting or not still:
            steps += _removals(situation, holding | _started(steps, situation), full, held=bool(held))
    return Plan(
        steps=tuple(steps),
        budget=full if free_of_first or situation.deleting else 1,
        in_flight=len(holding),
        first_is_done=first_is_done,
        halts=halts,
        stage=stage,
        held=held,
        looks_again=_looks_again(situation),
        counts=counts,
    )


def _looks_again(situation: Situation) -> float | None:
    """When time alone changes something: a soak or a deadline ends, a namespace has been left alone for long enough."""
    moments = [each.looks_again for each in (*situation.targets, *situation.removing)]
    moments += [each.until for each in situation.held_back.values() if situation.now < each.until]
    moments += [each.until for each in situation.unwritable.values()]
    return min((each for each in moments if each is not None), default=None)


def _stage(situation: Situation) -> OldStage | None:
    """Going back to what was rolled out completely passes no canary group."""
    if not situation.rollout.canary or situation.update in (None, situation.current) or situation.deleting:
        return None
    assert situation.update is not None
    return stage_of(situation.rollout.canary, _in_order(situation.targets), situation.update, situation.approved)


def _held(situation: Situation) -> str:
    """The approval that a removal waits for: by the author's wish, or because too many of them are stuck."""
    stuck = sum(each.state is State.FAILED and not each.not_counted for each in situation.removing)
    waiting = any(each.recorded and not each.deselected_by_owner for each in situation.removing)
    if situation.orphaning or not waiting:
        return ""
    wanted = []
    if situation.rollout.removal is Removal.MANUAL:
        wanted.append(removal_approval(situation.generation))
    if stuck > situation.rollout.max_failures:
        wanted.append(removal_approval(situation.generation, stuck=True))
    return next((approval for approval in wanted if approval not in situation.approved), "")


def _started(steps: Iterable[Step], situation: Situation) -> set[WorkloadId]:
    """Those of *steps* that take a slot."""
    free = {each.workload for each in situation.targets if each.health is Health.EMPTY}
    return {each.workload for each in steps if not each.joins} - free


def _exceeded(situation: Situation) -> bool:
    return sum(each.counts for each in situation.targets) > situation.rollout.max_failures


def _turnings_back(situation: Situation) -> list[Step]:
    """A failed workload goes back to what it had, free of budget, whether or not the rollout goes on."""
    if situation.rollout.on_failure is OnFailure.HALT:
        return []
    out_of_reach = situation.out_of_reach
    return [
        Step(
            workload=each.workload,
            revision=each.note.previous or None,
            note=Note(failed=situation.attempt, not_counted=each.not_counted),
            why=f"{each.reason}: {each.message}",
        )
        for each in situation.targets
        if each.failing
        and each.revision == situation.update
        and not each.is_its_owners
        and each.skip is None
        and each.workload not in out_of_reach
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
        and each.skip is None
        and not each.rolled_back
        and not each.is_left_alone
        and each.workload not in situation.assigned
    ]


def _to_their_pins(situation: Situation, holding: set[WorkloadId], budget: int) -> list[Step]:
    """Those that their owners pin go where they are pinned, whatever becomes of the rollout."""
    steps: list[Step] = []
    taken, out_of_reach = len(holding), situation.out_of_reach
    for each in _in_order(each for each in situation.targets if each.pinned_to is not None):
        waits = each.busy or each.is_left_alone or each.workload in out_of_reach
        if each.pinned_to == each.revision or waits:
            continue
        joins = each.new and each.revision is None
        if not joins and each.health is not Health.EMPTY and each.workload not in holding:
            if taken >= budget:
                continue
            taken += 1
        why = "pinned by its owner"
        steps.append(Step(workload=each.workload, revision=each.pinned_to, joins=joins, why=why))
    return steps


def _updates(
    situation: Situation, holding: set[WorkloadId], stage: OldStage | None, *, budget: int, first: bool
) -> list[Step]:
    """Those in progress first (they hold a slot already), then the healthy, the unhealthy, and those without Pods."""
    joining = situation.current is not None
    resting = {namespace for namespace, each in situation.held_back.items() if situation.now < each.until}
    tried = {each.namespace for each in holding}
    waiting = [
        each
        for each in situation.targets
        if each.skip is None
        and each.revision != situation.update
        and not each.busy
        and not each.is_left_alone
        and each.workload not in situation.assigned
        and not (each.new and each.revision is None and joining)
        and not (each.rolled_back and not each.not_counted)
        and each.workload.namespace not in resting
        and (stage is None or each.workload in stage.open)
    ]
    moving = holding - situation.assigned
    at_update = sum(each.workload in moving and each.revision == situation.update for each in situation.targets)
    at_update += len(situation.assigned)
    why = "first one" if first else "next within the budget"
    if stage is not None and stage.name:
        why = f"{why} of canary group {stage.name!r}"
    steps: list[Step] = []
    taken = len(holding)
    for each in _in_order(each for each in waiting if each.health is not Health.EMPTY):
        if at_update >= budget:
            break
        if each.workload.namespace in situation.held_back.keys() & tried:
            continue  # one at a time, until one has completed
        if each.workload not in holding:
            if taken >= budget:
                continue
            taken += 1
        at_update += 1
        tried.add(each.workload.namespace)
        steps.append(_to_update(each, situation, why))
    others = sum(each.health is not Health.EMPTY for each in waiting)
    proven = not first or all(each.health is Health.EMPTY for each in situation.targets if each.skip is None)
    if len(steps) == others and proven:
        empty = _in_order(each for each in waiting if each.health is Health.EMPTY)
        steps += [_to_update(each, situation, "has no Pods") for each in empty]
    return steps


def _to_update(each: Target, situation: Situation, why: str) -> Step:
    note = _note_before(each, situation.update, situation.current)
    return Step(workload=each.workload, revision=situation.update, note=note, why=why)


def _note_before(each: Target, update: str | None, current: str | None) -> Note:
    """What to write down with the step to *update*: where the workload could go back to, and how it was.

    Of a rollout under way nothing is known to be good: what it had before that stays the way back. One that is being
    rolled back is on its way to just that, and so is one on its way back to *current*.
    """
    if each.under_way and not each.new:
        goes_back = each.note.failed or (each.revision is not None and each.revision == current)
        before = (each.revision or "") if goes_back else each.note.previous
        previous = before if before != update else ""
        return Note(previous=previous, unhealthy_before=each.note.unhealthy_before)
    # Never to have been available is to be unhealthy, be it because it is new.
    return Note(previous=each.revision or "", unhealthy_before=each.health is Health.UNHEALTHY)


def _removals(situation: Situation, holding: set[WorkloadId], budget: int, *, held: bool) -> list[Step]:
    """Take out what is there without being wanted; where that is *held*, only what its owner takes out himself."""
    out_of_reach = situation.out_of_reach
    leaving = [
        each
        for each in (*situation.removing, *(situation.targets if situation.deleting else ()))
        if each.recorded
        and each.workload not in out_of_reach
        and not each.busy
        and (each.deselected_by_owner or not held)
        if not each.is_left_alone
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
    out_of_reach = situation.out_of_reach
    return [
        Step(workload=each.workload, revision=None, orphans=True, why="the policy is being deleted and orphans them")
        for each in _in_order((*situation.targets, *situation.removing))
        if each.recorded and each.workload not in out_of_reach
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
    return 0 if each.holds_slot else URGENCY[each.health]


@lru_cache(maxsize=2**16)
def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
