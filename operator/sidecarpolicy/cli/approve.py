"""`sidecarpolicy approve`: let a rollout or a removal that waits for a person go on."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, annotate, asks_cluster, dry_run_option, policy_argument, say
from sidecarpolicy.cli.hints import did_you_mean
from sidecarpolicy.cli.operator_seen import say_what_follows
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.cli.standing import awaited_by, standing_of
from sidecarpolicy.core.approvals import APPROVAL
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of, with_entries
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import POLICIES


@click.command()
@policy_argument
@click.argument("values", metavar="[VALUE]...", nargs=-1)
@dry_run_option
@asks_cluster
def approve(asked: Asked, policy: str, values: tuple[str, ...], **_: object) -> None:
    """Approve what a policy waits for, or each VALUE: removal@GENERATION, canary/GROUP@REVISION.

    Adds it to the annotation sidecars.dev/approve of the policy; what is there stays.
    """
    if wrong := [value for value in values if not APPROVAL.fullmatch(value)]:
        raise click.UsageError(f"{wrong[0]!r}: must be removal@GENERATION or canary/GROUP@REVISION")
    identity = asked.policy_id(policy)
    body = asked.policy(identity)
    refuse_unknown_groups(body, identity, values)
    wanted = values or awaited_by(body)
    if not wanted:
        standing = standing_of(body)
        why = f"{standing.reason}: {standing.message}" if standing.reason else standing.message
        raise click.ClickException(f"{identity.label} waits for no approval: {why}")
    resource = POLICIES[identity.kind]
    if set(wanted) <= set(entries_of(at(body, "metadata", "annotations").get(names.APPROVE, ""))):
        say(asked, resource, identity.name, f"already approved: {', '.join(wanted)}")
        return
    annotate(asked, resource, body, names.APPROVE, lambda value: with_entries(value, wanted))
    say(asked, resource, identity.name, f"approved: {', '.join(wanted)}")
    say_what_follows(asked, command("status", identity, "--watch"))


def refuse_unknown_groups(body: Json, identity: PolicyId, values: Sequence[str]) -> None:
    """Raise click.ClickException where one of *values* names a canary group that the policy does not have."""
    groups = [str(each.get("name")) for each in items(at(body, "spec", "rollout"), "canary")]
    for value in values:
        group = value.removeprefix("canary/").partition("@")[0]
        if value.startswith("canary/") and group not in groups:
            known = f"; {did_you_mean(groups, group)}" if groups else ": it has none at all"
            raise click.ClickException(f"{identity.label} has no canary group {group!r}{known}")
