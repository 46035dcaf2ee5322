"""Whoever writes a policy must be allowed to update the Deployments it may reach; the API server sees to it.

Ann has every right on policies. What else she may do is up to each test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykube
import pytest

from sidecarpolicy import names
from tests import kube
from tests.builders import Manifest, a_cluster_policy, a_policy
from tests.conftest import Kubectl
from tests.polling import poll

ANN = "ann"
SOMEBODY_TO_BE_REFUSED = "zoe"

As = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def writers_of_policies(kubectl: Kubectl) -> None:
    """Give Ann and Zoe every right on policies; return when the admission policy acts."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "writer-of-policies"},
        "rules": [{"apiGroups": [names.GROUP], "resources": ["*"], "verbs": ["*"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "writer-of-policies"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "writer-of-policies",
        },
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
            for user in (ANN, SOMEBODY_TO_BE_REFUSED)
        ],
    }
    for manifest in (role, binding):
        kubectl("apply", "--filename=-", input=json.dumps(manifest))
    tried = json.dumps(a_policy(namespace="default"))
    poll(
        lambda: said(kubectl, SOMEBODY_TO_BE_REFUSED, "create", "--dry-run=server", "--filename=-", stdin=tried),
        until=lambda words: "may not update deployments.apps" in words,
    )


@pytest.fixture
def ann(kubectl: Kubectl) -> As:
    """Run kubectl as Ann; returns what it said to a failure, empty after a success."""
    return lambda *arguments, **options: said(kubectl, ANN, *arguments, **options)


@pytest.fixture
def the_operator(operator_kubeconfig: Path) -> pykube.HTTPClient:
    """The API server, as the operator's ServiceAccount."""
    return kube.client(operator_kubeconfig)


@pytest.fixture
def written(api: pykube.HTTPClient, namespace: str) -> Manifest:
    """A policy that somebody else has written."""
    return kube.create(api, a_policy(namespace=namespace))


def test_one_with_rights_on_policies_only_is_told_what_is_missing(ann: As, namespace: str) -> None:
    refused = create(ann, a_policy(namespace=namespace))
    assert f'user "{ANN}" may not update deployments.apps in namespace "{namespace}"' in refused
    assert f'ask for that right (verb update on deployments.apps in namespace "{namespace}")' in refused
    assert "(Forbidden)" in refused


def test_one_who_may_update_deployments_writes_policies(kubectl: Kubectl, ann: As, namespace: str) -> None:
    let_update_deployments(kubectl, namespace)
    assert create(ann, a_policy(namespace=namespace)) == ""
    assert patch(ann, namespace, {"spec": {"priority": 7}}) == ""


def test_the_right_in_one_namespace_opens_no_other(kubectl: Kubectl, ann: As, namespace: str) -> None:
    let_update_deployments(kubectl, namespace)
    assert 'in namespace "default"' in create(ann, a_policy(namespace="default"))


def test_the_right_in_one_namespace_opens_no_cluster_policy(kubectl: Kubectl, ann: As, namespace: str) -> None:
    let_update_deployments(kubectl, namespace)
    refused = create(ann, a_cluster_policy(f"of-{namespace}"))
    assert f'user "{ANN}" may not update deployments.apps in all namespaces' in refused


def test_the_right_in_all_namespaces_opens_cluster_policies(kubectl: Kubectl, namespace: str) -> None:
    bo, role = f"bo-of-{namespace}", f"editor-{namespace}"
    kubectl("create", "clusterrolebinding", role, "--clusterrole=edit", f"--user={bo}")
    manifest = json.dumps(a_cluster_policy(f"of-{namespace}"))
    try:
        poll(
            lambda: said(kubectl, bo, "create", "--dry-run=server", "--filename=-", stdin=manifest),
            until=lambda words: words == "",
        )
    finally:
        kubectl("delete", "clusterrolebinding", role)


