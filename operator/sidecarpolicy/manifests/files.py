"""Manifest files: their documents, the objects in them, their values, and where each stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode

from sidecarpolicy.manifests.composing import TooDeep, compose_json, compose_yaml
from sidecarpolicy.manifests.errors import BadInput
from sidecarpolicy.manifests.places import Entry, Path, Places, Position, text_of_path
from sidecarpolicy.manifests.values import Unreadable, key_of, value_of

Json = dict[str, Any]

# Before it is nothing, white space or one of `,[{:-`. To begin with the sign itself makes the search fast.
_ANCHOR = re.compile(r"&(?<![^\s,\[{:-]&)[^\s,\[\]{}&]")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an object was read: the *number*-th of *count* documents in *source*, and its place in a List."""

    source: str
    number: int = 1
    count: int = 1
    item: int | None = None

    def __str__(self) -> str:
        document = f", document {self.number}" if self.count > 1 else ""
        return self.source + document + (f", item {self.item}" if self.item else "")


@dataclass(frozen=True, eq=False, kw_only=True)
class File:
    """One file as it is written. *text* is all of it but a byte order mark; *is_json*: it is JSON, not YAML."""

    source: str
    text: str
    roots: tuple[Node | None, ...]
    is_json: bool = False
    has_mark: bool = False

    @cached_property
    def places(self) -> Places:
        """The spans in the text."""
        return Places(self.text, aliased=self.aliased)

    @cached_property
    def aliased(self) -> bool:
        """Whether something in it may be an alias."""
        return not self.is_json and "&" in self.text and bool(_ANCHOR.search(self.text))

    @cached_property
    def documents(self) -> tuple[Document, ...]:
        """The documents, empty ones left out."""
        return tuple(
            Document(file=self, node=root, place=Place(source=self.source, number=number, count=len(self.roots)))
            for number, root in enumerate(self.roots, start=1)
            if root is not None and not _is_null(root)
        )

    def objects(self) -> Iterator[Object]:
        """Yield every Kubernetes object in it, those inside of Lists one by one."""
        for document in self.documents:
            yield from document.objects()


@dataclass(frozen=True, eq=False, kw_only=True)
class Document:
    """One document of a file. Paths are tuples of keys and indexes, from its root."""

    file: File
    node: Node
    place: Place

    @cached_property
    def value(self) -> Any:
        """What kubectl reads; raises BadInput with the line where it would refuse."""
        return self.value_at_node(self.node)

    def value_at_node(self, node: Node) -> Any:
        """Return the value of one of its nodes."""
        if self.file.is_json:
            return json.loads(self.file.text[node.start_mark.index : node.end_mark.index])
        try:
            return value_of(node, aliased=self.file.aliased)
        except Unreadable as error:
            where = f"{self.file.source}, line {error.line}, column {error.column}"
            raise BadInput([f"{where}: {error.why}"]) from error

    def objects(self) -> Iterator[Object]:
        """Yield the Kubernetes object that it is, or those of a List; nothing where it is none."""
        if not isinstance(self.node, MappingNode):
            return
        kind, version = _text_under(self.node, "kind"), _text_under(self.node, "apiVersion")
        items = _under(self.node, "items") if kind.endswith("List") else None
        if items is None or not isinstance(items, yaml.SequenceNode):
            yield Object(document=self, node=self.node, path=(), place=self.place, api_version=version, kind=kind)
            return
        of_list = kind.removesuffix("List")
        for index, node in enumerate(items.value):
            if isinstance(node, MappingNode):
                own = _text_under(node, "kind")
                typed = bool(own) or not of_list
                yield Object(
                    document=self,
                    node=node,
                    path=("items", index),
                    place=replace(self.place, item=index + 1),
                    api_version=_text_under(node, "apiVersion") if typed else version,
                    kind=own if typed else of_list,
                    is_typed=typed,
                )

    def entry(self, path: Path) -> Entry | None:
        """Return the entry at *path*, None where there is nothing."""
        node, found = self.node, None
        for step in path:
            found = self.file.places.named(node, step)
            if found is None:
                return None
            node = found.node
        return found

    def position(self, path: Path) -> Position:
        """Return where the value at *path* stands, or the nearest thing around it where there is none."""
        found = next((each for each in (self.entry(path[:n]) for n in range(len(path), 0, -1)) if each), None)
        places = self.file.places
        if found is None:
            start = self.node.start_mark
            return places.position(start.index, places.end(self.node), start.line)
        line = None if found.is_alias else found.node.start_mark.line
        return places.position(found.start, found.end, line)

    def where(self, path: Path) -> str:
        """Return *path* as people look for it: `app.yaml, line 12: spec.template.spec.volumes`."""
        return f"{self.file.source}, line {self.position(path).line}: {text_of_path(path)}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Object:
    """One Kubernetes object in a document, at *path*; *is_typed*: it says itself what it is (items of Lists need not).

    Its own paths begin at the object: `at(...)` makes those of the document of them.
    """

    document: Document
    node: MappingNode
    path: Path
    place: Place
    api_version: str
    kind: str
    is_typed: bool = True

    @cached_property
    def value(self) -> Json:
        """What kubectl reads, apiVersion and kind always in it; raises BadInput with the line where it would refuse."""
        value: Json = self.document.value_at_node(self.node)
        return value if self.is_typed else {**value, "apiVersion": self.api_version, "kind": self.kind}

    def at(self, path: Path) -> Path:
        """Return the document's path for a *path* in the object."""
        return (*self.path, *path)

    def position(self, path: Path) -> Position:
        """Return where the value at *path* stands, or the nearest thing around it."""
        return self.document.position(self.at(path))

    def where(self, path: Path) -> str:
        """Return *path* as people look for it, with file and line."""
        return f"{self.document.file.source}, line {self.position(path).line}: {text_of_path(path)}"


