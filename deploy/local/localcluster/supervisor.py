"""The processes of one cluster: started, written down, watched, stopped.

``state.json`` in the cluster's folder is the whole memory: it is replaced before and after every
start, so that a cluster can be stopped, asked or attached to from any process at any time, also
after its starter was killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from localcluster import processes
from localcluster.errors import ComponentError
from localcluster.processes import Process

STATE = "state.json"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How one component is started."""

    component: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component that was started."""

    command: Command
    process: Process


@dataclass(slots=True, kw_only=True)
class State:
    """What is known of a cluster besides its files."""

    name: str
    address: str
    """The address that the API server listens on."""
    ports: dict[str, int]
    node: bool
    programs: dict[str, str]
    components: dict[str, Component] = field(default_factory=dict)


class Supervisor:
    """Starts and stops what belongs to the cluster in *folder*."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state

    @classmethod
    def load(cls, folder: Path) -> Supervisor | None:
        """Return the supervisor of the cluster in *folder*, or None if nothing was started there."""
        try:
            document = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        document["components"] = {
            name: Component(
                command=Command(**{**entry["command"], "arguments": tuple(entry["command"]["arguments"])}),
                process=Process(**entry["process"]),
            )
            for name, entry in document["components"].items()
        }
        return cls(folder, State(**document))

    def save(self) -> None:
        """Write the state down; a reader sees the old one or the new one, never half of it."""
        new = self.folder / f"{STATE}.new"
        new.write_text(json.dumps(asdict(self.state), indent=1), encoding="utf-8")
        new.rename(self.folder / STATE)

    def log(self, component: str) -> Path:
        """Return the log file of *component*."""
        return self.folder / "logs" / f"{component}.log"

    def start(self, command: Command) -> None:
        """Start a component and write down who it is.

        :raises ComponentError: if it cannot be executed at all.
        """
        log = self.log(command.component)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            process = processes.spawn(
                command.arguments,
                log=log,
                environment={**self._environment(), **command.environment},
                folder=self.folder,
            )
        except OSError as error:
            raise ComponentError(command.component, f"could not be started: {error}", None) from error
        self.state.components[command.component] = Component(command=command, process=process)
        self.save()

    def stop(self, *components: str, grace: float) -> None:
        """End these components, all at once.

        :raises ComponentError: if one lives even after KILL.
        """
        ending = [self.state.components[name].process for name in components if name in self.state.components]
        left = processes.stop(ending, grace=grace)
        processes.reap(ending)
        for name in components:
            component = self.state.components.get(name)
            if component and component.process in left:
                raise ComponentError(name, f"(process {component.process.pid}) could not be killed", self.log(name))

    def alive(self, component: str) -> bool:
        """Return whether *component* was started and still runs."""
        entry = self.state.components.get(component)
        return entry is not None and entry.process.alive

    def wait(self, component: str, until: str, ready: Callable[[], bool], *, seconds: float) -> None:
        """Return as soon as *ready*.

        :raises ComponentError: if any component dies before, or after *seconds* without *until*.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ComponentError(component, f"was not {until} after {seconds:.0f} s", self.log(component))
            time.sleep(0.1)

    def check(self) -> None:
        """Return if every component that was started still runs.

        :raises ComponentError: naming the first that does not.
        """
        for name, component in self.state.components.items():
            if not component.process.alive:
                raise ComponentError(name, "has died", self.log(name))

    def _environment(self) -> dict[str, str]:
        """Return what components see: no proxy settings, no kubeconfig, nothing of the caller's but these."""
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
        path = ":".join(dict.fromkeys([*os.environ.get("PATH", "").split(":"), *_SYSTEM_PATH.split(":")]))
        return {**kept, "PATH": path.strip(":"), processes.MARKER: str(self.folder)}
