"""The manifests of the demo on a real kubelet: who starts first, who stops last, and that nobody notices a rollout."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pykube
import pytest

import localcluster
from deploy.demo import witness
from deploy.demo.following import Log
from tests import kube
from tests.builders import Manifest, a_deployment
from tests.fleet import Fleet
from tests.node.pods import BUSYBOX, injected, is_ready, pods
from tests.polling import poll
from tests.running import Operator

DEMO = Path(__file__).parents[2] / "deploy/demo"
END = 60.0
CALLS = """\
while :; do
  if wget -q -O /dev/null http://$CATALOG_SERVICE_HOST:$CATALOG_SERVICE_PORT/; then echo ok; else echo FAILED; fi
  sleep 0.02
done
"""


def manifest(name: str, namespace: str) -> str:
    """One file of the demo, for another namespace than shop."""
    text = (DEMO / name).read_text()
    return text.replace("namespace: shop", f"namespace: {namespace}").replace("name: shop", f"name: {namespace}")


@pytest.fixture(scope="module")
def shop(node: localcluster.Cluster, node_api: pykube.HTTPClient, node_operator: Operator) -> Iterator[Fleet]:
    """The demo's applications, with the policy rolled out."""
    with kube.a_namespace(node_api, "shop") as name:
        fleet = Fleet(node, name)
        fleet.kubectl("apply", "--filename=-", input=manifest("1-applications.yaml", name))
        fleet.kubectl("wait", "deployments", "--all", "--for=condition=Available", "--timeout=60s")
        for each in ("2-sidecars.yaml", "3-policy.yaml"):
            fleet.kubectl("apply", "--filename=-", input=manifest(each, name))
        fleet.wait("RolloutComplete", timeout=90)
        yield fleet


def follow(fleet: Fleet, pod: str, container: str) -> Log:
    """Read a container's log from its beginning until it ends: it goes with its Pod."""
    cluster = fleet.cluster
    process = subprocess.Popen(
        [
            *(str(cluster.kubectl_path), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={fleet.namespace}"),
            *("logs", "--follow", pod, f"--container={container}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Log(process, f"{container} in {pod}")


def life(fleet: Fleet, app: str, lines_of: str) -> witness.Life:
    """Delete the Pod of *app* and return its life; *lines_of* is the container that prints the application's lines."""
    (pod,) = (each["metadata"]["name"] for each in injected(fleet, app, "proxy"))
    logs = {container: follow(fleet, pod, container) for container in ("proxy", lines_of)}
    for log in logs.values():
        log.begun(END)
    fleet.kubectl("delete", "pod", pod, "--wait=false")
    application = logs[lines_of].whole(END)
    return witness.life_of(pod, application=witness.shipped(application) or application, proxy=logs["proxy"].whole(END))


@pytest.mark.parametrize(("app", "lines_of"), [("cart", "app"), ("orders", "logger")])
def test_the_proxy_is_ready_before_the_applications_first_line_and_answers_until_its_last(
    shop: Fleet, app: str, lines_of: str
) -> None:
    seen = life(shop, app, lines_of)
    assert seen.unanswered == ()
    assert seen.ready.at < seen.first.at
    assert seen.last.at < seen.stopping.at
    assert [line.text for line in seen.lines[-3:]] == [
        f"{what}: 7 in stock" for what in ("asked to stop", "finishing", "last line")
    ]
    shop.kubectl("rollout", "status", f"deployment/{app}", "--timeout=60s")


def ready_endpoints(fleet: Fleet, service: str) -> int:
    """How many addresses of a Service take traffic."""
    selector = f"kubernetes.io/service-name={service}"
    slices = fleet.get("endpointslices", version="discovery.k8s.io/v1", labelSelector=selector)["items"]
    return sum(endpoint["conditions"]["ready"] for each in slices for endpoint in each["endpoints"] or [])


def a_client(namespace: str) -> Manifest:
    """A Pod that calls catalog's Service all the time and prints how that went."""
    calling = {"name": "app", "image": BUSYBOX, "command": ["sh", "-c", CALLS]}
    made = a_deployment("client", namespace, pod={"containers": [calling], "terminationGracePeriodSeconds": 0})
    made["spec"]["template"]["metadata"]["labels"] = {"app": "client"}
    return made


def calls(fleet: Fleet) -> list[str]:
    """How each of the client's calls went."""
    return fleet.kubectl("logs", "deployment/client").stdout.splitlines()


def test_no_call_to_a_service_fails_while_a_new_image_rolls_out(shop: Fleet) -> None:
    shop.apply(a_client(shop.namespace))
    poll(partial(pods, shop, "client"), until=lambda some: some and is_ready(some[0]))
    poll(partial(calls, shop), until=lambda made: len(made) > 10)
    old = {each["metadata"]["name"] for each in pods(shop, "catalog")}
    before = len(calls(shop))
    edited = manifest("3-policy.yaml", shop.namespace).replace("caddy:1", "caddy:2")
    shop.kubectl("apply", "--filename=-", input=edited)
    fewest = ready_endpoints(shop, "catalog")

    def is_done(status: Manifest) -> bool:
        nonlocal fewest
        fewest = min(fewest, ready_endpoints(shop, "catalog"))
        return any(each["reason"] == "RolloutComplete" for each in status.get("conditions", []))

    poll(shop.status, until=is_done, timeout=90)
    # The old Pods still answer while they go; the calls go on until they are gone.
    remaining = partial(shop.kubectl, "get", "pods", "--selector=app=catalog", "--output=name")
    poll(remaining, until=lambda some: not any(name in some.stdout for name in old), timeout=60)
    made = calls(shop)
    assert fewest >= 2
    assert len(made) > before + 50
    assert "FAILED" not in made
