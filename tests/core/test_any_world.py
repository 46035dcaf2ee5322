"""What holds of rollouts in any world, whatever people do: property tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.names import OnFailure, Removal, Strategy
from tests.core.stories import (
    CANARY,
    EARLY,
    noted,
)
from tests.core.world import TICK, Deployment, World, established


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


def act(world: World, watch: Watch, action: str, number: int) -> None:
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
            one.taken_over = watch.is_over(one)
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
        self.started: dict[str, float] = {}
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

    def is_over(self, deployment: Deployment) -> bool:
        """Whether our rollout is, or has been for so long that what follows cannot be told from the owner's own."""
        rollout, begun = self.world.rollout, self.started.get(deployment.name, 0.0)
        late = self.world.now - begun >= rollout.progress_deadline_seconds + rollout.min_ready_seconds
        return deployment.name not in self.flying or (late and deployment.complete)

    def forgiven(self) -> set[str]:
        """Those that were unhealthy before and have failed: they hold no slot."""
        assert self.world.looked is not None
        targets = self.world.looked.targets
        return {each.workload.name for each in targets if each.failing and each.note.unhealthy_before}

    def is_down(self, deployment: Deployment) -> bool:
        """Whether its rollout is complete and soaked; what is removed or current need not soak."""
        if not deployment.complete:
            return False
        if self.flying[deployment.name] in (None, self.world.current):
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
        mixed: list[Target] = random.sample(targets, len(targets))
        return mixed

    watch = Watch(world)
    for action, number in actions:
        act(world, watch, action, number)
        step(world, watch, shuffled)
    act(world, watch, "unpause", 0)
    act(world, watch, "go on", 0)
    world.run()
    reason = world.settled().partition(":")[0]
    look = world.look()
    # What joined is on its owner's first rollout, which need not end.
    unfinished = any(each.joined and not each.complete for each in world.deployments)
    assert reason in END or unfinished, world.transcript()
    if reason == "RolloutComplete":
        assert all(each.revision == world.update for each in look.targets if each.skip is None)
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
    watch.started |= dict.fromkeys(moved, world.now)
    looked = world.looked
    assert looked is not None
    assert sum(made.counts.values()) == len(looked.targets)
    assert made.counts == {state: sum(each.state is state for each in looked.targets) for state in State}
    if world.rollout.strategy is Strategy.PROGRESSIVE and started:
        workloads = sum(each.skip is None for each in looked.targets) + len(looked.removing)
        assert len(watch.flying) <= world.rollout.budget(workloads), world.transcript()
    untried = world.update not in world.completed | watch.landed
    if world.rollout.strategy is Strategy.PROGRESSIVE and untried and not world.deleting:
        assert sum(revision == world.update for revision in watch.flying.values()) <= 1, world.transcript()
    ahead = {name for name, revision in moved.items() if revision == world.update}
    assert not failed & ahead, "what failed is not tried again in the same attempt"
    assert not (ahead and (halted or world.rollout.paused)), world.transcript()
    assert not (there and world.stopped)
    if CANARY in world.rollout.canary and ahead and world.update != world.current:
        canaries = [each for each in looked.targets if each.group == "canary" and each.skip is None]
        waiting = {each.workload.name for each in canaries if each.state in (State.PENDING, State.PROGRESSING)}
        beyond = ahead - {each.workload.name for each in canaries}
        assert not beyond or all(world[name].replicas == 0 for name in waiting), world.transcript()
    back = {name for name in moved if noted(world[name]).failed == world.attempt}
    assert not back or world.rollout.on_failure is OnFailure.ROLLBACK
    if sum(each.counts for each in looked.targets) > world.rollout.max_failures and not world.deleting:
        assert world.attempt in world.halted
    mixed = replace(looked, targets=shuffled(looked.targets), removing=shuffled(looked.removing))
    assert mixed.plan == made
    assert mixed.steps() == world.steps


@given(st.integers(0, 2**32))
def test_any_interleaving_of_ticks_gives_the_same_end(seed: int) -> None:
    """Controllers and planner take turns as they like: some see nothing for a while, the planner looks late."""

    def fresh() -> World:
        deployments = [established(f"app-{number:02}", revision="web-a", ticks=1 + number % 3) for number in range(8)]
        deployments[2].breaks = deployments[5].breaks = frozenset({"web-b"})
        deployments[6].replicas = deployments[6].sets[0].replicas = 0
        rollout = Rollout(max_concurrent=2, min_ready_seconds=10, progress_deadline_seconds=120, max_failures=2)
        return World(deployments, rollout, update="web-b", current="web-a", completed={"web-a"})

    whole = fresh()
    whole.run()
    world, random = fresh(), Random(seed)
    for _ in range(60):
        world.now += TICK
        for each in world.deployments:
            if random.random() < 0.6:
                each.tick(world.now)
        if random.random() < 0.6:
            world.decide()
    world.run()
    assert world.end() == whole.end()
    assert world.settled().partition(":")[0] == whole.settled().partition(":")[0]
