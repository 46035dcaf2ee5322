"""The table of docs/status.md, made from the situations."""

from __future__ import annotations

from pathlib import Path

from tests.gitops.situations import EXAMPLES, Example

PAGE = Path(__file__).parent.parent.parent / "docs/status.md"
BEGIN, END = "<!-- made by tests/gitops -->\n", "<!-- end -->\n"

_HEAD = (
    "| situation | Ready | reason | also True | kstatus | Argo CD | `kubectl wait` |",
    "|---|---|---|---|---|---|---|",
)


def page() -> str:
    """Return the page with the table as it should be."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{_table()}{END}{after}"


def _table() -> str:
    return "".join(f"{line}\n" for line in (*_HEAD, *(_row(each) for each in EXAMPLES)))


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
