"""What Sieve does to controllers: the same short story with the operator crashing at every write, and stale or
unobserved state at every event (https://github.com/sieve-project/sieve).

Each story is played once as it is, and then once for every write or event; the end has to be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES, REPLICA_SETS, REVISIONS
from sidecarpolicy.kube.lease import LEASES
from sidecarpolicy.names import OnFailure, Removal
from tests.simulation.faults import Fault, Request, Rule
from tests.simulation.fleets import CANARY, a_world, an_updated_world, ticks
from tests.simulation.stories import Deployment, World, established

TINY = Rollout(max_concurrent=2, min_ready_seconds=10, progress_deadline_seconds=60)
HELD_TICKS = 3


def three(revision: str | None = "web-a", *, bad: str = "", update: str = "web-b") -> list[Deployment]:
    """Three Deployments, of which *bad* (names) break with the update."""
    return [
        established(name, revision=revision, breaks=frozenset({update}) if name in bad else frozenset())
        for name in ("one", "two", "six")
    ]


def _first_injection() -> World:
    return a_world(three(None), TINY)


def _update() -> World:
    return an_updated_world(three(), TINY)


def _bad_update() -> World:
    return an_updated_world(three(bad="one two six"), TINY)


def _bad_first_injection() -> World:
    return a_world(three(None, bad="one two six", update="web-a"), TINY)


def _bad_update_left() -> World:
    return an_updated_world(three(bad="one two six"), replace(TINY, on_failure=OnFailure.HALT))


def _canary() -> World:
    fleet = three()
    fleet[0].tier = "canary"
    return an_updated_world(fleet, replace(TINY, canary=(CANARY,)))


def _removal() -> World:
    return an_updated_world(three(), replace(TINY, removal=Removal.AUTOMATIC), update="web-a")


def edited(world: World) -> None:
    """The author goes on to another revision after a while."""
    ticks(world, 6)
    world.edit("web-c")


def resumed(world: World) -> None:
    """What was wrong is mended, and the author resumes."""
    for _ in range(60):
        if world.halted:
            break
        world.tick()
    ticks(world, 4)
    for each in world.deployments:
        each.breaks = frozenset()
    world.resume()


def deleted(world: World) -> None:
    """The author deletes the policy."""
    ticks(world, 3)
    world.delete()


def narrowed(world: World) -> None:
    """The author narrows the selector, and a new Deployment arrives."""
    ticks(world, 3)
    world.deployments[0].selected = False
    world.arrive(Deployment("new"))


def nothing(world: World) -> None:
    """Nobody does anything."""


STORIES: dict[str, tuple[Callable[[], World], Callable[[World], None]]] = {
    "first injection": (_first_injection, nothing),
    "update": (_update, nothing),
    "bad update": (_bad_update, nothing),
    "bad first injection": (_bad_first_injection, nothing),
    "bad update left": (_bad_update_left, nothing),
    "edited half way": (_update, edited),
    "resumed after a halt": (_bad_update, resumed),
    "canary": (_canary, nothing),
    "deleted": (_removal, deleted),
    "deleted half way": (_update, deleted),
    "narrowed": (_removal, narrowed),
}


def played(story: str, prepare: Callable[[World], None] = lambda world: None) -> World:
    """The story to its end, after *prepare*."""
    fresh, people = STORIES[story]
    world = fresh()
    prepare(world)
    people(world)
    world.run()
    return world


def the_end(world: World) -> tuple[object, ...]:
    """What has to be the same."""
    return world.end(), world.settled().partition(":")[0], frozenset(world.halted)


def writes(world: World) -> int:
    """How often the first process wrote, without the Lease."""
    process = world.operator.processes[0]
    return sum(each.write > 0 and each.resource != LEASES for each in process.client.requests)


def crash_at(number: int, trouble: Fault) -> Callable[[World], None]:
    """The first process ends at its *number*th write."""

    def rule_of(world: World) -> Rule:
        seen: list[Request] = []

        def rule(request: Request) -> Fault | None:
            if request.process != "one-1" or not request.write or request.resource == LEASES:
                return None
            seen.append(request)
            return trouble if len(seen) == number else None

        return rule

    return lambda world: world.cluster.faults.rules.append(rule_of(world))


WATCHED: tuple[Resource, ...] = (DEPLOYMENTS, REPLICA_SETS, REVISIONS, *POLICIES.values())


def events(world: World) -> dict[Resource, int]:
    """How many changes of each kind there were to be told."""
    return {each: len(world.server.collections[each].changes) for each in WATCHED}


def unheard_at(resource: Resource, number: int) -> Callable[[World], None]:
    """The *number*th event of a watch is never told; some time after there is a LIST."""

    def prepare(world: World) -> None:
        told = 0
        loop, server = world.cluster.loop, world.server

        def unheard(kind: Resource, _type: str, _body: Json) -> bool:
            nonlocal told
            if kind != resource:
                return False
            told += 1
            if told == number:
                world.operator.process.client.deaf = True
                loop.call_later(HELD_TICKS * 10.0, again)
            return told == number

        def again() -> None:
            client = world.operator.process.client
            client.unheard, client.deaf = None, False
            server.compact(resource)

        world.operator.start()
        world.operator.process.client.unheard = unheard

    return prepare


def held_at(resource: Resource, number: int) -> Callable[[World], None]:
    """From the *number*th event on, a watch tells nothing for a while."""

    def prepare(world: World) -> None:
        told = 0
        world.operator.start()
        client = world.operator.process.client

        def count(kind: Resource, _type: str, _body: Json) -> bool:
            nonlocal told
            if kind == resource:
                told += 1
                if told == number:
                    holding = world.operator.hold(resource)

                    def let_go() -> None:
                        holding.set()
                        client.held.pop(resource, None)

                    world.cluster.loop.call_later(HELD_TICKS * 10.0, let_go)
            return False

        client.unheard = count

    return prepare
