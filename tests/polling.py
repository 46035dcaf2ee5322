"""Waiting for a cluster: with a deadline, never by sleeping for a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def poll(
    look: Callable[[], Seen], until: Callable[[Seen], object] = bool, *, timeout: float = 30, every: float = 0.05
) -> Seen:
    """Call *look* until *until* likes what it returns, and return that; *every* so many seconds.

    An AssertionError in either means "not yet". After *timeout* seconds one shows what was seen last.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object = "nothing"
        try:
            last = seen = look()
            if until(seen):
                return seen
        except AssertionError as not_yet:
            last = f"{last!r}: {not_yet}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout:g} s; seen last: {last!r}")
        time.sleep(every)
