"""What holds the others back until a sidecar is ready: a startup probe, where one is certain to succeed.

The kubelet asks from outside of the Pod, so that a port answers on localhost is no proof that a probe of it succeeds.
Proof is a probe that the container has already, the endpoint of a known proxy, or a command that the container itself
runs already. And a gate must not depend on the application, which starts only behind it: proof is that somebody waits
for the sidecar now.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint.asking import Address
from sidecarpolicy.lint.known import KnownSidecar, known
from sidecarpolicy.lint.pods import Container, Moment, Place, mapping
from sidecarpolicy.lint.roles import PodWait, Roles
from sidecarpolicy.lint.rules.health import asked_of_others
from sidecarpolicy.lint.shell import Kind

PERIOD = 1
FAILURES = 120
_HANDLERS = ("httpGet", "tcpSocket", "grpc", "exec")
_KEPT = (*_HANDLERS, "timeoutSeconds", "terminationGracePeriodSeconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A startup *probe* for a container (None: it has a gate already), and where it was taken from."""

    probe: Json | None
    source: str


def has_gate(container: Container) -> bool:
    """Whether a native sidecar already holds back what comes after it."""
    return bool(container.probe("startupProbe")) or bool(container.hook("postStart"))


def gate(roles: Roles, container: Container) -> Gate | None:
    """Return the gate of *container* as a native sidecar; None where none is certain."""
    if container.probe("startupProbe"):
        return Gate(probe=None, source="its own startup probe")
    waited = [each for each in roles.waits if each.owner is container and each.wait.until and not each.file]
    own = next((each for each in waited if each.container is container and _is_hook(each)), None)
    others = [each for each in waited if each.container is not container]
    if own is not None and (probe := _of_hook(own)):
        return Gate(probe=probe, source="the condition of its postStart hook")
    readiness = container.probe("readinessProbe")
    proxy = known(container.image)
    if readiness and not any(True for _ in asked_of_others(roles, container, "readinessProbe")):
        asked = [each.address for each in others]
        if own is not None or (asked and (proxy is not None or any(_asks(container, each) for each in asked))):
            return Gate(probe=_startup(readiness), source="its readiness probe")
    if (own is not None or others) and proxy is not None and proxy.ready_port:
        return Gate(probe=_of_known(proxy), source="the readiness endpoint of its image")
    if (found := _of_port(container, others)) is None and own is not None:
        return Gate(probe=None, source="its own postStart hook")
    return found


def _is_hook(found: PodWait) -> bool:
    return found.program.moment is Moment.POST_START


def _of_port(container: Container, others: list[PodWait]) -> Gate | None:
    """What is waited for is a port that a liveness probe of the container asks already, so a probe reaches it."""
    liveness = container.probe("livenessProbe")
    for each in others:
        if each.address is not None and liveness and _asked_port(container, liveness) == each.address.port:
            return Gate(probe=_of_address(each.address), source="what is waited for, at a port that its probes reach")
    return None


def _asks(container: Container, address: Address | None) -> bool:
    """Whether the readiness probe asks what another container waits for."""
    readiness = container.probe("readinessProbe")
    if address is None or _asked_port(container, readiness) != address.port:
        return False
    path = mapping(readiness.get("httpGet")).get("path", "/")
    return "httpGet" not in readiness or address.scheme == "tcp" or path == (address.path or "/")


def _asked_port(container: Container, probe: Json) -> int:
    return next((container.port_of(mapping(probe.get(each)).get("port")) for each in _HANDLERS if each in probe), 0)


def _of_address(address: Address) -> Json:
    if address.scheme in {"http", "https"}:
        asked = {"path": address.path or "/", "port": address.port}
        if address.scheme == "https":
            asked["scheme"] = "HTTPS"
        return _startup({"httpGet": asked})
    return _startup({"grpc" if address.scheme == "grpc" else "tcpSocket": {"port": address.port}})


def _of_known(proxy: KnownSidecar) -> Json:
    return _startup({"httpGet": {"path": proxy.ready_path, "port": proxy.ready_port}})


def _of_hook(found: PodWait) -> Json | None:
    """The condition of a loop in the container's own hook: it has the shell and the tools that are asked for."""
    program, loop = found.program, found.wait.statement
    if program.script_at is None or loop.embedded or loop.bounded or len(loop.condition) != 1:
        return None
    (condition,) = loop.condition
    if not loop.until:
        if condition.kind is not Kind.NOT or len(condition.body) != 1:
            return None
        (condition,) = condition.body
    if condition.kind is not Kind.COMMAND:
        return None
    text = program.script.text[condition.start : condition.end]
    if "$" in text:
        return None
    return _startup({"exec": {"command": [*program.argv[: program.script_at], text]}})


def _startup(probe: Json) -> Json:
    """A probe as a startup probe: asked every second, for two minutes."""
    kept = {name: deepcopy(value) for name, value in probe.items() if name in _KEPT}
    return {**kept, "periodSeconds": PERIOD, "failureThreshold": FAILURES}


def gated(roles: Roles, gates: dict[str, Gate | None]) -> frozenset[str]:
    """Return the names of those that hold others back: what gets a gate, and native sidecars that have one."""
    already = {each.name for each in roles.pod.containers if each.place is Place.NATIVE and has_gate(each)}
    return frozenset(already | {name for name, found in gates.items() if found is not None})
