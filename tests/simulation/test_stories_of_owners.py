"""Stories of what owners and their tools do with their Deployments, each once met in life."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.claims import LAST_APPLIED
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES
from sidecarpolicy.names import OnFailure
from tests.simulation.fleets import a_world, an_updated_world, everywhere, ticks
from tests.simulation.people import without_inits
from tests.simulation.stories import Deployment, World, established

QUICK = Rollout(max_concurrent=2, min_ready_seconds=0, progress_deadline_seconds=60)
PROXY_ENV = {"application": {"env": [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}]}}


def a_shop(*, spec: Json | None = None, sidecar: Json | None = None, **fields: Any) -> tuple[World, Deployment]:
    """One Deployment that has what the policy injects."""
    world = a_world([established("app-01", **fields)], QUICK, spec=spec, sidecar=sidecar)
    world.run()
    return world, world["app-01"]


def the_application(deployment: Deployment) -> Json:
    """Its own container."""
    return next(each for each in deployment.body["spec"]["template"]["spec"]["containers"] if each["name"] == "app")


def with_application(body: Json, **fields: Any) -> Json:
    """*body* with other fields in its own container."""
    template = body["spec"]["template"]
    containers = [{**each, **fields} if each["name"] == "app" else each for each in template["spec"]["containers"]]
    spec = {**body["spec"], "template": {**template, "spec": {**template["spec"], "containers": containers}}}
    return {**body, "spec": spec}


def events(world: World, reason: str) -> list[str]:
    """What was told of that reason on Deployments."""
    return [each.message for each in world.operator.told if each.reason == reason and each.about.kind == "Deployment"]


def warned(world: World, reason: str) -> str:
    """The message of that warning in the status, or nothing."""
    return next((each["message"] for each in items(world.status, "warnings") if each["reason"] == reason), "")


def ready(world: World) -> Json:
    """The condition."""
    return next(each for each in world.status["conditions"] if each["type"] == "Ready")


@pytest.mark.parametrize("manager", ["kubectl-set", "helm"])
def test_a_variable_that_its_owner_sets_afterwards_is_theirs(manager: str) -> None:
    world, shop = a_shop(spec=PROXY_ENV)
    mine = [{"name": "HTTP_PROXY", "value": "http://mine:8080"}]
    shop.edit(lambda body: with_application(body, env=mine), manager)
    ticks(world, 5)
    assert the_application(shop)["env"] == mine
    assert "HTTP_PROXY" in warned(world, "EnvKept")
    (told,) = events(world, "LeftToOwner")
    assert "env 'HTTP_PROXY' of container 'app'" in told and manager in told
    assert world.settled().startswith("RolloutComplete")
    world.edit("web-b")
    ticks(world, 10)
    assert (shop.revision, the_application(shop)["env"]) == ("web-b", mine)
    world.delete()
    ticks(world, 20)
    assert world.object is None and shop.record == ""
    assert the_application(shop)["env"] == mine


def test_a_variable_that_its_owner_takes_away_is_put_back() -> None:
    world, shop = a_shop(spec=PROXY_ENV)
    shop.edit(lambda body: with_application(body, env=[]), "kubectl-set")
    ticks(world, 5)
    assert the_application(shop)["env"] == PROXY_ENV["application"]["env"]


def test_a_mount_that_its_owner_moves_to_a_volume_of_theirs_is_theirs() -> None:
    logs: Json = {"name": "logs", "mountPath": "/var/log/app"}
    world, shop = a_shop(spec={"volumes": [{"name": "logs", "emptyDir": {}}], "application": {"volumeMounts": [logs]}})
    mine = {"name": "own", "mountPath": "/var/log/app"}

    def change(body: Json) -> Json:
        found = with_application(body, volumeMounts=[mine])
        pod = found["spec"]["template"]["spec"]
        pod["volumes"] = [*pod["volumes"], {"name": "own", "emptyDir": {}}]
        return found

    shop.edit(change, "kubectl-edit")
    ticks(world, 10)
    assert the_application(shop)["volumeMounts"] == [mine]
    assert [each["reason"] for each in world.status["skipped"]] == ["NameConflict"], "as before an injection"
    world.delete()
    ticks(world, 20)
    assert the_application(shop)["volumeMounts"] == [mine]
    assert [each["name"] for each in shop.body["spec"]["template"]["spec"]["volumes"]] == ["own"]


def with_sidecar(body: Json, **fields: Any) -> Json:
    """*body* with other fields in the container of our name."""
    template = body["spec"]["template"]
    inits = [{**each, **fields} if each["name"] == "proxy" else each for each in template["spec"]["initContainers"]]
    spec = {**body["spec"], "template": {**template, "spec": {**template["spec"], "initContainers": inits}}}
    return {**body, "spec": spec}


def test_a_chart_that_declares_a_container_of_our_name_is_a_conflict_that_names_helm() -> None:
    world, shop = a_shop()
    shop.edit(lambda body: with_sidecar(body, image="my-migrate:7", command=["migrate"]), "helm")
    ticks(world, 5)
    (migrate,) = shop.body["spec"]["template"]["spec"]["initContainers"]
    assert migrate["image"] == "my-migrate:7"
    (skipped,) = world.status["skipped"]
    assert skipped["reason"] == "NameConflict" and "'helm' declares it too" in skipped["message"]
    world.delete()
    ticks(world, 20)
    assert shop.body["spec"]["template"]["spec"]["initContainers"] == [migrate], "it is the chart's"


def test_an_opt_out_in_the_pod_template_is_honoured_and_a_wrong_word_on_the_namespace_is_told() -> None:
    world, shop = a_shop()
    world.server.merge_patch(NAMESPACES, "", "shop", {"metadata": {"labels": {names.INJECT: "disabled"}}})
    ticks(world, 3)
    assert warned(world, "InvalidMark").startswith("namespace shop: label sidecars.dev/inject: must be")

    def change(body: Json) -> Json:
        found = with_application(body)
        metadata = found["spec"]["template"]["metadata"]
        found["spec"]["template"]["metadata"] = {**metadata, "annotations": {names.INJECT: "false"}}
        return found

    shop.edit(change)
    ticks(world, 10)
    assert shop.revision is None
    assert [each["reason"] for each in world.status["skipped"]] == ["OptedOut"]


@pytest.mark.parametrize(("label", "annotation"), [("false", "true"), ("true", "false"), ("", "false")])
def test_an_opt_out_that_is_written_as_an_annotation_is_told(label: str, annotation: str) -> None:
    world, shop = a_shop()
    metadata: Json = {"labels": {names.INJECT: label} if label else {}, "annotations": {names.INJECT: annotation}}
    world.server.merge_patch(DEPLOYMENTS, "shop", shop.name, {"metadata": metadata})
    ticks(world, 10)
    assert (shop.revision is None) == (label == "false")
    said = warned(world, "InvalidMark")
    assert "annotation sidecars.dev/inject: must be a label; as an annotation it has no effect" in said
    assert said.endswith(f', and the label says "{label}"' if label else "no effect")


def test_a_policy_takes_over_what_equals_its_own_on_a_copy_from_another_namespace() -> None:
    """As a backup restores it elsewhere, or a pipeline copies it: with the record of the policy there."""
    world, shop = a_shop()
    world.cluster.ensure_namespace("bank")
    metadata = shop.body["metadata"]
    copied = {"name": "app-01", "annotations": metadata["annotations"], "labels": at(metadata, "labels")}
    world.server.create(DEPLOYMENTS, "bank", {"metadata": copied, "spec": shop.body["spec"]})
    ticks(world, 3)
    template = world.server.get(DEPLOYMENTS, "bank", "app-01")["spec"]["template"]
    there = PolicyId(kind=names.POLICY, namespace="bank", name="web")
    bank = World([], QUICK, policy=there, cluster=world.cluster)
    ticks(bank, 10)
    body = world.server.get(DEPLOYMENTS, "bank", "app-01")
    assert bank.settled().startswith("RolloutComplete")
    assert body["spec"]["template"] == template, "nothing was rolled out"
    assert set(record_of(body["metadata"]["annotations"][names.RECORD]).entries) == {there}
    bank.delete()
    ticks(bank, 20)
    body = world.server.get(DEPLOYMENTS, "bank", "app-01")
    assert "initContainers" not in body["spec"]["template"]["spec"]
    assert names.RECORD not in at(body, "metadata", "annotations")
    assert shop.revision == "web-a"


def test_what_an_owner_does_after_wiping_sidecars_and_record_is_no_removal_of_ours() -> None:
    """The ReplicaSet of the wiped Pods keeps the record, for its controller takes none away; its Pods have nothing."""
    world, shop = a_shop(bad_versions=frozenset({2}))
    world.stopped = True
    shop.edit(without_inits)
    ticks(world, 6)
    shop.annotate(names.RECORD, None)
    ticks(world, 3)
    world.rollout = replace(world.rollout, paused=True)
    world.stopped = False
    ticks(world, 3)
    shop.hotfix()
    for _ in range(20):
        world.tick()
        assert world.counts() == {"pending": 1}
        assert not shop.record and world.settled().startswith("Paused")


def test_a_record_that_is_wiped_proves_no_removal() -> None:
    """Its Pods keep their sidecars. One removal goes first all the same, and is watched."""
    shops = [established(f"app-{number}", ticks=4) for number in range(6)]
    world = a_world(shops, Rollout(max_concurrent=4, min_ready_seconds=20, progress_deadline_seconds=60))
    world.run()
    world.delete()
    ticks(world, 1)
    (first,) = (each for each in shops if not each.record)
    wiped = next(each for each in shops if each.record)
    wiped.annotate(names.RECORD, None)
    while not first.complete:
        world.tick()
        assert sum(not each.revisions for each in shops) == 1
    world.run()
    assert world.object is None
    assert [each.name for each in shops if each.revisions] == [wiped.name], "they are its owner's now"


def test_a_removal_that_takes_all_pods_down_holds_its_place_until_they_are_up() -> None:
    """Its controller takes up the ReplicaSet of before the injection, and goes on calling the Deployment complete."""
    shops = [established(f"app-{number}", recreates=True, ticks=4) for number in range(3)]
    world = a_world(shops, replace(QUICK, max_concurrent=1))
    world.run()
    world.delete()
    down = []
    for _ in range(20):
        world.tick()
        down.append(sum(not each.healthy for each in shops))
    assert world.object is None and all(not each.record for each in shops)
    assert max(down) == 1, "one at a time"


def test_a_removal_that_would_take_all_pods_down_waits_for_the_owners_word() -> None:
    world, shop = a_shop(recreates=True)
    shop.annotate(names.ALLOW_DOWNTIME, None)
    ticks(world, 3)
    world.delete()
    ticks(world, 3)
    assert shop.revision == "web-a"
    assert "takes all Pods of the Deployment down at once" in ready(world)["message"]
    shop.annotate(names.ALLOW_DOWNTIME, "true")
    ticks(world, 10)
    assert world.object is None and shop.revision is None and shop.record == ""


def test_a_removal_that_the_owner_does_not_allow_is_given_up_after_the_deadline() -> None:
    world, shop = a_shop(recreates=True)
    shop.annotate(names.ALLOW_DOWNTIME, None)
    ticks(world, 3)
    template = shop.body["spec"]["template"]
    world.delete()
    ticks(world, 15)
    assert world.object is None, "it is not held for ever"
    assert shop.body["spec"]["template"] == template, "no Pod went down"
    (told,) = events(world, "RemovalGivenUp")
    assert names.ALLOW_DOWNTIME in told


def test_a_variable_that_refers_to_one_that_its_owner_adds_later_comes_after_it() -> None:
    refers = {"name": "ATTRS", "value": "service=$(APP_NAME)"}
    world, shop = a_shop(spec={"application": {"env": [{"name": "MODE", "value": "x"}, refers]}})
    theirs = {"name": "APP_NAME", "value": "cart"}
    env = the_application(shop)["env"]
    shop.edit(lambda body: with_application(body, env=[*env, theirs]), "kubectl-set")
    ticks(world, 5)
    assert [each["name"] for each in the_application(shop)["env"]] == ["APP_NAME", "MODE", "ATTRS"], (
        "as if it came first"
    )
    patches = len(world.moves)
    ticks(world, 5)
    assert len(world.moves) == patches


@pytest.mark.parametrize("value", ["plain", "$$(APP_NAME)", "$(OTHER)"])
def test_a_variable_that_refers_to_nothing_of_its_owners_stays_where_it_is(value: str) -> None:
    world, shop = a_shop(spec={"application": {"env": [{"name": "ATTRS", "value": value}]}})
    theirs = {"name": "APP_NAME", "value": "cart"}
    env = the_application(shop)["env"]
    shop.edit(lambda body: with_application(body, env=[*env, theirs]), "kubectl-set")
    ticks(world, 5)
    assert [each["name"] for each in the_application(shop)["env"]] == ["ATTRS", "APP_NAME"]


def test_a_repair_says_which_field_was_changed_to_what_and_by_whom() -> None:
    world, shop = a_shop()
    shop.edit(lambda body: with_sidecar(body, image="example.test/web:z"), "kubectl-edit")
    ticks(world, 5)
    assert shop.revision == "web-a"
    told = events(world, "SidecarsInjected")[-1]
    assert told.startswith("repaired ")
    assert 'image of init container \'proxy\' was "example.test/web:z" instead of "example.test/web:a"' in told
    assert told.endswith("(by 'kubectl-edit')")


def test_a_repair_says_what_was_gone() -> None:
    world, shop = a_shop(spec=PROXY_ENV)
    shop.edit(lambda body: with_application(body, env=[]), "kubectl-set")
    ticks(world, 5)
    assert "env 'HTTP_PROXY' of container 'app' was gone (by 'kubectl-set')" in events(world, "SidecarsInjected")[-1]


def test_what_kubectl_copied_from_another_namespace_is_its_owners_and_adopted() -> None:
    """`kubectl create` writes everything that is there into its annotation: the owner declares it."""
    world, shop = a_shop()
    world.cluster.ensure_namespace("bank")
    spec, annotations = shop.body["spec"], shop.body["metadata"]["annotations"]
    declared = {LAST_APPLIED: json.dumps({"spec": spec})}
    copied = {"name": "app-01", "annotations": annotations | declared, "labels": at(shop.body, "metadata", "labels")}
    world.server.create(DEPLOYMENTS, "bank", {"metadata": copied, "spec": spec})
    ticks(world, 3)
    there = PolicyId(kind=names.POLICY, namespace="bank", name="web")
    bank = World([], QUICK, policy=there, cluster=world.cluster)
    ticks(bank, 10)
    body = world.server.get(DEPLOYMENTS, "bank", "app-01")
    assert bank.settled().startswith("RolloutComplete")
    assert body["spec"]["template"] == spec["template"]
    entries = record_of(body["metadata"]["annotations"][names.RECORD]).entries
    assert set(entries) == {there}
    assert entries[there].adopted == {"proxy"}
    assert not entries[there].items


def test_an_annotation_on_what_has_failed_proves_nothing() -> None:
    """With Recreate no old Pods are left to tell that the rollout has not ended."""
    fleet = [
        established(f"app-{number:02}", revision="web-a", recreates=True, breaks=frozenset({"web-b"}))
        for number in range(1, 6)
    ]
    world = an_updated_world(fleet, replace(QUICK, max_failures=1, on_failure=OnFailure.HALT))
    world.run()
    assert world.settled().startswith("RolloutHalted")
    (failed,) = (each for each in fleet if each.revision == "web-b")
    failed.annotate("example.com/owner", "shop")
    ticks(world, 3)
    assert world.settled().startswith("RolloutHalted")
    failed.hotfix()
    ticks(world, 20)
    assert world.settled().startswith("RolloutHalted")
    assert [each for each in fleet if each.revision == "web-b"] == [failed]


def test_a_first_injection_that_has_failed_is_not_rolled_out_by_the_owners_next_change() -> None:
    """It was unhealthy before, and its owner's next image is a bad one, too."""
    broken = established("app-01", healthy=False, recreates=True, breaks=frozenset({"web-a"}))
    world = a_world([broken, established("app-02")], QUICK)
    world.run()
    assert world.settled().startswith("CompletedWithFailures")
    broken.bad_versions = frozenset({broken.version + 1})
    broken.hotfix()
    ticks(world, 20)
    assert world.settled().startswith("CompletedWithFailures")
    broken.breaks = broken.bad_versions = frozenset()
    broken.hotfix()
    ticks(world, 5)
    assert world.settled().startswith("RolloutComplete")


