"""Stories of Deployments that their owners pause (`kubectl rollout pause`): nobody waits for them."""

from __future__ import annotations

from sidecarpolicy.core.tree import Json
from tests.simulation.fleets import FIRST, TENTH, a_world, an_updated_world, everywhere, thirty, ticks, versions
from tests.simulation.stories import Deployment, World

LATE = 40  # ticks: by then a rollout without a step forward has failed


def pause(deployment: Deployment, *, hotfix: bool = False) -> None:
    """`kubectl rollout pause`, and with *hotfix* a change of the owner's that waits for its end."""
    deployment.edit(lambda body: {**body, "spec": {**body["spec"], "paused": True}}, "kubectl-rollout")
    if hotfix:
        deployment.hotfix()


def resume(deployment: Deployment) -> None:
    """`kubectl rollout resume`."""

    def change(body: Json) -> Json:
        return {**body, "spec": {key: value for key, value in body["spec"].items() if key != "paused"}}

    deployment.edit(change, "kubectl-rollout")


def half_way(*, hotfix: bool) -> World:
    """A fleet of which the first one was paused while web-b was on its way to it."""
    world = an_updated_world(thirty(revision="web-a"), TENTH)
    world[FIRST].ticks = 6
    while world[FIRST].revision != "web-b":
        world.tick()
    world.tick()
    assert not world[FIRST].complete
    pause(world[FIRST], hotfix=hotfix)
    return world


def test_one_that_is_paused_half_way_has_not_failed_and_keeps_nobody_waiting() -> None:
    for hotfix in (False, True):
        world = half_way(hotfix=hotfix)
        ticks(world, 3 * LATE)
        assert not world.halted
        assert everywhere(world, "web-b")
        assert world.counts() == {"progressing": 1, "updated": 29}
        resume(world[FIRST])
        world.run()
        assert world.settled().startswith("RolloutComplete")


def test_one_that_is_created_paused_starts_with_its_sidecars() -> None:
    """Without admission, and while another revision is on its way: resumed after an hour, it is rolled out once."""
    world = an_updated_world()
    ticks(world, 8)
    world.arrive(Deployment("new", spec={"paused": True}))
    world.tick()
    assert world["new"].revision == "web-a"
    ticks(world, 4 * LATE)
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")
    assert versions(world)["new"] == 0
    resume(world["new"])
    world.run()
    assert world.settled().startswith("RolloutComplete")
    assert (world["new"].revision, versions(world)["new"]) == ("web-b", 1)


def test_one_that_is_created_paused_is_no_first_one() -> None:
    world = a_world([Deployment("new", spec={"paused": True}), *thirty()])
    while not world.touched:
        world.tick()
    assert world["new"].revision is None
    ticks(world, 4 * LATE)
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolloutComplete")
    world["new"].breaks = frozenset({"web-a"})
    resume(world["new"])
    ticks(world, 2 * LATE)
    assert world["new"].revision is None, "what nobody had watched there goes back"


def test_what_is_taken_out_of_one_that_is_paused_keeps_no_deleted_policy() -> None:
    world = an_updated_world(thirty(revision="web-a"), TENTH, update="web-a")
    world.run()
    pause(world[FIRST])
    world.delete()
    ticks(world, 4 * LATE)
    assert everywhere(world, None)
    assert world.object is None
