"""The results as a table and two plots, and their place in docs/performance.md. Pure but for `write`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.scale import plots, results
from tests.bench.scale.goals import EARLIER, LINES, Found, Line
from tests.bench.scale.results import Figure, Result

PAGE = Path("docs/performance.md")
GOALS_PLOT = Path("docs/performance-goals.svg")
FANOUT_PLOT = Path("docs/performance-fanout.svg")
BEGIN, END = "<!-- bench-scale: begin -->", "<!-- bench-scale: end -->"
BEFORE, NOW = "before", "now"


def write(root: Path) -> None:
    """Replace the figures of the page, and the plots, by what is in the results' folder."""
    before, now = results.load(BEFORE), results.load(NOW)
    page = root / PAGE
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n{figures(before, now)}\n{END}{tail}")
    (root / GOALS_PLOT).write_text(plots.goals(before, now))
    (root / FANOUT_PLOT).write_text(plots.fanout(before, now))


def figures(before: Found, now: Found) -> str:
    """The table in Markdown, what misses its goal, and what all of it was measured under."""
    rows = [
        "| what | goal | before | now | |",
        "| --- | ---: | ---: | ---: | --- |",
        *(_row(line, before, now) for line in LINES),
    ]
    told = [
        *rows,
        "",
        f"Medians over the rounds, with the range. † measured with an earlier form of this, commit {EARLIER}.",
        "",
        *_missed(now or before),
        "",
    ]
    return "\n".join([*told, *_conditions("before", before), *_conditions("now", now)])


def _row(line: Line, before: Found, now: Found) -> str:
    figure = line.of(now)
    verdict = "" if figure is None or line.goal is None else "met" if line.is_met(figure) else "**missed**"
    return f"| {line.what} | {goal(line)} | {_cell(line, before, line.earlier)} | {_cell(line, now)} | {verdict} |"


def _cell(line: Line, found: Found, earlier: str = "") -> str:
    """The figure; where this size was not measured, that of the largest one that was, which is said."""
    if line.of(found) is None and line.beyond is None and line.measurement != "fanout":
        others = [size for measurement, size in found if measurement == line.measurement]
        if others:
            size = max(others)
            return f"{told(line, found[line.measurement, size].figures.get(line.figure))} (at {size:,})"
    return f"{earlier} †" if earlier and line.of(found) is None else told(line, line.of(found))


def goal(line: Line) -> str:
    """The goal in words."""
    if line.goal is None:
        return ""
    if not line.goal:
        return "none"
    return f"{'at least' if line.at_least else 'at most'} {line.goal:g}{line.unit}"


def told(line: Line, figure: Figure | None) -> str:
    """A figure: the median, and the range where there is one."""
    if figure is None:
        return "–"
    middle = f"{number(figure.median)}{line.unit}"
    if figure.low == figure.high:
        return middle
    return f"{middle} ({number(figure.low)}–{number(figure.high)})"


def number(value: float) -> str:
    """Three figures, no exponent."""
    return (
        f"{value:.0f}"
        if abs(value) >= 100 or value == int(value)
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )


def _missed(found: Found) -> list[str]:
    missed = [
        f"- {line.what}: {told(line, figure)}, {line.share(figure):.2g} × its goal"
        for line in LINES
        if (figure := line.of(found)) is not None and not line.is_met(figure)
    ]
    unknown = [f"- not measured: {line.what}" for line in LINES if line.of(found) is None]
    return ["What misses its goal:", "", *(missed or ["- nothing"]), *unknown]


def _conditions(label: str, found: Found) -> list[str]:
    if not found:
        return []
    lines = [f"The conditions of *{label}*:", ""]
    lines += [
        f"- {_place(each)}" for each in sorted({_place(each): each for each in found.values()}.values(), key=_place)
    ]
    lines += [
        f"- {name}, {size:,}: {_when(each)}; {'; '.join(each.notes)}" for (name, size), each in sorted(found.items())
    ]
    return [*lines, ""]


def _place(result: Result) -> str:
    at = result.conditions
    return (
        f"commit {at['commit']}, Kubernetes {at['kubernetes']}, Python {at['python']}, Linux {at['linux']}, "
        f"{at['cores']} cores ({at['cpu']}) shared with the API server, {at['memory_gib']} GiB"
    )


def _when(result: Result) -> str:
    load: Sequence[float] = result.conditions["load"]
    nice = result.conditions["nice"]
    return f"{result.conditions['date']}, load {load[0]:g}{f', nice {nice}' if nice else ''}"
