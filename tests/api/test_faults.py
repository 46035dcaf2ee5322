"""When writing fails: tried again where that can help, reported where it cannot, and nobody else waits for it."""

from __future__ import annotations

import json
import signal
from typing import Any

import pykube

import localcluster
from sidecarpolicy import names
from tests.audit import Audit
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, image_of, init_names
from tests.polling import poll
from tests.running import Operator

QUICK = {"minReadySeconds": 0}
UPDATES = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}


def a_webhook(namespace: str, failure_policy: str) -> dict[str, Any]:
    """An admission webhook for one Deployment of *namespace* that nobody answers: each change is a 500."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"nobody-{namespace}"},
        "webhooks": [
            {
                "name": "nobody.example.test",
                "clientConfig": {"url": "https://127.0.0.1:9/nobody"},
                "rules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["UPDATE"],
                        "resources": ["deployments"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "objectSelector": {"matchLabels": {"behind": "webhook"}},
                "failurePolicy": failure_policy,
                "sideEffects": "None",
                "timeoutSeconds": 1,
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


def test_a_target_that_cannot_be_written_holds_nobody_up_and_heals(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    behind = a_deployment("behind", fleet.namespace, labels={"behind": "webhook"})
    fleet.apply(behind, *(a_deployment(f"cart-{number}", fleet.namespace) for number in range(3)))
    webhook = a_webhook(fleet.namespace, "Fail")
    cluster.kubectl("apply", "--filename=-", input=json.dumps(webhook))
    try:
        poll(lambda: fleet.kubectl("annotate", "deployment", "behind", "a=b", check=False).returncode != 0)
        fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
        # A webhook that does not answer is trouble that passes: the target waits, and its slot is free for the others.
        poll(
            lambda: (
                "nobody.example.test" in fleet.condition("Ready").get("message", "")
                and fleet.status()["targets"]["updated"] == 3
            )
        )
        status, ready = fleet.status(), fleet.condition("Ready")
        assert (status["targets"]["pending"], status["targets"]["failed"]) == (1, 0)
        assert (ready["status"], ready["reason"]) == ("Unknown", "RollingOut")
        assert "behind" in ready["message"]
        assert "currentRevision" not in status
    finally:
        cluster.kubectl("delete", "validatingwebhookconfiguration", webhook["metadata"]["name"])
    # It is tried again by itself.
    fleet.wait_for(lambda each: init_names(each) == ["proxy"], "behind")
    fleet.wait("RolloutComplete")


def test_a_mutating_owner_between_decision_and_write_loses_nothing(fleet: Fleet) -> None:
    fleet.apply(*(a_deployment(f"cart-{number}", fleet.namespace) for number in range(6)))
    fleet.apply(a_policy("web", fleet.namespace, rollout={"strategy": "AllAtOnce", **QUICK}))
    for turn in range(12):
        fleet.kubectl("annotate", "--overwrite", "deployment", "--all", f"example.test/turn={turn}")
    fleet.wait("RolloutComplete")
    for each in fleet.deployments().values():
        assert init_names(each) == ["proxy"]
        assert each["metadata"]["annotations"]["example.test/turn"] == "11"


def test_an_operator_killed_in_the_middle_goes_on_where_it_was(fleet: Fleet, operator: Operator) -> None:
    fleet.apply(*(a_deployment(f"cart-{number}", fleet.namespace) for number in range(8)))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    poll(lambda: fleet.status().get("targets", {}).get("updated", 0) >= 2)
    operator.stop(signal.SIGKILL)
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(container={"image": "new:2"})]))
    operator.start()
    fleet.wait("RolloutComplete")
    assert {image_of(each, "proxy") for each in fleet.deployments().values()} == {"new:2"}


def test_a_terminating_namespace_is_never_blocked(fleet: Fleet, api: pykube.HTTPClient) -> None:
    # The namespace controller looks again after half of its Pods' grace period.
    fleet.apply(a_deployment("cart", fleet.namespace, pod={"terminationGracePeriodSeconds": 1}))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    fleet.wait("RolloutComplete")
    fleet.cluster.kubectl("delete", "namespace", fleet.namespace, "--timeout=60s")
    fleet.cluster.kubectl("create", "namespace", fleet.namespace)


def test_a_webhook_that_undoes_a_repair_becomes_a_warning_and_no_loop(
    fleet: Fleet, cluster: localcluster.Cluster
) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    fleet.wait("RolloutComplete")
    name = f"other-image-{fleet.namespace}"
    mutate = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["UPDATE"],
                        "resources": ["deployments"],
                    }
                ]
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {
                        "expression": '[JSONPatch{op: "replace", path: "/spec/template/spec/initContainers/0/image", '
                        'value: "mirror.example.test/proxy:1"}]'
                    },
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}},
        },
    }
    cluster.kubectl("apply", "--filename=-", input=json.dumps(mutate))
    cluster.kubectl("apply", "--filename=-", input=json.dumps(binding))
    try:

        def mirrored() -> bool:
            fleet.kubectl("annotate", "--overwrite", "deployment", "cart", "touched=again")
            fleet.kubectl("annotate", "deployment", "cart", "touched-")
            return image_of(fleet.deployment(), "proxy").startswith("mirror.")

        poll(mirrored)
        (warning,) = poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "Mutated"])
        assert f"{fleet.namespace}/cart" in warning["message"]
        audit = Audit.begin(cluster)
        fleet.kubectl("annotate", "deployment", "cart", f"{names.GROUP}/unknown=x")
        poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "InvalidMark"])
        assert [each for each in audit.writes() if each.resource == "deployments"] == []
        assert fleet.status()["targets"]["updated"] == 1
    finally:
        cluster.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name)
