"""What `check` found: one line each, with a result, and what to do where it is not well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sidecarpolicy.cli.text import painted, width, wrapped

# So many of what is wrong are named, and the rest is counted.
MOST_NAMED = 3


class Result(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


PROGRAMS = ("kubectl ", "sidecarpolicy ", "helm ")
BEFORE_COMMAND = re.compile(rf"[;:,] (?={'|'.join(PROGRAMS)})")
SIGNS = {
    Result.OK: ("√", "green"),
    Result.WARNING: ("‼", "yellow"),
    Result.FAILED: ("×", "red"),
    Result.SKIPPED: ("-", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at and how it is, and what to do about it."""

    section: str
    result: Result
    message: str
    hint: str = ""


Findings = Iterator[Finding]


def lines_of(finding: Finding) -> Iterator[str]:
    """Yield what people see of a finding."""
    sign, colour = SIGNS[finding.result]
    first, *more = wrapped(finding.message, width(), 2)
    yield f"{painted(sign, colour)} {first[2:]}"
    yield from more
    if finding.hint:
        yield from hint_lines(finding.hint, width())


def hint_lines(hint: str, room: int | None) -> Iterator[str]:
    """Yield the lines of a hint. Where it does not fit, each command has a line of its own and is not broken."""
    first, *commands = [hint] if room is None or len(hint) + 10 <= room else BEFORE_COMMAND.split(hint)
    yield from wrapped(f"hint: {first}", None if first.startswith(PROGRAMS) else room, 4)
    yield from (f"      {each}" for each in commands)


def skipped(section: str, message: str) -> Finding:
    """Return what could not be looked at, and why."""
    return Finding(section=section, result=Result.SKIPPED, message=message)


def some(found: Sequence[str]) -> str:
    """Return the first few, and how many more there are."""
    rest = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + rest
