"""Problems with the line on which their author finds them."""

from __future__ import annotations

import re

from sidecarpolicy.core.reading import Problem
from sidecarpolicy.manifests import Object, Path

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([0-9]+)\]|\[([^\]]+)\]")


def located(found: Object, problem: Problem) -> str:
    """Return *problem* of *found* with its file and line: `app.yaml, line 12: spec.replicas: must be …`."""
    line = found.position(path_of(problem.path)).line
    return f"{found.document.file.source}, line {line}: {problem}"


def path_of(text: str) -> Path:
    """Return the path that *text* writes out, as far as that can be told (keys may have dots)."""
    return tuple(int(index) if index else name or key for name, index, key in _STEP.findall(text))
