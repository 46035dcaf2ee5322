"""What admission makes of an owner's write: laws first, then one write at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.admission.proposal import NotReviewable, proposal_from
from sidecarpolicy.core.claims import LAST_APPLIED
from sidecarpolicy.core.configs import ConfigObject, Wanted, advanced
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import text_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, REPLICA_SETS
from tests.core.objects import WEB, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.core.reviews import ANNOTATIONS, Cluster, a_request, record_on, template_of
from tests.core.strategies import NAMES_OF_POLICIES, policies, templates

ONE, TWO, THREE = (a_sidecar(container={"image": f"example.test/proxy:{tag}"}) for tag in "123")
OTEL = ConfigObject("ConfigMap", "otel")
RESTART = "2026-11-29T15:04:05Z"


def inits(body: Json) -> list[str]:
    """The images of the init containers."""
    return [
        each["image"].removeprefix("example.test/") for each in at(template_of(body), "spec").get("initContainers", [])
    ]


def revision_on(body: Json, policy: PolicyId = WEB) -> str | None:
    """The revision that the record names."""
    entry = record_of(record_on(body)).entries.get(policy)
    return entry.revision if entry else None


def without_ours(body: Json) -> Json:
    """What `kubectl replace` sends whose author has only his own manifest."""
    spec = {key: value for key, value in template_of(body)["spec"].items() if key not in ("initContainers", "volumes")}
    annotations = {key: value for key, value in body["metadata"]["annotations"].items() if key != names.RECORD}
    metadata = {"labels": template_of(body)["metadata"]["labels"]}
    return {
        **body,
        "metadata": {
            "name": "cart",
            "namespace": "shop",
            "labels": body["metadata"]["labels"],
            "annotations": annotations,
        },
        "spec": {**body["spec"], "template": {"metadata": metadata, "spec": spec}},
    }


def with_image(body: Json, image: str) -> Json:
    """With another image of the application."""
    containers = [each | {"image": image} for each in template_of(body)["spec"]["containers"]]
    template = template_of(body)
    return {
        **body,
        "spec": {**body["spec"], "template": {**template, "spec": {**template["spec"], "containers": containers}}},
    }


def with_labels(body: Json, **labels: str) -> Json:
    """With labels on the Deployment."""
    return {**body, "metadata": {**body["metadata"], "labels": labels}}


INJECT_FALSE = {names.INJECT: "false"}


@pytest.fixture
def cluster() -> Cluster:
    """With the policy web at its second revision."""
    found = Cluster()
    found.roll_out(a_policy(sidecars=[ONE]), number=1)
    found.roll_out(a_policy(sidecars=[TWO]), number=2)
    return found


def stored(cluster: Cluster, body: Json) -> Json:
    """*body* as it is stored and seen."""
    cluster.put(DEPLOYMENTS, body)
    return cluster.as_cached(body)


# Laws


@given(templates(), st.data())
def test_creating_with_admission_is_what_the_operator_makes_of_it_afterwards(template: Json, data: Any) -> None:
    cluster = Cluster()
    for name in data.draw(st.lists(st.sampled_from(NAMES_OF_POLICIES), unique=True, min_size=1)):
        cluster.roll_out(data.draw(policies(name=name, cluster=name == "base")))
    body = a_deployment()
    body["spec"]["template"] = template
    body["metadata"]["annotations"] = data.draw(st.sampled_from([{}, {"team": "a"}]))
    body["metadata"]["labels"] = data.draw(st.sampled_from([{}, INJECT_FALSE]))
    body["spec"]["paused"] = data.draw(st.booleans())
    admitted = cluster.admit(body)
    assert (template_of(admitted), record_on(admitted)) == cluster.operate(body)
    assert cluster.review(admitted).operations == (), "a second review"
    assert cluster.writes(admitted) == [], "the operator afterwards"


@given(templates(), st.data())
def test_what_a_write_drops_is_put_back_and_nothing_else(template: Json, data: Any) -> None:
    cluster = Cluster()
    for name in data.draw(st.lists(st.sampled_from(NAMES_OF_POLICIES), unique=True, min_size=1)):
        cluster.roll_out(data.draw(policies(name=name, cluster=name == "base")))
    body = a_deployment()
    body["spec"]["template"] = template
    admitted = cluster.admit(body)
    old = stored(cluster, admitted)
    again = cluster.admit(body, old)
    assert (template_of(again), record_on(again)) == (template_of(admitted), record_on(admitted))
    assert cluster.review(again, old).operations == (), "a second review"
    assert cluster.review(old, old).operations == (), "an unchanged write"


# Created


def test_a_new_one_gets_what_has_been_rolled_out_completely(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[THREE]), number=3, complete=False)
    assert inits(cluster.admit(a_deployment())) == ["proxy:2"]


@pytest.mark.parametrize("rollout", [{"paused": True}, {"strategy": "OnNextChange"}])
def test_neither_pause_nor_strategy_keeps_that_from_a_new_one(cluster: Cluster, rollout: Json) -> None:
    cluster.roll_out(a_policy(sidecars=[THREE], rollout=rollout), number=3, complete=False)
    assert inits(cluster.admit(a_deployment())) == ["proxy:2"]


def test_before_anything_is_complete_one_carries_it_and_the_next_waits() -> None:
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE]), complete=False)
    first = cluster.admit(a_deployment("first"))
    assert inits(first) == ["proxy:1"]
    assert inits(cluster.admit(a_deployment("second"))) == []
    cluster.put(DEPLOYMENTS, first)
    cluster.time += 60
    assert inits(cluster.admit(a_deployment("third"))) == [], "the first one is in flight"


def test_those_created_within_a_second_wait_as_well_once_the_first_is_seen() -> None:
    """`kubectl apply` of a folder: each is seen before the next is created, and all that within a second."""
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE]), complete=False)
    found = []
    for number in range(12):
        admitted = cluster.admit(a_deployment(f"app-{number:02}"))
        cluster.put(DEPLOYMENTS, admitted)
        cluster.time += 0.2
        found.append(inits(admitted))
    assert found == [["proxy:1"], *[[]] * 11]


def test_a_dry_run_takes_nobodys_place() -> None:
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE]), complete=False)
    assert inits(cluster.admit(a_deployment("first"), dryRun=True)) == ["proxy:1"]
    assert inits(cluster.admit(a_deployment("second"))) == ["proxy:1"]


@pytest.mark.parametrize("rollout", [{"paused": True}, {"strategy": "OnNextChange"}])
def test_before_anything_is_complete_a_new_one_waits_for_what_waits(rollout: Json) -> None:
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE], rollout=rollout), complete=False)
    assert cluster.review(a_deployment()).operations == ()


def test_while_the_first_rollout_is_halted_a_new_one_gets_nothing() -> None:
    cluster = Cluster()
    halt = '{"id":"web-x#1","reason":"","since":""}'
    cluster.roll_out(a_policy(sidecars=[ONE]), complete=False, marks={names.HALT: halt})
    assert cluster.review(a_deployment()).operations == ()


def test_what_recreates_its_pods_loses_none_by_being_created(cluster: Cluster) -> None:
    assert inits(cluster.admit(a_deployment(strategy={"type": "Recreate"}))) == ["proxy:2"]


def test_one_that_is_created_paused_has_its_sidecars_when_it_is_resumed(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[THREE]), number=3, complete=False)
    created = cluster.admit(a_deployment(paused=True))
    assert inits(created) == ["proxy:2"]
    paused = stored(cluster, created)
    edited = with_image(paused, "example.test/app:2")
    assert cluster.admit(edited, paused) == edited, "an edit while it is paused"
    resumed = {**paused, "spec": {**paused["spec"], "paused": False}}
    assert cluster.admit(resumed, paused) == resumed


def test_before_anything_is_complete_one_that_is_created_paused_gets_nothing() -> None:
    """It would hold no slot, so any number of them could have what nobody has completed."""
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE]), complete=False)
    assert inits(cluster.admit(a_deployment(paused=True))) == []
    assert inits(cluster.admit(a_deployment())) == ["proxy:1"]


def test_one_without_a_name_yet_is_reviewed(cluster: Cluster) -> None:
    body = a_deployment()
    body["metadata"] = {"generateName": "cart-", "namespace": "shop"}
    assert inits(cluster.admit(body)) == ["proxy:2"]


def test_each_without_a_name_yet_takes_a_place_of_its_own() -> None:
    """A hundred of them are created within a second, and nobody has completed the revision."""
    cluster = Cluster()
    rollout = {"maxConcurrent": 2, "minReadySeconds": 0}
    cluster.roll_out(a_policy(sidecars=[ONE], rollout=rollout), complete=False)
    complete = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    pods = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    status = {"observedGeneration": 1, **pods, "conditions": [complete]}
    cluster.put(DEPLOYMENTS, {**cluster.admit(a_deployment("first")), "status": status})
    cluster.time += 60
    body = a_deployment()
    body["metadata"] = {"generateName": "cart-", "namespace": "shop"}
    found = [inits(cluster.admit(body, uid=f"review-{number}")) for number in range(4)]
    assert found == [["proxy:1"], ["proxy:1"], [], []]


def test_an_owner_who_wants_none_gets_none(cluster: Cluster) -> None:
    assert cluster.review(a_deployment(labels=INJECT_FALSE)).operations == ()


def test_a_conflict_is_told_to_the_owner_and_changes_nothing(cluster: Cluster) -> None:
    own = {"name": "proxy", "image": "example.test/own:1"}
    app = {"name": "app", "image": "example.test/app:1"}
    found = cluster.review(a_deployment(pod={"initContainers": [own], "containers": [app]}))
    assert found.operations == ()
    assert found.warnings == (
        "SidecarPolicy shop/web skips this Deployment (NameConflict): the application has its own container 'proxy' "
        "with image 'example.test/own:1'; the policy's has image 'example.test/proxy:2'",
    )


def test_a_mark_that_means_nothing_is_told_to_the_owner(cluster: Cluster) -> None:
    assert cluster.review(a_deployment(labels={names.INJECT: "no"})).warnings == (
        'label sidecars.dev/inject: must be "true" or "false", not \'no\'; it has no effect',
    )


def test_the_emergency_switch_is_for_admission_too(cluster: Cluster) -> None:
    cluster.put(NAMESPACES, {"metadata": {"name": "system", "annotations": {names.STOP: "true"}}})
    assert cluster.review(a_deployment()).operations == ()


@pytest.mark.parametrize("namespace", ["kube-system", "system"])
def test_a_cluster_policy_is_not_for_the_system_and_the_operator_itself(cluster: Cluster, namespace: str) -> None:
    cluster.roll_out(a_cluster_policy("all", selector={}, sidecars=[ONE]))
    assert cluster.review(a_deployment(namespace=namespace)).operations == ()


def test_a_list_that_every_apply_empties_is_told_to_the_owner(cluster: Cluster) -> None:
    app = {"name": "app", "env": None, "volumeMounts": None}
    applied = {"spec": {"template": {"spec": {"containers": [app], "initContainers": None, "volumes": None}}}}
    body = a_deployment(annotations={LAST_APPLIED: json.dumps(applied)})
    told = [each.partition(":  ")[0].partition(" without")[0] for each in cluster.review(body).warnings]
    assert told == [f"the manifest has `{each}:`" for each in ("env", "initContainers", "volumeMounts", "volumes")]


# Changed


def test_a_replace_gets_the_recorded_revision_back_not_a_newer_one(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    cluster.roll_out(a_policy(sidecars=[THREE]), number=3)
    found = cluster.admit(with_image(without_ours(old), "example.test/app:2"), old)
    assert inits(found) == ["proxy:2"]
    assert record_on(found) == record_on(old)
    assert template_of(found)["spec"]["containers"][0]["image"] == "example.test/app:2"


def restarted(cluster: Cluster) -> Json:
    """A Deployment as it is stored after a restart that its author asked for, and one for a configuration."""
    manifest = a_policy(sidecars=[THREE], restartOn={"configMaps": ["otel"]})
    manifest["metadata"]["annotations"] = {names.RESTARTED_AT: RESTART}
    cluster.roll_out(manifest, number=3)
    cluster.cache.configs.note(OTEL, "shop", "1")
    first = cluster.admit(a_deployment())
    revision = cluster.cache.update_revision(WEB)
    assert revision is not None
    record = record_of(record_on(first))
    config = advanced(record.entries[WEB].config, Wanted(named=(OTEL,), known={OTEL: "2"}))
    template, after = inject(template_of(first), [replace(revision.revision, config=config)], record)
    cluster.cache.configs.note(OTEL, "shop", "2")
    body = {**first, "metadata": first["metadata"] | {"annotations": {names.RECORD: text_of(after)}}}
    body["spec"] = {**first["spec"], "template": template}
    assert {names.RESTARTED_AT, names.CONFIG} <= at(template, *ANNOTATIONS).keys()
    return stored(cluster, body)


def test_a_replace_that_changes_nothing_starts_no_pods_after_a_restart(cluster: Cluster) -> None:
    old = restarted(cluster)
    found = cluster.admit(without_ours(old), old)
    assert (template_of(found), record_on(found)) == (template_of(old), record_on(old))


def test_a_restart_is_kept_beside_what_the_owner_writes_there(cluster: Cluster) -> None:
    old = restarted(cluster)
    new = without_ours(old)
    new["spec"]["template"]["metadata"]["annotations"] = {names.CONFIG: "mine@1", "team": "x"}
    found = at(template_of(cluster.admit(new, old)), *ANNOTATIONS)
    config = at(template_of(old), *ANNOTATIONS)[names.CONFIG]
    assert found == {"team": "x", names.CONFIG: f"mine@1,{config}", names.RESTARTED_AT: f"web@{RESTART}"}


def test_a_restart_goes_with_its_policy(cluster: Cluster) -> None:
    old = restarted(cluster)
    found = cluster.admit(with_labels(without_ours(old), **{names.INJECT: "false"}), old)
    assert not at(template_of(found), *ANNOTATIONS).keys() & {names.CONFIG, names.RESTARTED_AT}


def test_what_somebody_took_away_before_is_not_put_back(cluster: Cluster) -> None:
    old = restarted(cluster)
    template = template_of(old)
    bare = {**template, "metadata": {"labels": template["metadata"]["labels"]}}
    old = stored(cluster, {**old, "spec": {**old["spec"], "template": bare}})
    assert template_of(cluster.admit(without_ours(old), old)) == bare


def test_an_undo_to_an_older_revision_keeps_the_newer(cluster: Cluster) -> None:
    newer = stored(cluster, cluster.admit(a_deployment()))
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE]), number=1)
    older = cluster.admit(a_deployment())
    cluster.roll_out(a_policy(sidecars=[TWO]), number=2)
    undone = {**newer, "metadata": newer["metadata"] | {"annotations": older["metadata"]["annotations"]}}
    undone["spec"] = {**newer["spec"], "template": template_of(older)}
    found = cluster.admit(undone, newer)
    assert inits(found) == ["proxy:2"]
    assert record_on(found) == record_on(newer)


def test_what_the_owner_declares_under_our_name_is_theirs(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    new = without_ours(old)
    new["spec"]["template"]["spec"]["initContainers"] = [{"name": "proxy", "image": "example.test/own:1"}]
    assert cluster.review(new, old).operations == ()


def test_an_edit_of_what_is_ours_is_repaired_in_the_same_write(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    new = {**old, "spec": {**old["spec"], "template": with_image(old, "x")["spec"]["template"]}}
    mangled = [each | {"image": "example.test/mine:1"} for each in template_of(new)["spec"]["initContainers"]]
    new["spec"]["template"] = {
        "spec": {**template_of(new)["spec"], "initContainers": mangled},
        "metadata": template_of(new)["metadata"],
    }
    assert inits(cluster.admit(new, old)) == ["proxy:2"]


def test_opting_out_takes_ours_away_in_the_same_write(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    found = cluster.admit(with_labels(old, **INJECT_FALSE), old)
    assert (inits(found), record_on(found)) == ([], "")


def test_a_write_of_the_operators_own_is_left_as_it_is(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    ours = {"fieldManager": names.FIELD_MANAGER}
    assert cluster.review(without_ours(old), old, options=ours).operations == ()


def test_what_is_not_selected_any_more_does_not_come_back(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    cluster.roll_out(a_policy(sidecars=[TWO], selector={"matchLabels": {"tier": "db"}}), number=2)
    assert cluster.review(without_ours(old), old).operations == ()


def test_a_pending_one_is_not_advanced_by_its_owners_change(cluster: Cluster) -> None:
    old = stored(cluster, a_deployment())
    assert cluster.review(with_image(old, "example.test/app:2"), old).operations == ()


# Together with the owner's change


def test_on_next_change_the_update_revision_goes_along(cluster: Cluster) -> None:
    old = stored(cluster, cluster.admit(a_deployment()))
    before = revision_on(old)
    revision = cluster.roll_out(
        a_policy(sidecars=[THREE], rollout={"strategy": "OnNextChange"}), number=3, complete=False
    )
    assert cluster.review(with_labels(old, team="a"), old).operations == (), "no change of the template"
    found = cluster.admit(with_image(old, "example.test/app:2"), old)
    assert (inits(found), revision_on(found)) == (["proxy:3"], revision.name)
    entry = record_of(record_on(found)).entries[WEB]
    assert (entry.joined, entry.note.previous) == (True, before)
    cluster.time += 5
    assert cluster.review(found, old).operations == (), "a second review"


def test_on_next_change_one_that_carries_nothing_joins(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[THREE], rollout={"strategy": "OnNextChange"}), number=3, complete=False)
    old = stored(cluster, a_deployment())
    assert inits(cluster.admit(with_image(old, "example.test/app:2"), old)) == ["proxy:3"]


@pytest.mark.parametrize("changes", [{"paused": True}, {}])
def test_on_next_change_nothing_goes_along_while_it_is_paused_or_halted(cluster: Cluster, changes: Json) -> None:
    rollout = {"strategy": "OnNextChange"} | changes
    halt = {} if changes else {names.HALT: '{"id":"web-x#1","reason":"","since":""}'}
    cluster.roll_out(a_policy(sidecars=[THREE], rollout=rollout), number=3, complete=False, marks=halt)
    old = stored(cluster, a_deployment())
    assert cluster.review(with_image(old, "example.test/app:2"), old).operations == ()


def test_what_would_go_down_joins_with_its_owners_change(cluster: Cluster) -> None:
    old = stored(cluster, a_deployment(strategy={"type": "Recreate"}))
    assert cluster.review(with_labels(old, team="a"), old).operations == ()
    assert inits(cluster.admit(with_image(old, "example.test/app:2"), old)) == ["proxy:2"]


DELETED = {"deletionTimestamp": "2026-11-29T15:04:05Z", "finalizers": [names.FINALIZER]}
RECREATE = {"type": "Recreate"}
ELSEWHERE = {"matchLabels": {"tier": "db"}}


def deleted(manifest: Json) -> Json:
    """*manifest* of a policy that is being deleted."""
    return {**manifest, "metadata": manifest["metadata"] | DELETED}


def a_replica_set_of(body: Json) -> Json:
    """The ReplicaSet of a Deployment that is there as *body*."""
    metadata = body["metadata"]
    owner = {"kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    annotations = {"deployment.kubernetes.io/revision": "1", names.RECORD: record_on(body)}
    return {
        "metadata": {
            "name": f"{metadata['name']}-1",
            "namespace": metadata["namespace"],
            "labels": template_of(body)["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {"replicas": 1},
    }


def one_that_recreates_its_pods(cluster: Cluster) -> Json:
    """With the sidecars of web, and without its owner's word that it may go down."""
    return stored(cluster, cluster.admit(a_deployment(strategy=RECREATE)))


