"""`sidecarpolicy status`: how far policies are, once or until that is decided; the exit code is the answer.

Watching asks once a second: the operator writes a status at most that often, and a question has no stream that can
end unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, asks_cluster, duration, output_option, print_as
from sidecarpolicy.cli.completing import policies
from sidecarpolicy.cli.findings import some
from sidecarpolicy.cli.operator_seen import OperatorSeen, look_at_operator
from sidecarpolicy.cli.policy_names import shown_name, with_namespace
from sidecarpolicy.cli.standing import EXIT_CODES, Standing, Verdict, json_of, standing_of, worst
from sidecarpolicy.cli.status_view import detail, overview, progress
from sidecarpolicy.cli.text import painted, show, width, wrapped
from sidecarpolicy.core.identity import PolicyId, namespaces_in_words
from sidecarpolicy.core.times import timestamp
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import NotFound, Rejected, Transient
from sidecarpolicy.engine.resources import POLICIES
from sidecarpolicy.names import Reason

INTERVAL = 1.0
MOST_NEXT = 5


@click.command(
    epilog="Exit codes: 0 all are Ready, 1 one has failed (or nothing could be found out), 2 wrong usage, 3 one is "
    "still in progress, or the time is over."
)
@click.argument("policy", required=False, shell_complete=policies)
@click.option("-A", "--all-namespaces", is_flag=True, help="The policies of all namespaces.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Of several, those with these labels: tier=web.")
@click.option("-w", "--watch", is_flag=True, help="Wait until each is Ready or has failed, and show how far it is.")
@click.option(
    "--timeout",
    callback=duration,
    default="0",
    metavar="TIME",
    help="With --watch: 90s, 5m, 1h30m; 0 is for ever.",
)
@output_option("wide", "json", "yaml")
@asks_cluster
def status(
    asked: Asked, policy: str | None, all_namespaces: bool, selector: str, watch: bool, timeout: float, output: str
) -> None:
    """Show how far the rollout of a policy is, or of all policies of a namespace and of the cluster.

    POLICY is NAME, sidecarpolicy/NAME or cluster/NAME (a ClusterSidecarPolicy). A policy that waits for a person
    (paused, to be approved) is in progress. --watch without a POLICY waits for those of the namespace, with -A for all.
    """
    if timeout and not watch:
        raise click.UsageError("--timeout is for --watch")
    if policy is not None and (all_namespaces or selector):
        raise click.UsageError("one POLICY, or several with -A or -l")
    identity = asked.policy_id(policy) if policy is not None else None
    seen = look_at_operator(asked)
    question = _Question(asked, identity, selector, all_namespaces=all_namespaces, clusterwide=not watch)
    standings = question.ask()
    operator = seen()
    standings = [replace(each, abandoned=bool(operator.problem) and each.deleting) for each in standings]
    for banner in operator.banners:
        for line in wrapped(banner, width()):
            click.echo(painted(line, "red", bold=True), err=True)
    _say_who_is_not_served(standings, operator)
    if not policy and not all_namespaces and not any(each.policy.namespace for each in standings):
        asked.refuse_absent(asked.namespace)
    if not policy and not standings:
        _say_that_there_is_none(asked, selector, all_namespaces=all_namespaces)
    if watch:
        standings = _watch(question, standings, timeout, quiet=output in ("json", "yaml"))
    if output in ("json", "yaml"):
        print_as(output, json_of(standings) | {"operator": operator.json()})
    elif watch:
        _say_what_is_next(standings)
    elif policy:
        where = _whereabouts(asked, standings[0], operator.watches)
        show(detail(standings[0], bar=width() is not None, room=width(), where=where))
    elif standings:
        namespaced = all_namespaces or None
        show(overview(standings, now=asked.cluster.now(), wide=output == "wide", namespaced=namespaced).lines(width()))
        _say_what_is_next(standings)
    raise SystemExit(EXIT_CODES[worst(standings)])


def _say_who_is_not_served(standings: Sequence[Standing], operator: OperatorSeen) -> None:
    """Say of policies at which nobody has looked yet that this operator never will."""
    served = operator.watches
    left = [each for each in standings if served and not each.observed and each.policy.namespace not in served]
    if left:
        click.echo(
            f"the operator in namespace {operator.namespace} serves {namespaces_in_words(served)} only: unless another "
            f"one does, nobody looks at {some([with_namespace(each.policy) for each in left])}. To find out: "
            "sidecarpolicy check",
            err=True,
        )


def _say_that_there_is_none(asked: Asked, selector: str, *, all_namespaces: bool) -> None:
    where = "in the cluster" if all_namespaces else f"in namespace {asked.namespace}, and none for the cluster"
    labels = f" with the labels {selector}" if selector else ""
    click.echo(f"there is no policy{labels} {where}", err=True)
    if not all_namespaces:
        click.echo("next: sidecarpolicy status -A", err=True)


def _say_what_is_next(standings: Sequence[Standing]) -> None:
    waiting = [each for each in standings if each.next_command]
    found = list(dict.fromkeys(each.next_command for each in waiting)) if len(waiting) != 1 else waiting[0].next_lines
    for each in found[:MOST_NEXT]:
        click.echo(f"next: {each}", err=True)
    if len(found) > MOST_NEXT:
        click.echo(f"and {len(found) - MOST_NEXT} more: sidecarpolicy status POLICY tells each", err=True)


def _whereabouts(asked: Asked, each: Standing, served: Sequence[str]) -> list[str]:
    """Where a rollout that is under way is; nothing where that cannot be found out."""
    if each.reason not in (Reason.ROLLING_OUT, Reason.REMOVING) or not each.observed:
        return []
    from sidecarpolicy.cli.whereabouts import whereabouts

    return whereabouts(asked, each, served)


class _Question:
    """What is asked, once or again and again: one policy, or all of a namespace or the cluster."""

    def __init__(
        self, asked: Asked, identity: PolicyId | None, selector: str, *, all_namespaces: bool, clusterwide: bool
    ) -> None:
        self._asked, self._identity, self._selector = asked, identity, selector
        self._namespace = "" if all_namespaces else asked.namespace
        self._kinds = [names.POLICY] + ([names.CLUSTER_POLICY] if all_namespaces or clusterwide else [])

    def ask(self) -> list[Standing]:
        """Return how they stand; raise click.ClickException where the one that was named does not exist."""
        if self._identity is not None:
            return [standing_of(self._asked.policy(self._identity))]
        cluster = self._asked.cluster
        lists = [
            (
                kind,
                cluster.soon(
                    cluster.list,
                    POLICIES[kind],
                    self._namespace if kind == names.POLICY else "",
                    label_selector=self._selector,
                ),
            )
            for kind in self._kinds
        ]
        found: list[Json] = []
        for kind, listed in lists:
            try:
                found += listed()
            except Rejected as error:
                if kind == names.POLICY or error.reason != "Forbidden":
                    raise
                self._kinds.remove(kind)  # whoever sees one namespace only sees that
                click.echo("left out: ClusterSidecarPolicies, which you have no right to list", err=True)
        return [standing_of(each) for each in found]

    def ask_again(self, standings: Sequence[Standing]) -> list[Standing]:
        """Return how they stand now, without those that are gone."""
        if self._identity is not None:
            identity = self._identity
            try:
                body = self._asked.cluster.get(POLICIES[identity.kind], identity.namespace, identity.name)
            except NotFound:
                now = []
            else:
                now = [standing_of(body)]
        else:
            now = self.ask()
        left = {each.policy for each in now}
        for each in standings:
            if each.policy not in left:
                click.echo(f"{shown_name(each.policy)} is gone", err=True)
        return now

    def now(self) -> float:
        """The server's time, in seconds since the epoch."""
        return self._asked.cluster.now()

    def explain(self, error: Transient) -> str:
        """What is in the way of an answer, for people."""
        from sidecarpolicy.cli.cluster import explanation

        return explanation(error, self._asked.cluster.server)


