"""A policy that cannot be used is refused in words, and nothing changes anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.builders import Manifest, a_deployment, a_policy, a_sidecar, a_waiting_deployment
from tests.fleet import Fleet, image_of, init_names, traces
from tests.polling import poll

QUICK = {"minReadySeconds": 0}

INVALID: dict[str, tuple[dict[str, Any], list[str]]] = {
    "probe": (
        {"startupProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
        ["spec.sidecars[0].container.startupProbe.successThreshold", "must be 1"],
    ),
    "port": ({"ports": [{"containerPort": 99999}]}, ["spec.sidecars[0].container.ports[0].containerPort", "99999"]),
    "two handlers": (
        {"livenessProbe": {"tcpSocket": {"port": 1}, "httpGet": {"port": 1}}},
        ["spec.sidecars[0].container.livenessProbe", "may not specify more than 1 handler type"],
    ),
}


@pytest.mark.parametrize("case", INVALID, ids=[case.replace(" ", "-") for case in INVALID])
def test_what_the_server_refuses_is_invalid_in_its_words(fleet: Fleet, case: str) -> None:
    container, words = INVALID[case]
    fleet.apply(a_deployment("cart", fleet.namespace))
    before = fleet.deployment()
    fleet.apply(a_policy("web", fleet.namespace, sidecars=[a_sidecar(container=container)]))
    status = fleet.wait("Invalid")
    conditions = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert conditions["Accepted"] == ("False", "Invalid")
    assert conditions["Ready"] == ("False", "Invalid")
    assert conditions["Stalled"] == ("True", "Invalid")
    assert [word for word in words if word not in fleet.condition("Accepted")["message"]] == []
    after = fleet.deployment()
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    assert traces([after]) == []
    told = poll(lambda: [each for each in fleet.events("web") if each["reason"] == "PolicyRejected"])
    assert words[0] in told[0]["message"]


def test_the_accepted_revision_stays_in_force_while_an_edit_is_invalid(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    accepted = fleet.wait("RolloutComplete")["updateRevision"]
    bad = {"image": "example.test/proxy:2", "ports": [{"containerPort": 99999}]}
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(container=bad)]))
    assert fleet.wait("Invalid")["updateRevision"] == accepted
    assert image_of(fleet.deployment(), "proxy") == "example.test/proxy:1"
    # It is still in force: drift is repaired, and a new workload gets it.
    fleet.kubectl("set", "image", "deployment/cart", "proxy=example.test/proxy:evil")
    fleet.wait_for(lambda cart: image_of(cart, "proxy") == "example.test/proxy:1")
    fleet.apply(a_waiting_deployment("new", fleet.namespace))
    fleet.wait_for(lambda new: image_of(new, "proxy") == "example.test/proxy:1", "new")
    good = {"image": "example.test/proxy:2"}
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(container=good)]))
    fleet.wait_for(lambda cart: image_of(cart, "proxy") == "example.test/proxy:2")


def test_an_invalid_policy_can_be_deleted(fleet: Fleet) -> None:
    fleet.apply(a_policy("web", fleet.namespace, sidecars=[a_sidecar(container={"ports": [{"containerPort": 99999}]})]))
    fleet.wait("Invalid")
    fleet.delete_policy()


def test_a_cycle_across_policies_refuses_the_one_of_lower_precedence(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(
        a_policy("high", fleet.namespace, priority=1, rollout=QUICK, sidecars=[a_sidecar("one", startAfter=["two"])])
    )
    fleet.wait("RolloutComplete", "high")
    fleet.apply(a_policy("low", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar("two", startAfter=["one"])]))
    fleet.wait("OrderCycle", "low")
    message = fleet.condition("Accepted", "low")["message"]
    assert "'one'" in message
    assert "'two'" in message
    assert init_names(fleet.deployment()) == ["one"]


def test_names_that_nobody_provides_and_gates_without_a_probe_are_warnings(fleet: Fleet) -> None:
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(startAfter=["vault"])]))
    fleet.wait("NoTargets")
    warnings = {each["reason"]: each["message"] for each in poll(lambda: fleet.status()["warnings"])}
    assert sorted(warnings) == ["NoStartupGate", "UnknownStartAfter"]
    assert "spec.sidecars[0].startAfter[0]" in warnings["UnknownStartAfter"]
    assert "vault" in warnings["UnknownStartAfter"]


def is_dropped(fleet: Fleet) -> bool:
    """Whether the API server drops what makes a native sidecar; the seal would have it refused."""
    native = {"name": "native", "image": "example.test/native:1", "restartPolicy": "Always"}
    template = {"spec": {"initContainers": [native], "containers": [{"name": "app", "image": "example.test/app:1"}]}}
    body = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "probe"}, "template": template}
    made = fleet.kubectl("create", "--dry-run=server", "--output=json", "--filename=-", input=json.dumps(body)).stdout
    return "restartPolicy" not in json.loads(made)["template"]["spec"]["initContainers"][0]


@pytest.fixture
def dropping(fleet: Fleet) -> Iterator[Fleet]:
    """An API server that drops `restartPolicy: Always` as one before 1.29 does: here an admission rule has it so."""
    name = f"drops-restart-policy-{fleet.namespace}"
    about: Manifest = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["podtemplates"]}
    drop = "[JSONPatch{op: 'remove', path: '/template/spec/initContainers/0/restartPolicy'}]"
    spec: Manifest = {
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}},
            "resourceRules": [rule],
        },
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": drop}}],
    }
    fleet.apply(
        about | {"kind": "MutatingAdmissionPolicy", "spec": spec},
        about | {"kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}},
    )
    poll(partial(is_dropped, fleet))
    yield fleet
    fleet.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name)


@pytest.mark.parametrize("container", [{}, {"readinessProbe": {"tcpSocket": {"port": 1}}}], ids=["sealed", "gated"])
def test_where_the_api_server_does_not_know_native_sidecars_the_cluster_is_to_blame(
    dropping: Fleet, container: Manifest
) -> None:
    dropping.apply(a_deployment("cart", dropping.namespace))
    before = dropping.deployment()["metadata"]["generation"]
    dropping.apply(a_policy("web", dropping.namespace, rollout=QUICK, sidecars=[a_sidecar(container=container)]))
    status = dropping.wait("UnsupportedCluster")
    conditions = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert conditions == {
        "Accepted": ("True", "Accepted"),
        "Ready": ("False", "UnsupportedCluster"),
        "Stalled": ("True", "UnsupportedCluster"),
    }
    assert "dropped restartPolicy: Always" in dropping.condition("Ready")["message"]
    assert dropping.deployment()["metadata"]["generation"] == before
