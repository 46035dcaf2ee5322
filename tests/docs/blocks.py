"""The fenced blocks of the pages that users read, and the commands in them, with page and line.

In a block `sh` every line is a command; in a block `console` those after `$ `, and the rest is what they print. A
backslash at the end joins two lines. A comment after a command is the page's, and not part of it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sidecarpolicy.lint.shell import Kind, parse

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "deploy/chart/README.md")
)
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SHELL = ("sh", "console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. *line* (from 1) is that of its first line of text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Return page and line."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command as its page writes it, without the comment. *shown* is what the page shows below it."""

    page: str
    line: int
    text: str
    shown: str = ""

    @property
    def place(self) -> str:
        """Return page and line."""
        return f"{self.page}:{self.line}"

    def parts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each program that the shell would run, with its arguments."""
        script = parse(self.text.replace("$(make)", "make"))
        assert script.readable, f"{self.place}: no shell reads this: {self.text}"
        for each in script.walk():
            if each.kind is Kind.COMMAND:
                yield each.name, each.arguments


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Return the fenced blocks of *page*, in their order."""
    content = (ROOT / page).read_text(encoding="utf-8")
    return tuple(
        Block(
            page=page,
            line=content.count("\n", 0, found.start("text")) + 1,
            language=found["language"],
            text=textwrap.dedent(found["text"]),
        )
        for found in _FENCE.finditer(content)
    )


def commands(page: str) -> list[Command]:
    """Return the commands of *page*, in their order."""
    return [command for block in blocks(page) if block.language in _SHELL for command in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    """Take *block* apart."""
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        if block.language == "console" and not line.startswith("$ "):
            continue
        while line.endswith("\\"):
            line = f"{line[:-1].rstrip()} {lines[number].strip()}"
            number += 1
        shown = []
        while block.language == "console" and number < len(lines) and not lines[number].startswith("$ "):
            shown.append(lines[number])
            number += 1
        text = _without_comment(line.removeprefix("$ "))
        if text:
            yield Command(page=block.page, line=block.line + start, text=text, shown="\n".join(shown))


def _without_comment(line: str) -> str:
    """Return *line* without a comment at its end."""
    return re.sub(r"(^|\s+)#\s.*$", "", line).strip()


def spans(page: str) -> list[Command]:
    """Return what stands in single backquotes in *page* and begins with a program and its verb, as commands."""
    content = (ROOT / page).read_text(encoding="utf-8")
    bare = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), content)
    return [
        Command(page=page, line=bare.count("\n", 0, found.start()) + 1, text=found[1])
        for found in _INLINE.finditer(bare)
        if re.match(r"(sidecarpolicy|kubectl|helm) |make( |$)", found[1])
    ]


POLICIES = tuple(
    block
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and re.search(r"^kind: \w*SidecarPolicy$", block.text, re.MULTILINE)
)
"""The blocks that are policies."""
