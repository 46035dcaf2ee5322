"""Waiting for a cluster: with a deadline, never by sleeping for a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

LONGEST = 0.4
"""Seconds between two looks that nobody has asked to be further apart."""


def poll(
    look: Callable[[], Seen], until: Callable[[Seen], object] = bool, *, timeout: float = 30, every: float = 0.05
) -> Seen:
    """Call *look* until *until* likes what it returns, and return that; *every* so many seconds.

    What takes long to look at is looked at less often, and so is what has been waited for for long: a fifth of the time
    goes into looking, and a twentieth of it is lost by looking late, as far as LONGEST lets the pauses grow.

    An AssertionError in either means "not yet". After *timeout* seconds one shows what was seen last.
    """
    began = time.monotonic()
    while True:
        last: object = "nothing"
        looked = time.monotonic()
        try:
            last = seen = look()
            if until(seen):
                return seen
        except AssertionError as not_yet:
            last = f"{last!r}: {not_yet}"
        now = time.monotonic()
        if now > began + timeout:
            raise AssertionError(f"not so within {timeout:g} s; seen last: {last!r}")
        time.sleep(max(every, min(LONGEST, max(4 * (now - looked), (now - began) / 20))))
