"""Histories by seed: what people and owners do, and what goes wrong, told as a story that a person can read.

At the end of each there is peace: nothing goes wrong any more, owners mend what is broken, the author goes on with what
was halted and approves what is asked for. Then everything must be as the specs say, in bounded virtual time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, POLICIES, REPLICA_SETS, REVISIONS
from sidecarpolicy.kube.lease import LEASES
from sidecarpolicy.names import OnFailure, Removal, Strategy
from tests.simulation.controllers import TICK
from tests.simulation.faults import Trouble, some, while_
from tests.simulation.fleets import CANARY, EARLY
from tests.simulation.invariants import left_out
from tests.simulation.loop import HotLoop
from tests.simulation.operator import Replica
from tests.simulation.stories import Deployment, World, established

MOST_TICKS_TO_PEACE = 540  # an hour and a half: the longest that anything waits is an hour

PEOPLE = (
    *("the author writes the next revision",) * 4,
    "the author goes back to what was completed",
    "the author pauses it",
    *("the author unpauses it",) * 2,
    *("the author resumes it",) * 2,
    "the author sets onFailure: Halt",
    "the author sets onFailure: Rollback",
    "the author allows two failures",
    *("the author approves",) * 2,
    "the author narrows the selector by one",
    "the author selects all again",
    "an owner changes their image",
    "an owner ships a bad image",
    "an owner scales to nothing",
    "an owner scales to three",
    "an owner deletes a Deployment",
    "a new Deployment arrives",
    "an owner wipes the sidecars",
    "an owner opts out",
    "a node is lost",
    "somebody stops everything",
    *("somebody lets it go on",) * 2,
)

TROUBLES = (
    *("requests fail",) * 3,
    *("the operator crashes",) * 2,
    "the operator crashes before its next write",
    "the operator crashes after its next write",
    "the Lease cannot be written",
    *("a watch is held back",) * 3,
    *("events are lost until the next LIST",) * 2,
    "watches are compacted",
    "the operator is frozen",
    "its clock is set back",
    "its clock is set forward",
    "a second operator comes",
)

WATCHES: tuple[Resource, ...] = (DEPLOYMENTS, REPLICA_SETS, REVISIONS, NAMESPACES, POLICIES[names.POLICY])


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that happens before a tick; *lasts*: for how many ticks, *number*: which one."""

    tick: int
    what: str
    number: int
    lasts: int = 1

    def __str__(self) -> str:
        minutes, seconds = divmod(int(self.tick * TICK), 60)
        lasting = f" for {self.lasts * TICK:.0f} s" if self.what in TROUBLES else ""
        return f"{minutes:02}:{seconds:02}  {self.what}{lasting} ({self.number})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Deployment at the beginning."""

    name: str
    new: bool = False
    revision: str | None = None
    healthy: bool = True
    replicas: int = 2
    ticks: int = 2
    breaks: frozenset[str] = frozenset()
    crashes: frozenset[str] = frozenset()
    tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that a run depends on."""

    seed: int
    rollout: Rollout
    current: str | None
    fleet: tuple[Shape, ...]
    deeds: tuple[Deed, ...]

    def __str__(self) -> str:
        fleet = "\n".join(f"    {_without_defaults(each)}" for each in self.fleet)
        deeds = "\n".join(f"    {each}" for each in self.deeds)
        began = f"{self.current} everywhere, web-b was just written" if self.current else "web-a is new"
        return f"seed {self.seed}: {began}\n  {self.rollout}\n{fleet}\n  what happens:\n{deeds}"


def _without_defaults(shape: Shape) -> str:
    told = [f"{key}={getattr(shape, key)!r}" for key in Shape.__slots__ if key != "name"]
    usual = [f"{key}={getattr(Shape(name=''), key)!r}" for key in Shape.__slots__ if key != "name"]
    return " ".join([shape.name, *(each for each in told if each not in usual)])


def history(seed: int, *, troubled: bool = True) -> History:
    """The history of that seed; without trouble the same people do the same."""
    random = Random(seed)
    current = random.choice([None, "web-a", "web-a", "web-a"])
    update = "web-b" if current else "web-a"
    fleet = tuple(_shape(random, number, current, update) for number in range(1, random.randint(2, 8) + 1))
    rollout = Rollout(
        strategy=random.choice([Strategy.PROGRESSIVE] * 5 + [Strategy.ALL_AT_ONCE]),
        max_concurrent=random.choice([0.1, 0.5, 1, 2, 3]),
        min_ready_seconds=random.choice([0, 10, 30]),
        progress_deadline_seconds=random.choice([60, 120, 300]),
        max_failures=random.choice([0, 0, 1, 2]),
        on_failure=random.choice(list(OnFailure)),
        canary=random.choice([(), (), (), (CANARY,), (CANARY, EARLY)]),
        removal=random.choice([Removal.AUTOMATIC, Removal.AUTOMATIC, Removal.MANUAL]),
    )
    people = [
        Deed(tick=random.randint(1, 30), what=random.choice(PEOPLE), number=random.randint(0, 9))
        for _ in range(random.randint(0, 6))
    ]
    trouble = [
        Deed(
            tick=random.randint(1, 30),
            what=random.choice(TROUBLES),
            number=random.randint(0, 9),
            lasts=random.choice([1, 2, 3, 6, 9]),
        )
        for _ in range(random.randint(1, 4))
    ]
    deeds = sorted([*people, *(trouble if troubled else [])], key=lambda each: each.tick)
    return History(seed=seed, rollout=rollout, current=current, fleet=fleet, deeds=tuple(deeds))


def _shape(random: Random, number: int, current: str | None, update: str) -> Shape:
    new = random.random() < 0.15
    return Shape(
        name=f"app-{number}",
        new=new,
        revision=None if new else current,
        healthy=new or random.random() < 0.9,
        replicas=random.choice([2, 2, 2, 2, 0]),
        ticks=random.randint(1, 4),
        breaks=frozenset({update}) if random.random() < 0.2 else frozenset(),
        crashes=frozenset({update}) if random.random() < 0.08 else frozenset(),
        tier=random.choice(["", "", "", "canary"]),
    )


@dataclass
class Play:
    """A history while it runs; *ends*: what ends at which tick."""

    history: History

    def __post_init__(self) -> None:
        found = self.history
        self.random = Random(found.seed + 1)
        self.world = World(
            [_deployment(each) for each in found.fleet],
            found.rollout,
            current=found.current,
            update="web-b" if found.current else "web-a",
            seed=found.seed,
        )
        self.world.operator.lands = lambda: self.random.random() < 0.5
        self.ends: list[tuple[int, Callable[[], None]]] = []
        self.arrived = 0

    def run(self) -> World:
        """Let it happen, and make peace; raise AssertionError where something does not hold."""
        world, deeds = self.world, list(self.history.deeds)
        tick = 0
        while deeds or self.ends:
            tick += 1
            for when, end in [*self.ends]:
                if when <= tick:
                    end()
                    self.ends.remove((when, end))
            while deeds and deeds[0].tick <= tick:
                deed = deeds.pop(0)
                world.say(str(deed).partition("  ")[2])
                self.do(deed, tick)
            world.tick()
        self.make_peace()
        return world

    # Deeds

    def do(self, deed: Deed, tick: int) -> None:
        """Do what a deed says, where it can be done."""
        if deed.what in TROUBLES:
            self.trouble(deed, tick)
        elif deed.what.startswith("the author") or deed.what.startswith("somebody"):
            self.author(deed)
        else:
            self.owner(deed)

    def author(self, deed: Deed) -> None:
        """What the policy's author does."""
        world, rollout = self.world, self.world.rollout
        match deed.what.removeprefix("the author "):
            case "writes the next revision":
                world.edit(f"web-{chr(ord(world.update[-1]) + 1)}")
            case "goes back to what was completed":
                if world.current:
                    world.edit(world.current)
            case "pauses it":
                world.rollout = replace(rollout, paused=True)
            case "unpauses it":
                world.rollout = replace(rollout, paused=False)
            case "resumes it":
                world.resume()
            case "sets onFailure: Halt":
                world.rollout = replace(rollout, on_failure=OnFailure.HALT)
            case "sets onFailure: Rollback":
                world.rollout = replace(rollout, on_failure=OnFailure.ROLLBACK)
            case "allows two failures":
                world.rollout = replace(rollout, max_failures=2)
            case "approves":
                self.approve()
            case "narrows the selector by one":
                if world.deployments:
                    self.one(deed).selected = False
            case "selects all again":
                for each in world.deployments:
                    if not each.selected:
                        each.selected = True
            case "somebody stops everything":
                world.stopped = True
            case "somebody lets it go on":
                world.stopped = False
            case other:
                raise NotImplementedError(other)

    def approve(self) -> None:
        """Everything that could be asked for now."""
        world = self.world
        wanted = [f"canary/{each.name}@{world.update}" for each in world.rollout.canary]
        wanted += [f"removal@{world.generation}", f"removal@{world.generation}#stuck"]
        world.annotate(names.APPROVE, world.real(",".join(wanted)))

    def one(self, deed: Deed) -> Deployment:
        """The one that a deed is about."""
        return self.world.deployments[deed.number % len(self.world.deployments)]

    def owner(self, deed: Deed) -> None:
        """What owners do, and nodes."""
        if deed.what == "a new Deployment arrives":
            self.arrived += 1
            self.world.arrive(Deployment(f"new-{self.arrived}", ticks=1 + deed.number % 3))
            return
        if not self.world.deployments:
            return
        one = self.one(deed)
        match deed.what:
            case "an owner changes their image":
                one.hotfix()
            case "an owner ships a bad image":
                one.bad_versions = frozenset({one.version + 1})
                one.hotfix()
            case "an owner scales to nothing":
                one.scale(0)
            case "an owner scales to three":
                one.scale(3)
            case "an owner deletes a Deployment":
                self.world.leave(one)
            case "an owner wipes the sidecars":
                one.edit(_without_inits)
            case "an owner opts out":
                one.label(names.INJECT, "false")
            case "a node is lost":
                if one.complete:
                    one.lose_a_node()
            case other:
                raise NotImplementedError(other)

    # Trouble

    def trouble(self, deed: Deed, tick: int) -> None:
        """Let something go wrong for a while."""
        cluster, ends = self.world.cluster, tick + deed.lasts
        replica = cluster.replicas[deed.number % len(cluster.replicas)]
        until = (ends + 1) * TICK
        resource = WATCHES[deed.number % len(WATCHES)]
        if not replica.processes:
            return
        match deed.what:
            case "requests fail":
                share = (0.1, 0.3, 0.9)[deed.number % 3]
                usual = (Trouble.ERROR_BEFORE, Trouble.ERROR_AFTER, Trouble.THROTTLED, Trouble.CONFLICT)
                rare = (Trouble.TIMEOUT_BEFORE, Trouble.TIMEOUT_AFTER)
                cluster.faults.rules.append(some(self.random, share, usual + rare, until))
            case "the operator crashes":
                cluster.loop.call_later(self.random.random() * 8 + 2, self.crash, replica)
            case "the operator crashes before its next write":
                self.crash_at_next_write(replica, Trouble.CRASH_BEFORE)
            case "the operator crashes after its next write":
                self.crash_at_next_write(replica, Trouble.CRASH_AFTER)
            case "the Lease cannot be written":
                rule = while_(lambda it: it.resource == LEASES and it.at < until, Trouble.ERROR_BEFORE)
                cluster.faults.rules.append(rule)
            case "a watch is held back":
                self.hold(replica, resource, ends)
            case "events are lost until the next LIST":
                self.deafen(replica, resource, ends)
            case "watches are compacted":
                for each in WATCHES:
                    cluster.server.compact(each)
            case "the operator is frozen":
                if not replica.blind:
                    process = replica.process
                    replica.freeze()
                    self.ends.append((ends, lambda: process.thaw()))
            case "its clock is set back":
                replica.skew = replica.process.client.skew = -float(60 + 100 * deed.number)
            case "its clock is set forward":
                replica.skew = replica.process.client.skew = float(60 + 100 * deed.number)
            case "a second operator comes":
                if len(cluster.replicas) == 1:
                    cluster.add_replica("two", lands=replica.lands)
            case other:
                raise NotImplementedError(other)

    def crash(self, replica: Replica) -> None:
        """End it, where it runs."""
        if replica.process.alive:
            replica.crash()

    def crash_at_next_write(self, replica: Replica, trouble: Trouble) -> None:
        """Once."""
        process, after = replica.process.name, replica.process.client.writes
        done: list[bool] = []

        def rule(request: Any) -> Trouble | None:
            if done or request.process != process or request.write <= after or request.resource == LEASES:
                return None
            done.append(True)
            return trouble

        self.world.cluster.faults.rules.append(rule)

    def hold(self, replica: Replica, resource: Resource, ends: int) -> None:
        """A watch that lags."""
        client = replica.process.client
        if resource in client.held:
            return
        holding = replica.hold(resource)

        def let_go() -> None:
            holding.set()
            client.held.pop(resource, None)

        self.ends.append((ends, let_go))

    def deafen(self, replica: Replica, resource: Resource, ends: int) -> None:
        """A watch that loses what happens; then it breaks, and there is a LIST."""
        client = replica.process.client
        client.unheard, client.deaf = lambda kind, _type, _body: kind == resource, True

        def hear() -> None:
            client.unheard, client.deaf = None, False
            self.world.cluster.server.compact(resource)

        self.ends.append((ends, hear))

    # The end

    def make_peace(self) -> None:
        """Let nothing go wrong any more, mend everything, and see that all comes out as it should."""
        world = self.world
        world.say("peace: nothing goes wrong any more, and everything is mended")
        world.cluster.faults.rules.clear()
        for replica in world.cluster.replicas:
            replica.keep_running()
            replica.skew = replica.process.client.skew = 0.0
        for each in world.deployments:
            each.breaks = each.crashes = frozenset()
            each.bad_versions = frozenset()
            if not each.healthy and each.complete:
                world.controllers.recover(each.body)
        if world.stopped:
            world.stopped = False
        if world.rollout.paused:
            world.rollout = replace(world.rollout, paused=False)
        for number in range(MOST_TICKS_TO_PEACE):
            world.tick()
            if not self.amiss():
                break
            if number % 20 == 19:
                self.approve()
                if world.settled().startswith("CompletedWithFailures"):  # nothing is halted: nothing to resume
                    world.edit(f"web-{chr(ord(world.update[-1]) + 1)}")
                elif any(each.halt for each in world.stored()):
                    world.resume()
        else:
            raise AssertionError("; ".join(self.amiss()))
        for _ in range(6):
            world.tick()
        assert not self.amiss(), self.amiss()
        self.count_rollouts()

    def amiss(self) -> list[str]:
        """What is not as the spec says."""
        world, found = self.world, []
        for each in world.deployments:
            wanted = world.update if each.selected and not left_out(each.body) else None
            if each.revision != wanted:
                found.append(f"{each.name} bears {each.revision}, not {wanted}")
            elif not each.complete:
                found.append(f"{each.name} is not rolled out")
        settled = world.settled().partition(":")[0]
        if settled not in ("RolloutComplete", "NoTargets", "AllSkipped"):
            found.append(world.settled())
        return found

    def count_rollouts(self) -> None:
        """No Deployment was moved to a revision more often than there was reason to."""
        world = self.world
        attempts = {world.told(each.revision.name): each.attempt for each in world.stored()}
        for (place, policy), moves in world.cluster.invariants.rollouts.items():
            for revision in set(moves) - {None}:
                times = moves.count(revision)
                back = sum(each.deployment == "/".join(place) and bool(each.note.failed) for each in world.moves)
                again = sum("wipes" in each.what for each in self.history.deeds)
                allowed = attempts.get(str(revision), 1) + back + again + 1
                assert times <= allowed, f"{place[1]} went {times} times to {revision} of {policy}: {moves}"