def test_an_owners_change_of_what_is_down_for_a_removal_frees_no_slot() -> None:
    """With the strategy Recreate no Pods of before are left that would show it."""
    fleet = [established(f"app-{each}", revision="web-a", recreates=True, ticks=4) for each in range(3)]
    world = a_world(fleet, replace(QUICK, max_concurrent=1), current="web-a")
    ticks(world, 3)
    world.delete()
    ticks(world, 3)
    (first,) = (each for each in fleet if each.revision is None)
    assert not first.complete
    world.say(f"the owner of {first.name} changes its image")
    first.hotfix()
    while not first.complete:
        assert world.in_flight == {first.name}
        world.tick()
    world.run()
    assert everywhere(world, None)


def test_what_an_owner_stripped_of_sidecars_and_record_is_brought_back_within_the_budget() -> None:
    """The ReplicaSet without sidecars still bears the record that its Deployment had meanwhile."""
    rollout = replace(QUICK, max_concurrent=1)
    world = an_updated_world([established(f"app-{each}", revision="web-a") for each in range(3)], rollout)
    world.run()
    world.stopped = True
    for each in world.deployments:
        each.edit(without_inits)
    ticks(world, 6)
    for each in world.deployments:
        each.annotate(names.RECORD, None)
    ticks(world, 3)
    assert everywhere(world, None)
    world.say("somebody lets it go on")
    world.stopped = False
    world.run()
    assert everywhere(world, "web-b")
    assert world.most_in_flight == 1


