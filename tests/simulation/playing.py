"""A history while it is played, and the peace at its end: then everything must be as the specs say, in bounded time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.tree import at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.port import ApiError
from sidecarpolicy.engine.resources import POLICIES
from tests.core.objects import WEB
from tests.simulation.controllers import NO_DEADLINE, TICK
from tests.simulation.deeds import Deed
from tests.simulation.fleets import EVERYWHERE
from tests.simulation.invariants import has_a_name_of_ours, is_in_fleet, left_out, place_of
from tests.simulation.operator import Replica
from tests.simulation.people import anybody, author, beside_us, owner, rivals, unpaused
from tests.simulation.stories import SIGHT, Cluster, Deployment, World, established
from tests.simulation.troubles import SLOWEST, trouble

if TYPE_CHECKING:
    from tests.simulation.histories import History, Shape

MOST_TICKS_TO_PEACE = 540  # an hour and a half: the longest that anything waits is an hour
MOST_TICKS_AT_WAR = 200

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")
ANYTHING = "anything"

# What precedence the other policy has where both have a sidecar of one name.
RIVALS: dict[str, Any] = {"": {}, "above": {"priority": 1}, "below": {"priority": -1}}

SPECS: dict[str, Any] = {
    "": {},
    "no deadline": {"progressDeadlineSeconds": NO_DEADLINE},
    "waits long": {"minReadySeconds": 45},
    "no history": {"revisionHistoryLimit": 0},
}


class Play:
    """*ends*: what is to be done before which tick. *torn*: how often something happened that no backup can undo.

    *going*: namespaces that are being deleted. *others*: policies beside the one that the history is about.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.random = Random(history.seed + 1)
        self.cluster_wide = history.cluster_wide
        self.namespaces = sorted({"shop", *(each.namespace for each in history.fleet)})
        self.world = World(
            [_deployment(each) for each in history.fleet],
            history.rollout,
            current=history.current,
            update="web-b" if history.current else "web-a",
            seed=history.seed,
            spec={"revisionHistoryLimit": history.limit},
            policy=EVERYWHERE if history.cluster_wide else WEB,
        )
        self.others: list[World] = []
        if history.beside:
            quiet = Rollout(max_concurrent=2, min_ready_seconds=10, progress_deadline_seconds=120)
            log = World(
                [],
                quiet,
                policy=LOG,
                update="log-a",
                name="log",
                cluster=self.cluster,
                seed=history.seed,
                sidecar_name="proxy" if history.rival else "",
                spec=RIVALS[history.rival],
            )
            log.lines = self.world.lines
            self.others.append(log)
        self.world.operator.lands = lambda: self.random.random() < 0.5
        if history.replicas > 1:
            self.cluster.add_replica("two", lands=self.world.operator.lands)
        self.ends: list[tuple[int, Callable[[], None]]] = []
        self.tick = self.arrived = self.torn = self.restored = self.made_anew = 0
        self.going: set[str] = set()
        self.orphaned = False

    @property
    def cluster(self) -> Cluster:
        """Where it is played."""
        return self.world.cluster

    @property
    def worlds(self) -> list[World]:
        """Every policy's."""
        return [self.world, *self.others]

    def run(self) -> World:
        """Let it happen, and make peace; raise AssertionError where something does not hold."""
        deeds = list(self.history.deeds)
        while deeds or self.ends:
            self.tick += 1
            assert self.tick < MOST_TICKS_AT_WAR
            due = [each for each in self.ends if each[0] <= self.tick]
            self.ends = [each for each in self.ends if each[0] > self.tick]
            for _, end in due:
                self.attempt(end)
            while deeds and deeds[0].tick <= self.tick:
                self.do(deeds.pop(0))
            self.pass_a_tick()
        self.make_peace()
        return self.world

    def pass_a_tick(self) -> None:
        """Let time go on."""
        self.world.cluster_tick()
        for each in self.worlds:
            each.note()

    # What deeds need

    def do(self, deed: Deed) -> None:
        """Do what a deed says, where it can be done."""
        world, what = self.world, deed.what
        self.world.say(str(deed).partition("  ")[2])
        if what in trouble.by_name:
            if self.replica(deed).processes:
                self.attempt(lambda: trouble.by_name[what](self, deed))
        elif what in anybody.by_name:
            self.attempt(lambda: anybody.by_name[what](self, deed))
        elif what in rivals.by_name:
            self.attempt(lambda: rivals.by_name[what](self, deed))
        elif what in author.by_name and world.object is not None and not world.deleting:
            self.attempt(lambda: author.by_name[what](self, deed))
        elif what in owner.by_name and world.deployments:
            self.attempt(lambda: owner.by_name[what](self, deed))
        elif what in beside_us.by_name and world.deployments:
            self.attempt(lambda: beside_us.by_name[what](self, deed))

    def attempt(self, act: Callable[[], None]) -> None:
        """What the server refuses is not done."""
        try:
            act()
        except ApiError as error:
            self.world.say(f"   refused: {error}")

    def later(self, tick: int, end: Callable[[], None]) -> None:
        """Do something before a later tick."""
        self.ends.append((tick, end))

    def until(self, deed: Deed) -> float:
        """When a deed is over, in virtual seconds."""
        return (deed.ends + 1) * TICK

    def hinder(self, deed: Deed) -> None:
        """For as long as a deed lasts, and what it has held up is on its way, nobody can tell what is."""
        word = f"{deed.what} {deed.tick} {deed.number}"
        self.cluster.hindered.add(word)
        self.later(deed.ends + 1 + int((SLOWEST + SIGHT) / TICK), lambda: self.cluster.hindered.discard(word))

    def one(self, deed: Deed) -> Deployment:
        """The Deployment that a deed is about."""
        return self.world.deployments[deed.number % len(self.world.deployments)]

    def replica(self, deed: Deed) -> Replica:
        """The operator that a deed is about."""
        return self.cluster.replicas[deed.number % len(self.cluster.replicas)]

    def next_revision(self) -> str:
        """One that never was."""
        return f"web-{chr(ord(self.world.update[-1]) + 1)}"

    def anew(self, one: Deployment) -> Deployment:
        """A new one of the same name and kind."""
        self.made_anew += 1
        behaviour = one.behaviour
        return Deployment(
            one.name,
            namespace=one.namespace,
            tier=one.tier,
            selected=one.selected,
            recreates=one.recreates,
            spec=one.spec,
            ticks=behaviour.ticks,
            breaks=behaviour.breaks - {""},
            crashes=behaviour.crashes,
        )

    def approve(self, world: World) -> None:
        """Everything that could be asked for now."""
        if world.object is None:
            return
        wanted = [f"canary/{each.name}@{world.update}" for each in world.rollout.canary]
        wanted += [f"removal@{world.generation}", f"removal@{world.generation}#stuck"]
        world.annotate(names.APPROVE, world.real(",".join(wanted)))

    def create_again(self) -> None:
        """The policy, where it is gone, and its sidecars with it."""
        world = self.world
        served = world.server.collections[POLICIES[world.policy.kind]].installed
        if world.object is None and served and not self.orphaned and not self.going:
            world.create_policy()

    # The end

    def make_peace(self) -> None:
        """Let nothing go wrong any more, mend everything, and see that all comes out as it should."""
        world = self.world
        world.say("peace: nothing goes wrong any more, and everything is mended")
        self.cluster.faults.rules.clear()
        for replica in self.cluster.replicas:
            replica.keep_running()
            replica.skew = replica.process.client.clock.skew = 0.0
        for each in world.deployments:
            each.breaks = each.crashes = frozenset()
            each.bad_versions = frozenset()
            if not each.healthy and (each.complete or each.has_all_pods):
                world.controllers.recover(each.body)
            if each.body["spec"].get("paused"):  # a backup has brought that back
                each.edit(unpaused)
        if world.stopped:
            world.stopped = False
        if world.rollout.paused:
            world.rollout = replace(world.rollout, paused=False)
        for number in range(MOST_TICKS_TO_PEACE):
            self.pass_a_tick()
            if not self.amiss():
                break
            if number % 20 == 19:
                self.go_on()
        else:
            raise AssertionError("; ".join(self.amiss()))
        for _ in range(6):
            self.pass_a_tick()
        assert not self.amiss(), self.amiss()
        self.count_rollouts()

    def go_on(self) -> None:
        """What authors do when their status asks for something."""
        for world in self.worlds:
            self.approve(world)
            if world.object is None or world.deleting:
                continue
            if world.settled().startswith("CompletedWithFailures"):  # nothing is halted: nothing to resume
                world.edit(f"{world.policy.name}-{chr(ord(world.update[-1]) + 1)}")
            elif any(each.halt for each in world.stored()):
                world.resume()

    def amiss(self) -> list[str]:
        """What is not as the specs say."""
        found: list[str] = []
        for world in self.worlds:
            found += self._amiss_of(world)
        found += [f"{each.name} is not rolled out" for each in self.world.deployments if not each.complete]
        return found

    def _amiss_of(self, world: World) -> Iterator[str]:
        given_up = self.cluster.invariants.given_up
        for each in self.world.deployments:
            if (world.policy.name, each.place) in given_up:
                continue
            wanted, has = self.wanted(world, each), each.bears(world.policy.name)
            if wanted not in (has, ANYTHING):
                yield f"{each.name} bears {has}, not {wanted}"
            elif wanted is ANYTHING and world.object is None and record_of(each.record).entries.get(world.policy):
                yield f"{each.name} has still an entry of {world.policy.name}"
        if world.deleting:
            if world.object is not None:
                yield f"{world.policy.name} is not gone: {world.settled()}"
            return
        settled = world.settled().partition(":")[0]
        if settled not in ("RolloutComplete", "NoTargets", "AllSkipped"):
            yield world.settled()

    def wanted(self, world: World, each: Deployment) -> str | None:
        """What a Deployment must bear of a policy at the end, where another one may have the place."""
        wanted = self._wanted_alone(world, each)
        if not self.history.rival or wanted is None:
            return wanted
        above = self.others[0] if self.history.rival == "above" and not self.cluster_wide else self.world
        first = self._wanted_alone(above, each) if above is not world else None
        return wanted if first is None else ANYTHING if first == ANYTHING else None

    def _wanted_alone(self, world: World, each: Deployment) -> str | None:
        """What it must bear of a policy as if that were the only one."""
        body = each.body
        if world.deleting:
            return ANYTHING if (self.orphaned and world is self.world) or has_a_name_of_ours(body) else None
        reached = not world.policy.namespace or world.policy.namespace == each.namespace
        selected = reached and is_in_fleet(body) and (each.selected or world is not self.world)
        if not selected or at(body, "metadata", "labels").get(names.INJECT) == "false":
            return ANYTHING if place_of(body) in self.cluster.invariants.without_record else None
        if names.PIN in at(body, "metadata", "annotations") and not has_a_name_of_ours(body):
            if world is not self.world:
                return world.update
            stored = {world.told(stored.revision.name) for stored in world.stored()}
            return each.pinned_to if each.pinned_to in stored else ANYTHING
        return ANYTHING if left_out(body) else world.update

    def count_rollouts(self) -> None:
        """No Deployment was moved to a revision more often than there was reason to."""
        world = self.world
        attempts = {world.told(each.revision.name): each.attempt for each in world.stored()}
        again = sum(any(word in each.what for word in REASONS) for each in self.history.deeds)
        for (place, policy), moves in self.cluster.invariants.rollouts.items():
            for revision in set(moves) - {None}:
                times = moves.count(revision)
                back = sum(each.deployment == "/".join(place) and bool(each.note.failed) for each in world.moves)
                allowed = attempts.get(str(revision), 1) + back + again + 1
                assert times <= allowed, f"{place[1]} went {times} times to {revision} of {policy}: {moves}"


# Words of deeds after which a Deployment may get once more what it had.
REASONS = ("wipes", "restored", "opts in", "label back", "all again", "creates the policy", "goes back", "pin")


def _deployment(shape: Shape) -> Deployment:
    fields: dict[str, Any] = {
        key: getattr(shape, key) for key in ("namespace", "replicas", "ticks", "breaks", "crashes", "tier")
    }
    fields["recreates"] = shape.kind == "recreates"
    fields["spec"] = SPECS.get(shape.kind, {})
    if shape.new:
        return Deployment(shape.name, **fields)
    return established(shape.name, revision=shape.revision, healthy=shape.healthy, **fields)
