"""Rules about probes that ask another container of the Pod."""

from __future__ import annotations

from collections.abc import Iterator

from sidecarpolicy.lint.asking import addresses
from sidecarpolicy.lint.findings import Finding
from sidecarpolicy.lint.pods import Container, Moment, Path, Place, mapping
from sidecarpolicy.lint.roles import Roles

_HANDLERS = ("httpGet", "tcpSocket", "grpc")
_MOMENTS = {
    "startupProbe": Moment.STARTUP,
    "readinessProbe": Moment.READINESS,
    "livenessProbe": Moment.LIVENESS,
}


def foreign_probe(roles: Roles) -> Iterator[Finding]:
    """A container's health is made that of another one."""
    for container in roles.pod.containers:
        if container.place is Place.INIT:
            continue
        for probe in _MOMENTS:
            if container.place is Place.NATIVE and probe == "startupProbe":
                continue  # native-gate-foreign-port
            for owner, port, path, inner, certain in asked_of_others(roles, container, probe):
                alive = probe == "livenessProbe"
                yield Finding(
                    code="foreign-liveness" if alive else "foreign-readiness",
                    path=path,
                    inner=inner,
                    sure=certain,
                    message=f"the {_words(probe)} of container {container.name} asks port {port}, which is that of "
                    f"container {owner.name}" + (": it restarts the one when the other is ill" if alive else ""),
                    replacement=_instead(roles, container, owner, probe),
                )


def asked_of_others(roles: Roles, container: Container, probe: str) -> Iterator[tuple[Container, int, Path, int, bool]]:
    """Yield the other containers that *probe* of *container* asks: with port, path, line, and whether that is sure."""
    if roles.pod.spec.get("hostNetwork"):
        return
    declared = container.probe(probe)
    for handler in _HANDLERS:
        asked = mapping(declared.get(handler))
        port = container.port_of(asked.get("port"))
        if not port or asked.get("host"):
            continue
        owner = roles.pod.owner(port, container)
        if owner is not None and (port in owner.declared_ports or port not in container.ports):
            yield owner, port, (*container.path, probe, handler, "port"), 0, port in owner.declared_ports
    program = container.program(_MOMENTS[probe])
    for statement in program.script.reached() if program else ():
        for address in addresses(statement):
            owner = roles.pod.owner(address.port, container) if address.is_local else None
            if program is not None and owner is not None:
                certain = address.port in owner.declared_ports and program.script.readable
                yield owner, address.port, program.path, statement.line, certain


def _instead(roles: Roles, container: Container, owner: Container, probe: str) -> str:
    if probe == "livenessProbe":
        return (
            f"give {owner.name} a livenessProbe of its own; if {container.name} has to restart with it, see "
            "RestartAllContainers (Kubernetes 1.36 or newer)"
        )
    if probe == "startupProbe" and roles.is_sidecar(owner):
        return f"make {owner.name} a native sidecar with this as its own startupProbe"
    return f"give {owner.name} a readinessProbe of its own: a Pod is ready when all its containers are"


def _words(probe: str) -> str:
    return probe.removesuffix("Probe") + " probe"


RULES = (foreign_probe,)
