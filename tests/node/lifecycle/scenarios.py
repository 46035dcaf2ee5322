"""What a scenario is: a Pod of witnesses, what is done to it, and what must then be true.

A scenario is data. Only order and one-sided bounds are asserted, never how long something takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import Record
from sidecarpolicy.core.rendering import offline
from tests.builders import Manifest, a_policy
from tests.node.lifecycle.stage import MOUNT, VOLUME, a_hook, a_quiet_check, a_witness, as_sidecar

FINALIZER = "sidecars.dev/witnessed"
"""Keeps a deleted Pod until what the kubelet said last has been read."""
UP = "/tmp/up"
MISSING = "sidecarpolicy.local/missing:1"
RECORDS = VOLUME | {"name": "records"}


class Kind(Enum):
    """What a container is to its Pod."""

    INIT = "i"
    SIDECAR = "s"
    MAIN = "m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One container of a scenario's Pod."""

    kind: Kind
    container: Manifest

    @property
    def name(self) -> str:
        """Its name: i1, s2, m."""
        name: str = self.container["name"]
        return name


def i(name: str, run: str = "wait 1s; exit 0", **fields: Any) -> Part:
    """An ordinary init container."""
    return Part(kind=Kind.INIT, container=a_witness(name, run=run, **fields))


def m(run: str = "forever", **fields: Any) -> Part:
    """The main container."""
    return Part(kind=Kind.MAIN, container=a_witness("m", run=run, **fields))


def s(name: str, run: str = "forever", *, gate: bool = True, lifecycle: Manifest | None = None, **fields: Any) -> Part:
    """A native sidecar.

    :param gate: it has started when its program runs: otherwise "started" would mean that a process exists
        (kubernetes/kubernetes#140703), and the witness' first line could come after the next container's.
    """
    hooks = ({"postStart": a_quiet_check(f"until {UP}")} if gate else {}) | (lifecycle or {})
    script = f"touch {UP}; {run}" if gate else run
    container = a_witness(name, run=script, **fields)
    return Part(kind=Kind.SIDECAR, container=container | ({"lifecycle": hooks} if hooks else {}))


def pre_stop(name: str, run: str) -> Manifest:
    """A preStop hook that records as `name/preStop`."""
    return {"preStop": a_hook(f"{name}/preStop", run)}


def check(run: str, failures: int = 60) -> Manifest:
    """A probe every second, given up after so many failures."""
    return a_quiet_check(run) | {"periodSeconds": 1, "failureThreshold": failures}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """The Pod is deleted, with its own grace period or another one."""

    grace: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchImage:
    """One container's image is replaced in the running Pod."""

    container: str


Action = Delete | PatchImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A Pod, what is done to it, and what must be true in the end."""

    number: str
    """Its number in the study, with the variant: 6-Never."""
    promise: str
    parts: Sequence[Part]
    restart: str = "Never"
    """The Pod's restartPolicy."""
    grace: int = 30
    when: Sequence[str] = ()
    """What must have happened before anything is done: laws of records.py."""
    do: Sequence[Action] = ()
    laws: Sequence[str] = ()
    """What the records must show."""
    never: Sequence[str] = ()
    """Events that must not have happened when everything else is true."""
    phase: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Exactly so many restarts."""
    at_least: Mapping[str, int] = field(default_factory=dict)
    """So many restarts or more."""
    exits: Mapping[str, int] = field(default_factory=dict)
    """Exit codes of containers that have ended for good."""
    waiting: Mapping[str, str] = field(default_factory=dict)
    """Why a container waits."""
    images: Mapping[str, str] = field(default_factory=dict)
    """What runs."""
    ready: bool | None = None
    within: float = 0
    """Seconds after the action by which the Pod's containers must have ended; 0: no bound."""

    @property
    def name(self) -> str:
        """The name of its Pod."""
        return f"scenario-{self.number.lower()}"

    @property
    def injectable(self) -> bool:
        """Whether a policy can make this order: ours before and after the application's init containers."""
        kinds = "".join(part.kind.value for part in self.parts if part.kind is not Kind.MAIN)
        return "s" in kinds and "s" not in kinds.strip("s")

    def pod(self) -> Manifest:
        """Its Pod: the sidecars by our injection, where a policy can make this order."""
        spec: Manifest = {
            "restartPolicy": self.restart,
            "terminationGracePeriodSeconds": self.grace,
            "volumes": [VOLUME],
            "containers": [part.container for part in self.parts if part.kind is Kind.MAIN],
        }
        if self.injectable:
            spec = self._injected(spec)
        else:
            spec["initContainers"] = [_native(part) for part in self.parts if part.kind is not Kind.MAIN]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "finalizers": [FINALIZER], "labels": {"app": self.name}},
            "spec": spec,
        }

    def _injected(self, spec: Manifest) -> Manifest:
        own = [part for part in self.parts if part.kind is Kind.INIT]
        first = next((number for number, part in enumerate(self.parts) if part.kind is Kind.INIT), 0)
        sidecars = [
            as_sidecar(
                part.container | {"volumeMounts": [MOUNT | {"name": "records"}]},
                startup="WaitUntilStarted",
                position="BeforeInit" if own and number < first else "AfterInit",
            )
            for number, part in enumerate(self.parts)
            if part.kind is Kind.SIDECAR
        ]
        policy = decode_policy(a_policy(sidecars=sidecars, volumes=[RECORDS]))
        template: Any = {"metadata": {}, "spec": spec | {"initContainers": [part.container for part in own]}}
        made, _ = inject(template, [offline(policy)], Record())
        injected: Manifest = dict(made["spec"])
        order = [part.name for part in self.parts if part.kind is not Kind.MAIN]
        assert [each["name"] for each in injected["initContainers"]] == order, "the policy makes another order"
        return injected


def _native(part: Part) -> Manifest:
    return part.container | ({"restartPolicy": "Always"} if part.kind is Kind.SIDECAR else {})
