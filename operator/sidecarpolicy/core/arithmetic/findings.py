"""A change, and everything that is to be said about it before it is made: a chain of named pure checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sidecarpolicy.core.arithmetic.budgets import LAST_SECONDS, startup_budget, termination_budget
from sidecarpolicy.core.arithmetic.change import Change, Check, Finding
from sidecarpolicy.core.arithmetic.injectors import starts_before_injected
from sidecarpolicy.core.arithmetic.qos import QosClass, container_classes, qos_class
from sidecarpolicy.core.arithmetic.requests import changing_costs, is_sidecar
from sidecarpolicy.core.arithmetic.sharing import SHARING
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import INIT_CONTAINERS
from sidecarpolicy.core.tree import at, items
from sidecarpolicy.names import WarningReason

_NETWORK_HANDLERS = ("httpGet", "tcpSocket", "grpc")


def findings(change: Change) -> tuple[Finding, ...]:
    """Return all that is to be said about *change*; nothing where the policy brings nothing."""
    return tuple(finding for check in CHECKS for finding in check(change)) if change.ours or change.provided else ()


def slow_start(change: Change) -> Iterable[Finding]:
    """The gates may take as long as a rollout may go without a step forward, or each change takes that long anyway."""
    limits = {"spec.rollout.progressDeadlineSeconds": change.progress_deadline}
    if change.own_deadline is not None:
        limits["the Deployment's progressDeadlineSeconds"] = change.own_deadline
    if change.own_wait >= change.progress_deadline:
        yield Finding(
            reason=WarningReason.SLOW_START,
            message=f"a Pod that is ready waits for {change.own_wait} s until it counts (the Deployment's "
            f"minReadySeconds), and spec.rollout.progressDeadlineSeconds is {change.progress_deadline}: that is added "
            "to the deadline, and each change of it takes at least so long and holds its slot meanwhile",
        )
    limit, seconds = min(limits.items(), key=lambda each: each[1])
    if not any(each["name"] in change.ours and "startupProbe" in each for each in items(change.after, INIT_CONTAINERS)):
        return
    budget = startup_budget(change.after)
    if budget.seconds < seconds or not any(gate.container in change.ours for gate in budget.gates):
        return
    gates = ", ".join(f"{gate.container} {gate.seconds} s" for gate in budget.gates)
    others = f", besides {' and '.join(budget.unknown)}" if budget.unknown else ""
    yield Finding(
        reason=WarningReason.SLOW_START,
        message=f"the startup probes may hold the application back for {budget.seconds} s ({gates}){others}, and "
        f"{limit} is {seconds}: a slow start would count as a failure; allow more time, or shorten the probes",
    )


def short_termination(change: Change) -> Iterable[Finding]:
    """The grace period does not hold the hooks that are known."""
    budget = termination_budget(change.after)
    if budget.needed > budget.grace:
        count = len(budget.sidecars)
        hook = f"the application's preStop sleeps {budget.application} s and " if budget.application else ""
        yield Finding(
            reason=WarningReason.SHORT_TERMINATION,
            message=f"terminationGracePeriodSeconds is {budget.grace}, but {hook}the kubelet needs {LAST_SECONDS} s: "
            f"nothing is left in which the application and then {_sidecars(count)} could stop, and they are killed; "
            f"set it to more than {budget.needed}",
        )
    for name, seconds in budget.sidecars.items():
        if name in change.ours and seconds > budget.grace:
            yield Finding(
                reason=WarningReason.SHORT_TERMINATION,
                message=f"preStop of sidecar {name!r} sleeps {seconds} s, longer than terminationGracePeriodSeconds "
                f"({budget.grace}): the API server refuses that; a native sidecar stops after the application "
                "anyway, so the sleep is hardly needed",
            )


def qos_change(change: Change) -> Iterable[Finding]:
    """Its Pods would be evicted earlier than without us: a sidecar can only make that of Guaranteed ones."""
    before = qos_class(change.without)
    if before is not QosClass.GUARANTEED or (after := qos_class(change.after)) is before:
        return
    worse = [name for name, each in container_classes(change.after) if name in change.ours and each is not before]
    guilty = worse or sorted(change.ours)  # where the Pod has limits of its own, each alone may be Guaranteed
    yield Finding(
        reason=WarningReason.QOS_CHANGE,
        message=f"its Pods change from {before} to {after}, because of {_named(guilty)}; to keep {before}, every "
        "sidecar needs cpu and memory limits equal to its requests",
    )


def requests_change(change: Change) -> Iterable[Finding]:
    """Its Pods will request something else than now, as the scheduler and quota count it."""
    if changing := changing_costs(change.now, change.after):
        yield Finding(
            reason=WarningReason.REQUESTS_CHANGE,
            message=f"each Pod will request {changing}; nodes and quota need room for that",
        )


def gate_probes_application(change: Change) -> Iterable[Finding]:
    """A gate asks a port of a container that only starts behind it: it would never open."""
    ordered = items(change.after, INIT_CONTAINERS)
    for place, container in enumerate(ordered):
        if container["name"] not in change.ours:
            continue
        probe = at(container, "startupProbe")
        for port in _probed_ports(probe) if probe else ():
            started = [each for each in ordered[: place + 1] if is_sidecar(each)]
            behind = [each for each in ordered[place + 1 :] if each["name"] not in change.ours]
            # The kubelet looks a name up in the probed container alone.
            answering = [container] if isinstance(port, str) else started
            if any(_declares(each, port) for each in answering):
                continue
            owner = next(
                (each for each in (*items(change.after, "containers"), *behind) if _declares(each, port)), None
            )
            if owner is None and isinstance(port, str):
                yield Finding(
                    reason=WarningReason.GATE_PROBES_APPLICATION,
                    message=f"the startup probe of sidecar {container['name']!r} asks port {port!r}, and the sidecar "
                    "declares no port of that name: the probe never succeeds, and the application never starts; name "
                    "one of its ports so, or give the number",
                )
            elif owner is not None:
                yield Finding(
                    reason=WarningReason.GATE_PROBES_APPLICATION,
                    message=f"the startup probe of sidecar {container['name']!r} asks port {port}, which is that of "
                    f"container {owner['name']!r}: that one starts only after the sidecar has "
                    "started, so neither would; probe a port of the sidecar's own",
                )


def _readable(check: Check) -> Check:
    """Leave a quantity that is none to the API server, which refuses it in its own words."""

    def checked(change: Change) -> Iterable[Finding]:
        try:
            return tuple(check(change))
        except InvalidInput:
            return ()

    return checked


CHECKS: tuple[Check, ...] = (
    gate_probes_application,
    slow_start,
    short_termination,
    _readable(qos_change),
    _readable(requests_change),
    *SHARING,
    starts_before_injected,
)


def _probed_ports(probe: Mapping[str, object]) -> Iterator[int | str]:
    """Yield the port of the Pod that a probe asks; with a host it asks somebody else."""
    for handler in _NETWORK_HANDLERS:
        asked = at(probe, handler)
        port = asked.get("port")
        if isinstance(port, int | str) and not asked.get("host"):
            yield port


def _declares(container: Mapping[str, object], port: int | str) -> bool:
    field = "name" if isinstance(port, str) else "containerPort"
    return any(each.get(field) == port for each in items(container, "ports"))


def _sidecars(count: int) -> str:
    return f"{count} sidecar" if count == 1 else f"{count} sidecars, one after the other,"


def _named(containers: list[str]) -> str:
    return f"sidecar{'s' if len(containers) > 1 else ''} {', '.join(repr(each) for each in containers)}"
