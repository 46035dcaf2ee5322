"""What is measured, in the order of the page: each line with its goal and where its figure comes from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.scale.results import Figure, Result

Found = Mapping[tuple[str, int], Result]


EARLIER = "496bf3e, 2026-11-25"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table. *goal* is the bound, None where there is none; *at_least*: whether it is the lower one."""

    what: str
    measurement: str
    size: int
    figure: str
    goal: float | None
    at_least: bool = False
    unit: str = ""
    earlier: str = ""
    """What an earlier form of these benchmarks found on commit EARLIER, where `before` has no figure."""
    beyond: Callable[[Found], Figure | None] | None = None
    """Where the figure is not simply one of the result's."""

    def of(self, found: Found) -> Figure | None:
        """The figure in these results, None where it was not measured."""
        if self.beyond is not None:
            return self.beyond(found)
        result = found.get((self.measurement, self.size))
        return result.figures.get(self.figure) if result else None

    def is_met(self, figure: Figure) -> bool:
        """Whether the median reaches the goal."""
        if self.goal is None:
            return True
        return figure.median >= self.goal if self.at_least else figure.median <= self.goal

    def share(self, figure: Figure) -> float:
        """The median in terms of the goal: 1 is reached exactly, 2 is twice as bad as it may be."""
        value, goal = max(figure.median, 1e-3), max(self.goal or 0, 1e-3)
        return goal / value if self.at_least else value / goal


SIZES = (300, 2_000, 10_000)
BARE_MS = 0.45
"""CPU of the bare client per patch on the machine that the goals in milliseconds were set on."""


def _flatness(found: Found) -> Figure | None:
    """CPU per Deployment at the costliest size over the cheapest."""
    measured = [found[key].figures["cpu_ratio"].median for size in SIZES if (key := ("fanout", size)) in found]
    if len(measured) < len(SIZES):
        return None
    worst = max(measured) / min(measured)
    return Figure(median=worst, low=worst, high=worst, values=[worst])


def _highest(found: Found) -> Figure | None:
    """The most memory there ever was, over everything that was done at this size."""
    results = [result for (_, size), result in found.items() if size == SIZES[-1]]
    names = ("peak_mib", "relist_peak_mib")
    values = [each.figures[name].high for each in results for name in names if name in each.figures]
    if not values or ("coldstart", SIZES[-1]) not in found:
        return None
    return Figure(median=max(values), low=min(values), high=max(values), values=values)


def _missing_patches(size: int) -> Callable[[Found], Figure | None]:
    def count(found: Found) -> Figure | None:
        result = found.get(("fanout", size))
        if result is None:
            return None
        off = [
            abs(patches - size) + failed
            for patches, failed in zip(
                result.figures["patches"].values, result.figures["failed_patches"].values, strict=True
            )
        ]
        return Figure(median=max(off), low=min(off), high=max(off), values=off)

    return count


_EARLIER_RATE = {10_000: "0.33–0.38"}
_EARLIER_CPU = {10_000: "5.3–6.3 ms"}


def _fanout(size: int) -> tuple[Line, ...]:
    n = f"{size:,}"
    return (
        Line(
            what=f"one edit to {n}, all at once: rate against the bare client",
            figure="rate_ratio",
            earlier=_EARLIER_RATE.get(size, ""),
            goal=0.85,
            at_least=True,
            measurement="fanout",
            size=size,
        ),
        Line(
            what=f"{n}: the same in CPU of client and API server together",
            figure="work_ratio",
            goal=None,
            measurement="fanout",
            size=size,
        ),
        Line(
            what=f"{n}: patches too many, too few or failed",
            figure="",
            goal=0,
            beyond=_missing_patches(size),
            measurement="fanout",
            size=size,
        ),
        Line(
            what=f"{n}: operator CPU for each Deployment, in terms of the bare client's",
            figure="cpu_ratio",
            goal=round(1.2 / BARE_MS, 2),
            unit="×",
            measurement="fanout",
            size=size,
        ),
        Line(
            what=f"{n}: the same in milliseconds",
            figure="cpu_ms_each",
            goal=1.2,
            earlier=_EARLIER_CPU.get(size, ""),
            unit=" ms",
            measurement="fanout",
            size=size,
        ),
    )


