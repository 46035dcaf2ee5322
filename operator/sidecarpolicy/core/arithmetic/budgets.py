"""The seconds that a Pod has for starting and for stopping, as far as its spec tells.

**Starting.** Init containers start one after the other, and a sidecar's startup probe holds the next one back. The
kubelet gives up on a probe, and restarts the sidecar, after `initialDelaySeconds` and `failureThreshold` attempts, each
as long as the period or, where that is longer, the time-out. How long plain init containers and postStart hooks take is
not known.

**Stopping** (kubelet, `killContainer`). One budget for all, `terminationGracePeriodSeconds`: preStop hooks of all
containers run at once at the beginning, then the application stops, then the sidecars one by one in reverse order, and
2 seconds remain for whoever comes late. So it has to hold the application's longest hook and stop, every sidecar's
stop, and 2; and each sidecar's own hook. Only `preStop.sleep` has a known length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecarpolicy.core.arithmetic.requests import is_sidecar
from sidecarpolicy.core.tree import at, items

# What the API server fills in where a field is absent or 0 (SetDefaults_Probe, SetDefaults_PodSpec).
PROBE_PERIOD = 10
PROBE_TIMEOUT = 1
PROBE_FAILURES = 3
GRACE_PERIOD = 30

# What the kubelet leaves to a container whose turn comes after the grace period.
LAST_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A sidecar that holds what follows back, for at most *seconds* before the kubelet restarts it."""

    container: str
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupBudget:
    """*gates* in start order; *unknown*: what else holds the application back, for nobody knows how long."""

    gates: tuple[Gate, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def seconds(self) -> int:
        """How long all gates together may take."""
        return sum(gate.seconds for gate in self.gates)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminationBudget:
    """Seconds for stopping. *application*: the longest `preStop.sleep` among the regular containers. *sidecars*: by
    name, the `preStop.sleep` of each, 0 for none. Hooks of other kinds take nobody knows how long."""

    grace: int = GRACE_PERIOD
    application: int = 0
    sidecars: Mapping[str, int]

    @property
    def needed(self) -> int:
        """The least that is needed, if everything but the known hooks stopped at once."""
        return self.application + LAST_SECONDS


def startup_budget(spec: Mapping[str, object]) -> StartupBudget:
    """Return what holds the application of a Pod back."""
    gates: list[Gate] = []
    unknown: list[str] = []
    for container in items(spec, "initContainers"):
        name = container["name"]
        if not is_sidecar(container):
            unknown.append(f"init container {name!r}")
            continue
        if at(container, "lifecycle", "postStart"):
            unknown.append(f"postStart of {name!r}")
        if probe := at(container, "startupProbe"):
            gates.append(Gate(container=name, seconds=gate_seconds(probe)))
    return StartupBudget(gates=tuple(gates), unknown=tuple(unknown))


def gate_seconds(probe: Mapping[str, object]) -> int:
    """Return after how many seconds the kubelet gives up on a startup *probe*, refusing or hanging."""
    attempt = max(_seconds(probe, "periodSeconds", PROBE_PERIOD), _seconds(probe, "timeoutSeconds", PROBE_TIMEOUT))
    return _seconds(probe, "initialDelaySeconds", 0) + attempt * _seconds(probe, "failureThreshold", PROBE_FAILURES)


def termination_budget(spec: Mapping[str, object]) -> TerminationBudget:
    """Return what a Pod's grace period has to hold."""
    grace = spec.get("terminationGracePeriodSeconds")
    regular = items(spec, "containers")
    sidecars = [each for each in items(spec, "initContainers") if is_sidecar(each)]
    return TerminationBudget(
        grace=grace if isinstance(grace, int) else GRACE_PERIOD,
        application=max((_sleep(each) for each in regular), default=0),
        sidecars={each["name"]: _sleep(each) for each in sidecars},
    )


def _sleep(container: Mapping[str, object]) -> int:
    return _seconds(at(container, "lifecycle", "preStop", "sleep"), "seconds", 0)


def _seconds(fields: Mapping[str, object], name: str, default: int) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and value else default
