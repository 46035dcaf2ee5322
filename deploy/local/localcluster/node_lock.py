"""Who owns the one real node of this machine.

Bridge, subnet, packet filter, control group and node name are the machine's, so there is one node at
most. A file under /run names the owner; it is no longer an owner when neither the process that
started the cluster nor any of the cluster's processes lives.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from localcluster import cache, processes
from localcluster.processes import Process

FILE = Path("/run/sidecarpolicy-node.json")
_GUARD = Path("/run/sidecarpolicy-node.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The cluster that the node belongs to."""

    cluster: str
    folder: Path
    since: str
    """When it was taken, ISO 8601."""
    starter: Process
    forwarding: bool
    """Whether the machine forwarded packets before."""

    @property
    def alive(self) -> bool:
        """Whether anything of the cluster still runs, or is just being started."""
        return self.starter.alive or bool(processes.marked(self.folder))

    def __str__(self) -> str:
        return f"cluster {self.cluster} (process {self.starter.pid}, files in {self.folder}, since {self.since})"


@contextmanager
def guarded() -> Iterator[None]:
    """Keep other processes from taking or releasing the node meanwhile."""
    with cache.locked(_GUARD, "Another process is taking or releasing the real node; waiting for it."):
        yield


def owner() -> Owner | None:
    """Return who is written down as the owner, alive or not."""
    try:
        document = json.loads(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    document["folder"] = Path(document["folder"])
    document["starter"] = Process(**document["starter"])
    return Owner(**document)


def take(cluster: str, folder: Path, *, forwarding: bool) -> None:
    """Write *cluster* down as the owner; the caller has made sure that nobody else is, under ``guarded``."""
    starter = processes.identify(os.getpid())
    if starter is None:
        raise ProcessLookupError(os.getpid())
    taken = Owner(
        cluster=cluster,
        folder=folder,
        since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        starter=starter,
        forwarding=forwarding,
    )
    new = FILE.with_suffix(".new")
    new.write_text(json.dumps({**asdict(taken), "folder": str(folder)}), encoding="utf-8")
    new.rename(FILE)


def release() -> None:
    """Write down that nobody owns the node."""
    FILE.unlink(missing_ok=True)
