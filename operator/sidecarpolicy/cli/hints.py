"""What may have been meant: names that exist, told where one was named that does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_NAMES = 5


def did_you_mean(found: Iterable[str], wanted: str) -> str:
    """Return which of *found* may have been meant, as the end of a sentence."""
    known = list(dict.fromkeys(found))
    if not known:
        return "there is none at all"
    alike = [name for name in known if name.startswith(wanted)] or get_close_matches(wanted, known, MOST_NAMES)
    return f"did you mean {listing(alike)}?" if alike else f"there is {listing(known)}"


def listing(found: Sequence[str]) -> str:
    """Return the first few of *found*, and how many more there are."""
    rest = f", and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return ", ".join(found[:MOST_NAMES]) + rest
