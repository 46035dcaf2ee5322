"""When to put back what another writer keeps undoing: a few times at once, then ever more rarely. Never a patch war.

Somebody who edits an item of ours by hand is put right at once. A controller does it again, so after a few reverts
the next attempt waits for ten minutes, then twenty, forty and at most sixty. How often it was undone, and when it was
last put back, is all that has to be known; it stands in the record, in the very patch that puts the item back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecarpolicy.core.times import timestamp

FIRST_PAUSE = 600.0
MOST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """How many reverts have been answered by putting things back, and when the last one was (seconds since the epoch).

    Reverts count together where each came within the window after the answer to the one before it.
    """

    count: int = 0
    last: float = 0.0

    def __bool__(self) -> bool:
        return self.count > 0


NOT_UNDONE = Undone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """*threshold* reverts (2 or more: one is no fight) within *window* seconds of each other are a conflict."""

    window: float = 600.0
    threshold: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """It may be put back now, and *undone* is to be written down with it."""

    undone: Undone


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing is written until then (seconds since the epoch)."""

    until: float


Decision = PutBack | Wait


def decide(undone: Undone, now: float, limits: Limits) -> Decision:
    """Return what to do about something that is undone at *now*, where *undone* is known of earlier times.

    The first pause follows the last revert that *limits* allow. A revert that comes later than the window after the
    next attempt was due begins the count again. A time that lies further ahead than a window is not believed: somebody
    wrote it, or a clock was wrong. One that lies ahead by less keeps its place, and what needs no pause does not wait
    for it: with a clock that was set back it is not more than a count.
    """
    pause = _pause(undone.count, limits)
    due = undone.last + pause
    if not undone or now > due + limits.window or undone.last > now + limits.window:
        return PutBack(undone=Undone(count=1, last=now))
    if pause and now < due:
        return Wait(until=due)
    return PutBack(undone=Undone(count=undone.count + 1, last=max(now, undone.last)))


def remembered(undone: Undone, now: float, limits: Limits) -> Undone:
    """Return what still matters of *undone* where nothing is undone at *now*: nothing once the window has passed."""
    return undone if abs(now - undone.last) <= limits.window else NOT_UNDONE


def _pause(count: int, limits: Limits) -> float:
    """How long the next revert waits for its answer, in seconds, after *count* have been answered."""
    over = count + 1 - limits.threshold
    return 0.0 if over < 0 else min(MOST_PAUSE, FIRST_PAUSE * 2.0 ** min(over, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldConflict:
    """Another writer keeps undoing what a policy has on a workload.

    *by*: who, as the beginning of a sentence. *what*: the items, for people. *times*: how often. *waits*: nothing is
    attempted before *until* (seconds since the epoch). *put_back*: it is there again, and has until then to last.
    """

    by: str
    what: str
    times: int
    until: float | None = None
    waits: bool = False
    put_back: bool = False

    @property
    def message(self) -> str:
        """Who undoes what, how often, and what happens next."""
        often = f", {self.times} times so far" if self.times else ""
        then = timestamp(self.until or 0.0)
        if self.put_back:
            return (
                f"{self.by} kept undoing what is injected{often}; it is there again, and done if it lasts until {then}"
            )
        return f"{self.by} keeps undoing {self.what}{often}" + (f"; next attempt at {then}" if self.waits else "")


def conflict(undone: Undone, now: float, limits: Limits, *, by: str, what: Sequence[str]) -> FieldConflict | None:
    """Return the conflict there is at *now*, where *what* (items, for people; nothing if all is there) is undone.

    It lasts from the revert that has to wait until what was put back has lasted for the window.
    """
    listed = ", ".join(what)
    if not what:
        still = remembered(undone, now, limits)
        if still.count < limits.threshold:
            return None
        return FieldConflict(by=by, what=listed, times=still.count, until=still.last + limits.window, put_back=True)
    match decide(undone, now, limits):
        case Wait(until=until):
            return FieldConflict(by=by, what=listed, times=undone.count + 1, until=until, waits=True)
        case PutBack(undone=then) if then.count >= limits.threshold:
            return FieldConflict(by=by, what=listed, times=then.count)
        case _:
            return None
