"""An event loop in virtual time: when nothing is ready it jumps to the next timer, and no one waits for real.

Everything that happens in it is decided by what was scheduled and in which order, so the same history runs the same
way every time. A loop that goes on for ever at one instant is found by counting its turns.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events

MOST_TURNS = 50_000  # of the loop at one instant


class HotLoop(BaseException):
    """Something keeps running without time going on; no `except Exception` may hide that."""


class Deadlock(BaseException):
    """Nothing is ready, nothing is scheduled, and somebody still waits."""


class _Clock:
    """Stands where a selector would: instead of waiting for sockets it sets the time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.turns = 0
        self.all_turns = 0

    def select(self, timeout: float | None) -> list[object]:
        self.all_turns += 1
        if timeout is None:
            raise Deadlock
        if timeout <= 0:
            self.turns += 1
            if self.turns > MOST_TURNS:
                raise HotLoop(f"{MOST_TURNS} turns of the loop at {self._loop.now:.3f} s")
            return []
        self.turns = 0
        self._loop.now = self._loop._scheduled[0].when()  # type: ignore[attr-defined]
        return []


class VirtualLoop(base_events.BaseEventLoop):
    """*now*: seconds since the loop was made."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Clock(self)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    @property
    def turns(self) -> int:
        """How often it has turned: what works without asking for anything shows here."""
        return self._selector.all_turns

    def run_to(self, when: float) -> None:
        """Run everything that is due before *when*, then stand there."""
        self._selector.turns = 0
        self.call_at(when, self.stop)
        self.run_forever()

    def end(self) -> None:
        """Cancel what still runs, let it unwind, and close."""
        self._selector.turns = 0
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.run_until_complete(_all(tasks))
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread wakes this loop."""


async def _all(tasks: set[asyncio.Task[object]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
