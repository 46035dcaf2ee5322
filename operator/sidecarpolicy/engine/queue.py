"""The queue between what is seen and who acts on it: client-go's workqueue, for one asyncio loop.

What it promises:

- A key that was added is handed out at least once after its last `add`: nothing is lost.
- A key is never with two workers at once. Added again while a worker has it, it waits for that one's `done`.
- Added many times before a worker takes it, it is handed out once.
- Urgent keys go before bulk ones, each in the order of their arrival. Bulk starves while urgent keys keep
  coming: urgent is for what a person waits for, never for fan-out.

What is deliberately not in it: values (a worker looks up what *is*, not what happened), a rate limit (the
budget of a rollout is the planner's, the number of workers the engine's), and draining at shutdown (whatever
still waits is found again by the next leader's first look).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue hands out nothing any more; a worker that gets this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many keys are where; for metrics."""

    urgent: int
    bulk: int
    delayed: int
    processing: int
    failing: int


class WorkQueue(Generic[K]):
    """Keys that need a look. Everything but `get` returns at once; all of it belongs to one event loop.

    *base* and *cap* (seconds) shape the back-off of `retry`: base, 2*base, 4*base … up to cap.
    """

    def __init__(self, *, base: float = 1.0, cap: float = 300.0) -> None:
        self._base, self._cap = base, cap
        self._urgent: OrderedDict[K, None] = OrderedDict()
        self._bulk: OrderedDict[K, None] = OrderedDict()
        self._processing: set[K] = set()
        self._dirty: dict[K, bool] = {}  # added again while processing → urgent?
        self._delayed: dict[K, tuple[asyncio.TimerHandle, bool]] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)  # one permit for every key in _urgent and _bulk
        self._closed = False

    def add(self, key: K, *, urgent: bool = False) -> None:
        """Have *key* looked at as soon as a worker is free; *urgent* also lifts a key that already waits."""
        if self._closed:
            return
        if key in self._processing:
            self._dirty[key] = urgent or self._dirty.get(key, False)
        elif key in self._bulk:
            if urgent:
                del self._bulk[key]
                self._urgent[key] = None
        elif key not in self._urgent:
            (self._urgent if urgent else self._bulk)[key] = None
            self._ready.release()

    def add_after(self, key: K, seconds: float, *, urgent: bool = False) -> None:
        """Add *key* in *seconds*; of several such wishes the earliest wins, urgent if one of them was."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key, urgent=urgent)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if (earlier := self._delayed.get(key)) is not None:
            timer, was_urgent = earlier
            urgent = urgent or was_urgent
            when = min(when, timer.when())
            timer.cancel()
        self._delayed[key] = (loop.call_at(when, self._due, key), urgent)

    def _due(self, key: K) -> None:
        _, urgent = self._delayed.pop(key)
        self.add(key, urgent=urgent)

    def retry(self, key: K, after: float | None = None) -> float:
        """Count a failure of *key* and add it later; return in how many seconds.

        That is *after* (the server's Retry-After) if given, otherwise twice as long as the time before.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = after if after is not None else min(self._cap, self._base * 2.0 ** min(failures, 60))
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Forget the failures of *key*: its next one waits *base* seconds again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Return the next key once there is one; the caller owes a `done`. Raise ShutDown at the end.

        Every call gives way to the loop once, so that workers that find nothing to do cannot starve it.
        """
        await asyncio.sleep(0)
        await self._ready.acquire()
        if self._closed:
            self._ready.release()  # for the next one who waits
            raise ShutDown
        key, _ = (self._urgent or self._bulk).popitem(last=False)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """Give *key* back. KeyError if no worker has it: that is a mistake of the caller's."""
        self._processing.remove(key)
        if key in self._dirty:
            self.add(key, urgent=self._dirty.pop(key))

    def shut_down(self) -> None:
        """Hand out nothing any more and forget what waits; keys with workers stay theirs until `done`."""
        self._closed = True
        for timer, _ in self._delayed.values():
            timer.cancel()
        for waiting in (self._urgent, self._bulk, self._dirty, self._delayed):
            waiting.clear()
        self._ready.release()

    def sizes(self) -> Sizes:
        """Return how many keys wait, are delayed, are with workers, and failed at their last try."""
        return Sizes(
            urgent=len(self._urgent),
            bulk=len(self._bulk),
            delayed=len(self._delayed),
            processing=len(self._processing),
            failing=len(self._failures),
        )

    def __len__(self) -> int:
        """Return how many keys wait for a worker, without the delayed ones."""
        return len(self._urgent) + len(self._bulk)
