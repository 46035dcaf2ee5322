"""How far a rollout may go now: one canary group after the other, and then the rest.

A group is done when each of its workloads has the update revision, complete and soaked, or has failed (too many of
those halt the rollout by another rule) or needs nothing. Where none has it and one failed for reasons of its namespace
or another writer's, the group has proved nothing, and is waited for. Where its approval is Manual the rollout then
waits for the author's word.

A group given by a number has no list of members: those that have the revision, are getting it or had their turn come
first, and while they are fewer than the number, any other may be picked. So it keeps its members however many
Deployments come and go, and what stands is told from counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sidecarpolicy.core.approvals import approval_of
from sidecarpolicy.core.counting import MEMBER, STANDING, Standing
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.policy import CanaryGroup, share_of
from sidecarpolicy.core.progress import State
from sidecarpolicy.names import Approval

# One without Pods never proves anything, so a group need not wait for it.
UNSETTLED = frozenset({Standing.ARRIVING, Standing.WAITING})
DONE = frozenset({Standing.UPDATED, Standing.SKIPPED})
NOT_COUNTED = frozenset(
    {Standing.ROLLED_BACK_NOT_COUNTED, Standing.FAILED_NOT_COUNTED, Standing.ELSEWHERE_FAILED_NOT_COUNTED},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a rollout stands: in canary group *name*, or with the rest (empty).

    *open*: canary groups (empty: workloads of none) whose workloads may get the update revision now; None for all.
    *room*: how many more workloads of none. *done* of *size* workloads of the group have it. *awaits*: the approval
    without which it does not go on, empty for none.
    """

    name: str = ""
    open: frozenset[str] | None = None
    room: int = 0
    done: int = 0
    size: int = 0
    awaits: str = ""


def empty_groups(groups: Sequence[CanaryGroup], fleet: Fleet) -> tuple[str, ...]:
    """Return the groups whose selectors select none of the targets; where there are no targets none is."""
    found = {group for group, _ in fleet.tally(STANDING)}
    return tuple(each.name for each in groups if each.most is None and found and each.name not in found)


def stage_of(groups: Sequence[CanaryGroup], fleet: Fleet, update: str, approved: frozenset[str]) -> Stage:
    """Return where the rollout of *update* to *fleet* stands."""
    standings = fleet.tally(STANDING)
    pool = _standings(standings, "")
    considered = fleet.matched - fleet.counts[State.SKIPPED]
    first = 0
    open_: set[str] = set()
    room = 0
    for group in groups:
        if group.most is None:
            members = _standings(standings, group.name)
            open_.add(group.name)
        else:
            size = share_of(group.most, considered)
            members = _slice(pool, first, first + size)
            first += size
            open_ |= {"", MEMBER}
            room = first - sum(count for each, count in pool.items() if each < Standing.WAITING)
        stage = Stage(
            name=group.name,
            open=frozenset(open_),
            room=max(0, room),
            done=sum(members.get(each, 0) for each in DONE),
            size=sum(members.values()),
        )
        if not _is_settled(members):
            return stage
        approval = approval_of(group.name, update)
        if group.approval is Approval.MANUAL and approval not in approved:
            return replace(stage, awaits=approval)
    return Stage()


def _standings(standings: Mapping[tuple[str, Standing], int], group: str) -> dict[Standing, int]:
    return {each: count for each in Standing if (count := standings.get((group, each), 0))}


def _slice(pool: Mapping[Standing, int], start: int, stop: int) -> dict[Standing, int]:
    """The members *start* to *stop* of a pool, in the order of their standing."""
    found: dict[Standing, int] = {}
    begin = 0
    for standing in Standing:
        end = begin + pool.get(standing, 0)
        if (count := min(stop, end) - max(start, begin)) > 0:
            found[standing] = count
        begin = end
    return found


def _is_settled(members: Mapping[Standing, int]) -> bool:
    proven = members.get(Standing.UPDATED) or not any(each in members for each in NOT_COUNTED)
    return bool(proven) and not any(each in members for each in UNSETTLED)
