"""How far a rollout may go now: one canary group after the other, and then the rest.

A group is done when each of its workloads has the update revision, complete and soaked, or has failed (too many of
those halt the rollout by another rule) or needs nothing. Where none has it and one failed for reasons of its namespace
or another writer's, the group has proved nothing, and is waited for. Where its approval is Manual the rollout then
waits for the author's word. Membership is read anew from the targets each time: workloads that have the revision
already are counted first, so a group given by a number keeps its members however many Deployments come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.policy import CanaryGroup, share_of
from sidecarpolicy.core.targets import Health, State, Target
from sidecarpolicy.names import Approval

SETTLED = frozenset({State.UPDATED, State.FAILED, State.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a rollout stands: in canary group *name*, or with the rest (empty).

    *open*: workloads that may get the update revision now. *done* of *size* workloads of the group have it. *awaits*:
    the approval without which it does not go on, empty for none.
    """

    name: str = ""
    open: frozenset[WorkloadId]
    done: int = 0
    size: int = 0
    awaits: str = ""


def approval_of(group: str, revision: str) -> str:
    """How an approval of canary group *group* at *revision* is spelt."""
    return f"canary/{group}@{revision}"


def stage_of(groups: Sequence[CanaryGroup], ordered: Sequence[Target], update: str, approved: frozenset[str]) -> Stage:
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
        excused = any(each.state is State.FAILED and each.excused for each in members)
        proven = any(each.state is State.UPDATED for each in members) or not excused
        approval = approval_of(group.name, update)
        if not proven or any(not _is_settled(each) for each in members):
            return Stage(name=group.name, open=open_, done=done, size=len(members))
        if group.approval is Approval.MANUAL and approval not in approved:
            return Stage(name=group.name, open=open_, done=done, size=len(members), awaits=approval)
    return Stage(open=everyone)


def _is_settled(each: Target) -> bool:
    """Whether a group need not wait for it: one without Pods never proves anything."""
    return each.state in SETTLED or each.health is Health.EMPTY


def _distance(each: Target, update: str) -> int:
    if each.state is State.SKIPPED:
        return 3
    if each.state is State.UPDATED or each.turned_back:
        return 0
    return 1 if each.revision == update else 2
