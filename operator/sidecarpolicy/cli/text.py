"""How the verbs print: tables as kubectl's, colours where somebody looks, and lines that fit the terminal.

In a pipe there is no width: a row is a line, plain and unwrapped, for `grep` and `awk`. Names are never cut, for they
are there to be copied; where a terminal is too narrow, columns that can be missed go first, and then the last column,
which is a sentence, moves below its row.

The standard library and click do for this; a library for terminals costs a tenth of a second at each start.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import click

GAP: Final = 3
HANG: Final = 4
LEAST_ROOM: Final = 40  # columns below which a sentence beside its row reads badly
UNSEEN: Final = "-"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table, and its colour, if any."""

    text: str
    colour: str = ""


def width() -> int | None:
    """Return how many columns standard output has; None where nobody looks at it."""
    if not sys.stdout.isatty():
        return None
    import shutil  # archives and all: not for a pipe

    return shutil.get_terminal_size().columns


def coloured() -> bool:
    """Whether standard output takes colours, and its user wants them. (https://no-color.org)"""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str = "", *, bold: bool = False) -> str:
    """Return *text* in a colour, where that is wanted."""
    return click.style(text, fg=colour or None, bold=bold or None) if coloured() and (colour or bold) else text


def wrapped(text: str, room: int | None, indent: int = 0) -> list[str]:
    """Return the lines of *text*, *indent* spaces before each, none longer than *room* where words allow that."""
    before = " " * indent
    if room is None or len(text) + indent <= room:
        return [before + text]
    return textwrap.wrap(
        text,
        max(room, indent + 20),
        initial_indent=before,
        subsequent_indent=before,
        break_long_words=False,
        break_on_hyphens=False,
    )


def hanging(line: str, room: int | None) -> list[str]:
    """Return *line* in lines no longer than *room*; those after the first stand a little further in than it does."""
    before = len(line) - len(line.lstrip())
    if room is None or len(line) <= room:
        return [line]
    first, *rest = wrapped(line.strip(), room - HANG, before)
    return [first, *(" " * HANG + each for each in rest)]


@dataclass(slots=True)
class Table:
    """Rows under heads. *droppable*: heads that go, in this order, where the terminal is too narrow."""

    heads: Sequence[str]
    droppable: Sequence[str] = ()
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell | str) -> None:
        """Add one cell for each head."""
        self.rows.append([each if isinstance(each, Cell) else Cell(each) for each in cells])

    def lines(self, room: int | None) -> Iterator[str]:
        """Yield the lines of the table in *room* columns; None: as wide as it is."""
        shown = self._shown(room)
        table = [[Cell(self.heads[each]) for each in shown], *([row[each] for each in shown] for row in self.rows)]
        widths = self._widths(shown)
        before = sum(widths[:-1])
        left = None if room is None else room - before
        beside = left is None or left >= LEAST_ROOM or left >= widths[-1] - GAP
        for number, row in enumerate(table):
            line = "".join(_padded(cell, size) for cell, size in zip(row[:-1], widths, strict=False))
            last = row[-1]
            if beside:
                first, *more = wrapped(last.text, left) or [""]
                yield (line + painted(first, last.colour)).rstrip()
                yield from (" " * before + each for each in more)
            else:  # without room for its column its head says nothing
                yield line.rstrip()
                yield from wrapped(last.text, room, GAP) if number and last.text else ()

    def _shown(self, room: int | None) -> list[int]:
        shown = list(range(len(self.heads)))
        for head in self.droppable:
            if room is None or sum(self._widths(shown)[:-1]) - GAP <= room:
                break
            if head in self.heads:
                shown.remove(self.heads.index(head))
        return shown

    def _widths(self, shown: Iterable[int]) -> list[int]:
        return [max(len(self.heads[each]), *(len(row[each].text) for row in self.rows), 0) + GAP for each in shown]


def _padded(cell: Cell, size: int) -> str:
    return painted(cell.text, cell.colour) + " " * (size - len(cell.text))


def show(lines: Iterable[str]) -> None:
    """Print *lines* to standard output."""
    for line in lines:
        click.echo(line)


def several_namespaces(namespaces: Iterable[str]) -> bool:
    """Whether a column NAMESPACE would say anything."""
    return len(set(namespaces)) > 1


def age(seconds: float) -> str:
    """Return a duration as kubectl writes it: 40s, 5m, 3h12m, 2d4h."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 3 * 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes}m{rest}s" if minutes < 10 and rest else f"{minutes}m"
    if whole < 48 * 3600:
        hours, rest = divmod(whole // 60, 60)
        return f"{hours}h{rest}m" if hours < 8 and rest else f"{hours}h"
    return f"{whole // 86400}d"


def plural(count: int, what: str, many: str = "") -> str:
    """Return `1 Deployment`, `2 Deployments`."""
    return f"{count} {what if count == 1 else many or what + 's'}"
