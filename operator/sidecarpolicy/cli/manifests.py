"""Manifest files: which ones, reading them, and giving back what they have become.

What is in them, and how a change gets into the text, is the business of `sidecarpolicy.manifests`.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sidecarpolicy.core.tree import Json
from sidecarpolicy.manifests import BYTE_ORDER_MARK, BadInput, Document, File, Place, block, parse

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
LONGEST_PREFIX = 50  # characters, of up to four bytes: a name has up to 255 bytes, and more is added to it
_STARTS_DOCUMENT = re.compile(r"(?:[ \t]*(?:#.*)?\r?\n)*---(?:\s|\Z)")

__all__ = ["STDIN", "BadInput", "Document", "File", "Place", "json_of", "objects", "read", "read_files", "stream_of"]


def read(paths: Iterable[Path], *, recursive: bool = False) -> list[Document]:
    """Return the documents of files, directories and, for `-`, standard input; raise BadInput with every problem."""
    return [document for file in read_files(paths, recursive=recursive) for document in file.documents]


def is_stdin(path: Path) -> bool:
    """Whether *path* is how a command line names standard input."""
    return str(path) == STDIN


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
        except OSError as error:
            problems.append(f"{error.filename or path}: must be readable: {error.strerror}")
            continue
        for file in found:
            try:
                files.append(parse(_text(file), _source(file)))
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


def write_all(texts: Iterable[tuple[Path, str]]) -> None:
    """Give each file its text, wholly; none is touched where one of them cannot be written. Rights stay.

    Raises BadInput with every file that cannot be written.
    """
    ready: list[tuple[Path, Path]] = []
    problems: list[str] = []
    try:
        for path, text in texts:
            try:
                ready.append((_beside(path.resolve(), text), path))
            except OSError as error:
                problems.append(_unwritable(path, error))
        if problems:
            raise BadInput(problems)
        for temporary, path in ready:
            try:
                temporary.replace(path.resolve())
            except OSError as error:
                raise BadInput([_unwritable(path, error)]) from error
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)


def _beside(target: Path, text: str) -> Path:
    """Return a new file in the directory of *target*, with *text* and with the rights of *target*."""
    import tempfile  # only where something is written

    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:LONGEST_PREFIX]}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        _take_over_rights(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _take_over_rights(temporary: Path, target: Path) -> None:
    """Give *temporary* the owner and the mode of *target*, or where there is none those of any new file."""
    try:
        there = target.stat()
    except FileNotFoundError:
        mask = os.umask(0)  # it cannot be read otherwise
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        return
    with suppress(OSError):  # only root gives files away
        os.chown(temporary, there.st_uid, there.st_gid)
    temporary.chmod(stat.S_IMODE(there.st_mode))


def _unwritable(path: Path, error: OSError) -> str:
    return f"{path}: must be writable, with its directory: {error.strerror}"


def _files(path: Path, *, recursive: bool) -> list[Path]:
    if is_stdin(path) or not path.is_dir():
        return [path]
    # A link that leads nowhere is a manifest too: one that cannot be read.
    found = sorted(
        file
        for file in (_below(path) if recursive else path.iterdir())
        if file.suffix in SUFFIXES and (file.is_file() or not file.exists())
    )
    if not found:
        deeper = "" if recursive else " (directories below it are read with --recursive)"
        raise BadInput([f"{path}: must hold a file that ends in {', '.join(SUFFIXES)}{deeper}"])
    return found


def _below(path: Path) -> Iterator[Path]:
    """Yield every file below *path*; unlike Path.rglob it passes over nothing that it may not look into."""

    def fail(error: OSError) -> None:
        raise error

    for folder, _, files in os.walk(path, onerror=fail):
        yield from (Path(folder, file) for file in files)


def _source(file: Path) -> str:
    return "standard input" if is_stdin(file) else str(file)


def _text(file: Path) -> str:
    source = _source(file)
    if is_stdin(file) and sys.stdin is None:  # `<&-`
        raise BadInput([f"{source}: must be open, and is closed: pipe manifests into it, or name a FILE"])
    try:
        data = sys.stdin.buffer.read() if is_stdin(file) else file.read_bytes()
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput([f"{source}, line {line}: must be UTF-8: {error.reason} at byte {error.start}"]) from error
    except OSError as error:
        raise BadInput([f"{source}: must be readable: {error.strerror}"]) from error
