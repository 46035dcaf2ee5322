"""Stories of what another process tells that has just begun to lead: what is, and nothing else."""

from __future__ import annotations

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import items
from sidecarpolicy.engine.resources import NAMESPACES
from tests.simulation.fleets import EVERYWHERE, a_world, ticks
from tests.simulation.stories import Deployment
from tests.simulation.test_faults import QUICK, some

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")


def test_a_namespace_that_has_not_been_seen_yet_is_not_guessed() -> None:
    """It was made a moment ago, by the same `kubectl apply`; its owner wants no sidecars there."""
    world = a_world(some(2, revision=None), QUICK, policy=EVERYWHERE)
    world.run()
    world.cluster.invariants.closed.add("fresh")
    seen = world.operator.hold(NAMESPACES)
    labels = {names.INJECT: "false"}
    world.server.create(NAMESPACES, "", {"metadata": {"name": "fresh", "labels": labels}})
    world.arrive(Deployment("late", namespace="fresh"))
    ticks(world, 3)
    assert world["late"].revision is None
    seen.set()
    world.operator.process.client.held.clear()
    ticks(world, 6)
    assert [each["reason"] for each in items(world.status, "skipped")] == ["OptedOut"]
