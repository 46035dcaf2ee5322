"""Stories of writes that are refused, and of what is left over of that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import Rejected, Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, POLICIES, REVISIONS
from sidecarpolicy.names import Removal
from tests.simulation.controllers import Controllers
from tests.simulation.faults import Fault, Request
from tests.simulation.fleets import EVERYWHERE, a_world, an_updated_world, everywhere, ticks
from tests.simulation.stories import World, established
from tests.simulation.test_faults import QUICK, is_workload_patch, some, suffers, until
from tests.simulation.test_stories_of_owners import events, with_sidecar


def asks_again(world: World, name: str, fault: Fault) -> list[float]:
    """From now on the patches of Deployment *name* end in *fault*; when they were sent."""
    sent: list[float] = []

    def rule(request: Request) -> Fault | None:
        if not (request.resource == DEPLOYMENTS and request.verb == "patch" and request.name == name):
            return None
        sent.append(request.at)
        return fault

    suffers(world, rule)
    return sent


def test_a_repair_that_is_refused_is_not_tried_again_at_once() -> None:
    world = an_updated_world(some(3), QUICK)
    world.run()
    sent = asks_again(world, "app-01", Fault.REJECTED)
    world["app-01"].edit(lambda body: with_sidecar(body, image="other:1"), "kubectl-edit")
    ticks(world, 30)
    assert 1 <= len(sent) <= 2, "for ten minutes, unless it changes"
    assert world.settled().startswith("CompletedWithFailures")


def test_a_repair_that_fails_for_a_while_is_tried_more_and_more_rarely() -> None:
    world = an_updated_world(some(3), QUICK)
    world.run()
    sent = asks_again(world, "app-01", Fault.ERROR_BEFORE)
    world["app-01"].edit(lambda body: with_sidecar(body, image="other:1"), "kubectl-edit")
    ticks(world, 12)
    assert 4 <= len(sent) <= 20


def test_a_repair_that_is_tried_without_writing_is_not_made_when_everything_is_stopped_meanwhile() -> None:
    world = an_updated_world(some(2), QUICK)
    world.run()

    def stop(verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if resource == DEPLOYMENTS and not world.stopped and "other:1" not in str(after):
            world.stopped = True
        return after

    world["app-01"].edit(lambda body: with_sidecar(body, image="other:1"), "kubectl-edit")
    world.server.admission.append(stop)
    ticks(world, 3)
    assert world.stopped
    assert "other:1" in str(world["app-01"].body)
    world.server.admission.remove(stop)
    world.stopped = False
    ticks(world, 3)
    assert world["app-01"].revision == "web-b"


def test_a_restart_rolls_nobody_back_whose_write_was_refused() -> None:
    """The rollout is halted, as others have failed; what completed it before stays, whoever leads."""
    fleet = some(6)
    world = an_updated_world(fleet, replace(QUICK, max_concurrent=1))
    until(world, lambda: any(each.revision == "web-b" and each.complete for each in fleet))
    first = next(each for each in fleet if each.revision == "web-b")
    for each in fleet:
        if each is not first:
            each.breaks = frozenset({"web-b"})
    until(world, lambda: world.halted == {"web-b#1"})
    world.run()
    asks_again(world, first.name, Fault.REJECTED)
    first.edit(lambda body: with_sidecar(body, image="other:1"), "kubectl-edit")
    until(world, lambda: any(each["name"] == first.name for each in world.status["failures"]))
    world.cluster.faults.rules.clear()
    world.operator.stop()
    ticks(world, 30)
    assert first.revision == "web-b"


def test_a_removal_that_waits_for_its_approval_is_not_given_up_for_an_old_error() -> None:
    """One write failed while it waited. That was over at once, and says nothing about the removal."""
    world = a_world(some(2), replace(QUICK, removal=Removal.MANUAL), current="web-a")
    world.run()
    world.delete()
    ticks(world, 2)
    assert world.settled().startswith("RemovalHeld")
    for each in world.deployments:
        each.edit(lambda body: with_sidecar(body, image="other:1"), "kubectl-edit")
    failing = [True]
    suffers(world, lambda request: Fault.ERROR_BEFORE if failing[0] and is_workload_patch(request) else None)
    ticks(world, 2)
    failing[0] = False
    ticks(world, 60)
    assert world.settled().startswith("RemovalHeld"), "nobody has approved it"
    assert everywhere(world, "web-a")


def test_a_removal_is_tried_once_more_before_it_is_given_up() -> None:
    """What was refused once waits for ten minutes, which is longer than a policy may be held."""
    world = a_world(some(2), replace(QUICK, progress_deadline_seconds=60), current="web-a")
    world.run()
    sent = asks_again(world, "app-01", Fault.REJECTED)
    world.delete()
    until(world, lambda: bool(sent))
    world.cluster.faults.rules.clear()
    until(world, lambda: world.object is None)
    assert [each.revision for each in world.deployments] == [None, None]


def test_what_is_orphaned_does_not_wait_for_a_removal_that_was_refused_before() -> None:
    """A webhook refuses that Pods lose their sidecar, and to leave it to its owner changes no Pods."""
    world = a_world(some(1), QUICK, current="web-a", spec={"deletionPolicy": "Orphan"})
    world.run()

    def refuse(verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        if resource == DEPLOYMENTS and before is not None and before["spec"]["template"] != after["spec"]["template"]:
            raise Rejected(verb="patch", what=after["metadata"]["name"], message="no changes today", status=403)
        return after

    world["app-01"].leave_selection()
    world.server.admission.append(refuse)
    until(world, lambda: world.settled().startswith("AwaitingApproval") or bool(world.status["targets"]["removing"]))
    ticks(world, 2)
    world.delete()
    ticks(world, 1)
    assert world.object is None
    assert world["app-01"].revision == "web-a"
    assert world["app-01"].entry is None


def test_a_namespace_that_is_stuck_in_deletion_holds_no_policy_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an aggregated API is down no namespace is emptied: Kubernetes does not know what is in it."""
    fleet = [established(name, namespace=name, revision="web-a") for name in ("shop", "other")]
    world = World(fleet, QUICK, policy=EVERYWHERE, current="web-a", update="web-a")
    world.tick()
    monkeypatch.setattr(Controllers, "end_namespaces", lambda _: None)
    world.server.delete(NAMESPACES, "", "other")
    world.delete()
    until(world, lambda: world.object is None)
    assert [each.revision for each in fleet] == [None, "web-a"]


