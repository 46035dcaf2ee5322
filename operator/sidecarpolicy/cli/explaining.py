"""What `sidecarpolicy explain` says of one Deployment: which policies, who starts and stops when, and what it takes.

It is told from two Pod specs, as it is and as it is to be, and the records of what on them is ours; whether they come
from files or from a cluster makes no difference here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sidecarpolicy.cli.batch import notes_json
from sidecarpolicy.cli.offline import Did, Note
from sidecarpolicy.core.arithmetic.budgets import gate_seconds, startup_budget, termination_budget
from sidecarpolicy.core.arithmetic.qos import qos_class
from sidecarpolicy.core.arithmetic.requests import costs, describe, is_sidecar
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.injection import eject
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.record import INIT_CONTAINERS, Record
from sidecarpolicy.core.tree import Json, at, items

TOLD = (Did.SKIPPED, Did.KEPT, Did.REMOVED, Did.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One Deployment. *before* and *after*: its Pod template as it is and as it is to be, each with its record.

    *source*: where it was read. *policies*: what `-o json` says of each that concerns it.
    """

    workload: WorkloadId
    source: str
    before: Json
    recorded: Record
    after: Json
    record: Record
    policies: Sequence[Json]
    notes: Sequence[Note]

    @property
    def without(self) -> Json:
        """Its Pod template as its owner wrote it."""
        return eject(self.before, self.recorded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One container in start order. *by*: the policy that brings it, empty for the application's own.

    *waits_for*: what has to happen before the next one starts.
    """

    name: str
    kind: str
    by: str
    waits_for: str


def explanation(found: Explained) -> Json:
    """Return what `-o json` prints; docs/cli.md describes the fields."""
    after, without = at(found.after, "spec"), at(found.without, "spec")
    starting, stopping = startup_budget(after), termination_budget(after)
    return {
        "namespace": found.workload.namespace,
        "name": found.workload.name,
        "source": found.source,
        "policies": list(found.policies),
        "notes": notes_json(found.notes),
        "start": [
            {"container": step.name, "kind": step.kind, "policy": step.by, "next": step.waits_for}
            for step in start_steps(after, found.record)
        ],
        "stop": stop_order(after),
        "startup": {"seconds": starting.seconds, "unknown": list(starting.unknown)},
        "termination": {"graceSeconds": stopping.grace, "neededSeconds": stopping.needed},
        "resources": {
            "qosClass": str(qos_class(after)),
            "qosClassWithout": str(qos_class(without)),
            "change": describe(cost for cost in costs(without, after) if cost.changes),
        },
    }


def start_steps(spec: Json, record: Record) -> Iterator[Step]:
    """Yield the containers of a Pod as they start (KEP-753), each with what the next one waits for."""
    owners = {
        item.name: policy.label
        for policy, entry in record.entries.items()
        for item in entry.items
        if item.list == INIT_CONTAINERS
    }
    for container in items(spec, INIT_CONTAINERS):
        name = str(container["name"])
        if not is_sidecar(container):
            yield Step(name=name, kind="init container", by="", waits_for="it has ended with exit code 0")
        else:
            yield Step(name=name, kind="sidecar", by=owners.get(name, ""), waits_for=_gate(container))
    for container in items(spec, "containers"):
        yield Step(name=str(container["name"]), kind="application", by="", waits_for="")


def _gate(container: Json) -> str:
    hook = " and its postStart hook has returned" if at(container, "lifecycle", "postStart") else ""
    probe = at(container, "startupProbe")
    if probe:
        return f"its startup probe has succeeded, for at most {gate_seconds(probe)} s{hook}"
    return f"its process runs{hook}"


def stop_order(spec: Json) -> list[list[str]]:
    """Who stops together: the application first, then the sidecars one by one, the last one started first."""
    sidecars = [str(each["name"]) for each in items(spec, INIT_CONTAINERS) if is_sidecar(each)]
    return [[str(each["name"]) for each in items(spec, "containers")], *([name] for name in reversed(sidecars))]


def share(rollout: Rollout | None) -> str:
    """How many of a policy's Deployments may be on their way at once, as its author wrote it; empty if not known."""
    if rollout is None:
        return ""
    most = rollout.max_concurrent
    return f"{most:.0%}" if isinstance(most, float) else str(most)


def lines(found: Json) -> Iterator[str]:
    """Yield what a person reads, of what `explanation` returned."""
    yield f"Deployment {found['namespace']}/{found['name']} ({found['source']})"
    yield ""
    yield "Policies"
    for each in found["policies"]:
        yield from policy_lines(each)
    if not found["policies"]:
        yield "  none"
    said = [each for each in found["notes"] if each["did"] in TOLD]
    if said:
        yield ""
        yield "To know"
        yield from (f"  {each['did']} {each['text']}" for each in said)
    yield ""
    yield "Starts, each one when the one before has started"
    width = max(len(each["container"]) for each in found["start"])
    for number, each in enumerate(found["start"], start=1):
        by = f" of {each['policy']}" if each["policy"] else ""
        gate = f"; the next one starts when {each['next']}" if each["next"] else ""
        yield f"  {number}. {each['container']:<{width}}  {each['kind']}{by}{gate}"
    startup = found["startup"]
    besides = f", besides {' and '.join(startup['unknown'])}" if startup["unknown"] else ""
    yield f"  The startup probes may take {startup['seconds']} s together{besides}."
    yield ""
    yield "Stops"
    yield from (f"  {number}. {', '.join(names)}" for number, names in enumerate(found["stop"], start=1))
    termination = found["termination"]
    yield (
        f"  terminationGracePeriodSeconds is {termination['graceSeconds']}; what is known of the hooks needs "
        f"{termination['neededSeconds']} s."
    )
    resources = found["resources"]
    yield ""
    yield "Resources"
    if resources["change"]:
        yield f"  with the sidecars: {resources['change']}"
    changed = (
        "" if resources["qosClass"] == resources["qosClassWithout"] else f" ({resources['qosClassWithout']} without)"
    )
    yield f"  QoS class {resources['qosClass']}{changed}"


def policy_lines(each: Json) -> Iterator[str]:
    """Yield what is said of one policy: what comes of it, and where the Deployment stands with it."""
    budget = f", {each['maxConcurrent']} of its Deployments at once" if each["maxConcurrent"] else ""
    what = f" at {each['revision']}: {', '.join(each['sidecars']) or 'no sidecar'}" if each["revision"] else ": nothing"
    left_out = f", {', '.join(each['skipped'])} left out by the owner" if each["skipped"] else ""
    anew = f", {', '.join(each['overridden'])} overridden by the owner" if each["overridden"] else ""
    yield f"  {each['policy']}{what}{left_out}{anew}{budget}"
    if "state" in each:  # a file has none
        yield f"    {', '.join(_standing(each))}"


def _standing(each: Json) -> Iterator[str]:
    """Yield what only a cluster knows: what the Deployment runs, how far it is, and what is in the way."""
    if each["runs"] == each["revision"]:
        yield f"{each['state']}: runs it" if each["runs"] else each["state"]
    else:
        yield f"{each['state']}: runs {each['runs'] or 'nothing of it'} now"
    if each["pinnedTo"]:
        yield f"pinned to {each['pinnedTo']}"
    if each["halt"]:
        yield f"its rollout is halted ({each['halt']})"
    if each["paused"]:
        yield "its rollout is paused"
    if each["message"]:
        yield f"{each['reason']}: {each['message']}" if each["reason"] else each["message"]
