"""What holds the application back, and what makes its Pod unready: the kubelet's own judgement."""

from __future__ import annotations

from functools import partial

import pytest

from tests.builders import Manifest, a_policy, a_sidecar
from tests.fleet import Fleet
from tests.node.pods import an_idle, an_idle_deployment, an_injected_pod, condition, container, is_ready, runs
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
NEVER = {"exec": {"command": ["false"]}, "periodSeconds": 1}
# Succeeds once the test says so.
WHEN_TOLD = {"exec": {"command": ["cat", "/tmp/go"]}, "periodSeconds": 1}


def a_gated_policy(fleet: Fleet, **sidecar: str) -> Manifest:
    """A policy whose sidecar becomes ready when the test says so."""
    gated = a_sidecar("gate", container=an_idle(readinessProbe=WHEN_TOLD), **sidecar)
    return a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[gated])


def unready_events(fleet: Fleet, pod: Manifest) -> list[str]:
    """What the kubelet says about failed probes of a Pod."""
    return fleet.messages(pod["metadata"]["name"], "Unhealthy")


def test_wait_until_ready_holds_the_application_back_until_the_probe_succeeds(fleet: Fleet) -> None:
    fleet.apply(an_idle_deployment("cart", fleet.namespace))
    fleet.apply(a_gated_policy(fleet, startup="WaitUntilReady"))
    pod = an_injected_pod(fleet, "cart", "gate", lambda pod: runs(pod, "gate"))
    # Kubernetes itself would have started the application by now: the sidecar runs, and its readiness was asked.
    poll(partial(unready_events, fleet, pod), until=lambda said: any("Startup probe failed" in each for each in said))
    held = an_injected_pod(fleet, "cart", "gate", lambda pod: runs(pod, "gate"))
    assert not container(held, "gate")["started"]
    assert container(held, "app")["state"]["waiting"]["reason"] == "PodInitializing"
    fleet.kubectl("exec", pod["metadata"]["name"], "--container=gate", "--", "touch", "/tmp/go")
    an_injected_pod(fleet, "cart", "gate", is_ready)
    fleet.wait("RolloutComplete")


def test_wait_until_started_does_not(fleet: Fleet) -> None:
    fleet.apply(an_idle_deployment("cart", fleet.namespace))
    fleet.apply(a_gated_policy(fleet, startup="WaitUntilStarted"))
    pod = an_injected_pod(fleet, "cart", "gate", lambda pod: runs(pod, "app"))
    assert container(pod, "gate")["started"]
    assert not container(pod, "gate")["ready"]


@pytest.mark.parametrize("choice", ["Exclude", "Include"])
def test_the_readiness_of_a_monitor_counts_for_the_pods_only_if_the_policy_says_so(fleet: Fleet, choice: str) -> None:
    monitor = a_sidecar("monitor", role="Monitor", podReadiness=choice, container=an_idle(readinessProbe=NEVER))
    fleet.apply(an_idle_deployment("cart", fleet.namespace))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[monitor]))
    if choice == "Exclude":
        an_injected_pod(fleet, "cart", "monitor", is_ready)
        fleet.wait("RolloutComplete")
    else:
        pod = an_injected_pod(fleet, "cart", "monitor", lambda pod: container(pod, "app").get("ready"))
        assert condition(pod, "ContainersReady")["message"] == "containers with unready status: [monitor]"
        poll(partial(unready_events, fleet, pod), until=lambda said: any("Readiness probe failed" in it for it in said))
        an_injected_pod(fleet, "cart", "monitor", lambda pod: not is_ready(pod))
