"""An operator for some namespaces only, as the administrator of those installs it: with Roles and no cluster rights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pykube
import pytest
import yaml
from click.testing import CliRunner

import localcluster
from sidecarpolicy import names
from sidecarpolicy.cli.main import main
from tests import kube
from tests.api.rights import QUICK, granted, streamed, tell_an_event_again, use_rights_on_a_policy, used
from tests.audit import Audit, Request
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.conftest import kubeconfig_of
from tests.fleet import Fleet, init_names, traces
from tests.polling import poll
from tests.running import Operator

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMESPACED = DEPLOY / "namespaced"
ANN = "ann"


class Installed:
    """The operator of one namespace, installed there by its administrator and run as a process of its own."""

    def __init__(self, cluster: localcluster.Cluster, namespace: str, folder: Path, *served: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.fleet = Fleet(cluster, namespace)
        self.account = f"system:serviceaccount:{namespace}:sidecarpolicy"
        self._folder = folder / namespace
        self._folder.mkdir()
        self.install()
        config = kubeconfig_of("sidecarpolicy", cluster, self._folder, namespace=namespace)
        places = [f"--watch-namespace={each}" for each in served or [namespace]]
        self.audit = Audit.begin(cluster, self.account)
        self.operator = Operator(config, f"--operator-namespace={namespace}", *places)

    def install(self, *components: str) -> None:
        """Apply a kustomization as docs/install.md has it, as the namespace's administrator."""
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": [os.path.relpath(NAMESPACED, self._folder.resolve())],
            "components": [os.path.relpath(NAMESPACED / each, self._folder.resolve()) for each in components],
        }
        (self._folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        self.cluster.kubectl(f"--as={ANN}", "apply", "--kustomize", str(self._folder))

    def run(self, *arguments: str) -> Manifest:
        """`sidecarpolicy VERB …` as the administrator of the namespace; what it prints as JSON, and its exit code."""
        done = self.said(*arguments, "--output=json")
        return {"code": done["code"], **json.loads(done["out"])}

    def said(self, *arguments: str) -> Manifest:
        """The same as text."""
        where = (f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.namespace}", f"--as={ANN}")
        place = f"--operator-namespace={self.namespace}"
        done = CliRunner().invoke(main, [*arguments, *where, place], catch_exceptions=False)
        return {"code": done.exit_code, "out": done.stdout, "err": done.stderr}

    def requests(self) -> list[Request]:
        """Every request of its account for an object."""
        return self.audit.requests()


def administer(cluster: localcluster.Cluster, namespace: str) -> None:
    """Make Ann the administrator of *namespace*; return when she may grant what an operator needs."""
    there = f"--namespace={namespace}"
    cluster.kubectl("create", "rolebinding", "admins", "--clusterrole=admin", f"--user={ANN}", there)
    for right in (["patch", "sidecarpolicies.sidecars.dev", "--subresource=status"], ["create", "podtemplates"]):
        question = ["auth", "can-i", *right, there, f"--as={ANN}"]
        poll(partial(_answer, cluster, question), until=lambda answer: answer == "yes")


def _answer(cluster: localcluster.Cluster, question: list[str]) -> str:
    return cluster.kubectl(*question, check=False).stdout.strip()


@pytest.fixture
def shop(alone: Fleet, tmp_path: Path) -> Iterator[Installed]:
    """One namespace with an operator of its own, and no other operator."""
    alone.cluster.kubectl("apply", "--kustomize", str(NAMESPACED / "cluster"))
    administer(alone.cluster, alone.namespace)
    installed = Installed(alone.cluster, alone.namespace, tmp_path)
    with installed.operator:
        yield installed


@pytest.fixture
def elsewhere(shop: Installed, api: pykube.HTTPClient) -> Iterator[Fleet]:
    """A namespace that it does not serve."""
    with kube.a_namespace(api, "elsewhere") as name:
        yield Fleet(shop.cluster, name)


def warnings(fleet: Fleet) -> dict[str, Manifest]:
    return {each["reason"]: each for each in fleet.status().get("warnings", [])}


def a_quick_policy(fleet: Fleet, **spec: Any) -> Manifest:
    return a_policy("web", fleet.namespace, rollout=QUICK, **spec)


def carried(fleet: Fleet) -> dict[str, list[str]]:
    return {name: init_names(each) for name, each in fleet.deployments().items()}


def test_an_administrator_of_a_namespace_installs_it_and_it_serves_that_namespace_alone(
    shop: Installed, elsewhere: Fleet
) -> None:
    everywhere = f"all-{shop.namespace}"
    mesh = a_cluster_policy(everywhere, sidecars=[a_sidecar("mesh")])
    shop.cluster.kubectl("label", "namespace", shop.namespace, f"{names.INJECT}=false")  # which it cannot see
    shop.fleet.apply(a_deployment("cart", shop.namespace))
    before = shop.fleet.templates()
    elsewhere.apply(a_deployment("cart", elsewhere.namespace))
    for fleet in (elsewhere, shop.fleet):
        fleet.apply(a_quick_policy(fleet, selector={}), mesh)
    status = shop.fleet.wait("RolloutComplete")
    states = {each["name"]: each["state"] for each in shop.run("targets", "web")["targets"]}
    assert states == {"cart": "updated", "sidecarpolicy": "skipped"}, "by what the operator can see"
    assert carried(shop.fleet) == {"cart": ["proxy"], "sidecarpolicy": []}
    (skipped,) = status["skipped"]
    assert (skipped["reason"], skipped["examples"]) == ("OptedOut", [f"{shop.namespace}/sidecarpolicy"])
    assert carried(elsewhere) == {"cart": []}
    assert elsewhere.get("sidecarpolicies/web", version=names.API_VERSION)["status"] == {"observedGeneration": -1}
    assert warnings(shop.fleet).keys() == {"NamespacedInstall", "NoStartupGate"}
    told = warnings(shop.fleet)["NamespacedInstall"]
    assert told["count"] == 1
    assert f"serves namespace {shop.namespace} only" in told["message"]
    for unknown in ("nodes", "labels of namespaces", "ClusterSidecarPolicies"):
        assert unknown in told["message"]
    shop.fleet.kubectl("delete", "deployment", "sidecarpolicy")
    shop.fleet.delete_policy()
    assert {**shop.fleet.templates(), "sidecarpolicy": before["sidecarpolicy"]} == before
    assert traces(shop.fleet.deployments().values()) == []
    shop.cluster.kubectl("delete", "clustersidecarpolicy", everywhere)
    requests = shop.requests()
    assert {each.namespace for each in requests} == {shop.namespace}
    assert [each for each in requests if not each.allowed] == []
    assert "WARNING" not in shop.operator.log
    assert f"serving the SidecarPolicies of these namespaces only: {shop.namespace}" in shop.operator.log


def test_its_role_is_what_it_uses_and_nothing_else(shop: Installed) -> None:
    use_rights_on_a_policy(shop.fleet)
    shop.fleet.apply(a_quick_policy(shop.fleet))
    shop.fleet.wait("RolloutComplete")
    tell_an_event_again(shop.fleet)
    shop.operator.restart()
    mine, asked = granted(NAMESPACED / "access.yaml"), used(shop.requests())
    assert [each for each in shop.requests() if not each.allowed] == []
    assert asked - mine == set()
    assert mine - asked - streamed(mine) == set()


def test_operators_of_different_namespaces_leave_one_another_alone(
    shop: Installed, elsewhere: Fleet, tmp_path: Path
) -> None:
    administer(shop.cluster, elsewhere.namespace)
    other = Installed(shop.cluster, elsewhere.namespace, tmp_path)
    with other.operator:
        for each in (shop, other):
            each.fleet.apply(a_deployment("cart", each.namespace), a_quick_policy(each.fleet))
        for each in (shop, other):
            each.fleet.wait("RolloutComplete")
        leases = [each.fleet.get("leases/sidecarpolicy", version="coordination.k8s.io/v1") for each in (shop, other)]
        assert len({each["spec"]["holderIdentity"] for each in leases}) == 2
        for each in (shop, other):
            found = each.run("check")
            assert [line["message"] for line in found["checks"] if "too: both change" in line["message"]] == []
    for each in (shop, other):
        assert {request.namespace for request in each.requests()} == {each.namespace}
        assert each.audit.patches_of(each.namespace) == {"cart": 1}
        assert [request for request in each.requests() if not request.allowed] == []


def test_one_operator_serves_several_namespaces_and_rests_in_them(
    shop: Installed, elsewhere: Fleet, tmp_path: Path
) -> None:
    """As the chart has it: a Role in each, bound to the one ServiceAccount."""
    roles = [each for each in yaml.safe_load_all((NAMESPACED / "access.yaml").read_text()) if "workloads" in str(each)]
    for each in roles:
        each["metadata"]["namespace"] = elsewhere.namespace
        for subject in each.get("subjects", ()):
            subject["namespace"] = shop.namespace
    elsewhere.apply(*roles)
    shop.operator.stop()
    shop.operator.spawn(f"--watch-namespace={elsewhere.namespace}")
    for fleet in (shop.fleet, elsewhere):
        fleet.apply(a_deployment("cart", fleet.namespace), a_quick_policy(fleet))
    for fleet in (shop.fleet, elsewhere):
        fleet.wait("RolloutComplete")
    lease = shop.fleet.get("leases/sidecarpolicy", version="coordination.k8s.io/v1")
    both = sorted((shop.namespace, elsewhere.namespace))
    assert lease["metadata"]["annotations"][names.WATCH_NAMESPACES] == ",".join(both)
    elsewhere.delete_policy()
    assert traces(elsewhere.deployments().values()) == []
    assert carried(shop.fleet)["cart"] == ["proxy"]
    assert [each for each in shop.requests() if not each.allowed] == []
    assert {each.namespace for each in shop.requests()} == set(both)


def test_the_emergency_switch_is_on_its_lease(shop: Installed) -> None:
    shop.fleet.apply(a_deployment("cart", shop.namespace), a_quick_policy(shop.fleet))
    shop.fleet.wait("RolloutComplete")
    stopped = shop.said("stop", "--reason=incident 7")
    assert (stopped["code"], stopped["out"]) == (
        0,
        "lease.coordination.k8s.io/sidecarpolicy stopped: no workload is changed any more\n",
    )
    bearer = f"Lease {shop.namespace}/sidecarpolicy"
    (told_by_event,) = poll(lambda: shop.fleet.messages("web", "Stopped"))
    assert f"no workload is changed while {bearer} has the annotation" in told_by_event
    shop.fleet.apply(a_quick_policy(shop.fleet, sidecars=[a_sidecar("logger")]))
    told = shop.fleet.wait("Stopped")["conditions"]
    assert any(f"take the annotation {names.STOP} off {bearer}" in each["message"] for each in told)
    shop.operator.restart()
    assert carried(shop.fleet)["cart"] == ["proxy"]
    found = shop.run("check")["checks"]
    (line,) = [each for each in found if each["message"].startswith("STOPPED")]
    assert line["message"].startswith(f"STOPPED (incident 7): no workload is changed, because {bearer} has")
    assert shop.said("start")["code"] == 0
    shop.fleet.wait("RolloutComplete")
    assert carried(shop.fleet)["cart"] == ["logger"]


def test_a_configuration_of_its_namespace_restarts_the_pods_where_its_role_lets_it_read_that(shop: Installed) -> None:
    shop.install("restart-on/config-maps")
    metadata = {"name": "otel", "namespace": shop.namespace}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    named = {"configMaps": ["otel"], "secrets": ["token"]}
    shop.fleet.apply(config | {"data": {"a": "one"}}, a_deployment("cart", shop.namespace))
    shop.fleet.apply(a_quick_policy(shop.fleet, restartOn=named))
    shop.fleet.wait("RolloutComplete")
    unreadable = poll(lambda: warnings(shop.fleet).get("ConfigUnreadable"))
    assert unreadable is not None and "Secret token" in unreadable["message"]
    poll(lambda: '"ConfigMap/otel"' in shop.fleet.deployment()["metadata"]["annotations"][names.RECORD])
    shop.fleet.apply(config | {"data": {"a": "two"}})
    shop.fleet.wait_for(lambda each: names.CONFIG in each["spec"]["template"]["metadata"].get("annotations", {}))
    asked = [each for each in shop.requests() if each.resource in ("configmaps", "secrets")]
    assert {each.namespace for each in asked} == {shop.namespace}


def test_check_knows_what_such_an_operator_is_and_who_may_install_it(
    shop: Installed, elsewhere: Fleet, operator_kubeconfig: Path
) -> None:
    found = shop.run("check")
    results = {each["message"]: each["result"] for each in found["checks"]}
    assert (found["code"], set(results.values())) == (0, {"ok", "skipped"})
    assert results[
        f"it serves namespace {shop.namespace} only: ClusterSidecarPolicies are not served, nodes and the labels of "
        "namespaces are unknown to it"
    ]
    assert results[f"{shop.account} has the rights that it needs in namespace {shop.namespace}"] == "ok"
    before = shop.run("check", "--pre", f"--watch-namespace={shop.namespace}")
    assert before["code"] == 0
    assert f"you may install it in namespace {shop.namespace}, for namespace {shop.namespace}" in str(before)
    refused = shop.run("check", "--pre", f"--watch-namespace={elsewhere.namespace}")
    assert refused["code"] == 1
    assert f"create roles.rbac.authorization.k8s.io in namespace {elsewhere.namespace}" in str(refused)
    with Operator(operator_kubeconfig):  # for the whole cluster, beside it
        where = [f"--kubeconfig={shop.cluster.kubeconfig}", f"--operator-namespace={shop.namespace}"]
        said = json.loads(CliRunner().invoke(main, ["check", "--output=json", *where]).stdout)["checks"]
    (line,) = [each for each in said if "too: both change" in each["message"]]
    assert line["result"] == "warning"
    assert f"namespace sidecarpolicy-system serves namespace {shop.namespace} too" in line["message"]


def test_what_is_not_served_any_more_is_told_by_status_and_check(shop: Installed, elsewhere: Fleet) -> None:
    """An operator for the whole cluster has served it; the one that is left serves its own namespace only."""
    held = a_policy("left", elsewhere.namespace)
    held["metadata"]["finalizers"] = [names.FINALIZER]
    elsewhere.apply(held)
    where = [f"--kubeconfig={shop.cluster.kubeconfig}", f"--operator-namespace={shop.namespace}"]
    asked = CliRunner().invoke(main, ["status", "left", f"--namespace={elsewhere.namespace}", *where])
    assert asked.exit_code == 3
    assert f"serves namespace {shop.namespace} only" in asked.stderr
    assert f"nobody looks at {elsewhere.namespace}/left" in asked.stderr
    elsewhere.delete_policy("left", wait=False)
    said = CliRunner().invoke(main, ["check", "--output=json", *where])
    (line,) = [each for each in json.loads(said.stdout)["checks"] if "none serves now" in each["message"]]
    assert line["result"] == "failed"
    assert f"{elsewhere.namespace}/left" in line["message"]
    # Other tests on this cluster may leave some behind for a moment.
    assert re.search(r"\b[1-9]\d* of them waits? to be deleted", line["message"])
    free = '{"metadata":{"finalizers":null}}'
    elsewhere.kubectl("patch", "sidecarpolicy", "left", "--type=merge", f"--patch={free}")
