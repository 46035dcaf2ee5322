"""Where things stand: the entries of a node and the exact spans of their keys and values.

PyYAML's marks say where a node begins and ends, with three gaps that are closed here. The end of a block collection
lies after the comments that follow it: its content ends with its last leaf. An alias is the very node of its anchor:
it is told by standing before its place, and its span is read from the text. And nobody says where the dash of an item
or the colon of a key is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from yaml import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from sidecarpolicy.manifests.values import MERGE, Unreadable, key_of

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


class Entries:
    """The entries of one collection in their order, each made when it is asked for: of most nobody asks."""

    def __init__(self, count: int, make: Callable[[int], Entry]) -> None:
        self._made: list[Entry | None] = [None] * count
        self._make = make

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: int) -> Entry:
        found = self._made[index]
        if found is None:
            found = self._made[index] = self._make(index if index >= 0 else len(self._made) + index)
        return found

    def __iter__(self) -> Iterator[Entry]:
        return (self[index] for index in range(len(self._made)))


class Places:
    """The spans in one text. *aliased*: whether there are anchors in it."""

    def __init__(self, text: str, *, aliased: bool) -> None:
        self.text, self.aliased = text, aliased
        self._entries: dict[int, Entries] = {}
        self._named: dict[int, dict[str, int]] = {}

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
        """Return where *node* begins after its anchor and tag; those before the first key on its line are the key's."""
        if isinstance(node, MappingNode) and node.value and not is_flow(node):
            first = int(node.value[0][0].start_mark.index)
            if first >= node.start_mark.index:  # no alias
                return first
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

    def end_of(self, node: Node, index: int) -> int:
        """Return where the content of the entry at *index* ends; without aliases no entry is made for that."""
        if self.aliased:
            return self.entries(node)[index].end
        return self.end(node.value[index][1] if isinstance(node, MappingNode) else node.value[index])

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

    def entries(self, node: Node) -> Entries:
        """Return the entries of a collection in their order."""
        found = self._entries.get(id(node))
        if found is None:
            found = self._entries[id(node)] = Entries(len(node.value), partial(self._entry, node))
            if self.aliased:
                list(found)  # each needs the one before it
        return found

    def named(self, node: Node, name: str | int) -> Entry | None:
        """Return the entry under *name*; the last one, as kubectl has it, where a key is given twice."""
        index = self._index(node, name)
        return None if index is None else self.entries(node)[index]

    def under(self, node: Node, name: str | int) -> Node | None:
        """Return the node of the entry under *name*, None where there is none: where it stands is not looked up."""
        index = self._index(node, name)
        if index is None:
            return None
        found: Node = node.value[index][1] if isinstance(node, MappingNode) else node.value[index]
        return found

    def _index(self, node: Node, name: str | int) -> int | None:
        if not isinstance(node, MappingNode):
            of_list = isinstance(node, SequenceNode) and isinstance(name, int) and 0 <= name < len(node.value)
            return int(name) if of_list else None
        found = self._named.get(id(node))
        if found is None:
            found = self._named[id(node)] = {
                name_of(key): index
                for index, (key, _) in enumerate(node.value)
                if key.value != MERGE or not is_merge(key)
            }
        return found.get(name) if isinstance(name, str) else None

    def _entry(self, node: Node, index: int) -> Entry:
        """Make one entry. Where an item begins, and with aliases about a key, depends on where the last one ends."""
        if isinstance(node, MappingNode):
            key, value = node.value[index]
            return self._of_mapping(key, value, self._cursor(node, index) if self.aliased else 0)
        return self._of_sequence(node, index, self._cursor(node, index))

    def _cursor(self, node: Node, index: int) -> int:
        """Return where to look for the entry at *index*."""
        if not index:
            return self.content(node) + (1 if is_flow(node) else 0)
        return self.entries(node)[index - 1].end if self.aliased else self.end(node.value[index - 1])

    def _of_mapping(self, key: Node, value: Node, cursor: int) -> Entry:
        if self.aliased and key.start_mark.index < cursor:
            key_start, key_end = self._alias_after(cursor)
        else:
            key_start, key_end = key.start_mark.index, key.end_mark.index
        if self.text.startswith(":", key_end):
            after = key_end + 1
        else:
            colon = _COLON.match(self.text, key_end)
            after = colon.end() if colon else key_end
        start, end, is_alias = self._span(value, after)
        return Entry(name_of(key), value, key_start, after, start, end, is_alias, is_merge(key))

    def _of_sequence(self, node: Node, index: int, cursor: int) -> Entry:
        begin = after = cursor
        if not is_flow(node):
            dash = _DASH.match(self.text, cursor)
            assert dash is not None, "a block list has a dash before every item"
            begin, after = dash.start(1), dash.end(1)
        start, end, is_alias = self._span(node.value[index], after)
        return Entry(index, node.value[index], start if is_flow(node) else begin, after, start, end, is_alias)

    def _span(self, node: Node, cursor: int) -> tuple[int, int, bool]:
        if self.aliased and node.start_mark.index < cursor:
            return *self._alias_after(cursor), True
        return node.start_mark.index, self.end(node), False

    def _alias_after(self, cursor: int) -> tuple[int, int]:
        position = _BLANK.match(self.text, cursor).end()  # type: ignore[union-attr]  # it matches the empty text
        found = _ALIAS.match(self.text, position) or _ALIAS.search(self.text, cursor)
        assert found is not None, "a node before its place is an alias"
        return found.span()


def is_merge(key: Node) -> bool:
    """Whether a key merges what is under it into the mapping around it."""
    return type(key) is ScalarNode and key.tag is None and key.value == MERGE


def name_of(key: Node) -> str:
    """Return the name under which a key is known; none for a collection, or for what JSON cannot have as a key."""
    try:
        return key_of(key) if type(key) is ScalarNode else ""
    except Unreadable:  # in another object, of which that is told
        return ""


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
