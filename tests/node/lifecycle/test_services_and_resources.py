"""Scenarios 46 to 50: what Services, quotas, admission and other containers see of a sidecar."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial

import pytest

from localcluster.errors import KubectlError
from tests.builders import Manifest, a_policy
from tests.fleet import init_names
from tests.node.lifecycle.performing import end
from tests.node.lifecycle.scenarios import RECORDS, Scenario, i, m, pre_stop, s
from tests.node.lifecycle.stage import MOUNT, Stage, a_deployment_of, a_quiet_check, a_witness, as_sidecar
from tests.node.lifecycle.watching import PodWatch
from tests.node.pods import condition, container, pods, runs
from tests.polling import poll

pytestmark = pytest.mark.long

PORT = 15000
URL = f"http://localhost:{PORT}/"


@pytest.fixture
def watch(stage: Stage) -> Iterator[PodWatch]:
    """The Pods of the test's namespace."""
    with PodWatch(stage.cluster.kubeconfig, stage.namespace) as watching:
        yield watching


def create(stage: Stage, manifest: Manifest) -> Manifest:
    """Create something and return what the server made of it; Pods without our finalizer."""
    manifest["metadata"].pop("finalizers", None)
    made: Manifest = json.loads(
        stage.kubectl("create", "--output=json", "--filename=-", input=json.dumps(manifest)).stdout
    )
    return made


def a_service(name: str, target: int | str) -> Manifest:
    """A Service in front of the sidecar of cart, by number or by name of its port."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "cart"}, "ports": [{"port": 80, "targetPort": target}]},
    }


def takes_traffic(stage: Stage, service: str) -> bool:
    """Whether a Service has a ready endpoint on the sidecar's port."""
    selector = f"kubernetes.io/service-name={service}"
    slices = stage.get("endpointslices", version="discovery.k8s.io/v1", labelSelector=selector)["items"]
    return any(
        endpoint["conditions"]["ready"] and [port["port"] for port in each["ports"]] == [PORT]
        for each in slices
        for endpoint in each["endpoints"] or []
    )


def answers(address: str, port: int) -> bool:
    """Whether an HTTP request is answered."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_46_a_services_endpoint_follows_the_sidecars_readiness_and_serves_during_the_grace_period(stage: Stage) -> None:
    proxy = a_witness(
        "proxy",
        run=f"listen {PORT}; touch /tmp/ready; forever",
        ports=[{"name": "web", "containerPort": PORT}],
        readinessProbe=a_quiet_check("need /tmp/ready") | {"periodSeconds": 1, "failureThreshold": 1},
        volumeMounts=[MOUNT | {"name": "records"}],
    )
    services: dict[str, int | str] = {"by-number": PORT, "by-name": "web"}
    stage.apply(
        a_deployment_of("cart", stage.namespace, a_witness("app", term="wait 5s; exit 0")),
        *(a_service(name, target) for name, target in services.items()),
    )
    sidecars = [as_sidecar(proxy, role="Proxy")]
    stage.apply(a_policy("web", stage.namespace, sidecars=sidecars, volumes=[RECORDS]))
    stage.wait_for(lambda deployment: init_names(deployment) == ["proxy"])
    stage.kubectl("scale", "deployment", "cart", "--replicas=1")
    for name in services:
        poll(partial(takes_traffic, stage, name))
    addresses = {name: stage.get(f"services/{name}")["spec"]["clusterIP"] for name in services}
    for address in addresses.values():
        poll(partial(answers, address, 80))
    (pod,) = (each["metadata"]["name"] for each in pods(stage, "cart"))
    stage.kubectl("exec", pod, "--container=proxy", "--", "rm", "/tmp/ready")
    for name in services:
        poll(partial(takes_traffic, stage, name), until=lambda it: not it)
    stage.kubectl("exec", pod, "--container=proxy", "--", "touch", "/tmp/ready")
    for name in services:
        poll(partial(takes_traffic, stage, name))
    stage.kubectl("scale", "deployment", "cart", "--replicas=0")
    poll(lambda: stage.record(pod).find("app.TERM"))
    served = [answers(address, 80) for address in addresses.values()]
    assert stage.record(pod).find("app.exit") is None, "too slow to tell: the application had ended already"
    assert served == [True, True]


def a_pod_with_requests(number: str, *order: str) -> Manifest:
    """A Pod of a sidecar s (100m), an init container i (200m) and m (100m), the first two in that order."""
    cpu = {"s": "100m", "i": "200m", "m": "100m"}
    made = {
        "s": s("s", f"listen {PORT}; forever", resources={"requests": {"cpu": cpu["s"]}}),
        "i": i("i", "wait 200ms; exit 0", call=URL, resources={"requests": {"cpu": cpu["i"]}}),
    }
    main = m(resources={"requests": {"cpu": cpu["m"]}})
    return Scenario(number=number, promise="", parts=(*(made[each] for each in order), main)).pod()


def a_quota(name: str, **hard: str) -> Manifest:
    """A ResourceQuota for the CPU that Pods request."""
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}


def used(stage: Stage, quota: str) -> str:
    """How much of a quota's CPU is in use."""
    found = stage.get(f"resourcequotas/{quota}")
    amount: str = found.get("status", {}).get("used", {}).get("requests.cpu", "")
    return amount


