"""What the judge of histories takes for right, and once did not."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy import names
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES
from tests.simulation.controllers import condition_of
from tests.simulation.faults import Fault, Request
from tests.simulation.fleets import EVERYWHERE, LEFT, a_world, an_updated_world, everywhere, ticks
from tests.simulation.people import without_inits
from tests.simulation.stories import World, established
from tests.simulation.test_faults import LOG, QUICK, is_workload_patch, some, suffers, until

ONE = replace(QUICK, max_concurrent=1)


def test_a_step_that_was_held_up_on_its_way_was_within_the_budget_when_it_was_sent() -> None:
    """Its sender is frozen meanwhile, and who leads then has made another step."""
    world = a_world(some(3), ONE, current="web-a")
    ticks(world, 3)
    standby = world.cluster.add_replica("two")
    frozen: list[str] = []

    def freeze(request: Request) -> Fault | None:
        if is_workload_patch(request) and not frozen and request.process == world.operator.process.name:
            frozen.append(request.name)
            world.operator.freeze()
        return None

    world.edit("web-b")
    suffers(world, freeze)
    until(world, lambda: bool(frozen))
    (first,) = (each for each in world.deployments if each.name == frozen[0])
    world.say(f"{first.name} is not available for a while")
    first.lose_a_node()
    until(world, lambda: standby.leading and bool(world.in_flight))
    world.controllers.recover(first.body)
    world.operator.thaw()
    ticks(world, 1)
    assert len(world.in_flight) == 2
    world.run()
    assert everywhere(world, "web-b")


def test_what_goes_with_its_namespace_is_in_nobodys_way() -> None:
    fleet = [established(f"app-{each}", revision="web-a", namespace=f"team-{each}", ticks=9) for each in range(3)]
    world = an_updated_world(fleet, ONE, policy=EVERYWHERE)
    until(world, lambda: bool(world.in_flight))
    (first,) = (each for each in world.deployments if each.name in world.in_flight)
    world.say(f"{first.name} is to lose what it has, and its namespace is deleted")
    first.selected = False
    world.tick()
    world.deployments.remove(first)
    world.server.delete(NAMESPACES, "", first.namespace)
    world.run()
    assert everywhere(world, "web-b")


def test_what_somebody_keeps_undoing_holds_nobody_up() -> None:
    world = an_updated_world(some(3, ticks=30), ONE)
    until(world, lambda: bool(world.in_flight))
    (first,) = (each for each in world.deployments if each.name in world.in_flight)
    world.say(f"the owner of {first.name} wipes its sidecars again and again")
    for _ in range(3):
        assert first.revision == "web-b"
        first.edit(without_inits)
        world.tick()
    assert first.revision is None
    until(world, lambda: len(world.in_flight) == 2)


def test_a_rollout_that_a_backup_undoes_is_not_begun() -> None:
    """What has lost its Pods can recover then, as when no rollout has ever begun."""
    world = a_world(some(1), QUICK, current="web-a")
    (one,) = world.deployments
    one.lose_a_node()
    backup, progress = world.server.snapshot(), world.controllers.progress()
    one.hotfix()
    world.controllers.tick()
    world.server.restore(backup)
    world.controllers.restored(progress)
    world.controllers.recover(one.body)
    assert one.healthy


def test_what_is_put_back_of_a_rollout_that_has_failed_has_not_been_rolled_out() -> None:
    """With strategy Recreate all Pods are its own, and it is still left for inspection: another policy is Ready."""
    failing = established("app-1", revision="web-a", recreates=True, breaks=frozenset({"web-b"}))
    world = an_updated_world([failing, established("app-2", revision="web-a")], LEFT)
    until(world, lambda: bool(world.halted))
    log = World([], QUICK, policy=LOG, update="log-a", name="log", cluster=world.cluster)
    until(world, lambda: log.settled().startswith("RolloutComplete"))
    failing.edit(without_inits)
    ticks(world, 6)
    assert failing.revisions == {"web-b"}
    assert log.settled() == "RolloutComplete: 1 of 1 workload runs log-a; 1 skipped"


def test_a_quota_that_is_gone_refuses_nothing() -> None:
    """The ReplicaSet says so when its Pods are made, and not only when they are available."""
    world = a_world(some(1, ticks=9), QUICK, current="web-a")
    (one,) = world.deployments
    ticks(world, 2)
    world.without_quota.add("shop")
    one.hotfix()
    ticks(world, 2)
    newest = world.controllers.replica_sets(one.body)[-1]
    assert condition_of(newest, "ReplicaFailure")
    world.without_quota.clear()
    ticks(world, 1)
    newest = world.controllers.replica_sets(one.body)[-1]
    assert not one.complete
    assert not condition_of(newest, "ReplicaFailure")
    assert newest["status"]["replicas"] == newest["spec"]["replicas"]


def test_a_backup_of_what_had_lost_its_record_bears_what_is_its_owners() -> None:
    world = an_updated_world(some(2), QUICK, update="web-a")
    one = world.deployments[0]
    world.stopped = True
    one.annotate(names.RECORD, None)
    body = one.body
    world.leave(one)
    assert one.place not in world.cluster.invariants.without_record
    metadata = {key: body["metadata"][key] for key in ("name", "annotations")}
    world.server.create(DEPLOYMENTS, one.namespace, {"metadata": metadata, "spec": body["spec"]})
    assert one.place in world.cluster.invariants.without_record


def test_what_a_quota_has_refused_holds_nobody_up_before_its_controller_looks_again() -> None:
    """The operator cannot know that the quota is gone: its clock may be ahead by less than a second."""
    world = a_world(some(2), replace(ONE, progress_deadline_seconds=300), current="web-a")
    world.run()
    world.without_quota.add("shop")
    world.delete()
    until(world, lambda: bool(world.in_flight))
    ticks(world, 6)
    invariants = world.cluster.invariants
    assert invariants.in_flight("web") == 0
    world.without_quota.discard("shop")
    assert invariants.in_flight("web") == 0
    world.run()
    assert world.object is None
