"""A timeline as one SVG: nothing outside of it is needed, and it follows the reader's light or dark theme.

Text is placed so that it stays apart whatever font the reader has: every line of text has a row of its own, and a label
inside of a bar is left out where a wide font would not fit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape

from sidecarpolicy.cli.timeline_bars import BAR, LaneDrawing, arrow, label, text_width
from sidecarpolicy.cli.timeline_legend import Legend
from sidecarpolicy.core.timeline import State, Timeline, When
from sidecarpolicy.core.timeline.model import Wait
from sidecarpolicy.core.timeline.moments import offset, seconds
from sidecarpolicy.core.timeline.scale import Stretch, scale_of, ticks

WIDTH = 960
LEFT, RIGHT = 168, 872  # of the line of time
EDGE = 24
TICK_SPACE = 64
LANE_GAP = 15
ABOVE = 9  # from a caption to its bar: the tip of an arrow fits in
CAPTION = 16  # the height of a line of a lane's caption
HEADLINE_LETTERS, CAPTION_LETTERS, NOTE_LETTERS = 112, 108, 138

STYLE = """
  .tl { --back: #ffffff; --edge: #d1d9e0; --ink: #1f2328; --soft: #59636e; --faint: #eaeef2; --on: #ffffff;
        --side: #0969da; --init: #9a6700; --app: #8250df; --any: #59636e; --fail: #cf222e; --ok: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    .tl { --back: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --soft: #9198a1; --faint: #21262d; --on: #0d1117;
          --side: #4493f8; --init: #d29922; --app: #ab7df8; --any: #9198a1; --fail: #ff7b72; --ok: #3fb950; }
  }
  .tl text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink);
             paint-order: stroke; stroke: var(--back); stroke-width: 4px; stroke-linejoin: round; }
  .tl .back { fill: var(--back); stroke: var(--edge); }
  .tl .title { font-size: 18px; font-weight: 600; }
  .tl .head { font-size: 15px; }
  .tl .name { font-size: 13px; font-weight: 600; text-anchor: end; }
  .tl .kind { font-size: 11px; fill: var(--soft); text-anchor: end; }
  .tl .soft { fill: var(--soft); }
  .tl .tick { font-size: 11px; fill: var(--soft); text-anchor: middle; }
  .tl .moment { font-weight: 600; font-size: 11px; }
  .tl .over { text-anchor: end; }
  .tl .inside { font-size: 11px; text-anchor: middle; stroke: none; }
  .tl .wait { stroke: var(--back); }
  .tl .on { fill: var(--on); }
  .tl .grid { stroke: var(--faint); }
  .tl .event { stroke: var(--soft); stroke-dasharray: 4 3; }
  .tl .gap { fill: var(--back); stroke: none; }
  .tl .zig { stroke: var(--soft); fill: none; stroke-dasharray: 2 2; }
  .tl .arrow { stroke: var(--ink); stroke-width: 1.5; fill: none; marker-end: url(#tip); }
  .tl .tip { fill: var(--ink); }
  .tl .side { fill: var(--side); stroke: var(--side); }
  .tl .init { fill: var(--init); stroke: var(--init); }
  .tl .app { fill: var(--app); stroke: var(--app); }
  .tl .any { fill: var(--any); stroke: var(--any); }
  .tl .waiting { stroke-width: 2; stroke-dasharray: 1 5; stroke-linecap: round; fill: none; }
  .tl .starting { fill-opacity: 0.1; stroke-dasharray: 4 3; }
  .tl .started { fill-opacity: 0.3; }
  .tl .running { fill-opacity: 0.62; }
  .tl .stopping { fill-opacity: 0.3; stroke-width: 2; }
  .tl .hatch { stroke-width: 1; stroke-opacity: 0.55; }
  .tl .lines { stroke-width: 2; fill: none; }
  .tl .failed { stroke: var(--fail); stroke-width: 2.2; stroke-linecap: round; fill: none; }
  .tl .ok { fill: var(--ok); stroke: var(--back); stroke-width: 1.5; }
  .tl .term { fill: var(--ink); stroke: var(--back); stroke-width: 1.5; }
  .tl .note, .tl .pulled { fill: var(--back); stroke: var(--soft); stroke-width: 1.6; }
"""

HATCHES = "".join(
    f'<pattern id="hatch-{kind}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<path class="{kind} lines" d="M0 0V6"/></pattern>'
    for kind in ("side", "init", "app", "any")
)
DEFINITIONS = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    f'<path class="tip" d="M0 0 8 4 0 8z"/></marker>{HATCHES}</defs>'
)


def svg_of(timeline: Timeline) -> str:
    """Return the picture as one SVG document."""
    return "\n".join(_Picture(timeline).document()) + "\n"


class _Picture:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._scale = scale_of(timeline)
        self._legend = Legend.of(timeline)
        self._headline = textwrap.wrap(timeline.headline, HEADLINE_LETTERS)
        self._moment_rows = list(self._place_moments())
        rows = 1 + max((row for *_, row in self._moment_rows), default=0)
        self._axis = 66 + 20 * len(self._headline) + 15 * rows
        self._captions = [textwrap.wrap(lane.caption, CAPTION_LETTERS) or [""] for lane in timeline.lanes]
        self._tops: list[float] = []  # of the lanes' bars
        y = self._axis + 26.0
        for lines in self._captions:
            y += CAPTION * len(lines) + ABOVE - 5
            self._tops.append(y)
            y += BAR + LANE_GAP
        self._bottom = y

    def x(self, moment: float) -> float:
        """Where *moment* is drawn."""
        return LEFT + (RIGHT - LEFT) * self._scale(moment)

    def document(self) -> Iterator[str]:
        """Yield the document, line by line."""
        notes = [line for note in self._timeline.notes for line in textwrap.wrap(note, NOTE_LETTERS)]
        height = round(self._bottom + self._legend.height + 17 * len(notes) + 40)
        title = f"Timeline of {_title(self._timeline)}"
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tl" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-labelledby="tl-title tl-desc">'
        )
        yield f'<title id="tl-title">{escape(title)}</title>'
        spoken = [self._timeline.headline, *(f"{lane.name}: {lane.caption}." for lane in self._timeline.lanes)]
        yield f'<desc id="tl-desc">{escape(" ".join(spoken))}</desc>'
        yield f"<style>{STYLE}</style>{DEFINITIONS}"
        yield f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>'
        yield label(EDGE, 36, _title(self._timeline), "title")
        for number, line in enumerate(self._headline):
            yield label(EDGE, 62 + 20 * number, line, "head")
        yield from self._grid()
        drawings = [self._drawing(number) for number in range(len(self._timeline.lanes))]
        for drawing in drawings:
            yield from drawing.shapes()
        yield from self._breaks()
        for wait in self._timeline.waits:
            yield self._arrow(wait)
        yield from self._axis_words()
        for number, drawing in enumerate(drawings):
            yield from self._lane_words(number)
            yield from drawing.words()
        yield from self._legend.shapes(EDGE, self._bottom + 18)
        y = self._bottom + self._legend.height + 32
        for number, line in enumerate(notes):
            yield label(EDGE, y + 17 * number, line, "soft note-line")
        yield "</svg>"

    def _place_moments(self) -> Iterator[tuple[str, float, int]]:
        """Yield text, x and row of the Pod's moments; those that would touch come into another row."""
        ends: dict[int, float] = {}
        for moment in self._timeline.moments:
            text = moment.name
            created = moment.when.earliest <= self._timeline.zero and self._timeline.dated
            if created:
                text += f" {datetime.fromtimestamp(self._timeline.zero, UTC):%Y-%m-%d %H:%M:%S} UTC"
            else:
                text += f" {offset(moment.when, self._timeline.zero)}"
            x = self.x(self._timeline.zero if created else moment.when.latest)
            width = text_width(text, 11)
            begin = x - width if x + width > WIDTH - EDGE else x
            row = next(row for row in range(len(self._timeline.moments) + 1) if ends.get(row, 0.0) + 12 < begin)
            ends[row] = begin + width
            yield text, x, row

    def _grid(self) -> Iterator[str]:
        for tick in self._ticks():
            yield f'<path class="grid" d="M{self.x(tick):.1f} {self._axis + 8}V{self._end:.1f}"/>'
        for _, x, row in self._moment_rows:
            yield f'<path class="event" d="M{x:.1f} {self._axis - 26 - 15 * row}V{self._end:.1f}"/>'

    def _ticks(self) -> list[float]:
        return ticks(self._scale, self._timeline.zero, (RIGHT - LEFT) // TICK_SPACE)

    @property
    def _end(self) -> float:
        """Where the lines of time end, below the last lane."""
        return self._bottom - LANE_GAP + 6

    def _axis_words(self) -> Iterator[str]:
        for text, x, row in self._moment_rows:
            over = x + text_width(text, 11) > WIDTH - EDGE
            yield label(x - 4 if over else x + 3, self._axis - 16 - 15 * row, text, "moment over" if over else "moment")
        free = 0.0
        for tick in self._ticks():
            text = offset(When.at(round(tick - self._timeline.zero, 6)), 0.0)
            x, half = self.x(tick), text_width(text, 11) / 2
            if x - half > free:
                yield label(x, self._axis + 2, text, "tick")
                free = x + half + 6
        for cut in self._scale.cuts:
            text = f"{seconds(round(cut.end - cut.begin, 3))} cut short"
            if text_width(text, 11) < self.x(cut.end) - self.x(cut.begin) - 60:
                yield label(self._middle(cut), self._axis + 2, text, "tick cut")

    def _middle(self, cut: Stretch) -> float:
        return (self.x(cut.begin) + self.x(cut.end)) / 2

    def _breaks(self) -> Iterator[str]:
        """Draw over the bars: here time is left out."""
        top = self._axis + 8
        for cut in self._scale.cuts:
            x = self._middle(cut)
            count = -int((top - self._end) // 18) * 2  # an even number of waves comes back to where it began
            waves = " ".join(f"l{'-' if number % 2 else ''}5 9" for number in range(count))
            back = " ".join(f"l{'-' if number % 2 else ''}5 -9" for number in range(count))
            yield f'<path class="gap" d="M{x - 6:.1f} {top} {waves} h8 {back}z"/>'
            for shift in (-6, 2):
                yield f'<path class="zig" d="M{x + shift:.1f} {top} {waves}"/>'

    def _drawing(self, number: int) -> LaneDrawing:
        cuts = [self._middle(cut) for cut in self._scale.cuts]
        lane = self._timeline.lanes[number]
        return LaneDrawing(lane, self._tops[number], self.x, end=self._timeline.end, cuts=cuts)

    def _lane_words(self, number: int) -> Iterator[str]:
        lane, top, caption = self._timeline.lanes[number], self._tops[number], self._captions[number]
        yield label(LEFT - 14, top + BAR / 2 - 1, _fitting(lane.name, 13), "name")
        yield label(LEFT - 14, top + BAR / 2 + 12, lane.kind.value, "kind")
        for line_number, line in enumerate(caption, start=1):
            yield label(LEFT, top - ABOVE - CAPTION * (len(caption) - line_number), line, "soft caption")

    def _arrow(self, wait: Wait) -> str:
        """From where the one that was waited for let go to where the other went on."""
        names = [lane.name for lane in self._timeline.lanes]
        source, target = names.index(wait.on), names.index(wait.waiter)
        goal = wait.until.latest if wait.stopping else self._begun(target)
        x1, x2 = self.x(wait.until.latest), self.x(goal)
        if wait.stopping:
            x1 = self.x(self._ended(source, wait.until.latest))
        down = target > source
        y1 = self._tops[source] + (BAR if down else 0)
        y2 = self._tops[target] + (0 if down else BAR)
        return arrow((x1, y1), (x2, y2), title=_told(wait))

    def _begun(self, number: int) -> float:
        phases = self._timeline.lanes[number].phases
        begun = next((each for each in phases if each.state is not State.WAITING), None)
        return begun.since.latest if begun else self._timeline.end

    def _ended(self, number: int, otherwise: float) -> float:
        phases = self._timeline.lanes[number].phases
        ended = [each.since.latest for each in phases if each.state is State.EXITED]
        return ended[-1] if ended else otherwise


def _title(timeline: Timeline) -> str:
    return f"Pod {timeline.title}" if timeline.dated else timeline.title


def _told(wait: Wait) -> str:
    verb = "was told to stop" if wait.stopping else "could start"
    return f"{wait.waiter} {verb} when {wait.on} {'was gone' if wait.stopping else 'let it'}"


def _fitting(name: str, size: float) -> str:
    most = int((LEFT - 14 - 8) / (size * 0.6))
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"
