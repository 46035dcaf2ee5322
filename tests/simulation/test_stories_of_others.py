"""Stories of what happens besides a rollout: autoscalers, lost nodes, owners, quotas, another policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from tests.simulation.fleets import EVERYWHERE, LEFT, TENTH, an_updated_world, everywhere, tell, thirty, ticks
from tests.simulation.stories import World, established

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")


def test_an_autoscaler_and_a_lost_node_long_after_the_rollout_are_nothing_of_ours() -> None:
    world = an_updated_world()
    world.run()
    world.say("an autoscaler scales app-07, and app-11 loses a node")
    world["app-07"].scale(9)
    world["app-11"].lose_a_node()
    for _ in range(100):
        assert world.tick() == []
        assert world.counts() == {"updated": 30}
    tell(world, "scaled-and-a-node-lost-long-after")
    assert world.settled().startswith("RolloutComplete")


def test_what_loses_a_node_after_its_soak_is_taken_out_within_the_budget() -> None:
    """Its Pods are looked at; that makes no room for it while another is on its way."""
    rollout = replace(TENTH, max_concurrent=1, min_ready_seconds=10, progress_deadline_seconds=60)
    world = an_updated_world([established(f"app-{each}", revision="web-a", ticks=12) for each in range(3)], rollout)
    while not world.counts().get("updated"):
        world.tick()
    (first,) = (each for each in world.deployments if each.revision == "web-b" and each.complete)
    world.tick()
    world.say(f"{first.name} is to lose what it has, and loses a node")
    first.selected = False
    ticks(world, 2)
    first.lose_a_node()
    (second,) = world.in_flight
    while second in world.in_flight:
        assert first.revision == "web-b"
        world.tick()
    world.run()
    assert first.revision is None


def test_an_autoscaler_soon_after_the_rollout_changes_no_count_before_its_controller_has_seen_it() -> None:
    """A rollout of the owner's would show only then; a scaling never does."""
    world = an_updated_world()
    world.run()
    for replicas in (9, 3):
        world["app-07"].scale(replicas)
        world.cluster.loop.run_to(world.cluster.loop.now + 4)
        assert world.counts() == {"updated": 30}
        assert world.settled().startswith("RolloutComplete")
        ticks(world, 2)


def test_an_owners_own_bad_rollout_in_the_middle_is_not_counted() -> None:
    world = an_updated_world()
    ticks(world, 6)
    (untouched, *_) = (each for each in world.deployments if each.revision == "web-a")
    world.say(f"the owner of {untouched.name} rolls out something that never gets ready")
    untouched.bad_versions = frozenset({untouched.version + 1})
    untouched.hotfix()
    world.run()
    waiting = world.end()
    world.say(f"the owner of {untouched.name} mends it")
    untouched.hotfix()
    world.run()
    tell(world, "an-owners-own-bad-rollout")
    assert not world.halted
    assert {name for name, revision in waiting.items() if revision != "web-b"} <= {untouched.name}
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


def test_one_that_is_recreated_is_counted_like_any_other() -> None:
    deployments = thirty(revision="web-a")
    for each in deployments[:15]:
        each.recreates = True
    broken = next(each for each in deployments if each.name == "app-07")
    broken.breaks = frozenset({"web-b"})
    world = an_updated_world(deployments)
    world.run()
    tell(world, "recreated")
    assert world.settled().startswith("RolledBack")
    assert broken.revision == "web-a"
    assert all(each.complete for each in deployments)


def test_a_quota_in_one_namespace_of_a_cluster_policy_holds_back_that_namespace() -> None:
    deployments = [
        established(f"app-{number:02}", revision="web-a", namespace=namespace)
        for number, namespace in enumerate(["shop", "bank", "mail"] * 5)
    ]
    world = an_updated_world(deployments, replace(TENTH, max_concurrent=2), policy=EVERYWHERE)
    world.without_quota.add("bank")
    ticks(world, 150)
    bank = {each.name for each in deployments if each.namespace == "bank"}
    assert not world.halted, "it is the namespace's own trouble"
    assert {name for name, revision in world.end().items() if revision == "web-b"} == world.end().keys() - bank
    assert len(world.touched["web-b"] & bank) <= 3, "after ten minutes, and twenty, one is tried again"
    world.say("bank gets a larger quota")
    world.without_quota.clear()
    for _ in range(500):
        if world.settled().startswith("RolloutComplete"):
            break
        world.tick()
    tell(world, "a-quota-in-one-namespace")
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


@pytest.mark.parametrize("namespace", ["bank", "mail", "shop"])
def test_left_for_inspection_in_a_namespace_with_its_own_trouble_it_holds_nothing_up(namespace: str) -> None:
    """Wherever the first one would be: another is the first one, and the namespace is left alone for a while."""
    deployments = [
        established(f"app-{number:02}", revision="web-a", namespace=each)
        for number, each in enumerate(["shop", "bank", "mail"] * 3)
    ]
    world = an_updated_world(deployments, replace(LEFT, max_concurrent=1), policy=EVERYWHERE)
    world.without_quota.add(namespace)
    ticks(world, 150)
    there = {each.name for each in deployments if each.namespace == namespace}
    assert not world.halted, "it is the namespace's own trouble"
    updated = {name for name, revision in world.end().items() if revision == "web-b"}
    assert world.end().keys() - there <= updated
    assert len(updated & there) <= 3, "after ten minutes, and twenty, one is tried again"
    world.without_quota.clear()
    for _ in range(500):
        if world.settled().startswith("RolloutComplete"):
            break
        world.tick()
    assert everywhere(world, "web-b")


def test_two_policies_cross_without_meeting_on_a_deployment() -> None:
    deployments = [established(f"app-{number:02}", revision="web-a") for number in range(12)]
    web = an_updated_world(deployments, replace(TENTH, max_concurrent=2), name="web")
    log = World([], replace(TENTH, max_concurrent=3), policy=LOG, update="log-a", name="log", cluster=web.cluster)
    log.lines = web.lines
    for _ in range(200):
        web.cluster_tick()
        moved = [each.deployment for each in (*web.note(), *log.note())]
        assert len(moved) == len(set(moved)), "each rollout is one policy's"
        if all(world.settled().startswith("RolloutComplete") for world in (web, log)):
            break
    web.lines.append(log.transcript().splitlines()[-1])
    tell(web, "two-policies-cross")
    assert everywhere(web, "web-b")
    assert {each.bears("log") for each in deployments} == {"log-a"}
