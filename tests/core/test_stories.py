"""Rollouts as stories: a policy author could read the transcripts in tests/golden/stories."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import Situation, plan
from sidecarpolicy.core.policy import CanaryGroup, Rollout
from sidecarpolicy.core.record import NOTHING_NOTED, Note
from sidecarpolicy.core.selection import Operator, Requirement, Selector
from sidecarpolicy.core.targets import State, Target
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.names import Approval, OnFailure, Removal, Strategy
from tests.core.golden import GOLDEN, check
from tests.core.objects import WEB
from tests.core.world import Deployment, World, established

TENTH = Rollout(max_concurrent=0.1, min_ready_seconds=10, progress_deadline_seconds=300)


LEFT = replace(TENTH, on_failure=OnFailure.HALT)


def thirty(*, revision: str | None = None, **behaviour: Any) -> list[Deployment]:
    """Thirty Deployments of one namespace."""
    return [established(f"app-{number:02}", revision=revision, **behaviour) for number in range(1, 31)]


def a_world(deployments: list[Deployment], rollout: Rollout = TENTH, **fields: Any) -> World:
    """A world in which the policy's first revision is new."""
    return World(deployments, rollout, **fields)


def an_updated_world(deployments: list[Deployment] | None = None, rollout: Rollout = TENTH) -> World:
    """A world that runs web-a completely; web-b has just been written."""
    world = a_world(deployments if deployments is not None else thirty(revision="web-a"), rollout)
    world.current, world.completed, world.update = "web-a", {"web-a"}, "web-b"
    return world


def ticks(world: World, number: int) -> None:
    """Let some ticks pass."""
    for _ in range(number):
        world.tick()


def tell(world: World, story: str) -> None:
    """Compare the transcript with the golden one."""
    check(GOLDEN / "stories" / f"{story}.txt", world.transcript())


def everywhere(world: World, revision: str | None) -> bool:
    """Whether every Deployment bears *revision*."""
    return set(world.end().values()) == {revision}


def most_in_flight(world: World) -> int:
    """The most slots that were ever taken, from the transcript."""
    return max(int(line.split(" slots")[0].split("; ")[-1].split()[0]) for line in world.lines if " slots" in line)


def test_one_first_and_then_a_tenth() -> None:
    world = a_world(thirty())
    world.run()
    tell(world, "one-first-then-a-tenth")
    assert everywhere(world, "web-a")
    assert most_in_flight(world) == 3


def test_all_at_once() -> None:
    world = a_world(thirty(), Rollout(strategy=Strategy.ALL_AT_ONCE, min_ready_seconds=10))
    world.tick()
    assert everywhere(world, "web-a")
    world.run()
    tell(world, "all-at-once")


def test_a_workload_that_never_completes_keeps_its_slot() -> None:
    deployments = thirty()
    deployments[6].breaks = frozenset({"web-a"})
    world = a_world(deployments, replace(TENTH, max_failures=1, on_failure=OnFailure.HALT))
    world.run()
    tell(world, "one-workload-never-completes")
    assert everywhere(world, "web-a")
    assert world.settled().startswith("CompletedWithFailures")


def test_a_bad_revision_never_reaches_more_than_the_first() -> None:
    world = an_updated_world(thirty(revision="web-a", breaks=frozenset({"web-b"})))
    world.run()
    tell(world, "a-bad-revision")
    assert len(world.touched["web-b"]) == 1
    assert everywhere(world, "web-a")
    assert all(each.complete for each in world.deployments)
    assert world.settled().startswith("RolledBack")


def test_a_revision_that_goes_bad_never_reaches_more_than_the_budget() -> None:
    deployments = thirty(revision="web-a", breaks=frozenset({"web-b"}))
    for each in deployments:
        if each.name in ("app-23", "app-07", "app-15"):
            each.breaks = frozenset()
    world = an_updated_world(deployments, replace(TENTH, max_failures=3, on_failure=OnFailure.HALT))
    world.run()
    tell(world, "a-revision-that-is-bad-for-most")
    assert sum(each.revision == "web-b" and not each.complete for each in deployments) == 3
    assert not world.halted, "three are allowed: they only hold every slot"
    assert world.settled().startswith("RolloutHalted")


def test_a_revision_that_crashes_while_it_is_watched() -> None:
    watching = Rollout(max_concurrent=0.1, min_ready_seconds=30, progress_deadline_seconds=300)
    world = an_updated_world(thirty(revision="web-a", crashes=frozenset({"web-b"})), watching)
    world.run()
    tell(world, "a-revision-that-crashes-while-it-is-watched")
    assert len(world.touched["web-b"]) == 1
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolledBack")


def test_a_spec_edited_half_way_frees_no_slot() -> None:
    world = an_updated_world()
    ticks(world, 6)
    on_the_way = {each.workload.name for each in world.situation().targets if each.holds_slot}
    assert len(on_the_way) == 3
    world.say("the author writes web-c")
    world.edit("web-c")
    world.tick()
    moved = {name for name, revision in world.end().items() if revision == "web-c"}
    assert len(moved) == 1
    assert moved < on_the_way
    world.run()
    tell(world, "edited-half-way")
    assert everywhere(world, "web-c")
    assert most_in_flight(world) == 3


