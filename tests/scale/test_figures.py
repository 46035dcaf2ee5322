"""What the benchmarks make of their samples, and what the page says of them."""

from __future__ import annotations

from tests.bench.scale import report
from tests.bench.scale.goals import LINES, Found
from tests.bench.scale.processes import told
from tests.bench.scale.results import Result, figures, percentile

CONDITIONS = {
    "commit": "0123456789ab",
    "date": "2026-11-25T12:00Z",
    "cpu": "a CPU",
    "cores": 2,
    "memory_gib": 24,
    "nice": 0,
    "load": [0.5, 0.5, 0.5],
    "kubernetes": "v1.37.2",
    "python": "3.11.7",
    "linux": "6.18.44",
}


def found(ratio: float, size: int = 10_000) -> Found:
    result = Result(
        measurement="coldstart", size=size, figures={"ratio": figures([ratio])}, notes=["once"], conditions=CONDITIONS
    )
    return {("coldstart", size): result}


def row(page: str) -> str:
    (line,) = [each for each in page.splitlines() if each.startswith("| start at 10,000")]
    return line


def test_a_percentile_is_the_nearest_rank() -> None:
    hundred = [float(each) for each in range(1, 101)]
    assert percentile(hundred, 0.99) == 99
    assert percentile(hundred, 0.5) == 50
    assert percentile([7.0], 0.99) == 7


def test_the_page_says_what_is_met_and_what_is_missed() -> None:
    assert row(report.figures({}, found(1.8))).endswith("| 1.80× | met |")
    assert row(report.figures({}, found(2.6))).endswith("| 2.60× | **missed** |")


def test_a_figure_of_another_size_is_said_to_be_one_and_meets_no_goal() -> None:
    assert row(report.figures({}, found(1.8, size=1_000))).endswith("| 1.80× (at 1,000) |  |")


def test_every_line_that_was_not_measured_is_listed() -> None:
    page = report.figures({}, found(1.8))
    assert page.count("- not measured: ") == len(LINES) - 1


def test_a_profile_ranks_functions_by_what_they_do_and_by_what_they_call() -> None:
    ranking = told("outer (a.py:1);inner (b.py:2) 3\nouter (a.py:9) 1\n")
    assert "75.0%  inner (b.py)" in ranking
    assert "100.0%  outer (a.py)" in ranking
