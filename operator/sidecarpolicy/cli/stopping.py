"""`sidecarpolicy stop` and `start`: the emergency switch, for every policy and workload at once.

It is an annotation on the operator's namespace, so that it holds whether or not an operator runs, through restarts and
upgrades, and so that whoever may edit that namespace can throw it with kubectl alone.
"""

from __future__ import annotations

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, annotate, asks_cluster, dry_run_option, say
from sidecarpolicy.cli.operator_seen import stop_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import NotFound
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
    annotation sidecars.dev/stop on the operator's namespace.
    """
    body = _namespace(asked)
    before, wanted = stop_of(body), reason.strip() or ON
    if wanted == "false":
        raise click.UsageError("--reason: must be a sentence; `false` is how the switch is off")
    if before and (before == wanted or not reason):
        say(asked, NAMESPACES, asked.operator_namespace, "already stopped")
        return
    annotate(asked, NAMESPACES, body, names.STOP, lambda _: wanted)
    say(asked, NAMESPACES, asked.operator_namespace, "stopped: no workload is changed any more")
    where = at(body, "metadata").get("name", "")
    click.echo(f"next: sidecarpolicy start{_flag(where)}, when all is well again", err=True)


@click.command()
@dry_run_option
@asks_cluster
def start(asked: Asked, **_: object) -> None:
    """Lift the stop: the operator goes on where it was, with what is there now.

    Takes the annotation sidecars.dev/stop off the operator's namespace.
    """
    body = _namespace(asked)
    if not stop_of(body):
        say(asked, NAMESPACES, asked.operator_namespace, "is not stopped")
        return
    annotate(asked, NAMESPACES, body, names.STOP, lambda _: "")
    say(asked, NAMESPACES, asked.operator_namespace, "started: rollouts go on")
    click.echo("next: sidecarpolicy status -A", err=True)


def _namespace(asked: Asked) -> Json:
    name = asked.operator_namespace
    try:
        return asked.cluster.get(NAMESPACES, "", name)
    except NotFound as error:
        raise click.ClickException(
            f"there is no namespace {name}: name the operator's with --operator-namespace"
        ) from error


def _flag(namespace: str) -> str:
    from sidecarpolicy.cli.asking import OPERATOR_NAMESPACE

    return "" if namespace == OPERATOR_NAMESPACE else f" --operator-namespace {namespace}"
