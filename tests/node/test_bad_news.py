"""What goes wrong stays small, is explained and turned back; admission that breaks native sidecars is noticed."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest

from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.node.pods import an_idle, an_idle_deployment, condition, injected, is_ready, pods
from tests.polling import poll

MISSING = "sidecarpolicy.local/missing:1"
FLEET = ("cart", "catalog", "orders")
STRIPPING = "sidecarpolicy-test-strips-restart-policy"


# What goes wrong with a new revision, and what its failure must say.
BAD: dict[str, tuple[Manifest, str]] = {
    "image": ({"image": MISSING}, "proxy: (ImagePullBackOff|ErrImagePull)"),
    "gate": (
        {"startupProbe": {"exec": {"command": ["false"]}, "periodSeconds": 5, "failureThreshold": 20}},
        "proxy: startup probe does not succeed",
    ),
    "secret": (
        {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "token"}}}]},
        'proxy: CreateContainerConfigError: .*"absent" not found',
    ),
}


def a_policy_with(namespace: str, *, soak: int = 0, **container: Any) -> Manifest:
    """A policy with one idle sidecar, *container* of it changed, which gives up soon."""
    return a_policy(
        "web",
        namespace,
        rollout={"minReadySeconds": soak, "progressDeadlineSeconds": 15},
        sidecars=[a_sidecar("proxy", container=an_idle(**container))],
    )


@pytest.mark.parametrize("case", BAD, ids=[case.replace(" ", "-") for case in BAD])
def test_a_bad_revision_is_noticed_on_one_deployment_explained_and_turned_back(fleet: Fleet, case: str) -> None:
    bad, explanation = BAD[case]
    namespace = fleet.namespace
    fleet.apply(*(an_idle_deployment(name, namespace) for name in FLEET), a_policy_with(namespace))
    good = fleet.wait("RolloutComplete")["updateRevision"]
    before = fleet.templates()
    serving = {name: injected(fleet, name, "proxy")[0]["metadata"]["name"] for name in FLEET}
    fleet.apply(a_policy_with(namespace, soak=10, **bad))
    touched = poll(lambda: [name for name, each in fleet.templates().items() if each != before[name]])
    fleet.kubectl("set", "env", f"deployment/{touched[0]}", "--containers=app", "HOTFIX=yes")
    status = fleet.wait("RolledBack", timeout=120)

    assert len(touched) == 1
    (failure,) = status["failures"]
    assert (failure["namespace"], failure["name"]) == (namespace, touched[0])
    assert failure["revision"] == status["updateRevision"] != good == status["currentRevision"]
    assert re.search(explanation, failure["message"])
    assert re.search(explanation, fleet.condition("Ready")["message"])
    assert re.search(explanation, poll(partial(fleet.messages, touched[0], "RolloutFailed"))[0])
    poll(lambda: is_as_before(fleet, before, touched[0]))
    # The other Deployments never noticed, and the owner's hotfix is still there.
    assert {name: each for name, each in fleet.templates().items() if name != touched[0]} == {
        name: each for name, each in before.items() if name != touched[0]
    }
    for name in set(FLEET) - set(touched):
        assert [each["metadata"]["name"] for each in pods(fleet, name) if is_ready(each)] == [serving[name]]
    fleet.kubectl("rollout", "status", f"deployment/{touched[0]}", "--timeout=60s")


def is_as_before(fleet: Fleet, before: dict[str, Manifest], name: str) -> bool:
    """Whether a template is what it was, but for the owner's hotfix."""
    template = fleet.templates()[name]
    application = template["spec"]["containers"][0]
    hotfixed = application.pop("env") == [{"name": "HOTFIX", "value": "yes"}]
    return hotfixed and template == before[name]


def stripping(namespace: str) -> tuple[Manifest, Manifest]:
    """An admission rule, and its binding to *namespace*, that makes ordinary init containers of native sidecars."""
    strip = "[JSONPatch{op: 'remove', path: '/spec/template/spec/initContainers/0/restartPolicy'}]"
    has_one = (
        "object.spec.template.spec.?initContainers.orValue([]).size() > 0 && "
        "has(object.spec.template.spec.initContainers[0].restartPolicy)"
    )
    about = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": STRIPPING}}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    policy = {
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": here,
            "resourceRules": [rule | {"resources": ["deployments"]}],
        },
        "matchConditions": [{"name": "has-a-sidecar", "expression": has_one}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": strip}}],
    }
    return (
        about | {"kind": "MutatingAdmissionPolicy", "spec": policy},
        about | {"kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": STRIPPING}},
    )


def is_stripped(fleet: Fleet) -> bool:
    """Whether the rule is at work already: without the seal the API server takes what would hang."""
    native = {"name": "native", "restartPolicy": "Always", **an_idle()}
    probe = a_deployment("probe", fleet.namespace, pod={"initContainers": [native]})
    made = fleet.kubectl("create", "--dry-run=server", "--output=json", "--filename=-", input=json.dumps(probe)).stdout
    return "restartPolicy" not in json.loads(made)["spec"]["template"]["spec"]["initContainers"][0]


def test_where_admission_strips_restart_policy_the_seal_keeps_the_pods_from_hanging(fleet: Fleet) -> None:
    fleet.apply(an_idle_deployment("cart", fleet.namespace))
    fleet.kubectl("rollout", "status", "deployment/cart", "--timeout=30s")
    before, serving = fleet.deployment(), pods(fleet, "cart")
    try:
        fleet.apply(*stripping(fleet.namespace))
        poll(partial(is_stripped, fleet))
        fleet.apply(a_policy_with(fleet.namespace))
        status = fleet.wait("AllSkipped")
        (skipped,) = status["skipped"]
        assert (skipped["reason"], skipped["count"]) == ("Refused", 1)
        assert (
            "lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always"
            in (skipped["message"])
        )
        after = fleet.deployment()
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert init_names(after) == []
        assert [each["metadata"]["uid"] for each in pods(fleet, "cart")] == [
            each["metadata"]["uid"] for each in serving
        ]
        assert all(condition(each, "Ready")["status"] == "True" for each in pods(fleet, "cart"))
    finally:
        fleet.kubectl(
            "delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", STRIPPING, "--ignore-not-found"
        )
