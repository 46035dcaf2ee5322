"""Scenarios 37 to 45: the kubelet, the sandbox or the API server is stopped for a while.

They disturb the whole node: nothing else runs beside them.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pykube
import pytest

import localcluster
from localcluster import node_configs, packages
from tests.builders import Manifest
from tests.node.lifecycle.performing import act, end
from tests.node.lifecycle.scenarios import Part, PatchImage, Scenario, check, i, m, s
from tests.node.lifecycle.stage import OTHER_IMAGE, Stage, a_stage
from tests.node.lifecycle.watching import PodWatch
from tests.node.pods import container, is_ready
from tests.polling import poll

pytestmark = pytest.mark.long

READY = "/tmp/there"


@pytest.fixture
def calm(
    lifecycle_node: localcluster.Cluster, node_api: pykube.HTTPClient, tmp_path: Path
) -> Iterator[tuple[Stage, PodWatch]]:
    """A namespace and its watch; afterwards everything runs again."""
    with (
        a_stage(lifecycle_node, node_api, "outage", tmp_path) as stage,
        PodWatch(lifecycle_node.kubeconfig, stage.namespace) as watch,
    ):
        try:
            yield stage, watch
        finally:
            for component, runs in lifecycle_node.components.items():
                if not runs:
                    lifecycle_node.restart(component)


def started(stage: Stage, watch: PodWatch, scenario: Scenario) -> Manifest:
    """Create a scenario's Pod and wait until it is ready."""
    stage.kubectl("create", "--filename=-", input=json.dumps(scenario.pod()))
    return watch.wait(scenario.name, is_ready, timeout=60)


