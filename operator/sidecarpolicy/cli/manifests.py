"""Manifests in files: reading them, walking through the objects in them, printing them.

YAML is read as kubectl reads it, not as YAML 1.1 has it: `1:30` and `2025-01-01` are strings, `1e3` is a number; and
every string is written so that kubectl, PyYAML and YAML 1.2 all read a string again. The order of keys is kept;
comments, anchors and the style of scalars are not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from yaml import CSafeDumper, CSafeLoader

from sidecarpolicy.core.tree import Json

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
UNFOLDED = 2**20


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file; *is_json*: its file is JSON."""

    place: Place
    body: Any
    is_json: bool = False


class BadInput(Exception):
    """The input cannot be used; *problems* are sentences for people, each with the place it is about."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read(paths: Iterable[Path], *, recursive: bool = False) -> list[Document]:
    """Return the documents of files, directories and, for `-`, standard input; raise BadInput with every problem."""
    documents: list[Document] = []
    problems: list[str] = []
    for path in paths:
        try:
            for file in _files(path, recursive=recursive):
                documents += parse(_text(file), "standard input" if str(file) == STDIN else str(file))
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(problems)
    return documents


def parse(text: str, source: str) -> list[Document]:
    """Return the documents in *text*, empty ones left out; raise BadInput where it is neither JSON nor YAML."""
    bodies = _json_documents(text)
    is_json = bodies is not None
    try:
        found = bodies if bodies is not None else list(yaml.load_all(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        raise BadInput([f"{where}: must be YAML or JSON: {error.problem or error.context}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput([f"{source}: must be YAML or JSON: {error}"]) from error
    return [
        Document(place=Place(source=source, number=number, count=len(found)), body=body, is_json=is_json)
        for number, body in enumerate(found, start=1)
        if body is not None
    ]


def objects(documents: Iterable[Document]) -> Iterator[tuple[Place, Json]]:
    """Yield every Kubernetes object, those inside of Lists one by one."""
    for document in documents:
        if not isinstance(document.body, dict):
            continue
        if not _is_list(document.body):
            yield document.place, document.body
            continue
        for number, item in enumerate(document.body["items"], start=1):
            if isinstance(item, dict):
                yield replace(document.place, item=number), _typed(item, document.body)


def changed(documents: Iterable[Document], change: Callable[[Place, Json], Json]) -> list[Document]:
    """Return the documents with *change* applied to every object; all else as it was."""
    return [replace(document, body=_changed(document, change)) for document in documents]


def text_of(documents: Sequence[Document]) -> str:
    """Return the documents as one stream: JSON where all of them were read as JSON, YAML otherwise."""
    if documents and all(document.is_json for document in documents):
        return "".join(json.dumps(document.body, indent=4, ensure_ascii=False) + "\n" for document in documents)
    return "---\n".join(yaml_of(document.body) for document in documents)


def yaml_of(body: Any) -> str:
    """Return one document of block-style YAML."""
    return yaml.dump(
        body, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=UNFOLDED
    )


def _changed(document: Document, change: Callable[[Place, Json], Json]) -> Any:
    body = document.body
    if not isinstance(body, dict):
        return body
    if not _is_list(body):
        return change(document.place, body)
    items = []
    for number, item in enumerate(body["items"], start=1):
        if not isinstance(item, dict):
            items.append(item)
            continue
        typed = _typed(item, body)
        after = change(replace(document.place, item=number), typed)
        items.append({key: value for key, value in after.items() if key in item or key not in typed})
    return {**body, "items": items}


def _is_list(body: Json) -> bool:
    return str(body.get("kind", "")).endswith("List") and isinstance(body.get("items"), list)


def _typed(item: Json, of: Json) -> Json:
    """The items of a DeploymentList need not say what they are."""
    kind = str(of["kind"]).removesuffix("List")
    return item if "kind" in item or not kind else {**item, "apiVersion": of.get("apiVersion"), "kind": kind}


def _files(path: Path, *, recursive: bool) -> list[Path]:
    if str(path) == STDIN or not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in (path.rglob("*") if recursive else path.iterdir())
        if file.suffix in SUFFIXES and file.is_file()
    )
    if not found:
        deeper = "" if recursive else " (directories below it are read with --recursive)"
        raise BadInput([f"{path}: must hold a file that ends in {', '.join(SUFFIXES)}{deeper}"])
    return found


def _text(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == STDIN else file.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput([f"{file}: must be UTF-8: {error.reason} at byte {error.start}"]) from error
    except OSError as error:
        raise BadInput([f"{file}: must be readable: {error.strerror}"]) from error


def _json_documents(text: str) -> list[Any] | None:
    """The JSON values in *text*, one after the other, or None where it is no JSON object."""
    decoder, found, position = json.JSONDecoder(), [], 0
    stripped = text.strip()
    if not stripped.startswith("{"):
        return None
    while position < len(stripped):
        try:
            value, position = decoder.raw_decode(stripped, position)
        except json.JSONDecodeError:
            return None
        found.append(value)
        while position < len(stripped) and stripped[position].isspace():
            position += 1
    return found


# Plain scalars as kubectl's YAML library (sigs.k8s.io/yaml) resolves them.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MERGE = re.compile(r"<<")
_ONE_LETTER_BOOL = re.compile(r"[yYnN]")


class _Loader(CSafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # as PyYAML declares it


class _Dumper(CSafeDumper):
    """Writes no anchors, quotes whatever any YAML library could take for something else than a string."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _whole(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """PyYAML matches at the beginning only."""
    return re.compile(rf"(?:{pattern.pattern})\Z")


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


for _tag, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("yYnNtTfFoO")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", _MERGE, ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole(_pattern), _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole(_pattern), _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", _whole(_ONE_LETTER_BOOL), list("yYnN"))
_Dumper.add_representer(str, _text_node)
