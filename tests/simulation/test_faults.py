"""What the engine must withstand: each test is named after what holds, and once did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.field_conflicts import NOT_UNDONE
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import (
    DEPLOYMENTS,
    POD_TEMPLATES,
    POLICIES,
    REPLICA_SETS,
    REVISIONS,
    SERVICE_ACCOUNTS,
)
from sidecarpolicy.kube.lease import LEASES
from sidecarpolicy.names import Strategy
from tests.simulation.controllers import NO_DEADLINE
from tests.simulation.faults import Fault, Request, Rule, while_
from tests.simulation.fleets import CANARY, LEFT, a_world, an_updated_world, everywhere, ticks, versions
from tests.simulation.stories import Deployment, World, established

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")
QUICK = Rollout(max_concurrent=2, min_ready_seconds=10, progress_deadline_seconds=60)
AT_ONCE = replace(QUICK, strategy=Strategy.ALL_AT_ONCE)

# Turns of the loop in a minute of an operator that has nothing to do; its leadership alone takes half of that.
MOST_TURNS_AT_REST = 1500


def some(number: int, *, revision: str | None = "web-a", **fields: Any) -> list[Deployment]:
    """A few Deployments of one namespace."""
    return [established(f"app-{each:02}", revision=revision, **fields) for each in range(1, number + 1)]


def between(world: World, begin: float, end: float, holds: Callable[[Request], bool]) -> Callable[[Request], bool]:
    """*holds*, from *begin* to *end* seconds from now."""
    now = world.cluster.loop.now
    return lambda request: now + begin <= request.at < now + end and holds(request)


def suffers(world: World, rule: Rule) -> None:
    """From now on *rule* decides what goes wrong."""
    world.cluster.faults.rules.append(rule)


def is_workload_patch(request: Request) -> bool:
    """Whether a Deployment is written."""
    return request.resource == DEPLOYMENTS and request.write > 0


def until(world: World, holds: Callable[[], bool], most: int = 120) -> None:
    """Tick until *holds*."""
    for _ in range(most):
        if holds():
            return
        world.tick()
    raise AssertionError(f"never came to hold:\n{world.transcript()}")


def ready(world: World) -> Json:
    """The condition."""
    return next(each for each in items(world.status, "conditions") if each["type"] == "Ready")


# Conditions of the cluster


def test_a_write_of_which_no_answer_came_keeps_its_slot() -> None:
    """It took effect, its event is late, and the API server cannot be asked for a while."""
    world = an_updated_world(some(4), replace(QUICK, max_concurrent=1))
    until(world, lambda: "web-b" in world.end().values())
    until(world, lambda: not world.in_flight)
    now, watching = world.cluster.loop.now, world.operator.hold(DEPLOYMENTS)
    written: list[Request] = []

    def rule(request: Request) -> Fault | None:
        if is_workload_patch(request) and not written:
            written.append(request)
            return Fault.ERROR_AFTER
        lost = written and request.verb == "list" and request.at < now + 40.0
        return Fault.ERROR_BEFORE if lost else None

    suffers(world, rule)
    until(world, lambda: bool(written))
    ticks(world, 2)
    assert world.most_in_flight == 1
    watching.set()
    world.operator.process.client.held.clear()
    until(world, lambda: everywhere(world, "web-b"), most=60)


def test_a_lease_that_is_renewed_too_late_again_and_again_stops_no_rollout() -> None:
    """An API server that is slow for minutes: nobody else leads meanwhile, so nothing has to be read anew."""
    world = an_updated_world(some(6), replace(QUICK, max_concurrent=1))
    world.tick()
    lists: list[float] = []

    def rule(request: Request) -> Fault | None:
        if request.resource == DEPLOYMENTS and request.verb == "list" and not request.name:
            lists.append(request.at)
        lapses = request.resource == LEASES and request.write > 0 and request.at % 20.0 < 14.0
        return Fault.ERROR_BEFORE if lapses else None

    suffers(world, rule)
    led: list[bool] = []
    while not everywhere(world, "web-b") and len(led) < 120:
        world.tick()
        led.append(world.operator.leading)
    assert everywhere(world, "web-b")
    assert not all(led)
    assert world.operator.process.election.term == 1
    assert not lists
    assert world.most_in_flight == 1


def test_where_another_has_led_meanwhile_everything_is_read_anew() -> None:
    world = an_updated_world(some(6), replace(QUICK, max_concurrent=1))
    until(world, lambda: "web-b" in world.end().values())
    first = world.operator
    first.freeze()
    other = world.cluster.add_replica("two")
    until(world, lambda: other.leading)
    other.stop()
    first.thaw()
    until(world, lambda: first.leading)
    assert first.process.election.term == 2
    until(world, lambda: everywhere(world, "web-b"), most=120)
    assert world.most_in_flight == 1


def in_steps(world: World, holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let time pass, between the ticks too, until *holds*."""
    loop = world.cluster.loop
    ends = loop.now + seconds
    while not holds():
        assert loop.now < ends, "never came to hold"
        loop.run_to(loop.now + 0.25)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_standby_looks_ahead_and_writes_nothing_before_it_leads(comes_back: bool) -> None:
    """The leader is silent for so long that it must have stopped, and comes back before its Lease has run out."""
    world = an_updated_world(some(6), replace(QUICK, max_concurrent=1))
    leader, standby = world.operator, world.cluster.add_replica("two")
    until(world, lambda: "web-b" in world.end().values() and standby.processes != [])
    world.tick()
    leader.freeze()
    process = standby.process
    in_steps(world, lambda: process.engine is not None and process.engine.term is not None)
    assert not standby.leading
    if comes_back:
        leader.thaw()
        in_steps(world, lambda: process.engine is not None and process.engine.term is None)
        until(world, lambda: everywhere(world, "web-b"))
        assert (leader.process.election.term, process.election.term, process.client.writes) == (1, 0, 0)
    else:
        in_steps(world, lambda: standby.leading)
        until(world, lambda: process.client.writes > 0)
        watches = [each for each in process.client.requests if (each.verb, each.resource) == ("watch", DEPLOYMENTS)]
        assert len(watches) == 3, "the first one, the one that confirmed it, and that after it"
        leader.thaw()
        until(world, lambda: everywhere(world, "web-b"))
    assert world.most_in_flight == 1


