"""Moments that are only known to lie between two, and how people write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor

MINUTE, HOUR, DAY = 60, 3600, 86400
TENTH, ROUNDING = 0.1, 1e-4


@dataclass(frozen=True, slots=True, order=True)
class When:
    """A moment between *earliest* and *latest*, both in seconds since the epoch (a witness alone: its first line).

    What Kubernetes records at 12:00:03 happened within that second; where nothing finer is at hand it counts as a
    moment on the grid of whole seconds, `When.at(…03)`.
    """

    earliest: float
    latest: float

    @classmethod
    def at(cls, moment: float) -> When:
        """Return a moment that is known."""
        return cls(moment, moment)

    @property
    def known(self) -> bool:
        """Whether it is one moment, not a range."""
        return self.earliest == self.latest

    @property
    def middle(self) -> float:
        """Where a sign for it is drawn."""
        return (self.earliest + self.latest) / 2

    def not_before(self, other: When | None) -> When:
        """Return what is left of it when it cannot have been before *other*."""
        if other is None or other.earliest <= self.earliest:
            return self
        return When(other.earliest, max(self.latest, other.earliest))

    def not_after(self, other: When | None) -> When:
        """Return what is left of it when it cannot have been after *other*."""
        if other is None or other.latest >= self.latest:
            return self
        return When(min(self.earliest, other.latest), other.latest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Reads the time stamps of Kubernetes; *spread*: seconds by which a recorded second is uncertain to both sides.

    Without a spread every time stamp is a moment on the grid of whole seconds. With one, as beside the exact times of
    a witness, 12:00:03 is somewhere from 03 - spread to 04 + spread.
    """

    spread: float | None = None

    def read(self, stamp: object) -> When | None:
        """Return the moment that *stamp* (RFC 3339) stands for, None where it is none."""
        seconds = epoch(stamp)
        if seconds is None:
            return None
        whole = float(floor(seconds))
        return When.at(whole) if self.spread is None else When(whole - self.spread, whole + 1 + self.spread)


def epoch(stamp: object) -> float | None:
    """Return seconds since the epoch for an RFC 3339 time stamp, None for anything else."""
    if not isinstance(stamp, str):
        return None
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def first(moments: Iterable[When | None]) -> When | None:
    """Return when the first of *moments* was; None where there are none."""
    known = [moment for moment in moments if moment is not None]
    return When(min(each.earliest for each in known), min(each.latest for each in known)) if known else None


def last(moments: Iterable[When | None]) -> When | None:
    """Return when the last of *moments* was; None where there are none."""
    known = [moment for moment in moments if moment is not None]
    return When(max(each.earliest for each in known), max(each.latest for each in known)) if known else None


def seconds(value: float) -> str:
    """Write a length of time: `4 s`, `0.35 s`, `2 min 5 s`, `3 h 10 min`, `2 d 3 h`."""
    if value < MINUTE:
        return f"{_short(value)} s"
    whole = round(value)
    for unit, size, smaller, small in (("d", DAY, "h", HOUR), ("h", HOUR, "min", MINUTE), ("min", MINUTE, "s", 1)):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def _short(value: float) -> str:
    for digits in (0, 1, 2, 3):
        if abs(round(value, digits) - value) < 0.0005:
            return f"{value:.{digits}f}"
    return f"{value:.3f}"


def offset(when: When, zero: float) -> str:
    """Write a moment as counted from *zero*: `+4 s`, or `+2…4 s` where it is only known to lie between."""
    early, late = when.earliest - zero, when.latest - zero
    if when.latest - when.earliest > TENTH:  # the ends of a range are no finer than that
        early, late = floor(early / TENTH + ROUNDING) * TENTH, ceil(late / TENTH - ROUNDING) * TENTH
    if early < 0 <= late:
        early = 0.0
    sign = "" if early < 0 else "+"
    begin, end = seconds(early) if early >= 0 else f"-{seconds(-early)}", seconds(late) if late >= 0 else ""
    if begin == end or not end:
        return sign + begin
    same_unit = begin.endswith(" s") and end.endswith(" s") and "min" not in begin + end
    return f"{sign}{begin.removesuffix(' s') if same_unit else begin}…{end}"


def length(since: When, until: When) -> str:
    """Write how long something took: `3 s`, or `2…3 s` where that is all that is known."""
    least, most = shortest(since, until), max(0.0, until.latest - since.earliest)
    if seconds(least) == seconds(most):
        return seconds(most)
    return offset(When(least, most), 0.0).removeprefix("+")


def shortest(since: When, until: When) -> float:
    """Return the least number of seconds that can lie between the two."""
    return max(0.0, until.earliest - since.latest)
