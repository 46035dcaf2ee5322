"""The chart, installed by Helm with the image of this checkout, on a real kubelet: from nothing to nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import localcluster
from deploy.image.build import build
from localcluster import binaries
from tests import kube
from tests.builders import Manifest, a_policy, a_sidecar
from tests.fleet import Fleet, image_of, init_names, traces
from tests.node.pods import BUSYBOX, an_idle, an_idle_deployment, is_ready
from tests.polling import poll

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/chart"
RELEASE = "sidecarpolicy"
SYSTEM = "sidecarpolicy-system"
# What comes and goes by itself: the API server makes an APIService of a kind; a Lease stays until its namespace goes.
RESTLESS = (
    "apiservices.apiregistration.k8s.io",
    "componentstatuses",
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
)
Name = tuple[str, str, str]
KINDS: set[Name] = {
    ("CustomResourceDefinition", "", f"{plural}.sidecars.dev")
    for plural in ("sidecarpolicies", "clustersidecarpolicies")
}


class Release:
    """The operator as Helm installs it."""

    def __init__(self, cluster: localcluster.Cluster) -> None:
        self.cluster = cluster
        self._system = Fleet(cluster, SYSTEM)
        self._helm = binaries.require(["helm"])["helm"]

    def helm(self, *arguments: str) -> str:
        """Run Helm in the operator's namespace and return what it printed."""
        command = [str(self._helm), f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={SYSTEM}", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=180
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}\n{self.complaints()}"
        return done.stdout

    def complaints(self) -> str:
        """What the namespace's Pods and Events say, for whoever reads a failure."""
        return "\n".join(
            self.cluster.kubectl("--namespace", SYSTEM, *each, check=False).stdout
            for each in (("get", "pods", "-o", "wide"), ("get", "events", "--sort-by=.lastTimestamp"))
        )

    def replicas(self, name: str = "sidecarpolicy") -> list[Manifest]:
        """The Pods of the operator, or of its webhook, that are not on their way out."""
        found = self._system.get("pods", labelSelector=f"app.kubernetes.io/name={name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """The name of the Pod that leads; empty while none does."""
        lease = self._system.get("leases/sidecarpolicy", version="coordination.k8s.io/v1")
        return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]

    def await_leader_other_than(self, *gone: str) -> str:
        """Wait until a replica leads that is none of *gone*; return its name."""
        return poll(self.leader, until=lambda name: name and name not in gone, timeout=60)

    def log(self, pod: str) -> list[str]:
        """Every line that a replica has logged."""
        return self.cluster.kubectl("--namespace", SYSTEM, "logs", pod).stdout.splitlines()


@pytest.fixture(scope="module")
def release(empty_node: localcluster.Cluster) -> Iterator[Release]:
    """A cluster that has the image, and the namespace with Pod Security enforced; nothing is installed."""
    empty_node.load_image(build().archive)
    empty_node.kubectl("apply", "--filename", str(ROOT / "deploy/base/access/namespace.yaml"))
    yield Release(empty_node)


def everything(cluster: localcluster.Cluster) -> set[Name]:
    """Kind, namespace and name of every object in the cluster, but for what comes and goes by itself."""
    listed = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    kinds = ",".join(sorted(set(listed) - set(RESTLESS)))
    path = r'{range .items[*]}{.kind}{"\t"}{.metadata.namespace}{"\t"}{.metadata.name}{"\n"}{end}'
    lines = cluster.kubectl("get", kinds, "--all-namespaces", f"--output=jsonpath={path}").stdout.splitlines()
    return {(kind, namespace, name) for kind, namespace, name in (line.split("\t") for line in lines)}


def a_web_policy(namespace: str, tag: int, *, name: str = "web", sidecar: str = "proxy", **spec: Any) -> Manifest:
    """A policy with one sidecar that runs."""
    container = an_idle(image=BUSYBOX.replace(":1", f":{tag}"))
    return a_policy(
        name, namespace, rollout={"minReadySeconds": 0}, sidecars=[a_sidecar(sidecar, container=container)], **spec
    )


def has_proxy(tag: int, deployment: Manifest) -> bool:
    return image_of(deployment, "proxy").endswith(f":{tag}")


def is_installed_and_ready(release: Release) -> None:
    release.helm("install", RELEASE, str(CHART), "--wait", "--timeout=120s")
    for component in ("sidecarpolicy", "sidecarpolicy-webhook"):
        replicas = release.replicas(component)
        assert len(replicas) == 2
        assert all(is_ready(pod) for pod in replicas)
    assert "Phase:          Succeeded" in release.helm("test", RELEASE, "--timeout=90s")


def a_policy_converges(release: Release, fleet: Fleet) -> None:
    fleet.apply(an_idle_deployment("cart", fleet.namespace))
    fleet.kubectl("rollout", "status", "deployment/cart", "--timeout=60s")
    fleet.apply(a_web_policy(fleet.namespace, 1))
    fleet.wait("RolloutComplete", timeout=90)
    assert init_names(fleet.deployment()) == ["proxy"]


def a_new_deployment_starts_with_its_sidecars(fleet: Fleet) -> None:
    fleet.apply(an_idle_deployment("new", fleet.namespace))
    made = fleet.deployment("new")
    assert init_names(made) == ["proxy"]
    fleet.kubectl("rollout", "status", "deployment/new", "--timeout=60s")
    assert len(fleet.get("replicasets", version="apps/v1", labelSelector="app=new")["items"]) == 1
    fleet.kubectl("delete", "deployment", "new", "--timeout=60s")


def work_goes_on_without_its_leader(release: Release, fleet: Fleet) -> None:
    old = release.await_leader_other_than()
    release.cluster.kubectl("--namespace", SYSTEM, "delete", "pod", old, "--wait=false")
    fleet.apply(a_web_policy(fleet.namespace, 2))
    release.await_leader_other_than(old)
    fleet.wait_for(partial(has_proxy, 2), timeout=60)
    fleet.wait("RolloutComplete", timeout=90)


def an_upgrade_rolls_no_workload(release: Release, fleet: Fleet) -> None:
    before = {pod["metadata"]["name"] for pod in release.replicas()}
    generation = fleet.deployment()["metadata"]["generation"]
    release.helm("upgrade", RELEASE, str(CHART), "--wait", "--timeout=120s", "--set=operator.logFormat=json")
    leader = release.await_leader_other_than(*before)
    # It has looked at everything when it has carried out a policy that is new.
    fleet.apply(an_idle_deployment("late", fleet.namespace))
    late = {"matchLabels": {"app": "late"}}
    fleet.apply(a_web_policy(fleet.namespace, 1, name="late", sidecar="second", selector=late))
    fleet.wait("RolloutComplete", "late", timeout=90)
    fleet.wait("RolloutComplete", timeout=90)
    assert fleet.deployment()["metadata"]["generation"] == generation
    said = [json.loads(line) for line in release.log(leader)]
    assert {each["workload"] for each in said if "workload" in each} == {f"{fleet.namespace}/late"}
    fleet.delete_policy("late")


def the_policy_takes_its_sidecars_with_it(fleet: Fleet) -> None:
    fleet.delete_policy()
    for each in fleet.deployments().values():
        assert init_names(each) == []
    assert traces(fleet.deployments().values()) == []


def test_installed_it_converges_outlives_its_leader_rolls_nothing_at_an_upgrade_and_leaves_nothing_but_the_kinds(
    release: Release,
) -> None:
    before = everything(release.cluster)
    is_installed_and_ready(release)
    with kube.a_namespace(kube.client(release.cluster.kubeconfig), "shop") as name:
        fleet = Fleet(release.cluster, name)
        a_policy_converges(release, fleet)
        a_new_deployment_starts_with_its_sidecars(fleet)
        work_goes_on_without_its_leader(release, fleet)
        an_upgrade_rolls_no_workload(release, fleet)
        the_policy_takes_its_sidecars_with_it(fleet)
        fleet.kubectl("delete", "namespace", name, "--timeout=90s")
    release.helm("uninstall", RELEASE, "--wait", "--timeout=90s")
    left = poll(partial(everything, release.cluster), until=lambda now: not any("Pod" in each for each in now - before))
    assert left - before == KINDS
    assert before - left == set()


@pytest.mark.long
def test_installed_by_kustomize_it_converges_and_goes_with_everything_that_it_brought(release: Release) -> None:
    before = everything(release.cluster)
    release.cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
    available = ("--for=condition=Available", "--timeout=120s")
    release.cluster.kubectl("wait", "deployments", "--all", f"--namespace={SYSTEM}", *available, timeout=130)
    with kube.a_namespace(kube.client(release.cluster.kubeconfig), "shop") as name:
        fleet = Fleet(release.cluster, name)
        a_policy_converges(release, fleet)
        the_policy_takes_its_sidecars_with_it(fleet)
        fleet.kubectl("delete", "namespace", name, "--timeout=90s")
    release.cluster.kubectl("delete", "--kustomize", str(ROOT / "deploy"), "--timeout=120s", timeout=130)
    left = everything(release.cluster)
    assert left - before == set()
    # Helm leaves the kinds, where the other test was first.
    assert {each for each in before - left if SYSTEM not in each} <= KINDS
