"""Moments at which time alone changes something: each key has one, the earliest that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf

from sidecarpolicy.core.identity import PolicyId, WorkloadId

Key = PolicyId | WorkloadId


class Alarms:
    """Moments in seconds since the epoch."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._of: dict[Key, float] = {}

    def set(self, key: Key, moment: float | None) -> None:
        """Ring for *key* at *moment* at the latest; None is never."""
        if moment is None or self._of.get(key, inf) <= moment:
            return
        self._of[key] = moment
        heappush(self._heap, (moment, key))

    def ring(self, now: float) -> Iterator[Key]:
        """Yield the keys whose moment has come, and forget it."""
        while self._heap and self._heap[0][0] <= now:
            moment, key = heappop(self._heap)
            if self._of.get(key) == moment:
                del self._of[key]
                yield key

    @property
    def next(self) -> float:
        """The earliest moment, infinity where there is none."""
        return self._heap[0][0] if self._heap else inf
