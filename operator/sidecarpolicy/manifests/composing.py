"""From text to nodes with exact positions: YAML by PyYAML's C composer, JSON by a scanner of its own.

A node's marks count characters from the beginning of the text. Implicit tags are not resolved here: a plain scalar has
no tag, every other scalar that of a string, and `values` makes of them what kubectl makes of them. That also makes
composing faster than PyYAML's own loaders are.

JSON is not composed as YAML: surrogate pairs, keys of more than 1,024 characters and tabs are JSON and no YAML.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in all but its annotation
from typing import Any

import yaml
from yaml import CSafeLoader, MappingNode, Mark, Node, ScalarNode, SequenceNode

STRING = "tag:yaml.org,2002:str"
MOST_LEVELS = 150


class TooDeep(ValueError):
    """Collections are nested deeper than anybody writes them; the C composer would not come back from it."""


class _Composer(CSafeLoader):
    """Composes without resolving implicit tags."""

    def resolve(self, kind: type[Node], value: str, implicit: Any) -> str | None:
        """Return no tag for a plain scalar, that of a string for any other; of collections nobody asks."""
        return None if kind is ScalarNode and implicit[0] else STRING


def compose_yaml(text: str) -> list[Node | None]:
    """Return the root of every document in *text*, None for an empty one; raise yaml.YAMLError or TooDeep."""
    _refuse_depth(text)
    loader, found = _Composer(text), []
    with without_collector():
        try:
            while loader.check_node():
                found.append(loader.get_node())
        finally:
            loader.dispose()
    return found


@contextmanager
def without_collector() -> Iterator[None]:
    """Hold the cycle collector: it would look at a million new objects again and again, and none is garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
# The line break makes the search several times as fast as `^` would.
_LONG_START = re.compile(rf"\n(?=[ \t?-]{{{MOST_LEVELS}}})[ \t?-]*-")


def _refuse_depth(text: str) -> None:
    """Raise TooDeep for *text* in which collections are nested too deep; the composer recurses in C, unchecked."""
    if _brackets_in(text) <= MOST_LEVELS and not _LONG_START.search(f"\n{text}"):
        return
    level = 0
    for event in yaml.parse(text, Loader=CSafeLoader):  # brackets may stand in strings: look properly
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
            if level > MOST_LEVELS:
                raise TooDeep(
                    f"line {event.start_mark.line + 1 if event.start_mark else 1}: more than {MOST_LEVELS} levels"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1


def _brackets_in(text: str) -> int:
    """Return how many brackets are open at once, at most, if all of them are brackets."""
    level = most = 0
    for bracket in text.encode(errors="surrogatepass").translate(None, _ALL_BUT_BRACKETS):
        level = level + 1 if bracket in b"[{" else max(0, level - 1)
        most = max(most, level)
    return most


_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_HALF = re.compile(r"[\ud800-\udfff]")
_NUMBER_TAG, _BOOL_TAG, _NULL_TAG = (f"tag:yaml.org,2002:{name}" for name in ("float", "bool", "null"))
_LITERALS = {"true": _BOOL_TAG, "false": _BOOL_TAG, "null": _NULL_TAG}


def compose_json(text: str) -> list[Node]:
    """Return the root of every JSON value in *text*, one after the other; raise json.JSONDecodeError."""
    return _JsonComposer(text).documents()


class _JsonComposer:
    """One text under way. Scalars keep their text as value, tagged as what they are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.line = 0

    def documents(self) -> list[Node]:
        found: list[Node] = []
        position = self._skip(0)
        while position < len(self.text):
            try:
                node, position = self._value(position)
            except RecursionError as error:
                raise json.JSONDecodeError("nested too deep", self.text, position) from error
            found.append(node)
            position = self._skip(position)
        return found

    def _mark(self, index: int) -> Mark:
        while self.line + 1 < len(self.starts) and self.starts[self.line + 1] <= index:
            self.line += 1
        return Mark("", index, self.line, index - self.starts[self.line], None, 0)

    def _skip(self, position: int) -> int:
        return _SPACE.match(self.text, position).end()  # type: ignore[union-attr]  # it matches the empty text

    def _value(self, start: int) -> tuple[Node, int]:
        match self.text[start : start + 1]:
            case "{":
                return self._mapping(start)
            case "[":
                return self._sequence(start)
            case '"':
                return self._string(start)
            case _:
                return self._literal(start)

    def _string(self, start: int) -> tuple[ScalarNode, int]:
        mark = self._mark(start)
        value, end = scanstring(self.text, start + 1, True)
        if _HALF.search(value):
            raise json.JSONDecodeError("must be Unicode, not half a surrogate pair", self.text, start)
        return ScalarNode(STRING, value, mark, self._mark(end), style='"'), end

    def _literal(self, start: int) -> tuple[Node, int]:
        for word, tag in _LITERALS.items():
            if self.text.startswith(word, start):
                end = start + len(word)
                return ScalarNode(tag, word, self._mark(start), self._mark(end)), end
        number = _NUMBER.match(self.text, start)
        if number is None:
            raise json.JSONDecodeError("must be a value", self.text, start)
        return ScalarNode(_NUMBER_TAG, number[0], self._mark(start), self._mark(number.end())), number.end()

    def _mapping(self, start: int) -> tuple[MappingNode, int]:
        entries: list[tuple[Node, Node]] = []
        mark, position = self._mark(start), self._skip(start + 1)
        while self._goes_on(position, "}", first=not entries):
            position = self._skip(position + 1) if entries else position
            if self.text[position : position + 1] != '"':
                raise json.JSONDecodeError("must be a name in double quotes", self.text, position)
            key, position = self._string(position)
            position = self._skip(position)
            if self.text[position : position + 1] != ":":
                raise json.JSONDecodeError("must be a colon", self.text, position)
            value, position = self._value(self._skip(position + 1))
            entries.append((key, value))
            position = self._skip(position)
        node = MappingNode("tag:yaml.org,2002:map", entries, mark, self._mark(position + 1), flow_style=True)
        return node, position + 1

    def _sequence(self, start: int) -> tuple[SequenceNode, int]:
        found: list[Node] = []
        mark, position = self._mark(start), self._skip(start + 1)
        while self._goes_on(position, "]", first=not found):
            value, position = self._value(self._skip(position + 1) if found else position)
            found.append(value)
            position = self._skip(position)
        node = SequenceNode("tag:yaml.org,2002:seq", found, mark, self._mark(position + 1), flow_style=True)
        return node, position + 1

    def _goes_on(self, position: int, closing: str, *, first: bool) -> bool:
        here = self.text[position : position + 1]
        if here == closing:
            return False
        if not first and here != ",":
            raise json.JSONDecodeError(f"must be a comma or {closing}", self.text, position)
        if first and not here:
            raise json.JSONDecodeError(f"must be closed by {closing}", self.text, position)
        return True
