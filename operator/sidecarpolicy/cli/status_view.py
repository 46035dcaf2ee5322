"""How `status` looks: a table of policies, or one policy with its bar and what is wrong; the same text when piped."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from sidecarpolicy.cli.standing import Standing, Verdict
from sidecarpolicy.core.tree import items
from sidecarpolicy.names import Reason

COLOURS = {Verdict.READY: "green", Verdict.FAILED: "red", Verdict.IN_PROGRESS: "yellow"}
BAR = 24
GAP = 3
LEAST_ROOM = 40
WIDE = 100_000
UNSEEN = "-"
# What a message says without the counts.
UNCOUNTED = frozenset(
    {Reason.INVALID, Reason.ORDER_CYCLE, Reason.UNSUPPORTED_CLUSTER, Reason.REMOVING, Reason.ALL_SKIPPED}
)


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes texts as they are."""
    return Console(highlight=False, markup=False, emoji=False, stderr=stderr)


def show(renderable: RenderableType, on: Console) -> None:
    """Print *renderable*: within the width of a terminal, and unwrapped, plain and without padding elsewhere."""
    if on.is_terminal:
        on.print(renderable, crop=False)
        return
    text = io.StringIO()
    Console(file=text, width=WIDE, highlight=False, markup=False, emoji=False, color_system=None).print(renderable)
    for line in text.getvalue().splitlines():
        on.file.write(line.rstrip() + "\n")
    on.file.flush()


def overview(standings: Sequence[Standing]) -> Columns:
    """Return one row per policy."""
    table = Columns("NAMESPACE", "POLICY", "VERDICT", "STATUS", "UPDATED", "FAILED", "SKIPPED", "MESSAGE")
    for each in standings:
        table.add_row(
            Text(each.policy.namespace or UNSEEN),
            Text(name_of(each)),
            Text(each.verdict.value, style=COLOURS[each.verdict]),
            Text(each.reason or UNSEEN),
            Text(f"{each.count('updated')}/{each.total}"),
            Text(str(each.count("failed"))),
            Text(str(each.count("skipped"))),
            Text(each.message),
        )
    return table


class Columns:
    """A table as kubectl prints them. The last column takes several lines, its own below each row where it is narrow.

    The others are never cut: names are there to be copied.
    """

    def __init__(self, *heads: str) -> None:
        self._rows: list[Sequence[Text]] = [[Text(head) for head in heads]]

    def add_row(self, *cells: Text) -> None:
        """Add one cell for each head."""
        self._rows.append(cells)

    def __rich_console__(self, on: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        widths = [max(len(cell) for cell in column) + GAP for column in zip(*self._rows, strict=True)][:-1]
        room = options.max_width - sum(widths)
        beside = room >= LEAST_ROOM
        for number, row in enumerate(self._rows):
            cells = [cell.copy() for cell in row[:-1]]
            for cell, width in zip(cells, widths, strict=True):
                cell.pad_right(width - len(cell))
            line = Text(no_wrap=True, overflow="ignore").join(cells)
            lines = list(row[-1].wrap(on, room if beside else options.max_width - GAP)) if len(row[-1]) else []
            if beside and lines:
                line.append_text(lines.pop(0))
            line.rstrip()
            yield line
            if beside or number:  # without room for its column its head says nothing
                yield from (Padding(each, (0, 0, 0, sum(widths) if beside else GAP), expand=False) for each in lines)


def name_of(each: Standing) -> str:
    """As one names it on the command line: `web`, or `cluster/web`."""
    return f"cluster/{each.policy.name}" if each.policy.cluster_wide else each.policy.name


def progress(standings: Sequence[Standing]) -> RenderableType:
    """Return a bar per policy, for a terminal to watch."""
    return Group(*(part for each in standings for part in (*_head(each, bar=True), Text())))


def detail(each: Standing, *, bar: bool) -> RenderableType:
    """Return everything that the status of one policy says; *bar*: with a bar of how far it is."""
    command = [Text(f"next: {each.next_command}")] if each.next_command else []
    return Group(*_head(each, bar=bar), *_revisions(each), *_lists(each), *command)


def _head(each: Standing, *, bar: bool) -> Iterator[RenderableType]:
    colour = COLOURS[each.verdict]
    yield Text.assemble(
        (each.policy.label, "bold"), "  ", (each.verdict.value, colour), f"  {each.reason}" if each.reason else ""
    )
    if bar and each.total:
        yield ProgressBar(
            total=each.total,
            completed=each.count("updated"),
            width=BAR,
            complete_style=colour,
            finished_style=colour,
        )
    if not each.observed or each.deleting or each.reason in UNCOUNTED:
        yield Text(counts(each))
    yield Text(each.message)


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


def _revisions(each: Standing) -> Iterator[RenderableType]:
    update, current = each.status.get("updateRevision", ""), each.status.get("currentRevision", "")
    if update:
        before = f" (rolled out completely before: {current})" if current and current != update else ""
        yield Text(f"revision {update}{before}")


def _lists(each: Standing) -> Iterator[RenderableType]:
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
            yield Text(title, style="bold")
            yield from (Padding(Text(line), (0, 0, 0, 2)) for line in lines)


def _others(examples: Iterable[str]) -> str:
    rest = list(examples)[1:]
    return f" (also {', '.join(rest)})" if rest else ""
