"""The Pods that manifests describe, as the rules see them: containers, what they run, and who is whose sidecar.

Every value keeps the path at which it stands in its document, so that a finding can say where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any

from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint.known import known
from sidecarpolicy.lint.shell import Script, base_name, command_line, parse, shell_script, unwrapped

Path = tuple[str | int, ...]

POD_SPECS: Mapping[str, Path] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""By kind: where its Pod template is."""

GROUPS = frozenset({"v1", "apps/v1", "batch/v1", "batch/v1beta1", "apps/v1beta1", "apps/v1beta2", "extensions/v1beta1"})


class Place(Enum):
    """In which list a container stands, and what that makes of it."""

    INIT = auto()
    NATIVE = auto()
    REGULAR = auto()


class Moment(Enum):
    """When a program of a container runs."""

    ENTRY = auto()
    POST_START = auto()
    PRE_STOP = auto()
    STARTUP = auto()
    READINESS = auto()
    LIVENESS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a container runs at a *moment*. *path*: the text of the script, or the list of the exec form.

    *argv* is all of it, *script_at* which word of it is the script.
    """

    moment: Moment
    path: Path
    argv: tuple[str, ...]
    script: Script
    script_at: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Container:
    """One container at *path*."""

    path: Path
    place: Place
    body: Json
    index: int

    @property
    def name(self) -> str:
        """Return its name."""
        return text(self.body.get("name"))

    @property
    def image(self) -> str:
        """Return its image."""
        return text(self.body.get("image"))

    @cached_property
    def env(self) -> dict[str, str]:
        """Return the variables whose values the manifest says."""
        listed = mappings(self.body.get("env"))
        return {text(each.get("name")): text(each["value"]) for each in listed if isinstance(each.get("value"), str)}

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """Return what it runs: its command, its hooks and its exec probes."""
        return tuple(_programs(self))

    def program(self, moment: Moment) -> Program | None:
        """Return what it runs at *moment*, or None."""
        return next((each for each in self.programs if each.moment is moment), None)

    @property
    def declared_ports(self) -> frozenset[int]:
        """Return the ports that it declares."""
        found = (each.get("containerPort") for each in mappings(self.body.get("ports")))
        return frozenset(each for each in found if isinstance(each, int))

    @cached_property
    def ports(self) -> frozenset[int]:
        """Return the ports on which it seems to listen: declared, named in its arguments, or known of its image."""
        if self.declared_ports:
            return self.declared_ports | self._ports_in_arguments
        found = known(self.image)
        return self._ports_in_arguments | frozenset(found.ports if found else ())

    @cached_property
    def _ports_in_arguments(self) -> frozenset[int]:
        """Ports in arguments like `--port=5432`, `-p 9090`, `--http-address=0.0.0.0:4180`; not those of a script."""
        entry = self.program(Moment.ENTRY)
        if entry is None or entry.script_at is not None:
            return frozenset()
        found = set()
        for before, word in zip(("", *entry.argv), entry.argv, strict=False):
            name, _, value = word.rpartition("=")
            option = name or before
            number = value.rpartition(":")[2] if option.startswith("-") else ""
            listens = any(each in option for each in ("port", "listen", "address", "addr", "bind"))
            if number.isdigit() and listens and "upstream" not in option:
                found.add(int(number))
        return frozenset(found)

    @property
    def executable(self) -> str:
        """Return the name of what it runs, as far as the manifest says."""
        entry = self.program(Moment.ENTRY)
        words = unwrapped(entry.argv) if entry else ()
        return base_name(words[0]) if words and entry and entry.script_at is None else ""

    def hook(self, name: str) -> Json:
        """Return the lifecycle hook *name*."""
        return mapping(mapping(self.body.get("lifecycle")).get(name))

    def probe(self, name: str) -> Json:
        """Return the probe *name*."""
        return mapping(self.body.get(name))

    def port_of(self, value: object) -> int:
        """Return the number of a probe's port, which may be a name; 0 where it is not known."""
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.isdigit():
            return int(value)
        listed = mappings(self.body.get("ports"))
        number = next((each.get("containerPort") for each in listed if each.get("name") == value), 0)
        return number if isinstance(number, int) else 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Pod:
    """The Pod of a workload. *path*: where its template is in *document*; *base*: where the object is in it."""

    kind: str
    name: str
    namespace: str
    body: Json
    base: Path
    path: Path
    metadata: Json
    spec: Json

    @property
    def spec_path(self) -> Path:
        """Return where its Pod spec is."""
        return (*self.path, "spec")

    @property
    def title(self) -> str:
        """Return the workload, for people."""
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    @cached_property
    def containers(self) -> tuple[Container, ...]:
        """Return all containers, in the order in which they start."""
        return tuple(_containers(self, "initContainers")) + tuple(_containers(self, "containers"))

    @property
    def regular(self) -> tuple[Container, ...]:
        """Return what stands under `containers`."""
        return tuple(each for each in self.containers if each.place is Place.REGULAR)

    @property
    def inits(self) -> tuple[Container, ...]:
        """Return the plain init containers."""
        return tuple(each for each in self.containers if each.place is Place.INIT)

    @property
    def native(self) -> tuple[Container, ...]:
        """Return the native sidecars."""
        return tuple(each for each in self.containers if each.place is Place.NATIVE)

    @property
    def annotations(self) -> Json:
        """Return the annotations of its template."""
        return mapping(self.metadata.get("annotations"))

    @property
    def labels(self) -> Json:
        """Return the labels of its template."""
        return mapping(self.metadata.get("labels"))

    @property
    def ends(self) -> bool:
        """Whether the Pod is to end by itself."""
        never = self.spec.get("restartPolicy") in {"Never", "OnFailure"}
        return self.kind in {"Job", "CronJob"} or (self.kind == "Pod" and never)

    @property
    def grace(self) -> int:
        """Return its grace period, in seconds."""
        found = self.spec.get("terminationGracePeriodSeconds")
        return found if isinstance(found, int) and not isinstance(found, bool) else 30

    def owner(self, port: int, asker: Container) -> Container | None:
        """Return the container, other than *asker*, that listens on *port*; None where it is asker's or nobody's."""
        if port in asker.declared_ports:
            return None
        others = [each for each in self.containers if each is not asker and each.place is not Place.INIT]
        declaring = [each for each in others if port in each.declared_ports]
        return next(iter(declaring or [each for each in others if port in each.ports]), None)