def test_a_bad_spec_mended_half_way_moves_the_one_in_progress_first() -> None:
    world = an_updated_world(thirty(revision="web-a", breaks=frozenset({"web-b"})), LEFT)
    ticks(world, 40)
    assert world.settled().startswith("RolloutHalted")
    (stuck,) = (each for each in world.deployments if each.revision == "web-b")
    world.say("the author writes web-c")
    world.edit("web-c")
    world.tick()
    assert stuck.revision == "web-c"
    assert sum(each.revision == "web-c" for each in world.deployments) == 1
    world.run()
    tell(world, "a-bad-spec-mended")
    assert everywhere(world, "web-c")


def test_back_to_the_old_spec_half_way() -> None:
    world = an_updated_world()
    ticks(world, 6)
    world.say("the author goes back to web-a")
    world.edit("web-a")
    world.run()
    tell(world, "back-to-the-old-spec")
    assert everywhere(world, "web-a")
    assert most_in_flight(world) == 3


def test_paused_and_resumed() -> None:
    world = an_updated_world()
    ticks(world, 6)
    world.say("the author pauses it")
    world.rollout = Rollout(max_concurrent=0.1, min_ready_seconds=10, paused=True)
    ticks(world, 10)
    paused = world.end()
    ticks(world, 10)
    assert world.end() == paused
    assert world.settled().startswith("Paused")
    world.say("the author resumes it")
    world.rollout = TENTH
    world.run()
    tell(world, "paused-and-resumed")
    assert everywhere(world, "web-b")


def test_thirty_new_deployments_together_with_a_new_policy() -> None:
    world = a_world([Deployment(f"app-{number:02}") for number in range(1, 31)])
    world.run()
    tell(world, "everything-is-new")
    assert everywhere(world, "web-a")
    assert most_in_flight(world) <= 3


def test_a_new_deployment_during_a_rollout_gets_the_completed_revision_at_once() -> None:
    world = an_updated_world()
    ticks(world, 8)
    before = world.situation()
    world.say("two new Deployments arrive")
    world.deployments += [Deployment("new-1"), Deployment("new-2", namespace="other")]
    world.tick()
    assert world["new-1"].revision == world["new-2"].revision == "web-a"
    assert sum(each.holds_slot for each in world.situation().targets) <= plan(before).budget
    world.run()
    tell(world, "new-deployments-during-a-rollout")
    assert everywhere(world, "web-b")


def test_those_without_pods_come_last_and_take_no_slot() -> None:
    deployments = thirty(revision="web-a")
    for each in deployments[:27]:
        each.replicas = 0
        each.sets[0].replicas = 0
    world = an_updated_world(deployments)
    world.tick()
    (first,) = (each for each in deployments if each.revision == "web-b")
    assert first.replicas
    ticks(world, 2)
    assert sum(each.revision == "web-b" for each in deployments) == 1, "nothing follows before the first one is done"
    world.run()
    tell(world, "without-pods-last")
    assert everywhere(world, "web-b")


def test_a_fleet_without_pods_is_updated_at_once() -> None:
    deployments = thirty(revision="web-a", replicas=0)
    world = an_updated_world(deployments)
    world.tick()
    assert everywhere(world, "web-b")


def test_the_unhealthy_come_after_the_healthy() -> None:
    deployments = [
        established(f"app-{number:02}", revision="web-a", healthy=number > 15, ticks=1) for number in range(1, 31)
    ]
    world = an_updated_world(deployments)
    sick = {each.name for each in deployments[:15]}
    while not all(each.revision == "web-b" for each in deployments[15:]):
        world.tick()
        taken = {each.name for each in deployments if each.revision == "web-b"} & sick
        assert not taken or all(each.revision == "web-b" for each in deployments[15:])
    world.run()
    tell(world, "unhealthy-last")
    assert everywhere(world, "web-b")


def test_an_owners_own_rollout_is_waited_for() -> None:
    world = an_updated_world(thirty(revision="web-a")[:3], Rollout(max_concurrent=1, min_ready_seconds=10))
    first = "app-03"
    world[first].ticks = 12
    world.say(f"the owner of {first} rolls out something of his own")
    world[first].hotfix()
    ticks(world, 8)
    assert world[first].revision == "web-a"
    world.run()
    tell(world, "the-owners-own-rollout")
    assert everywhere(world, "web-b")


def test_an_owners_hotfix_on_top_of_ours_frees_no_slot() -> None:
    world = an_updated_world(thirty(revision="web-a", ticks=6))
    ticks(world, 2)
    (first,) = (each for each in world.deployments if each.revision == "web-b")
    world.say(f"the owner of {first.name} changes it again")
    first.hotfix()
    ticks(world, 6)
    assert sum(each.revision == "web-b" for each in world.deployments) == 1
    world.run()
    tell(world, "a-hotfix-on-top")
    assert everywhere(world, "web-b")