def test_47_overhead_defaults_and_quota_count_the_sidecar(stage: Stage) -> None:
    runtime = f"light-{stage.namespace}"
    create(
        stage,
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": runtime},
            "handler": "runc",
            "overhead": {"podFixed": {"cpu": "50m"}},
        },
    )
    limits = [{"type": "Container", "defaultRequest": {"cpu": "30m"}}]
    create(
        stage,
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "defaults"}, "spec": {"limits": limits}},
    )
    create(stage, a_quota("cpu", **{"requests.cpu": "250m"}))
    poll(partial(used, stage, "cpu"))
    try:
        plain = Scenario(number="47", promise="", parts=(s("s1"), m())).pod()
        plain["spec"]["runtimeClassName"] = runtime
        made = create(stage, plain)
        assert made["spec"]["overhead"] == {"cpu": "50m"}
        assert made["spec"]["initContainers"][0]["resources"]["requests"] == {"cpu": "30m"}
        poll(partial(used, stage, "cpu"), until=lambda cpu: cpu == "110m")
        stage.kubectl("delete", "pod", made["metadata"]["name"], "--grace-period=1")
        poll(partial(used, stage, "cpu"), until=lambda cpu: cpu == "0")
        with pytest.raises(KubectlError, match=r"exceeded quota: cpu, requested: requests\.cpu=300m"):
            create(stage, a_pod_with_requests("47-refused", "s", "i"))
        create(stage, a_pod_with_requests("47-taken", "i", "s"))
    finally:
        stage.kubectl("delete", "runtimeclass", runtime)


def test_48_without_its_restart_policy_a_sidecar_holds_its_pod_for_ever_unless_it_is_sealed(
    stage: Stage, watch: PodWatch
) -> None:
    sealed = Scenario(number="48-sealed", promise="", parts=(s("s1", gate=False), m())).pod()
    assert sealed["spec"]["initContainers"][0].pop("restartPolicy") == "Always"
    with pytest.raises(KubectlError, match="lifecycle: Forbidden: may not be set for init containers without"):
        create(stage, sealed)
    probed = json.loads(json.dumps(sealed))
    probed["spec"]["initContainers"][0] |= {"startupProbe": a_quiet_check("need /"), "lifecycle": None}
    with pytest.raises(KubectlError, match="startupProbe: Forbidden: may not be set for init containers without"):
        create(stage, probed)
    sealed["spec"]["initContainers"][0].pop("lifecycle")
    name = create(stage, sealed)["metadata"]["name"]
    held = watch.wait(name, lambda pod: runs(pod, "s1"), timeout=60)
    assert held["status"]["phase"] == "Pending"
    assert condition(held, "Initialized")["message"] == "containers with incomplete status: [s1]"
    assert container(held, "m")["state"]["waiting"]["reason"] == "PodInitializing"
    assert "m.start" not in str(stage.record(name))
    end(stage, name)