def test_what_would_go_down_loses_a_deleted_policys_with_its_owners_change(cluster: Cluster) -> None:
    old = one_that_recreates_its_pods(cluster)
    cluster.roll_out(deleted(a_policy(sidecars=[TWO])), number=2)
    assert cluster.review(with_labels(old, team="a"), old).operations == (), "no change of the template"
    new = with_image(old, "example.test/app:2")
    found = cluster.admit(new, old)
    assert template_of(found) == template_of(with_image(without_ours(old), "example.test/app:2"))
    assert record_on(found) == ""
    assert cluster.review(found, old).operations == (), "a second review"
    rolling = stored(cluster, cluster.admit(a_deployment()))
    assert cluster.review(with_image(rolling, "example.test/app:2"), rolling).operations == (), "within the budget"


@pytest.mark.parametrize(
    ("rollout", "approve", "goes"),
    [
        ({}, "", True),
        ({"removal": "Manual"}, "", False),
        ({"removal": "Manual"}, "removal@1", True),
        ({"removal": "Manual"}, "removal@0", False),
        ({"paused": True}, "", False),
    ],
)
def test_what_holds_other_removals_holds_that_one(cluster: Cluster, rollout: Json, approve: str, goes: bool) -> None:
    old = one_that_recreates_its_pods(cluster)
    narrowed = a_policy(sidecars=[TWO], selector=ELSEWHERE, rollout=rollout)
    narrowed["metadata"] |= {"annotations": {names.APPROVE: approve}, "generation": 1}
    cluster.roll_out(narrowed, number=2)
    found = cluster.admit(with_image(old, "example.test/app:2"), old)
    assert inits(found) == ([] if goes else ["proxy:2"])