def test_what_is_given_up_is_told_once() -> None:
    """Somebody else writes the policy at the same moment, three times."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    allowed = {names.ALLOW_DOWNTIME: "true"}
    world = a_world([established("app-01", replicas=1, spec={"strategy": strategy}, annotations=allowed)], QUICK)
    world.run()
    world["app-01"].annotate(names.ALLOW_DOWNTIME, None)
    conflicts: list[Request] = []

    def rule(request: Request) -> Fault | None:
        of_policy = request.resource == POLICIES[names.POLICY] and request.verb == "patch" and not request.subresource
        if not of_policy or len(conflicts) == 3:
            return None
        conflicts.append(request)
        return Fault.CONFLICT

    world.delete()
    suffers(world, rule)
    until(world, lambda: world.object is None)
    assert len(conflicts) == 3
    assert len(events(world, "RemovalGivenUp")) == 1


def test_nothing_is_created_in_a_namespace_that_is_being_deleted() -> None:
    """Its controller deletes the revisions before the policy; what is created then is refused."""
    world = an_updated_world(some(3), QUICK)
    world.run()
    created: list[Request] = []

    def rule(request: Request) -> Fault | None:
        if request.resource == REVISIONS and request.verb == "create":
            created.append(request)
        return None

    suffers(world, rule)
    world.server.delete(NAMESPACES, "", "shop")
    for each in world.server.every(REVISIONS, "shop"):
        world.server.delete(REVISIONS, "shop", each["metadata"]["name"])
    world.cluster.loop.run_to(world.cluster.loop.now + 5)
    assert created == []
    ticks(world, 3)
    assert world.object is None


def test_a_status_that_may_not_be_written_is_told_in_the_log_and_tried_more_and_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = an_updated_world(some(3), QUICK)
    sent: list[float] = []
    refused = True

    def rule(request: Request) -> Fault | None:
        if request.subresource != "status" or not refused:
            return None
        sent.append(request.at)
        return Fault.REJECTED

    world.run()
    suffers(world, rule)
    world["app-01"].label(names.INJECT, "false")
    ticks(world, 60)
    assert len(sent) <= 7 + (sent[-1] - sent[0]) / 60
    told = [each.getMessage() for each in caplog.records if "its status is out of date" in each.getMessage()]
    assert len(told) == 1
    refused = False
    until(world, lambda: world.counts().get("skipped") == 1)


def keep_no_history(world: World) -> None:
    """The author sets revisionHistoryLimit to 0, after two edits."""
    for update in ("web-b", "web-c"):
        world.edit(update)
        world.run()
    body = world.object
    assert body is not None
    world.server.update(POLICIES[body["kind"]], body, {**body, "spec": {**body["spec"], "revisionHistoryLimit": 0}})


def test_an_old_revision_that_may_not_be_deleted_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    """An administrator has taken the right away; what is rolled out is, and the next edit is looked at, at once."""
    world = an_updated_world(some(3), QUICK)
    sent: list[float] = []

    def rule(request: Request) -> Fault | None:
        if not (request.resource == REVISIONS and request.verb == "delete"):
            return None
        sent.append(request.at)
        return Fault.REJECTED

    suffers(world, rule)
    keep_no_history(world)
    until(world, lambda: len(sent) > 5, most=200)
    assert world.settled().startswith("RolloutComplete")
    assert len([each for each in caplog.records if "trying again in" in each.getMessage()]) == 1
    world.edit("web-d")
    ticks(world, 3)
    assert "web-d" in world.end().values()


def test_a_rollout_of_which_nothing_can_be_written_down_is_not_told_as_one_that_is_not_accepted() -> None:
    world = an_updated_world(some(3), QUICK)
    refused = True

    def rule(request: Request) -> Fault | None:
        is_mark = request.resource == REVISIONS and request.verb == "patch"
        return Fault.REJECTED if is_mark and refused else None

    suffers(world, rule)
    until(world, lambda: everywhere(world, "web-b"))
    ticks(world, 20)
    assert "is accepted, and how far it is cannot be written down yet" in world.settled()
    accepted = next(each for each in world.status["conditions"] if each["type"] == "Accepted")
    assert accepted["status"] == "True"
    refused = False
    until(world, lambda: world.settled().startswith("RolloutComplete"))
