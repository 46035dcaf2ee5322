"""What many objects have alike is kept once: with ten thousand workloads most of the memory is copies.

Only what was seen last is looked up. What was not found there is kept as it is, so nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from sys import intern
from typing import TypeVar

Kept = TypeVar("Kept", bound=Hashable)
Text = TypeVar("Text", str, str | None)

NO_LABELS: Mapping[str, str] = {}


def shared(value: Kept) -> Kept:
    """Return a value equal to *value*; an empty frozenset, too, is a new one of 216 bytes each time."""
    found: Kept = _shared(value)
    return found


def shared_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return labels or annotations equal to *labels*."""
    return _shared_labels(tuple(labels.items())) if labels else NO_LABELS


@lru_cache(maxsize=1024)
def _shared(value: Kept) -> Kept:
    return value


@lru_cache(maxsize=512)
def _shared_labels(entries: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return {key: shared_text(value) for key, value in entries}


def shared_text(text: Text) -> Text:
    """Return a text equal to *text*; what a file has in its place is returned as it is."""
    return intern(text) if type(text) is str else text
