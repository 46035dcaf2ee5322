"""Stories of what authors edit about a rollout while it is under way, halted or waiting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.kinds.deployment import POD_LABEL, REVISION_ANNOTATION
from sidecarpolicy.core.tree import at, items
from sidecarpolicy.engine.resources import POLICIES, REPLICA_SETS
from sidecarpolicy.names import OnFailure
from tests.simulation.fleets import FIRST, LEFT, TENTH, an_updated_world, bad, everywhere, ticks
from tests.simulation.server import Change
from tests.simulation.stories import Deployment, World, established


def test_a_halt_says_what_has_become_of_what_failed_and_not_what_would_by_now() -> None:
    world = an_updated_world(bad(), TENTH)
    world.run()
    assert world.settled().startswith("RolledBack")
    world.rollout = replace(TENTH, on_failure=OnFailure.HALT)
    ticks(world, 5)
    assert world.settled().startswith("RolledBack") and "; rolled back (" in world.settled()
    world.resume()
    world.run()
    assert world.settled().startswith("RolloutHalted") and "; left for inspection (" in world.settled()


def undo(deployment: Deployment) -> None:
    """Do as `kubectl rollout undo`: the template and the annotations of the ReplicaSet before the newest."""
    assert deployment.world is not None
    owned = [
        each
        for each in deployment.world.server.every(REPLICA_SETS, deployment.namespace)
        if each["metadata"]["ownerReferences"][0]["name"] == deployment.name
    ]
    before = sorted(owned, key=lambda each: int(each["metadata"]["annotations"][REVISION_ANNOTATION]))[-2]
    metadata = before["spec"]["template"]["metadata"]
    labels = {key: value for key, value in metadata["labels"].items() if key != POD_LABEL}
    template = {**before["spec"]["template"], "metadata": {**metadata, "labels": labels}}
    deployment.edit(
        lambda body: {
            **body,
            "metadata": {**body["metadata"], "annotations": before["metadata"]["annotations"]},
            "spec": {**body["spec"], "template": template},
        }
    )


@pytest.mark.parametrize("who", ["the author", "the owner"])
def test_what_is_on_its_way_back_to_what_was_completed_goes_back_to_that_again(who: str) -> None:
    """A bad revision never takes out of a Deployment what it had before."""
    broken = {"the author": "web-c", "the owner": "web-b"}[who]
    world = an_updated_world(bad(update=broken), TENTH)
    world[FIRST].ticks = 6
    while world[FIRST].revision != "web-b":
        world.tick()
    world.tick()
    if who == "the author":
        world.edit("web-a")
        world.tick()
        assert world[FIRST].revision == "web-a" and not world[FIRST].complete
        world.edit("web-c")
    else:
        undo(world[FIRST])
        assert world[FIRST].revision == "web-a"
    world.run()
    assert world.settled().startswith("RolledBack")
    assert everywhere(world, "web-a")


def told(world: World) -> list[str]:
    """Reason and generation of each status, from now on."""
    found: list[str] = []

    def note(change: Change) -> None:
        if change.resource == POLICIES[names.POLICY] and change.after is not None:
            status = at(change.after, "status")
            ready = [each["reason"] for each in items(status, "conditions") if each["type"] == "Ready"]
            found.extend(f"{reason} {status['observedGeneration']}" for reason in ready)

    world.server.observers.append(note)
    return found


def test_an_edit_that_mends_what_is_left_for_inspection_has_not_failed_before_it_is_tried() -> None:
    world = an_updated_world([established("app-01", revision="web-a", breaks=frozenset({"web-b"}))], LEFT)
    world.run()
    assert world.settled().startswith("RolloutHalted")
    reasons = told(world)
    world.edit("web-c")
    world.run()
    assert world.settled().startswith("RolloutComplete")
    newest = [each for each in reasons if each.endswith(f" {world.generation}")]
    assert newest and not any(each.startswith(("CompletedWithFailures", "RolloutHalted")) for each in newest)


@pytest.mark.parametrize("others", [0, 2])
def test_an_edit_that_waits_for_its_author_says_so_whatever_has_failed_before(others: int) -> None:
    fleet = [established(f"app-{each}", revision="web-a", breaks=frozenset({"web-b"})) for each in range(1 + others)]
    world = an_updated_world(fleet, LEFT)
    world.run()
    world.rollout = replace(LEFT, paused=True)
    world.edit("web-c")
    ticks(world, 3)
    assert world.settled().startswith("Paused: ") and "1 failed" in world.settled()
    world.rollout = LEFT
    world.run()
    assert world.settled().startswith("RolloutComplete")
