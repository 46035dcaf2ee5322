"""What a witness's monotonic clock shows in calendar time.

Kubernetes has a whole second for the start and the end of a container, the witness its nanoseconds; together all starts
and ends of a Pod leave a fraction of a second of doubt. A record that bears calendar times leaves none.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecarpolicy.core.timeline.moments import When
from sidecarpolicy.core.timeline.seen import Run, Seen
from sidecarpolicy.core.timeline.witness import Process, Witness

SLACK = 0.5
"""Seconds that may pass between a container's start or end and the first or last line of its program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """*shift*: seconds to add to the witness's clock; *error*: by how much that may be wrong, either way."""

    witness: Witness
    shift: float
    error: float

    def narrow(self, seen: Seen) -> None:
        """Put the witness's times in the place of those that Kubernetes has of the same runs."""
        for name, container in seen.containers.items():
            matched = [process for run in container.runs if (process := self._process(name, run)) is not None]
            for run in container.runs:
                process = self._process(name, run)
                if process is None:
                    continue
                run.start = When.at(process.start + self.shift)
                if process.end is not None and run.end is not None:
                    run.end = When.at(process.end + self.shift)
            if matched:
                container.happenings = [each for each in container.happenings if each.reason != "Started"]

    def told(self, name: str, start: When) -> When | None:
        """When the run of *name* that began at *start* got its SIGTERM."""
        for process in self.witness.processes(name):
            if process.told is not None and abs(process.start + self.shift - start.earliest) < SLACK:
                return When.at(process.told + self.shift)
        return None

    @property
    def note(self) -> str:
        """Say how exact the times are."""
        words = "exact" if self.error == 0 else f"placed in the calendar to {max(self.error, 0.01):.2f} s"
        return (
            "Times of processes are the witness's, exact among each other and "
            f"{words}; all else is Kubernetes', in whole seconds."
        )

    def _process(self, name: str, run: Run) -> Process | None:
        for process in self.witness.processes(name):
            at = process.start + self.shift
            if run.start.earliest - SLACK <= at <= run.start.latest + SLACK:
                return process
        return None


def fit(witness: Witness, seen: Seen) -> Fit | None:
    """Return how the clock of *witness* lies in the calendar of *seen* (read on the grid); None if nothing can tell."""
    dated = [line.dated - line.at for line in witness.lines if line.dated is not None]
    if dated:
        return Fit(witness=witness, shift=dated[0], error=0.0)
    least, most = [], []
    for name, container in seen.containers.items():
        processes = witness.processes(name)
        for run, process in zip(reversed(container.runs), reversed(processes), strict=False):
            least.append(run.start.earliest - process.start)
            most.append(run.start.earliest + 1 + SLACK - process.start)
            if run.end is not None and process.end is not None:
                least.append(run.end.earliest - SLACK - process.end)
                most.append(run.end.earliest + 1 - process.end)
    if not least:
        return None
    low, high = max(least), max(min(most), max(least))
    return Fit(witness=witness, shift=(low + high) / 2, error=(high - low) / 2)
