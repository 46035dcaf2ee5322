"""What the shapes in a timeline's picture mean; only those that occur in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sidecarpolicy.cli.timeline_bars import box, label
from sidecarpolicy.core.timeline import Phase, State, Timeline
from sidecarpolicy.core.timeline.model import Sign

COLUMNS, COLUMN, ROW = 3, 304, 22
SWATCH, HEIGHT = 28, 12
STATES = {
    State.WAITING: "waits: there is no process yet",
    State.STARTING: "starting: its process runs, others still wait",
    State.STARTED: "not ready: its process runs, nobody waits for it",
    State.READY: "ready",
    State.RUNNING: "runs: an init container, or no more is known",
    State.STOPPING: "told to stop",
}
SIGNS = {
    Sign.FAILED: "a probe or call failed (first and last time)",
    Sign.KILLED: "killed",
    Sign.TERM: "SIGTERM",
    Sign.OK: "calls were answered (first and last time)",
    Sign.NOTE: "something else happened: point at it",
}
HATCHED = "somewhere in here: no more is recorded"
ARROW = "from what was waited for to who waited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """The entries that a timeline needs: the word for a shape, and its explanation."""

    entries: tuple[tuple[State | Sign | str, str], ...]

    @classmethod
    def of(cls, timeline: Timeline) -> Legend:
        """Return the legend for *timeline*."""
        phases = [phase for lane in timeline.lanes for phase in lane.phases]
        states = {phase.state for phase in phases}
        signs = {Sign.NOTE if mark.sign is Sign.PULLED else mark.sign for lane in timeline.lanes for mark in lane.marks}
        entries: list[tuple[State | Sign | str, str]] = [pair for pair in STATES.items() if pair[0] in states]
        if any(is_drawn_hatched(phase) for phase in phases):
            entries.append((HATCHED, HATCHED))
        entries += [pair for pair in SIGNS.items() if pair[0] in signs]
        if timeline.waits:
            entries.append((ARROW, ARROW))
        return cls(entries=tuple(entries))

    @property
    def height(self) -> int:
        """How high it is, in pixels."""
        return ROW * -(-len(self.entries) // COLUMNS)

    def shapes(self, left: float, top: float) -> Iterator[str]:
        """Yield it with its upper left corner at *left*, *top*."""
        for number, (what, words) in enumerate(self.entries):
            x, y = left + number % COLUMNS * COLUMN, top + number // COLUMNS * ROW
            yield swatch(what, x, y)
            yield label(x + SWATCH + 8, y + HEIGHT - 2, words, "soft legend")


def is_drawn_hatched(phase: Phase) -> bool:
    """Whether the picture shows that the end of *phase* is known to lie between two moments only."""
    return phase.state is not State.EXITED and phase.until is not None and not phase.until.known


def swatch(what: State | Sign | str, x: float, y: float) -> str:
    """Return the shape of *what* with its upper left corner at *x*, *y*."""
    middle = y + HEIGHT / 2
    match what:
        case State.WAITING:
            return f'<path class="any waiting" d="M{x} {middle}h{SWATCH}"/>'
        case State():
            return box(x, y, SWATCH, HEIGHT, f"any {what.value}")
        case Sign.FAILED | Sign.KILLED:
            return f'<path class="failed" d="M{x + 10} {middle - 4}l8 8m0 -8l-8 8"/>'
        case Sign.TERM:
            return f'<path class="term" d="M{x + 8.5} {middle - 5}h11l-5.5 10z"/>'
        case Sign():
            return f'<circle class="{"ok" if what is Sign.OK else "note"}" cx="{x + 14}" cy="{middle}" r="4"/>'
        case _ if what == ARROW:
            return f'<path class="arrow" d="M{x + 2} {middle}h{SWATCH - 2}"/>'
    return box(x, y, SWATCH, HEIGHT, "any hatch", fill="url(#hatch-any)")
