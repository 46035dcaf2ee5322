"""Where a rollout is at this moment: which group or step, who is on the way or watched, and what is left.

A status counts; this is computed from the cluster's objects by the same functions as the operator's plan, and only
where that costs a person no long wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import click

from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.snapshot import Snapshot, needs_namespaces, snapshot
from sidecarpolicy.cli.standing import Standing
from sidecarpolicy.cli.text import age, plural
from sidecarpolicy.core.diagnosis import PROGRESS_DEADLINE
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.plan import Plan, plan
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.engine.pods import examine
from sidecarpolicy.engine.policy_pass import rollout_state
from sidecarpolicy.engine.port import ApiError
from sidecarpolicy.names import Strategy

MOST_TARGETS = 1000
MOST_LINES = 5


def whereabouts(asked: Asked, each: Standing, served: Sequence[str]) -> list[str]:
    """Return lines about the rollout of a policy; none where there are too many targets, or rights are missing."""
    if each.count("matched") > MOST_TARGETS:
        return []
    try:
        found = snapshot(asked, each.policy, served)
        cached = found.context.cache.policies.get(each.policy)
        if cached is None or cached.policy is None or (needs_namespaces(cached) and found.notes):
            return []
        fleet = found.fleet(cached)
        state = rollout_state(cached, found.context.memory.of_policy(each.policy), found.context)
        return list(_lines(found, fleet, plan(state, fleet), state.rollout))
    except (ApiError, click.ClickException):
        return []  # the status itself has been told; this is only more of it


def _lines(found: Snapshot, fleet: Fleet, now: Plan, rollout: Rollout) -> Iterator[str]:
    moving = [target for target in (*fleet.targets, *fleet.removing) if target.holds_slot]
    yield f"step: {_step(fleet, now, rollout)}"
    for target in moving[:MOST_LINES]:
        yield f"  {target.workload}: {doing(found, target, rollout)}"
    if len(moving) > MOST_LINES:
        yield f"  and {len(moving) - MOST_LINES} more"


def _step(fleet: Fleet, now: Plan, rollout: Rollout) -> str:
    left = now.counts.get(State.PENDING, 0)
    limit = f"{now.in_flight} of at most {now.budget} at a time"
    after = f", {plural(left, 'Deployment')} to go" if left else ""
    if now.stage is not None and now.stage.name:
        return f"canary group {now.stage.name!r}, {now.stage.done} of {now.stage.size} done; {limit}{after}"
    if rollout.strategy is Strategy.ON_NEXT_CHANGE and left and not fleet.removing_count:
        moving = now.counts.get(State.PROGRESSING, 0)
        return f"{moving} on the way, {left} to go, each with its owner's next change of the Pod template"
    if not now.first_is_done and left:
        return f"one goes first, the others wait for it{after}"
    if fleet.removing_count and not now.counts.get(State.PROGRESSING):
        return f"removal, {plural(fleet.removing_count, 'Deployment')} to go; {limit}"
    return f"{limit}{after}"


def doing(found: Snapshot, target: Target, rollout: Rollout) -> str:
    """Say what the rollout of *target*, which holds a slot, waits for at this moment; asks for its Pods."""
    left = (target.looks_again or 0.0) - found.context.now()
    if not target.under_way:
        soak = rollout.min_ready_seconds
        watched = min(soak, max(0.0, soak - left))
        return f"complete, watched {watched:.0f} of {soak} s"
    workload = found.context.cache.workloads[target.workload]
    why = ""
    try:
        diagnosis = asyncio.run(examine(workload, found.api, found.context))
        why = diagnosis.message if diagnosis.reason != PROGRESS_DEADLINE else ""
    except ApiError:
        pass  # without the right to list Pods it is not known
    fails = f"; fails in {age(left)} if nothing moves" if left > 0 else ""
    return f"waits for its Pods{': ' + why if why else ''}{fails}"