def _deployment(shape: Shape) -> Deployment:
    fields: dict[str, Any] = {key: getattr(shape, key) for key in ("replicas", "ticks", "breaks", "crashes", "tier")}
    if shape.new:
        return Deployment(shape.name, **fields)
    return established(shape.name, revision=shape.revision, healthy=shape.healthy, **fields)


def _without_inits(body: Json) -> Json:
    template = body["spec"]["template"]
    pod = {key: value for key, value in template["spec"].items() if key != "initContainers"}
    return {**body, "spec": {**body["spec"], "template": {**template, "spec": pod}}}


# Failing, and shrinking


def outcome(found: History) -> tuple[str, str]:
    """What does not hold in a history (empty: all does), and how it went."""
    play = Play(found)
    try:
        play.run()
    except (AssertionError, HotLoop) as error:
        return str(error) or repr(error), play.world.transcript()
    finally:
        play.world.cluster.end()
    return "", play.world.transcript()


def kind_of(failure: str) -> str:
    """What failures have in common that only differ in names and times."""
    words = [each for each in failure.splitlines()[0].split() if not any(letter.isdigit() for letter in each)]
    return " ".join(words)[:60]


def shrunk(found: History, failure: str, most: int = 60) -> History:
    """The same failure with fewer deeds and Deployments."""
    tries = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(found):
            tries += 1
            if tries > most:
                return found
            if kind_of(outcome(candidate)[0] or "-") == kind_of(failure):
                found, smaller = candidate, True
                break
    return found


def _smaller(found: History) -> Iterable[History]:
    for index in range(len(found.deeds)):
        yield replace(found, deeds=found.deeds[:index] + found.deeds[index + 1 :])
    for index in range(len(found.fleet)):
        if len(found.fleet) > 1:
            yield replace(found, fleet=found.fleet[:index] + found.fleet[index + 1 :])
    for index, shape in enumerate(found.fleet):
        plain = Shape(name=shape.name, revision=shape.revision)
        if shape != plain:
            yield replace(found, fleet=(*found.fleet[:index], plain, *found.fleet[index + 1 :]))


def report(found: History) -> str:
    """Why a history fails, as a story; empty where it does not."""
    failure, _ = outcome(found)
    if not failure:
        return ""
    least = shrunk(found, failure)
    why, transcript = outcome(least)
    again = f"PYTHONHASHSEED={os.environ.get('PYTHONHASHSEED', 'random')}"
    return f"{why or failure}\n\n{least}\n\n{transcript}\n(seed {found.seed}, {again})"
