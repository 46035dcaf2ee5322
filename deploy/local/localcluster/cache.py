"""Where a local cluster keeps its files: one folder outside the checkout.

    bin/<source>-<version>-<key>/   programs, one folder per pin (see binaries.py)
    go/                             a Go toolchain, where the machine has none
    images/                         container images built here
    clusters/<name>/                one running cluster: keys, configuration, data, logs, state.json

Only the real node's files are elsewhere, in fixed short places (see node.py): socket paths have a
limit of 107 bytes, and there is one node per machine anyway.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.narration import say


def root() -> Path:
    """Return the cache folder: $SIDECARPOLICY_CACHE, or sidecarpolicy in the user's cache folder."""
    if chosen := os.environ.get("SIDECARPOLICY_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "sidecarpolicy"


def clusters() -> Path:
    """Return the folder that holds one folder per cluster."""
    return root() / "clusters"


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on *path* between processes; say *waiting* if somebody else has it.

    The lock goes with the process that holds it, however that ends; its file goes too, if that was orderly.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(waiting)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_still(path, handle.fileno()):
                continue  # whoever held it before has removed the file: lock the new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, descriptor: int) -> bool:
    """Return whether the open file is the one that *path* names now."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)
