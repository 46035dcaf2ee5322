"""What owners adjust, and what a policy adds to a Pod beside containers, on a real API server."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from sidecarpolicy import names
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names, traces
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
PROXY = a_sidecar(
    "proxy",
    role="Proxy",
    overridable=["resources.limits", "env.LOG_LEVEL"],
    overrideMax={"memory": "1Gi"},
    container={"resources": {"limits": {"memory": "128Mi"}}, "env": [{"name": "LOG_LEVEL", "value": "info"}]},
)
SIDECARS = [PROXY, a_sidecar("logger", role="Logger")]


def the_policy(fleet: Fleet, **spec: Any) -> Manifest:
    """A policy with two sidecars."""
    return a_policy("web", fleet.namespace, **({"rollout": QUICK, "sidecars": SIDECARS} | spec))


def mark(fleet: Fleet, *annotations: str) -> None:
    """Set or remove annotations under our group on the Deployment."""
    fleet.kubectl("annotate", "deployment", "cart", "--overwrite", *(f"{names.GROUP}/{each}" for each in annotations))


def an_account(fleet: Fleet, name: str) -> Manifest:
    """A ServiceAccount."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": fleet.namespace}}


def pod_of(deployment: Manifest) -> Manifest:
    """The Pod's spec."""
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def mentions_twice(text: str, deployment: Manifest) -> bool:
    """Whether *text* is in two places of the Pod template."""
    return json.dumps(pod_of(deployment)).count(text) == 2


def test_owners_leave_out_and_override_while_the_rollout_is_paused(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    before = fleet.templates()
    fleet.apply(the_policy(fleet))
    fleet.wait("RolloutComplete")
    revision = fleet.status()["updateRevision"]
    fleet.apply(the_policy(fleet, rollout=QUICK | {"paused": True}))
    mark(fleet, "skip=logger")
    fleet.wait_for(lambda cart: init_names(cart) == ["proxy"])
    override = {"resources": {"limits": {"memory": "0.25Gi"}}, "env": {"LOG_LEVEL": "debug"}}
    mark(fleet, f"override.proxy={json.dumps(override)}")
    cart = fleet.wait_for(lambda cart: "256Mi" in json.dumps(pod_of(cart)))
    (sidecar,) = pod_of(cart)["initContainers"]
    assert sidecar["resources"]["limits"] == {"memory": "256Mi"}
    assert sidecar["env"] == [{"name": "LOG_LEVEL", "value": "debug"}]
    mark(fleet, "skip-", "override.proxy-")
    cart = fleet.wait_for(lambda cart: init_names(cart) == ["proxy", "logger"] and "256Mi" not in json.dumps(cart))
    assert poll(fleet.status, until=bool)["updateRevision"] == revision
    assert "undone" not in cart["metadata"]["annotations"][names.RECORD]
    fleet.delete_policy()
    assert fleet.templates() == before
    assert traces(fleet.deployments().values()) == []


def test_a_limit_without_a_request_is_taken_lowered_and_given_up_without_a_trace(fleet: Fleet) -> None:
    limited = a_sidecar(overridable=["resources"], container={"resources": {"limits": {"memory": "512Mi"}}})
    unlimited = a_sidecar("logger", overridable=["resources"])
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(the_policy(fleet, sidecars=[limited, unlimited]))
    fleet.wait("RolloutComplete")
    before = fleet.templates()
    for amount in ("256Mi", "64Mi"):
        resources = {"limits": {"memory": amount}}
        override = json.dumps({"resources": resources})
        mark(fleet, f"override.proxy={override}", f"override.logger={override}")
        cart = fleet.wait_for(partial(mentions_twice, amount))
        assert [each["resources"] for each in pod_of(cart)["initContainers"]] == [resources, resources]
    mark(fleet, "override.proxy-", "override.logger-")
    fleet.wait_for(lambda cart: "64Mi" not in json.dumps(cart))
    assert fleet.templates() == before


def test_what_an_author_comes_to_allow_waits_for_the_next_revision(fleet: Fleet) -> None:
    override = {f"{names.OVERRIDE}logger": '{"env": {"LOG_LEVEL": "debug"}}'}
    fleet.apply(a_deployment("cart", fleet.namespace, annotations=override))
    fleet.apply(the_policy(fleet))
    fleet.wait("RolloutComplete")
    before = fleet.templates()
    allowing = [PROXY, a_sidecar("logger", role="Logger", overridable=["env.LOG_LEVEL"])]
    fleet.apply(the_policy(fleet, sidecars=allowing))
    poll(lambda: [each for each in fleet.status().get("warnings", []) if "is allowed by now" in each["message"]])
    assert fleet.templates() == before
    newer = [PROXY, allowing[1] | {"container": {"image": "example.test/logger:2"}}]
    fleet.apply(the_policy(fleet, sidecars=newer))
    fleet.wait_for(lambda cart: "debug" in json.dumps(pod_of(cart)))


def test_what_is_not_allowed_is_told_and_has_no_effect(fleet: Fleet) -> None:
    override = {f"{names.OVERRIDE}proxy": '{"resources": {"limits": {"memory": "2Gi"}}}', names.SKIP: "vault"}
    fleet.apply(a_deployment("cart", fleet.namespace, annotations=override))
    fleet.apply(the_policy(fleet))
    fleet.wait("RolloutComplete")

    def warned() -> dict[str, str]:
        return {each["reason"]: each["message"] for each in fleet.status().get("warnings", [])}

    found = poll(warned, until=lambda found: {"OverrideIgnored", "InvalidMark"} <= found.keys())
    assert "resources.limits.memory: must be at most 1Gi (overrideMax), not 2Gi" in found["OverrideIgnored"]
    assert "names 'vault'" in found["InvalidMark"]
    (proxy, _) = pod_of(fleet.deployment())["initContainers"]
    assert proxy["resources"]["limits"] == {"memory": "128Mi"}


def test_forbidding_to_opt_out_brings_the_sidecars_in(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace, labels={names.INJECT: "false"}))
    fleet.apply(the_policy(fleet))
    fleet.wait("AllSkipped")
    fleet.apply(the_policy(fleet, optOut="Forbidden"))
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment()) == ["proxy", "logger"]
    warnings = poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "OptOutForbidden"])
    assert names.INJECT in warnings[0]["message"]


