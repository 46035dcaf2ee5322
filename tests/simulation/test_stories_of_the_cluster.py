"""Stories of what the cluster itself has: nodes that are too old, namespaces that enforce a standard, an old server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.port import Rejected, Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, NODES, POD_TEMPLATES, PODS, REPLICA_SETS
from sidecarpolicy.names import EventReason
from tests.builders import a_node
from tests.simulation.faults import Fault, Request, while_
from tests.simulation.fleets import EVERYWHERE, TENTH, a_world, an_updated_world, everywhere, thirty, ticks
from tests.simulation.operator import Told
from tests.simulation.stories import Deployment, World, established

ENFORCE = "pod-security.kubernetes.io/enforce"
TEN_MINUTES = 60  # in ticks


class Standard:
    """Pod Security in some namespaces: it refuses Pods with a sidecar, and with *owners* those without as well."""

    def __init__(self, world: World, *namespaces: str, owners: bool = False) -> None:
        self.namespaces, self.owners, self.asked = world.cluster.invariants.closed, owners, 0
        self.namespaces |= set(namespaces)
        world.server.admission.append(self)

    def __call__(self, verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if (verb, resource) != ("CREATE", PODS):
            return after
        self.asked += 1
        name, sidecars = after["metadata"]["name"], items(after["spec"], "initContainers")
        if after["metadata"]["namespace"] not in self.namespaces or not (sidecars or self.owners):
            return after
        message = f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": privileged'
        raise Rejected(verb="create", what=f"pods {name}", message=message, status=403, reason="Forbidden")


def until(world: World, holds: Callable[[], bool], most: int = 200) -> None:
    """Let time pass until that holds."""
    for _ in range(most):
        if holds():
            return
        world.tick()
    raise AssertionError(world.settled())


def relabel(world: World, namespace: str, level: str) -> None:
    """Somebody sets the label by which a namespace enforces a standard."""
    world.server.merge_patch(NAMESPACES, "", namespace, {"metadata": {"labels": {ENFORCE: level}}})


def skips_told(world: World) -> list[Told]:
    """The Events about skipped workloads so far."""
    return [each for each in world.operator.told if each.reason == EventReason.SKIPPED]


def test_a_namespace_that_would_refuse_the_pods_is_asked_once_and_nothing_is_tried_there() -> None:
    elsewhere = [established(f"far-{number}", namespace="far") for number in range(10)]
    world = a_world([*thirty(), *elsewhere], policy=EVERYWHERE)
    standard = Standard(world, "far")
    until(world, lambda: world.counts() == {"updated": 30, "skipped": 10})
    assert standard.asked == 3  # a yes in one, and a no in the other, that is the sidecar's
    assert {each.revision for each in world.deployments if each.namespace == "far"} == {None}
    (skipped,) = world.status["skipped"]
    assert skipped["reason"] == "PodSecurity"
    assert skipped["message"].endswith('violates PodSecurity "restricted:latest": privileged')
    assert world.settled().startswith("RolloutComplete")


def test_a_no_is_asked_again_after_ten_minutes_and_stands_meanwhile() -> None:
    world = a_world(thirty())
    standard = Standard(world, "shop")
    until(world, lambda: world.counts() == {"skipped": 30})
    before = standard.asked
    for _ in range(TEN_MINUTES + 5):
        assert world.tick() == []
        assert world.settled().startswith("AllSkipped")
    assert standard.asked == 2 * before
    standard.namespaces.clear()
    until(world, lambda: everywhere(world, "web-a"))


def test_a_no_is_asked_again_when_the_namespace_enforces_something_else() -> None:
    world = a_world(thirty())
    standard = Standard(world, "shop")
    until(world, lambda: world.counts() == {"skipped": 30})
    standard.namespaces.clear()
    relabel(world, "shop", "privileged")
    until(world, lambda: everywhere(world, "web-a"), TEN_MINUTES)


def test_what_is_refused_without_the_sidecars_too_is_its_owners() -> None:
    world = a_world(thirty())
    Standard(world, "shop", owners=True)
    until(world, lambda: everywhere(world, "web-a"))


def test_each_revision_is_asked_about_by_itself_and_a_fan_out_asks_once() -> None:
    world = an_updated_world()
    standard = Standard(world)
    until(world, lambda: everywhere(world, "web-b"))
    world.edit("web-c")
    until(world, lambda: everywhere(world, "web-c"))
    assert standard.asked == 2


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_what_is_stopped_while_a_namespace_is_asked_about_does_not_go_on(how: str) -> None:
    """The answer may take half a minute; the step that waits for it was decided before."""
    world = an_updated_world()

    def stop(verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if (verb, resource) == ("CREATE", PODS) and how == "stopped":
            world.stopped = True
        elif (verb, resource) == ("CREATE", PODS) and not world.rollout.paused:
            world.rollout = replace(TENTH, paused=True)
        return after

    world.server.admission.append(stop)
    ticks(world, 5)
    assert everywhere(world, "web-a")
    world.stopped, world.rollout = False, TENTH
    world.server.admission.remove(stop)
    until(world, lambda: everywhere(world, "web-b"))


def test_a_no_stands_while_it_cannot_be_asked_again() -> None:
    world = a_world(thirty())
    standard = Standard(world, "shop")
    until(world, lambda: world.counts() == {"skipped": 30})
    before = standard.asked
    world.cluster.faults.rules.append(while_(lambda request: request.resource == PODS, Fault.FORBIDDEN))
    for _ in range(2 * TEN_MINUTES):
        assert world.tick() == []
        assert world.counts() == {"skipped": 30}
    world.cluster.faults.rules.clear()
    ticks(world, TEN_MINUTES + 5)
    assert standard.asked == 2 * before
    assert world.counts() == {"skipped": 30}


def test_what_was_refused_without_the_sidecars_too_is_asked_again_later() -> None:
    world = a_world(thirty())
    standard = Standard(world, "shop", owners=True)
    until(world, lambda: everywhere(world, "web-a"))
    ticks(world, TEN_MINUTES)
    standard.owners = False  # the webhook that added what was refused is gone
    late = Deployment("late", ticks=50)
    world.arrive(late)
    until(world, lambda: world.counts() == {"updated": 30, "skipped": 1})
    assert late.revision is None


@pytest.mark.parametrize("paused", [True, False])
def test_after_a_restart_the_noes_are_asked_for_again_before_anything_else_is_told(paused: bool) -> None:
    elsewhere = [established(f"far-{number}", namespace=f"far-{number}") for number in range(12)]
    world = a_world([*thirty(), *elsewhere], policy=EVERYWHERE)
    standard = Standard(world, *(each.namespace for each in elsewhere))
    until(world, lambda: world.counts() == {"updated": 30, "skipped": 12})
    if paused:
        world.rollout = replace(TENTH, paused=True)
        ticks(world, 3)
    said, asked, told = world.status, standard.asked, len(skips_told(world))
    statuses: list[Json] = []
    world.server.observers.append(lambda change: statuses.append(at(change.after, "status", "targets")))
    world.operator.crash()
    until(world, lambda: standard.asked >= asked + 24)
    ticks(world, 3)
    assert {each.get("skipped", 12) for each in statuses} <= {12}
    assert world.status["skipped"] == said["skipped"]
    assert world.settled().startswith("RolloutComplete")
    assert len(skips_told(world)) == told


def test_where_asking_again_takes_long_the_policy_is_reported_all_the_same() -> None:
    elsewhere = [established(f"far-{number:02}", namespace=f"far-{number:02}") for number in range(20)]
    world = a_world(elsewhere, policy=EVERYWHERE)
    Standard(world, *(each.namespace for each in elsewhere))
    until(world, lambda: world.counts() == {"skipped": 20})
    slow: list[float] = []

    def times_out(request: Request) -> bool:
        if request.resource == PODS and request.verb == "create":
            slow.append(request.at)
            return True
        return False

    world.cluster.faults.rules.append(while_(times_out, Fault.TIMEOUT_BEFORE))
    until(world, lambda: bool(slow), TEN_MINUTES + 5)
    world.rollout = replace(TENTH, paused=True)
    until(world, lambda: world.status["observedGeneration"] == world.generation, 5)
    ticks(world, TEN_MINUTES)
    assert len(slow) < 100  # a few at a time, and longer apart each time
    assert world.counts() == {"skipped": 20}
    world.cluster.faults.rules.clear()
    world.cluster.invariants.closed.clear()
    world.rollout = TENTH
    until(world, lambda: everywhere(world, "web-a"))


def test_without_the_right_to_ask_it_goes_on_without_asking() -> None:
    world = a_world(thirty())
    Standard(world, "shop")
    world.cluster.faults.rules.append(while_(lambda request: request.resource == PODS, Fault.FORBIDDEN))
    until(world, lambda: everywhere(world, "web-a"))


def test_a_new_workload_that_would_get_what_is_refused_waits_without_a_rollout() -> None:
    world = an_updated_world(rollout=replace(TENTH, paused=True), policy=EVERYWHERE)
    ticks(world, 2)
    Standard(world, "far")
    late = Deployment("late", namespace="far", ticks=50)
    world.arrive(late)
    until(world, lambda: "violates PodSecurity" in str(world.status["failures"]))
    assert late.revision is None
    assert world.counts() == {"pending": 30, "failed": 1}


def test_a_rollback_asks_nobody() -> None:
    fleet = thirty(revision="web-a")
    for each in fleet:
        each.breaks = frozenset({"web-b"})
    world = an_updated_world(fleet)
    standard = Standard(world)
    until(world, lambda: "web-b" in world.end().values())
    standard.namespaces.add("shop")
    until(world, lambda: world.settled().startswith("RolledBack"))
    assert everywhere(world, "web-a")
    assert standard.asked == 1


def test_without_the_right_to_read_nodes_every_policy_says_that_it_does_not_know() -> None:
    world = a_world(thirty())
    world.cluster.faults.rules.append(while_(lambda request: request.resource == NODES, Fault.FORBIDDEN))
    until(world, lambda: everywhere(world, "web-a"))
    (told,) = (each for each in world.status["warnings"] if each["reason"] == "NodesUnknown")
    assert told["count"] == 1
    assert "may not list and watch nodes" in told["message"]


def test_an_old_node_that_joins_stops_a_rollout_where_it_is_until_it_is_upgraded() -> None:
    world = an_updated_world()
    ticks(world, 6)
    world.cluster.invariants.closed.add("shop")
    world.server.create(NODES, "", a_node("old", kubelet="v1.28.15"))
    until(world, lambda: "skipped" in world.counts() and not world.in_flight)
    stopped = world.end()
    assert set(stopped.values()) == {"web-a", "web-b"}
    for _ in range(30):
        assert world.tick() == []
    assert {each["reason"] for each in world.status["warnings"]} >= {"NodeTooOld"}
    world.cluster.invariants.closed.clear()
    told = a_node("old", kubelet="v1.34.0")["status"]
    world.server.merge_patch(NODES, "", "old", {"status": told}, subresource="status")
    until(world, lambda: everywhere(world, "web-b"))
    until(world, lambda: world.settled().startswith("RolloutComplete"))


def test_a_cluster_that_drops_native_sidecars_is_told_and_asked_again_after_its_upgrade() -> None:
    world = World(thirty(), TENTH)

    def drop(verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if resource != POD_TEMPLATES:
            return after
        spec = at(after, "template", "spec")
        kept = [
            {key: value for key, value in each.items() if key != "restartPolicy"}
            for each in items(spec, "initContainers")
        ]
        return {**after, "template": {**after["template"], "spec": {**spec, "initContainers": kept}}}

    world.server.admission.append(drop)
    until(world, lambda: world.settled().startswith("UnsupportedCluster"))
    conditions = {each["type"]: each["status"] for each in world.status["conditions"]}
    assert conditions == {"Accepted": "True", "Ready": "False", "Stalled": "True"}
    for _ in range(10):
        assert world.tick() == []
    world.server.admission.remove(drop)
    until(world, lambda: everywhere(world, "web-a"))
    until(world, lambda: world.settled().startswith("RolloutComplete"))


def test_what_the_server_drops_is_named_and_is_no_rollout_without_an_end() -> None:
    """As any feature that is off or not known: the API server drops its fields without a word."""

    def without(container: Json) -> Json:
        lifecycle = at(container, "lifecycle")
        if "stopSignal" not in lifecycle:
            return container
        kept = {key: value for key, value in lifecycle.items() if key != "stopSignal"}
        rest = {key: value for key, value in container.items() if key != "lifecycle"}
        return rest | ({"lifecycle": kept} if kept else {})

    def drop(verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if resource not in (POD_TEMPLATES, DEPLOYMENTS):
            return after
        path = ("template",) if resource == POD_TEMPLATES else ("spec", "template")
        template = at(after, *path)
        kept = [without(each) for each in items(at(template, "spec"), "initContainers")]
        template = {**template, "spec": {**template["spec"], "initContainers": kept}} if kept else template
        return (
            {**after, "template": template}
            if len(path) == 1
            else {**after, "spec": {**after["spec"], path[1]: template}}
        )

    world = World([established("app-01")], TENTH, sidecar={"lifecycle": {"stopSignal": "SIGUSR1"}})
    world.server.admission.append(drop)
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    (told,) = (each for each in world.status["warnings"] if each["reason"] == "DroppedField")
    assert told["message"].startswith("spec.sidecars[0].container.lifecycle.stopSignal: is not kept by the API server")
    (proxy,) = world["app-01"].body["spec"]["template"]["spec"]["initContainers"]
    assert proxy["lifecycle"] == {}, "the seal"
    for _ in range(10):
        assert world.tick() == []


def test_a_watch_of_replica_sets_that_is_silent_for_a_whole_injection_frees_no_place() -> None:
    """Of the injection that is taken out again nothing is seen but the number that its Deployment tells."""
    shops = [established(f"app-{number}", ticks=6) for number in range(3)]
    world = a_world(shops, replace(TENTH, max_concurrent=1))
    until(world, lambda: "web-a" in world.cluster.invariants.landed)
    client = world.operator.process.client
    client.unheard = lambda kind, _type, _body: kind == REPLICA_SETS
    until(world, lambda: sum(each.revision is not None for each in shops) == 2)
    ticks(world, 2)
    world.delete()
    for _ in range(20):
        world.tick()
        assert sum(not each.complete for each in shops) <= 1
    assert world.object is not None, "nobody has seen yet that it is out"
    client.unheard = None
    until(world, lambda: world.object is None)
    assert not any(each.record for each in shops)
