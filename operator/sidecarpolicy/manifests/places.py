"""Where things stand: the entries of a node and the exact spans of their keys and values.

PyYAML's marks say where a node begins and ends, with three gaps that are closed here. The end of a block collection
lies after the comments that follow it: its content ends with its last leaf. An alias is the very node of its anchor:
it is told by standing before its place, and its span is read from the text. And nobody says where the dash of an item
or the colon of a key is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from yaml import CollectionNode, MappingNode, Node, ScalarNode

from sidecarpolicy.manifests.values import MERGE, key_of

Path = tuple[str | int, ...]

BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s+)*(?:[&!][^\s,\[\]{}]*\Z)?")
_ALIAS = re.compile(r"\*[^\s,\[\]{}]+")
_BEFORE = r"(?:[ \t]*(?:#[^\n\r\x85\u2028\u2029]*)?(?:\r\n|[\n\r\x85\u2028\u2029]))*[ \t]*"
_DASH = re.compile(_BEFORE + r"(-)(?=\s|\Z)")
_COLON = re.compile(_BEFORE + r":")
_BLANK = re.compile(r"(?:\s|#[^\n\r\x85\u2028\u2029]*)*,?(?:\s|#[^\n\r\x85\u2028\u2029]*)*")
_KEEPS = re.compile(r"[|>](?:\+|[0-9]\+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A span of a text; *line* and *column* of its beginning count from 1, *start* and *end* are indexes."""

    line: int
    column: int
    start: int
    end: int


@dataclass(slots=True)
class Entry:
    """One entry of a mapping or an item of a list.

    *begin*: where the key, or the item's dash, begins (of an item of a flow list: the item). *after*: where the colon
    or the dash ends. *start*, *end*: the value with its anchor and tag; the end of a block scalar is that of its last
    line with content, line break and all, unless it keeps the empty lines after it.
    """

    name: str | int
    node: Node
    begin: int
    after: int
    start: int
    end: int
    is_alias: bool
    is_merge: bool = False


