"""Two plots as SVG, with the colours of the reader's light or dark page. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from tests.bench.scale.goals import LINES, SIZES, Found, Line

_STYLE = """\
  svg { --back: #ffffff; --edge: #d1d9e0; --ink: #1f2328; --soft: #59636e; --was: #afb8c1; --ours: #0969da;
    --goal: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    svg { --back: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --soft: #9198a1; --was: #656c76; --ours: #4493f8;
      --goal: #3fb950; }
  }
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink); }
  .back { fill: var(--back); stroke: var(--edge); }
  .head { font-size: 15px; font-weight: 600; }
  .panel { font-weight: 600; }
  .soft { fill: var(--soft); }
  .lane { text-anchor: end; }
  .middle { text-anchor: middle; }
  .base { stroke: var(--edge); }
  .goal { stroke: var(--goal); stroke-width: 1.6; stroke-dasharray: 5 3; }
  .was { fill: var(--was); }
  .now { fill: var(--ours); }
  .way { stroke: var(--was); stroke-width: 2; }
  .range { stroke: var(--ink); stroke-width: 1.2; }"""


def _page(width: int, height: int, title: str, facts: str, lines: Iterable[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(facts)}</desc>',
            f"<style>\n{_STYLE}\n</style>",
            f'<rect class="back" x="4" y="4" width="{width - 8}" height="{height - 8}" rx="10"/>',
            f'<text class="head" x="24" y="34">{escape(title)}</text>',
            *lines,
            "</svg>",
            "",
        ]
    )


_LANES, _SCALE, _ROW, _TOP = 520, 380, 22, 84
_LEAST, _MOST = 0.1, 100.0


def goals(before: Found, now: Found) -> str:
    """Every line of the table on one scale: its value in terms of its goal, before and now."""
    shown = [line for line in LINES if line.goal and (line.of(before) or line.of(now))]
    width, height = _LANES + _SCALE + 40, _TOP + len(shown) * _ROW + 46
    bottom = _TOP + len(shown) * _ROW
    lines = [
        '<circle class="was" cx="30" cy="55" r="5"/><text class="soft" x="40" y="59">before</text>',
        '<circle class="now" cx="100" cy="55" r="5"/><text class="soft" x="110" y="59">now</text>',
        f'<line class="goal" x1="{_at(1):.1f}" y1="{_TOP - 8}" x2="{_at(1):.1f}" y2="{bottom}"/>',
        f'<text class="soft middle" x="{_at(1):.1f}" y="{_TOP - 14}">the goal</text>',
    ]
    for tick in (0.1, 1, 10, 100):
        if tick != 1:
            lines.append(f'<line class="base" x1="{_at(tick):.1f}" y1="{_TOP}" x2="{_at(tick):.1f}" y2="{bottom}"/>')
        lines.append(f'<text class="soft middle" x="{_at(tick):.1f}" y="{bottom + 18}">{tick:g} ×</text>')
    lines.append(
        f'<text class="soft" x="{_LANES}" y="{bottom + 34}">better ←  times as bad as the goal allows  → worse</text>'
    )
    facts = []
    for row, line in enumerate(shown):
        lines += _dumbbell(line, _TOP + row * _ROW + _ROW // 2, before, now)
        facts.append(f"{line.what}: {_said(line, before)} before, {_said(line, now)} now")
    title = "Each figure in terms of its goal"
    return _page(width, height, title, "; ".join(facts), lines)


def _at(share: float) -> float:
    within = min(max(share, _LEAST), _MOST)
    return _LANES + _SCALE * math.log(within / _LEAST) / math.log(_MOST / _LEAST)


def _said(line: Line, found: Found) -> str:
    figure = line.of(found)
    return f"{line.share(figure):.2g} times the goal" if figure else "not measured"


def _dumbbell(line: Line, y: int, before: Found, now: Found) -> list[str]:
    lines = [f'<text class="lane" x="{_LANES - 14}" y="{y + 4}">{escape(_short(line.what))}</text>']
    was, is_now = (_at(line.share(figure)) if (figure := line.of(each)) else None for each in (before, now))
    if was is not None and is_now is not None:
        lines.append(f'<line class="way" x1="{was:.1f}" y1="{y}" x2="{is_now:.1f}" y2="{y}"/>')
    if was is not None:
        lines.append(f'<circle class="was" cx="{was:.1f}" cy="{y}" r="5"/>')
    if is_now is not None:
        lines.append(f'<circle class="now" cx="{is_now:.1f}" cy="{y}" r="5"/>')
    return lines


def _short(text: str) -> str:
    return text if len(text) <= 78 else f"{text[:76].rstrip()} …"


_PANEL, _BAR, _GAP = 300, 16, 40
PANELS = (
    ("rate_ratio", "rate", "in terms of the bare client's; goal 0.85", 0.85),
    ("cpu_ratio", "operator CPU for each Deployment", "in terms of the bare client's; goal 2.67", 2.67),
    ("peak_mib", "highest memory", "MiB", 0.0),
)


def fanout(before: Found, now: Found) -> str:
    """One edit to all of 300, 2,000 and 10,000 Deployments: rate, CPU and memory by size."""
    width = 90 + len(PANELS) * (_PANEL + _GAP)
    height = 110 + len(SIZES) * 2 * (_BAR + 8) + 20
    lines = [
        '<circle class="was" cx="30" cy="57" r="5"/><text class="soft" x="40" y="61">before</text>',
        '<circle class="now" cx="100" cy="57" r="5"/><text class="soft" x="110" y="61">now</text>',
    ]
    facts: list[str] = []
    for row, size in enumerate(SIZES):
        y = 110 + row * 2 * (_BAR + 8) + _BAR
        lines.append(f'<text class="lane" x="76" y="{y + 8}">{size:,}</text>')
    for place, panel in enumerate(PANELS):
        lines += _panel(panel, 90 + place * (_PANEL + _GAP), before, now, facts)
    return _page(width, height, "One edit to every Deployment, all at once", "; ".join(facts), lines)


def _panel(panel: tuple[str, str, str, float], left: int, before: Found, now: Found, facts: list[str]) -> list[str]:
    name, title, unit, goal = panel
    bottom = 110 + len(SIZES) * 2 * (_BAR + 8)
    both = [(found, css) for found, css in ((before, "was"), (now, "now"))]
    measured = [f.figures[name].high for found, _ in both for size in SIZES if (f := found.get(("fanout", size)))]
    scale = (_PANEL - 60) / max([goal, *measured, 1e-9])
    lines = [
        f'<text class="panel" x="{left}" y="84">{escape(title)}</text>',
        f'<text class="soft" x="{left}" y="100">{escape(unit)}</text>',
        f'<line class="base" x1="{left}" y1="108" x2="{left}" y2="{bottom}"/>',
    ]
    if goal:
        x = left + goal * scale
        lines.append(f'<line class="goal" x1="{x:.1f}" y1="108" x2="{x:.1f}" y2="{bottom}"/>')
    for row, size in enumerate(SIZES):
        for lane, (found, css) in enumerate(both):
            result = found.get(("fanout", size))
            if result is None:
                continue
            figure = result.figures[name]
            y = 112 + (row * 2 + lane) * (_BAR + 4) + row * 8
            end, low, high = (left + each * scale for each in (figure.median, figure.low, figure.high))
            said = f"{figure.median:.0f}" if figure.median >= 100 else f"{figure.median:.2f}"
            lines += [
                f'<rect class="{css}" x="{left}" y="{y}" width="{end - left:.1f}" height="{_BAR}" rx="2"/>',
                f'<line class="range" x1="{low:.1f}" y1="{y + _BAR // 2}" x2="{high:.1f}" y2="{y + _BAR // 2}"/>',
                f'<text x="{max(end, high) + 6:.1f}" y="{y + 12}">{said}</text>',
            ]
            facts.append(f"{title} at {size:,}, {'now' if css == 'now' else 'before'}: {said}")
    return lines