def test_a_policy_that_is_narrowed_removes_under_its_budget() -> None:
    world = a_world(thirty(revision="web-a"))
    world.current, world.completed = "web-a", {"web-a"}
    world.say("the author narrows the selector to ten of them")
    for each in world.deployments[10:]:
        each.selected = False
    world.run()
    tell(world, "narrowed")
    assert [each.revision for each in world.deployments] == ["web-a"] * 10 + [None] * 20
    assert most_in_flight(world) == 3


def test_a_policy_that_is_deleted_goes_from_everywhere_under_its_budget() -> None:
    world = an_updated_world()
    ticks(world, 6)
    world.say("the author deletes the policy")
    world.deleting = True
    world.run()
    tell(world, "deleted")
    assert everywhere(world, None)
    assert most_in_flight(world) == 3


def test_a_deployment_that_is_deleted_mid_way_frees_its_slot() -> None:
    world = an_updated_world(thirty(revision="web-a", breaks=frozenset({"web-b"})))
    ticks(world, 3)
    (first,) = (each for each in world.deployments if each.revision == "web-b")
    world.say(f"the owner of {first.name} deletes it")
    world.deployments.remove(first)
    for each in world.deployments:
        each.breaks = frozenset()
    world.run()
    tell(world, "a-deployment-is-deleted")
    assert everywhere(world, "web-b")


def test_those_picked_together_are_spread_over_namespaces() -> None:
    deployments = [
        established(f"{namespace}-{number}", namespace=namespace, revision="web-a")
        for namespace in ("blue", "green", "red")
        for number in range(10)
    ]
    world = an_updated_world(deployments)
    world.tick()
    while len(world.touched["web-b"]) < 4:
        world.tick()
    assert len({world[name].namespace for name in world.touched["web-b"]}) == 3


def test_a_restart_at_any_tick_changes_nothing() -> None:
    def fresh() -> World:
        deployments = [established(f"app-{number:02}", revision="web-a") for number in range(1, 13)]
        deployments[3].breaks = frozenset({"web-b"})
        deployments[8].replicas = 0
        deployments[8].sets[0].replicas = 0
        return an_updated_world(deployments, Rollout(max_concurrent=2, min_ready_seconds=20))

    whole = fresh()
    lasts = whole.run()
    for number in range(lasts + 1):
        world = fresh()
        ticks(world, number)
        # Only what a cluster holds comes along.
        after = World(
            copy.deepcopy(world.deployments)[::-1],
            world.rollout,
            update=world.update,
            current=world.current,
            completed=set(world.completed),
            attempts=dict(world.attempts),
            halted=set(world.halted),
            now=world.now,
        )
        after.run()
        assert after.end() == whole.end()
        assert after.settled() == whole.settled()


# Failures.


def bad(*, good: Sequence[str] = (), revision: str = "web-a", update: str = "web-b") -> list[Deployment]:
    """Thirty with *revision*, of which all but *good* break with *update*."""
    deployments = thirty(revision=revision)
    for each in deployments:
        each.breaks = frozenset() if each.name in good else frozenset({update})
    return deployments


# In the order in which they are picked.
FIRST, SECOND, THIRD = "app-23", "app-07", "app-28"


def test_a_failure_at_the_first_with_halt_leaves_it_as_it_is() -> None:
    world = an_updated_world(bad(), LEFT)
    world.run()
    tell(world, "a-bad-revision-left-for-inspection")
    assert world.touched["web-b"] == {FIRST}
    assert world[FIRST].revision == "web-b"
    assert world.settled().startswith("RolloutHalted")
    assert "left for inspection" in world.settled()


def test_one_that_is_mended_after_a_halt_changes_nothing_until_the_author_resumes() -> None:
    world = an_updated_world(bad(), LEFT)
    world.run()
    world.say("the owners mend what was wrong")
    for each in world.deployments:
        each.breaks = frozenset()
    world[FIRST].progressing = replace(world[FIRST].progressing, status="True", updated=world.now)
    ticks(world, 10)
    assert world[FIRST].complete
    assert world.touched["web-b"] == {FIRST}
    assert world.settled().startswith("RolloutHalted")
    world.resume()
    world.run()
    tell(world, "mended-after-a-halt")
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


def test_a_left_one_is_turned_back_when_the_author_asks_for_that() -> None:
    world = an_updated_world(bad(), LEFT)
    world.run()
    world.say("the author sets onFailure: Rollback")
    world.rollout = TENTH
    world.run()
    tell(world, "left-and-then-rolled-back")
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolledBack")


def test_a_failure_at_the_third_leaves_those_that_went_well() -> None:
    deployments = thirty(revision="web-a")
    world = an_updated_world(deployments)
    world[THIRD].breaks = frozenset({"web-b"})
    world.run()
    tell(world, "a-failure-at-the-third")
    assert world[THIRD].revision == "web-a"
    assert world.halted == {"web-b#1"}
    assert all(each.complete for each in deployments)
    assert world.touched["web-b"] == {each.name for each in deployments if each.revision == "web-b"} | {THIRD}
    assert most_in_flight(world) == 3
    assert world.settled().startswith("RolledBack")