def test_an_owner_who_leaves_the_selection_is_not_held(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[TWO], rollout={"removal": "Manual"}), number=2)
    old = one_that_recreates_its_pods(cluster)
    template = template_of(old)
    cluster.put(REPLICA_SETS, a_replica_set_of(old))
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key == "app"}
    moved = {**template, "metadata": {**template["metadata"], "labels": labels}}
    found = cluster.admit({**old, "spec": {**old["spec"], "template": moved}}, old)
    assert (inits(found), record_on(found)) == ([], "")


def test_what_is_left_to_its_owner_is_no_removal(cluster: Cluster) -> None:
    old = one_that_recreates_its_pods(cluster)
    cluster.roll_out(deleted(a_policy(sidecars=[TWO], deletionPolicy="Orphan")), number=2)
    assert inits(cluster.admit(with_image(old, "example.test/app:2"), old)) == ["proxy:2"]


def test_what_has_waited_for_that_removal_comes_in_the_same_write(cluster: Cluster) -> None:
    old = one_that_recreates_its_pods(cluster)
    cluster.roll_out(deleted(a_policy(sidecars=[TWO])), number=2)
    cluster.roll_out(a_cluster_policy("base", sidecars=[THREE]))
    found = cluster.admit(with_image(old, "example.test/app:2"), old)
    assert inits(found) == ["proxy:3"]
    assert {each.name for each in record_of(record_on(found)).entries} == {"base"}


