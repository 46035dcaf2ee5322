"""What sidecars cost is told before anything moves, and an autoscaler that would stop keeps us away."""

from __future__ import annotations

from typing import Any

from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.polling import poll

QUICK = {"minReadySeconds": 0}


def asking_for(**requests: str) -> Manifest:
    """A container's resources."""
    return {"resources": {"requests": requests}}


def an_application(**fields: Any) -> Manifest:
    """The containers of a Pod, one that requests cpu."""
    return {"containers": [{"name": "app", "image": "example.test/app:1"} | asking_for(cpu="100m") | fields]}


def an_autoscaler(namespace: str, deployment: str = "cart") -> Manifest:
    """It scales the Deployment by the share of the requested cpu that all containers use."""
    target = {"type": "Utilization", "averageUtilization": 80}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"{deployment}-by-cpu", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def test_an_autoscaler_that_would_stop_keeps_a_sidecar_without_a_request_away(fleet: Fleet) -> None:
    fleet.apply(an_autoscaler(fleet.namespace))
    for name in ("cart", "other"):
        fleet.apply(a_deployment(name, fleet.namespace, pod=an_application()))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    status = fleet.wait("RolloutComplete")
    (skipped,) = status["skipped"]
    assert (skipped["reason"], skipped["examples"]) == ("BreaksAutoscaling", [f"{fleet.namespace}/cart"])
    assert "HorizontalPodAutoscaler 'cart-by-cpu' scales it by cpu utilization" in skipped["message"]
    assert "no cpu is requested by 'proxy'" in skipped["message"]
    assert (init_names(fleet.deployment()), init_names(fleet.deployment("other"))) == ([], ["proxy"])
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(container=asking_for(cpu="10m"))]))
    assert poll(lambda: fleet.wait("RolloutComplete")["targets"]["updated"] == 2)
    assert init_names(fleet.deployment()) == ["proxy"]


def test_when_its_autoscaler_has_gone_a_workload_joins_and_a_later_one_takes_nothing_away(fleet: Fleet) -> None:
    fleet.apply(an_autoscaler(fleet.namespace), a_deployment("cart", fleet.namespace, pod=an_application()))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    fleet.wait("AllSkipped")
    fleet.kubectl("delete", "horizontalpodautoscaler", "cart-by-cpu")
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment()) == ["proxy"]
    fleet.apply(an_autoscaler(fleet.namespace))
    other = a_sidecar(container={"image": "example.test/proxy:2"})
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[other]))
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "BreaksAutoscaling"
    assert [each["image"] for each in fleet.deployment()["spec"]["template"]["spec"]["initContainers"]] == [
        "example.test/proxy:1"
    ]


def warnings(fleet: Fleet) -> dict[str, tuple[int, str]]:
    """What the policy's status warns of: count and message, by reason."""
    return {each["reason"]: (each["count"], each["message"]) for each in fleet.status().get("warnings", [])}


def test_what_it_would_cost_is_told_while_nothing_moves(fleet: Fleet) -> None:
    everything = {"cpu": "100m", "memory": "64Mi"}
    guaranteed = an_application(
        resources={"requests": everything, "limits": everything},
        ports=[{"containerPort": 8080}],
        lifecycle={"preStop": {"sleep": {"seconds": 29}}},
    )
    for name in ("cart", "other"):
        fleet.apply(a_deployment(name, fleet.namespace, pod=guaranteed))
    before = fleet.templates()
    slow = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 10, "failureThreshold": 90}
    sidecar = a_sidecar(container=asking_for(cpu="150m") | {"startupProbe": slow})
    policy = a_policy("web", fleet.namespace, rollout=QUICK | {"paused": True}, sidecars=[sidecar])
    fleet.apply(policy)
    told = poll(lambda: warnings(fleet), until=lambda found: len(found) == 5 and found["QosChange"][0] == 2)
    where = f"{fleet.namespace}/cart: "
    assert told["GateProbesApplication"][1].startswith(
        f"{where}the startup probe of sidecar 'proxy' asks port 8080, which is that of container 'app'"
    )
    assert told["SlowStart"][1].startswith(
        f"{where}the startup probes may hold the application back for 900 s (proxy 900 s), and "
        "spec.rollout.progressDeadlineSeconds is 600"
    )
    assert told["ShortTermination"][1].startswith(
        f"{where}terminationGracePeriodSeconds is 30, but the application's preStop sleeps 29 s and the kubelet needs 2"
    )
    assert told["QosChange"][1].startswith(f"{where}its Pods change from Guaranteed to Burstable, because of sidecar")
    assert told["RequestsChange"] == (
        2,
        f"{where}each Pod will request cpu 100m → 250m; nodes and quota need room for that",
    )
    assert fleet.templates() == before
    policy["spec"]["rollout"]["paused"] = False
    policy["spec"]["sidecars"] = [a_sidecar(startup="WaitUntilStarted", container=asking_for(cpu="150m"))]
    fleet.apply(policy)
    fleet.wait("RolloutComplete")
    left = {"ShortTermination", "QosChange"}  # what stays true is told as long as it is
    assert poll(lambda: warnings(fleet), until=lambda found: set(found) == left)
