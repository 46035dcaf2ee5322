"""A bad revision among thirty Deployments: one notices it, its old Pods go on serving, and it is rolled back.

A client calls every Deployment's Service all the time, from the node. Everything about the policy is default but its
deadline.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pykube
import pytest

import localcluster
from tests import kube
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet
from tests.node.pods import BUSYBOX, an_idle, is_ready, pods
from tests.polling import poll
from tests.running import Operator

THIRTY = [f"app-{number:02}" for number in range(30)]
PORT = 8080
# Answers every call, and for two more seconds after it was asked to stop.
SERVE = (
    "mkdir -p /tmp/www && echo ok > /tmp/www/index.html && trap 'sleep 2; exit 0' TERM && "
    f"httpd -f -p {PORT} -h /tmp/www & wait"
)
QUOTA = "no-more-pods"


@dataclass(frozen=True, kw_only=True)
class Bad:
    """What is wrong with a revision, and what its failure must say. *gated*: it keeps the application from starting."""

    container: Manifest
    says: str
    gated: bool = True
    quota: bool = False


# It never gets so far: what is not ready holds the application back.
PROBED = {"readinessProbe": {"tcpSocket": {"port": 15001}}}
CRASH = {"command": ["sh", "-c", "echo cannot bind > /dev/termination-log; exit 3"]}
CASES = {
    "image": Bad(container={"image": "sidecarpolicy.local/missing:1"}, says="proxy: (ImagePullBackOff|ErrImagePull)"),
    "crash": Bad(container=CRASH | PROBED, says="proxy: CrashLoopBackOff.*exit code 3.*cannot bind"),
    "crash-without-a-probe": Bad(
        container=CRASH, says="proxy: CrashLoopBackOff.*exit code 3.*cannot bind", gated=False
    ),
    "gate": Bad(
        container={"startupProbe": {"exec": {"command": ["false"]}, "periodSeconds": 5, "failureThreshold": 20}},
        says="proxy: startup probe does not succeed",
    ),
    "secret": Bad(
        container={"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "token"}}}]},
        says='proxy: CreateContainerConfigError: .*"absent" not found',
    ),
    "request": Bad(container={"resources": {"requests": {"cpu": "1000"}}}, says="Insufficient cpu"),
    "quota": Bad(container={"env": [{"name": "ANOTHER", "value": "one"}]}, says=f"exceeded quota: {QUOTA}", quota=True),
}
IN_EVERY_RUN = ("image", "crash", "crash-without-a-probe")


@dataclass
class Calls:
    """How calls to each Service went."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)


def call(address: str) -> str:
    """Call a server once; return what is wrong with that, or nothing."""
    connection = http.client.HTTPConnection(address, PORT, timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return "" if answer.read() == b"ok\n" else f"answered {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


@contextmanager
def hammered(fleet: Fleet) -> Iterator[Calls]:
    """Call every Service of the fleet, one after the other, until the block ends."""
    services = json.loads(fleet.kubectl("get", "services", "--output=json").stdout)["items"]
    addresses = {each["metadata"]["name"]: each["spec"]["clusterIP"] for each in services}
    calls, stop = Calls(), threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            for name, address in addresses.items():
                if wrong := call(address):
                    calls.failed.append((name, wrong))
                else:
                    calls.answered[name] += 1
                stop.wait(0.003)

    thread = threading.Thread(target=hammer, daemon=True)
    thread.start()
    try:
        yield calls
    finally:
        stop.set()
        thread.join()


def a_server(name: str, namespace: str) -> Manifest:
    """A Deployment of one Pod that answers calls."""
    container: Manifest = {
        "name": "app",
        "image": BUSYBOX,
        "command": ["sh", "-c", SERVE],
        "ports": [{"containerPort": PORT}],
    }
    container["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    return a_deployment(name, namespace, pod={"containers": [container], "terminationGracePeriodSeconds": 10})


def a_service(name: str, namespace: str) -> Manifest:
    """The Service in front of it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": PORT}]},
    }


def a_quota(namespace: str) -> Manifest:
    """As many Pods as there are, and none more."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": QUOTA, "namespace": namespace},
        "spec": {"hard": {"pods": str(len(THIRTY))}},
    }


