"""What may have been meant: names that exist, told where one was named that does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_NAMES = 5


def did_you_mean(found: Iterable[str], wanted: str) -> str:
    """Return which of *found* may have been meant, as the end of a sentence."""
    known = list(dict.fromkeys(found))
    if not known:
        return "there is none at all"
    meant = alike(known, wanted)
    return f"did you mean {listing(meant)}?" if meant else f"there is {listing(known)}"


def alike(known: Iterable[str], wanted: str) -> list[str]:
    """Return those of *known* that *wanted* begins or almost is."""
    from difflib import get_close_matches  # only where something is wrong

    by_name: dict[str, list[str]] = {}
    for each in known:  # `cluster/mesh` is meant by `mesh` too
        for name in dict.fromkeys((each, each.rpartition("/")[2])):
            by_name.setdefault(name, []).append(each)
    close = [name for name in by_name if name.startswith(wanted)] or get_close_matches(wanted, by_name, MOST_NAMES)
    return list(dict.fromkeys(each for name in close for each in by_name[name]))


def listing(found: Sequence[str]) -> str:
    """Return the first few of *found*, and how many more there are."""
    rest = f", and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return ", ".join(found[:MOST_NAMES]) + rest
