"""Pods as the kubelet reports them, and containers that do as little as a test needs."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.builders import Manifest, a_deployment
from tests.fleet import Fleet
from tests.polling import poll

BUSYBOX = "sidecarpolicy.local/busybox:1"
# Runs until it is told to stop, and then stops at once.
IDLE = ["sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"]


def an_idle(**fields: Any) -> Manifest:
    """Fields of a container that does nothing; *fields* replace some."""
    return {"image": BUSYBOX, "command": IDLE} | fields


def an_idle_deployment(name: str, namespace: str, **changes: Any) -> Manifest:
    """A Deployment of one Pod that does nothing and stops at once; *changes* as for `a_deployment`."""
    return a_deployment(name, namespace, pod={"containers": [{"name": "app", **an_idle()}]}, **changes)


def pods(fleet: Fleet, app: str) -> list[Manifest]:
    """The Pods of a Deployment that are not on their way out."""
    found = fleet.get("pods", labelSelector=f"app={app}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def injected(fleet: Fleet, app: str, sidecar: str) -> list[Manifest]:
    """Those that have the sidecar."""
    return [
        pod
        for pod in pods(fleet, app)
        if any(each["name"] == sidecar for each in pod["spec"].get("initContainers", []))
    ]


def container(pod: Manifest, name: str) -> Manifest:
    """What the kubelet says about one of its containers, of either list; empty before it says anything."""
    status = pod["status"]
    found = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return next((each for each in found if each["name"] == name), {})


def runs(pod: Manifest, name: str) -> bool:
    """Whether one of its containers is running."""
    return "running" in container(pod, name).get("state", {})


def is_ready(pod: Manifest) -> bool:
    """Whether the Pod is ready."""
    return condition(pod, "Ready").get("status") == "True"


def condition(pod: Manifest, kind: str) -> Manifest:
    """One condition of a Pod; empty while there is none."""
    return next((each for each in pod["status"].get("conditions", []) if each["type"] == kind), {})


def an_injected_pod(fleet: Fleet, app: str, sidecar: str, until: Any, *, timeout: float = 30) -> Manifest:
    """Wait until the one Pod of *app* with the sidecar is as *until* says; return it."""
    found = poll(
        partial(injected, fleet, app, sidecar), until=lambda some: len(some) == 1 and until(some[0]), timeout=timeout
    )
    return found[0]
