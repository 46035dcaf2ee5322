"""Manifests that say themselves what is to be found in them.

A comment at the end of a line, `# <- code: path`, expects a finding of that code there; `code?` one that is not sure.
The path is the end of the finding's. Several are separated by `; `. What stands in no comment must not be found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MANIFESTS = Path(__file__).parent / "manifests"
_MARK = re.compile(r"# <- (.*)$")


@dataclass(frozen=True, slots=True, order=True)
class Expected:
    """A finding, as a fixture has it."""

    line: int
    code: str
    sure: bool
    path: str


def expected(file: Path) -> list[Expected]:
    """Return what the comments of *file* expect."""
    found: list[Expected] = []
    for number, text in enumerate(file.read_text().splitlines(), start=1):
        if match := _MARK.search(text):
            for each in match[1].split("; "):
                code, _, path = each.partition(": ")
                found.append(
                    Expected(line=number, code=code.removesuffix("?"), sure=not code.endswith("?"), path=path.strip())
                )
    return sorted(found)


def all_manifests() -> list[Path]:
    """Return every fixture."""
    return sorted(MANIFESTS.rglob("*.yaml"))
