"""Admission on a real kubelet: the first Pods of a new Deployment, and the way of a sidecar from Git to the policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pykube
import pytest
from click.testing import CliRunner

import localcluster
from sidecarpolicy import names
from sidecarpolicy.cli.main import main
from tests import kube
from tests.builders import Manifest, a_deployment, a_policy
from tests.conftest import kubeconfig_of
from tests.fleet import init_names
from tests.node.lifecycle.stage import VOLUME, Stage, a_deployment_of, a_stage, a_witness, as_sidecar
from tests.polling import poll
from tests.running import Operator
from tests.webhook import Webhook, free_port, grant, install, uninstall

# It writes nothing to the node: the container in Git has to be equal to the policy's, and that has no volume of Git's.
PROXY = a_witness(
    "proxy",
    run="wait 2s; listen 15000; forever",
    readinessProbe={"httpGet": {"port": 15000, "path": "/ready"}, "periodSeconds": 1},
) | {"volumeMounts": []}
# Serves, and needs its proxy from its first instruction until it has drained.
APP = a_witness(
    "app",
    run="listen 8080; forever",
    term="wait 3s; exit 0",
    call="http://localhost:15000/",
    readinessProbe={"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
)
APP["args"] += ["-every", "100ms", "-patience", "20s"]
POLICY_SIDECAR = as_sidecar({key: value for key, value in PROXY.items() if key != "volumeMounts"}, role="Proxy")


@pytest.fixture(scope="module")
def shop(
    lifecycle_node: localcluster.Cluster,
    node_api: pykube.HTTPClient,
    node_operator: Operator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """A namespace whose Deployments are reviewed, with an operator that makes the certificates."""
    grant(lifecycle_node)
    node_operator.stop()
    kubeconfigs = {
        account: kubeconfig_of(account, lifecycle_node, tmp_path_factory.mktemp(account))
        for account in ("sidecarpolicy", "sidecarpolicy-webhook")
    }
    try:
        with (
            Operator(kubeconfigs["sidecarpolicy"], "--admission-certificates"),
            a_stage(lifecycle_node, node_api, "admission", tmp_path_factory.mktemp("records")) as stage,
        ):
            port = free_port()
            install(lifecycle_node, port, stage.namespace)
            try:
                with Webhook(kubeconfigs["sidecarpolicy-webhook"], port):
                    yield stage
            finally:
                uninstall(lifecycle_node)
    finally:
        node_operator.start()


@pytest.fixture
def stage(shop: Stage) -> Iterator[Stage]:
    """The namespace, empty again afterwards."""
    yield shop
    shop.kubectl("delete", "deployments,services,sidecarpolicies", "--all", "--cascade=foreground", "--timeout=120s")


def await_reviews(stage: Stage, sidecars: list[str]) -> None:
    """Wait until a new Deployment would get *sidecars*."""
    probe = a_deployment("probe", stage.namespace)
    poll(lambda: init_names(kube.create(kube.client(stage.cluster.kubeconfig), probe, dry_run=True)) == sidecars)


def replica_sets(stage: Stage, name: str) -> list[str]:
    """The ReplicaSets of a Deployment: one for each rollout."""
    found = stage.get("replicasets", version="apps/v1")["items"]
    return [each["metadata"]["name"] for each in found if each["metadata"]["ownerReferences"][0]["name"] == name]


def is_rolled_out(deployment: Manifest) -> bool:
    """The rule of `kubectl rollout status`."""
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = {status.get(each, 0) for each in ("replicas", "updatedReplicas", "availableReplicas")}
    return counts == {replicas} and status["observedGeneration"] == deployment["metadata"]["generation"]


def test_the_very_first_pod_of_a_new_deployment_has_its_sidecars(stage: Stage) -> None:
    stage.apply(a_policy("web", stage.namespace, sidecars=[POLICY_SIDECAR]))
    await_reviews(stage, ["proxy"])
    stage.apply(a_deployment_of("first", stage.namespace, APP))
    stage.kubectl("scale", "deployment", "first", "--replicas=1")
    stage.wait_for(is_rolled_out, "first", timeout=90)
    stage.kubectl("delete", "deployment", "first", "--cascade=foreground", "--timeout=60s")
    (record,) = stage.records("first")
    assert len(record.calls) > 2
    assert record.failed == (), record
    assert record.told("app.start < app.TERM < app.exit")


def test_from_an_ordinary_container_to_the_policy_each_step_is_at_most_one_rollout_and_no_call_fails(
    stage: Stage, tmp_path: Path
) -> None:
    """The container in Git, then the same one native in Git, then the policy's, then no more of it in Git."""
    name, namespace = "cart", stage.namespace
    ordinary, without = two_of(name, namespace, APP, PROXY), two_of(name, namespace, APP)
    policy = a_policy("web", namespace, sidecars=[POLICY_SIDECAR], rollout={"minReadySeconds": 0})
    native = as_in_git(without, policy, tmp_path)

    stage.apply(a_service(name, namespace), ordinary)
    stage.wait_for(is_rolled_out, name, timeout=90)
    before = replica_sets(stage, name)
    address = stage.get(f"services/{name}")["spec"]["clusterIP"]
    stage.apply(a_client(namespace, f"http://{address}/"))
    client = poll(partial(calling, stage))

    stage.apply(native)
    stage.wait_for(is_rolled_out, name, timeout=90)
    made = replica_sets(stage, name)
    assert len(made) == len(before) + 1

    stage.apply(policy)
    stage.wait("RolloutComplete", timeout=60)
    assert names.RECORD in stage.deployment(name)["metadata"]["annotations"]
    assert sorted(replica_sets(stage, name)) == sorted(made)

    await_reviews(stage, ["proxy"])
    stage.apply(without)
    stage.wait_for(is_rolled_out, name, timeout=90)
    stage.wait("RolloutComplete", timeout=60)
    assert init_names(stage.deployment(name)) == ["proxy"]
    assert len(replica_sets(stage, name)) <= len(made) + 1

    seen = len(stage.record(client).calls)
    poll(lambda: len(stage.record(client).calls) > seen + 10)
    assert stage.record(client).failed == ()
    first = tuple(before)
    for record in stage.records(name):
        if not record.pod.startswith(first):
            assert record.failed == (), record