def test_two_failures_are_allowed_and_the_third_halts() -> None:
    deployments = thirty(revision="web-a")
    world = an_updated_world(deployments, replace(TENTH, max_failures=2))
    for name in (SECOND, THIRD, "app-04"):
        world[name].breaks = frozenset({"web-b"})
    world.run()
    tell(world, "two-failures-are-allowed")
    assert {each.name for each in deployments if each.name in world.touched["web-b"] and each.revision == "web-a"} == {
        SECOND,
        THIRD,
        "app-04",
    }
    assert most_in_flight(world) == 3
    assert world.settled().startswith("RolledBack")


def test_failures_within_what_is_allowed_do_not_end_a_rollout() -> None:
    deployments = thirty(revision="web-a")
    world = an_updated_world(deployments, replace(TENTH, max_failures=2))
    for name in (FIRST, THIRD):
        world[name].breaks = frozenset({"web-b"})
    world.run()
    tell(world, "completed-but-for-two")
    assert {each.name for each in deployments if each.revision == "web-a"} == {FIRST, THIRD}
    assert not world.halted
    assert world.current == "web-a"
    assert world.settled().startswith("CompletedWithFailures")


def test_a_failure_while_it_is_paused_is_turned_back() -> None:
    world = an_updated_world(bad())
    ticks(world, 6)
    world.say("the author pauses it")
    world.rollout = replace(TENTH, paused=True)
    world.run()
    tell(world, "a-failure-while-paused")
    assert everywhere(world, "web-a")
    assert world.touched["web-b"] == {FIRST}
    assert world.settled().startswith("RolledBack")


def test_resumed_it_may_fail_again() -> None:
    world = an_updated_world(bad())
    world.run()
    world.resume()
    world.run()
    tell(world, "resumed-and-failed-again")
    assert world.halted == {"web-b#2"}
    assert world.touched["web-b"] == {FIRST}
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolledBack")
    assert "sidecars.dev/resume: web-b#2" in world.settled()


def test_resumed_it_may_succeed() -> None:
    world = an_updated_world(bad())
    world.run()
    world.say("what was wrong is mended")
    for each in world.deployments:
        each.breaks = frozenset()
    ticks(world, 10)
    assert everywhere(world, "web-a"), "a halt is sticky"
    world.resume()
    world.run()
    tell(world, "resumed-and-succeeded")
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


def test_resumed_while_it_is_still_turning_back_it_knows_the_way_back() -> None:
    world = an_updated_world(bad())
    world[FIRST].ticks = 6
    while not world.halted:
        world.tick()
    ticks(world, 2)
    assert not world[FIRST].complete
    world.resume()
    world.run()
    tell(world, "resumed-while-turning-back")
    assert world.touched["web-b"] == {FIRST}
    assert world.halted == {"web-b#2"}
    assert everywhere(world, "web-a")


def test_an_edit_after_a_halt_begins_anew() -> None:
    world = an_updated_world(bad())
    world.run()
    world.say("the author writes web-c")
    world.edit("web-c")
    world.run()
    tell(world, "edited-after-a-halt")
    assert everywhere(world, "web-c")
    assert world.settled().startswith("RolloutComplete")


def test_back_to_the_old_spec_after_a_halt() -> None:
    deployments = bad(good=[FIRST, SECOND])
    world = an_updated_world(deployments, LEFT)
    world.run()
    assert {each.name for each in deployments if each.revision == "web-b"} > {FIRST, SECOND, THIRD}
    world.say("the author goes back to web-a")
    world.edit("web-a")
    world.run()
    tell(world, "back-to-the-old-spec-after-a-halt")
    assert everywhere(world, "web-a")
    assert all(each.complete for each in deployments)
    assert most_in_flight(world) <= 3
    assert world.settled().startswith("RolloutComplete")


def test_the_same_bad_spec_again_is_another_attempt() -> None:
    world = an_updated_world(bad())
    world.run()
    world.say("the author goes back to web-a")
    world.edit("web-a")
    world.run()
    assert world.settled().startswith("RolloutComplete")
    world.say("the author writes web-b again")
    world.edit("web-b")
    world.run()
    tell(world, "the-same-bad-spec-again")
    assert world.halted == {"web-b#1", "web-b#2"}
    assert everywhere(world, "web-a")


def test_a_turning_back_that_does_not_end_does_not_stand_in_the_way_of_an_edit() -> None:
    deployments = thirty(revision="web-a", breaks=frozenset({"web-a", "web-b"}))
    world = an_updated_world(deployments)
    world.run()
    ticks(world, 40)
    assert not world[FIRST].complete
    assert world[FIRST].revision == "web-a"
    world.say("the author writes web-c")
    world.edit("web-c")
    world.run()
    tell(world, "turning-back-does-not-end")
    assert world.halted == {"web-b#1"}
    assert everywhere(world, "web-c")


