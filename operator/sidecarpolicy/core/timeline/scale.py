"""Where on a line a moment is drawn: all at one scale, except that long stretches without an event are cut short.

A Pod that took five seconds to start and then ran for five hours would otherwise be one long bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from sidecarpolicy.core.timeline.model import State, Timeline

SHORTEST_CUT = 5.0  # seconds; less is never cut
QUIET, BUSY = (1.5, 0.5), (20.0, 4.0)
"""A stretch longer than the first, times all shorter ones together, is cut to the second, times the same.

Quiet is a stretch in which every container is ready or gone. Where one waits or starts the length is the news.
"""
STEADY = frozenset({State.READY, State.EXITED})
STEPS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From *begin* to *end* (seconds) nothing happens; it is drawn *shown* seconds long, from *at* on."""

    begin: float
    end: float
    shown: float
    at: float

    @property
    def cut(self) -> bool:
        """Whether it is drawn shorter than it is."""
        return self.shown < self.end - self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From seconds to the share of a line, 0 to 1."""

    stretches: tuple[Stretch, ...]

    @property
    def whole(self) -> float:
        """The seconds that are drawn."""
        newest = self.stretches[-1]
        return newest.at + newest.shown

    def __call__(self, moment: float) -> float:
        """Return the share of the line that lies before *moment*."""
        for each in self.stretches:
            if moment <= each.end:
                part = max(0.0, moment - each.begin) / (each.end - each.begin)
                return (each.at + part * each.shown) / self.whole
        return 1.0

    @property
    def cuts(self) -> tuple[Stretch, ...]:
        """The stretches that are cut short."""
        return tuple(each for each in self.stretches if each.cut)


def scale_of(timeline: Timeline) -> Scale:
    """Return the scale for everything that *timeline* shows; some room is left after its end."""
    moments = sorted({timeline.zero, timeline.end, *_moments(timeline)})
    if moments[-1] == moments[0]:
        moments.append(moments[0] + 1.0)
    gaps = sorted((end - begin, begin) for begin, end in pairwise(moments))
    shown: dict[float, float] = {}
    together = 0.0
    for gap, begin in gaps:
        beyond, left = QUIET if _is_quiet(timeline, begin, begin + gap) else BUSY
        cut = gap >= SHORTEST_CUT and together > 0 and gap > beyond * together
        shown[begin] = left * together if cut else gap
        together += shown[begin]
    return Scale(stretches=tuple(_stretches(moments, shown)))


def _is_quiet(timeline: Timeline, begin: float, end: float) -> bool:
    return not any(
        phase.state not in STEADY and phase.since.earliest < end and (phase.until is None or phase.until.latest > begin)
        for lane in timeline.lanes
        for phase in lane.phases
    )


def _stretches(moments: list[float], shown: dict[float, float]) -> Iterator[Stretch]:
    at = 0.0
    for begin, end in pairwise(moments):
        yield Stretch(begin=begin, end=end, shown=shown[begin], at=at)
        at += shown[begin]


def _moments(timeline: Timeline) -> Iterable[float]:
    for moment in timeline.moments:
        yield from (moment.when.earliest, moment.when.latest)
    for lane in timeline.lanes:
        for phase in lane.phases:
            for edge in (phase.since, phase.until):
                if edge is not None:
                    yield from (edge.earliest, edge.latest)
        for mark in lane.marks:
            yield from ((mark.last or mark.when).latest, mark.when.earliest)


def ticks(scale: Scale, zero: float, most: int) -> list[float]:
    """Return round moments for an axis, at most *most*, none inside of a cut."""
    whole = all(each.begin.is_integer() and each.end.is_integer() for each in scale.stretches)
    fine = [step for step in STEPS if step >= 1 or not whole]
    step = next((each for each in fine if scale.whole / each + 2 * len(scale.cuts) <= most), STEPS[-1])
    found: list[float] = []
    for each in scale.stretches:
        if each.cut:
            found += [each.begin, each.end]
            continue
        number = int((each.begin - zero) // step)
        while zero + number * step <= each.end:
            if zero + number * step >= each.begin:
                found.append(zero + number * step)
            number += 1
    return sorted(set(found))
