"""Everything that can go wrong with a local cluster, as one tree.

ClusterError                what, why, and what to do next, in its message
├── UnsupportedError        this machine cannot do what was asked (no Linux, no root, no package)
├── BuildError              a program could not be found or built
├── ComponentError          a part of the cluster did not come up or died; ends with its log
├── NodeTakenError          another cluster owns the one real node of this machine
├── AlreadyRunningError     a cluster of this name is up
├── NotRunningError         no cluster of this name is up
└── KubectlError            kubectl said no
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

LOG_LINES = 15
"""How many of a log's last lines an error shows."""


class ClusterError(Exception):
    """A local cluster could not do what was asked; the message says what to do next."""


class UnsupportedError(ClusterError):
    """This machine or this user cannot provide what was asked for."""


class BuildError(ClusterError):
    """A program that the cluster needs could not be built from its Go module."""


class ComponentError(ClusterError):
    """A component failed. Its name, what happened, the end of its log, and what to do.

    ``str()`` gives the whole story; ``component`` and ``log`` are for programs.
    """

    def __init__(self, component: str, happened: str, log: Path | None, advice: str = "") -> None:
        self.component = component
        self.log = log
        lines = [f"{component} {happened}"]
        if log is not None:
            lines += [f"  | {line}" for line in last_lines(log)]
            lines.append(f"  The whole log: {log}")
        if hint := advice or _advice(log):
            lines.append(f"  {hint}")
        super().__init__("\n".join(lines))


class NodeTakenError(ClusterError):
    """Another cluster runs the one real node that a machine can have."""


class AlreadyRunningError(ClusterError):
    """A cluster of this name is already running."""


class NotRunningError(ClusterError):
    """No cluster of this name is running."""


class KubectlError(ClusterError):
    """A kubectl command failed; the message holds the command and what it printed."""


def last_lines(log: Path, count: int = LOG_LINES) -> list[str]:
    """Return the last *count* lines of *log*, each cut to a readable width; none if there is no log."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return [line.rstrip("\n")[:400] for line in deque(lines, maxlen=count)]
    except FileNotFoundError:
        return []


def _advice(log: Path | None) -> str:
    """Return a hint for the one failure that a second attempt heals."""
    if log is not None and any("address already in use" in line for line in last_lines(log)):
        return "Another process took the port after it had been found free: start the cluster again."
    return ""
