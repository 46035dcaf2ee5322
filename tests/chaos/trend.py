"""Whether a series of figures rises, and how it looks as a plot. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WARM_UP = 0.2
"""The share of a run that is left out: caches fill."""
NOISE = 1.05
"""What is up to this much higher at the end than at the beginning has not risen."""

Series = Sequence[tuple[float, float]]
"""Pairs of seconds since the beginning and a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Medians of the first and the last third after the warm-up; *allowed*: how much higher the last one may be."""

    first: float
    last: float
    allowed: float

    @property
    def rises(self) -> bool:
        """Whether the end is higher than noise explains."""
        return self.last > self.first * NOISE + self.allowed

    def __str__(self) -> str:
        return f"{self.first:.4g} → {self.last:.4g}"


def trend(series: Series, *, allowed: float = 0.0) -> Trend:
    """Return how *series* goes; *allowed*: by how much it may be higher at the end, besides noise."""
    settled = [value for _, value in series[int(len(series) * WARM_UP) :]]
    third = max(1, len(settled) // 3)
    return Trend(first=statistics.median(settled[:third]), last=statistics.median(settled[-third:]), allowed=allowed)


_WIDTH, _HEIGHT, _LEFT, _GAP = 640, 90, 170, 34
_STYLE = """\
  svg { --back: #ffffff; --edge: #d1d9e0; --ink: #1f2328; --soft: #59636e; --line: #0969da; }
  @media (prefers-color-scheme: dark) {
    svg { --back: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --soft: #9198a1; --line: #4493f8; }
  }
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink); }
  .back { fill: var(--back); stroke: var(--edge); }
  .soft { fill: var(--soft); }
  .line { fill: none; stroke: var(--line); stroke-width: 1.5; }
"""


def plot(figures: Mapping[str, Series], *, title: str) -> str:
    """Return an SVG with one panel per series, each from 0 to its highest figure, over the same time."""
    end = max((moment for series in figures.values() for moment, _ in series), default=1.0)
    height = 40 + len(figures) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}</style>",
        f'<rect class="back" x="0.5" y="0.5" width="{_LEFT + _WIDTH + 19}" height="{height - 1}" rx="6"/>',
    ]
    for number, (name, series) in enumerate(figures.items()):
        top = 24 + number * (_HEIGHT + _GAP)
        highest = max((value for _, value in series), default=0.0) or 1.0
        points = " ".join(
            f"{_LEFT + moment / end * _WIDTH:.1f},{top + _HEIGHT * (1 - value / highest):.1f}"
            for moment, value in series
        )
        parts += [
            f'<text x="12" y="{top + 14}">{escape(name)}</text>',
            f'<text class="soft" x="12" y="{top + 32}">at most {highest:.4g}</text>',
            f'<rect class="back" x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}"/>',
            f'<polyline class="line" points="{points}"/>',
        ]
    parts += [f'<text class="soft" x="{_LEFT}" y="{height - 12}">{end / 60:.0f} minutes</text>', "</svg>", ""]
    return "\n".join(parts)
