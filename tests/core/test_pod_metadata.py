"""Labels and annotations that a policy adds to Pod templates; the laws of test_laws.py hold for them too."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest

from sidecarpolicy.core.claims import LAST_APPLIED, claims_of
from sidecarpolicy.core.injection import compose, eject, inject
from sidecarpolicy.core.kinds.deployment import workload_from
from sidecarpolicy.core.patch import template_and_record_changes
from sidecarpolicy.core.pod_metadata import reserved
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import ANNOTATIONS, LABELS, ItemKey, Record
from sidecarpolicy.core.rendering import canonical_request
from sidecarpolicy.core.revision import from_controller_revision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.acceptance import in_the_authors_words
from sidecarpolicy.engine.resources import DEPLOYMENTS
from tests.builders import a_deployment, a_policy
from tests.core.cached import a_stored_revision
from tests.core.objects import a_revision, decoded
from tests.core.reviews import Cluster, record_on, template_of

SCRAPE = "prometheus.io/scrape"
SECRET = {"name": "vendor"}
SAFE = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"


def adding(**metadata: Json) -> Json:
    """A policy that adds *metadata*."""
    return a_policy(podMetadata=metadata)


def a_template(labels: Json | None = None, annotations: Json | None = None) -> Json:
    """A Pod template with these besides."""
    template = a_deployment()["spec"]["template"]
    metadata = {LABELS: template["metadata"][LABELS] | (labels or {})}
    return {**template, "metadata": metadata | ({ANNOTATIONS: annotations} if annotations else {})}


def with_annotations(body: Json, annotations: Json) -> Json:
    """*body* with *annotations* in its Pod template."""
    template = template_of(body)
    template = {**template, "metadata": template["metadata"] | {ANNOTATIONS: annotations}}
    return {**body, "spec": body["spec"] | {"template": template}}


def test_they_come_where_there_is_none_and_go_without_a_trace() -> None:
    revision = a_revision(podMetadata={LABELS: {"mesh": "on"}, ANNOTATIONS: {SCRAPE: "true"}})
    injected, record = inject(a_template(), [revision], Record())
    assert injected["metadata"] == {
        LABELS: a_template()["metadata"][LABELS] | {"mesh": "on"},
        ANNOTATIONS: {SCRAPE: "true"},
    }
    assert {ItemKey(LABELS, "mesh"), ItemKey(ANNOTATIONS, SCRAPE)} <= record.items
    assert eject(injected, record) == a_template()


def test_what_the_owner_has_stays_and_is_told_where_it_is_another() -> None:
    revision = a_revision(podMetadata={ANNOTATIONS: {SCRAPE: "true", SAFE: "logs"}})
    own = a_template(annotations={SCRAPE: "false", SAFE: "logs"})
    composed = compose(own, Record(), {revision.policy: revision})
    assert composed.template["metadata"] == own["metadata"]
    assert composed.metadata_kept == (ItemKey(ANNOTATIONS, SCRAPE),)
    assert not composed.record.items & {ItemKey(ANNOTATIONS, SCRAPE), ItemKey(ANNOTATIONS, SAFE)}


def test_a_value_that_the_owner_sets_later_is_theirs() -> None:
    cluster = Cluster()
    cluster.roll_out(adding(annotations={SCRAPE: "true", SAFE: "logs"}))
    body = cluster.admit(a_deployment())
    managed = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": _owns(SCRAPE)}
    edited = with_annotations(body, {SCRAPE: "false", SAFE: "logs"})
    edited["metadata"] = edited["metadata"] | {"managedFields": [managed]}
    template, record = cluster.operate(edited)
    assert template["metadata"][ANNOTATIONS] == {SCRAPE: "false", SAFE: "logs"}
    assert f'"annotations":["{SAFE}"]' in record


def test_what_the_owner_declares_stays_when_a_revision_comes_without_it() -> None:
    both = a_revision(podMetadata={LABELS: {"mesh": "on"}, ANNOTATIONS: {SCRAPE: "true"}}, imagePullSecrets=[SECRET])
    template, record = inject(a_template(), [both], Record())
    manifest = {"metadata": {ANNOTATIONS: {SCRAPE: "true"}}, "spec": {"imagePullSecrets": [SECRET]}}
    claims = claims_of({"annotations": {LAST_APPLIED: json.dumps({"spec": {"template": manifest}})}})
    neither = a_revision(sidecars=[{"name": "proxy", "container": {"image": "other"}}])
    composed = compose(template, record, {both.policy: neither}, claims=claims)
    assert composed.left_behind == (ItemKey(ANNOTATIONS, SCRAPE), ItemKey("imagePullSecrets", "vendor"))
    assert composed.template["metadata"] == a_template(annotations={SCRAPE: "true"})["metadata"]
    assert composed.template["spec"]["imagePullSecrets"] == [SECRET]
    assert eject(composed.template, composed.record)["spec"]["imagePullSecrets"] == [SECRET]


def test_one_that_nobody_else_wants_otherwise_is_put_back() -> None:
    cluster = Cluster()
    cluster.roll_out(adding(annotations={SCRAPE: "true", SAFE: "logs"}))
    body = cluster.admit(a_deployment())
    template, record = cluster.operate(with_annotations(body, {SAFE: "logs"}))
    assert template == template_of(body)
    assert '"undone":{"count":1' in record


def _owns(annotation: str) -> Json:
    return {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {f"f:{annotation}": {}}}}}}


def test_two_policies_share_what_is_equal_and_it_stays_until_both_are_gone() -> None:
    one, other = (
        a_revision(
            name=name,
            sidecars=[{"name": name, "container": {"image": "x"}}],
            podMetadata={ANNOTATIONS: {SCRAPE: "true"}},
        )
        for name in ("one", "other")
    )
    injected, record = inject(a_template(), [one, other], Record())
    left, record = inject(injected, [other], record)
    assert left["metadata"][ANNOTATIONS] == {SCRAPE: "true"}
    assert eject(left, record) == a_template()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({LABELS: {"a": "1"}}, {LABELS: {"a": "1"}, ANNOTATIONS: {"x/y~z": ""}}),
        ({LABELS: {"a": "1"}, ANNOTATIONS: {"x/y~z": ""}}, {LABELS: {"a": "1"}}),
        ({LABELS: {"a": "1"}, ANNOTATIONS: {"x/y~z": "", "b": "1"}}, {LABELS: {"a": ""}, ANNOTATIONS: {"b": "2"}}),
        (None, {LABELS: {"a": "1"}}),
        ({}, {LABELS: {"a": "1"}}),
        ({LABELS: {"a": "1"}}, None),
    ],
)
def test_the_patch_changes_single_keys(before: Any, after: Any) -> None:
    old, new = ({"spec": {}} | ({"metadata": each} if each is not None else {}) for each in (before, after))
    operations = template_and_record_changes(
        before=old, after=new, path=("spec", "template"), annotated=False, record=None, new_record=""
    )
    assert jsonpatch.apply_patch({"spec": {"template": old}}, operations) == {"spec": {"template": new}}
    if before and after:
        assert not any(each["path"] == "/spec/template/metadata" for each in operations)


def test_labels_that_a_policy_adds_select_nothing() -> None:
    cluster = Cluster()
    cluster.roll_out(adding(labels={"mesh": "on"}))
    cluster.roll_out(
        a_policy(
            "second", selector={"matchLabels": {"mesh": "on"}}, sidecars=[{"name": "b", "container": {"image": "b"}}]
        )
    )
    cluster.roll_out(
        a_policy(
            "third",
            selector={"matchExpressions": [{"key": "mesh", "operator": "DoesNotExist"}]},
            sidecars=[{"name": "c", "container": {"image": "c"}}],
        )
    )
    body = cluster.admit(a_deployment())
    assert [each["name"] for each in template_of(body)["spec"]["initContainers"]] == ["c", "proxy"]
    cluster.put(DEPLOYMENTS, body)
    assert cluster.writes(body) == []


def test_a_label_that_its_owner_declares_too_selects() -> None:
    """Of the same value, so that nothing but managedFields shows it."""
    cluster = Cluster()
    cluster.roll_out(adding(labels={"mesh": "on"}))
    body = a_deployment()
    cluster.put(DEPLOYMENTS, body)
    body = cluster.as_cached(cluster.admit(body))
    fields: Json = {"f:spec": {"f:template": {"f:metadata": {"f:labels": {"f:mesh": {}}}}}}
    for operation, mesh in (("Update", None), ("Apply", "on")):
        entry = {"manager": "flux", "operation": operation, "fieldsV1": fields}
        owned = {**body, "metadata": body["metadata"] | {"managedFields": [entry]}}
        assert workload_from(owned).pod_labels.get("mesh") == mesh


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (
            {LABELS: {"pod-template-hash": "1"}},
            "spec.podMetadata.labels.pod-template-hash: must not be pod-template-hash",
        ),
        ({LABELS: {"batch.kubernetes.io/job-name": "1"}}, "must not be batch.kubernetes.io/job-name"),
        ({LABELS: {"tier": "web"}}, "spec.podMetadata.labels.tier: must not be a label that spec.selector asks for"),
        ({LABELS: {"a b": "1"}}, "must have a key like that of a label, not 'a b'"),
        ({LABELS: {"a": "x y"}}, "must be the value of a label, not 'x y'"),
        (
            {LABELS: {str(number): "" for number in range(33)}},
            "spec.podMetadata.labels: must hold at most 32 labels, not 33",
        ),
        ({ANNOTATIONS: {"sidecars.dev/inject": "false"}}, "must not begin with sidecars.dev/"),
        ({ANNOTATIONS: {"kubectl.kubernetes.io/restartedAt": "x"}}, "must not be kubectl.kubernetes.io/restartedAt"),
        ({ANNOTATIONS: {"kubernetes.io/config.mirror": "x"}}, "must not be kubernetes.io/config.mirror"),
        ({ANNOTATIONS: {"a": "x" * 4097}}, "must have at most 4096 characters, not 4097"),
        ({ANNOTATIONS: {"a": True}}, "spec.podMetadata.annotations.a: must be a string, not a boolean"),
        ({"finalizers": {}}, "spec.podMetadata.finalizers: must be one of annotations, labels"),
    ],
)
def test_what_may_not_be_added_is_refused(metadata: Json, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(a_policy(podMetadata=metadata))
    assert said in str(refused.value)


def test_what_others_only_begin_alike_is_not_reserved() -> None:
    assert reserved(LABELS, "pod-template-hash-of-mine") == ""
    assert reserved(LABELS, "job-name-of-mine") == ""
    assert reserved(ANNOTATIONS, "pod-template-hash") == ""
    assert reserved(ANNOTATIONS, "kubernetes.io/egress-bandwidth") == ""


def test_it_is_stored_with_the_revision_and_only_where_there_is_any() -> None:
    body, revision = a_stored_revision(adding(labels={"mesh": "on"}))
    assert from_controller_revision(body).revision == revision
    assert revision.pod_metadata.labels == {"mesh": "on"}
    assert "podMetadata" not in a_stored_revision(a_policy())[0]["data"]


def test_the_api_server_is_asked_about_it_and_answers_in_the_authors_words() -> None:
    policy = decoded(adding(labels={"mesh": "on"}))
    assert canonical_request(policy, "shop")["template"]["metadata"] == {LABELS: {"mesh": "on"}}
    assert canonical_request(decoded(a_policy()), "shop")["template"]["metadata"] == {}
    said = 'PodTemplate "x" is invalid: template.labels: Invalid value: "mesh": no'
    assert in_the_authors_words(said, policy) == 'spec.podMetadata.labels: Invalid value: "mesh": no'


def test_a_dropped_record_brings_back_labels_that_are_as_we_make_them() -> None:
    cluster = Cluster()
    cluster.roll_out(adding(labels={"mesh": "on"}, annotations={SCRAPE: "true"}))
    body = cluster.admit(a_deployment())
    cluster.put(DEPLOYMENTS, body)
    stored = cluster.as_cached(body)
    again = cluster.admit(a_deployment(), stored)
    assert (template_of(again), record_on(again)) == (template_of(body), record_on(body))
