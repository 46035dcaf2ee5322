"""Where a selected workload can stand; apart from what finds it out, for those who only count."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a selected workload stands; every one is in exactly one state."""

    SKIPPED = "skipped"
    PENDING = "pending"
    PROGRESSING = "progressing"
    UPDATED = "updated"
    FAILED = "failed"
