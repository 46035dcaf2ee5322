"""`sidecarpolicy stop` and `start`: the emergency switch, for every policy and workload at once.

It is an annotation on the operator's namespace, so that it holds whether or not an operator runs, through restarts and
upgrades, and so that whoever may edit that namespace can throw it with kubectl alone. An operator that serves some
namespaces only cannot see that; there it is on its Lease.
"""

from __future__ import annotations

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, annotate, asks_cluster, dry_run_option, say
from sidecarpolicy.cli.operator_seen import LEASES, namespaces_served
from sidecarpolicy.core.emergency_switch import reason_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import NotFound, Resource
from sidecarpolicy.engine.resources import NAMESPACES

ON = "true"


@click.command()
@click.option("--reason", default="", metavar="TEXT", help="Why, for everybody who looks at a status meanwhile.")
@dry_run_option
@asks_cluster
def stop(asked: Asked, reason: str, **_: object) -> None:
    """Stop everything: the operator changes no workload any more, until `sidecarpolicy start`.

    Nothing is rolled back and nothing restarts: each Deployment stays as it is, also one that is on its way. New
    Deployments get no sidecars, deleted policies wait. Policies are still read, and statuses written. Sets the
    annotation sidecars.dev/stop on the operator's namespace, or on its Lease where it serves some namespaces only.
    """
    resource, body = _bearer(asked)
    before, wanted = reason_of(at(body, "metadata")), reason.strip() or ON
    if wanted == "false":
        raise click.UsageError("--reason: must be a sentence; `false` is how the switch is off")
    if before and (before == wanted or not reason):
        say(asked, resource, body["metadata"]["name"], "already stopped")
        return
    annotate(asked, resource, body, names.STOP, lambda _: wanted)
    say(asked, resource, body["metadata"]["name"], "stopped: no workload is changed any more")
    click.echo(f"next: sidecarpolicy start{_flag(asked.operator_namespace)}, when all is well again", err=True)


@click.command()
@dry_run_option
@asks_cluster
def start(asked: Asked, **_: object) -> None:
    """Lift the stop: the operator goes on where it was, with what is there now.

    Takes the annotation sidecars.dev/stop off the operator's namespace, or off its Lease where it is there.
    """
    resource, body = _bearer(asked)
    if not reason_of(at(body, "metadata")):
        say(asked, resource, body["metadata"]["name"], "is not stopped")
        return
    annotate(asked, resource, body, names.STOP, lambda _: "")
    say(asked, resource, body["metadata"]["name"], "started: rollouts go on")
    click.echo("next: sidecarpolicy status -A", err=True)


def _bearer(asked: Asked) -> tuple[Resource, Json]:
    """What bears the switch: the Lease of an operator that serves some namespaces only, else the Namespace."""
    name = asked.operator_namespace
    if namespaces_served(asked):
        return LEASES, asked.cluster.get(LEASES, name, names.CONTROLLER)
    try:
        return NAMESPACES, asked.cluster.get(NAMESPACES, "", name)
    except NotFound as error:
        raise click.ClickException(
            f"there is no namespace {name}: name the operator's with --operator-namespace"
        ) from error


def _flag(namespace: str) -> str:
    from sidecarpolicy.cli.asking import OPERATOR_NAMESPACE

    return "" if namespace == OPERATOR_NAMESPACE else f" --operator-namespace {namespace}"
