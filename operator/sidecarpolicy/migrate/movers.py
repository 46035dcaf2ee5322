"""Which containers become native sidecars, and where they come to stand: only where nothing speaks against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sidecarpolicy.lint.asking import killed, quit_call
from sidecarpolicy.lint.known import ARGO_HOOK, repository_of
from sidecarpolicy.lint.pods import Container, Moment, Path, Place, Pod, mapping, mappings, text
from sidecarpolicy.lint.roles import Roles, is_sentinel
from sidecarpolicy.lint.rules.health import asked_of_others
from sidecarpolicy.lint.rules.starting import waits_for_application
from sidecarpolicy.migrate.model import Move

_READ_ONLY = frozenset({"configMap", "secret", "projected", "downwardAPI", "image"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a container does not move: *path* in it, and a sentence with what to decide."""

    container: Container
    message: str
    path: Path = ()
    inner: int = 0
    code: str = ""


def obstacles(roles: Roles, container: Container) -> Iterator[Obstacle]:
    """Yield all that speaks against making a native sidecar of *container*."""
    if not roles.is_certain(container):
        hints = " and ".join(each.value for each in sorted(roles.hints[container.name], key=lambda each: each.name))
        yield Obstacle(
            container=container,
            message=f"{container.name} may be a sidecar ({hints}): if it is, move it to initContainers with "
            "restartPolicy: Always",
        )
        return
    pod = roles.pod
    hook = mapping(mapping(pod.body.get("metadata")).get("annotations")).get(ARGO_HOOK)
    if hook and hook != "Skip":
        yield Obstacle(
            container=container,
            code="native-in-hook",
            message=f"{pod.title} is a hook of Argo CD, which may strip restartPolicy: keep {container.name} as "
            "it is, or run the Job in a sync wave instead",
        )
    for found in roles.waits:
        starting = found.program.moment in {Moment.ENTRY, Moment.POST_START} and found.wait.until
        if found.container is container and starting and not found.file and waits_for_application(roles, found):
            yield Obstacle(
                container=container,
                code="sidecar-waits-for-application",
                path=found.program.path[len(container.path) :],
                inner=found.wait.statement.line,
                message=f"{container.name} waits for the application, which would start only after it: let it start "
                "without, then move it to initContainers",
            )
    if any(True for _ in asked_of_others(roles, container, "startupProbe")):
        yield Obstacle(
            container=container,
            code="foreign-readiness",
            path=("startupProbe",),
            message=f"the startup probe of {container.name} asks another container, which would start only after it",
        )
    for statement in program.script.reached() if (program := container.program(Moment.PRE_STOP)) else ():
        if quit_call(statement) is not None or killed(statement) is not None:
            yield Obstacle(
                container=container,
                code="native-prestop-ends",
                path=("lifecycle", "preStop"),
                message=f"the preStop hook of {container.name} ends it at once: drop the hook, or let it only begin to "
                "drain; as a native sidecar it gets SIGTERM after the application",
            )
            break


def moves(roles: Roles, moving: list[Container]) -> tuple[Move, ...]:
    """Return where each of *moving* goes, in the order in which they start: those that others wait for first."""
    ordered: list[Container] = []
    for container in moving:
        _visit(roles, container, moving, ordered, ())
    found: list[Move] = []
    least = 0
    for container in ordered:
        least = max(least, _earliest(roles.pod, container))
        found.append(Move(name=container.name, index=container.index, to=least))
    return tuple(found)


def _visit(
    roles: Roles, container: Container, moving: list[Container], ordered: list[Container], trail: tuple[str, ...]
) -> None:
    if container in ordered or container.name in trail:
        return
    for each in roles.waits:
        if (
            each.container is container
            and each.owner in moving
            and each.owner is not container
            and not is_sentinel(each)
        ):
            _visit(roles, each.owner, moving, ordered, (*trail, container.name))
    ordered.append(container)


def _earliest(pod: Pod, container: Container) -> int:
    """The first place at which *container* can start: behind leading native sidecars, and behind every plain init
    container that prepares something for it (a shared volume, the network), or that would be in its way (a second
    copy, the same port)."""
    listed = [each for each in pod.containers if each.place is not Place.REGULAR]
    place = 0
    while place < len(listed) and listed[place].place is Place.NATIVE:
        place += 1
    writable = _volumes(pod, container)
    for index, each in enumerate(listed):
        if each.place is Place.NATIVE:
            continue
        prepares = bool(writable & _volumes(pod, each)) or _sets_up_network(each)
        in_the_way = repository_of(each.image) == repository_of(container.image) or bool(each.ports & container.ports)
        if prepares or in_the_way:
            place = max(place, index + 1)
    return place


def _volumes(pod: Pod, container: Container) -> set[str]:
    """The volumes that a container mounts and somebody may write to."""
    declared = {text(each.get("name")): each for each in mappings(pod.spec.get("volumes"))}
    mounted = {text(each.get("name")) for each in mappings(container.body.get("volumeMounts"))}
    return {name for name in mounted if not _READ_ONLY & set(declared.get(name, {}))}


def _sets_up_network(container: Container) -> bool:
    security = mapping(container.body.get("securityContext"))
    added = mapping(security.get("capabilities")).get("add")
    return bool(security.get("privileged")) or (isinstance(added, list) and "NET_ADMIN" in added)
