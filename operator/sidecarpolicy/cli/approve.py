"""`sidecarpolicy approve`: let a rollout or a removal that waits for a person go on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, annotate, asks_cluster, dry_run_option, policy_argument, say
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of, with_entries
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import POLICIES
from sidecarpolicy.engine.warned import APPROVAL
from sidecarpolicy.names import Reason

ASKED_FOR = re.compile(rf"{re.escape(names.APPROVE)}: (\S+)")
AWAITS = (Reason.AWAITING_APPROVAL.value, Reason.REMOVAL_HELD.value)
"""Reasons of Ready whose message says what is to be approved. Other messages quote what workloads say of themselves."""


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
    wanted = values or awaited(body)
    if not wanted:
        raise click.ClickException(f"{identity.label} waits for no approval: {_standing(body, identity)}")
    resource = POLICIES[identity.kind]
    if set(wanted) <= set(entries_of(at(body, "metadata", "annotations").get(names.APPROVE, ""))):
        say(asked, resource, identity.name, f"already approved: {', '.join(wanted)}")
        return
    annotate(asked, resource, body, names.APPROVE, lambda value: with_entries(value, wanted))
    say(asked, resource, identity.name, f"approved: {', '.join(wanted)}")


def awaited(body: Json) -> Sequence[str]:
    """Return what the status of a policy asks to have approved; nothing where it is about an older generation."""
    ready = _ready(body)
    if ready.get("reason") not in AWAITS or ready.get("observedGeneration") != body["metadata"]["generation"]:
        return ()
    found = (each.rstrip(".,;:)'\"") for each in ASKED_FOR.findall(ready.get("message", "")))
    return tuple(entry for each in found for entry in entries_of(each) if APPROVAL.fullmatch(entry))


def _ready(body: Json) -> Json:
    return next((each for each in items(at(body, "status"), "conditions") if each["type"] == "Ready"), {})


def _standing(body: Json, identity: PolicyId) -> str:
    ready = _ready(body)
    if not ready or ready.get("observedGeneration") != body["metadata"]["generation"]:
        return "the operator has not looked at its newest generation yet; try again"
    return f"{ready.get('reason')}: {ready.get('message')}"