def pods(body: Json, base: Path = ()) -> Pod | None:
    """Return the Pod that the object *body* describes, or None where it describes none.

    An object that has no containers, or one without an image (a patch for Kustomize), describes none.
    """
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in POD_SPECS or body.get("apiVersion") not in GROUPS:
        return None
    template: Any = body
    for step in POD_SPECS[kind]:
        template = mapping(template).get(str(step))
    spec = mapping(mapping(template).get("spec"))
    containers = mappings(spec.get("containers"))
    if not containers or not all(text(each.get("image")) for each in containers):
        return None
    metadata = mapping(body.get("metadata"))
    return Pod(
        kind=kind,
        name=text(metadata.get("name")) or text(metadata.get("generateName")),
        namespace=text(metadata.get("namespace")),
        body=body,
        base=base,
        path=(*base, *POD_SPECS[kind]),
        metadata=mapping(mapping(template).get("metadata")),
        spec=spec,
    )


def mapping(value: object) -> Json:
    """Return *value* where it is a mapping, an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Json]:
    """Return the mappings in *value*, where it is a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """Return *value* where it is a string, an empty one otherwise."""
    return value if isinstance(value, str) else ""


def _containers(pod: Pod, listed: str) -> Iterator[Container]:
    found = pod.spec.get(listed)
    for index, each in enumerate(found if isinstance(found, list) else ()):
        if isinstance(each, dict):
            native = each.get("restartPolicy") == "Always"
            place = Place.REGULAR if listed == "containers" else Place.NATIVE if native else Place.INIT
            yield Container(path=(*pod.spec_path, listed, index), place=place, body=each, index=index)


_EXECS: Mapping[Moment, Path] = {
    Moment.POST_START: ("lifecycle", "postStart", "exec", "command"),
    Moment.PRE_STOP: ("lifecycle", "preStop", "exec", "command"),
    Moment.STARTUP: ("startupProbe", "exec", "command"),
    Moment.READINESS: ("readinessProbe", "exec", "command"),
    Moment.LIVENESS: ("livenessProbe", "exec", "command"),
}


def _programs(container: Container) -> Iterator[Program]:
    command, args = _words(container.body.get("command")), _words(container.body.get("args"))
    if command or args:
        places = [("command", index) for index in range(len(command))] + [("args", index) for index in range(len(args))]
        yield _program(container, Moment.ENTRY, (*command, *args), tuple((*container.path, *each) for each in places))
    for moment, path in _EXECS.items():
        value: Any = container.body
        for step in path:
            value = mapping(value).get(str(step))
        if words := _words(value):
            yield _program(
                container, moment, words, tuple((*container.path, *path, each) for each in range(len(words)))
            )


def _program(container: Container, moment: Moment, argv: tuple[str, ...], places: tuple[Path, ...]) -> Program:
    at = shell_script(argv)
    if at is None:
        return Program(moment=moment, path=places[0][:-1], argv=argv, script=command_line(argv, container.env))
    script = parse(argv[at], container.env)
    return Program(moment=moment, path=places[at], argv=argv, script=script, script_at=at)


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
