"""Containers moved between the lists of a Pod spec, and small steps through plain values."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint.pods import Path
from sidecarpolicy.migrate.model import Move

LEAVES = -1
"""The place of a container that moves out of the object."""


def moved(body: Json, spec_path: Path, moves: tuple[Move, ...]) -> Json:
    """Return *body* with the containers of *moves* where they belong."""
    if not moves:
        return body
    after: Json = deepcopy(body)
    spec = get(after, spec_path)
    regular = spec["containers"]
    inits = list(spec.get("initContainers") or [])
    for place in range(len(inits), -1, -1):
        inits[place:place] = [regular[each.index] for each in moves if each.to == place]
    gone = {each.index for each in moves}
    spec["containers"] = [each for index, each in enumerate(regular) if index not in gone]
    if inits:
        spec["initContainers"] = inits
    return after


def get(value: Any, path: Path) -> Any:
    """Return what stands at *path*, which exists."""
    for step in path:
        value = value[step]
    return value