# Requests


@pytest.mark.parametrize(
    "changes",
    [{"operation": "DELETE"}, {"object": None}, {"operation": "UPDATE"}, {"object": 1}],
    ids=str,
)
def test_what_cannot_be_reviewed_is_said(changes: Json) -> None:
    with pytest.raises(NotReviewable):
        proposal_from(a_request(a_deployment()) | changes)


# Configurations that policies restart for


@pytest.mark.parametrize("webhook_knows", [True, False])
def test_a_new_deployment_is_not_restarted_for_the_configuration_that_its_first_pods_read(webhook_knows: bool) -> None:
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE], restartOn={"configMaps": ["otel"]}))
    if webhook_knows:
        cluster.cache.configs.note(OTEL, "shop", "1")
    admitted = cluster.admit(a_deployment())
    if webhook_knows:
        assert cluster.writes(admitted) == [], "the operator afterwards"
    cluster.cache.configs.note(OTEL, "shop", "1")
    template, record = cluster.operate(admitted)
    assert template == template_of(admitted)
    assert dict(record_of(record).entries[WEB].config.hashes) == {OTEL: "1"}


def test_undoing_a_rollout_does_not_undo_a_restart_for_a_configuration(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[THREE], restartOn={"configMaps": ["otel"]}), number=3)
    cluster.cache.configs.note(OTEL, "shop", "1")
    before = stored(cluster, cluster.admit(a_deployment()))
    record = record_of(record_on(before))
    entry = record.entries[WEB]
    config = advanced(entry.config, Wanted(named=(OTEL,), known={OTEL: "2"}))
    revision = cluster.cache.update_revision(WEB)
    assert revision is not None
    template, after = inject(template_of(before), [replace(revision.revision, config=config)], record)
    annotations = before["metadata"]["annotations"] | {names.RECORD: text_of(after)}
    restarted = {
        **before,
        "metadata": before["metadata"] | {"annotations": annotations},
        "spec": before["spec"] | {"template": template},
    }
    cluster.cache.configs.note(OTEL, "shop", "2")
    undone = cluster.admit(before, restarted)
    assert (template_of(undone), record_on(undone)) == (template_of(restarted), record_on(restarted))


