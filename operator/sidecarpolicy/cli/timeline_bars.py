"""The bars and marks of one container, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from sidecarpolicy.core.timeline import Kind, Lane, Mark, Phase, State, When
from sidecarpolicy.core.timeline.model import Sign

BAR = 20
LETTER = 0.58  # of the font size: wider than the letters of the fonts in use
COLOURS = {Kind.SIDECAR: "side", Kind.INIT: "init", Kind.APPLICATION: "app", Kind.UNKNOWN: "any"}
WORDS = {
    State.STARTING: "starting",
    State.STARTED: "not ready",
    State.READY: "ready",
    State.RUNNING: "runs",
    State.STOPPING: "stopping",
}
LEAST = 3.0
"""How wide even a moment is drawn."""
GOES_ON = 14.0


def label(x: float, y: float, text: str, classes: str) -> str:
    """Return a line of text."""
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, classes: str, *, fill: str = "", title: str = "") -> str:
    """Return a rectangle with rounded corners."""
    style = f' style="fill: {fill}"' if fill else ""
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect class="{classes}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2.5"{style}>'
        f"{inner}</rect>"
    )


def arrow(begin: tuple[float, float], goal: tuple[float, float], *, title: str) -> str:
    """Return an arrow from *begin* to *goal*, both x and y, which leaves and arrives upright."""
    (x1, y1), (x2, y2) = begin, goal
    bend = (y2 - y1) * 0.5
    return (
        f'<path class="arrow" d="M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} '
        f'{x2:.1f} {y2 - (1 if y2 > y1 else -1):.1f}"><title>{escape(title)}</title></path>'
    )


def text_width(text: str, size: float) -> float:
    """Return how wide *text* may get, in whatever font, at *size* pixels."""
    return len(text) * size * LETTER


class LaneDrawing:
    """Draws one lane whose bars begin at *top*; *x* says where a moment is, *end* is the last one.

    *cuts*: where, in pixels, time is left out.
    """

    def __init__(
        self, lane: Lane, top: float, x: Callable[[float], float], *, end: float, cuts: Sequence[float]
    ) -> None:
        self._lane, self._top, self._x, self._end, self._cuts = lane, top, x, end, cuts
        self._colour = COLOURS[lane.kind]
        self._waited = 0.0

    def shapes(self) -> Iterator[str]:
        """Yield the bars and marks."""
        return (each for each in self._drawn() if not each.startswith("<text"))

    def words(self) -> Iterator[str]:
        """Yield the labels upon them."""
        return (each for each in self._drawn() if each.startswith("<text"))

    def _drawn(self) -> Iterator[str]:
        phases = self._lane.phases
        self._waited = 0.0  # until where, in pixels, the waiting has been drawn
        for phase, following in zip(phases, [*phases[1:], None], strict=False):
            waits_on = following is not None and phase.state is following.state is State.WAITING
            yield from self._phase(phase, waits_on=waits_on)
            if following is not None and not waits_on and phase.until is not None and not phase.until.known:
                yield self._hatch(phase.until)
        for mark in self._lane.marks:
            yield from self._mark(mark)

    def _phase(self, phase: Phase, *, waits_on: bool) -> Iterator[str]:
        if phase.state is State.WAITING:
            yield from self._waiting(phase, waits_on=waits_on)
            return
        self._waited = 0.0
        yield from self._exited(phase) if phase.state is State.EXITED else self._bar(phase)

    def _waiting(self, phase: Phase, *, waits_on: bool) -> Iterator[str]:
        until = self._end
        if phase.until is not None:  # where one wait becomes the next somewhere, the one for a container has the room
            until = phase.until.latest if waits_on and phase.on else phase.until.earliest
        first = phase is self._lane.phases[0]
        begin = self._waited or self._x(phase.since.earliest if first else phase.since.latest)
        end = self._waited = max(begin, self._x(until))
        middle = self._top + BAR / 2
        if end - begin > 2:
            title = f"<title>{escape(f'waits for {phase.why}')}</title>"
            yield (
                f'<path class="{self._colour} waiting" d="M{begin + 2:.1f} {middle:.1f}H{end - 2:.1f}">{title}</path>'
            )
        word = f"waits for {phase.on}" if phase.on else ""
        place = self._room(begin, end, word)
        if word and place is not None:
            yield label(place, middle + 4, word, "inside wait")
        if phase.until is None:
            yield self._arrowhead(end)

    def _bar(self, phase: Phase) -> Iterator[str]:
        begin = self._x(phase.since.latest)
        end = self._x(phase.until.earliest if phase.until else self._end)
        if phase.until is None:
            end = max(end, begin + LEAST)
        if end <= begin and (not phase.since.known or (phase.until is not None and not phase.until.known)):
            return  # all of it is hatched
        width = max(end - begin, LEAST)
        word = WORDS[phase.state]
        title = f"{word}: {phase.why}" if phase.why else word
        yield box(begin, self._top, width, BAR, f"{self._colour} {phase.state.value}", title=title)
        place = self._room(begin, begin + width, word)
        if place is not None:
            solid = " on" if phase.state is State.READY else ""
            yield label(place, self._top + BAR / 2 + 4, word, f"inside{solid}")
        if phase.until is None:
            yield self._arrowhead(begin + width)

    def _room(self, begin: float, end: float, word: str) -> float | None:
        """Where the middle of *word* can stand between the two, clear of where time is left out."""
        edges = [begin, *(each for cut in self._cuts if begin < cut < end for each in (cut - 9, cut + 9)), end]
        left, right = max(zip(edges[::2], edges[1::2], strict=True), key=lambda pair: pair[1] - pair[0])
        return (left + right) / 2 if text_width(word, 11) + 6 < right - left else None

    def _hatch(self, when: When) -> str:
        begin, end = self._x(when.earliest), self._x(when.latest)
        fill = f"url(#hatch-{self._colour})"
        return box(
            begin,
            self._top,
            max(end - begin, LEAST),
            BAR,
            f"{self._colour} hatch",
            fill=fill,
            title="somewhere in here",
        )

    def _exited(self, phase: Phase) -> Iterator[str]:
        x = self._x(phase.since.latest)
        yield f'<path class="{self._colour}" d="M{x:.1f} {self._top - 2:.1f}v{BAR + 4}" stroke-width="2.5"/>'
        if phase.why:
            yield label(x + 8, self._top + BAR / 2 + 4, phase.why, "exit")

    def _arrowhead(self, x: float) -> str:
        middle = self._top + BAR / 2
        return (
            f'<path class="{self._colour}" d="M{x + 3:.1f} {middle - 6:.1f}l{GOES_ON - 5:.0f} 6l-{GOES_ON - 5:.0f} 6z">'
            "<title>goes on</title></path>"
        )

    def _mark(self, mark: Mark) -> Iterator[str]:
        x, y, low = self._x(mark.when.middle), self._top + BAR / 2, self._top + BAR
        times = f" ({mark.count} times)" if mark.count > 1 else ""
        title = f"<title>{escape(mark.text + times)}</title>"
        match mark.sign:
            case Sign.TERM if not mark.when.known:
                pass  # the hatching says it
            case Sign.FAILED | Sign.KILLED:
                for at in _places(mark, self._x):
                    yield f'<path class="failed" d="M{at - 4:.1f} {low - 4:.1f}l8 8m0 -8l-8 8">{title}</path>'
            case Sign.TERM:
                yield f'<path class="term" d="M{x - 5.5:.1f} {self._top - 4:.1f}h11l-5.5 10z">{title}</path>'
            case Sign.OK:
                for at in _places(mark, self._x):
                    yield f'<circle class="ok" cx="{at:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
            case Sign.PULLED | Sign.NOTE:
                yield f'<circle class="note" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{title}</circle>'


def _places(mark: Mark, x: Callable[[float], float]) -> Sequence[float]:
    """Where a repeated mark is drawn: the first time and the last."""
    first, last = x(mark.when.middle), x((mark.last or mark.when).middle)
    return (first,) if last - first < 2 else (first, last)
