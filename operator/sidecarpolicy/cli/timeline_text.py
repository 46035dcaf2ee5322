"""A timeline for a terminal, 80 columns and up: bars of characters that say the same without colours.

Every state has a character of its own, so that a pipe, a pager or NO_COLOR loses nothing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from sidecarpolicy.core.timeline import Kind, Lane, Phase, State, Timeline, When
from sidecarpolicy.core.timeline.model import Sign
from sidecarpolicy.core.timeline.moments import length, offset, seconds
from sidecarpolicy.core.timeline.scale import scale_of, ticks

LEAST, MOST = 80, 200
NAME = 16
EXIT_ROOM = 10
TICK_SPACE = 9
UNBROKEN = "\xa0"
NUMBER = re.compile(r"(?<=\d) (?=(s|min|h|d)\b)")
"""The space between a number and its unit, where no line should break."""
COLOURS = {Kind.SIDECAR: "blue", Kind.INIT: "yellow", Kind.APPLICATION: "magenta", Kind.UNKNOWN: "default"}
KINDS = {Kind.SIDECAR: "native sidecar", Kind.INIT: "init container", Kind.APPLICATION: "application"}

FINE = {
    State.WAITING: "·",
    State.STARTING: "░",
    State.STARTED: "▒",
    State.READY: "█",
    State.RUNNING: "▓",
    State.STOPPING: "▄",
    "range": "╱",
    "cut": "≈",
    Sign.FAILED: "×",
    Sign.KILLED: "×",
    Sign.TERM: "▼",
    Sign.OK: "✓",
    "goes on": "▸",
}
PLAIN = {
    State.WAITING: ".",
    State.STARTING: "-",
    State.STARTED: "=",
    State.READY: "#",
    State.RUNNING: "+",
    State.STOPPING: "_",
    "range": "/",
    "cut": "~",
    Sign.FAILED: "x",
    Sign.KILLED: "x",
    Sign.TERM: "v",
    Sign.OK: "o",
    "goes on": ">",
}
MEANINGS: dict[str, str] = {
    State.WAITING: "waits",
    State.STARTING: "starting: others wait",
    State.STARTED: "not ready",
    State.READY: "ready",
    State.RUNNING: "runs",
    State.STOPPING: "told to stop",
    "range": "somewhere in here",
    "cut": "left out",
    Sign.FAILED: "probe or call failed",
    Sign.TERM: "SIGTERM",
    Sign.OK: "calls answered",
    "goes on": "goes on",
}


def show(timeline: Timeline, console: Console) -> None:
    """Print *timeline* on *console*."""
    for line in lines(timeline, width=max(LEAST, min(console.width, MOST)), plain=not _is_unicode(console)):
        console.print(line, soft_wrap=True)


def _is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def lines(timeline: Timeline, *, width: int, plain: bool = False) -> Iterator[Text]:
    """Yield the lines, none wider than *width* columns; *plain*: ASCII, but for what messages hold."""
    return _Screen(timeline, width, PLAIN if plain else FINE).lines()


class _Screen:
    def __init__(self, timeline: Timeline, width: int, glyphs: dict[str, str]) -> None:
        self._timeline, self._width, self._glyphs = timeline, width, glyphs
        self._name = min(NAME, max((len(lane.name) for lane in timeline.lanes), default=4)) + 2
        self._bar = width - self._name - EXIT_ROOM
        self._scale = scale_of(timeline)
        self._used: set[str] = set()

    def lines(self) -> Iterator[Text]:
        """Yield the whole."""
        title = self._timeline.title
        yield Text(f"Pod {title}" if self._timeline.dated else title, style="bold")
        yield from self._wrapped(self._timeline.headline)
        yield Text()
        yield from self._axis()
        for lane in self._timeline.lanes:
            yield from self._lane(lane)
        yield Text()
        yield from self._steps()
        yield from self._legend()
        for note in self._timeline.notes:
            yield from self._wrapped(note, style="dim")

    def _wrapped(self, text: str, indent: int = 0, style: str = "") -> Iterator[Text]:
        text = text if self._glyphs is FINE else text.replace("…", "..")
        kept = NUMBER.sub(UNBROKEN, text)
        for line in textwrap.wrap(kept, self._width - indent, break_on_hyphens=False):
            yield Text(" " * indent + line.replace(UNBROKEN, " "), style=style)

    def _column(self, moment: float) -> int:
        return min(self._bar - 1, int(self._scale(moment) * (self._bar - 1) + 0.5))

    def _axis(self) -> Iterator[Text]:
        zero = self._timeline.zero
        if self._timeline.dated:
            created = datetime.fromtimestamp(zero, UTC)
            yield Text(
                f"{'':{self._name}}+0 s is {created:%Y-%m-%d %H:%M:%S} UTC, when the Pod was created", style="dim"
            )
        places = [(self._column(tick), offset(When.at(round(tick - zero, 6)), 0.0)) for tick in self._ticks()]
        yield self._labels(places, style="dim")
        moments = [each for each in self._timeline.moments if each.when.earliest > zero]
        if moments:
            arrow = "↓" if self._glyphs is FINE else "|"
            yield self._labels(
                [(self._column(each.when.latest), f"{arrow}{each.name} {offset(each.when, zero)}") for each in moments],
                style="bold",
            )

    def _ticks(self) -> list[float]:
        return ticks(self._scale, self._timeline.zero, self._bar // TICK_SPACE)

    def _labels(self, places: list[tuple[int, str]], *, style: str) -> Text:
        """Write each label from its column on, or so that it ends in the last one; leave out what would touch."""
        line = ""
        for column, text in places:
            at = min(column, self._bar + EXIT_ROOM - len(text))
            if not line or at > len(line):
                line = line.ljust(at) + text
        line = line if self._glyphs is FINE else line.replace("…", "..")
        return Text(" " * self._name + line[: self._bar + EXIT_ROOM].rstrip(), style=style)

    def _lane(self, lane: Lane) -> Iterator[Text]:
        half = NAME // 2
        name = lane.name if len(lane.name) <= NAME else f"{lane.name[:half]}~{lane.name[1 - half :]}"
        yield Text(f"{name:{self._name}}", style="bold") + self._bars(lane)
        kind = KINDS.get(lane.kind)
        caption = f"{kind}: {lane.caption[:1].lower()}{lane.caption[1:]}" if kind else lane.caption
        yield from self._wrapped(caption, indent=self._name, style="dim")

    def _bars(self, lane: Lane) -> Text:
        cells = [" "] * (self._bar + EXIT_ROOM)
        for phase in lane.phases:
            if phase.state is State.EXITED:
                column = min(self._column(phase.since.latest) + 2, len(cells) - len(phase.why))
                cells[column : column + len(phase.why)] = phase.why
                continue
            from_the_start = phase is lane.phases[0]
            begin = self._column(phase.since.earliest if from_the_start else phase.since.latest)
            end = self._end_of(phase)
            self._fill(cells, begin, max(end, begin + 1), phase.state)
            word = f" waits for {phase.on} "
            if phase.on and len(word) + 4 <= end - begin:
                at = (begin + end - len(word)) // 2
                cells[at : at + len(word)] = word
            if phase.until is None:
                cells[max(end, begin + 1)] = self._glyph("goes on")
        for phase in lane.phases:
            if phase.state not in (State.WAITING, State.EXITED) and not phase.since.known:
                self._fill(cells, self._column(phase.since.earliest), self._column(phase.since.latest), "range")
        for cut in self._scale.cuts:
            column = self._column((cut.begin + cut.end) / 2)
            if cells[column] != " ":
                self._fill(cells, column, column + 2, "cut")
        for mark in lane.marks:
            if mark.sign in self._glyphs and (mark.when.known or mark.sign is not Sign.TERM):
                for when in {mark.when, mark.last or mark.when}:
                    column = self._column(when.middle)
                    self._fill(cells, column, column + 1, mark.sign)
        return self._coloured("".join(cells).rstrip(), COLOURS[lane.kind])

    def _end_of(self, phase: Phase) -> int:
        """The column after the last one of *phase*; where its end is a range, what comes after draws that."""
        if phase.until is None:
            return self._column(self._timeline.end) + 1
        return self._column(phase.until.latest if phase.state is State.WAITING else phase.until.earliest)

    def _fill(self, cells: list[str], begin: int, end: int, what: str) -> None:
        if end > begin:
            cells[begin:end] = self._glyph(what) * (end - begin)

    def _glyph(self, what: str) -> str:
        self._used.add(Sign.FAILED if what == Sign.KILLED else what)
        return self._glyphs[what]

    def _coloured(self, bars: str, colour: str) -> Text:
        text = Text(bars, style=colour)
        text.highlight_words([self._glyphs[Sign.FAILED]], style="bold red")
        text.highlight_words([self._glyphs[Sign.TERM]], style="bold")
        return text

    def _steps(self) -> Iterator[Text]:
        steps = self._timeline.steps
        if not steps:
            return
        zero = self._timeline.zero
        rows = [
            (offset(each.until, zero), length(each.since, each.until)) if each.until else ("not yet", "")
            for each in steps
        ]
        yield Text("What the application waited for, in order (until when, how long):", style="bold")
        wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for (until, took), step in zip(rows, steps, strict=True):
            head = f"  {until:<{wide[0]}}  {took:>{wide[1]}}  "
            first, *others = list(self._wrapped(step.text, indent=len(head))) or [Text()]
            yield Text(head if self._glyphs is FINE else head.replace("…", "..")) + Text(first.plain.strip())
            yield from others
        yield Text()

    def _legend(self) -> Iterator[Text]:
        left_out = ", ".join(seconds(round(cut.end - cut.begin, 3)) for cut in self._scale.cuts)
        words = MEANINGS | {"cut": f"{left_out} left out"}
        entries = [f"{self._glyphs[what]} {meaning}" for what, meaning in words.items() if what in self._used]
        kept = "  ".join(each.replace(" ", UNBROKEN) for each in entries)
        for line in self._wrapped(kept):
            yield Text(line.plain.replace(UNBROKEN, " "))
