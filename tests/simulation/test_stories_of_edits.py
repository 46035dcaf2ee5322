"""Stories of what authors edit about a rollout while it is under way, halted or waiting."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy.names import OnFailure
from tests.simulation.fleets import TENTH, an_updated_world, bad, ticks


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
