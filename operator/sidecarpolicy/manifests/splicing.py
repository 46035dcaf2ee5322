"""From changes by path to one new text: which characters go, and what comes in their place.

Everything is done by whole lines in block YAML and by whole entries in flow YAML and JSON, so that adding something
and removing it again gives the same bytes. What is added after a line comes directly after it, before the comments
that follow; what is added before the first item of a list comes directly under its key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from sidecarpolicy.manifests.errors import Unspliceable
from sidecarpolicy.manifests.files import BYTE_ORDER_MARK, Document, File
from sidecarpolicy.manifests.places import (
    BREAK,
    Entry,
    Path,
    Places,
    is_block_scalar,
    is_flow,
    text_of_path,
)
from sidecarpolicy.manifests.writing import Style, block, double_quoted, flow, flow_name, flow_scalar, json_text
from sidecarpolicy.manifests.writing import entry as entry_lines
from sidecarpolicy.manifests.writing import item as item_lines

BEFORE = "before sidecars.dev"
_NOTE = re.compile(r"# was (\[ *\]|\{ *\}|null|Null|NULL|~|empty) " + re.escape(BEFORE))
_NOTABLE = re.compile(r"(?:\[ *\]|\{ *\}|null|Null|NULL|~|)\Z")
# In flow: what stood there, by the number of spaces after the bracket; one, or a line break: nothing did.
_SPACED = ("[]", "", "null", "~", "empty", "Null", "NULL")
_BRACKET = re.compile(r"[\[{]( *)")


@dataclass(slots=True)
class Changes:
    """What is to happen to the entries of one collection.

    *around*: the nodes from the document's root to the collection, which is the last. *filled*: of those set, the keys
    whose empty value is to be noted. *cleared*: keys whose noted value comes back.
    """

    around: tuple[Node, ...]
    put: dict[str | int, Any] = field(default_factory=dict)
    inserted: dict[int, list[Any]] = field(default_factory=dict)
    removed: set[str | int] = field(default_factory=set)
    filled: set[str | int] = field(default_factory=set)
    cleared: set[str | int] = field(default_factory=set)


def text_with(
    file: File, changes: Mapping[tuple[Document, Path], Changes], start: int = 0, end: int | None = None
) -> str:
    """Return the text of *file*, or its part from *start* to *end*, with *changes*.

    Raises Unspliceable where there is no way.
    """
    text = _Text(file)
    for (document, path), change in changes.items():
        _change(text, document, path, change)
    return text.spliced() if end is None else text.part(start, end)


@dataclass(slots=True)
class _Splice:
    """Replace `text[start:end]`; *rank* orders what is inserted at one place: what lies deeper first."""

    start: int
    rank: tuple[int, int]
    end: int
    text: str


_PLACE = attrgetter("start", "rank")


class _Text:
    """A text and its splices. It is padded to end in a line break, so that every line has one; that goes in the end."""

    def __init__(self, file: File) -> None:
        self.file, self.places = file, file.places
        found = BREAK.search(file.text)
        self.line_break = found[0] if found else "\n"
        self.is_padded = bool(file.text) and not BREAK.match(file.text[-1])
        self.text = file.text + (self.line_break if self.is_padded else "")
        self.splices: list[_Splice] = []
        self.shared: dict[Document, _Shared] = {}
        self.keeps_last_break = False
        self.depth = 0
        self.styles: dict[int, Style] = {}
        self.made: dict[tuple[str | None, int, Style, int], str] = {}

    def written(self, name: str | None, value: Any, style: Style, column: int) -> str:
        """Return an entry *name*, or an item, at a *column*: made once, since many objects get the same sidecar."""
        key = (name, id(value), style, column)
        found = self.made.get(key)
        if found is None:
            lines = item_lines(value, style) if name is None else entry_lines(name, value, style)
            found = self.made[key] = self.lines(lines, column)
        return found

    def style_of(self, around: Sequence[Node]) -> Style:
        """Return how block YAML is laid out in and around the last of these nodes."""
        key = id(next((node for node in reversed(around) if type(node) is MappingNode), None))
        found = self.styles.get(key)
        if found is None:
            found = self.styles[key] = _style_around(around)
        return found

    def replace(self, start: int, end: int, text: str) -> None:
        self.splices.append(_Splice(start, (-self.depth, len(self.splices)), end, text))

    def line_after(self, index: int) -> int:
        found = BREAK.search(self.text, index)
        return found.end() if found else len(self.text)

    def lines(self, lines: Iterable[str], column: int) -> str:
        """Lines, indented, each with its break."""
        indent = " " * column
        return "".join(f"{indent if line else ''}{line}{self.line_break}" for line in lines)

    def part(self, start: int, end: int) -> str:
        """The new text of a part; what is inserted at its end belongs to it."""
        pieces: list[str] = []
        position = start
        for splice in sorted(self.splices, key=_PLACE):
            if splice.start < position:
                raise Unspliceable(self.places.position(splice.start, splice.start).line, "is changed twice")
            pieces += (self.text[position : splice.start], splice.text)
            position = splice.end
        pieces.append(self.text[position : max(position, end)])
        return "".join(pieces)

    def spliced(self) -> str:
        """The whole new text."""
        text = self.part(0, len(self.text))
        if self.is_padded and not self.keeps_last_break:
            text = text.removesuffix(self.line_break)
        return (BYTE_ORDER_MARK if self.file.has_mark else "") + text

    def shared_in(self, document: Document) -> _Shared:
        if document not in self.shared:
            self.shared[document] = _Shared.of(document.node)
        return self.shared[document]


@dataclass(frozen=True, slots=True)
class _Shared:
    """Which nodes of a document an alias repeats, and which stand inside of those."""

    nodes: frozenset[int]
    inside: frozenset[int]

    @classmethod
    def of(cls, root: Node) -> _Shared:
        seen: set[int] = set()
        found: list[Node] = []
        open_nodes = [root]
        while open_nodes:
            node = open_nodes.pop()
            if id(node) in seen:
                found.append(node)
                continue
            seen.add(id(node))
            open_nodes += _children(node)
        inside = frozenset(id(each) for node in found for each in _walk(node))
        return cls(frozenset(map(id, found)), inside)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _walk(root: Node) -> list[Node]:
    seen: dict[int, Node] = {}
    open_nodes = [root]
    while open_nodes:
        node = open_nodes.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            open_nodes += _children(node)
    return list(seen.values())


def _change(text: _Text, document: Document, path: Path, change: Changes) -> None:
    """Splice the changes of the collection at *path*."""
    text.depth = len(path)
    node = change.around[-1]
    if text.file.aliased:
        _refuse_aliases(text.places, path, change)
    if isinstance(node, ScalarNode):
        raise Unspliceable(node.start_mark.line + 1, f"{text_of_path(path)} is neither a mapping nor a list")
    if text.file.aliased:
        _refuse_shared(text, document, path, node, change)
    if text.file.is_json or is_flow(node):
        _Flow(text, change).splice()
    elif isinstance(node, MappingNode):
        _BlockMapping(text, change).splice()
    else:
        _BlockList(text, change, path[-1] if path else None).splice()


def _refuse_aliases(places: Places, path: Path, change: Changes) -> None:
    for node, step in zip(change.around, path, strict=False):
        entry = places.named(node, step)
        assert entry is not None, "paths are looked up when a change is asked for"
        if entry.is_alias:
            raise _is_alias(places, entry)


def _is_alias(places: Places, entry: Entry) -> Unspliceable:
    return Unspliceable(
        places.position(entry.start, entry.end).line,
        f"{entry.name} is an alias of what stands elsewhere: write it out to change it",
    )


def _refuse_shared(text: _Text, document: Document, path: Path, node: Node, change: Changes) -> None:
    """Refuse to change what an alias repeats, and to drop what it refers to."""
    shared = text.shared_in(document)
    if id(node) in shared.inside:
        raise Unspliceable(
            node.start_mark.line + 1,
            f"{text_of_path(path)} is repeated elsewhere by an alias of its anchor: write it out to change it",
        )
    for name in {*change.removed, *change.put, *change.cleared}:
        entry = text.places.named(node, name)
        if entry is None or entry.is_alias:
            continue
        if any(id(each) in shared.nodes for each in _walk(entry.node)):
            raise Unspliceable(
                entry.node.start_mark.line + 1,
                f"{text_of_path((*path, name))} has an anchor that an alias refers to: write that out to change it",
            )


def _style_around(nodes: Sequence[Node]) -> Style:
    """Return how block YAML is laid out: as in the nearest mappings that show it."""
    dashes = step = None
    for node in reversed(nodes):
        if not isinstance(node, MappingNode) or is_flow(node):
            continue
        for key, value in node.value:
            is_alias, shares_line = (
                value.start_mark.index < key.start_mark.index,
                value.start_mark.line == key.start_mark.line,
            )
            if (
                isinstance(value, ScalarNode) or is_flow(value) or is_alias or shares_line
            ):  # with its anchor, or its tag
                continue
            deeper = value.start_mark.column - key.start_mark.column
            if isinstance(value, SequenceNode):
                dashes = deeper if dashes is None and deeper >= 0 else dashes
            elif step is None and deeper > 0:
                step = deeper
            if dashes is not None and step is not None:
                return Style(step=step, dashes=dashes)
    return Style(step=step or 2, dashes=dashes or 0)


class _Block:
    """What mappings and lists in block style have in common."""

    def __init__(self, text: _Text, change: Changes) -> None:
        self.text, self.places, self.node, self.change = text, text.places, change.around[-1], change
        node = self.node
        self.entries = text.places.entries(node)
        self.style = text.style_of(change.around)
        if text.is_padded and self.line_after(-1) == len(text.text):
            self.style = replace(self.style, blocks=False)  # one that ends the file has no line break to end with
        self.column = node.start_mark.column if isinstance(node, SequenceNode) else 0

    def line_after(self, index: int) -> int:
        """Where the line after the entry at *index* begins."""
        return self._line_after(self.places.end_of(self.node, index))

    def _line_after(self, end: int) -> int:
        return end if self._is_line_start(end) else self.text.line_after(end)

    def _is_line_start(self, index: int) -> bool:
        return index == 0 or bool(BREAK.match(self.text.text[index - 1]))

    def ends_in_open_block(self, index: int) -> bool:
        """Whether the file ends in that entry, a block scalar without a line break: one would become part of it."""
        if not self.text.is_padded:
            return False
        entry = self.entries[index]
        return entry.end >= len(self.text.file.text) and self.places.ends_in_block(entry.node)

    def drop(self, gone: set[int]) -> None:
        """Remove the lines of entries; those that share their first line with a dash, up to the next entry."""
        first = 0
        if gone and not self.places.stands_first(self.entries[0].begin):
            while first in gone:
                first += 1
            if first:
                self.text.replace(self.entries[0].begin, self.entries[first].begin, "")
        for index in sorted(each for each in gone if each >= first):
            start = self.places.line_start(self.entries[index].begin)
            self.text.replace(start, self.line_after(index), "")
        if self.text.is_padded and len(self.entries) - 1 in gone:
            kept = max((index for index in range(len(self.entries)) if index not in gone), default=None)
            ends = self.line_after(-1) == len(self.text.text)
            # A block scalar that ends the file then would lose its last line break.
            if ends and kept is not None and self.places.ends_in_block(self.entries[kept].node):
                self.text.keeps_last_break = True

    def swap(self, entry: Entry, lines: list[str]) -> None:
        """Put *lines* in the place of an entry, from its key or dash to the end of its last line."""
        column = self.places.column(entry.begin)
        body = self.text.lines(lines, column)[column if lines[0] else 0 :]
        self.text.replace(entry.begin, self._line_after(entry.end), body)

    def in_place(self, entry: Entry, value: Any) -> bool:
        """Put a scalar in the place of a scalar on the same line, quoted as that was; whether that can be done."""
        node = entry.node
        if entry.is_alias or not isinstance(node, ScalarNode) or is_block_scalar(node) or node.value == "":
            return False
        is_long = node.start_mark.line != node.end_mark.line or (isinstance(value, str) and "\n" in value)
        if is_long or (isinstance(value, dict | list) and value):
            return False
        self.text.replace(self.places.content(node), entry.end, _as_quoted(value, node.style, in_flow=False))
        return True


class _BlockMapping(_Block):
    """A mapping in block style."""

    def splice(self) -> None:
        change = self.change
        removed = change.removed
        gone = {index for index, each in enumerate(self.entries) if each.name in removed} if removed else set()
        for name in change.cleared:
            gone |= self._clear(name)
        added = [name for name in change.put if self.places.named(self.node, name) is None]
        for name, value in change.put.items():
            if name not in added:
                self._set(name, value)
        if gone and len(gone) == len(self.entries):
            self._empty(added)
            return
        self.drop(gone)
        if added:
            self._add(added)

    def _written(self, added: list[str | int], column: int) -> str:
        put = self.change.put
        return "".join(self.text.written(str(name), put[name], self.style, column) for name in added)

    def _add(self, added: list[str | int]) -> None:
        column = self.places.column(self.entries[0].begin)
        body = self._written(added, column)
        if not self.ends_in_open_block(-1):
            at = self.line_after(-1)
            self.text.replace(at, at, body)
            return
        # After it the block scalar would gain a line break; a key may as well stand before it.
        at = self.entries[-1].begin
        self.text.replace(at, at, body[column:] + " " * column)

    def _empty(self, added: list[str | int]) -> None:
        """Leave `{}`, or what is added, in place of all entries."""
        first = self.entries[0]
        column = self.places.column(first.begin)
        body = self._written(added, column) or self.text.lines(["{}"], column)
        self.text.replace(first.begin, self.line_after(-1), body[column:])

    def _set(self, name: str | int, value: Any) -> None:
        entry = self.places.named(self.node, name)
        assert entry is not None, "it is there"
        if name in self.change.filled:
            self._fill(entry, value)
        elif not self.in_place(entry, value):
            self.swap(entry, entry_lines(str(name), value, self.style))

    def _fill(self, entry: Entry, value: Any) -> None:
        """Replace an empty value by *value*, and note in a comment what it was."""
        if entry.is_alias:
            raise _is_alias(self.places, entry)
        start = self.places.content(entry.node)
        stood = self.text.text[start : entry.end]
        if not _NOTABLE.match(stood):
            if not isinstance(entry.node, ScalarNode):
                self._fill_brackets(start, value)
                return
            raise Unspliceable(self.places.position(start, start).line, f"{entry.name} must be written as [] or {{}}")
        note = f"# was {stood or 'empty'} {BEFORE}"
        self.text.replace(start, entry.end, note if stood else f" {note}")
        column = self.places.column(entry.begin)
        deeper = self.style.dashes if isinstance(value, list) else self.style.step
        below = self.text.line_after(entry.end)
        self.text.replace(below, below, self.text.lines(block(value, self.style), column + deeper))

    def _fill_brackets(self, start: int, value: Any) -> None:
        """Fill brackets that span lines, in flow style."""
        self.text.replace(start + 1, start + 1, flow(value)[1:-1])

    def _clear(self, name: str | int) -> set[int]:
        """Put back what a note says; return which entries go instead, because nothing stood there."""
        index = max(index for index, each in enumerate(self.entries) if each.name == name)
        entry = self.entries[index]
        if isinstance(entry.node, ScalarNode) or entry.is_alias:
            return {index}
        if is_flow(entry.node):
            return self._clear_brackets(index, entry)
        note = _NOTE.search(self.text.text, entry.after, entry.start)
        if note is None:
            return {index}
        stood = "" if note[1] == "empty" else note[1]
        start = note.start() if stood else note.start() - 1
        self.text.replace(start, note.end(), stood)
        first = self.places.entries(entry.node)[0]
        self.text.replace(self.places.line_start(first.begin), self._line_after(entry.end), "")
        return set()

    def _clear_brackets(self, index: int, entry: Entry) -> set[int]:
        stood = _stood_in(self.text.text, self.places.content(entry.node))
        if stood is None:
            return {index}
        inside = self.places.entries(entry.node)
        if inside and stood == "[]":
            self.text.replace(inside[0].begin, inside[-1].end, "")
        return set()


class _BlockList(_Block):
    """A list in block style; *name*: that of the entry that it is the value of, None for a whole document."""

    def __init__(self, text: _Text, change: Changes, name: str | int | None) -> None:
        super().__init__(text, change)
        self.name = name

    @property
    def header(self) -> Entry | None:
        """The entry that it is the value of."""
        return None if self.name is None else self.places.named(self.change.around[-2], self.name)

    def splice(self) -> None:
        change = self.change
        for index, value in change.put.items():
            if not self.in_place(self.entries[int(index)], value):
                self.swap(self.entries[int(index)], item_lines(value, self.style))
        gone = {int(index) for index in change.removed | change.cleared}
        if len(gone) == len(self.entries) and not change.inserted:
            self._empty()
            return
        self.drop(gone)
        for index, values in sorted(change.inserted.items()):
            self._insert(index, "".join(self.text.written(None, each, self.style, self.column) for each in values))

    def _insert(self, index: int, body: str) -> None:
        if index > 0:
            if self.ends_in_open_block(index - 1):
                before = self.entries[index - 1]
                raise Unspliceable(
                    self.places.position(before.start, before.end).line,
                    "ends the file in a block scalar without a final line break: add the line break",
                )
            at = self.line_after(index - 1)
            self.text.replace(at, at, body)
            return
        first = self.entries[0]
        if not self.places.stands_first(first.begin):
            self.text.replace(first.begin, first.begin, body[self.column :] + " " * self.column)
            return
        at, header = self.places.line_start(first.begin), self.header
        if header is not None and header.name != "" and not isinstance(header.name, int):
            at = self.text.line_after(self.places.content(self.node) if self._shares_line(header) else header.after)
        self.text.replace(at, at, body)

    def _shares_line(self, header: Entry) -> bool:
        """Whether the list has an anchor or tag on another line than its key."""
        is_broken = bool(BREAK.search(self.text.text, header.after, header.start))
        return is_broken and header.start != self.places.content(self.node)

    def _empty(self) -> None:
        """Leave `[]` in place of all items."""
        first, header = self.entries[0], self.header
        column = self.places.column(first.begin)
        if header is not None and header.after <= first.begin and not isinstance(header.name, int):
            self.text.replace(header.after, header.after, " []")
            self.text.replace(self.places.line_start(first.begin), self.line_after(-1), "")
            return
        self.text.replace(first.begin, self.line_after(-1), self.text.lines(["[]"], column)[column:])


class _Flow:
    """A mapping or list in brackets, of YAML or JSON."""

    def __init__(self, text: _Text, change: Changes) -> None:
        self.text, self.places, self.node, self.change = text, text.places, change.around[-1], change
        self.entries = text.places.entries(self.node)
        self.is_json = text.file.is_json
        self.around = change.around

    def splice(self) -> None:
        change = self.change
        gone = {index for index, each in enumerate(self.entries) if each.name in change.removed}
        for name in change.cleared:
            gone |= self._clear(name)
        added: dict[int, list[str]] = {}
        for name, value in change.put.items():
            entry = self.places.named(self.node, name)
            if entry is None:
                added.setdefault(len(self.entries), []).append(
                    f"{self._key(str(name))}{self._colon}{self._fresh(value)}"
                )
            elif name in change.filled:
                self._fill(entry, value)
            elif isinstance(entry.node, ScalarNode) and not entry.is_alias and not isinstance(value, dict | list):
                self._replace_scalar(entry, value)
            else:
                self.text.replace(entry.start, entry.end, self._value(value))
        for index, values in change.inserted.items():
            added.setdefault(index, []).extend(self._value(value) for value in values)
        self._arrange(gone, added)

    def _arrange(self, gone: set[int], added: dict[int, list[str]]) -> None:
        """Take entries out and put new ones in, with the commas between them."""
        entries, count = self.entries, len(self.entries)
        kept = [index for index in range(count) if index not in gone]
        separator = "," + self._between
        if not kept:
            new = separator.join(each for index in sorted(added) for each in added[index])
            if count:
                self.text.replace(entries[0].begin, self._after_comma(entries[-1].end), new)
            else:
                self._open(new)
            return
        for index, values in sorted(added.items()):
            before = [each for each in kept if each < index]
            if before:
                at = entries[before[-1]].end
                self.text.replace(at, at, "".join(separator + each for each in values))
            else:
                at = entries[kept[0]].begin
                self.text.replace(at, at, "".join(each + separator for each in values))
        if kept[0] > 0:
            self.text.replace(entries[0].begin, entries[kept[0]].begin, "")
        for index, following in zip(kept, [*kept[1:], count], strict=True):
            if following > index + 1:
                self.text.replace(entries[index].end, entries[following - 1].end, "")

    def _open(self, new: str) -> None:
        """Put the first entries into empty brackets."""
        at = self.places.content(self.node) + 1
        if self._is_spread:
            end = self.node.end_mark.index - 1
            self.text.replace(at, end, f"{self._between}{new}{self.text.line_break}{self._indent(self._outer)}")
        else:
            self.text.replace(at, at, new)

    def _after_comma(self, end: int) -> int:
        found = re.compile(r"\s*,").match(self.text.text, end)
        return found.end() if found else end

    def _replace_scalar(self, entry: Entry, value: Any) -> None:
        if self.is_json:
            self.text.replace(entry.start, entry.end, self._value(value))
            return
        style = entry.node.style if isinstance(entry.node, ScalarNode) else None
        start = self.places.content(entry.node)
        lead = "" if start > entry.after or entry.after == entry.begin else " "
        self.text.replace(start, entry.end, lead + _as_quoted(value, style, in_flow=True))

    # What an owner's empty list was

    def _fill(self, entry: Entry, value: Any) -> None:
        if entry.is_alias:
            raise _is_alias(self.places, entry)
        start = self.places.content(entry.node)
        stood = self.text.text[start : entry.end]
        body = self._value(value)
        if not isinstance(entry.node, ScalarNode):
            inner = "" if stood[1:-1].strip() else body[1:-1].strip()
            self.text.replace(start + 1, start + 1, inner)
            return
        spelled = stood or "empty"
        if spelled not in _SPACED:
            raise Unspliceable(self.places.position(start, start).line, f"{entry.name} must be written as []")
        lead = "" if stood else " "
        spaces = " " * _SPACED.index(spelled)
        self.text.replace(start, entry.end, f"{lead}{body[0]}{spaces}{body[1:-1].strip()}{body[-1]}")

    def _clear(self, name: str | int) -> set[int]:
        index = max(index for index, each in enumerate(self.entries) if each.name == name)
        entry = self.entries[index]
        if isinstance(entry.node, ScalarNode) or entry.is_alias:
            return {index}
        start = self.places.content(entry.node)
        stood = _stood_in(self.text.text, start)
        if stood is None:
            return {index}
        inside = self.places.entries(entry.node)
        if stood == "[]":
            if inside:
                self.text.replace(inside[0].begin, inside[-1].end, "")
        elif stood == "empty":
            self.text.replace(start - 1, entry.end, "")
        else:
            self.text.replace(start, entry.end, stood)
        return set()

    # Layout

    def _key(self, name: str) -> str:
        return double_quoted(name) if self.is_json else flow_name(name)

    @property
    def _colon(self) -> str:
        """What stands between key and value: as nearby."""
        for node in reversed(self.around):
            if isinstance(node, MappingNode):
                for entry in self.places.entries(node):
                    between = self.text.text[entry.after - 1 : entry.start]
                    if between in (":", ": "):
                        return between if self.is_json else ": "
        return ": "

    @property
    def _spread(self) -> Node | None:
        """The nearest collection around whose entries each begin a line."""
        for node in reversed(self.around):
            inside = self.places.entries(node) if is_flow(node) else None
            if inside:
                return node if self.places.stands_first(inside[0].begin) else None
        return None

    @property
    def _is_spread(self) -> bool:
        return self._spread is not None

    @property
    def _step(self) -> int:
        """By how many columns entries stand deeper than what is around them."""
        node = self._spread
        if node is None:
            return 2
        line = self.places.line_start(node.start_mark.index)
        outer = len(self.text.text[line:]) - len(self.text.text[line:].lstrip(" \t"))
        return max(1, self.places.column(self.places.entries(node)[0].begin) - outer)

    @property
    def _outer(self) -> int:
        """The indentation of the line on which this collection begins."""
        line = self.text.text[self.places.line_start(self.node.start_mark.index) : self.node.start_mark.index + 1]
        return len(line) - len(line.lstrip(" \t"))

    @property
    def _column(self) -> int:
        if self.entries and self.places.stands_first(self.entries[0].begin):
            return self.places.column(self.entries[0].begin)
        return self._outer + self._step

    def _indent(self, width: int) -> str:
        """White space of *width*, of tabs where the file has them."""
        line = self.text.text[self.places.line_start(self.node.start_mark.index) :][:1]
        spread = self._spread
        if spread is not None:
            begin = self.places.entries(spread)[0].begin
            line = self.text.text[self.places.line_start(begin) :][:1]
        return ("\t" if line == "\t" else " ") * width

    @property
    def _between(self) -> str:
        """What stands after a comma: a line break and the indentation, a space, or nothing."""
        if self._is_spread:
            return self.text.line_break + self._indent(self._column)
        if self.is_json and ", " not in self.text.text[: self.node.end_mark.index + 200] and self._colon == ":":
            return ""
        return " "

    def _value(self, value: Any) -> str:
        """A value as it stands inside of this collection."""
        if not self.is_json:
            return flow(value)
        if not self._is_spread:
            tight = self._between == ""
            return json_text(value, separators=("," if tight else ", ", self._colon))
        step = self._indent(self._step)
        lines = json_text(value, indent=step, separators=(",", self._colon)).split("\n")
        return (self.text.line_break + self._indent(self._column)).join(lines)

    def _fresh(self, value: Any) -> str:
        """A value of a new key; a space or a break after its bracket tells `clear` that nothing stood there."""
        body = self._value(value)
        is_open = body[:1] in "[{" and body[1:2] not in ("", "]", "}", " ", "\n", "\r")
        return f"{body[0]} {body[1:-1]} {body[-1]}" if is_open and isinstance(value, dict | list) else body


def _stood_in(text: str, start: int) -> str | None:
    """What stood where the bracket at *start* is, told by the spaces after it; None for nothing."""
    found = _BRACKET.match(text, start)
    assert found is not None, "a flow collection begins with a bracket"
    if text[found.end() : found.end() + 1] in "\r\n" and not found[1]:
        return None
    return _SPACED[len(found[1])] or None if len(found[1]) < len(_SPACED) else None


def _as_quoted(value: Any, style: str | None, *, in_flow: bool) -> str:
    """A scalar on one line, in the quotes that stood there before."""
    if isinstance(value, dict | list):
        return flow(value)
    if isinstance(value, str) and style == '"':
        return double_quoted(value)
    text = flow_scalar(value, in_flow=in_flow)
    if isinstance(value, str) and style == "'" and text[0] not in "'\"":
        return f"'{text}'" if "'" not in text else "'" + text.replace("'", "''") + "'"
    return text
