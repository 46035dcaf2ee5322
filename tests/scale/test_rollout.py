"""A rollout over hundreds of Deployments: never over its budget, and its budget well used.

The nodes are simulated, so a Pod is ready at once; what a rollout takes is the Deployments' own `minReadySeconds`.
The policy's workloads need not soak: a slot that soaks is in use as well, and would only make this easier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pykube
import pytest

from tests.api.sampling import Samples, is_complete, revision_on, sampled
from tests.builders import a_deployment, a_policy
from tests.fleet import Fleet
from tests.polling import poll

pytestmark = pytest.mark.long

MANY = 300
BUDGET = 30
"""10 % of them."""
USED = 27
"""How many must be in flight at least, in the mean over the time from the first one's end to the last one's start."""
READY_SECONDS = 5
"""How long the Pods of each Deployment must have been ready before its rollout is complete."""


def test_the_budget_is_kept_and_used(
    fleet: Fleet, api: pykube.HTTPClient, record_property: Callable[[str, object], None]
) -> None:
    carts = [a_deployment(f"cart-{number:03}", fleet.namespace) for number in range(MANY)]
    for each in carts:
        each["spec"]["minReadySeconds"] = READY_SECONDS
    fleet.apply(*carts)
    poll(lambda: all(is_complete(each) for each in fleet.deployments().values()), timeout=180)
    with sampled(api, fleet.namespace) as samples:
        fleet.apply(a_policy("web", fleet.namespace, rollout={"maxConcurrent": "10%", "minReadySeconds": 0}))
        fleet.wait("RolloutComplete", timeout=300)
    policy = f"SidecarPolicy/{fleet.namespace}/web"
    spans = list(while_any_is_pending(samples, policy))
    seconds = sum(each for each, _ in spans)
    mean = sum(each * in_flight for each, in_flight in spans) / seconds
    record_property("Deployments, and the budget", f"{MANY}, {BUDGET}")
    record_property("seconds that each rollout takes at least", READY_SECONDS)
    record_property("most in flight", max(samples.in_flight()))
    record_property("mean in flight while any was pending, after the first", f"{mean:.1f}")
    record_property("seconds for that", f"{seconds:.0f}")
    record_property("states that were looked at", len(samples.lists))
    assert max(samples.in_flight()) <= BUDGET
    assert mean >= USED


def while_any_is_pending(samples: Samples, policy: str) -> Iterator[tuple[float, int]]:
    """From the first one's end to the last one's start: how long (seconds) how many were in flight."""
    first_is_done = False
    for ((began, deployments), (ended, _)), in_flight in zip(
        pairwise(samples.lists), samples.in_flight(), strict=False
    ):
        bears = [revision_on(each, policy) is not None for each in deployments]
        first_is_done |= any(it and is_complete(each) for it, each in zip(bears, deployments, strict=True))
        if first_is_done and not all(bears):
            yield ended - began, in_flight
