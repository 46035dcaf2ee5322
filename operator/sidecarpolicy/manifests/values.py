"""From nodes to values, as kubectl makes them: its words, its numbers, its merge keys, its keys that are strings."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Any

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from sidecarpolicy.manifests.composing import STRING
from sidecarpolicy.manifests.scalars import WORDS, NoJson, plain

PREFIX = "tag:yaml.org,2002:"
MERGE, MERGE_TAG = "<<", f"{PREFIX}merge"
MOST_NODES = 2_000_000


class Unreadable(ValueError):
    """A node that kubectl refuses, or reads in a way that nobody means; *line* and *column* count from 1."""

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(why)
        self.line, self.column, self.why = node.start_mark.line + 1, node.start_mark.column + 1, why


def value_of(node: Node | None, *, aliased: bool = True) -> Any:
    """Return the value of *node*; raise Unreadable. *aliased*: whether the text has anchors at all."""
    return None if node is None else _Values(aliased=aliased).of(node)


class _Values:
    """One document under way; what an alias stands for is made once and shared."""

    def __init__(self, *, aliased: bool) -> None:
        self.made: dict[int, tuple[Any, int]] | None = {} if aliased else None
        self.open: set[int] = set()
        self.size = 0

    def of(self, node: Node) -> Any:
        if type(node) is ScalarNode:
            tag = node.tag
            if tag is STRING:
                return node.value
            return self._scalar(node)
        return self._collection(node) if self.made is None else self._once(node)

    def _once(self, node: Node) -> Any:
        assert self.made is not None
        if id(node) in self.made:
            value, size = self.made[id(node)]
            self.size += size
            if self.size > MOST_NODES:
                raise Unreadable(node, "must not be repeated by aliases a million times")
            return value
        if id(node) in self.open:
            raise Unreadable(node, "must not contain itself (an alias inside of its own anchor)")
        self.open.add(id(node))
        before, self.size = self.size, self.size + 1
        value = self._collection(node)
        self.open.discard(id(node))
        self.made[id(node)] = (value, self.size - before)
        return value

    def _collection(self, node: Node) -> Any:
        if type(node) is SequenceNode:
            return [self.of(each) for each in node.value]
        result: dict[str, Any] = {}
        for key, content in node.value:
            tag = key.tag
            if (tag is None and key.value == MERGE) or tag == MERGE_TAG:
                self._merge(content, result)
                continue
            # What is under a plain word that is nothing else, as a plain word is: nearly everything there is.
            name = _word(key.value) if tag is None and type(key) is ScalarNode else None
            value = _word(content.value) if content.tag is None and type(content) is ScalarNode else None
            if name is None:
                name = self._key(key)
            result[name] = value if value is not None else self.of(content)
        return result

    def _merge(self, node: Node, into: dict[str, Any]) -> None:
        """Earlier mappings of a list win, and all of them win over what was written before the merge key."""
        for each in reversed(node.value) if isinstance(node, SequenceNode) else [node]:
            if not isinstance(each, MappingNode):
                raise Unreadable(each, "must be a mapping, or a list of them, after the merge key <<")
            into.update(self.of(each))

    def _key(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            raise Unreadable(node, f"must have strings as keys{_template_hint(node)}")
        return key_of(node)

    def _scalar(self, node: ScalarNode) -> Any:
        try:
            return scalar_of(node)
        except NoJson as error:
            raise Unreadable(node, f"must be a value that JSON can hold: {error}") from error


def key_of(node: ScalarNode) -> str:
    """Return the name under which the key *node* is known: kubectl turns numbers and booleans into strings."""
    if node.tag == STRING:
        text: str = node.value
        return text
    if node.tag is None and (word := _word(node.value)) is not None:
        return word
    try:
        value = scalar_of(node)
    except NoJson as error:
        raise Unreadable(node, str(error)) from error
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        raise Unreadable(node, "must have strings as keys, not null")
    return str(value)


def scalar_of(node: ScalarNode) -> Any:
    """Return the value of a scalar by its tag; raise NoJson or Unreadable."""
    tag, text = node.tag, node.value
    if tag is None:
        return plain(text)
    if tag == STRING or not tag.startswith(PREFIX):
        return text  # kubectl ignores tags that it does not know
    return _tagged(node, tag.removeprefix(PREFIX), text)


def _tagged(node: ScalarNode, tag: str, text: str) -> Any:
    if tag == "binary":
        try:
            return base64.b64decode(text, validate=False).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unreadable(node, "must be base64 of UTF-8 text after !!binary") from error
    value = plain(text)
    found = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "str")
    if tag in ("merge", "timestamp"):
        return text
    if tag == "float" and found == "int":
        return value
    if tag != found:
        raise Unreadable(node, f"must be {'one of ' + ', '.join(WORDS) if tag == 'bool' else 'of the type'} !!{tag}")
    return value


@lru_cache(maxsize=4096)
def _word(text: str) -> str | None:
    """Return *text* if it is a string without quotes, and None otherwise."""
    try:
        value = plain(text)
    except NoJson:
        return None
    return value if isinstance(value, str) else None


def _template_hint(node: Node) -> str:
    """Two braces in a row are a mapping as a key, and nearly always a template."""
    return " (a Helm template? render it first: helm template)" if isinstance(node, MappingNode) else ""
