"""Texts that others wrote, within what a message allows: one line, and short enough that it hides nothing after it."""

from __future__ import annotations

# What a condition or an entry of a list may hold, in characters.
MOST_MESSAGE = 1024

# What one cause may take of a condition's message, in characters: an API server's refusal by quota fits.
MOST_CAUSE = 300


def one_line(text: str) -> str:
    """Return *text* with line breaks, other control characters and repeated white space as single spaces."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def cause(text: str) -> str:
    """Return what somebody else says, as a part of a sentence: without a full stop at its end."""
    said = one_line(text)
    return _cut(said if said.endswith("..") else said.removesuffix("."), MOST_CAUSE)


def shortened(text: str) -> str:
    """Return *text* on one line, within what the schema allows for a message."""
    return _cut(one_line(text), MOST_MESSAGE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
