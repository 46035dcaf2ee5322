"""Targets as they may stand, and fleets and rollouts made of them: for property tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from sidecarpolicy.core.approvals import removal_approval
from sidecarpolicy.core.field_conflicts import FieldConflict
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import RolloutState
from sidecarpolicy.core.policy import CanaryGroup, Rollout
from sidecarpolicy.core.progress import Backoff, Health, State, Target, in_conflict
from sidecarpolicy.core.record import Note
from sidecarpolicy.core.selection import Operator, Requirement, Selector
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.names import Approval, OnFailure, Removal, SkipReason, Strategy
from tests.core.objects import START, WEB

TENTH = Rollout(max_concurrent=0.1, min_ready_seconds=10, progress_deadline_seconds=300)
BY_TIER = Selector(requirements=(Requirement(key="tier", operator=Operator.IN, values=frozenset({"canary"})),))
UPDATE, BEFORE = "web-b", "web-a"
CONFLICT = FieldConflict(by="'helm'", what="init container 'proxy'", times=3, until=START + 600, waits=True)
PUT_BACK = replace(CONFLICT, waits=False, put_back=True)
REFUSED = Skip(reason=SkipReason.OPTED_OUT, message="it has the label")
PINNED = Skip(reason=SkipReason.PINNED, message="it is pinned", pinned_to="web-0")
TIER = CanaryGroup(name="tier", selector=BY_TIER)
NOBODY = CanaryGroup(name="nobody", selector=BY_TIER)
SOME = CanaryGroup(name="some", most=0.4, approval=Approval.MANUAL)
IDS = [WorkloadId(namespace=namespace, name=f"app-{number}") for namespace in ("shop", "bank") for number in range(6)]


class Everything:
    """Holds every revision."""

    def __contains__(self, name: object) -> bool:
        return True


def a_fleet(update: str | None, targets: Iterable[Target] = (), removing: Iterable[Target] = ()) -> Fleet:
    """A fleet built from nothing."""
    fleet = Fleet(update)
    for each in targets:
        fleet.put(each, wanted=True)
    for each in removing:
        fleet.put(each, wanted=False)
    return fleet


def rarely(draw: st.DrawFn, odds: int = 7) -> bool:
    """True for one in so many."""
    return draw(st.integers(0, odds)) == 0


@st.composite
def targets(draw: st.DrawFn, workload: WorkloadId | None = None, *, wanted: bool = True) -> Target:
    """A target as `target` could return it, of a policy whose update revision is web-b."""
    health = draw(st.sampled_from([Health.HEALTHY, Health.HEALTHY, Health.UNHEALTHY, Health.EMPTY]))
    revision = draw(st.sampled_from([None, BEFORE, BEFORE, UPDATE, UPDATE]))
    new = health is not Health.EMPTY and rarely(draw)
    phase = draw(st.sampled_from(["rests", "rests", "moves", "moves", "fails", "busy", "rolled back"]))
    fields: dict[str, Any] = {}
    populated = health is not Health.EMPTY
    moves = phase in ("moves", "fails")
    if phase == "rolled back" and (revision == UPDATE or not wanted):
        phase = "rests"
    failing = phase == "fails" and (wanted or revision is None)
    skip = draw(st.sampled_from([None] * 6 + [REFUSED, PINNED])) if wanted else None
    if skip is not None:
        state = State.SKIPPED
    elif failing or phase == "rolled back":
        state = State.FAILED
    elif moves and revision is not None:
        state = State.PROGRESSING
    else:
        state = State.UPDATED if revision == UPDATE else State.PENDING
    if failing:
        fields |= {"late_since": START + draw(st.integers(0, 3)), "reason": "Late", "message": draw(st.text("x"))}
    each = Target(
        workload=workload or draw(st.sampled_from(IDS)),
        state=state,
        skip=skip,
        revision=revision,
        health=health,
        holds_slot=moves and populated,
        busy=phase == "busy" and not (new and revision is None),
        new=new,
        evidence=state is State.UPDATED and populated and draw(st.booleans()),
        available=revision is not None and draw(st.booleans()),
        looks_again=draw(st.sampled_from([None, None, START + 10, START + 20])),
        recorded=revision is not None or (phase == "rests" and rarely(draw)),
        note=Note(
            previous=draw(st.sampled_from(["", BEFORE])),
            unhealthy_before=rarely(draw),
            failed=f"{UPDATE}#1" if phase == "rolled back" else "",
        ),
        failing=failing,
        rolled_back=phase == "rolled back",
        suspect=new and rarely(draw),
        under_way=moves,
        not_counted=state is State.FAILED and rarely(draw, 3),
        outdated=failing and revision != UPDATE,
        group=draw(st.sampled_from(["", "", "tier"])),
        pinned_to="web-0" if skip is PINNED else None,
        deselected_by_owner=not wanted and rarely(draw),
        **fields,
    )
    if rarely(draw):
        return in_conflict(each, draw(st.sampled_from([CONFLICT, PUT_BACK])))
    return each


@st.composite
def lots(draw: st.DrawFn, ids: list[WorkloadId] = IDS, *, wanted: bool = True) -> list[Target]:
    """Targets of different workloads."""
    chosen = draw(st.lists(st.sampled_from(ids), unique=True))
    return [draw(targets(each, wanted=wanted)) for each in chosen]


@st.composite
def rollouts(draw: st.DrawFn, *, canary: bool = True) -> Rollout:
    """A rollout by any rules."""
    return Rollout(
        strategy=draw(st.sampled_from([Strategy.PROGRESSIVE] * 4 + [Strategy.ALL_AT_ONCE])),
        max_concurrent=draw(st.sampled_from([0.1, 0.5, 1, 2, 4])),
        max_failures=draw(st.sampled_from([0, 1, 2, 9])),
        on_failure=draw(st.sampled_from(OnFailure)),
        paused=rarely(draw),
        canary=draw(st.sampled_from([(), (TIER,), (TIER, SOME), (SOME,), (NOBODY,)])) if canary else (),
        removal=draw(st.sampled_from(Removal)),
    )


@st.composite
def states(draw: st.DrawFn, *, canary: bool = True) -> RolloutState:
    """A rollout of web-b at any moment."""
    deleting = rarely(draw)
    return RolloutState(
        policy=WEB,
        rollout=draw(rollouts(canary=canary)),
        update=UPDATE,
        current=draw(st.sampled_from([None, BEFORE, BEFORE, UPDATE])),
        stored=Everything(),
        tried=draw(st.booleans()),
        deleting=deleting,
        orphaning=deleting and draw(st.booleans()),
        frozen=rarely(draw),
        attempt=f"{UPDATE}#1",
        halted=rarely(draw),
        now=START,
        stopped=rarely(draw, 15),
        generation=3,
        approved=frozenset(draw(st.sets(st.sampled_from(["canary/some@web-b", removal_approval(3)])))),
        removal_proven=True,
    )


def backing_off(each: Target) -> Target:
    """One of which a write failed."""
    return replace(each, backoff=Backoff(until=START + 5, message="no", rejected=False))
