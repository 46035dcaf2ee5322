"""Stories of what people decide while a rollout goes on: canary groups, approvals, pins, the emergency switch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sidecarpolicy.core.policy import CanaryGroup
from sidecarpolicy.names import Approval, Removal
from tests.simulation.fleets import (
    CANARY,
    EARLY,
    EVERYWHERE,
    TENTH,
    an_updated_world,
    bad,
    everywhere,
    tell,
    thirty,
    ticks,
)
from tests.simulation.stories import Deployment, World, established


def a_tiered_world(*groups: CanaryGroup, namespace: str = "shop", **behaviour: Any) -> World:
    """A world that runs web-a, of which four Deployments are canaries (in *namespace*); web-b has just been written."""
    deployments = thirty(revision="web-a", **behaviour)
    for each in deployments[10:14]:
        each.tier, each.namespace = "canary", namespace
    fields: dict[str, Any] = {"policy": EVERYWHERE} if namespace != "shop" else {}
    return an_updated_world(deployments, replace(TENTH, canary=groups), **fields)


def carrying(world: World, revision: str) -> set[str]:
    """The names of those that bear *revision*."""
    return {name for name, found in world.end().items() if found == revision}


def test_canary_groups_go_one_after_the_other() -> None:
    world = a_tiered_world(CANARY, CanaryGroup(name="early", most=0.2))
    canaries = {each.name for each in world.deployments if each.tier}
    seen: list[set[str]] = []
    while world.current != "web-b":
        before = carrying(world, "web-b")
        world.tick()
        updated = world.counts().get("updated", 0)
        seen.append(carrying(world, "web-b"))
        assert updated >= 4 or seen[-1] <= canaries
        assert updated >= 4 + 6 or len(seen[-1] - canaries) <= 6
        assert before <= seen[-1]
    tell(world, "canary-groups")
    assert world.most_in_flight == 3


def test_a_group_waits_for_its_approval() -> None:
    world = a_tiered_world(CANARY, EARLY)
    world.run()
    assert len(carrying(world, "web-b")) == 4 + 6
    assert world.settled().startswith("AwaitingApproval")
    world.approve("canary/canary@web-b")
    world.run()
    assert len(carrying(world, "web-b")) == 4 + 6, "another group's approval is not this one's"
    world.approve("canary/early@web-b")
    world.run()
    tell(world, "approved-after-a-group")
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


def test_an_approval_of_another_revision_approves_nothing() -> None:
    world = a_tiered_world(EARLY)
    world.approve("canary/early@web-a")
    world.run()
    assert world.settled().startswith("AwaitingApproval")
    assert len(carrying(world, "web-b")) == 6


def test_a_failing_canary_never_reaches_the_rest() -> None:
    world = a_tiered_world(CANARY, breaks=frozenset({"web-b"}))
    world.run()
    tell(world, "a-failing-canary")
    assert everywhere(world, "web-a")
    assert {world[name].tier for name in world.touched["web-b"]} == {"canary"}
    assert world.settled().startswith("RolledBack")


def test_back_to_the_old_spec_passes_no_group() -> None:
    world = a_tiered_world(CANARY, EARLY)
    world.run()
    world.say("the author goes back to web-a")
    world.edit("web-a")
    world.run()
    tell(world, "back-from-a-canary")
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolloutComplete")


def test_deployments_that_come_and_go_do_not_grow_a_group_of_six() -> None:
    world = an_updated_world(
        rollout=replace(TENTH, canary=(CanaryGroup(name="early", most=6, approval=Approval.MANUAL),))
    )
    world.run()
    assert len(carrying(world, "web-b")) == 6
    world.arrive(*(established(f"aaa-{number}", revision="web-a") for number in range(5)))
    world.run()
    assert len(carrying(world, "web-b")) == 6
    world.leave(world[min(carrying(world, "web-b"))])
    world.run()
    assert len(carrying(world, "web-b")) == 6, "another takes the place of the one that went"


def test_an_empty_group_still_asks() -> None:
    world = an_updated_world(rollout=replace(TENTH, canary=(replace(CANARY, approval=Approval.MANUAL),)))
    world.run()
    assert everywhere(world, "web-a")
    assert "canary group 'canary' selects no workload" in world.settled()


def test_a_removal_is_held_until_it_is_approved() -> None:
    world = an_updated_world(rollout=replace(TENTH, removal=Removal.MANUAL))
    world.edit("web-a")
    for each in world.deployments[:6]:
        each.selected = False
    world.run()
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RemovalHeld")
    now = world.generation
    world.approve(f"removal@{now - 1}")
    world.run()
    assert everywhere(world, "web-a"), "another generation's approval is not this one's"
    world.approve(f"removal@{now}")
    world.run()
    tell(world, "a-removal-held-and-approved")
    assert len(carrying(world, "web-a")) == 24
    assert world.settled().startswith("RolloutComplete")


def test_a_deletion_is_held_until_it_is_approved() -> None:
    world = an_updated_world(rollout=replace(TENTH, removal=Removal.MANUAL, paused=True))
    world.say("the author deletes the policy")
    world.delete()
    world.run()
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RemovalHeld")
    world.approve(f"removal@{world.generation}")
    world.run()
    tell(world, "a-deletion-held-and-approved")
    assert everywhere(world, None)


def test_what_an_owner_takes_out_himself_is_not_held() -> None:
    world = an_updated_world(rollout=replace(TENTH, removal=Removal.MANUAL))
    world.edit("web-a")
    world["app-05"].leave_selection()
    world.run()
    assert world["app-05"].revision is None
    assert world.settled().startswith("RolloutComplete")


def test_removals_that_are_stuck_hold_the_rest() -> None:
    world = an_updated_world(thirty(revision="web-a", breaks=frozenset({""})))
    world.delete()
    world.run()
    stuck = {each.name for each in world.deployments if each.revision is None}
    assert 1 <= len(stuck) <= 3, "no more than were on the way when the first was late"
    assert world.settled().startswith("RemovalHeld")
    world.approve(f"removal@{world.generation}")
    world.run()
    assert world.settled().startswith("RemovalHeld"), "that is about removing, not about going on"
    world.approve(f"removal@{world.generation}#stuck")
    world.run()
    tell(world, "removals-that-are-stuck")
    assert everywhere(world, None)


def test_pinned_ones_go_where_they_are_pinned_and_stay() -> None:
    world = an_updated_world(known=["web-0"])
    for name in ("app-03", "app-09"):
        world[name].pinned_to = "web-a"
    world["app-20"].pinned_to = "web-0"
    world.rollout = replace(world.rollout, paused=True)
    world.run()
    assert carrying(world, "web-0") == {"app-20"}, "its owner's word counts while the policy is paused"
    world.rollout = replace(world.rollout, paused=False)
    world.run()
    assert carrying(world, "web-a") == {"app-03", "app-09"}
    assert world.settled().startswith("RolloutComplete")
    world.say("their owner takes the pin off app-03")
    world["app-03"].pinned_to = None
    world.run()
    tell(world, "pinned")
    assert carrying(world, "web-a") == {"app-09"}


def test_a_new_workload_that_is_pinned_joins_at_its_pin() -> None:
    world = an_updated_world(known=["web-0"])
    world.arrive(Deployment("new", pinned_to="web-0"))
    world.tick()
    assert world["new"].revision == "web-0"
    assert world["new"].joined


def test_the_emergency_switch_stops_everything() -> None:
    world = an_updated_world(bad())
    ticks(world, 2)
    stopped = world.end()
    world.say("somebody stops everything")
    world.stopped = True
    world.arrive(Deployment("new"))
    world.run()
    assert world.end() == stopped | {"new": None}
    assert world.settled().startswith("Stopped")
    assert not world.halted
    world.say("and lets it go on")
    world.stopped = False
    world.run()
    tell(world, "stopped")
    assert world.settled().startswith("RolledBack")
    assert not carrying(world, "web-b")


def test_a_group_that_failed_for_reasons_of_its_namespace_proves_nothing() -> None:
    world = a_tiered_world(CANARY, namespace="bank")
    world.without_quota.add("bank")
    ticks(world, 40)
    assert not world.halted
    assert {world[name].tier for name in world.touched["web-b"]} == {"canary"}
    assert "backing off in namespace bank until" in world.settled()
