"""Versions beside each other: the operator is exchanged while a rollout is in flight, and no Deployment rolls for that.

The version before is that of an earlier commit of this repository, run with the environment of this one: its kinds, its
rights and its program. It does not know `restartOn`. A clone without that commit (a shallow one) skips these tests.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import localcluster
from sidecarpolicy import names
from tests import kube
from tests.audit import Audit
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.conftest import OPERATOR, kubeconfig_of
from tests.fleet import Fleet, image_of
from tests.kube import ROOT
from tests.polling import poll
from tests.running import Operator

pytestmark = pytest.mark.long

BEFORE = "c3c1babc65172aad47096e5a852472e386a6c388"
COUNT = 30
NAMES = [f"d{number:02}" for number in range(COUNT)]
RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sidecarpolicy.cli.main import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A checkout of the project: what it installs, and its operator."""

    root: Path
    cluster: localcluster.Cluster
    kubeconfig: Path

    def install_kinds(self) -> None:
        """Bring its kinds."""
        self.cluster.kubectl("apply", "--filename", str(self.root / "crds"))
        self.cluster.await_definitions()

    def install_rights(self) -> None:
        """Bring the operator's rights."""
        self.cluster.kubectl("apply", "--kustomize", str(self.root / "deploy/base/access"))

    def operator(self) -> Operator:
        """Its operator, which is not started yet."""
        made = Operator(self.kubeconfig, "--workers=2")
        made._command[:1] = [sys.executable, "-c", RUN, str(self.root / "operator")]
        return made


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A cluster of its own: kinds of another version are nothing for the tests beside."""
    with localcluster.start(f"versions-{os.getpid()}", simulated_nodes=3) as running:
        kube.install_kinds(running)
        yield running


@pytest.fixture(scope="module")
def kubeconfig(server: localcluster.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's own, of either version."""
    return kubeconfig_of(OPERATOR, server, tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def before(server: localcluster.Cluster, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version before."""
    root = tmp_path_factory.mktemp("before")
    found = subprocess.run(
        ["git", "archive", BEFORE, "crds", "deploy/base", "operator"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"no commit {BEFORE} here: {found.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(root, filter="data")
    return Version(root=root, cluster=server, kubeconfig=kubeconfig)


@pytest.fixture(scope="module")
def now(server: localcluster.Cluster, kubeconfig: Path) -> Version:
    """This version."""
    return Version(root=ROOT, cluster=server, kubeconfig=kubeconfig)


@pytest.fixture
def fleet(server: localcluster.Cluster) -> Iterator[Fleet]:
    """An empty namespace, which no policy is left in."""
    with kube.a_namespace(kube.client(server.kubeconfig), "versions") as name:
        yield Fleet(server, name)


def the_policy(fleet: Fleet, tag: str) -> Manifest:
    sidecar = a_sidecar(container={"image": f"example.test/proxy:{tag}"})
    rollout = {"minReadySeconds": 0, "maxConcurrent": 3}
    return a_policy("web", fleet.namespace, sidecars=[sidecar], rollout=rollout)


def tags(fleet: Fleet) -> list[str]:
    """The tag of each Deployment's proxy."""
    return [image_of(each, "proxy").rpartition(":")[2] for each in fleet.deployments().values()]


def rollouts(fleet: Fleet) -> dict[str, int]:
    """How many Pod templates each Deployment has had, by its own count."""
    return {
        name: int(each["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
        for name, each in fleet.deployments().items()
    }


def exchange(fleet: Fleet, old: Version, new: Version, kinds_first: bool) -> None:
    """A rollout under *old* is taken over by *new*, half-way, and ends; so does the next one."""
    old.install_kinds()
    old.install_rights()
    fleet.apply(*(a_deployment(name, fleet.namespace) for name in NAMES), the_policy(fleet, "1"))
    leader = old.operator()
    with leader:
        fleet.wait("RolloutComplete", timeout=180)
        made = rollouts(fleet)
        audit = Audit.begin(fleet.cluster)
        fleet.apply(the_policy(fleet, "2"))
        poll(lambda: tags(fleet).count("2") > 3, timeout=60)
        if kinds_first:
            new.install_kinds()
    left = tags(fleet).count("1")
    assert left > 3
    if not kinds_first:  # the operator and its rights come first
        new.install_rights()
    with new.operator() as successor:
        if kinds_first:
            new.install_rights()
        poll(lambda: tags(fleet).count("1") < left, timeout=60)
        if not kinds_first:
            new.install_kinds()
        fleet.wait("RolloutComplete", timeout=180)
        assert tags(fleet) == ["2"] * COUNT
        fleet.apply(the_policy(fleet, "3"))
        fleet.wait("RolloutComplete", timeout=180)
        assert tags(fleet) == ["3"] * COUNT
        # Two edits were two rollouts of each, and two writes: the exchange was none.
        assert rollouts(fleet) == {name: count + 2 for name, count in made.items()}
        assert audit.patches_of(fleet.namespace) == dict.fromkeys(NAMES, 2)
        assert "Traceback" not in successor.log
        fleet.delete_policy()


@pytest.mark.parametrize("kinds_first", [True, False], ids=["kinds-first", "operator-first"])
def test_an_upgrade_in_the_midst_of_a_rollout_rolls_nothing_twice(
    fleet: Fleet, before: Version, now: Version, kinds_first: bool
) -> None:
    exchange(fleet, before, now, kinds_first)


@pytest.mark.parametrize("kinds_first", [True, False], ids=["kinds-first", "operator-first"])
def test_going_back_in_the_midst_of_a_rollout_rolls_nothing_twice(
    fleet: Fleet, before: Version, now: Version, kinds_first: bool
) -> None:
    exchange(fleet, now, before, kinds_first)


def test_a_version_that_does_not_know_restarts_leaves_their_marks_where_they_are(
    fleet: Fleet, before: Version, now: Version
) -> None:
    """What was restarted for a configuration has a mark on its Pod template: to take it away would be a rollout."""
    now.install_kinds()
    now.install_rights()
    fleet.kubectl("apply", "--filename", str(ROOT / "deploy/base/restart-on/config-maps/access.yaml"))
    policy = the_policy(fleet, "1")
    policy["spec"]["restartOn"] = {"configMaps": ["proxy"]}
    some = NAMES[:4]

    def configure(level: str) -> None:
        metadata = {"name": "proxy", "namespace": fleet.namespace}
        fleet.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"level": level}})

    with now.operator():
        configure("info")
        fleet.apply(*(a_deployment(name, fleet.namespace) for name in some), policy)
        fleet.wait("RolloutComplete", timeout=120)
        poll(lambda: all('"ConfigMap/' in text for text in records(fleet)), timeout=30)
        configure("debug")
        poll(lambda: len(marks(fleet)) == len(some), timeout=120)
        fleet.wait("RolloutComplete", timeout=120)
    made, templates = rollouts(fleet), fleet.templates()
    del policy["spec"]["restartOn"]
    fleet.apply(policy)
    with before.operator():
        assert fleet.wait("RolloutComplete", timeout=120)["targets"]["updated"] == len(some)
        # It writes the records without what it does not know, and that is no rollout.
        poll(lambda: not any('"ConfigMap/' in text for text in records(fleet)), timeout=60)
        assert (rollouts(fleet), fleet.templates()) == (made, templates)
        fleet.apply(the_policy(fleet, "2"))
        fleet.wait("RolloutComplete", timeout=120)
        assert rollouts(fleet) == {name: count + 1 for name, count in made.items()}
        fleet.delete_policy()


def records(fleet: Fleet) -> list[str]:
    """The records of all Deployments."""
    return [each["metadata"].get("annotations", {}).get(names.RECORD, "") for each in fleet.deployments().values()]


def marks(fleet: Fleet) -> list[str]:
    """What the Pod templates say of restarts for a configuration, where they do."""
    annotations = [each["metadata"].get("annotations", {}) for each in fleet.templates().values()]
    return [text for each in annotations if (text := each.get(names.CONFIG))]