def test_an_unknown_field_of_a_live_policy_removes_nothing() -> None:
    """Fault 1: the CRDs are upgraded before the operator, and a new field comes with its default."""
    world = a_world(some(4), QUICK, current="web-a", spec={"deletionPolicy": "Orphan"})
    ticks(world, 3)
    world.spec["rollout"] = {"pace": "Even"}
    world.write_policy()
    world.run()
    assert world.settled().startswith("RolloutComplete")
    world.delete()
    world.run()
    assert everywhere(world, "web-a")


def test_twenty_seconds_of_failing_patches_complete_nothing() -> None:
    """Fault 2: a transient error is nobody's skip."""
    world = an_updated_world(some(6), AT_ONCE)
    suffers(world, while_(between(world, 0, 30, is_workload_patch), Fault.ERROR_BEFORE))
    until(world, lambda: everywhere(world, "web-b"), most=30)
    world.run()
    assert world.settled().startswith("RolloutComplete")


def test_a_clock_that_is_behind_takes_up_no_old_revision() -> None:
    """Fault 3: which revision is rolled out is no question of two processes' clocks."""
    world = an_updated_world(some(4), QUICK)
    world.run()
    world.operator.stop()
    world.operator.skew = -7200.0
    world.operator.start()
    world.edit("web-c")
    world.run()
    assert everywhere(world, "web-c")


def test_an_edit_during_a_late_renewal_is_carried_out() -> None:
    """Fault 4: for a few milliseconds nobody leads; what is seen then is not dropped."""
    world = a_world(some(4), QUICK, current="web-a")
    ticks(world, 3)
    renewals = [each.at for each in world.operator.process.lease_client.requests if each.verb == "patch"]
    last, loop = renewals[-1], world.cluster.loop

    def is_renewal(request: Request) -> bool:
        return request.resource == LEASES and request.at < last + 10.0

    suffers(world, while_(is_renewal, Fault.ERROR_BEFORE))
    loop.run_to(last + 9.99)
    while world.operator.leading:
        loop.run_to(loop.now + 0.001)
    world.edit("web-b")
    world.run()
    assert everywhere(world, "web-b")


