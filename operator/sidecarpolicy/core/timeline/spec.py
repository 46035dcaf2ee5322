"""What a Pod's specification says about the order of its containers, and in which words that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecarpolicy.core.timeline.model import Kind
from sidecarpolicy.core.tree import Json, at, items

LONGEST_COMMAND = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of a Pod.

    *gate*: what has to succeed after the process has begun until it counts as started; empty where nothing has to.
    *delay*: seconds before the startupProbe is first asked.
    """

    name: str
    kind: Kind
    image: str = ""
    gate: str = ""
    delay: float = 0.0
    readiness: str = ""
    pre_stop: bool = False

    @property
    def condition(self) -> str:
        """What the next container waits for, as words after "waits for"."""
        if self.kind is Kind.INIT:
            return f"{self.name} to end with exit code 0"
        if self.gate:
            return f"{self.name}'s {self.gate} to succeed"
        return f"{self.name}'s process to run"


def containers(pod: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return the containers in the order in which the kubelet starts them; ephemeral ones are left out."""
    spec = at(pod, "spec")
    before = [_container(each, _kind(each)) for each in items(spec, "initContainers")]
    return (*before, *(_container(each, Kind.APPLICATION) for each in items(spec, "containers")))


def _kind(container: Json) -> Kind:
    return Kind.SIDECAR if container.get("restartPolicy") == "Always" else Kind.INIT


def _container(container: Json, kind: Kind) -> Container:
    startup, readiness = at(container, "startupProbe"), at(container, "readinessProbe")
    parts = ["postStart"] if at(container, "lifecycle", "postStart") else []
    if startup:
        parts.append(f"startupProbe {probe_words(startup, container)}")
    return Container(
        name=str(container.get("name", "")),
        kind=kind,
        image=str(container.get("image", "")),
        gate=" and ".join(parts),
        delay=float(startup.get("initialDelaySeconds") or 0),
        readiness=f"readinessProbe {probe_words(readiness, container)}" if readiness else "",
        pre_stop=bool(at(container, "lifecycle", "preStop")),
    )


def probe_words(probe: Json, container: Json) -> str:
    """Write what a probe asks: `GET :15000/ready`, `TCP :5432`, `gRPC :9090`, `exec cat /ready`."""
    if http := at(probe, "httpGet"):
        scheme = "https " if str(http.get("scheme", "")).upper() == "HTTPS" else ""
        return f"GET {scheme}{http.get('host') or ''}:{_port(http, container)}{http.get('path') or '/'}"
    if tcp := at(probe, "tcpSocket"):
        return f"TCP {tcp.get('host') or ''}:{_port(tcp, container)}"
    if grpc := at(probe, "grpc"):
        return f"gRPC :{grpc.get('port')}" + (f" {grpc['service']}" if grpc.get("service") else "")
    command = " ".join(str(word) for word in at(probe, "exec").get("command") or [])
    return "exec " + (command if len(command) <= LONGEST_COMMAND else command[: LONGEST_COMMAND - 1] + "…")


def _port(handler: Json, container: Json) -> object:
    port = handler.get("port")
    named = {each.get("name"): each.get("containerPort") for each in items(container, "ports")}
    return named.get(port, port)