def test_what_an_owner_takes_off_the_first_one_is_put_back_and_none_goes_beside_it() -> None:
    """While the repair was on its way, one that held a slot at an older revision went to the newest as well."""
    slow = [established(f"app-{number}", ticks=6) for number in (1, 2, 3)]
    world = a_world(slow, QUICK)
    while len(world.in_flight) < 2:
        world.tick()
    world.edit("web-b")
    world.tick()
    (first,) = (each for each in slow if each.revision == "web-b")
    first.edit(without_inits)
    world.tick()
    assert [each.name for each in slow if each.revision == "web-b"] == [first.name]
    world.run()
    assert everywhere(world, "web-b")


def test_a_new_deployment_that_has_never_come_up_is_not_updated_by_its_owners_next_change() -> None:
    """One that was taken for the owner's rollout on top of what is complete said RolloutComplete."""
    world = a_world([established("app-01", revision="web-a")], QUICK, current="web-a")
    world.run()
    new = Deployment("new", ticks=6)
    world.arrive(new)
    ticks(world, 3)
    new.hotfix()
    while not new.complete:
        world.tick()
        assert new.complete or world.settled().startswith("RollingOut"), world.settled()
    world.run()
    assert world.settled().startswith("RolloutComplete")


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "and another policy's sidecar is put back beside it"])
def test_what_was_undone_too_often_is_put_back_when_the_next_attempt_is_due(beside: bool) -> None:
    """Nothing but the time changed until then, so nobody looked whether it could be put back."""
    world = a_world([established("app-01")], QUICK)
    shop = world["app-01"]
    log = PolicyId(kind=names.POLICY, namespace="shop", name="log")
    other = World([], QUICK, policy=log, update="log-a", name="log", cluster=world.cluster)
    world.run()
    assert shop.revisions == {"web-a", "log-a"}
    for _ in range(3):
        shop.edit(lambda body: without_sidecar(body, "proxy"))
        ticks(world, 3)
    assert "next attempt at" in world.settled()
    assert shop.revisions == {"log-a"}
    if beside:
        shop.edit(lambda body: without_sidecar(body, "log"))
        ticks(world, 3)
        assert shop.revisions == {"log-a"}
    ticks(world, 60)
    assert shop.revisions == {"web-a", "log-a"}
    ticks(world, 60)
    assert world.settled().startswith("RolloutComplete") and other.settled().startswith("RolloutComplete")


def without_sidecar(body: Json, name: str) -> Json:
    """A Deployment without one of its sidecars."""
    template = body["spec"]["template"]
    left = [each for each in template["spec"]["initContainers"] if each["name"] != name]
    pod = {**template["spec"], "initContainers": left}
    return {**body, "spec": {**body["spec"], "template": {**template, "spec": pod}}}
