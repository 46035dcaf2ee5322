"""Stories of objects that somebody has mangled: one of them is told or left alone, and the others go on."""

from __future__ import annotations

import json

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.tree import items
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from tests.simulation.fleets import an_updated_world, everywhere, ticks
from tests.simulation.stories import World, established
from tests.simulation.test_faults import QUICK

# A million years would not be enough to count to it; an int of Python's has no more than 4300 digits in text.
HUGE = "9" * 5000

# In JSON the half of a pair that stands for one character; no UTF-8 has it alone.
HALF_A_PAIR = "\\ud800"


def a_fleet() -> World:
    """Three Deployments, to which web-b is to come."""
    return an_updated_world([established(f"app-{number:02}", revision="web-a") for number in range(1, 4)], QUICK)


def goes_on(world: World) -> None:
    """No process ended, and everybody got what they were to get."""
    for _ in range(40):
        world.tick()
    assert not world.operator.process.failed
    assert len(world.operator.processes) == 1
    assert everywhere(world, "web-b")
    assert world.settled().startswith("RolloutComplete")


def test_a_revision_number_that_is_none_ends_no_operator() -> None:
    """Anybody who may annotate a Deployment could have ended the operator for everybody."""
    world = a_fleet()
    ticks(world, 1)
    world["app-01"].annotate("deployment.kubernetes.io/revision", HUGE)
    ticks(world, 1)
    goes_on(world)


@pytest.mark.parametrize("time", ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"])
def test_a_time_that_no_calendar_has_ends_no_operator(time: str) -> None:
    """The API server takes the times in managedFields as whoever writes them gives them."""
    world = a_fleet()
    entry = {"manager": "odd", "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {}}
    body = world["app-01"].body
    managed = [*items(body["metadata"], "managedFields"), entry, {**entry, "subresource": "status"}]
    world.server._store(
        DEPLOYMENTS,
        world["app-01"].place,
        body,
        {**body, "metadata": {**body["metadata"], "managedFields": managed}},
        "MODIFIED",
    )
    goes_on(world)


def test_a_record_with_half_a_character_is_mangled_and_stops_nobody() -> None:
    """What cannot be written as UTF-8 could neither be told in a status or an Event nor be written again."""
    world = a_fleet()
    record = json.loads(world["app-01"].record)
    text = json.dumps(record | {"policies": record["policies"] | {"SidecarPolicy/shop/HALF": {"revision": "x-1"}}})
    world["app-01"].annotate(names.RECORD, text.replace("HALF", HALF_A_PAIR))
    ticks(world, 40)
    assert not world.operator.process.failed
    assert [each.revision for each in world.deployments] == ["web-a", "web-b", "web-b"]
    assert "RecordRebuilt" in {each.reason for each in world.operator.told}
    for each in world.operator.told:
        each.message.encode()
    json.dumps(world.status, ensure_ascii=False).encode()


def test_a_status_that_somebody_has_cut_is_written_anew() -> None:
    """The schema asks for no more than these fields of a failure."""
    world = an_updated_world([established("app-01", revision="web-a", breaks=frozenset({"web-b"}))], QUICK)
    world.run()
    (failure,) = world.status["failures"]
    cut = {key: failure[key] for key in ("namespace", "name", "reason")}
    body = world.object
    assert body is not None
    world.server.update(
        POLICIES[names.POLICY], body, {**body, "status": {**body["status"], "failures": [cut]}}, subresource="status"
    )
    world.operator.stop()
    ticks(world, 6)
    assert not world.operator.process.failed
    (again,) = world.status["failures"]
    assert again["revision"] == failure["revision"]
