"""Rollouts as stories: a policy author could read the transcripts in tests/golden/stories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.engine import term
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.observe import observe as look
from sidecarpolicy.names import OnFailure, Strategy
from tests.core.golden import GOLDEN
from tests.simulation.fleets import (
    EARLY,
    EVERYWHERE,
    FIRST,
    LEFT,
    SECOND,
    TENTH,
    THIRD,
    a_world,
    an_updated_world,
    bad,
    everywhere,
    tell,
    thirty,
    ticks,
)
from tests.simulation.stories import Deployment, World, established


def test_one_first_and_then_a_tenth() -> None:
    world = a_world(thirty())
    world.run()
    tell(world, "one-first-then-a-tenth")
    assert everywhere(world, "web-a")
    assert world.most_in_flight == 3


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
    told = {each.message for each in world.operator.told if each.reason == "RolledBack"}
    assert len(told) == 2 and all(each.count("rolled back") == 1 for each in told), "on the Deployment and the policy"
    assert all("rolled back to web-" in each and ", because it failed: " in each for each in told)


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


def a_rollout_that_waits_for_its_author(*, deadline: int = 300) -> World:
    """Six of thirty have web-b, which soaked long ago; the rest waits for an approval."""
    watching = Rollout(max_concurrent=3, min_ready_seconds=30, progress_deadline_seconds=deadline, canary=(EARLY,))
    world = an_updated_world(rollout=watching)
    world.run()
    assert world.settled().startswith("AwaitingApproval")
    ticks(world, 50)
    return world


def test_a_sidecar_that_crashes_long_after_its_soak_ends_a_rollout_that_is_not_over() -> None:
    world = a_rollout_that_waits_for_its_author()
    world.say("much later the sidecar of app-23 runs out of memory")
    world[FIRST].crashes, world[FIRST].last_words = frozenset({"web-b"}), "out of memory"
    world[FIRST].lose_a_node()
    world.run()
    tell(world, "a-sidecar-that-crashes-late")
    assert world.settled().startswith("RolledBack")
    assert world[FIRST].revision == "web-a"


@pytest.mark.parametrize("deadline", [300, 3600])
def test_pods_that_start_on_another_node_end_no_rollout(deadline: int) -> None:
    world = a_rollout_that_waits_for_its_author(deadline=deadline)
    world[FIRST].starting = True
    world[FIRST].lose_a_node()
    ticks(world, 10)
    assert world.settled().startswith("AwaitingApproval")
    world[FIRST].starting = False
    world.controllers.recover(world[FIRST].body)
    world.run()
    assert world.settled().startswith("AwaitingApproval")
    assert world[FIRST].revision == "web-b"


def test_a_spec_edited_half_way_frees_no_slot() -> None:
    world = an_updated_world()
    ticks(world, 6)
    on_the_way = world.in_flight
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
    assert world.most_in_flight == 3


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
    assert world.most_in_flight == 3


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
    assert world.most_in_flight <= 3


def test_a_new_deployment_during_a_rollout_gets_the_completed_revision_at_once() -> None:
    world = an_updated_world(policy=EVERYWHERE)
    ticks(world, 8)
    world.say("two new Deployments arrive")
    world.arrive(Deployment("new-1"), Deployment("new-2", namespace="other"))
    world.tick()
    assert world["new-1"].revision == world["new-2"].revision == "web-a"
    assert len(world.in_flight) <= 3
    world.run()
    tell(world, "new-deployments-during-a-rollout")
    assert everywhere(world, "web-b")


def look_slowly(world: World, monkeypatch: pytest.MonkeyPatch, note: Callable[[WorkloadId], None]) -> None:
    """Let each look at a workload take its time, and the operator look at few in a row; *note* is told of each."""

    def observe(identity: WorkloadId, context: Context) -> float | None:
        world.cluster.loop.now += 0.01
        note(identity)
        return look(identity, context)

    monkeypatch.setattr(term, "observe", observe)
    monkeypatch.setattr(term, "OBSERVED_AT_ONCE", 5)


def test_a_new_deployment_does_not_wait_until_the_others_have_been_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = [established(f"app-{number:03}", revision="web-a") for number in range(200)]
    world = World(fleet, Rollout(strategy=Strategy.ALL_AT_ONCE), current="web-a", update="web-a")
    world.arrive(Deployment("before"))
    world.tick()
    looks: list[WorkloadId] = []

    def note_look(identity: WorkloadId) -> None:
        looks.append(identity)
        if len(looks) == 10:
            world.arrive(Deployment("new"))

    moved: dict[str, int] = {}

    def note(_: object) -> None:
        for move in world.moves:
            moved.setdefault(move.deployment.rpartition("/")[2], len(looks))

    world.server.observers.append(note)
    look_slowly(world, monkeypatch, note_look)
    world.edit("web-b")
    world.tick()
    assert world["new"].revision == "web-a"
    assert moved.pop("before") == 0
    assert moved.pop("new") < 100
    assert len(moved) == 200
    assert min(moved.values()) < 100, "all at once: what is observed does not wait for the rest"


def test_within_a_budget_nothing_moves_before_all_have_been_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = [established(f"app-{number:03}", revision="web-a") for number in range(200)]
    world = World(fleet, Rollout(max_concurrent=0.5), current="web-a", update="web-a")
    world.tick()
    observed: set[WorkloadId] = set()
    seen: list[int] = []
    world.server.observers.append(lambda _: seen.extend([len(observed)] * bool(world.moves)))
    look_slowly(world, monkeypatch, observed.add)
    world.edit("web-b")
    world.tick()
    assert world.moves
    assert min(seen) == 200


def test_those_without_pods_come_last_and_take_no_slot() -> None:
    deployments = thirty(revision="web-a")
    for each in deployments[:27]:
        each.replicas = 0
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


def test_an_owners_bad_image_on_top_of_ours_is_not_our_failure() -> None:
    world = an_updated_world(thirty(revision="web-a", ticks=6))
    ticks(world, 2)
    (first,) = (each for each in world.deployments if each.revision == "web-b")
    world.say(f"the owner of {first.name} ships an image that does not start")
    first.bad_versions = frozenset({first.version + 1})
    first.hotfix()
    world.run()
    assert not world.halted
    assert everywhere(world, "web-b")
    assert world.status["targets"]["failed"] == 1
    world.say(f"the owner of {first.name} mends it")
    first.hotfix()
    world.run()
    tell(world, "an-owners-bad-image-on-top")
    assert world.status["targets"]["failed"] == 0


def test_our_failure_is_ours_whatever_its_owner_ships_on_top() -> None:
    world = an_updated_world(thirty(revision="web-a", ticks=6, breaks=frozenset({"web-b"})))
    ticks(world, 2)
    (first,) = (each for each in world.deployments if each.revision == "web-b")
    first.hotfix()
    world.run()
    assert world.halted
    assert everywhere(world, "web-a")


def test_a_policy_that_is_narrowed_removes_under_its_budget() -> None:
    world = a_world(thirty(revision="web-a"), current="web-a")
    world.say("the author narrows the selector to ten of them")
    for each in world.deployments[10:]:
        each.selected = False
    world.run()
    tell(world, "narrowed")
    assert [each.revision for each in world.deployments] == ["web-a"] * 10 + [None] * 20
    assert world.most_in_flight == 2, "one goes first, and of the 29 that are left a tenth is two"


def test_a_policy_that_is_deleted_goes_from_everywhere_under_its_budget() -> None:
    world = an_updated_world()
    ticks(world, 6)
    world.say("the author deletes the policy")
    world.delete()
    world.run()
    tell(world, "deleted")
    assert everywhere(world, None)
    assert world.most_in_flight == 3


def test_a_deployment_that_is_deleted_mid_way_frees_its_slot() -> None:
    world = an_updated_world(thirty(revision="web-a", breaks=frozenset({"web-b"})))
    ticks(world, 3)
    (first,) = (each for each in world.deployments if each.revision == "web-b")
    world.say(f"the owner of {first.name} deletes it")
    world.leave(first)
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
    world = an_updated_world(deployments, policy=EVERYWHERE)
    world.tick()
    while len(world.touched["web-b"]) < 4:
        world.tick()
    assert len({world[name].namespace for name in world.touched["web-b"]}) == 3


def assert_no_restart_changes(fresh: Callable[[], World]) -> str:
    """Restart the operator at every third tick of the same story; return how it is told to end, every time."""
    whole = fresh()
    lasts = whole.run()
    for number in range(1, lasts + 1, 3):
        world = fresh()
        ticks(world, number)
        world.operator.stop()
        world.operator.start()
        world.run()
        assert world.end() == whole.end()
        assert world.settled() == whole.settled()
    return whole.settled()


def test_a_restart_at_any_tick_changes_nothing() -> None:
    def fresh() -> World:
        deployments = [established(f"app-{number:02}", revision="web-a") for number in range(1, 13)]
        deployments[3].breaks = frozenset({"web-b"})
        deployments[8].replicas = 0
        return an_updated_world(deployments, Rollout(max_concurrent=2, min_ready_seconds=20))

    assert_no_restart_changes(fresh)


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
    ticks(world, 10)
    assert world[FIRST].complete
    assert world.touched["web-b"] == {FIRST}
    assert world.settled().startswith("RolloutHalted")
    world.resume()
    world.run()
    tell(world, "mended-after-a-halt")
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


def test_a_left_one_is_rolled_back_when_the_author_asks_for_that() -> None:
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
    assert world.most_in_flight == 3
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
    assert world.most_in_flight == 3
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


def test_a_failure_while_it_is_paused_is_rolled_back() -> None:
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
    assert world.most_in_flight <= 3
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
    entry = world[FIRST].entry
    assert entry is not None
    assert (entry.revision, world.told(entry.note.failed)) == ("", "web-a#1")
    assert [each.name for each in world.deployments if each.record] == [FIRST]
    assert all(each.complete for each in world.deployments)
    assert world.settled().startswith("RolledBack")


def test_a_note_of_a_failure_goes_with_the_policy() -> None:
    world = a_world(thirty(breaks=frozenset({"web-a"})))
    world.run()
    world.say("the author deletes the policy")
    world.delete()
    world.run()
    tell(world, "deleted-after-a-halt")
    assert not any(each.record for each in world.deployments)


def test_those_unhealthy_before_do_not_count() -> None:
    deployments = thirty(revision="web-a")
    for each in deployments[:4]:
        each.healthy = False
        each.breaks = frozenset({"web-b"})
    world = an_updated_world(deployments)
    world.run()
    tell(world, "unhealthy-before")
    assert everywhere(world, "web-b"), "they are left: they were no better before"
    assert not world.halted
    assert world.most_in_flight == 3
    assert world.settled().startswith("CompletedWithFailures")


def test_one_that_was_unhealthy_before_holds_no_slot_and_takes_one_again() -> None:
    deployments = [established(name, revision="web-a") for name in ("app-1", "app-2", "app-3")]
    sick, slow = deployments[:2]
    sick.breaks, sick.healthy = frozenset({"web-b"}), False
    slow.ticks = 50
    world = an_updated_world(deployments, replace(TENTH, max_concurrent=1))
    ticks(world, 120)
    assert sum(each.revision == "web-b" for each in deployments) > 1, "the sick one stands in nobody's way"
    world.say("the author writes web-c")
    world.edit("web-c")
    ticks(world, 3)
    assert sick.revision != "web-c" or slow.revision != "web-c"
    world.run()
    tell(world, "unhealthy-before-and-edited")
    assert everywhere(world, "web-c")
    assert world.most_in_flight == 1


def test_new_workloads_during_a_halt_get_what_was_completed() -> None:
    world = an_updated_world(bad(), policy=EVERYWHERE)
    world.run()
    world.say("two new Deployments arrive")
    world.arrive(Deployment("new-1"), Deployment("new-2", namespace="other"))
    world.run()
    tell(world, "new-deployments-during-a-halt")
    assert everywhere(world, "web-a")
    assert world.touched["web-b"] == {FIRST}
    assert world.settled().startswith("RolledBack")


def test_new_workloads_during_a_halt_wait_where_nothing_was_completed() -> None:
    world = a_world(thirty(breaks=frozenset({"web-a"})))
    world.run()
    world.say("a new Deployment arrives")
    world.arrive(Deployment("new-1"))
    world.run()
    tell(world, "a-new-deployment-during-the-first-halt")
    assert everywhere(world, None)


def test_one_without_pods_knows_the_way_back_too() -> None:
    deployments = [established(name, revision="web-a") for name in ("app-1", "app-2")]
    deployments[1].replicas = 0
    world = an_updated_world(deployments)
    world.run()
    assert everywhere(world, "web-b")
    assert [world.told(each.note.previous) for each in deployments] == ["web-a", "web-a"]


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

    assert assert_no_restart_changes(fresh).startswith("RolledBack")


def test_every_story_is_told() -> None:
    told = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("core", "simulation")
        for path in (GOLDEN.parent / folder).glob("test_stories*.py")
    )
    assert [path.stem for path in (GOLDEN / "stories").iterdir() if f'"{path.stem}"' not in told] == []