def test_an_editor_of_a_namespace_writes_its_policies(kubectl: Kubectl, ann: As, namespace: str) -> None:
    kubectl("create", "rolebinding", "editor", "--clusterrole=edit", "--user=bo", f"--namespace={namespace}")
    manifest = json.dumps(a_policy(namespace=namespace))
    poll(
        lambda: said(kubectl, "bo", "create", "--dry-run=server", "--filename=-", stdin=manifest),
        until=lambda words: words == "",
    )


def test_the_spec_is_closed_to_one_without_the_right(ann: As, written: Manifest, namespace: str) -> None:
    assert "may not update deployments.apps" in patch(ann, namespace, {"spec": {"priority": 7}})


@pytest.mark.parametrize("key", ["approve", "resume", "restarted-at"])
def test_approving_resuming_and_restarting_are_closed_to_one_without_the_right(
    ann: As, written: Manifest, namespace: str, key: str
) -> None:
    refused = patch(ann, namespace, annotated({f"{names.GROUP}/{key}": "removal@3"}))
    assert "may not update deployments.apps" in refused


def test_taking_an_approval_back_is_closed_as_well(
    api: pykube.HTTPClient, ann: As, written: Manifest, namespace: str
) -> None:
    approve = f"{names.GROUP}/approve"
    kube.SidecarPolicy(api, written).patch(annotated({approve: "removal@3"}))
    assert "may not update deployments.apps" in patch(ann, namespace, annotated({approve: None}))


def test_labels_and_other_annotations_are_open_to_everybody(ann: As, written: Manifest, namespace: str) -> None:
    assert patch(ann, namespace, {"metadata": {"labels": {"team": "shop"}}}) == ""
    assert patch(ann, namespace, annotated({"example.test/note": "seen"})) == ""


def test_one_without_the_right_may_delete(ann: As, written: Manifest, namespace: str) -> None:
    assert ann("delete", "sidepol", "web", f"--namespace={namespace}") == ""


def test_the_operator_reports_on_policies_and_holds_them(the_operator: pykube.HTTPClient, written: Manifest) -> None:
    policy = kube.SidecarPolicy(the_operator, written)
    policy.patch({"status": {"observedGeneration": 1}}, subresource="status")
    policy.patch({"metadata": {"finalizers": [names.FINALIZER]}})
    policy.patch({"metadata": {"finalizers": []}})
    assert policy.obj["status"]["observedGeneration"] == 1


def test_the_operator_writes_no_spec(the_operator: pykube.HTTPClient, written: Manifest) -> None:
    """It has no verb `update` on Deployments, only `patch`: it may change them but write no policy."""
    with pytest.raises(pykube.exceptions.HTTPError, match="may not update deployments"):
        kube.SidecarPolicy(the_operator, written).patch({"spec": {"priority": 7}})


def said(kubectl: Kubectl, user: str, *arguments: str, stdin: str = "") -> str:
    done = kubectl(f"--as={user}", *arguments, input=stdin, check=False)
    return done.stderr if done.returncode else ""


def create(person: As, manifest: Manifest) -> str:
    return person("create", "--filename=-", stdin=json.dumps(manifest))


def patch(person: As, namespace: str, change: Manifest) -> str:
    """Patch the policy `web` with a merge patch."""
    merge = ("--type=merge", f"--patch={json.dumps(change)}")
    return person("patch", "sidepol", "web", f"--namespace={namespace}", *merge)


def annotated(annotations: dict[str, Any]) -> Manifest:
    return {"metadata": {"annotations": annotations}}


def let_update_deployments(kubectl: Kubectl, namespace: str) -> None:
    """Give Ann the one right that she lacks, in one namespace, and return when the server knows."""
    there = f"--namespace={namespace}"
    kubectl("create", "role", "updater", "--verb=update", "--resource=deployments.apps", there)
    kubectl("create", "rolebinding", "updater", "--role=updater", f"--user={ANN}", there)
    question = ("auth", "can-i", "update", "deployments.apps", there, f"--as={ANN}")
    poll(lambda: kubectl(*question, check=False).stdout.strip(), until=lambda answer: answer == "yes")