def test_what_hinders_an_edit_is_told_and_hinders_nothing_else() -> None:
    """Fault 5: the dry run is forbidden; what has failed is rolled back all the same."""
    world = an_updated_world(some(4), QUICK)
    world.deployments[0].breaks = world.deployments[1].breaks = frozenset({"web-b"})
    world.deployments[2].breaks = world.deployments[3].breaks = frozenset({"web-b"})
    until(world, lambda: "web-b" in world.end().values())
    suffers(world, while_(lambda request: request.resource == POD_TEMPLATES, Fault.FORBIDDEN))
    world.edit("web-c")
    ticks(world, 30)
    assert everywhere(world, "web-a")
    assert ready(world)["observedGeneration"] == world.generation
    assert ready(world)["status"] != "True"
    assert "forbidden" in world.settled()


def asked_for_accounts(world: World) -> bool:
    """Whether the operator has asked for ServiceAccounts, while that fails."""
    return any(request.resource == SERVICE_ACCOUNTS for request, _ in world.cluster.faults.happened)


def without_the_right_to_accounts(world: World) -> None:
    """From now on the operator may not read ServiceAccounts; the roles of an earlier version do not have that right."""
    suffers(world, while_(lambda request: request.resource == SERVICE_ACCOUNTS, Fault.FORBIDDEN))


def pulled(world: World) -> set[str]:
    """All pull secrets in Pod templates."""
    specs = [at(each.body, "spec", "template", "spec") for each in world.deployments]
    return {secret["name"] for spec in specs for secret in items(spec, "imagePullSecrets")}


def test_service_accounts_are_read_only_for_pull_secrets() -> None:
    world = an_updated_world(some(4), QUICK)
    without_the_right_to_accounts(world)
    until(world, lambda: everywhere(world, "web-b"))
    assert not asked_for_accounts(world)
    world.spec = {"imagePullSecrets": [{"name": "vendor"}]}
    world.edit("web-c")
    until(world, lambda: asked_for_accounts(world))
    ticks(world, 10)
    assert not pulled(world)
    assert "PullSecretsUnreadable" in str(world.object)