class Places:
    """The spans in one text. *aliased*: whether there are anchors in it."""

    def __init__(self, text: str, *, aliased: bool) -> None:
        self.text, self.aliased = text, aliased
        self._entries: dict[int, list[Entry]] = {}
        self._named: dict[int, dict[str | int, Entry]] = {}

    def line_start(self, index: int) -> int:
        """Return where the line with *index* begins."""
        while index > 0 and self.text[index - 1] not in "\n\r\x85\u2028\u2029":
            index -= 1
        return index

    def line_after(self, index: int) -> int:
        """Return where the line after the one with *index* begins, or the text ends."""
        found = BREAK.search(self.text, index)
        return found.end() if found else len(self.text)

    def column(self, index: int) -> int:
        """Return the column of *index*, from 0."""
        return index - self.line_start(index)

    def stands_first(self, index: int) -> bool:
        """Whether there is nothing but spaces before *index* on its line."""
        return not self.text[self.line_start(index) : index].strip()

    def position(self, start: int, end: int, line: int | None = None) -> Position:
        """Return the span as people count; *line* of its beginning, from 0, where it is known."""
        if line is None:
            line = bisect_right(self._line_ends, start)
        return Position(line=line + 1, column=self.column(start) + 1, start=start, end=end)

    @cached_property
    def _line_ends(self) -> list[int]:
        return [found.end() for found in BREAK.finditer(self.text)]

    def content(self, node: Node) -> int:
        """Return where *node* begins after its anchor and tag."""
        return _PROPERTIES.match(self.text, node.start_mark.index, node.end_mark.index).end()  # type: ignore[union-attr]

    def end(self, node: Node) -> int:
        """Return where the content of *node* ends."""
        while isinstance(node, CollectionNode):
            if node.flow_style or not node.value:
                return int(node.end_mark.index)
            if self.aliased:
                return self.entries(node)[-1].end
            last = node.value[-1]
            node = last[1] if type(node) is MappingNode else last
        assert isinstance(node, ScalarNode), "there is nothing else"
        return self._block_end(node) if node.style in ("|", ">") else int(node.end_mark.index)

    def ends_in_block(self, node: Node) -> bool:
        """Whether the last leaf of *node* is a block scalar, so that what follows it must begin a new line."""
        while not isinstance(node, ScalarNode):
            if is_flow(node) or not node.value:
                return False
            last = node.value[-1]
            node = last[1] if isinstance(node, MappingNode) else last
        return is_block_scalar(node)

    def _block_end(self, node: ScalarNode) -> int:
        start, end = self.content(node), node.end_mark.index
        if _KEEPS.match(self.text, start):
            return end
        stripped = len(self.text[start:end].rstrip(" \t\n\r\x85\u2028\u2029"))
        return min(self.line_after(start + stripped), max(end, start + stripped))

    def entries(self, node: Node) -> list[Entry]:
        """Return the entries of a collection in their order."""
        found = self._entries.get(id(node))
        if found is None:
            made = self._mapping(node) if isinstance(node, MappingNode) else self._sequence(node)
            found = self._entries[id(node)] = made
        return found

    def named(self, node: Node, name: str | int) -> Entry | None:
        """Return the entry under *name*; the last one, as kubectl has it, where a key is given twice."""
        found = self._named.get(id(node))
        if found is None:
            found = self._named[id(node)] = {each.name: each for each in self.entries(node) if not each.is_merge}
        return found.get(name)

    def _mapping(self, node: MappingNode) -> list[Entry]:
        found: list[Entry] = []
        text, cursor = self.text, self.content(node) + (1 if node.flow_style else 0)
        for key, value in node.value:
            if self.aliased and key.start_mark.index < cursor:
                key_start, key_end = self._alias_after(cursor)
            else:
                key_start, key_end = key.start_mark.index, key.end_mark.index
            if text.startswith(":", key_end):
                after = key_end + 1
            else:
                colon = _COLON.match(text, key_end)
                after = colon.end() if colon else key_end
            start, end, is_alias = self._span(value, after)
            is_scalar = type(key) is ScalarNode
            is_merge = is_scalar and key.tag is None and key.value == MERGE
            name = key_of(key) if is_scalar else ""
            found.append(Entry(name, value, key_start, after, start, end, is_alias, is_merge))
            cursor = end
        return found

    def _sequence(self, node: Node) -> list[Entry]:
        found: list[Entry] = []
        cursor = self.content(node) + (1 if is_flow(node) else 0)
        for index, value in enumerate(node.value):
            begin = after = cursor
            if not is_flow(node):
                dash = _DASH.match(self.text, cursor)
                assert dash is not None, "a block list has a dash before every item"
                begin, after = dash.start(1), dash.end(1)
            start, end, is_alias = self._span(value, after)
            found.append(Entry(index, value, start if is_flow(node) else begin, after, start, end, is_alias))
            cursor = end
        return found

    def _span(self, node: Node, cursor: int) -> tuple[int, int, bool]:
        if self.aliased and node.start_mark.index < cursor:
            return *self._alias_after(cursor), True
        return node.start_mark.index, self.end(node), False

    def _alias_after(self, cursor: int) -> tuple[int, int]:
        position = _BLANK.match(self.text, cursor).end()  # type: ignore[union-attr]  # it matches the empty text
        found = _ALIAS.match(self.text, position) or _ALIAS.search(self.text, cursor)
        assert found is not None, "a node before its place is an alias"
        return found.span()


def is_flow(node: Node) -> bool:
    """Whether *node* is a collection in brackets."""
    return isinstance(node, CollectionNode) and bool(node.flow_style)


def is_block_scalar(node: Node) -> bool:
    """Whether *node* is a literal or folded text of several lines."""
    return isinstance(node, ScalarNode) and node.style in ("|", ">")


def text_of_path(path: Path) -> str:
    """Return *path* as people write it: `spec.template.spec.containers[0].image`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]"
    return text