def test_a_record_that_is_applied_from_git_is_left_as_it_is() -> None:
    cluster = Cluster()
    cluster.roll_out(a_policy(sidecars=[ONE], restartOn={"configMaps": ["otel"]}))
    admitted = cluster.admit(a_deployment())
    applied = {"metadata": {"annotations": {names.RECORD: record_on(admitted)}}}
    annotations = admitted["metadata"]["annotations"] | {LAST_APPLIED: json.dumps(applied)}
    from_git = {**admitted, "metadata": admitted["metadata"] | {"annotations": annotations}}
    cluster.cache.configs.note(OTEL, "shop", "1")
    assert cluster.writes(from_git) == []
    assert cluster.writes(admitted) != []


@pytest.mark.parametrize("webhook_knows", [True, False])
@pytest.mark.parametrize("revision", [ONE, TWO])
def test_what_waits_for_its_owner_has_the_configuration_of_now_after_its_owners_change(
    webhook_knows: bool, revision: Json
) -> None:
    cluster = Cluster()
    waiting: Json = {"restartOn": {"configMaps": ["otel"]}, "rollout": {"strategy": "OnNextChange"}}
    cluster.roll_out(a_policy(sidecars=[ONE], **waiting))
    cluster.cache.configs.note(OTEL, "shop", "1")
    admitted = cluster.admit(a_deployment())
    _, record = cluster.operate(admitted)
    annotations = admitted["metadata"]["annotations"] | {names.RECORD: record}
    old = stored(cluster, {**admitted, "metadata": admitted["metadata"] | {"annotations": annotations}})
    if revision is not ONE:
        cluster.roll_out(a_policy(sidecars=[revision], **waiting), number=2, complete=False)
    cluster.cache.configs.note(OTEL, "shop", "2")
    if not webhook_knows:
        cluster.cache.configs.forget(OTEL)
    changed = cluster.admit(with_image(old, "app:2"), old)
    cluster.cache.configs.note(OTEL, "shop", "2")
    template, record = cluster.operate(changed)
    assert template == template_of(changed), "no second rollout"
    assert dict(record_of(record).entries[WEB].config.hashes) == {OTEL: "2"}
    labeled = with_labels(old, team="a")
    assert record_on(cluster.admit(labeled, old)) == record_on(old), "no Pod has read anything anew"