def test_a_first_injection_is_taken_out_again() -> None:
    world = a_world(thirty(breaks=frozenset({"web-a"})))
    world.run()
    tell(world, "a-first-injection-is-taken-out-again")
    assert everywhere(world, None)
    entry = record_of(world[FIRST].record).entries[WEB]
    assert (entry.revision, entry.note.failed) == ("", "web-a#1")
    assert [each.name for each in world.deployments if each.record] == [FIRST]
    assert all(each.complete for each in world.deployments)
    assert world.settled().startswith("RolledBack")


def test_a_note_of_a_failure_goes_with_the_policy() -> None:
    world = a_world(thirty(breaks=frozenset({"web-a"})))
    world.run()
    world.say("the author deletes the policy")
    world.deleting = True
    world.run()
    tell(world, "deleted-after-a-halt")
    assert not any(each.record for each in world.deployments)


def test_those_unhealthy_before_do_not_count() -> None:
    deployments = thirty(revision="web-a")
    sick = ("app-01", "app-02", "app-03", "app-04")
    for each in deployments:
        if each.name in sick:
            each.available = replace(each.available, status="False")
            each.breaks = frozenset({"web-b"})
    world = an_updated_world(deployments)
    world.run()
    tell(world, "unhealthy-before")
    assert everywhere(world, "web-b"), "they are left: they were no better before"
    assert not world.halted
    assert most_in_flight(world) == 3
    assert world.settled().startswith("CompletedWithFailures")


def test_one_that_was_unhealthy_before_holds_no_slot_and_takes_one_again() -> None:
    deployments = [established(name, revision="web-a") for name in ("app-1", "app-2", "app-3")]
    world = an_updated_world(deployments, replace(TENTH, max_concurrent=1))
    world.completed.add("web-b")
    sick, slow = world["app-1"], world["app-2"]
    sick.breaks, sick.available = frozenset({"web-b"}), replace(sick.available, status="False")
    sick.write("web-b", note=Note(previous="web-a", unhealthy_before=True))
    slow.ticks = 50
    ticks(world, 40)
    assert sum(each.revision == "web-b" for each in deployments) > 1, "the sick one stands in nobody's way"
    in_flight = {each.name for each in deployments if each.revision == "web-b" and not each.complete}
    assert in_flight == {"app-1", "app-2"}
    world.say("the author writes web-c")
    world.completed.add("web-c")
    world.edit("web-c")
    ticks(world, 3)
    assert sick.revision != "web-c" or slow.revision != "web-c"
    assert most_in_flight(world) == 1
    world.run()
    tell(world, "unhealthy-before-and-edited")
    assert everywhere(world, "web-c")
    assert most_in_flight(world) == 1


def test_new_workloads_during_a_halt_get_what_was_completed() -> None:
    world = an_updated_world(bad())
    world.run()
    world.say("two new Deployments arrive")
    world.deployments += [Deployment("new-1"), Deployment("new-2", namespace="other")]
    world.run()
    tell(world, "new-deployments-during-a-halt")
    assert everywhere(world, "web-a")
    assert world.touched["web-b"] == {FIRST}
    assert world.settled().startswith("RolledBack")


def test_new_workloads_during_a_halt_wait_where_nothing_was_completed() -> None:
    world = a_world(thirty(breaks=frozenset({"web-a"})))
    world.run()
    world.say("a new Deployment arrives")
    world.deployments.append(Deployment("new-1"))
    world.run()
    tell(world, "a-new-deployment-during-the-first-halt")
    assert everywhere(world, None)


def test_a_new_one_that_was_turned_back_does_not_join_again() -> None:
    new = Target(workload=WorkloadId(namespace="shop", name="cart"), state=State.PENDING, new=True, busy=True)
    failed = replace(new, state=State.FAILED, recorded=True, turned_back=True)
    situation = Situation(policy=WEB, rollout=TENTH, update="web-b", current="web-b", attempt="web-b#1")
    assert [each.joins for each in plan(replace(situation, targets=[new])).steps] == [True]
    assert plan(replace(situation, targets=[failed])).steps == ()


def test_one_without_pods_knows_the_way_back_too() -> None:
    deployments = [established(name, revision="web-a") for name in ("app-1", "app-2")]
    deployments[1].replicas = deployments[1].sets[0].replicas = 0
    world = an_updated_world(deployments)
    world.run()
    assert everywhere(world, "web-b")
    assert [noted(each).previous for each in deployments] == ["web-a", "web-a"]


def test_all_at_once_turns_all_of_them_back() -> None:
    rollout = replace(TENTH, strategy=Strategy.ALL_AT_ONCE)
    world = an_updated_world(bad(), rollout)
    world.run()
    tell(world, "all-at-once-and-all-back")
    assert len(world.touched["web-b"]) == 30
    assert everywhere(world, "web-a")
    assert all(each.complete for each in world.deployments)


