"""Admission that breaks native sidecars is noticed before a Pod hangs."""

from __future__ import annotations

import json
from functools import partial

from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.node.pods import an_idle, an_idle_deployment, condition, pods
from tests.polling import poll

STRIPPING = "sidecarpolicy-test-strips-restart-policy"


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
        fleet.apply(a_policy("web", fleet.namespace, sidecars=[a_sidecar("proxy", container=an_idle())]))
        status = fleet.wait("CompletedWithFailures")
        (failure,) = status["failures"]
        assert (failure["reason"], failure["name"]) == ("Refused", "cart")
        assert (
            "lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always"
            in failure["message"]
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