def parse(text: str, source: str) -> File:
    """Return the file that *text* is; raise BadInput with the line where it is neither JSON nor YAML."""
    has_mark = text.startswith(BYTE_ORDER_MARK)
    text = text.removeprefix(BYTE_ORDER_MARK)
    if text.lstrip()[:1] == "{":
        try:
            return File(source=source, text=text, roots=tuple(compose_json(text)), is_json=True, has_mark=has_mark)
        except json.JSONDecodeError as error:
            not_json = error
    else:
        not_json = None
    try:
        return File(source=source, text=text, roots=tuple(compose_yaml(text)), has_mark=has_mark)
    except TooDeep as error:
        raise BadInput([f"{source}: must not be nested so deep: {error}"]) from error
    except yaml.MarkedYAMLError as error:
        if not_json is not None and source.endswith(".json"):
            raise BadInput([_json_problem(not_json, source)]) from error
        mark = error.problem_mark
        where = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        raise BadInput([f"{where}: must be YAML or JSON: {_yaml_problem(error, text)}"]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadInput([f"{source}, line {line}: must be YAML or JSON: {error.reason}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput([f"{source}: must be YAML or JSON: {error}"]) from error


def _yaml_problem(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return what is wrong; of a character that may not stand there also which one, and what to write."""
    problem = str(error.problem or error.context)
    mark = error.problem_mark
    if mark is None or "cannot start any token" not in problem:
        return problem
    if (found := text[mark.index : mark.index + 1]) == "\t":
        return "there is a tab, where YAML takes only spaces"
    return f"no text begins with {found!r}: put it in quotes"


def _json_problem(error: json.JSONDecodeError, source: str) -> str:
    return f"{source}, line {error.lineno}, column {error.colno}: must be JSON: {error.msg}"


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag is None and node.value in ("", "~", "null", "Null", "NULL")


def _under(node: MappingNode, name: str) -> Node | None:
    found: Node | None = None
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.value == name:
            found = value
    return found


def _text_under(node: MappingNode, name: str) -> str:
    found = _under(node, name)
    return str(found.value) if isinstance(found, ScalarNode) else ""


__all__ = ["BYTE_ORDER_MARK", "Document", "File", "Object", "Place", "key_of", "parse"]
