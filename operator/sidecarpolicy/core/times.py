"""Times as Kubernetes spells them: RFC 3339 in UTC. Everywhere else a time is a number of seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=4096)
def seconds_of(text: str | None) -> float:
    """Return RFC 3339 text as seconds since the epoch; 0.0 where there is none.

    Nor is there one where no calendar here has it: the API server takes times in managedFields, and in any status, as
    whoever writes them gives them, the years 0 and 10000 too.
    """
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 text, whole seconds, as metav1.Time has it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_timestamp(text: str) -> bool:
    """Whether *text* is a time as `timestamp` writes it."""
    try:
        return bool(text) and timestamp(seconds_of(text)) == text
    except (ValueError, OverflowError, OSError):
        return False


def micro_timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 text with microseconds, as metav1.MicroTime has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