def test_labels_annotations_and_pull_secrets_come_and_go_without_a_trace(fleet: Fleet) -> None:
    fleet.apply(an_account(fleet, "cart") | {"imagePullSecrets": [{"name": "mirror"}]})
    app = {"name": "app", "image": "example.test/app:1"}
    fleet.apply(a_deployment("cart", fleet.namespace, pod={"containers": [app], "serviceAccountName": "cart"}))
    before = fleet.templates()
    added = {"labels": {"mesh": "on"}, "annotations": {"prometheus.io/scrape": "true"}}
    fleet.apply(the_policy(fleet, podMetadata=added, imagePullSecrets=[{"name": "vendor"}]))
    fleet.wait("RolloutComplete")
    cart = fleet.deployment()
    assert cart["spec"]["template"]["metadata"]["labels"]["mesh"] == "on"
    assert cart["spec"]["template"]["metadata"]["annotations"] == added["annotations"]
    assert pod_of(cart)["imagePullSecrets"] == [{"name": "mirror"}, {"name": "vendor"}]
    fleet.delete_policy()
    assert fleet.templates() == before
    assert traces(fleet.deployments().values()) == []


def test_an_owners_later_value_of_an_annotation_wins(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(the_policy(fleet, podMetadata={"annotations": {"prometheus.io/scrape": "true"}}))
    fleet.wait("RolloutComplete")
    patch = {"spec": {"template": {"metadata": {"annotations": {"prometheus.io/scrape": "false"}}}}}
    fleet.kubectl("patch", "deployment", "cart", "--patch", json.dumps(patch))
    fleet.wait_for(lambda cart: '"annotations"' not in cart["metadata"]["annotations"][names.RECORD])
    fleet.delete_policy()
    assert fleet.deployment()["spec"]["template"]["metadata"]["annotations"] == {"prometheus.io/scrape": "false"}


def test_a_service_account_that_is_not_there_leaves_the_deployment_alone(fleet: Fleet) -> None:
    app = {"name": "app", "image": "example.test/app:1"}
    fleet.apply(a_deployment("cart", fleet.namespace, pod={"containers": [app], "serviceAccountName": "absent"}))
    fleet.apply(the_policy(fleet, imagePullSecrets=[{"name": "vendor"}]))
    status = fleet.wait("AllSkipped")
    (skipped,) = status["skipped"]
    assert skipped["reason"] == "PullSecretsUnreadable"
    fleet.apply(an_account(fleet, "absent"))
    fleet.wait("RolloutComplete")
    assert pod_of(fleet.deployment())["imagePullSecrets"] == [{"name": "vendor"}]