def ctr(*arguments: str) -> list[str]:
    """Run containerd's own client on the node; return the lines it printed."""
    command: list[str] = [
        str(packages.program("ctr")),
        f"--address={node_configs.SOCKET}",
        "--namespace=k8s.io",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.splitlines()


def containers_of(stage: Stage, pod: str, name: str = "") -> list[str]:
    """The ids of a Pod's containers as containerd knows them, its sandbox among them; or of the one called *name*."""
    labels = {"pod.namespace": stage.namespace, "pod.name": pod} | ({"container.name": name} if name else {})
    wanted = ",".join(f'labels."io.kubernetes.{key}"=={value}' for key, value in labels.items())
    return ctr("containers", "list", "--quiet", wanted)


def kill_everything_in(stage: Stage, pod: str) -> None:
    """End all containers of a Pod and its sandbox, as a reboot would."""
    ids = containers_of(stage, pod)
    running = {line.split()[0] for line in ctr("tasks", "list")[1:] if line.split()[2] == "RUNNING"}
    for each in ids:
        if each in running:
            ctr("tasks", "kill", "--signal=SIGKILL", each)


def four(number: str) -> Scenario:
    """i1 s2 i3 m, restarted always."""
    return Scenario(number=number, promise="", parts=(i("i1"), s("s2"), i("i3"), m()), restart="Always")


@pytest.mark.parametrize("new_image", [False, True], ids=["37", "38-new-image"])
def test_37_38_after_a_new_sandbox_everything_starts_again_in_order(
    calm: tuple[Stage, PodWatch], new_image: bool
) -> None:
    stage, watch = calm
    scenario = four("38" if new_image else "37")
    started(stage, watch, scenario)
    stage.cluster.kill("kubelet")
    kill_everything_in(stage, scenario.name)
    if new_image:
        act(stage, scenario, PatchImage(container="s2"))
    before = time.monotonic_ns()
    stage.cluster.restart("kubelet")
    again = "m.start < i1.start#2 < i1.exit#2 < s2.start#2 < i3.start#2 < i3.exit#2 < m.start#2"
    poll(partial(stage.record, scenario.name), until=lambda record: record.told(again), timeout=90)
    pod = watch.wait(scenario.name, lambda pod: is_ready(pod) and container(pod, "m")["restartCount"], timeout=60)
    assert container(pod, "m")["restartCount"] == 1
    assert not new_image or container(pod, "s2")["image"].endswith(OTHER_IMAGE)
    meanwhile = [sight.pod for sight in watch.history(scenario.name) if sight.at > before]
    assert any(not is_ready(each) for each in meanwhile)
    phases = [each["status"]["phase"] for each in meanwhile]
    end(stage, scenario.name)
    assert "Pending" in phases, phases


def test_39_a_new_image_while_the_kubelet_is_away_restarts_its_sidecar_only(calm: tuple[Stage, PodWatch]) -> None:
    stage, watch = calm
    scenario = four("39")
    started(stage, watch, scenario)
    stage.cluster.kill("kubelet")
    act(stage, scenario, PatchImage(container="s2"))
    stage.cluster.restart("kubelet")
    watch.wait(
        scenario.name,
        lambda pod: is_ready(pod) and container(pod, "s2")["image"].endswith(OTHER_IMAGE),
        timeout=60,
    )
    pod = watch.now(scenario.name)
    record = stage.record(scenario.name)
    end(stage, scenario.name)
    assert [container(pod, name)["restartCount"] for name in ("i1", "s2", "i3", "m")] == [0, 1, 0, 0]
    assert record.told("m.start < s2.TERM < s2.start#2")
    assert record.find("i1.start#2") is None


PROBE = check(f"need {READY}")
BOTH = ("startupProbe", "readinessProbe")
OLD = 11e9
"""Nanoseconds after which a new kubelet believes what the old one said of a container: its own bound is ten seconds."""


@pytest.mark.parametrize(
    ("probes", "old"),
    [((), True), (BOTH[:1], True), (BOTH[1:], True), (BOTH, True), (BOTH, False)],
    ids=["40-none", "41-startup", "42-readiness", "43-both", "43-young"],
)
def test_40_to_43_a_new_kubelet_restarts_nothing_and_believes_the_old_one_about_old_containers(
    calm: tuple[Stage, PodWatch], probes: tuple[str, ...], old: bool, request: pytest.FixtureRequest
) -> None:
    stage, watch = calm
    sidecar: Part = s("s1", f"touch {READY}; forever")
    sidecar.container.update(dict.fromkeys(probes, PROBE))
    number = request.node.callspec.id
    scenario = Scenario(number=number, promise="", parts=(sidecar, m()), restart="Always")
    started(stage, watch, scenario)
    if old:
        begun = stage.record(scenario.name).all("m", "start")[0].at
        poll(lambda: time.monotonic_ns() - begun > OLD)
    before = time.monotonic_ns()
    stage.cluster.kill("kubelet")
    stage.cluster.restart("kubelet")
    # It has looked at its old Pods when it has started a new one.
    started(stage, watch, Scenario(number=f"{number}-next", promise="", parts=(s("s1"), m()), restart="Always"))
    back = watch.wait(scenario.name, lambda pod: is_ready(pod) and container(pod, "s1")["started"], timeout=60)
    seen = [sight.pod for sight in watch.history(scenario.name) if sight.at > before] + [back]
    for name in (scenario.name, f"{scenario.name}-next"):
        end(stage, name)
    assert all(container(pod, name)["restartCount"] == 0 for pod in seen for name in ("s1", "m"))
    assert all(told == (True, True) for told in map(told_of_the_application, seen))
    if old:  # a younger one may be reported as not ready until its probes have succeeded again
        assert all(is_ready(pod) and container(pod, "s1")["started"] for pod in seen), seen
    record = stage.record(scenario.name)
    assert len(record.all("s1", "start")) == len(record.all("m", "start")) == 1


def told_of_the_application(pod: Manifest) -> tuple[bool, bool]:
    """Whether the kubelet says that m has started, and that it is ready."""
    told = container(pod, "m")
    return told["started"], told["ready"]


def test_44_init_containers_that_the_runtime_has_forgotten_are_not_run_again(calm: tuple[Stage, PodWatch]) -> None:
    stage, watch = calm
    scenario = Scenario(number="44", promise="", parts=(i("i1"), i("i2"), s("s1"), m()), restart="Always")
    started(stage, watch, scenario)
    stage.cluster.kill("kubelet")
    for name in ("i1", "i2"):
        for each in containers_of(stage, scenario.name, name):
            ctr("containers", "delete", each)
    stage.cluster.restart("containerd")  # it keeps its own memory of them
    stage.cluster.restart("kubelet")
    started(stage, watch, Scenario(number="44-next", promise="", parts=(s("s1"), m()), restart="Always"))
    pod, record = watch.now(scenario.name), stage.record(scenario.name)
    for name in (scenario.name, "scenario-44-next"):
        end(stage, name)
    assert containers_of(stage, scenario.name, "i1") == []
    assert [container(pod, name)["restartCount"] for name in ("s1", "m")] == [0, 0]
    assert record.find("i1.start#2") is None, record


def test_45_without_the_api_server_a_pod_goes_on_starting(calm: tuple[Stage, PodWatch]) -> None:
    stage, watch = calm
    slow = f"wait 1s; touch {READY}; forever"
    sidecars = [s(name, slow, startupProbe=check(f"need {READY}")) for name in ("s1", "s2", "s3")]
    scenario = Scenario(number="45", promise="", parts=(*sidecars, m()), restart="Always")
    stage.kubectl("create", "--filename=-", input=json.dumps(scenario.pod()))
    poll(lambda: stage.record(scenario.name).find("s1.start"), timeout=60)
    paused = time.monotonic_ns()
    stage.cluster.pause("kube-apiserver")
    try:
        begun = poll(lambda: stage.record(scenario.name).find("m.start"), timeout=60)
    finally:
        resumed = time.monotonic_ns()
        stage.cluster.resume("kube-apiserver")
    record = stage.record(scenario.name)
    assert begun and paused < begun.at < resumed
    assert record.told("s1.start < s1.touched#2 < s2.start < s2.touched#2 < s3.start < s3.touched#2 < m.start"), record
    watch.wait(scenario.name, is_ready, timeout=60)
    end(stage, scenario.name)