def _admission(size: int) -> tuple[Line, ...]:
    def line(what: str, figure: str, unit: str, goal: float | None = None) -> Line:
        return Line(what=what, figure=figure, unit=unit, goal=goal, measurement="admission", size=size)

    beside = "99th percentile against a handler that allows everything"
    busy = f"the same in a fan-out to {size:,}"
    return (
        line(f"admission of a new Deployment, 200 policies, 50 a second: {beside}", "p99_ratio", "×"),
        line("the same in milliseconds", "p99_ms", " ms"),
        line(f"{busy}: {beside}", "busy_p99_ratio", "×"),
        line(f"{busy}, in milliseconds", "busy_p99_ms", " ms"),
        line("the slowest of all; the API server waits for 3 s", "highest_ms", " ms", 3_000),
    )


LINES: tuple[Line, ...] = (
    *(line for size in SIZES for line in _fanout(size)),
    Line(
        what="CPU for each at the costliest of the three sizes, in terms of the cheapest",
        measurement="fanout",
        size=0,
        figure="",
        goal=1.2,
        unit="×",
        beyond=_flatness,
    ),
    Line(
        what="progressive, 10 % of 600: rate against the bare driver",
        measurement="progressive",
        size=600,
        figure="rate_ratio",
        goal=0.9,
        at_least=True,
    ),
    Line(
        what="progressive: operator CPU for each Deployment",
        earlier="35–41 ms",
        measurement="progressive",
        size=600,
        figure="cpu_ms_each",
        goal=3,
        unit=" ms",
    ),
    Line(
        what="the same beside 200 policies that select nothing: time in terms of it without them",
        earlier="3.2× (100 policies)",
        measurement="progressive",
        size=600,
        figure="beside_ratio",
        goal=1.05,
        unit="×",
    ),
    Line(
        what="removal from 600: rate against the bare driver",
        measurement="progressive",
        size=600,
        figure="removal_rate_ratio",
        goal=0.9,
        at_least=True,
    ),
    Line(
        what="removal: operator CPU for each Deployment",
        measurement="progressive",
        size=600,
        figure="removal_cpu_ms_each",
        goal=3,
        unit=" ms",
    ),
    Line(
        what="start at 10,000 with four ReplicaSets each and 200 policies, to the first write: time against bare LISTs",
        earlier="10× (no ReplicaSets)",
        measurement="coldstart",
        size=10_000,
        figure="ratio",
        goal=2,
        unit="×",
    ),
    Line(
        what="memory at that size, settled",
        earlier="610–760 MiB (no ReplicaSets)",
        measurement="coldstart",
        size=10_000,
        figure="settled_mib",
        goal=200,
        unit=" MiB",
    ),
    Line(
        what="memory at that size, the highest ever",
        measurement="coldstart",
        size=10_000,
        figure="",
        goal=300,
        unit=" MiB",
        beyond=_highest,
    ),
    Line(
        what="idle at that size: of a core",
        earlier="0.2 % (600 Deployments)",
        measurement="coldstart",
        size=10_000,
        figure="idle_cpu_percent",
        goal=1,
        unit=" %",
    ),
    Line(
        what="idle: writes in a minute, the Lease apart",
        measurement="coldstart",
        size=10_000,
        figure="idle_writes",
        goal=0,
    ),
    Line(
        what="leader killed, to the next write: beyond the Lease",
        measurement="failover",
        size=10_000,
        figure="over_lease_seconds",
        goal=2,
        unit=" s",
    ),
    Line(
        what="a new Deployment, created to patched, 99th percentile: during a fan-out against a quiet time",
        measurement="latency",
        size=2_000,
        figure="p99_ratio",
        goal=7,
        unit="×",
    ),
    *_admission(10_000),
    Line(
        what="one edit to 2,000: times faster than a naive Kopf operator",
        measurement="naive",
        size=2_000,
        figure="times_faster",
        goal=3,
        at_least=True,
        unit="×",
    ),
)