def test_a_restart_at_any_tick_of_a_failure_changes_nothing() -> None:
    def fresh() -> World:
        deployments = [established(f"app-{number:02}", revision="web-a") for number in range(1, 13)]
        for number in (3, 5, 7):
            deployments[number].breaks = frozenset({"web-b"})
        return an_updated_world(deployments, Rollout(max_concurrent=2, progress_deadline_seconds=60, max_failures=1))

    whole = fresh()
    lasts = whole.run()
    assert whole.settled().startswith("RolledBack")
    for number in range(lasts + 1):
        world = fresh()
        ticks(world, number)
        after = World(
            copy.deepcopy(world.deployments)[::-1],
            world.rollout,
            update=world.update,
            current=world.current,
            completed=set(world.completed),
            halted=set(world.halted),
            now=world.now,
        )
        after.run()
        assert after.end() == whole.end()
        assert after.settled() == whole.settled()


# Canary groups, approval, pins, the emergency switch.


BY_TIER = Selector(requirements=(Requirement(key="tier", operator=Operator.IN, values=frozenset({"canary"})),))
CANARY = CanaryGroup(name="canary", selector=BY_TIER)
EARLY = CanaryGroup(name="early", most=0.2, approval=Approval.MANUAL)


def a_tiered_world(*groups: CanaryGroup, **behaviour: Any) -> World:
    """A world that runs web-a, of which four Deployments are canaries; web-b has just been written."""
    deployments = thirty(revision="web-a", **behaviour)
    for each in deployments[10:14]:
        each.tier = "canary"
    return an_updated_world(deployments, replace(TENTH, canary=groups))


def carrying(world: World, revision: str) -> set[str]:
    """The names of those that bear *revision*."""
    return {name for name, found in world.end().items() if found == revision}


def test_canary_groups_go_one_after_the_other() -> None:
    world = a_tiered_world(CANARY, CanaryGroup(name="early", most=0.2))
    canaries = {each.name for each in world.deployments if each.tier}
    seen: list[set[str]] = []
    while world.current != "web-b":
        before, updated = carrying(world, "web-b"), world.tick().counts[State.UPDATED]
        seen.append(carrying(world, "web-b"))
        assert updated >= 4 or seen[-1] <= canaries
        assert updated >= 4 + 6 or len(seen[-1] - canaries) <= 6
        assert before <= seen[-1]
    tell(world, "canary-groups")
    assert most_in_flight(world) == 3


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
    world.deployments += [established(f"aaa-{number}", revision="web-a") for number in range(5)]
    world.run()
    assert len(carrying(world, "web-b")) == 6
    world.deployments.remove(world[min(carrying(world, "web-b"))])
    world.run()
    assert len(carrying(world, "web-b")) == 6, "another takes the place of the one that went"


def test_an_empty_group_still_asks() -> None:
    world = an_updated_world(rollout=replace(TENTH, canary=(replace(CANARY, approval=Approval.MANUAL),)))
    world.run()
    assert everywhere(world, "web-a")
    assert "it selects no workload" in world.settled()


def test_a_removal_is_held_until_it_is_approved() -> None:
    world = an_updated_world(rollout=replace(TENTH, removal=Removal.MANUAL))
    world.edit("web-a")
    world.generation = 7
    for each in world.deployments[:6]:
        each.selected = False
    world.run()
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RemovalHeld")
    world.approve("removal@6")
    world.run()
    assert everywhere(world, "web-a"), "another generation's approval is not this one's"
    world.approve("removal@7")
    world.run()
    tell(world, "a-removal-held-and-approved")
    assert len(carrying(world, "web-a")) == 24
    assert world.settled().startswith("RolloutComplete")


def test_a_deletion_is_held_until_it_is_approved() -> None:
    world = an_updated_world(rollout=replace(TENTH, removal=Removal.MANUAL, paused=True))
    world.say("the author deletes the policy")
    world.deleting, world.generation = True, 3
    world.run()
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RemovalHeld")
    world.approve("removal@3")
    world.run()
    tell(world, "a-deletion-held-and-approved")
    assert everywhere(world, None)


def test_what_an_owner_takes_out_himself_is_not_held() -> None:
    world = an_updated_world(rollout=replace(TENTH, removal=Removal.MANUAL))
    world.edit("web-a")
    world["app-05"].selected, world["app-05"].left = False, True
    world.run()
    assert world["app-05"].revision is None
    assert world.settled().startswith("RolloutComplete")


def test_removals_that_are_stuck_hold_the_rest() -> None:
    world = an_updated_world(thirty(revision="web-a", breaks=frozenset({None})))
    world.deleting, world.generation = True, 2
    world.run()
    stuck = {each.name for each in world.deployments if each.revision is None}
    assert 1 <= len(stuck) <= 3, "no more than were on the way when the first was late"
    assert world.settled().startswith("RemovalHeld")
    world.approve("removal@2")
    world.run()
    tell(world, "removals-that-are-stuck")
    assert everywhere(world, None)


def test_pinned_ones_go_where_they_are_pinned_and_stay() -> None:
    world = an_updated_world()
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
    world = an_updated_world()
    world.deployments.append(Deployment("new", pinned_to="web-0"))
    world.tick()
    assert world["new"].revision == "web-0"
    assert world["new"].joined


