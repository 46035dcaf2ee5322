"""How `status` looks: a table of policies, or one policy with its bar and what is wrong; the same text when piped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sidecarpolicy.cli.policy_names import command, short_name
from sidecarpolicy.cli.standing import Standing, Verdict
from sidecarpolicy.cli.text import UNSEEN, Cell, Table, age, painted, several_namespaces, wrapped
from sidecarpolicy.core.tree import items
from sidecarpolicy.names import Reason

COLOURS = {Verdict.READY: "green", Verdict.FAILED: "red", Verdict.IN_PROGRESS: "yellow"}
BAR = 24
# What a message says without the counts.
UNCOUNTED = frozenset(
    {Reason.INVALID, Reason.ORDER_CYCLE, Reason.UNSUPPORTED_CLUSTER, Reason.REMOVING, Reason.ALL_SKIPPED}
)
# Which columns a narrow terminal can do without, the first first.
DROPPABLE = ("AGE", "SKIPPED", "REVISION", "FAILED", "VERDICT")


def overview(
    standings: Sequence[Standing], *, now: float = 0.0, wide: bool = False, namespaced: bool | None = None
) -> Table:
    """Return one row per policy. *namespaced*: whether NAMESPACE is a column; None: where there are several."""
    shown = several_namespaces(each.policy.namespace for each in standings) if namespaced is None else namespaced
    heads = ["NAMESPACE"] if shown else []
    heads += ["POLICY", "VERDICT", "STATUS", "UPDATED", "FAILED", "SKIPPED"]
    heads += ["REVISION", "AGE"] if wide else []
    table = Table([*heads, "MESSAGE"], DROPPABLE)
    for each in standings:
        row = [each.policy.namespace or UNSEEN] if shown else []
        row += [short_name(each.policy)]
        more = [str(each.status.get("updateRevision") or UNSEEN), age(now - each.created)] if wide else []
        table.add(
            *row,
            Cell(each.verdict.value, COLOURS[each.verdict]),
            each.reason or UNSEEN,
            f"{each.count('updated')}/{each.total}",
            Cell(str(each.count("failed")), "red" if each.count("failed") else ""),
            str(each.count("skipped")),
            *more,
            each.message,
        )
    return table


def progress(standings: Sequence[Standing], room: int | None) -> Iterator[str]:
    """Yield a bar per policy, for a terminal to watch."""
    for each in standings:
        yield from _head(each, bar=True, room=room)
        yield ""


def detail(each: Standing, *, bar: bool, room: int | None = None, where: Iterable[str] = ()) -> Iterator[str]:
    """Yield everything that the status of one policy says; *bar*: with a bar of how far it is.

    *where*: lines that say where its rollout is.
    """
    yield from _head(each, bar=bar, room=room)
    yield from _revisions(each)
    for line in where:
        yield from wrapped(line, room)
    if each.paused and each.reason != Reason.PAUSED and not each.deleting:
        yield from wrapped(f"paused: no edit reaches what is there before {command('resume', each.policy)}", room)
    yield from _lists(each, room)
    yield from (f"next: {line}" for line in each.next_lines)


def _head(each: Standing, *, bar: bool, room: int | None) -> Iterator[str]:
    colour = COLOURS[each.verdict]
    reason = f"  {each.reason}" if each.reason else ""
    yield f"{painted(each.policy.label, bold=True)}  {painted(each.verdict.value, colour)}{reason}"
    if bar and each.total:
        done = BAR * each.count("updated") // each.total
        yield painted("━" * done, colour) + "╌" * (BAR - done)
    if each.status.get("targets") and (not each.observed or each.deleting or each.reason in UNCOUNTED):
        yield counts(each)
    yield from wrapped(each.message, room)


def counts(each: Standing) -> str:
    """Return `34 of 117 updated, 3 in progress, 80 waiting, 3 skipped`."""
    words = {
        "progressing": "in progress",
        "pending": "waiting",
        "failed": "failed",
        "skipped": "skipped",
        "removing": "being removed",
    }
    rest = [f"{each.count(what)} {word}" for what, word in words.items() if each.count(what)]
    return ", ".join([f"{each.count('updated')} of {each.total} updated", *rest])


def _revisions(each: Standing) -> Iterator[str]:
    update, current = each.status.get("updateRevision", ""), each.status.get("currentRevision", "")
    if update:
        before = f" (rolled out completely before: {current})" if current and current != update else ""
        yield f"revision {update}{before}"


def _lists(each: Standing, room: int | None) -> Iterator[str]:
    failures = [
        f"{found['namespace']}/{found['name']} at {found['revision']} since {found['since']}: {found['message']}"
        for found in items(each.status, "failures")
    ]
    skipped = [
        f"{found['reason']} ({found['count']}): {found['message']}{_others(found['examples'])}"
        for found in items(each.status, "skipped")
    ]
    warnings = [f"{found['reason']} ({found['count']}): {found['message']}" for found in items(each.status, "warnings")]
    for title, lines in (("failed:", failures), ("skipped:", skipped), ("warnings:", warnings)):
        if lines:
            yield painted(title, bold=True)
            for line in lines:
                yield from wrapped(line, room, 2)


def _others(examples: Iterable[str]) -> str:
    rest = list(examples)[1:]
    return f" (also {', '.join(rest)})" if rest else ""
