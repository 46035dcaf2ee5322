"""Who is first and who is last: twenty Pods with our sidecar, and twenty with the same proxy as one more container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pykube
import pytest

import localcluster
from tests.builders import a_policy
from tests.fleet import init_names
from tests.node.lifecycle.records import Record
from tests.node.lifecycle.stage import MOUNT, VOLUME, Stage, a_deployment_of, a_stage, a_witness, as_sidecar
from tests.running import Operator

PODS = 20
PROXY_URL = "http://localhost:15000/"
# Not ready before three seconds have gone, and gone as soon as it is told.
PROXY = a_witness(
    "proxy",
    run="wait 3s; listen 15000; forever",
    readinessProbe={"httpGet": {"port": 15000, "path": "/ready"}, "periodSeconds": 1},
)
# Drains for two seconds, and needs its proxy until then. Forty of them start at once: a call that a busy machine delays
# has not failed, and one to a proxy that is not there is refused without delay.
APP = a_witness("app", term="wait 2s; exit 0", call=PROXY_URL)
APP["args"] += ["-every", "200ms", "-patience", "20s"]
POLICY_VOLUME = VOLUME | {"name": "records"}
POLICY_MOUNT = MOUNT | {"name": "records"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """The whole lives of twenty Pods each."""

    native: list[Record]
    """With our policy."""
    ordinary: list[Record]
    """The same proxy as an ordinary container, listed after the application."""


@pytest.fixture(scope="module")
def lives(
    lifecycle_node: localcluster.Cluster,
    node_api: pykube.HTTPClient,
    node_operator: Operator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lives]:
    """Both Deployments, started and deleted at the same time."""
    with a_stage(lifecycle_node, node_api, "order", tmp_path_factory.mktemp("records")) as stage:
        native = a_deployment_of("native", stage.namespace, APP)
        ordinary = a_deployment_of("ordinary", stage.namespace, APP, PROXY)
        ordinary["spec"]["template"]["metadata"]["labels"] = {"app": "ordinary"}  # no policy selects it
        for each in (native, ordinary):  # forty Pods end at once: on a busy machine the default 30 s may run out first
            each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 90
        proxy = as_sidecar(PROXY | {"volumeMounts": [POLICY_MOUNT]}, role="Proxy")
        stage.apply(native, ordinary)
        stage.apply(a_policy("web", stage.namespace, sidecars=[proxy], volumes=[POLICY_VOLUME]))
        stage.wait_for(lambda deployment: init_names(deployment) == ["proxy"], "native")
        run_through(stage, "native", "ordinary")
        yield Lives(native=stage.records("native"), ordinary=stage.records("ordinary"))


def run_through(stage: Stage, *names: str) -> None:
    """Start the Pods of these Deployments, all at once, and delete them when all are ready."""
    stage.kubectl("scale", "deployment", *names, f"--replicas={PODS}")
    for name in names:
        stage.wait_for(partial(all_ready, PODS), name, timeout=120)
    stage.kubectl("delete", "deployment", *names, "--cascade=foreground", "--timeout=120s")


def all_ready(count: int, deployment: dict[str, dict[str, int]]) -> bool:
    """Whether so many Pods of a Deployment are ready."""
    return deployment["status"].get("readyReplicas") == count


def test_with_our_policy_every_call_succeeds_from_the_first_to_the_last(lives: Lives) -> None:
    assert len(lives.native) == PODS
    for record in lives.native:
        assert len(record.calls) > 2
        assert record.failed == (), record
        assert record.told("proxy.start < proxy.listening < app.start < app.TERM < app.exit < proxy.TERM < proxy.exit")
        assert record.calls[-1].at > record.all("app", "TERM")[0].at


def test_with_an_ordinary_container_the_first_call_and_the_last_call_fail(lives: Lives) -> None:
    assert len(lives.ordinary) == PODS
    first = [record for record in lives.ordinary if record.calls[0] in record.failed]
    last = [record for record in lives.ordinary if record.calls[-1] in record.failed]
    assert len(first) >= 18, [str(record) for record in lives.ordinary]
    assert len(last) >= 18, [str(record) for record in lives.ordinary]
