"""The API server's clock, as far as its answers tell.

Whoever talks to the server shares one: the Lease is renewed every two seconds, and so a clock of ours that is set is
put right before a workload is looked at that nothing has been asked about for minutes.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache


@dataclass(slots=True)
class ServerClock:
    """*offset*: by how many seconds the server's clock is ahead of this process's, as far as is known."""

    offset: float = 0.0

    def now(self) -> float:
        """The server's clock: this process's, put right by the `Date` of the last answer that was off by more.

        `Date` has whole seconds, so only an offset that one second does not explain is taken over.
        """
        return time.time() + self.offset

    def read(self, date: str | None) -> None:
        """Learn from the `Date` of an answer; one that is absent or mangled tells nothing."""
        with contextlib.suppress(TypeError, ValueError):
            told = _seconds_of(date or "")
            behind, ahead = told - self.now(), told + 1.0 - self.now()
            if behind > 0.5:
                self.offset += behind
            elif ahead < -0.5:
                self.offset += ahead


@lru_cache(maxsize=2)
def _seconds_of(date: str) -> float:
    """The moment that a `Date` tells (since the epoch): hundreds of answers have the same one."""
    return parsedate_to_datetime(date).timestamp()