def test_the_emergency_switch_stops_everything() -> None:
    world = an_updated_world(bad())
    ticks(world, 2)
    stopped = world.end()
    world.say("somebody stops everything")
    world.stopped = True
    world.deployments.append(Deployment("new"))
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


# Any world.


def draw_deployment(draw: st.DrawFn, name: str, *, new: bool) -> Deployment:
    """A Deployment that may be slow, broken by a revision, empty or sick."""
    fields: dict[str, Any] = {
        "namespace": draw(st.sampled_from(["shop", "other"])),
        "replicas": draw(st.sampled_from([2, 2, 2, 0])),
        "ticks": draw(st.integers(1, 4)),
        "breaks": frozenset(draw(st.sets(st.sampled_from(["web-a", "web-b", "web-b"]), max_size=1)))
        if draw(st.integers(0, 3)) == 0
        else frozenset(),
        "crashes": frozenset({"web-b"}) if draw(st.integers(0, 7)) == 0 else frozenset(),
    }
    if new:
        return Deployment(name, **fields)
    revision = draw(st.sampled_from([None, "web-a", "web-a"]))
    return established(name, revision=revision, healthy=draw(st.integers(0, 4)) > 0, **fields)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world somewhere in the life of a policy."""
    deployments = [
        draw_deployment(draw, f"app-{number}", new=draw(st.integers(0, 5)) == 0)
        for number in range(draw(st.integers(0, 8)))
    ]
    for each in deployments:
        each.contested = draw(st.integers(0, 7)) == 0
        each.selected = draw(st.integers(0, 7)) > 0
        each.tier = draw(st.sampled_from(["", "", "canary"]))
    rollout = Rollout(
        strategy=draw(st.sampled_from([Strategy.PROGRESSIVE] * 5 + [Strategy.ALL_AT_ONCE])),
        max_concurrent=draw(st.sampled_from([0.1, 0.5, 1, 2, 3])),
        min_ready_seconds=draw(st.sampled_from([0, 10, 30])),
        progress_deadline_seconds=draw(st.sampled_from([60, 300, 900])),
        max_failures=draw(st.sampled_from([0, 0, 1, 2, 9])),
        on_failure=draw(st.sampled_from(OnFailure)),
        canary=draw(st.sampled_from([(), (), (CANARY,), (CANARY, EARLY)])),
        removal=draw(st.sampled_from([Removal.AUTOMATIC, Removal.AUTOMATIC, Removal.MANUAL])),
    )
    world = World(deployments, rollout, update=draw(st.sampled_from(["web-a", "web-b"])))
    if draw(st.booleans()):
        world.current, world.completed = "web-a", {"web-a"}
    return world


ACTIONS = st.sampled_from(
    ["nothing"] * 6
    + [
        "edit",
        "back",
        "pause",
        "unpause",
        "resume",
        "resume",
        "leave failed",
        "turn back",
        "allow",
        "hotfix",
        "scale",
        "arrive",
        "leave",
        "unselect",
        "select",
        "contest",
        "approve",
        "stop",
        "go on",
        "delete",
    ]
)


def act(world: World, action: str, number: int) -> None:
    """Let people do something."""
    one = world.deployments[number % len(world.deployments)] if world.deployments else None
    match action:
        case "edit":
            world.edit({"web-a": "web-b", "web-b": "web-c", "web-c": "web-d"}.get(world.update or "", "web-d"))
        case "back":
            if world.current:
                world.edit(world.current)
        case "pause":
            world.rollout = replace(world.rollout, paused=True)
        case "unpause":
            world.rollout = replace(world.rollout, paused=False)
        case "resume" if world.attempt in world.halted:
            world.resume()
        case "leave failed":
            world.rollout = replace(world.rollout, on_failure=OnFailure.HALT)
        case "turn back":
            world.rollout = replace(world.rollout, on_failure=OnFailure.ROLLBACK)
        case "allow":
            world.rollout = replace(world.rollout, max_failures=number)
        case "hotfix" if one:
            one.hotfix()
        case "scale" if one:
            one.replicas = 0 if one.replicas else 2
            for each in one.sets:
                each.replicas = one.replicas if each is one.sets[-1] else 0
        case "arrive":
            world.deployments.append(Deployment(f"new-{len(world.lines)}-{number}-{world.now}"))
        case "leave" if one:
            world.deployments.remove(one)
        case "unselect" if one:
            one.selected = False
        case "select" if one:
            one.selected = True
        case "contest" if one:
            one.contested = not one.contested
        case "approve":
            world.approved |= {f"removal@{world.generation}", f"canary/early@{world.update}"}
        case "stop":
            world.stopped = number < 3
        case "go on":
            world.stopped = False
        case "delete":
            world.deleting = number == 0


class Watch:
    """Counts what is in flight by itself, from what was written and what the controller has done since."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.flying: dict[str, str | None] = {}
        self.landed = {each.revision for each in world.deployments if each.revision and each.replicas}

    def look(self) -> None:
        """Note what has landed since."""
        for name, revision in list(self.flying.items()):
            deployment = next((each for each in self.world.deployments if each.name == name), None)
            if deployment is None or not deployment.replicas or deployment.taken_over or name in self.forgiven():
                del self.flying[name]
            elif self.is_down(deployment):
                del self.flying[name]
                self.landed |= {revision} if revision else set()

    def forgiven(self) -> set[str]:
        """Those that were unhealthy before and have failed: they hold no slot."""
        assert self.world.looked is not None
        targets = self.world.looked.targets
        return {each.workload.name for each in targets if each.failing and each.note.unhealthy_before}

    def is_down(self, deployment: Deployment) -> bool:
        """Whether its rollout is complete and soaked; what is removed, current, or the owner's by now need not soak."""
        if not deployment.complete:
            return False
        if self.flying[deployment.name] in (None, self.world.current) or deployment.hotfixed:
            return True
        soak, since = self.world.rollout.min_ready_seconds, deployment.progressing.updated
        if since < deployment.available.changed < since + soak:
            since = deployment.available.changed
            if deployment.available.status != "True":
                return False
        return self.world.now >= since + soak


