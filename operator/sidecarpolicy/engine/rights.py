"""A right that many wait for: one of them asks for it, and the others when that one has it.

Each name in `restartOn` is watched by itself, and a right to read is that of a kind in a namespace or everywhere. Where
it is wanting every name would ask again and again, for as long as nobody gives it. So they wait in a queue, of which
the first asks when the wait is over and goes to the end; the wait doubles. Roles may allow single names alone
(`resourceNames`): whoever is new asks at once, and in time each has its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

FIRST_WAIT: Final = 5.0  # seconds until one asks again; doubled each time that the right is refused
LAST_WAIT: Final = 600.0
GRACE: Final = 1.0  # seconds after which the next in the queue looks whether the first has asked


class Right:
    """Whether it is there, as those have found out who share it. Use it in one loop only."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Event, None] = {}  # in the order in which they ask
        self._wait = 0.0  # nobody was refused
        self._asks_at = 0.0

    def give(self) -> None:
        """It is there: whoever waits for it may ask."""
        self._wait = 0.0
        for asked in self._waiting:
            asked.set()

    async def wait(self, asked: asyncio.Event) -> None:
        """Return when the caller, who was refused, is to ask again; *asked* is set where that is before its turn."""
        now = asyncio.get_running_loop().time
        if not self._wait:
            self._wait, self._asks_at = FIRST_WAIT, now() + FIRST_WAIT
        self._waiting[asked] = None
        try:
            while not asked.is_set():
                is_first, left = next(iter(self._waiting)) is asked, self._asks_at - now()
                if is_first and left <= 0:
                    self._wait = min(LAST_WAIT, 2 * self._wait)
                    self._asks_at = now() + self._wait
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left if is_first else max(left, 0.0) + GRACE):
                        await asked.wait()
        finally:
            del self._waiting[asked]
