"""An event loop in virtual time: when nothing is ready it jumps to the next timer, and no one waits for real.

Everything that happens in it is decided by what was scheduled and in which order, so the same history runs the same
way every time: of two timers that are due together the one that was set first is first. A loop that goes on for ever at
one instant is found by counting its turns.

It takes the place of asyncio's own turn (`_run_once`), half of whose time went into waiting for nothing and comparing
timers in Python.
"""

from __future__ import annotations

import asyncio
import itertools
from asyncio import base_events, events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from heapq import heappop, heappush
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")

MOST_TURNS = 50_000  # of the loop at one instant
RESOLUTION = 1e-9  # seconds; timers that are this close are due together


class HotLoop(BaseException):
    """Something keeps running without time going on; no `except Exception` may hide that."""


class Deadlock(BaseException):
    """Nothing is ready, nothing is scheduled, and somebody still waits."""


class VirtualLoop(base_events.BaseEventLoop):
    """*now*: seconds since the loop was made. *turns*: how often it has turned: what works without asking for anything
    shows there.
    """

    _ready: deque[asyncio.Handle]
    _stopping: bool
    _scheduled: list[tuple[float, int, asyncio.TimerHandle]]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0
        self._turns_now = 0
        self._numbers = itertools.count()

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def run_to(self, when: float) -> None:
        """Run everything that is due before *when*, then stand there."""
        self._turns_now = 0
        self.call_at(when, self.stop)
        self.run_forever()

    def end(self) -> None:
        """Cancel what still runs, let it unwind, and close."""
        self._turns_now = 0
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.run_until_complete(_all(tasks))
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    # What asyncio asks of a loop

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio has it."""
        timer = events.TimerHandle(when, callback, args, self, context)
        heappush(self._scheduled, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when it is due."""

    def _run_once(self) -> None:
        """Let everything run that is ready, or else the next moment come."""
        self.turns += 1
        ready, timers = self._ready, self._scheduled
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if ready or self._stopping:
            self._turns_now += 1
            if self._turns_now > MOST_TURNS:
                raise HotLoop(f"{MOST_TURNS} turns of the loop at {self.now:.3f} s")
        elif not timers:
            raise Deadlock
        elif timers[0][0] > self.now:
            self._turns_now = 0
            self.now = timers[0][0]
        due = self.now + RESOLUTION
        while timers and timers[0][0] < due:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread wakes this loop."""


async def _all(tasks: set[asyncio.Task[object]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
