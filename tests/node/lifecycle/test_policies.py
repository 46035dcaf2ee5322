"""What a policy's fields mean once containers run: a broken monitor, a token, a strict namespace."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.builders import Manifest, a_policy
from tests.fleet import init_names
from tests.node.lifecycle.stage import MOUNT, VOLUME, Stage, a_deployment_of, a_witness, as_sidecar
from tests.node.pods import condition, container, injected, is_ready, runs
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
NEVER = {"exec": {"command": ["false"]}, "periodSeconds": 1}
RECORDS = VOLUME | {"name": "records"}
TOKEN: Manifest = {
    "name": "token",
    "projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]},
}
# As the Pod Security Standard `restricted` wants a container to be.
RESTRICTED: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def a_sidecar_of(name: str, *, choices: Manifest | None = None, **witness: Any) -> Manifest:
    """An item of a policy with a witness that records in the policy's own volume; *choices* are the item's fields."""
    made = a_witness(name, **witness)
    mounts = [MOUNT | {"name": "records"}, *witness.get("volumeMounts", [])]
    return as_sidecar(made | {"volumeMounts": mounts}, **(choices or {}))


def inject(stage: Stage, app: Manifest, sidecar: Manifest, *volumes: Manifest) -> None:
    """Create a Deployment without Pods and bring the sidecar into it."""
    stage.apply(app)
    stage.apply(
        a_policy("web", stage.namespace, rollout=QUICK, sidecars=[sidecar], volumes=[RECORDS, *volumes]),
    )
    name = app["metadata"]["name"]
    stage.wait_for(lambda deployment: init_names(deployment) == [sidecar["name"]], name)


def scale(stage: Stage, name: str, replicas: int) -> None:
    """Set the number of Pods."""
    stage.kubectl("scale", "deployment", name, f"--replicas={replicas}")


def ready(stage: Stage, name: str, count: int) -> None:
    """Wait until so many Pods are ready."""
    stage.wait_for(lambda deployment: deployment["status"].get("readyReplicas") == count, name)


def test_a_monitor_that_never_gets_ready_does_not_keep_the_application_from_scaling(stage: Stage) -> None:
    app = a_deployment_of("cart", stage.namespace, a_witness("app"))
    inject(stage, app, a_sidecar_of("monitor", choices={"role": "Monitor"}, readinessProbe=NEVER))
    scale(stage, "cart", 1)
    ready(stage, "cart", 1)
    scale(stage, "cart", 3)
    ready(stage, "cart", 3)
    assert all(runs(pod, "monitor") for pod in injected(stage, "cart", "monitor"))


def test_a_monitor_that_counts_keeps_every_new_pod_unready(stage: Stage) -> None:
    app = a_deployment_of("cart", stage.namespace, a_witness("app"))
    choices = {"role": "Monitor", "podReadiness": "Include"}
    inject(stage, app, a_sidecar_of("monitor", choices=choices, readinessProbe=NEVER))
    scale(stage, "cart", 3)

    def all_run(found: list[Manifest]) -> bool:
        return len(found) == 3 and all(container(pod, "app").get("ready") for pod in found)

    found = poll(partial(injected, stage, "cart", "monitor"), until=all_run)
    assert not any(is_ready(pod) for pod in found)
    assert {condition(pod, "ContainersReady")["message"] for pod in found} == {
        "containers with unready status: [monitor]"
    }


@pytest.mark.parametrize("namespace", ["baseline", "restricted"])
def test_a_sidecar_without_root_reads_its_projected_token(stage: Stage, namespace: str) -> None:
    stage.kubectl("label", "namespace", stage.namespace, f"pod-security.kubernetes.io/enforce={namespace}")
    app = a_deployment_of("cart", stage.namespace, a_witness("app", securityContext=RESTRICTED))
    sidecar = a_sidecar_of(
        "proxy",
        choices={"role": "Proxy"},
        run="read /token/token; listen 15000; forever",
        readinessProbe={"httpGet": {"port": 15000, "path": "/"}},
        securityContext=RESTRICTED,
        volumeMounts=[{"name": "token", "mountPath": "/token", "readOnly": True}],
    )
    inject(stage, app, sidecar, TOKEN)
    scale(stage, "cart", 1)
    ready(stage, "cart", 1)
    (record,) = stage.records()
    (read,) = record.all("proxy", "read")
    assert read.detail.endswith("as user 65532"), record
    assert record.told("proxy.read < proxy.listening < app.start")


def test_a_sidecar_that_restricted_forbids_is_reported_with_the_servers_words(stage: Stage) -> None:
    stage.kubectl("label", "namespace", stage.namespace, "pod-security.kubernetes.io/enforce=restricted")
    app = a_deployment_of("cart", stage.namespace, a_witness("app", securityContext=RESTRICTED))
    stage.apply(app)
    stage.apply(a_policy("web", stage.namespace, rollout=QUICK, sidecars=[a_sidecar_of("proxy")], volumes=[RECORDS]))
    (skipped,) = stage.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "PodSecurity"
    assert 'violates PodSecurity "restricted' in skipped["message"]
    assert '"proxy"' in skipped["message"]
    assert init_names(stage.deployment("cart")) == []