def a_policy_with(namespace: str, strategy: str = "Progressive", *, gives_up: int = 600, **container: Any) -> Manifest:
    """A policy with one idle sidecar, *container* of it changed; all else is default.

    *gives_up*: after so many seconds, which is no part of a revision: a good one may take its time on a busy machine.
    """
    return a_policy(
        "web",
        namespace,
        rollout={"strategy": strategy, "progressDeadlineSeconds": gives_up},
        sidecars=[a_sidecar("proxy", container=an_idle(**container))],
    )


@pytest.fixture(scope="module")
def thirty(node: localcluster.Cluster, node_api: pykube.HTTPClient, node_operator: Operator) -> Iterator[Fleet]:
    """Thirty Deployments that serve and have a good revision."""
    with kube.a_namespace(node_api, "thirty") as namespace:
        fleet = Fleet(node, namespace)
        fleet.apply(a_policy_with(namespace, "AllAtOnce"))
        fleet.apply(*(make(name, namespace) for name in THIRTY for make in (a_server, a_service)))
        poll(fleet.status, until=lambda status: status["targets"]["matched"] == len(THIRTY))
        fleet.wait("RolloutComplete", timeout=300)
        yield fleet


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in IN_EVERY_RUN else pytest.mark.long) for case in CASES]
)
def test_one_of_thirty_notices_and_is_rolled_back(thirty: Fleet, case: str) -> None:
    fleet, bad = thirty, CASES[case]
    fleet.apply(a_policy_with(fleet.namespace))
    good = fleet.wait("RolloutComplete", timeout=120)["updateRevision"]
    poll(lambda: all(len(pods(fleet, name)) == 1 for name in THIRTY), timeout=60)
    before = fleet.templates()
    if bad.quota:
        fleet.apply(a_quota(fleet.namespace))
    serving = {name: pods(fleet, name)[0]["metadata"]["uid"] for name in THIRTY}
    try:
        with hammered(fleet) as calls:
            fleet.apply(a_policy_with(fleet.namespace, gives_up=15, **bad.container))
            (touched,) = poll(lambda: [name for name, each in fleet.templates().items() if each != before[name]])
            hotfix = {"name": "HOTFIX", "value": case}
            fleet.kubectl("set", "env", f"deployment/{touched}", "--containers=app", f"HOTFIX={case}")
            status = fleet.wait("RolledBack", timeout=180)
            fleet.kubectl("delete", "resourcequota", QUOTA, "--ignore-not-found")
            fleet.wait_for(lambda back: sidecars(back["spec"]["template"]) == sidecars(before[touched]), touched)
            fleet.kubectl("rollout", "status", f"deployment/{touched}", "--timeout=60s")
            answered = calls.answered[touched]
            poll(lambda: calls.answered[touched] > answered + 20, timeout=60)
    finally:
        fleet.kubectl("delete", "resourcequota", QUOTA, "--ignore-not-found")
    assert [each for each in calls.failed if bad.gated or each[0] != touched] == []
    assert min(calls.answered[name] for name in THIRTY) > 20
    (failure,) = status["failures"]
    assert (failure["namespace"], failure["name"]) == (fleet.namespace, touched)
    assert failure["revision"] == status["updateRevision"] != good == status["currentRevision"]
    targets = status["targets"]
    assert (targets["failed"], targets["pending"]) == (1, len(THIRTY) - 1), targets
    assert re.search(bad.says, failure["message"])
    assert re.search(bad.says, fleet.condition("Ready")["message"])
    assert poll(lambda: [each for each in fleet.messages(touched, "RolloutFailed") if re.search(bad.says, each)])
    # Nobody else ever noticed, and the owner's hotfix is still there.
    after = fleet.templates()
    env = after[touched]["spec"]["containers"][0]["env"]
    assert hotfix in env
    assert sidecars(after[touched]) == sidecars(before[touched])
    assert {name: each for name, each in after.items() if name != touched} == {
        name: each for name, each in before.items() if name != touched
    }
    for name in set(THIRTY) - {touched}:
        assert [each["metadata"]["uid"] for each in pods(fleet, name) if is_ready(each)] == [serving[name]]


def sidecars(template: Manifest) -> list[Manifest]:
    """The sidecars of a Pod template."""
    found: list[Manifest] = template["spec"]["initContainers"]
    return found
