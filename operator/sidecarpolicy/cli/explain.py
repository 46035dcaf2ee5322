"""`sidecarpolicy explain`: what a Deployment runs, in which order it starts and stops, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sidecarpolicy.cli import batch
from sidecarpolicy.cli.hints import did_you_mean
from sidecarpolicy.cli.manifests import yaml_of
from sidecarpolicy.cli.offline import Did, Result, injected
from sidecarpolicy.cli.policies import Given
from sidecarpolicy.core.arithmetic.budgets import gate_seconds, startup_budget, termination_budget
from sidecarpolicy.core.arithmetic.qos import qos_class
from sidecarpolicy.core.arithmetic.requests import costs, describe, is_sidecar
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.record import INIT_CONTAINERS, Record
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.manifests import BadInput
from sidecarpolicy.names import RECORD


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One container in start order. *by*: the policy that brings it, empty for the application's own.

    *waits_for*: what has to happen before the next one starts.
    """

    name: str
    kind: str
    by: str
    waits_for: str


@click.command(epilog="Exit codes: 0 explained, 1 bad input, or no such Deployment, 2 wrong usage.")
@click.argument("deployment", metavar="[deploy/]NAME")
@batch.policies_option
@click.option(
    "-f",
    "--filename",
    "paths",
    type=batch.PATHS,
    multiple=True,
    metavar="FILE|DIR|-",
    help="The manifests to look in; may be repeated. Default: standard input.",
)
@click.option("-R", "--recursive", is_flag=True, help="Read the directories below each DIR too.")
@batch.namespace_option
@click.option("-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True)
@batch.in_one_go
def explain(
    deployment: str,
    policy_paths: tuple[Path, ...],
    paths: tuple[Path, ...],
    recursive: bool,
    namespace: str,
    output: str,
) -> None:
    """Explain what a Deployment gets from the policies that are given, and why.

    Which policies and revisions it has, or why it is skipped; in which order its containers start and what holds the
    next one back; in which order they stop; what that may take; and what the sidecars request. NAME is cart or
    shop/cart; without a namespace it is looked for in that of -n.
    """
    try:
        files, policy_files = batch.read(paths, policy_paths, recursive=recursive)
        done, decided_by = batch.with_policies(files, policy_files, injected, namespace=namespace)
    except BadInput as error:
        batch.give_up(error, exit_code=1)
    result = _named(done.results, deployment, namespace)
    found = explanation(result, decided_by)
    if output == "text":
        click.echo("\n".join(_lines(found)))
    else:
        click.echo(json.dumps(found, indent=2) if output == "json" else yaml_of(found).rstrip("\n"))


def _named(results: Sequence[Result], wanted: str, namespace: str) -> Result:
    """Return the result for the Deployment *wanted*; raise click.ClickException where there is none."""
    kind, _, rest = wanted.rpartition("deploy/") if "deploy/" in wanted else wanted.rpartition("deployment/")
    if kind not in ("", "deployments/"):
        raise click.UsageError(f"must name a Deployment, not {wanted!r}")
    there, _, name = rest.rpartition("/")
    for result in results:
        identity = result.manifest.workload.id
        if (identity.namespace, identity.name) == (there or namespace, name):
            return result
    known = [
        (f"{each.namespace}/" if each.namespace != namespace else "") + each.name
        for each in (result.manifest.workload.id for result in results)
    ]
    raise click.ClickException(
        f"there is no Deployment {name!r} in namespace {there or namespace} among the manifests; "
        f"{did_you_mean(known, name)}"
    )


def explanation(result: Result, decided_by: Given) -> Json:
    """Return what `-o json` prints."""
    before = at(result.manifest.template, "spec")
    after = at(result.body, *result.manifest.workload.template, "spec")
    record = record_of(at(result.body, "metadata", "annotations").get(RECORD))
    start = list(start_steps(after, record))
    starting, stopping = startup_budget(after), termination_budget(after)
    without = _without_ours(before, result)
    return {
        "namespace": result.manifest.workload.id.namespace,
        "name": result.manifest.workload.id.name,
        "source": str(result.manifest.found.place),
        "policies": [
            {
                "policy": policy.label,
                "revision": entry.revision,
                "sidecars": sorted(entry.names(INIT_CONTAINERS)),
                "skipped": sorted(entry.adjustment.skipped),
                "overridden": [name for name, _ in entry.adjustment.overrides],
                "maxConcurrent": _budget(policy, decided_by),
            }
            for policy, entry in record.entries.items()
        ],
        "notes": batch.notes_json(result.notes),
        "start": [
            {"container": step.name, "kind": step.kind, "policy": step.by, "next": step.waits_for} for step in start
        ],
        "stop": _stop_order(after),
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


def _stop_order(spec: Json) -> list[list[str]]:
    """Who stops together: the application first, then the sidecars one by one, the last one started first."""
    sidecars = [str(each["name"]) for each in items(spec, INIT_CONTAINERS) if is_sidecar(each)]
    return [[str(each["name"]) for each in items(spec, "containers")], *([name] for name in reversed(sidecars))]


def _without_ours(before: Json, result: Result) -> Json:
    """The Pod spec without any sidecar of a policy."""
    record = record_of(result.manifest.workload.record)
    ours = {item.name for item in record.items if item.list == INIT_CONTAINERS}
    own = [each for each in items(before, INIT_CONTAINERS) if each["name"] not in ours]
    return {**before, INIT_CONTAINERS: own}


def _budget(policy: PolicyId, decided_by: Given) -> str:
    known = decided_by.policies.get(policy)
    if known is None:
        return ""
    most = known.rollout.max_concurrent
    return f"{most:.0%}" if isinstance(most, float) else str(most)


def _lines(found: Json) -> Iterator[str]:
    yield f"Deployment {found['namespace']}/{found['name']} ({found['source']})"
    yield ""
    yield "Policies"
    for each in found["policies"]:
        budget = f", {each['maxConcurrent']} of its Deployments at once" if each["maxConcurrent"] else ""
        left_out = f", {', '.join(each['skipped'])} left out by the owner" if each["skipped"] else ""
        anew = f", {', '.join(each['overridden'])} overridden by the owner" if each["overridden"] else ""
        sidecars = ", ".join(each["sidecars"]) or "no sidecar"
        yield f"  {each['policy']} at {each['revision']}: {sidecars}{left_out}{anew}{budget}"
    if not found["policies"]:
        yield "  none"
    said = [each for each in found["notes"] if each["did"] in (Did.SKIPPED, Did.KEPT, Did.REMOVED, Did.WARNING)]
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
