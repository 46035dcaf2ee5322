"""What a measurement found, as a JSON file with its conditions.

docs/results/scale/<label>/<measurement>-<size>.json; *label* is `now` for this commit's, `before` for what it replaced.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcluster import binaries
from tests.bench.scale.processes import program

ROOT = Path(__file__).parents[3]
FOLDER = Path("docs/results/scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure over all rounds."""

    median: float
    low: float
    high: float
    values: Sequence[float]


Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measurement at one size."""

    measurement: str
    size: int
    figures: Figures
    notes: Sequence[str] = field(default=())
    conditions: Mapping[str, Any] = field(default_factory=dict)


def figures(values: Sequence[float]) -> Figure:
    """The figure of these values, one per round (or per sample, where few are kept)."""
    rounded = [float(f"{each:.4g}") for each in values]
    return Figure(median=statistics.median(rounded), low=min(rounded), high=max(rounded), values=rounded)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that *share* of *values* do not exceed: the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def save(result: Result, label: str) -> Path:
    """Write *result* under *label* with the conditions of now; return the file."""
    file = ROOT / FOLDER / label / f"{result.measurement}-{result.size}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    document = asdict(result) | {"conditions": conditions()}
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file


def load(label: str) -> dict[tuple[str, int], Result]:
    """Every result of *label*, by measurement and size."""
    found = {}
    for file in sorted((ROOT / FOLDER / label).glob("*.json")):
        document = json.loads(file.read_text())
        measured = {name: Figure(**each) for name, each in document.pop("figures").items()}
        result = Result(figures=measured, **document)
        found[result.measurement, result.size] = result
    return found


def conditions() -> dict[str, Any]:
    """Where, with what and when this was measured."""
    commit = subprocess.run(
        ["git", "-C", program().parent, "describe", "--always", "--abbrev=12", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "commit": commit or "unknown",
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "load": [round(each, 1) for each in os.getloadavg()],
        "kubernetes": binaries.KUBERNETES.version,
        "python": platform.python_version(),
        "linux": platform.release().partition("-")[0],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
