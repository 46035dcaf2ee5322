"""The tables of docs/status.md and docs/gitops.md, made from what the tests expect and find."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.gitops.coexistence import table
from tests.gitops.situations import EXAMPLES, Example

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE, OWNERS = DOCS / "status.md", DOCS / "gitops.md"
BEGIN, END = "<!-- made by tests/gitops -->\n", "<!-- end -->\n"

_HEAD = (
    "| situation | Ready | reason | also True | kstatus | Argo CD | `kubectl wait` |",
    "|---|---|---|---|---|---|---|",
)


_OWNERS_HEAD = ("| owner | what they do | without admission | with admission |", "|---|---|---|---|")


def page() -> str:
    """Return docs/status.md with its table as it should be."""
    return _with_table(PAGE, (*_HEAD, *(_row(each) for each in EXAMPLES)))


def owners() -> str:
    """Return docs/gitops.md with its table as it should be; a tool is named in the first of its rows."""
    lines = [
        f"| {'' if number else tool} | {' | '.join(cells)} |"
        for tool, rows in table().items()
        for number, cells in enumerate(rows)
    ]
    return _with_table(OWNERS, (*_OWNERS_HEAD, *lines))


def _with_table(path: Path, lines: Iterable[str]) -> str:
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{_joined(lines)}{END}{after}"


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _row(example: Example) -> str:
    reason = f"`{example.reason}`" if example.reason else "–"
    cells = (
        example.words,
        example.ready or "–",
        reason,
        example.abnormal or "–",
        example.kstatus,
        example.argo,
        "ends" if example.kubectl else "waits",
    )
    return f"| {' | '.join(cells)} |"
