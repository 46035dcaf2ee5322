"""kstatus as a judge: the library that Flux and Helm wait with, in a program of its own (`kstatus/`, Go).

It is built once into the cache, like the programs of a local cluster.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from localcluster import binaries
from sidecarpolicy.core.tree import Json

SOURCE = binaries.OwnSource(
    name="kstatus",
    module="sidecarpolicy.local/kstatus",
    packages={"kstatus": "sidecarpolicy.local/kstatus"},
    place=Path(__file__).parent / "kstatus",
)


def program() -> Path:
    """Return where the program is, after building it if need be."""
    return binaries.require(SOURCE.packages, (SOURCE,))["kstatus"]


def kstatus_of(objects: Sequence[Json]) -> list[str]:
    """Return the kstatus of each of *objects*."""
    lines = "".join(json.dumps(each) + "\n" for each in objects)
    done = subprocess.run([program()], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["status"] for line in done.stdout.splitlines()]