@given(worlds(), st.lists(st.tuples(ACTIONS, st.integers(0, 7)), max_size=25), st.randoms(use_true_random=False))
def test_in_any_world(world: World, actions: list[tuple[str, int]], random: Any) -> None:
    """Never more in flight than the budget; counts add up; the order of the targets means nothing; it ends."""

    def shuffled(targets: Sequence[Target]) -> Sequence[Target]:
        return list(random.sample(targets, len(targets)))

    watch = Watch(world)
    for action, number in actions:
        act(world, action, number)
        step(world, watch, shuffled)
    act(world, "unpause", 0)
    act(world, "go on", 0)
    world.run()
    reason = world.settled().partition(":")[0]
    situation = world.situation()
    # What joined is on its owner's first rollout, which need not end.
    unfinished = any(each.joined and not each.complete for each in world.deployments)
    assert reason in END or unfinished, world.transcript()
    if reason == "RolloutComplete":
        assert all(each.revision == world.update for each in situation.targets if each.refusal is None)
    if world.deleting and reason != "RemovalHeld":
        assert not any(each.revision for each in world.deployments)


END = {
    "RolloutComplete",
    "RolledBack",
    "NoTargets",
    "AllSkipped",
    "RolloutHalted",
    "CompletedWithFailures",
    "Removing",
    "AwaitingApproval",
    "RemovalHeld",
}


def noted(deployment: Deployment) -> Note:
    """What the policy's last step wrote down on it."""
    entry = record_of(deployment.record).entries.get(WEB)
    return entry.note if entry else NOTHING_NOTED


def step(world: World, watch: Watch, shuffled: Any) -> None:
    """One tick, with everything that must hold in it."""
    before, halted = world.end(), world.attempt in world.halted
    failed = {each.name for each in world.deployments if noted(each).failed == world.attempt}
    made = world.tick()
    watch.look()
    there = {name: revision for name, revision in world.end().items() if revision != before.get(name)}
    moved = {name: revision for name, revision in there.items() if world[name].replicas and not world[name].joined}
    started = moved.keys() - watch.flying.keys()
    watch.flying |= moved
    looked = world.looked
    assert looked is not None
    assert sum(made.counts.values()) == len(looked.targets)
    assert made.counts == {state: sum(each.state is state for each in looked.targets) for state in State}
    if world.rollout.strategy is Strategy.PROGRESSIVE and started:
        workloads = sum(each.refusal is None for each in looked.targets) + len(looked.removing)
        assert len(watch.flying) <= world.rollout.budget(workloads), world.transcript()
    untried = world.update not in world.completed | watch.landed
    if world.rollout.strategy is Strategy.PROGRESSIVE and untried and not world.deleting:
        assert sum(revision == world.update for revision in watch.flying.values()) <= 1, world.transcript()
    ahead = {name for name, revision in moved.items() if revision == world.update}
    assert not failed & ahead, "what failed is not tried again in the same attempt"
    assert not (ahead and (halted or world.rollout.paused)), world.transcript()
    assert not (there and world.stopped)
    if CANARY in world.rollout.canary and ahead and world.update != world.current:
        canaries = [each for each in looked.targets if each.group == "canary" and each.refusal is None]
        waiting = {each.workload.name for each in canaries if each.state in (State.PENDING, State.PROGRESSING)}
        beyond = ahead - {each.workload.name for each in canaries}
        assert not beyond or all(world[name].replicas == 0 for name in waiting), world.transcript()
    back = {name for name in moved if noted(world[name]).failed == world.attempt}
    assert not back or world.rollout.on_failure is OnFailure.ROLLBACK
    if sum(each.counts for each in looked.targets) > world.rollout.max_failures and not world.deleting:
        assert world.attempt in world.halted
    mixed = replace(looked, targets=shuffled(looked.targets), removing=shuffled(looked.removing))
    assert plan(mixed) == made


def test_every_story_is_told() -> None:
    told = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in (GOLDEN / "stories").iterdir() if f'"{path.stem}"' not in told] == []