def _watch(question: _Question, standings: list[Standing], timeout: float, *, quiet: bool) -> list[Standing]:
    """Ask until every policy is Ready or has failed, or *timeout* (seconds, 0: none) is over."""
    deadline = time.monotonic() + timeout if timeout else None
    screen = _Screen() if width() is not None and not quiet else None
    told: dict[PolicyId, str] = {}
    trouble = ""
    while True:
        if screen:
            screen.draw(progress(standings, screen.room))
        elif not quiet:
            _tell(standings, told, question.now())
        if all(each.verdict is not Verdict.IN_PROGRESS for each in standings):
            return standings
        left = deadline - time.monotonic() if deadline is not None else INTERVAL
        if left <= 0:
            waiting = [each for each in standings if each.verdict is Verdict.IN_PROGRESS]
            click.echo(f"timed out after {timeout:g} s: {_unfinished(waiting)}", err=True)
            return standings
        time.sleep(min(INTERVAL, left))
        try:
            standings = question.ask_again(standings)
            trouble = ""
        except Transient as error:  # a server that restarts is no reason to give a long wait up
            if not trouble:
                click.echo(f"asking again: {question.explain(error)}", err=True)
            trouble = str(error)


class _Screen:
    """Lines of a terminal that are drawn again in their place."""

    def __init__(self) -> None:
        self.room = width()
        self._drawn = 0

    def draw(self, lines: Iterator[str]) -> None:
        """Draw *lines* over those of before."""
        self.room = width()
        new = list(lines)
        up = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        click.echo(up + "\n".join(new))
        self._drawn = len(new)


def _tell(standings: Sequence[Standing], told: dict[PolicyId, str], now: float) -> None:
    """A line with the time for each policy of which something new is known."""
    for each in standings:
        line = _line(each)
        if told.get(each.policy) != line:
            click.echo(f"{timestamp(now)} {line}")
            told[each.policy] = line


def _line(each: Standing) -> str:
    return f"{with_namespace(each.policy)} {each.reason or each.verdict.value}: {each.message}"


def _unfinished(waiting: Sequence[Standing]) -> str:
    return _line(waiting[0]) + (f" (and {len(waiting) - 1} more in progress)" if len(waiting) > 1 else "")
