"""Who in a Pod is the application, and who its sidecar: found by what containers do to each other, and by what is
known of images and names.

A single hint makes a container a likely sidecar; two of different kinds, a known image or a declaration make it a
certain one. A Pod always has an application: where everything looks like a sidecar, nothing is one by its looks. What
the workload is named after is no sidecar by its looks (Fluent Bit in a DaemonSet fluent-bit, whatever stands beside
it), and neither is what runs the application's own image (the agents of Datadog).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from sidecarpolicy.lint.asking import Address, ended_by_pipe, killed, made_files, quit_call
from sidecarpolicy.lint.known import DEFAULT_CONTAINER, MESH_PORTS, SIDECAR_NAME, known, repository_of
from sidecarpolicy.lint.pods import Container, Moment, Place, Pod, Program, mappings, text
from sidecarpolicy.lint.shell import Statement, Step
from sidecarpolicy.lint.waits import Wait, waits


class Hint(Enum):
    """Why a container looks like a sidecar."""

    DECLARED = "it has restartPolicy: Always"
    IMAGE = "its image is that of a sidecar"
    WAITED_FOR = "another container waits for it"
    ENDED = "another container ends it"
    SENTINEL = "it waits for another container's end"
    NAME = "its name is that of a sidecar"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWait:
    """A *container* waits, in a *program*, for something in its Pod.

    *owner*: the container that it waits for, None where none of the manifest is known to be. *mesh*: whose proxy a
    webhook injects there. *address* or *file*: what it waits for; neither where the tool knows itself.
    """

    container: Container
    program: Program
    wait: Wait
    owner: Container | None = None
    mesh: str = ""
    address: Address | None = None
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A *container* ends another one, *victim*: by calling *address*, or by a signal to *process*."""

    container: Container
    program: Program
    step: Step
    statement: Statement
    victim: Container | None = None
    address: Address | None = None
    process: str = ""


