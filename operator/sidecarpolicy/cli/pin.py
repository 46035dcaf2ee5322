"""`sidecarpolicy pin`: keep one Deployment at one revision of a policy."""

from __future__ import annotations

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import (
    Asked,
    annotate,
    asks_cluster,
    deployment_name,
    dry_run_option,
    policy_argument,
    say,
)
from sidecarpolicy.cli.completing import deployments, revisions
from sidecarpolicy.cli.history import history, named
from sidecarpolicy.cli.operator_seen import say_what_follows
from sidecarpolicy.cli.policy_names import command, short_name
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of, policy_of, with_pin
from sidecarpolicy.core.pins import pin_text, pinned_name
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.resources import DEPLOYMENTS


@click.command()
@policy_argument
@click.argument("deployment", metavar="DEPLOYMENT", shell_complete=deployments)
@click.option(
    "--to",
    metavar="HASH",
    shell_complete=revisions,
    help="The revision, by its hash or name. Default: the one it has now.",
)
@click.option("--remove", is_flag=True, help="Take the pin of this policy off.")
@dry_run_option
@asks_cluster
def pin(asked: Asked, policy: str, deployment: str, to: str | None, remove: bool, **_: object) -> None:
    """Keep a Deployment at one revision of a policy, whatever is rolled out elsewhere.

    Sets the annotation sidecars.dev/pin on the Deployment; pins of other policies stay.
    """
    if to == "":
        raise click.UsageError("--to must not be empty: name a revision, or leave the flag out")
    if to and remove:
        raise click.UsageError("--remove takes the pin off: leave out --to")
    identity = asked.policy_id(policy)
    name = deployment_name(deployment)
    body = asked.deployment(identity.namespace or asked.namespace, name)
    mine = pinned_name(identity)
    value = at(body, "metadata", "annotations").get(names.PIN, "")
    pinned = [each for each in entries_of(value) if policy_of(each) == mine]
    if remove:
        if not pinned:
            say(asked, DEPLOYMENTS, name, f"has no pin of {identity.label}")
            return
        annotate(asked, DEPLOYMENTS, body, names.PIN, lambda value: with_pin(value, mine, None))
        say(asked, DEPLOYMENTS, name, f"unpinned from {', '.join(pinned)}")
        say_what_follows(asked, command("status", identity))
        return
    asked.policy(identity)
    revision = to or _revision_on(body, identity)
    wanted = pin_text(identity, named(history(asked, identity), identity, revision).name)
    if pinned == [wanted]:
        say(asked, DEPLOYMENTS, name, f"already pinned at {wanted}")
        return
    annotate(asked, DEPLOYMENTS, body, names.PIN, lambda value: with_pin(value, mine, wanted))
    say(asked, DEPLOYMENTS, name, f"pinned at {wanted}")
    place = body["metadata"]["namespace"]
    say_what_follows(asked, f"sidecarpolicy pin {short_name(identity)} {name} -n {place} --remove, when it may go on")


def _revision_on(body: Json, identity: PolicyId) -> str:
    """The revision that a Deployment has of a policy; raise click.ClickException where it has none."""
    entry = record_of(at(body, "metadata", "annotations").get(names.RECORD)).entries.get(identity)
    if entry is None or not entry.revision:
        place = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
        raise click.ClickException(f"Deployment {place} has nothing of {identity.label} yet: name a revision with --to")
    return entry.revision
