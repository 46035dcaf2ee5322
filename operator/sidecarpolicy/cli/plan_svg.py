"""A planned life as a small SVG, to stand beside another one: who starts after whom, and who stops after whom.

It is drawn of the parts of a timeline's picture, without a line of time: the lengths in it mean nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from html import escape

from sidecarpolicy.cli.timeline_bars import BAR, LaneDrawing, arrow, label
from sidecarpolicy.cli.timeline_legend import ARROW, HEIGHT, SWATCH, swatch
from sidecarpolicy.core.timeline import State, Timeline, Wait

WIDTH, LEFT, RIGHT, EDGE = 540, 132, 508, 16
TOP, ROW = 56, 46
LETTERS = 78  # of a line of the sentence below
WORDS = {
    State.WAITING: "waits: there is no process yet",
    State.STARTING: "starting: its process runs, others wait for it",
    State.RUNNING: "runs",
    State.STOPPING: "told to stop",
    ARROW: ARROW,
}


def plan_svg(timeline: Timeline, name: str) -> str:
    """Return the picture; *name* tells it from others on the page, and the page brings style and definitions."""
    return "\n".join(_Plan(timeline, name).document()) + "\n"


def legend() -> Iterator[tuple[str, str]]:
    """Yield what the shapes mean: each as an SVG, and its words."""
    for what, words in WORDS.items():
        size = f'width="{SWATCH + 4}" height="{HEIGHT + 4}"'
        yield f'<svg class="tl" {size} aria-hidden="true">{swatch(what, 2, 2)}</svg>', words


class _Plan:
    def __init__(self, timeline: Timeline, name: str) -> None:
        self._timeline, self._name = timeline, name
        self._tops = [TOP + ROW * number for number in range(len(timeline.lanes))]
        self._words = textwrap.wrap(timeline.headline, LETTERS)

    def x(self, moment: float) -> float:
        """Where *moment* is drawn."""
        return LEFT + (RIGHT - LEFT) * moment / self._timeline.end

    def document(self) -> Iterator[str]:
        """Yield the picture, line by line."""
        timeline, bottom = self._timeline, TOP + ROW * len(self._tops)
        height = bottom + 17 * len(self._words) + 12
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tl plan" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-labelledby="{self._name}-title {self._name}-desc">'
        )
        yield f'<title id="{self._name}-title">{escape(timeline.title)}</title>'
        yield f'<desc id="{self._name}-desc">{escape(timeline.headline)}</desc>'
        yield f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>'
        yield from self._moments(bottom)
        drawings = [
            LaneDrawing(lane, top, self.x, end=timeline.end, cuts=())
            for lane, top in zip(timeline.lanes, self._tops, strict=True)
        ]
        for drawing in drawings:
            yield from drawing.shapes()
        for wait in timeline.waits:
            yield self._arrow(wait)
        for lane, top, drawing in zip(timeline.lanes, self._tops, drawings, strict=True):
            yield label(LEFT - 12, top + BAR / 2 - 1, _fitting(lane.name), "name")
            yield label(LEFT - 12, top + BAR / 2 + 12, lane.kind.value, "kind")
            yield from drawing.words()
        for number, line in enumerate(self._words):
            yield label(EDGE, bottom + 6 + 17 * number, line, "soft")
        yield "</svg>"

    def _moments(self, bottom: float) -> Iterator[str]:
        for text, moment in (
            (self._timeline.zero_name, self._timeline.zero),
            *((each.name, each.when.latest) for each in self._timeline.moments),
        ):
            x = self.x(moment)
            yield f'<path class="event" d="M{x:.1f} 24V{bottom - 14:.1f}"/>'
            yield label(x + 4, 30, text, "moment")

    def _arrow(self, wait: Wait) -> str:
        names = [lane.name for lane in self._timeline.lanes]
        source, target = names.index(wait.on), names.index(wait.waiter)
        x, down = self.x(wait.until.latest), target > source
        begin = self._tops[source] + (BAR if down else 0)
        goal = self._tops[target] + (0 if down else BAR)
        verb = "is told to stop" if wait.stopping else "starts"
        why = "is gone" if wait.stopping else "lets it"
        return arrow((x, begin), (x, goal), title=f"{wait.waiter} {verb} when {wait.on} {why}")


def _fitting(name: str) -> str:
    most = int((LEFT - 12 - 6) / (13 * 0.6))
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"
