"""Stories of restarts: a revision that changes nothing, and rolls everywhere as safely as any other."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy import names
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.names import OnFailure
from tests.simulation.fleets import EVERYWHERE, TENTH, a_world, everywhere, thirty, versions
from tests.simulation.stories import World

RESTART, AGAIN = "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"


def a_running_world(rollout: Rollout = TENTH, **fields: object) -> World:
    """Thirty Deployments that all run web-a."""
    world = a_world(thirty(revision="web-a", **fields), rollout, current="web-a")
    world.run()
    assert world.settled().startswith("RolloutComplete")
    return world


def restarts(world: World) -> dict[str, str]:
    """What each Pod template says of restarts."""
    templates: dict[str, Json] = {each.name: each.body["spec"]["template"] for each in world.deployments}
    return {
        name: at(template, "metadata", "annotations").get(names.RESTARTED_AT, "")
        for name, template in templates.items()
    }


def run_counting(world: World) -> int:
    """Let the world come to rest; return the most Deployments that were on their way at a time."""
    most = 0
    for _ in range(200):
        world.tick()
        most = max(most, sum(not each.complete for each in world.deployments))
    return most


def test_every_deployment_restarts_once_within_the_budget_and_one_first() -> None:
    world = a_running_world()
    before, current = versions(world), world.status["currentRevision"]
    world.annotate(names.RESTARTED_AT, RESTART)
    world.tick()
    assert sum(bool(each) for each in restarts(world).values()) == 1, "one first"
    assert run_counting(world) == 3
    assert set(restarts(world).values()) == {f"web@{RESTART}"}
    assert versions(world) == {name: number + 1 for name, number in before.items()}
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolloutComplete")
    assert world.status["currentRevision"] != current


def test_a_second_restart_is_another_and_a_deleted_policy_leaves_no_trace() -> None:
    world = a_running_world()
    for number, time in enumerate((RESTART, AGAIN), start=1):
        world.annotate(names.RESTARTED_AT, time)
        run_counting(world)
        assert set(restarts(world).values()) == {f"web@{time}"}
        assert set(versions(world).values()) == {1 + number}
    world.delete()
    world.run()
    assert set(restarts(world).values()) == {""}
    assert not any(each.record for each in world.deployments)


def test_a_restart_that_breaks_the_first_goes_back_and_restarts_no_other() -> None:
    world = a_running_world(replace(TENTH, on_failure=OnFailure.ROLLBACK))
    (first, *_) = sorted(world.deployments, key=lambda each: each.name != "app-23")
    first.breaks = frozenset({"web-a"})
    world.annotate(names.RESTARTED_AT, RESTART)
    world.run()
    assert world.settled().startswith("RolledBack")
    assert set(restarts(world).values()) == {""}
    assert len([name for name, number in versions(world).items() if number > 1]) == 1


def test_what_an_owner_takes_off_a_pod_template_is_not_put_back() -> None:
    world = a_running_world()
    world.annotate(names.RESTARTED_AT, RESTART)
    run_counting(world)
    cart, generation = world.deployments[0], world.deployments[0].body["metadata"]["generation"]

    def without(body: Json) -> Json:
        template = body["spec"]["template"]
        metadata = {key: value for key, value in template["metadata"].items() if key != "annotations"}
        return {**body, "spec": {**body["spec"], "template": {**template, "metadata": metadata}}}

    cart.edit(without)
    world.run()
    assert restarts(world)[cart.name] == ""
    assert cart.body["metadata"]["generation"] == generation + 1, "the owner's own change, and none of ours"
    assert world.settled().startswith("RolloutComplete")


def test_a_paused_policy_restarts_when_it_is_resumed() -> None:
    world = a_running_world()
    world.rollout = replace(TENTH, paused=True)
    world.annotate(names.RESTARTED_AT, RESTART)
    run_counting(world)
    assert set(restarts(world).values()) == {""}
    world.rollout = TENTH
    run_counting(world)
    assert set(restarts(world).values()) == {f"web@{RESTART}"}


def test_a_cluster_policy_names_itself_as_one() -> None:
    world = a_world(thirty(revision="web-a"), TENTH, current="web-a", policy=EVERYWHERE)
    world.annotate(names.RESTARTED_AT, RESTART)
    world.run()
    assert set(restarts(world).values()) == {f"cluster/web@{RESTART}"}