def two_of(name: str, namespace: str, *containers: Manifest) -> Manifest:
    """A Deployment of two replicas that are replaced one by one."""
    made = a_deployment_of(name, namespace, *containers)
    made["spec"] |= {"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
    return made


def as_in_git(deployment: Manifest, policy: Manifest, folder: Path) -> Manifest:
    """*deployment* with the sidecars of *policy* as its owner would have them in Git: with no record of ours."""
    files = [folder / "policy.json", folder / "app.json"]
    for file, body in zip(files, (policy, deployment), strict=True):
        file.write_text(json.dumps(body))
    done = CliRunner().invoke(main, ["inject", "-o", "json", "-p", *map(str, files)])
    assert done.exit_code == 0, done.output
    found: Manifest = json.loads(done.stdout)
    found["metadata"]["annotations"].pop(names.RECORD)
    return found


def a_service(name: str, namespace: str) -> Manifest:
    """A Service in front of the application's own port."""
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def a_client(namespace: str, url: str) -> Manifest:
    """A Pod that calls *url* all the time; no policy selects it."""
    calls = a_witness("client", call=url)
    calls["args"] += ["-every", "50ms", "-patience", "20s"]
    made = a_deployment("client", namespace, pod={"containers": [calls], "volumes": [VOLUME]})
    made["spec"]["template"]["metadata"]["labels"] = {"app": "client"}
    return made


def calling(stage: Stage) -> str:
    """The client's Pod, once its calls go on; empty before."""
    return next((record.pod for record in stage.records("client") if len(record.calls) > 10), "")
