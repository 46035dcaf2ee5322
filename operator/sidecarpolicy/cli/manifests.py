"""Manifest files: which ones, reading them, and giving back what they have become.

What is in them, and how a change gets into the text, is the business of `sidecarpolicy.manifests`.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sidecarpolicy.core.tree import Json
from sidecarpolicy.manifests import BYTE_ORDER_MARK, BadInput, Document, File, Place, block, parse

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
_STARTS_DOCUMENT = re.compile(r"(?:[ \t]*(?:#.*)?\r?\n)*---(?:\s|\Z)")

__all__ = ["STDIN", "BadInput", "Document", "File", "Place", "json_of", "objects", "read", "read_files", "stream_of"]


def read(paths: Iterable[Path], *, recursive: bool = False) -> list[Document]:
    """Return the documents of files, directories and, for `-`, standard input; raise BadInput with every problem."""
    return [document for file in read_files(paths, recursive=recursive) for document in file.documents]


def read_files(paths: Iterable[Path], *, recursive: bool = False) -> list[File]:
    """Return the files of *paths*; raise BadInput with the problems of all that cannot be read."""
    files: list[File] = []
    problems: list[str] = []
    for path in paths:
        try:
            found = _files(path, recursive=recursive)
        except BadInput as error:
            problems += error.problems
            continue
        for file in found:
            try:
                files.append(parse(_text(file), "standard input" if str(file) == STDIN else str(file)))
            except BadInput as error:
                problems += error.problems
    if problems:
        raise BadInput(problems)
    return files


def objects(documents: Iterable[Document]) -> Iterator[tuple[Place, Json]]:
    """Yield every Kubernetes object with its place, those inside of Lists one by one."""
    for document in documents:
        for found in document.objects():
            yield found.place, found.value


def stream_of(files: Sequence[File], texts: Sequence[str]) -> str:
    """Return what *files* have become as one stream: a single one as it is, several as documents of one."""
    present = [text for text in texts if text.strip()]
    if len(present) < 2:
        return "".join(texts)
    if all(file.is_json for file in files):
        return "".join(text if text.endswith("\n") else text + "\n" for text in present)
    stream = ""
    for text in present:
        bare = text.removeprefix(BYTE_ORDER_MARK) if stream else text
        if stream and not stream.endswith("\n"):
            stream += "\n"
        stream += ("---\n" if stream and not _STARTS_DOCUMENT.match(bare) else "") + bare
    return stream


def yaml_of(*bodies: Any) -> str:
    """Return values as documents of YAML, laid out anew."""
    return "---\n".join("".join(f"{line}\n" for line in block(body)) for body in bodies)


def json_of(bodies: Sequence[Any]) -> str:
    """Return values as one JSON document: several in a List, as kubectl prints them."""
    only: Any = bodies[0] if len(bodies) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
    return json.dumps(only, indent=2, ensure_ascii=False) + "\n"


def write_back(path: Path, text: str) -> None:
    """Replace what is in the file *path* with *text*, wholly or not at all; its rights stay."""
    target = path.resolve()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))  # noqa: PTH101  # a name, no path
        os.replace(temporary, target)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput([f"{file}, line {line}: must be UTF-8: {error.reason} at byte {error.start}"]) from error
    except OSError as error:
        raise BadInput([f"{file}: must be readable: {error.strerror}"]) from error
