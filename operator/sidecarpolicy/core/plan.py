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
from enum import StrEnum
from math import isinf

from sidecarpolicy.core import progress
from sidecarpolicy.core.checks import Refusal
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.workload import ReplicaSet, Workload, record_of
from sidecarpolicy.names import Strategy


class State(StrEnum):
    """Where a selected workload stands; every one is in exactly one state."""

    SKIPPED = "skipped"
    PENDING = "pending"
    PROGRESSING = "progressing"
    UPDATED = "updated"
    FAILED = "failed"


class Health(StrEnum):
    """Who is picked first; in this order."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One policy on one workload, at one moment.

    *revision*: what it bears now, None for nothing. *holds_slot*: the policy's rollout on it is in flight or soaking.
    *busy*: the owner's or another policy's rollout is in flight. *evidence*: it completed the update revision with
    running replicas. *looks_again*: when time alone changes its state (seconds since the epoch). *late_since*: when a
    failed one last made progress.
    """

    workload: WorkloadId
    state: State
    refusal: Refusal | None = None
    revision: str | None = None
    health: Health = Health.HEALTHY
    holds_slot: bool = False
    busy: bool = False
    new: bool = False
    evidence: bool = False
    available: bool = False
    looks_again: float | None = None
    late_since: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One workload moves to *revision* (None: what it has of the policy goes), for *why*.

    *joins*: it is new, and takes no slot. *orphans*: what it has stays, and belongs to its owner from now on.
    """

    workload: WorkloadId
    revision: str | None
    joins: bool = False
    orphans: bool = False
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a plan depends on.

    *update*: the revision to reach; None while none was ever accepted, or when the policy is being deleted. *tried*:
    it has been rolled out completely before. *current*: the last one that was, for new workloads. *assigned*: steps
    being written at this moment. *removing*: workloads that are not selected and still carry the policy. *orphaning*:
    the policy is being deleted and leaves its sidecars to the owners. *frozen*: nothing changes but new workloads.
    """

    policy: PolicyId
    rollout: Rollout
    update: str | None
    current: str | None = None
    tried: bool = False
    deleting: bool = False
    orphaning: bool = False
    frozen: bool = False
    targets: Sequence[Target] = ()
    removing: Sequence[Target] = ()
    assigned: frozenset[WorkloadId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps to take now, why the rest waits, and when to look again (seconds since the epoch)."""

    steps: tuple[Step, ...] = ()
    budget: int = 1
    in_flight: int = 0
    first_is_done: bool = False
    looks_again: float | None = None
    counts: dict[State, int] = field(default_factory=dict)


def target(
    policy: PolicyId,
    update: str | None,
    workload: Workload,
    replica_sets: Sequence[ReplicaSet],
    refusal: Refusal | None,
    *,
    rollout: Rollout,
    now: float,
) -> Target:
    """Return where *workload* stands with *policy*, whose update revision is *update*, at *now*."""
    entry = record_of(workload.record).entries.get(policy)
    revision = entry.revision if entry else None
    ours = progress.is_ours(workload, replica_sets, policy)
    arrived = progress.has_arrived(workload, replica_sets, policy)
    new = progress.is_new(workload, replica_sets)
    soaked = progress.soaked_at(workload, rollout.min_ready_seconds) if revision else 0.0
    under_way = ours and not arrived
    # What came to a new workload is part of the owner's own first rollout: it takes no slot and proves nothing.
    joined = bool(entry and entry.joined)
    soaking = ours and arrived and now < soaked and workload.replicas > 0 and not joined
    last = None
    if under_way and not joined:
        last = progress.last_progress(workload)
    elif soaking and isinf(soaked):  # it lost its availability while it was watched
        last = workload.available.changed
    deadline = last + rollout.progress_deadline_seconds if last is not None else None
    late = deadline is not None and now >= deadline
    return Target(
        workload=workload.id,
        state=_state(refusal, revision, update, under_way=under_way, soaking=soaking, late=late),
        refusal=refusal,
        revision=revision,
        health=_health(workload),
        holds_slot=(under_way or soaking) and not joined and workload.replicas > 0,
        busy=(joined or not under_way) and not (new and revision is None) and _is_moving(workload),
        new=new,
        evidence=arrived and not soaking and revision == update and workload.replicas > 0,
        available=revision is not None and workload.available.status == "True",
        looks_again=soaked if soaking and not isinf(soaked) else deadline if not late else None,
        late_since=last if late else None,
        message=(workload.progressing if under_way else workload.available).message if late else "",
    )


def _state(
    refusal: Refusal | None,
    revision: str | None,
    update: str | None,
    *,
    under_way: bool,
    soaking: bool,
    late: bool,
) -> State:
    if refusal is not None:
        return State.SKIPPED
    if late:
        return State.FAILED
    if (under_way or soaking) and (revision is not None or update is None):
        return State.PROGRESSING
    return State.UPDATED if revision == update and update is not None else State.PENDING


def _health(workload: Workload) -> Health:
    if workload.replicas == 0:
        return Health.EMPTY
    unhealthy = workload.available.status == "False" or workload.progressing.status == "False"
    return Health.UNHEALTHY if unhealthy else Health.HEALTHY


def _is_moving(workload: Workload) -> bool:
    """Whether a rollout that is not complete still goes on: neither given up nor paused by its owner."""
    return not progress.is_complete(workload) and workload.progressing.status != "False" and not workload.paused


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
    holding = {each.workload for each in everyone if each.holds_slot} - stuck | situation.assigned
    steps: list[Step] = []
    still = rollout.paused or situation.frozen
    if situation.orphaning:
        steps += _handovers(situation)
    elif update is not None and not situation.deleting:
        steps += _joining(situation)
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
        looks_again=min((each.looks_again for each in everyone if each.looks_again is not None), default=None),
        counts=counts,
    )


def _joining(situation: Situation) -> list[Step]:
    """New workloads get what has been rolled out completely before, at once: they serve nobody yet."""
    if situation.current is None:
        return []
    return [
        Step(workload=each.workload, revision=situation.current, joins=True, why="new workload")
        for each in _in_order(situation.targets)
        if each.new and each.revision is None and each.refusal is None and each.workload not in situation.assigned
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
    ]
    at_update = sum(each.holds_slot and each.revision == situation.update for each in situation.targets) + len(
        situation.assigned
    )
    why = "first one" if first else "next within the budget"
    steps: list[Step] = []
    taken = len(holding)
    for each in _in_order(each for each in waiting if each.health is not Health.EMPTY):
        if at_update >= budget:
            break
        if not each.holds_slot:
            if taken >= budget:
                continue
            taken += 1
        at_update += 1
        steps.append(Step(workload=each.workload, revision=situation.update, why=why))
    others = sum(each.health is not Health.EMPTY for each in waiting)
    proven = not first or all(each.health is Health.EMPTY for each in situation.targets if each.refusal is None)
    if len(steps) == others and proven:
        steps += [
            Step(workload=each.workload, revision=situation.update, why="has no Pods")
            for each in _in_order(each for each in waiting if each.health is Health.EMPTY)
        ]
    return steps


def _removals(situation: Situation, holding: set[WorkloadId], budget: int) -> list[Step]:
    leaving = [
        each
        for each in (*situation.removing, *(situation.targets if situation.deleting else ()))
        if each.revision is not None and each.workload not in situation.assigned and not each.busy
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
        if each.revision is not None and each.workload not in situation.assigned
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
