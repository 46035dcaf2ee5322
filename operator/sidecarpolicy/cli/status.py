"""`sidecarpolicy status`: how far policies are, once or until that is decided; the exit code is the answer.

Watching asks once a second: the operator writes a status at most that often, and a question has no stream that can
end unnoticed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import nullcontext

import click
from rich.live import Live

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, asks_cluster
from sidecarpolicy.cli.cluster import explanation
from sidecarpolicy.cli.standing import EXIT_CODES, Standing, Verdict, json_of, shown_name, standing_of, worst
from sidecarpolicy.cli.status_view import console, detail, overview, progress, show
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import NotFound, Rejected, Transient
from sidecarpolicy.engine.resources import POLICIES

INTERVAL = 1.0
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


def seconds_of(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return the seconds of `90`, `90s`, `5m` or `1h30m`, as kubectl takes them; raise click.BadParameter."""
    found = DURATION.fullmatch(value)
    if not value or found is None:
        raise click.BadParameter(f"{value!r} is no duration: write 90s, 5m or 1h30m")
    hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return hours * 3600 + minutes * 60 + seconds


@click.command(
    epilog="Exit codes: 0 all are Ready, 1 one has failed (or nothing could be found out), 2 wrong usage, 3 one is "
    "still in progress, or the time is over."
)
@click.argument("policy", required=False, default="")
@click.option("-A", "--all-namespaces", is_flag=True, help="The policies of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Wait until each is Ready or has failed, and show how far it is.")
@click.option(
    "--timeout",
    callback=seconds_of,
    default="0",
    metavar="TIME",
    help="With --watch: 90s, 5m, 1h30m; 0 is for ever.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@asks_cluster
def status(asked: Asked, policy: str, all_namespaces: bool, watch: bool, timeout: float, output: str) -> None:
    """Show how far the rollout of a policy is, or of all policies of a namespace.

    POLICY is NAME, sidecarpolicy/NAME or cluster/NAME (a ClusterSidecarPolicy). A policy that waits for a person
    (paused, to be approved) is in progress.
    """
    if timeout and not watch:
        raise click.UsageError("--timeout is for --watch")
    if policy and all_namespaces:
        raise click.UsageError("one POLICY, or all with -A")
    question = _Question(asked, asked.policy_id(policy) if policy else None, all_namespaces=all_namespaces)
    standings = question.ask()
    if not policy and not standings:
        where = "in the cluster" if all_namespaces else f"in namespace {asked.namespace}, and none for the cluster"
        click.echo(f"there is no policy {where}", err=True)
    if watch:
        standings = _watch(question, standings, timeout, quiet=output == "json")
    if output == "json":
        click.echo(json.dumps(json_of(standings), indent=2, ensure_ascii=False))
    elif watch:
        for each in standings:
            if each.next_command:
                click.echo(f"next: {each.next_command}", err=True)
    elif standings:
        shown = console()
        show(detail(standings[0], bar=shown.is_terminal) if policy else overview(standings), shown)
    raise SystemExit(EXIT_CODES[worst(standings)])


class _Question:
    """What is asked, once or again and again: one policy, or all of a namespace or the cluster."""

    def __init__(self, asked: Asked, identity: PolicyId | None, *, all_namespaces: bool) -> None:
        self._asked, self._identity = asked, identity
        self._namespace = "" if all_namespaces else asked.namespace
        self._kinds = [names.POLICY, names.CLUSTER_POLICY]

    def ask(self) -> list[Standing]:
        """Return how they stand; raise click.ClickException where the one that was named does not exist."""
        if self._identity is not None:
            return [standing_of(self._asked.policy(self._identity))]
        found: list[Json] = []
        for kind in list(self._kinds):
            try:
                found += self._asked.cluster.list(POLICIES[kind], self._namespace if kind == names.POLICY else "")
            except Rejected as error:
                if kind == names.POLICY or error.reason != "Forbidden":
                    raise
                self._kinds.remove(kind)  # whoever sees only his namespace sees that
                click.echo(f"left out: {explanation(error, '')}", err=True)
        return [standing_of(each) for each in found]

    def ask_again(self) -> list[Standing] | None:
        """Return how they stand now; None where a policy that was named is gone."""
        if self._identity is None:
            return self.ask()
        try:
            identity = self._identity
            return [standing_of(self._asked.cluster.get(POLICIES[identity.kind], identity.namespace, identity.name))]
        except NotFound:
            return None

    def explain(self, error: Transient) -> str:
        """What is in the way of an answer, for people."""
        return explanation(error, self._asked.cluster.server)


def _watch(question: _Question, standings: list[Standing], timeout: float, *, quiet: bool) -> list[Standing]:
    """Ask until every policy is Ready or has failed, or *timeout* (seconds, 0: none) is over."""
    deadline = time.monotonic() + timeout if timeout else None
    screen = console()
    live = Live(console=screen, transient=False, auto_refresh=False) if screen.is_terminal and not quiet else None
    told: dict[PolicyId, str] = {}
    trouble = ""
    with live or nullcontext():
        while True:
            if live:
                live.update(progress(standings), refresh=True)
            elif not quiet:
                _tell(standings, told)
            if all(each.verdict is not Verdict.IN_PROGRESS for each in standings):
                return standings
            left = deadline - time.monotonic() if deadline is not None else INTERVAL
            if left <= 0:
                waiting = [each for each in standings if each.verdict is Verdict.IN_PROGRESS]
                click.echo(f"timed out after {timeout:g} s: {_unfinished(waiting)}", err=True)
                return standings
            time.sleep(min(INTERVAL, left))
            try:
                now = question.ask_again()
                trouble = ""
            except Transient as error:  # a server that restarts is no reason to give a long wait up
                if not trouble:
                    click.echo(f"asking again: {question.explain(error)}", err=True)
                trouble = str(error)
                continue
            if now is None:
                return _gone(standings)
            standings = now


def _gone(standings: Sequence[Standing]) -> list[Standing]:
    """What was watched is gone: as it should be where it was being deleted."""
    (last,) = standings
    if not last.deleting:
        raise click.ClickException(f"{last.policy.label} was deleted while it was watched")
    click.echo(f"{shown_name(last.policy)} is gone", err=True)
    return []


def _tell(standings: Sequence[Standing], told: dict[PolicyId, str]) -> None:
    """A line for each policy of which something new is known."""
    for each in standings:
        line = f"{shown_name(each.policy)} {each.reason or each.verdict.value}: {each.message}"
        if told.get(each.policy) != line:
            click.echo(line)
            told[each.policy] = line


def _unfinished(waiting: Sequence[Standing]) -> str:
    first = f"{shown_name(waiting[0].policy)} {waiting[0].reason or waiting[0].verdict.value}: {waiting[0].message}"
    return first + (f" (and {len(waiting) - 1} more in progress)" if len(waiting) > 1 else "")
