"""`sidecarpolicy targets`: every Deployment of a policy, and where it stands; what a status can only count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import click

from sidecarpolicy.cli.asking import Asked, asks_cluster, output_option, policy_argument, print_as
from sidecarpolicy.cli.operator_seen import namespaces_served
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.cli.snapshot import Snapshot, needs_namespaces, snapshot
from sidecarpolicy.cli.text import UNSEEN, Cell, Table, plural, several_namespaces, show, width
from sidecarpolicy.cli.whereabouts import doing
from sidecarpolicy.core.configs import plain
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.core.tree import Json

REMOVING = "removing"
MOST_CAUSES = 20
STATES = (*(state.value for state in State), REMOVING)
COLOURS = {State.UPDATED.value: "green", State.FAILED.value: "red", State.PROGRESSING.value: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One Deployment. *state* is one of the counts of status.targets; *revision* what it bears now, or nothing."""

    workload: WorkloadId
    state: str
    revision: str
    reason: str
    message: str


@click.command(epilog="Exit codes: 0 listed, 1 it could not be found out, 2 wrong usage.")
@policy_argument
@click.option(
    "--state", "states", type=click.Choice(STATES), multiple=True, help="Only those in this state; may be repeated."
)
@output_option("wide", "json", "yaml")
@asks_cluster
def targets(asked: Asked, policy: str, states: tuple[str, ...], output: str) -> None:
    """List the Deployments that a policy selects: state, revision, and why.

    Computed from the cluster's objects by the same functions as the operator's status, and as new as they are. Of a
    ClusterSidecarPolicy those of all namespaces, or of the one that -n names. removing: not selected any more.
    """
    identity = asked.policy_id(policy)
    if identity.cluster_wide:
        asked.refuse_absent(asked.chosen)
    asked.policy(identity)
    found = snapshot(asked, identity, namespaces_served(asked))
    cached = found.context.cache.policies.get(identity)
    if cached is None:
        raise click.ClickException(f"{identity.label} has gone in this moment")
    if cached.policy is None:
        raise click.ClickException(f"cannot evaluate the selector of {identity.label}: {cached.problems}")
    if needs_namespaces(cached) and not found.context.cache.namespaces:
        raise click.ClickException("; ".join(["it selects by the labels of namespaces", *found.notes]))
    fleet = found.fleet(cached)
    rows = rows_of(fleet)
    chosen = [each for each in rows if not states or each.state in states]
    chosen = list(_with_causes(chosen, found, fleet, cached.policy.rollout))
    if output in ("json", "yaml"):
        print_as(output, _json(identity, chosen, found.notes))
    else:
        for note in found.short_notes:
            click.echo(note, err=True)
        _print(identity, chosen, rows, wide=output == "wide")


def rows_of(fleet: Fleet) -> list[Row]:
    """Return every target, and those that are not selected any more, by namespace and name."""
    rows = [
        *(_row(each, each.state.value, fleet) for each in fleet.targets),
        *(_row(each, REMOVING, fleet) for each in fleet.removing),
    ]
    return sorted(rows, key=lambda each: each.workload)


def _row(each: Target, state: str, fleet: Fleet) -> Row:
    reason, message = each.reason, each.message
    if each.skip is not None:
        reason, message = each.skip.reason.value, each.skip.message
    elif not message and each.busy and each.revision != fleet.update:
        message = "waits for another rollout of this Deployment"
    return Row(workload=each.workload, state=state, revision=plain(each.revision or ""), reason=reason, message=message)


def _with_causes(rows: Sequence[Row], found: Snapshot, fleet: Fleet, rollout: Rollout) -> Iterator[Row]:
    """Yield *rows*, the first few that are on their way with what they wait for; each is a question about Pods."""
    left = MOST_CAUSES
    for each in rows:
        target = fleet.get(each.workload)
        if target is None or each.message or not target.holds_slot or not left:
            yield each
            continue
        left -= 1
        yield replace(each, message=doing(found, target, rollout))


def _json(identity: PolicyId, rows: Sequence[Row], notes: Sequence[str]) -> Json:
    return {
        "policy": {"kind": identity.kind, "namespace": identity.namespace, "name": identity.name},
        "targets": [
            {
                "namespace": each.workload.namespace,
                "name": each.workload.name,
                "state": each.state,
                "revision": each.revision,
                "reason": each.reason,
                "message": each.message,
            }
            for each in rows
        ],
        "notes": list(notes),
    }


def _print(identity: PolicyId, chosen: Sequence[Row], rows: Sequence[Row], *, wide: bool) -> None:
    counted = Counter(each.state for each in rows)
    there = ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])
    if not chosen:
        click.echo(f"none; there is {there}" if there else "the policy selects no Deployment", err=True)
        return
    namespaced = wide or several_namespaces(each.workload.namespace for each in chosen)
    table = Table(
        [*(["NAMESPACE"] if namespaced else []), "DEPLOYMENT", "STATE", "REVISION", "REASON", "MESSAGE"],
        ("REASON", "REVISION"),
    )
    for each in chosen:
        table.add(
            *([each.workload.namespace] if namespaced else []),
            each.workload.name,
            Cell(each.state, COLOURS.get(each.state, "")),
            each.revision or UNSEEN,
            each.reason or UNSEEN,
            each.message,
        )
    show(table.lines(width()))
    if width() is not None:
        click.echo(f"{plural(len(rows), 'Deployment')}: {there}", err=True)
    if any(each.state == State.FAILED for each in chosen):
        click.echo(f"next: {command('status', identity)}", err=True)
