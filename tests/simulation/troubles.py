"""What goes wrong in histories: requests, watches, processes, clocks, and the cluster itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import Rejected, Resource
from sidecarpolicy.engine.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    POD_TEMPLATES,
    POLICIES,
    REPLICA_SETS,
    REVISIONS,
)
from sidecarpolicy.kube.lease import LEASES
from tests.simulation.controllers import TICK, borne_by
from tests.simulation.deeds import Acts, Deed
from tests.simulation.faults import Fault, Request, some, while_
from tests.simulation.operator import NAMESPACE, Replica

if TYPE_CHECKING:
    from tests.simulation.playing import Play

trouble = Acts()

WATCHES: tuple[Resource, ...] = (DEPLOYMENTS, REPLICA_SETS, REVISIONS, NAMESPACES, POLICIES[names.POLICY])
WRITTEN: tuple[Resource, ...] = (DEPLOYMENTS, REVISIONS, POLICIES[names.POLICY], POD_TEMPLATES)

# Seconds after the last request that could fail until everybody has had time for another one.
SLOWEST = 60.0


# Requests


@trouble("requests fail", weight=3)
def _fail(play: Play, deed: Deed) -> None:
    share = (0.1, 0.3, 0.9)[deed.number % 3]
    usual = (Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.THROTTLED, Fault.CONFLICT)
    rare = (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER)
    play.cluster.faults.rules.append(some(play.random, share, usual + rare, play.until(deed)))
    play.hinder(deed)


@trouble("connections are cut", weight=2)
def _cut(play: Play, deed: Deed) -> None:
    """Every watch ends, and so does what is on its way in the next seconds."""
    for each in play.cluster.replicas:
        if each.processes:  # one that was added just now has not started
            each.process.client.cut()
    ends = play.cluster.loop.now + 5.0 + TICK
    play.cluster.faults.rules.append(some(play.random, 0.7, (Fault.ERROR_BEFORE, Fault.ERROR_AFTER), ends))
    play.hinder(deed)


@trouble("the Lease cannot be written")
def _no_lease(play: Play, deed: Deed) -> None:
    until = play.until(deed)
    rule = while_(lambda it: it.resource == LEASES and it.at < until, Fault.ERROR_BEFORE)
    play.cluster.faults.rules.append(rule)


@trouble("the Lease is deleted")
def _lease_goes(play: Play, _: Deed) -> None:
    if play.world.server.find(LEASES, NAMESPACE, names.CONTROLLER) is not None:
        play.world.server.delete(LEASES, NAMESPACE, names.CONTROLLER)


@trouble("the operator's rights are gone")
def _forbidden(play: Play, deed: Deed) -> None:
    until, resource = play.until(deed), WRITTEN[deed.number % len(WRITTEN)]
    rule = while_(lambda it: it.verb in ("create", "patch") and it.resource == resource and it.at < until, FORBIDDEN)
    play.cluster.faults.rules.append(rule)
    play.hinder(deed)


FORBIDDEN = Fault.FORBIDDEN


@trouble("a webhook refuses every change of sidecars")
def _webhook(play: Play, deed: Deed) -> None:
    server = play.world.server

    def refuse(verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if verb == "UPDATE" and resource == DEPLOYMENTS and before is not None:
            old, new = (borne_by(each["spec"]["template"]) for each in (before, after))
            if old != new:
                message = 'admission webhook "sidecars.example.test" denied the request: no sidecars today'
                raise Rejected(verb="patch", what=after["metadata"]["name"], message=message, status=403)
        return after

    server.admission.append(refuse)
    play.later(deed.ends, lambda: server.admission.remove(refuse))


@trouble("a quota forbids further Pods")
def _quota(play: Play, deed: Deed) -> None:
    name = play.namespaces[deed.number % len(play.namespaces)]
    play.world.without_quota.add(name)
    play.later(deed.ends, lambda: play.world.without_quota.discard(name))


# Watches


@trouble("a watch is held back", weight=3)
def _hold(play: Play, deed: Deed) -> None:
    replica, resource = play.replica(deed), WATCHES[deed.number % len(WATCHES)]
    client = replica.process.client
    if resource in client.held:
        return
    holding = replica.hold(resource)

    def let_go() -> None:
        holding.set()
        client.held.pop(resource, None)

    play.later(deed.ends, let_go)


@trouble("events are lost until the next LIST", weight=2)
def _deafen(play: Play, deed: Deed) -> None:
    resource, client = WATCHES[deed.number % len(WATCHES)], play.replica(deed).process.client
    client.unheard, client.deaf = lambda kind, _type, _body: kind == resource, True

    def hear() -> None:
        client.unheard, client.deaf = None, False
        play.world.server.version += 1  # so that every watch is older: a LIST follows
        play.world.server.compact(resource)
        play.world.server.wake(resource)

    play.later(deed.ends, hear)


@trouble("events are told twice")
def _twice(play: Play, deed: Deed) -> None:
    client = play.replica(deed).process.client
    client.twice = True

    def once() -> None:
        client.twice = False

    play.later(deed.ends, once)


@trouble("watches are compacted")
def _compact(play: Play, _: Deed) -> None:
    for each in WATCHES:
        play.world.server.compact(each)


# Processes


@trouble("the operator crashes", weight=2)
def _crash(play: Play, deed: Deed) -> None:
    play.cluster.loop.call_later(play.random.random() * 8 + 2, _end, play.replica(deed))


def _end(replica: Replica) -> None:
    if replica.process.alive:
        replica.crash()


@trouble("the operator crashes before its next write")
def _crash_before(play: Play, deed: Deed) -> None:
    _crash_at_next_write(play, play.replica(deed), Fault.CRASH_BEFORE)


@trouble("the operator crashes after its next write")
def _crash_after(play: Play, deed: Deed) -> None:
    _crash_at_next_write(play, play.replica(deed), Fault.CRASH_AFTER)


def _crash_at_next_write(play: Play, replica: Replica, how: Fault) -> None:
    process, after = replica.process.name, replica.process.client.writes
    done: list[bool] = []

    def rule(request: Any) -> Fault | None:
        if done or request.process != process or request.write <= after or request.resource == LEASES:
            return None
        done.append(True)
        return how

    play.cluster.faults.rules.append(rule)


@trouble("the operator is stopped in order")
def _stop(play: Play, deed: Deed) -> None:
    replica = next((each for each in play.cluster.replicas if each.leading), play.replica(deed))
    if replica.process.alive and not replica.blind:
        replica.stop()


@trouble("the operator is frozen")
def _freeze(play: Play, deed: Deed) -> None:
    replica = play.replica(deed)
    if not replica.blind:
        process = replica.process
        replica.freeze()
        play.later(deed.ends, process.thaw)


@trouble("a second operator comes", weight=2)
def _second(play: Play, deed: Deed) -> None:
    if len(play.cluster.replicas) == 1:
        play.cluster.add_replica("two", lands=play.replica(deed).lands)


# Clocks


@trouble("its clock is set back")
def _back(play: Play, deed: Deed) -> None:
    replica = play.replica(deed)
    replica.skew = replica.process.client.clock.skew = -float(60 + 100 * deed.number)


@trouble("its clock is set forward")
def _forward(play: Play, deed: Deed) -> None:
    replica = play.replica(deed)
    replica.skew = replica.process.client.clock.skew = float(60 + 100 * deed.number)


# The cluster


@trouble("the CRD is not served")
def _crd_goes(play: Play, deed: Deed) -> None:
    server, kind = play.world.server, POLICIES[play.world.policy.kind]
    server.install(kind, False)
    play.hinder(deed)
    play.later(deed.ends, lambda: server.install(kind))


def _away(_: Request) -> Fault:
    return Fault.ERROR_BEFORE


@trouble("etcd is restored from a backup", weight=2)
def _restore(play: Play, deed: Deed) -> None:
    """What happens for as long as it lasts is undone; then everybody applies again what they want.

    In every other one the API server is away before that, for longer than a leader may go without renewing its Lease.
    """
    world, torn = play.world, play.torn
    backup, deployments = world.server.snapshot(), list(world.deployments)
    flights, progress = dict(play.cluster.invariants.flights), world.controllers.progress()

    def restore() -> None:
        served = all(each.installed for each in world.server.collections.values())
        if play.torn != torn or not served:
            return  # what should be there again is a question of its own
        play.torn += 1  # nor can an older one be restored after it
        play.restored += 1
        if deed.number % 2:
            world.say("the API server is away")
            play.cluster.faults.rules.insert(0, _away)
            play.cluster.loop.run_to(play.cluster.loop.now + 12)
        world.say("etcd is restored")
        world.server.restore(backup)
        play.cluster.invariants.restored(flights)
        world.deployments[:] = deployments
        for each in deployments:
            world.controllers.behaviours[each.place] = each.behaviour
        world.controllers.restored(progress)
        if deed.number % 2:
            play.cluster.faults.rules.remove(_away)
        play.cluster.loop.run_to(play.cluster.loop.now + 0.5)
        world.server.restored()
        play.cluster.sighted_since = play.cluster.loop.now
        for one in play.worlds:
            one.write_policy()
        world.stopped = world.stopped

    play.later(deed.ends, restore)