class Roles:
    """The Pod and all that was found out about who is who in it."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.waits = tuple(_pod_waits(pod))
        self.endings = tuple(_endings(pod))

    @cached_property
    def hints(self) -> dict[str, frozenset[Hint]]:
        """Return, by name of a regular container, why it looks like a sidecar; the applications are not in it."""
        pod = self.pod
        found = {each.name: frozenset(self._hints_of(each)) for each in pod.regular}
        if all(Hint.DECLARED in hints for hints in found.values()):  # then it says nothing
            found = {name: hints - {Hint.DECLARED} for name, hints in found.items()}
        found = {name: hints for name, hints in found.items() if hints}
        default = text(pod.annotations.get(DEFAULT_CONTAINER))
        if Hint.DECLARED not in found.get(default, frozenset()):
            found.pop(default, None)
        if len(found) == len(pod.regular):
            weakest = min(len(hints) for hints in found.values())
            first = next(name for name, hints in found.items() if len(hints) == weakest)
            found.pop(first)
        own = {repository_of(each.image) for each in pod.regular if each.name not in found}
        for each in pod.regular:
            if each.name in found and repository_of(each.image) in own:
                found[each.name] -= {Hint.IMAGE}
        return {name: hints for name, hints in found.items() if hints}

    def is_sidecar(self, container: Container) -> bool:
        """Whether *container* is a sidecar, native or likely to be one."""
        return container.place is Place.NATIVE or (container.place is Place.REGULAR and container.name in self.hints)

    def is_certain(self, container: Container) -> bool:
        """Whether *container* is a sidecar without doubt."""
        if container.place is not Place.REGULAR:
            return container.place is Place.NATIVE
        hints = self.hints.get(container.name, frozenset())
        return len(hints) > 1 or bool(hints & {Hint.DECLARED, Hint.IMAGE})

    @property
    def old_sidecars(self) -> tuple[Container, ...]:
        """Return the sidecars among the regular containers."""
        return tuple(each for each in self.pod.regular if self.is_sidecar(each))

    @property
    def applications(self) -> tuple[Container, ...]:
        """Return the regular containers that are no sidecars."""
        return tuple(each for each in self.pod.regular if not self.is_sidecar(each))

    @cached_property
    def _namesakes(self) -> list[Container]:
        """The container that the workload is named after; none where it is named after several, or after a sidecar."""
        whole = f"-{self.pod.name}-"
        found = [
            each for each in self.pod.regular if whole.startswith(part := f"-{each.name}-") or whole.endswith(part)
        ]
        return found if len(found) == 1 and "sidecar" not in found[0].name else []

    def _looks(self, container: Container) -> list[Hint]:
        """Why a regular container looks like a sidecar, whatever the others do."""
        if container in self._namesakes or container.place is not Place.REGULAR:
            return []
        named = SIDECAR_NAME.fullmatch(container.name) is not None
        return [Hint.IMAGE] * (known(container.image) is not None) + [Hint.NAME] * named

    def _hints_of(self, container: Container) -> Iterator[Hint]:
        if container.body.get("restartPolicy") == "Always":
            yield Hint.DECLARED
        yield from self._looks(container)
        waiters = [
            each.container for each in self.waits if each.owner is container and each.wait.until and not each.file
        ]
        # A sidecar may wait for the application: who is waited for by sidecars only, and looks like none, is none.
        if waiters and (self._looks(container) or not all(self._looks(each) for each in waiters)):
            yield Hint.WAITED_FOR
        if any(each.victim is container for each in self.endings):
            yield Hint.ENDED
        if any(each.container is container and is_sentinel(each) for each in self.waits):
            yield Hint.SENTINEL


def is_sentinel(found: PodWait) -> bool:
    """Whether a container waits for a file by which another one says that it has ended, to end too."""
    if not found.file or found.program.moment is not Moment.ENTRY or found.container.place is Place.INIT:
        return False
    steps = [each.statement for each in found.program.script.steps()]
    place = next((index for index, each in enumerate(steps) if each is found.wait.step.statement), 0)
    after = steps[place + 1 :]
    ends = [each for each in after if each.name in {"kill", "pkill", "killall", "exit"} or quit_call(each)]
    last = bool(after) and all(each.name in {"kill", "pkill", "killall", "exit", "echo", "wait"} for each in after)
    return (
        found.wait.until
        and (found.wait.after_background or found.wait.step.background)
        and (not after or last or bool(ends))
    )


def shared_file(pod: Pod, container: Container, path: str) -> tuple[str, str] | None:
    """Return the emptyDir that holds *path* in *container*, and the path in it; None where no emptyDir does."""
    mounts = [
        (text(each.get("mountPath")).rstrip("/"), text(each.get("name")), text(each.get("subPath")))
        for each in mappings(container.body.get("volumeMounts"))
    ]
    holding = [each for each in mounts if each[0] and (path == each[0] or path.startswith(f"{each[0]}/"))]
    if not holding:
        return None
    mounted, volume, sub = max(holding, key=lambda each: len(each[0]))
    empty = any(
        text(each.get("name")) == volume and isinstance(each.get("emptyDir"), dict | type(None)) and "emptyDir" in each
        for each in mappings(pod.spec.get("volumes"))
    )
    return (volume, f"{sub}{path[len(mounted) :]}") if empty else None


def sharers(pod: Pod, volume: str, besides: Container) -> tuple[Container, ...]:
    """Return the containers, without *besides*, that mount *volume*."""
    return tuple(
        each
        for each in pod.containers
        if each is not besides and any(text(m.get("name")) == volume for m in mappings(each.body.get("volumeMounts")))
    )


def _pod_waits(pod: Pod) -> Iterator[PodWait]:
    for container in pod.containers:
        for program in container.programs:
            for wait in waits(program.script):
                yield from _resolved(pod, PodWait(container=container, program=program, wait=wait))


def _resolved(pod: Pod, found: PodWait) -> Iterator[PodWait]:
    """One for everything in the Pod that is waited for; what is elsewhere is left out."""
    wait, container = found.wait, found.container
    if wait.tool:
        yield replace(found, owner=_of_tool(pod, container, wait.tool), mesh=_MESH_OF_TOOL.get(wait.tool, ""))
    local = [each for each in wait.addresses if each.is_local and each.port]
    local += [Address(host="localhost", port=port) for port in wait.ports]
    if not pod.spec.get("hostNetwork"):
        for address in local:
            if address.port in container.declared_ports or (wait.after_background and not _owned(pod, address, found)):
                yield replace(found, owner=container, address=address)
                continue
            owner = pod.owner(address.port, container) or (container if address.port in container.ports else None)
            mesh = "" if owner else MESH_PORTS.get(address.port, "")
            yield replace(found, owner=owner, mesh=mesh, address=address)
    for file in wait.files:
        if place := shared_file(pod, container, file):
            running = [each for each in sharers(pod, place[0], container) if each.place is not Place.INIT]
            makers = [each for each in running if _makes(pod, each, place)]
            owner = (makers or running)[0] if len(makers or running) == 1 else None
            if makers or running:
                yield replace(found, owner=owner, file=file)


_MESH_OF_TOOL = {"pilot-agent wait": "Istio", "linkerd-await": "Linkerd"}


def _owned(pod: Pod, address: Address, found: PodWait) -> bool:
    return pod.owner(address.port, found.container) is not None or address.port in MESH_PORTS


def _of_tool(pod: Pod, container: Container, tool: str) -> Container | None:
    """The container that a tool waits for: itself where the tool is its own program."""
    sidecar = {"pilot-agent": "proxyv2", "cloud-sql-proxy": "cloud-sql-proxy", "cloud_sql_proxy": "gce-proxy"}.get(
        tool.partition(" ")[0], "linkerd/proxy" if tool.startswith("linkerd") else tool.partition(" ")[0]
    )
    if sidecar in container.image:
        return container
    return next((each for each in pod.regular if sidecar in each.image and each is not container), None)


def _makes(pod: Pod, container: Container, place: tuple[str, str]) -> bool:
    for program in container.programs:
        for statement in program.script.walk():
            if any(shared_file(pod, container, file) == place for file in made_files(statement)):
                return True
    return False


def _endings(pod: Pod) -> Iterator[Ending]:
    for container in pod.containers:
        for program in container.programs:
            for step in program.script.steps():
                for statement in program.script.expand(step.statement):
                    found = Ending(container=container, program=program, step=step, statement=statement)
                    if address := quit_call(statement):
                        owner = pod.owner(address.port, container)
                        own = owner is None and address.port in container.ports
                        yield replace(found, address=address, victim=container if own else owner)
                        continue
                    process = killed(statement)
                    process = ended_by_pipe(statement) if process is None else process
                    if process is not None:
                        yield replace(found, process=process, victim=_victim(pod, container, process))


def _victim(pod: Pod, container: Container, process: str) -> Container | None:
    """The container whose process that is; only in a shared process namespace it may be another one."""
    if not process or process.startswith("$") or not pod.spec.get("shareProcessNamespace"):
        return None
    for each in pod.containers:
        if each is container or each.place is Place.INIT:
            continue
        image = repository_of(each.image).rpartition("/")[2]
        names = {each.name, each.executable, image, image.replace("-", "_")} - {""}
        if process in names or (process == "envoy" and "proxyv2" in each.image):
            return each
    return None
