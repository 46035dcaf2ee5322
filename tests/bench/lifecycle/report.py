"""The figures as a table and as a plot, and their place in docs/lifecycle.md. Pure but for `write`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tests.bench.lifecycle.measuring import Crash, JobEnd, Result
from tests.bench.lifecycle.variants import VARIANTS, Variant

PAGE = Path("docs/lifecycle.md")
PLOT = Path("docs/lifecycle.svg")
BEGIN, END = "<!-- bench-lifecycle: begin -->", "<!-- bench-lifecycle: end -->"

Results = Mapping[str, Result]


def write(root: Path, results: Results, conditions: Sequence[str]) -> None:
    """Replace the figures of the page, and the plot."""
    page = root / PAGE
    text = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(results, conditions)}{END}{after}")
    (root / PLOT).write_text(plot(results))


def table(results: Results, conditions: Sequence[str]) -> str:
    """The figures in Markdown, with what they were measured under."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("failed calls at the start, all Pods", lambda each: f"{each.failed_at_start}"),
        ("failed calls at the stop, all Pods", lambda each: f"{each.failed_at_stop}"),
        ("Pods whose last call was answered", _last_calls),
        ("seconds from created to the first answer", lambda each: _spread([one.first_success for one in each.lives])),
        ("seconds from delete to gone", lambda each: _spread([one.gone for one in each.lives])),
        ("the proxy crashes: Pod not ready for", lambda each: f"{each.crash.unready:.1f} s"),
        ("the proxy crashes: restarts", _restarts),
        ("the proxy crashes: failed calls", lambda each: f"{each.crash.failed_calls}"),
        ("a Job's main container has ended", lambda each: _job(each.job)),
    ]
    head = ["", *(f"**{each.title}**" if each.native else each.title for each in VARIANTS)]
    lines = [head, ["---", *("---:" for _ in VARIANTS)]]
    lines += [[what, *(tell(results[each.name]) for each in VARIANTS)] for what, tell in rows]
    listed = "\n".join(f"- {each}" for each in conditions)
    drawn = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"\n{drawn}\n\nSeconds are medians, with the range. The conditions:\n\n{listed}\n\n"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def _last_calls(result: Result) -> str:
    return f"{sum(each.last_call_answered for each in result.lives)} of {len(result.lives)}"


def _restarts(result: Result) -> str:
    told: Crash = result.crash
    return f"proxy {told.proxy_restarts}, application {told.app_restarts}"


def _job(end: JobEnd) -> str:
    if end.completed:
        return f"succeeded after {end.seconds:.1f} s"
    return f"still running after {end.seconds:.0f} s"


_LABELS, _PANEL, _GAP, _TOP, _ROW = 190, 168, 24, 92, 38
_STYLE = """\
  svg { --back: #ffffff; --edge: #d1d9e0; --ink: #1f2328; --soft: #59636e; --bar: #afb8c1; --ours: #0969da; }
  @media (prefers-color-scheme: dark) {
    svg { --back: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --soft: #9198a1; --bar: #656c76; --ours: #4493f8; }
  }
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink); }
  .back { fill: var(--back); stroke: var(--edge); }
  .head { font-size: 15px; font-weight: 600; }
  .soft { fill: var(--soft); }
  .panel { font-weight: 600; }
  .lane { text-anchor: end; }
  .ours { font-weight: 600; }
  .base { stroke: var(--edge); }
  .bar { fill: var(--bar); }
  .bar.mine { fill: var(--ours); }
  .range { stroke: var(--ink); stroke-width: 1.4; }"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One figure for all variants."""

    title: str
    unit: str
    value: Callable[[Result], float]
    values: Callable[[Result], Sequence[float]] | None = None
    """Of the single Pods, where *value* is their median."""

    def most(self, results: Results) -> float:
        """The largest number to be drawn."""
        return max(max([self.value(each), *(self.values(each) if self.values else [])]) for each in results.values())


PANELS = (
    Panel(title="failed calls at start", unit="all Pods together", value=lambda each: each.failed_at_start),
    Panel(title="failed calls at stop", unit="all Pods together", value=lambda each: each.failed_at_stop),
    Panel(
        title="created → first answer",
        unit="seconds, median and range",
        value=lambda each: each.first_success,
        values=lambda each: [one.first_success for one in each.lives],
    ),
    Panel(
        title="delete → gone",
        unit="seconds, median and range",
        value=lambda each: each.gone,
        values=lambda each: [one.gone for one in each.lives],
    ),
)


def plot(results: Results) -> str:
    """The figures as an SVG with the colours of the reader's light or dark page."""
    width = _LABELS + len(PANELS) * (_PANEL + _GAP) + 34
    height = _TOP + len(VARIANTS) * _ROW + 24
    pods = len(next(iter(results.values())).lives)
    title = f"{pods} starts and {pods} stops of a Pod with a proxy, in five ways"
    facts = "; ".join(
        f"{each.title}: {results[each.name].failed_at_start} failed calls at start, "
        f"{results[each.name].failed_at_stop} at stop, first answer after {results[each.name].first_success:.1f} s, "
        f"gone after {results[each.name].gone:.1f} s"
        for each in VARIANTS
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(facts)}.</desc>',
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="back" x="4" y="4" width="{width - 8}" height="{height - 8}" rx="10"/>',
        f'<text class="head" x="24" y="34">{escape(title)}</text>',
    ]
    for row, variant in enumerate(VARIANTS):
        mine = " ours" if variant.native else ""
        lines.append(
            f'<text class="lane{mine}" x="{_LABELS - 14}" y="{_middle(row) + 4}">{escape(variant.title)}</text>'
        )
    for number, panel in enumerate(PANELS):
        lines += _drawn(panel, _LABELS + number * (_PANEL + _GAP), results)
    return "\n".join([*lines, "</svg>", ""])


def _middle(row: int) -> int:
    return _TOP + row * _ROW + _ROW // 2


def _drawn(panel: Panel, left: int, results: Results) -> list[str]:
    scale = (_PANEL - 40) / (panel.most(results) or 1)
    bottom = _TOP + len(VARIANTS) * _ROW
    lines = [
        f'<text class="panel" x="{left}" y="64">{escape(panel.title)}</text>',
        f'<text class="soft" x="{left}" y="80">{escape(panel.unit)}</text>',
        f'<line class="base" x1="{left}" y1="{_TOP}" x2="{left}" y2="{bottom}"/>',
    ]
    for row, variant in enumerate(VARIANTS):
        lines += _bar(panel, variant, left, _middle(row), scale, results[variant.name])
    return lines


def _bar(panel: Panel, variant: Variant, left: int, middle: int, scale: float, result: Result) -> list[str]:
    value, mine = panel.value(result), " mine" if variant.native else ""
    end = left + value * scale
    lines = []
    if value:
        lines.append(
            f'<rect class="bar{mine}" x="{left}" y="{middle - 9}" width="{end - left:.1f}" height="18" rx="2"/>'
        )
    if panel.values:
        low, high = (left + each * scale for each in (min(panel.values(result)), max(panel.values(result))))
        lines.append(f'<line class="range" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>')
        end = max(end, high)
    said = f"{value:.1f}" if panel.values else f"{value:g}"
    weight = ' class="ours"' if variant.native else ""
    return [*lines, f'<text{weight} x="{end + 6:.1f}" y="{middle + 4}">{said}</text>']