def test_pull_secrets_of_an_account_come_once_it_has_been_read_and_stay() -> None:
    world = an_updated_world(some(4), QUICK)
    until(world, lambda: everywhere(world, "web-b"))
    metadata = {"name": "default", "namespace": "shop"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    secrets = {"imagePullSecrets": [{"name": "mirror"}]}
    world.server.create(SERVICE_ACCOUNTS, metadata["namespace"], account | secrets)
    world.spec = {"imagePullSecrets": [{"name": "vendor"}]}
    world.edit("web-c")
    until(world, lambda: everywhere(world, "web-c"))
    assert pulled(world) == {"mirror", "vendor"}
    without_the_right_to_accounts(world)
    until(world, lambda: asked_for_accounts(world), most=1000)
    ticks(world, 5)
    assert pulled(world) == {"mirror", "vendor"}
    engine = world.operator.process.engine
    assert engine is not None and any("forbidden" in each for each in engine.problems)


def test_an_accepted_revision_is_kept_in_order_while_an_edit_cannot_be_accepted() -> None:
    """Fault 5 again: Ready is not left standing at an old generation."""
    world = a_world(some(3), QUICK, current="web-a")
    ticks(world, 3)
    assert ready(world)["status"] == "True"
    suffers(world, while_(lambda request: request.resource == POD_TEMPLATES, Fault.ERROR_BEFORE))
    world.edit("web-b")
    ticks(world, 10)
    assert ready(world)["status"] != "True"


def test_an_edit_whose_revision_may_not_be_stored_is_told_and_the_accepted_one_goes_on() -> None:
    """A quota on ControllerRevisions, say (kubernetes/kubernetes#112010): a 403 for that one write."""
    world = a_world(some(3), QUICK, current="web-a")
    ticks(world, 3)
    refused = while_(lambda request: request.resource == REVISIONS and request.verb == "create", Fault.FORBIDDEN)
    suffers(world, refused)
    world.edit("web-b")
    ticks(world, 10)
    assert (ready(world)["status"], ready(world)["reason"]) == ("Unknown", "AcceptanceFailed")
    assert "forbidden" in ready(world)["message"]
    assert everywhere(world, "web-a")
    world.cluster.faults.rules.clear()
    world.run()
    assert everywhere(world, "web-b")


def test_a_term_remembers_no_step_of_an_earlier_one() -> None:
    """Fault 6: a step that could not be written waits; meanwhile the Lease is lost, and the author pauses."""
    world = an_updated_world(some(12), QUICK)
    suffers(world, while_(between(world, 0, 25, is_workload_patch), Fault.ERROR_BEFORE))
    suffers(world, while_(between(world, 13, 37, lambda it: it.resource == LEASES), Fault.ERROR_BEFORE))
    suffers(world, while_(between(world, 20, 90, lambda it: it.resource == POD_TEMPLATES), Fault.ERROR_BEFORE))
    until(world, lambda: world.operator.leading)
    until(world, lambda: not world.operator.leading, most=4)
    world.edit("web-c")
    world.rollout = replace(QUICK, paused=True)
    ticks(world, 30)
    assert everywhere(world, "web-a")


@pytest.mark.parametrize("data", [{"sidecars": "gone"}, "gone", None], ids=["other types", "text", "nothing"])
def test_a_mangled_revision_is_told_and_retried_in_peace(data: Any) -> None:
    """Fault 7: its ControllerRevision is there and cannot be read, so it can neither be created nor used."""
    world = a_world(some(3), QUICK, current="web-a")
    ticks(world, 3)
    kept = {each["metadata"]["name"] for each in world.server.every(REVISIONS)}
    world.edit("web-b")
    until(world, lambda: len(world.server.every(REVISIONS)) > 1)
    (made,) = (each for each in world.server.every(REVISIONS) if each["metadata"]["name"] not in kept)
    world.server.update(REVISIONS, made, {**made, "data": data})
    ticks(world, 20)
    assert ready(world)["status"] != "True"
    assert made["metadata"]["name"] in ready(world)["message"], "somebody has to delete it"
    (warned,) = (each for each in world.status["warnings"] if each["reason"] == "InvalidRevision")
    assert f"shop/{made['metadata']['name']}" in warned["message"]
    assert "data" in warned["message"], "where it is mangled"
    world.server.delete(REVISIONS, "shop", made["metadata"]["name"])
    until(world, lambda: everywhere(world, "web-b"))


def newest_revision(world: World) -> Json:
    """The ControllerRevision of the update revision."""
    return max(world.server.every(REVISIONS), key=lambda each: int(each["revision"]))


def mangle(world: World) -> Json:
    """Somebody breaks an annotation of the newest ControllerRevision; return it as it was."""
    newest = newest_revision(world)
    annotations = {**newest["metadata"]["annotations"], names.COMPLETION: "many"}
    world.server.update(REVISIONS, newest, {**newest, "metadata": {**newest["metadata"], "annotations": annotations}})
    return newest


@pytest.mark.parametrize("how", ["deleted", "deleted and not written anew", "mangled"])
def test_the_loss_of_the_newest_revision_takes_no_workload_back_to_an_older_one(how: str) -> None:
    world = an_updated_world(some(3), QUICK)
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    newest, before = newest_revision(world), versions(world)
    over: list[bool] = [how != "deleted and not written anew"]
    suffers(
        world,
        while_(lambda each: each.resource == REVISIONS and each.verb == "create" and not over[0], Fault.FORBIDDEN),
    )
    if how == "mangled":
        mangle(world)
    else:
        world.server.delete(REVISIONS, "shop", newest["metadata"]["name"])
    ticks(world, 12)
    assert everywhere(world, "web-b") and versions(world) == before, "what the policy declares is there"
    if how != "deleted":
        assert ready(world)["reason"] == "AcceptanceFailed"
    over[0] = True
    if how == "mangled":
        world.server.delete(REVISIONS, "shop", newest["metadata"]["name"])
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    assert everywhere(world, "web-b") and versions(world) == before


def test_a_mangled_revision_that_is_mended_is_seen_at_once() -> None:
    world = an_updated_world(some(2), QUICK)
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    newest = mangle(world)
    ticks(world, 30)
    assert ready(world)["reason"] == "AcceptanceFailed"
    metadata = {key: value for key, value in newest["metadata"].items() if key != "resourceVersion"}
    world.server.update(REVISIONS, newest_revision(world), {**newest, "metadata": metadata})
    ticks(world, 1)
    assert world.settled().startswith("RolloutComplete")


def test_a_spec_that_is_too_large_to_be_stored_is_its_authors_to_mend() -> None:
    """The API server says so with a 500, as of what passes by itself."""
    world = an_updated_world(some(2), QUICK)
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    large = [True]
    suffers(
        world,
        while_(lambda each: each.resource == REVISIONS and each.verb == "create" and large[0], Fault.TOO_LARGE),
    )
    world.edit("web-c")
    until(world, lambda: world.settled().startswith("Invalid"))
    assert "too large" in ready(world)["message"] and ready(world)["status"] == "False"
    asked = len(world.cluster.faults.happened)
    ticks(world, 60)
    assert len(world.cluster.faults.happened) == asked, "it is not tried again"
    large[0] = False
    world.edit("web-d")
    until(world, lambda: everywhere(world, "web-d"))


def test_a_policy_that_goes_is_no_trouble_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The answer to the last write of it does not say that it has gone, and that event comes a moment later."""
    world = an_updated_world(some(2), QUICK)
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    world.delete()
    ticks(world, 1)
    watching = world.operator.hold(POLICIES[names.POLICY])
    until(world, lambda: world.object is None)
    ticks(world, 1)
    watching.set()
    ticks(world, 1)
    assert [each.message for each in caplog.records if each.name.endswith("policy_pass")] == []


def test_a_deleted_policy_takes_revisions_along_that_nobody_owns() -> None:
    """`kubectl delete --cascade=orphan` takes the owner off them, and so does a backup that brings them back."""
    world = an_updated_world(some(2), QUICK)
    until(world, lambda: world.settled().startswith("RolloutComplete"))
    for each in world.server.every(REVISIONS):
        metadata = {key: value for key, value in each["metadata"].items() if key != "ownerReferences"}
        world.server.update(REVISIONS, each, {**each, "metadata": metadata})
    world.delete()
    until(world, lambda: world.object is None)
    assert world.server.every(REVISIONS) == []


def test_a_long_last_word_hides_no_value_that_a_machine_needs() -> None:
    """Fault 8: what resumes a halted rollout is there, however much the container had to say."""
    world = an_updated_world(some(3, breaks=frozenset({"web-b"}), last_words="no route to host; " * 120), QUICK)
    world.run()
    assert world.halted == {"web-b#1"}
    assert "web-b#1" in world.told(json.dumps(world.status))


def test_an_operator_that_is_there_before_its_kinds_works_when_they_come() -> None:
    """Fault 10."""
    world = a_world(some(3, revision=None), QUICK)
    for kind in POLICIES.values():
        world.server.install(kind, False)
    ticks(world, 6)
    for kind in POLICIES.values():
        world.server.install(kind)
    world.run()
    assert everywhere(world, "web-a")
    world.edit("web-b")
    until(world, lambda: everywhere(world, "web-b"), most=30)


def test_the_history_is_bounded_while_nothing_ever_completes() -> None:
    """Fault 12."""
    world = an_updated_world(some(3, breaks=frozenset({"web-b"})), QUICK, spec={"revisionHistoryLimit": 2})
    for letter in "cdefghijklmnop":
        world.edit(f"web-{letter}")
        ticks(world, 3)
    assert len(world.stored()) <= 2 + 3


def test_a_way_back_that_is_gone_is_told_and_the_operator_rests() -> None:
    """Fault 13: the revision that a failed workload came from was deleted."""
    world = an_updated_world(some(3, breaks=frozenset({"web-b"})), QUICK)
    until(world, lambda: "web-b" in world.end().values())
    namespace, old = "shop", world.stored()[0]
    world.server.delete(REVISIONS, namespace, old.object_name)
    ticks(world, 12)
    turned = world.cluster.loop.turns
    ticks(world, 6)
    assert world.cluster.loop.turns - turned < MOST_TURNS_AT_REST
    assert "cannot be rolled back: revision web-a is not stored any more" in world.settled()


def test_what_is_written_after_the_term_has_a_precondition() -> None:
    """Fault 14: to look at the Pods takes longer than the Lease lasts, and then the rollout is halted."""
    world = an_updated_world(some(3, breaks=frozenset({"web-b"})), QUICK)
    world.say("the rollout is late at 01:20")
    ticks(world, 7)
    suffers(world, while_(lambda it: it.resource == LEASES, Fault.ERROR_BEFORE))
    world.operator.process.client.latency = 4.0
    ticks(world, 5)
    assert not world.operator.leading
    assert not world.halted


def test_a_clock_that_is_ahead_fails_no_rollout() -> None:
    """Fault 15: deadlines are counted on one clock."""
    world = an_updated_world(some(4), QUICK)
    world.operator.skew = 900.0
    world.run()
    assert everywhere(world, "web-b")
    assert not world.halted


def test_a_clock_that_is_behind_ends_no_soak_late() -> None:
    """Fault 15, the other way."""
    world = an_updated_world(some(4), QUICK)
    world.operator.skew = -900.0
    until(world, lambda: world.settled().startswith("RolloutComplete"), most=40)


def test_an_etcd_that_was_restored_is_believed() -> None:
    """Fault 16: everything has a lower version than before."""
    world = a_world(some(4), QUICK, current="web-a")
    ticks(world, 3)
    backup = world.server.snapshot()
    world.edit("web-b")
    until(world, lambda: world.settled().startswith("RolloutComplete") and everywhere(world, "web-b"))
    world.server.restore(backup)
    world.cluster.loop.run_to(world.cluster.loop.now + 0.5)
    world.server.restored()
    world.edit("web-c")
    until(world, lambda: everywhere(world, "web-c"), most=40)


def test_nothing_is_begun_on_what_is_of_two_histories() -> None:
    """Etcd was restored: Deployments are read again, and what is known of ReplicaSets is of the history undone.

    By them the third one is in flight, and would go on to the newest revision.
    """
    first, failing = (established(f"app-{each}", revision="web-a", tier="canary", ticks=4) for each in (1, 2))
    failing.breaks = frozenset({"web-b"})
    third = established("app-3", revision="web-a")
    world = an_updated_world(
        [first, failing, third], replace(QUICK, max_concurrent=1, max_failures=1, canary=(CANARY,))
    )
    until(world, lambda: bool(failing.note.failed))
    ticks(world, 1)
    world.say("a backup is made while app-2 is rolled back")
    backup, flights = world.server.snapshot(), dict(world.cluster.invariants.flights)
    progress = world.controllers.progress()
    until(world, lambda: world.settled().startswith("CompletedWithFailures"))
    world.say("etcd is restored, and for 25 s ReplicaSets cannot be listed")
    world.server.restore(backup)
    world.cluster.invariants.restored(flights)
    world.controllers.restored(progress)
    is_list = between(world, 0, 25, lambda it: it.resource == REPLICA_SETS and it.verb == "list")
    suffers(world, while_(is_list, Fault.ERROR_BEFORE))
    world.cluster.loop.run_to(world.cluster.loop.now + 0.5)
    world.server.restored()
    ticks(world, 2)
    assert third.revision == "web-a"
    until(world, lambda: world.settled().startswith("CompletedWithFailures"))
    assert world.most_in_flight == 1
    assert third.note.undone == NOT_UNDONE, "nobody has undone anything"


def test_a_term_begins_with_what_is_there() -> None:
    """Fault 17: the new leader's watch of policies lags; the halt of what is in the spec outlives that."""
    world = an_updated_world(some(3, breaks=frozenset({"web-b"})), QUICK, update="web-a")
    standby = world.cluster.add_replica("two")
    ticks(world, 3)
    watching = standby.hold(POLICIES[names.POLICY])
    world.edit("web-b")
    until(world, lambda: world.halted == {"web-b#1"})
    world.operator.crash()
    ticks(world, 4)
    watching.set()
    standby.process.client.held.clear()
    ticks(world, 4)
    assert [(world.told(each.revision.name), each.attempt) for each in world.stored() if each.halt] == [("web-b", 1)]
    assert everywhere(world, "web-a")


def test_a_rollback_keeps_its_slot_where_the_replica_set_that_failed_is_not_seen() -> None:
    """The ReplicaSet of before seems to have all replicas still; the Deployment tells of a newer one."""
    rollout = replace(QUICK, max_concurrent=1, max_failures=4)
    world = an_updated_world(some(4, breaks=frozenset({"web-b"})), rollout)
    until(world, lambda: "web-b" in world.end().values())
    watching = world.operator.hold(REPLICA_SETS)
    until(world, lambda: "web-b" not in world.end().values())
    watching.set()
    world.operator.process.client.held.clear()
    world.run()
    assert everywhere(world, "web-a")
    assert world.most_in_flight == 1


def test_who_leads_from_the_start_lists_everything_once() -> None:
    """Not before the Lease and, for the term to begin with fresh reads, once more after it."""
    world = a_world(some(4), QUICK, current="web-a")
    ticks(world, 2)
    world.operator.stop()
    world.operator.start()
    ticks(world, 2)
    assert world.operator.leading
    lists = [
        each.resource
        for each in world.operator.process.client.requests
        if each.verb == "list" and not each.name and not each.namespace
    ]
    assert DEPLOYMENTS in lists
    assert len(lists) == len(set(lists)), lists


def test_a_restart_forgets_no_soak() -> None:
    """Fault 18: its owner changed it while it was watched."""
    world = an_updated_world(some(3), Rollout(max_concurrent=1, min_ready_seconds=300))
    until(world, lambda: any(each.revision == "web-b" and each.complete for each in world.deployments))
    (first,) = (each for each in world.deployments if each.revision == "web-b")
    first.hotfix()
    until(world, lambda: first.complete)
    began = world.cluster.loop.now
    world.operator.stop()
    world.operator.start()
    while world.cluster.loop.now < began + 200:
        world.tick()
    assert sum(each.revision == "web-b" for each in world.deployments) == 1


# What a Deployment really looks like


def test_a_deployment_without_a_deadline_is_soaked_and_rolled_back_as_any_other() -> None:
    """Fault 19: progressDeadlineSeconds 2147483647 leaves no Progressing condition."""
    world = an_updated_world(some(3, spec={"progressDeadlineSeconds": NO_DEADLINE}), QUICK)
    until(world, lambda: world.settled().startswith("RolloutComplete"), most=40)
    assert everywhere(world, "web-b")
    for each in world.deployments:
        each.breaks = frozenset({"web-c"})
    world.edit("web-c")
    until(world, lambda: world.settled().startswith("RolledBack"), most=40)
    until(world, lambda: everywhere(world, "web-b"))


def test_one_without_a_deadline_whose_owners_rollout_is_stuck_fails_no_revision() -> None:
    """Nothing but the time says that it is: it serves with its old Pods, and its controller never gives up."""
    fleet = some(4, spec={"progressDeadlineSeconds": NO_DEADLINE})
    world = an_updated_world(fleet, QUICK, update="web-a")
    ticks(world, 10)
    stuck = fleet[1]
    stuck.bad_versions = frozenset({stuck.version + 1})
    stuck.hotfix()
    ticks(world, 20)
    world.edit("web-b")
    until(world, lambda: {each.revision for each in fleet if each is not stuck} == {"web-b"}, most=60)
    ticks(world, 30)
    assert not world.halted
    assert world.settled().startswith("CompletedWithFailures") and stuck.name in world.settled()


def test_a_deployment_that_waits_long_for_itself_is_given_that_time() -> None:
    """Fault 20: its minReadySeconds are more than the policy's deadline."""
    world = an_updated_world(
        some(3, spec={"minReadySeconds": 45}), replace(QUICK, progress_deadline_seconds=20, min_ready_seconds=0)
    )
    until(world, lambda: everywhere(world, "web-b"), most=60)
    assert not world.halted


def test_one_that_all_its_pods_would_leave_at_once_is_asked_first() -> None:
    """Fault 21: one replica, of which one may be unavailable."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    world = a_world(some(3, revision=None, replicas=1, spec={"strategy": strategy}), QUICK)
    ticks(world, 12)
    assert everywhere(world, None)


def test_those_that_never_were_available_fail_no_rollout() -> None:
    """Fault 23: three of thirteen were broken before we came, one of them for a minute only."""
    fleet = some(10, revision=None)
    broken = frozenset({"web-a", ""})
    for number, spec in enumerate(({}, {"progressDeadlineSeconds": NO_DEADLINE}), start=1):
        fleet.append(established(f"broken-{number}", healthy=False, never_available=True, breaks=broken, spec=spec))
    fleet.append(Deployment("broken-3", breaks=broken))
    world = a_world(fleet, replace(QUICK, max_concurrent=4))
    world.run()
    assert not world.halted
    assert {each.revision for each in fleet} == {"web-a"}, "never rolled back either"
    (said,) = (each["message"] for each in world.status["conditions"] if each["type"] == "Ready")
    assert "were not available before" in said


def test_a_sidecar_that_breaks_what_never_was_available_counts_and_is_rolled_back() -> None:
    broken = established("broken", healthy=False, never_available=True, breaks=frozenset({"web-a"}))
    world = a_world([*some(3, revision=None), broken], QUICK)
    world.run()
    assert world.halted
    assert broken.revision is None


def test_one_without_a_deadline_that_never_was_available_is_not_waited_for_for_ever() -> None:
    """Its controller never says that it has given up: the policy's own deadline tells when nothing moves any more."""
    broken = established(
        "broken",
        healthy=False,
        never_available=True,
        breaks=frozenset({"", "web-a"}),
        spec={"progressDeadlineSeconds": NO_DEADLINE},
    )
    world = a_world([*some(3, revision=None), broken], QUICK)
    until(world, lambda: everywhere(world, "web-a"), most=60)
    assert not world.halted


def test_two_policies_do_not_step_onto_one_before_its_controller_has_seen_the_first() -> None:
    """It has one ReplicaSet, with what the other policy had before: the change that is not seen yet is not its own."""
    fleet = some(1)
    web = an_updated_world(fleet, QUICK)
    log = World([], QUICK, policy=LOG, update="log-a", name="log", cluster=web.cluster)
    ticks(web, 1)
    changed = {each.policy for each in (*web.moves, *log.moves)}
    assert len(changed) == 1


def test_what_admission_refuses_is_not_done() -> None:
    """Fault 24: a rule refuses four of five."""
    world = a_world(some(5, revision=None), QUICK)
    allowed = "app-03"
    suffers(world, while_(lambda it: is_workload_patch(it) and it.name != allowed, Fault.REJECTED))
    world.run()
    assert world[allowed].revision == "web-a"
    assert ready(world)["status"] == "False"
    assert "1 of 5" in world.settled()


def test_a_removal_begins_with_one() -> None:
    """Fault 26: a policy is deleted."""
    world = a_world(some(9), replace(QUICK, max_concurrent=5), current="web-a")
    ticks(world, 2)
    world.delete()
    world.tick()
    assert len(world.in_flight) == 1
    world.run()
    assert everywhere(world, None)
    assert world.settled() == "gone"


def test_the_healthy_come_before_those_known_to_be_broken() -> None:
    """Fault 28: three broken ones at web-b stand in nobody's way when web-c comes."""
    fleet = some(8)
    for each in fleet[:3]:
        each.healthy, each.breaks = False, frozenset({"web-a", "web-b", "web-c"})
    world = an_updated_world(fleet, replace(QUICK, max_concurrent=1, progress_deadline_seconds=300))
    until(world, lambda: all(each.revision == "web-b" for each in fleet), most=200)
    ticks(world, 40)
    world.edit("web-c")
    world.tick()
    moved = {each.name for each in fleet if each.revision == "web-c"}
    assert moved
    assert moved <= {each.name for each in fleet[3:]}


def test_a_policy_whose_injection_failed_can_be_deleted() -> None:
    """Fault 29: no removal was tried, so none has failed."""
    world = a_world(some(3, revision=None, breaks=frozenset({"web-a"})), replace(LEFT, progress_deadline_seconds=60))
    until(world, lambda: world.halted == {"web-a#1"})
    world.delete()
    until(world, lambda: world.settled() == "gone", most=60)


def test_a_failure_of_long_ago_is_not_this_steps() -> None:
    """Fault 31: the Deployment's ReplicaFailure is an hour old; Kubernetes does not renew it."""
    world = an_updated_world(some(3, ticks=8), replace(QUICK, progress_deadline_seconds=300))
    world.without_quota.add("shop")
    world.cluster.time_of_setup = world.now - 3600
    for each in world.deployments:
        world.controllers.refuse(each.body)
    world.cluster.time_of_setup = None
    until(world, lambda: "web-b" in world.end().values())
    began = world.cluster.loop.now
    until(world, lambda: "web-b" not in world.end().values())
    assert world.cluster.loop.now >= began + 60


def test_a_failure_is_told_once() -> None:
    """Fault 32: more have failed than the status lists."""
    world = an_updated_world(some(12, breaks=frozenset({"web-b"})), AT_ONCE)
    world.run()
    ticks(world, 30)
    told = [(each.about.name, each.message) for each in world.operator.told if each.reason == "RolloutFailed"]
    assert len(told) == len(set(told)) == 24


def test_rolling_back_a_first_injection_is_told_as_what_it_is() -> None:
    """Fault 32: no Event says that something was injected when it was taken out."""
    world = a_world(some(3, revision=None, breaks=frozenset({"web-a"})), QUICK)
    world.run()
    told = [each for each in world.operator.told if each.reason == "SidecarsInjected"]
    assert [each.message for each in told if "as it was" in each.message or "None of" in each.message] == []


def test_a_resumed_attempt_has_its_own_time() -> None:
    """The controller has not seen the way back yet when the author resumes: the old attempt's lateness is not its."""
    world = an_updated_world(some(3, breaks=frozenset({"web-b"})), QUICK)
    until(world, lambda: world.halted == {"web-b#1"})
    for each in world.deployments:
        each.breaks = frozenset()
    world.resume()
    world.run()
    assert not world.halted
    assert everywhere(world, "web-b")
