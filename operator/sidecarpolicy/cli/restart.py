"""`sidecarpolicy restart`: a new revision that changes nothing but rolls everywhere, as safely as any other."""

from __future__ import annotations

from functools import partial

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, annotate, asks_cluster, dry_run_option, policy_argument, say, say_next
from sidecarpolicy.cli.operator_seen import look_at_operator
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.cli.standing import Standing, halt_of, standing_of
from sidecarpolicy.cli.text import plural
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.restarts import next_restart
from sidecarpolicy.core.times import is_timestamp
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.resources import POLICIES
from sidecarpolicy.names import Strategy


@click.command()
@policy_argument
@dry_run_option
@asks_cluster
def restart(asked: Asked, policy: str, **_: object) -> None:
    """Restart the Pods of every Deployment of a policy: one first, a few at a time, and back if it fails.

    Sets the annotation sidecars.dev/restarted-at of the policy, which makes a new revision of it that injects the same.
    It is rolled out as every revision is. Deployments that are skipped or pinned are not restarted.
    """
    identity = asked.policy_id(policy)
    seen = look_at_operator(asked)
    body = asked.policy(identity)
    rollout = _rollout(body, identity)
    if halt := halt_of(body):
        raise click.ClickException(
            f"the rollout of {identity.label} is halted ({halt}), and a restart would go on with what failed: "
            f"{command('undo', identity)} goes back, {command('resume', identity)} tries it again"
        )
    standing = standing_of(body)
    annotate(asked, POLICIES[identity.kind], body, names.RESTARTED_AT, partial(_later, asked.cluster.now()))
    say(asked, POLICIES[identity.kind], identity.name, f"restarted: {_extent(standing, rollout)}")
    operator = seen()
    for note in (*operator.banners, *_notes(standing, rollout)):
        click.echo(note, err=True)
    if operator.stop:
        say_next("sidecarpolicy start")
    else:
        say_next(command("resume", identity) if rollout.paused else command("status", identity, "--watch"))


def _later(now: float, last: str) -> str:
    return next_restart(now, last if is_timestamp(last) else "")


def _rollout(body: Json, identity: PolicyId) -> Rollout:
    """Return how a revision of the policy *body* is rolled out; raise click.ClickException where none will be."""
    if "deletionTimestamp" in body["metadata"]:
        raise click.ClickException(f"{identity.label} is being deleted: there is nothing to restart")
    try:
        return decode_policy(body, strict=False).rollout
    except InvalidInput as error:
        raise click.ClickException(
            f"{identity.label} is not accepted, and nothing of it is rolled out: {error}"
        ) from error


def _extent(standing: Standing, rollout: Rollout) -> str:
    """How many Deployments restart, and how: `12 Deployments, one first, then at most 1 at a time`."""
    if standing.observed and not standing.total:
        return "it has no Deployment now"
    who = plural(standing.total, "Deployment") if standing.observed else "every Deployment"
    match rollout.strategy:
        case Strategy.ALL_AT_ONCE:
            return f"{who}, all at once"
        case Strategy.ON_NEXT_CHANGE:
            return f"{who}, each with its owner's next change"
        case Strategy.PROGRESSIVE:
            most = rollout.max_concurrent
            shown = f"{most:.0%}" if isinstance(most, float) else str(most)
            few = rollout.budget(standing.total) if standing.observed else shown
            return f"{who}, one first, then at most {few} at a time"


def _notes(standing: Standing, rollout: Rollout) -> list[str]:
    """What the author should know before they wait for it."""
    found: list[str] = []
    policy, status = standing.policy, standing.status
    if rollout.paused:
        found.append("it is paused: nothing restarts before it is resumed")
    update, current = status.get("updateRevision", ""), status.get("currentRevision", "")
    if standing.observed and update and update != current:
        found.append(f"its rollout of {update} is not over: the restart takes its place, with one first again")
    if skipped := standing.count(State.SKIPPED.value):
        which = command("targets", policy, f"--state={State.SKIPPED.value}")
        found.append(f"not restarted: {plural(skipped, 'skipped Deployment')} ({which})")
    return found
