"""A change, and everything that is to be said about it before it is made: a chain of named pure checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sidecarpolicy.core.arithmetic.autoscaling import autoscaling_conflict
from sidecarpolicy.core.arithmetic.budgets import LAST_SECONDS, startup_budget, termination_budget
from sidecarpolicy.core.arithmetic.finding import Concern, Finding, named
from sidecarpolicy.core.arithmetic.qos import QosClass, container_classes, qos_class
from sidecarpolicy.core.arithmetic.requests import is_sidecar
from sidecarpolicy.core.tree import Json, at, items

_NETWORK_HANDLERS = ("httpGet", "tcpSocket", "grpc")
_THE_POD_ITSELF = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A Pod spec *before* and *after* composition.

    *ours*: names of the init containers of *after* that policies put there. *progress_deadline*: seconds, the
    policy's; *deployment_deadline*: the Deployment's own, None where it is not known.
    """

    before: Json
    after: Json
    ours: frozenset[str]
    progress_deadline: int = 600
    deployment_deadline: int | None = None

    @property
    def sidecars(self) -> list[Json]:
        """Our containers, in start order."""
        return [each for each in items(self.after, "initContainers") if each["name"] in self.ours]


Check = Callable[[Change], Iterable[Finding]]


def findings(change: Change, autoscalers: Sequence[Mapping[str, object]] = ()) -> tuple[Finding, ...]:
    """Return all that is to be said about *change*; *autoscalers* are those that scale the workload.

    Nothing is said of a workload that gets no sidecar.

    :raises InvalidInput: where a quantity is none, with its path in a Pod.
    """
    if not change.sidecars:
        return ()
    conflict = autoscaling_conflict(change.sidecars, change.after, autoscalers)
    found = [finding for check in CHECKS for finding in check(change)]
    return tuple([conflict, *found] if conflict else found)


def slow_start(change: Change) -> Iterable[Finding]:
    """The gates may take as long as a rollout may go without a step forward."""
    budget = startup_budget(change.after)
    limits = {"spec.rollout.progressDeadlineSeconds": change.progress_deadline}
    if change.deployment_deadline is not None:
        limits["the Deployment's progressDeadlineSeconds"] = change.deployment_deadline
    limit, seconds = min(limits.items(), key=lambda each: each[1])
    if budget.seconds < seconds or not any(gate.container in change.ours for gate in budget.gates):
        return
    gates = ", ".join(f"{gate.container} {gate.seconds} s" for gate in budget.gates)
    others = f", besides {' and '.join(budget.unknown)}" if budget.unknown else ""
    yield Finding(
        reason=Concern.SLOW_START,
        message=f"the startup probes may hold the application back for {budget.seconds} s ({gates}){others}, and "
        f"{limit} is {seconds}: a slow start would count as a failure; allow more time, or shorten the probes",
        numbers={
            "seconds": budget.seconds,
            "gates": len(budget.gates),
            "unknown": len(budget.unknown),
            "progressDeadlineSeconds": seconds,
        },
    )


def short_termination(change: Change) -> Iterable[Finding]:
    """The grace period does not hold the hooks that are known."""
    budget = termination_budget(change.after)
    if budget.needed > budget.grace:
        count = len(budget.sidecars)
        hook = f"the application's preStop sleeps {budget.application} s and " if budget.application else ""
        yield Finding(
            reason=Concern.SHORT_TERMINATION,
            message=f"terminationGracePeriodSeconds is {budget.grace}, but {hook}the kubelet needs {LAST_SECONDS} s: "
            f"nothing is left in which the application and then {_sidecars(count)} could stop, and they are killed; "
            f"set it to more than {budget.needed}",
            numbers={
                "terminationGracePeriodSeconds": budget.grace,
                "needed": budget.needed,
                "sidecars": count,
                "unknown": len(budget.unknown),
            },
        )
    for name, seconds in budget.sidecars.items():
        if name in change.ours and seconds > budget.grace:
            yield Finding(
                reason=Concern.SHORT_TERMINATION,
                message=f"preStop of sidecar {name!r} sleeps {seconds} s, longer than terminationGracePeriodSeconds "
                f"({budget.grace}): the API server refuses that; a native sidecar stops after the application "
                "anyway, so the sleep is hardly needed",
                numbers={"terminationGracePeriodSeconds": budget.grace, "needed": seconds, "sidecar": name},
            )


def qos_change(change: Change) -> Iterable[Finding]:
    """Its Pods would be evicted earlier than before."""
    before, after = qos_class(change.before), qos_class(change.after)
    if not after.is_worse_than(before):
        return
    guilty = [name for name, each in container_classes(change.after) if name in change.ours and each is not before]
    because = f", because of {named(guilty)}" if guilty and before is QosClass.GUARANTEED else ""
    yield Finding(
        reason=Concern.QOS_CHANGE,
        message=f"its Pods change from {before} to {after}{because}; to keep {before}, every sidecar needs cpu and "
        "memory limits equal to its requests",
        numbers={"before": before.value, "after": after.value},
    )


def gate_probes_application(change: Change) -> Iterable[Finding]:
    """A gate asks a port of a container that only starts behind it: it would never open."""
    ordered = items(change.after, "initContainers")
    for place, container in enumerate(ordered):
        if container["name"] not in change.ours:
            continue
        for port in _probed_ports(at(container, "startupProbe")):
            started = [each for each in ordered[: place + 1] if is_sidecar(each)]
            behind = [each for each in ordered[place + 1 :] if each["name"] not in change.ours]
            # The kubelet looks a name up in the probed container alone.
            answering = [container] if isinstance(port, str) else started
            if any(_declares(each, port) for each in answering):
                continue
            owner = next(
                (each for each in (*items(change.after, "containers"), *behind) if _declares(each, port)), None
            )
            if owner is not None:
                yield Finding(
                    reason=Concern.GATE_PROBES_APPLICATION,
                    message=f"the startup probe of sidecar {container['name']!r} asks port {port}, which is that of "
                    f"the application's container {owner['name']!r}: that one starts only after the sidecar has "
                    "started, so neither would; probe a port of the sidecar's own",
                    numbers={"sidecar": container["name"], "port": port, "container": owner["name"]},
                )


CHECKS: tuple[Check, ...] = (gate_probes_application, slow_start, short_termination, qos_change)


def _probed_ports(probe: Mapping[str, object]) -> Iterable[int | str]:
    """Yield the port that a probe asks, unless it asks another host."""
    for handler in _NETWORK_HANDLERS:
        asked = at(probe, handler)
        port = asked.get("port")
        if isinstance(port, int | str) and (asked.get("host") or "") in _THE_POD_ITSELF:
            yield port


def _declares(container: Mapping[str, object], port: int | str) -> bool:
    field = "name" if isinstance(port, str) else "containerPort"
    return any(each.get(field) == port for each in items(container, "ports"))


def _sidecars(count: int) -> str:
    return f"{count} sidecar" if count == 1 else f"{count} sidecars, one after the other,"