def test_49_a_sidecar_that_crashes_while_its_pod_ends_is_not_restarted(stage: Stage, watch: PodWatch) -> None:
    parts = (
        s("s", f"listen {PORT}; forever", gate=False, startupProbe={"tcpSocket": {"port": PORT}, "periodSeconds": 1}),
        m(call=URL, lifecycle=pre_stop("m", "wait 6s; exit 0"), term="wait 1s; exit 0"),
    )
    pod = Scenario(number="49", promise="", parts=parts, restart="Always").pod()
    stage.kubectl("create", "--filename=-", input=json.dumps(pod))
    name = pod["metadata"]["name"]
    try:
        running = watch.wait(name, lambda pod: runs(pod, "m"), timeout=60)
        poll(lambda: stage.record(name).find("m.call-ok"))
        stage.kubectl("delete", "pod", name, "--wait=false")
        poll(lambda: stage.record(name).find("m/preStop.start"))

        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"http://{running['status']['podIP']}:{PORT}/exit/1", timeout=2)
        ended = watch.wait(name, lambda pod: "terminated" in container(pod, "m")["state"], timeout=60)
    finally:
        end(stage, name)
    record = stage.record(name)
    assert record.told("m.start < m/preStop.start < s.exit < m/preStop.exit < m.TERM < m.exit"), record
    assert record.find("s.start#2") is None, record
    assert container(ended, "s")["restartCount"] == 0
    crashed = record.all("s", "exit")[0].at
    assert all(call in record.failed for call in record.calls if call.at > crashed + 1e9)
    assert not any(call in record.failed for call in record.calls if call.at < crashed - 1e9)
    assert record.calls[-1] in record.failed


@pytest.mark.parametrize(("order", "requests", "seen"), [("si", "300m", True), ("is", "200m", False)])
def test_50_the_order_decides_what_the_pod_requests_and_whom_the_init_container_can_call(
    stage: Stage, watch: PodWatch, order: str, requests: str, seen: bool
) -> None:
    create(stage, a_quota("cpu", **{"requests.cpu": "2"}))
    poll(partial(used, stage, "cpu"))
    name = create(stage, a_pod_with_requests(f"50-{order}", *order))["metadata"]["name"]
    poll(partial(used, stage, "cpu"), until=lambda cpu: cpu == requests)
    watch.wait(name, lambda pod: runs(pod, "m"), timeout=60)
    calls = stage.record(name).calls
    assert calls
    assert all((call.what == "call-ok") == seen for call in calls), stage.record(name)


def oom_score(stage: Stage, pod: str, name: str) -> int:
    """How willingly the kernel ends a container when memory runs out: 1000 is first."""
    said = stage.kubectl("exec", pod, f"--container={name}", "--", "cat", "/proc/1/oom_score_adj").stdout
    return int(said)


def test_a_sidecar_is_no_likelier_to_be_killed_for_memory_than_its_application(stage: Stage, watch: PodWatch) -> None:
    small = s("s1", resources={"requests": {"memory": "10Mi"}})
    pod = Scenario(number="oom", promise="", parts=(small, m(resources={"requests": {"memory": "2Gi"}}))).pod()
    name = create(stage, pod)["metadata"]["name"]
    running = watch.wait(name, lambda pod: runs(pod, "m"), timeout=60)
    assert running["status"]["qosClass"] == "Burstable"
    assert oom_score(stage, name, "s1") <= oom_score(stage, name, "m")


def test_a_sidecar_without_limits_makes_a_guaranteed_pod_burstable(stage: Stage) -> None:
    same = {"cpu": "10m", "memory": "10Mi"}
    guaranteed: Manifest = {"requests": same, "limits": same}
    classes = {}
    for number, resources in (("qos-same", guaranteed), ("qos-none", {})):
        parts = (s("s1", resources=resources), m(resources=guaranteed))
        made = create(stage, Scenario(number=number, promise="", parts=parts).pod())
        classes[number] = made["status"]["qosClass"]
    assert classes == {"qos-same": "Guaranteed", "qos-none": "Burstable"}
