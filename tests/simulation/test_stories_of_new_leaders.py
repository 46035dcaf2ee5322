"""Stories of what another process tells that has just begun to lead: what is, and nothing else."""

from __future__ import annotations

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import items
from sidecarpolicy.engine.resources import NAMESPACES
from tests.simulation.fleets import EVERYWHERE, a_world, an_updated_world, thirty, ticks
from tests.simulation.stories import Deployment, World, established
from tests.simulation.test_faults import QUICK, some
from tests.simulation.test_stories_of_owners import warned

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")


def restart(world: World) -> None:
    """Another process leads."""
    world.operator.stop()
    ticks(world, 6)
    assert world.operator.leading


def test_a_warning_that_was_mended_while_nobody_led_is_gone() -> None:
    """Of more Deployments than are looked at before the first report."""
    world = an_updated_world(thirty(revision="web-a"))
    world["app-05"].label(names.INJECT, "perhaps")
    world.run()
    assert "perhaps" in warned(world, "InvalidMark")
    world.operator.stop()
    world["app-05"].label(names.INJECT, None)
    ticks(world, 12)
    assert warned(world, "InvalidMark") == ""


def test_what_an_old_replica_set_bears_keeps_no_warning_back() -> None:
    """The policy has left it long ago; only what its controller keeps for `rollout undo` still shows that."""
    world = an_updated_world(some(3), QUICK)
    world["app-01"].label("team", "shop")
    world.run()
    world["app-01"].selected = False
    world.run()
    assert world["app-01"].revision is None
    restart(world)
    world.annotate(names.APPROVE, "everything")
    ticks(world, 3)
    assert "'everything'" in warned(world, "InvalidMark")


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


def test_a_cycle_that_another_policy_makes_is_told_whoever_leads() -> None:
    """The policy that has lower precedence came first; the one that came last closes the circle."""
    fleet = [established("app-01")]
    web = World(fleet, QUICK, update="web-a")
    web.spec = {"sidecars": [{"name": "proxy", "startAfter": ["log"], "container": {"image": "example.test/web:c"}}]}
    web.write_policy()
    ticks(web, 8)
    assert web.settled().startswith("RolloutComplete")
    sidecar = {"name": "log", "startAfter": ["proxy"], "container": {"image": "example.test/log:c"}}
    spec = {"priority": 10, "sidecars": [sidecar]}
    log = World([], QUICK, policy=LOG, update="log-a", name="log", cluster=web.cluster, spec=spec)
    ticks(log, 10)
    before = web.settled().partition(":")[0], log.settled().partition(":")[0]
    restart(web)
    assert (web.settled().partition(":")[0], log.settled().partition(":")[0]) == before
