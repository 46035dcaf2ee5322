"""`sidecarpolicy history`: the stored revisions of a policy, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from sidecarpolicy.cli.asking import Asked, asks_cluster, output_option, policy_argument, print_as
from sidecarpolicy.cli.completing import revisions
from sidecarpolicy.cli.history import HistoryEntry, before, live_name, live_words, named
from sidecarpolicy.cli.history import history as stored_history
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.cli.text import UNSEEN, Cell, Table, age, painted, show, width
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.revision import current_revision, update_revision
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json

COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(epilog="Exit codes: 0 shown, 1 it could not be found out, 2 wrong usage.")
@policy_argument
@click.argument("old", metavar="[REVISION]", required=False, default="", shell_complete=revisions)
@click.argument("new", metavar="[REVISION]", required=False, default="", shell_complete=revisions)
@output_option("wide", "json", "yaml")
@asks_cluster
def history(asked: Asked, policy: str, old: str, new: str, output: str) -> None:
    """List the stored revisions of a policy, the newest first; or what differs between two of them.

    One REVISION (a name, or its hash) is compared with the policy as it is now, two with each other: as their author
    wrote them.
    """
    identity = asked.policy_id(policy)
    body = asked.policy(identity)
    past, live = stored_history(asked, identity), live_name(identity, body)
    if old:
        words = _words(named(past, identity, old))
        after = _words(named(past, identity, new)) if new else live_words(body)
        titles = (named(past, identity, old).name, named(past, identity, new).name if new else f"{live or 'now'} (now)")
        _show_difference(words, after, titles, output)
        return
    if output in ("json", "yaml"):
        print_as(output, {"policy": _policy(identity), "revisions": [_json(each, past, live) for each in past]})
        return
    if not past:
        click.echo(f"{identity.label} has no revision yet: none was accepted", err=True)
        click.echo(f"next: {command('status', identity)}", err=True)
        return
    show(_table(past, live, asked.cluster.now(), wide=output == "wide").lines(width()))
    if len(past) > 1 and width() is not None:
        older = before(past, past[0].name) or past[1]
        click.echo(f"next: {command('history', identity, older.name, past[0].name)}", err=True)


def _table(past: Sequence[HistoryEntry], live: str, now: float, *, wide: bool) -> Table:
    table = Table(["REVISION", "AGE", "STATE", "SIDECARS"])
    wide = wide or _differ_in_registry(past)
    for each in past:
        state, colour = _state(each, past, live)
        table.add(each.name, age(now - seconds_of(each.stored.since)), Cell(state, colour), _sidecars(each, wide=wide))
    return table


def _state(each: HistoryEntry, past: Sequence[HistoryEntry], live: str) -> tuple[str, str]:
    """What a revision is to its policy now, for people, and its colour."""
    everything = [one.stored for one in past]
    update, current = update_revision(everything), current_revision(everything)
    words = []
    if each.stored.halt is not None:
        words.append("halted")
    if each.stored is update:
        words.append("newest" if each.name == live else "newest accepted")
    if each.stored is current:
        words.append("rolled out last")
    elif not each.stored.completion:
        words.append("never rolled out completely")
    colour = "red" if each.stored.halt is not None else "green" if each.stored is current else ""
    return ", ".join(words) or "rolled out before", colour


def _differ_in_registry(past: Sequence[HistoryEntry]) -> bool:
    """Whether two images would look the same without their registries."""
    images = {str(one.container.get("image", "")) for each in past for one in each.stored.revision.sidecars}
    return len({image.rpartition("/")[2] for image in images}) < len(images)


def _sidecars(each: HistoryEntry, *, wide: bool) -> str:
    found = (
        f"{sidecar.name}={sidecar.container.get('image', UNSEEN)}" if wide else _short(sidecar.name, sidecar.container)
        for sidecar in each.stored.revision.sidecars
    )
    return ", ".join(found)


def _short(name: str, container: Json) -> str:
    """`proxy envoy:v1.36`: the image without its registry."""
    return f"{name} {str(container.get('image', UNSEEN)).rpartition('/')[2]}"


def _words(entry: HistoryEntry) -> Json:
    if entry.words is None:
        raise click.ClickException(
            f"revision {entry.name} was stored without its author's words, by an earlier version of the operator"
        )
    return entry.words


def _show_difference(before: Json, after: Json, titles: tuple[str, str], output: str) -> None:
    if output in ("json", "yaml"):
        print_as(output, {"from": {"revision": titles[0]} | before, "to": {"revision": titles[1]} | after})
        return
    lines = list(difference(before, after, titles))
    if not lines:
        click.echo(f"{titles[0]} and {titles[1]} are the same", err=True)
    show(painted(line, COLOURS.get(line[:1], ""), bold=line[:3] in ("---", "+++")) for line in lines)


def difference(before: Json, after: Json, titles: tuple[str, str]) -> Iterator[str]:
    """Yield the unified difference of two author's words as YAML, keys in one order; nothing where there is none."""
    import difflib

    yield from difflib.unified_diff(_yaml(before), _yaml(after), *titles, n=3, lineterm="")


def _yaml(words: Json) -> list[str]:
    import yaml

    text: str = yaml.safe_dump(words, sort_keys=True, allow_unicode=True, width=120)
    return text.splitlines() if words else []


def _policy(identity: PolicyId) -> Json:
    return {"kind": identity.kind, "namespace": identity.namespace, "name": identity.name}


def _json(each: HistoryEntry, past: Sequence[HistoryEntry], live: str) -> Json:
    everything = [one.stored for one in past]
    halt = each.stored.halt
    return {
        "revision": each.name,
        "since": each.stored.since,
        "live": each.name == live,
        "update": each.stored is update_revision(everything),
        "current": each.stored is current_revision(everything),
        "completed": each.stored.completed,
        "halt": {"id": halt.id, "reason": halt.reason, "since": halt.since} if halt is not None else None,
        "sidecars": [
            {"name": sidecar.name, "image": sidecar.container.get("image", "")}
            for sidecar in each.stored.revision.sidecars
        ],
        "words": each.words,
    }
