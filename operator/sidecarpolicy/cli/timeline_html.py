"""A timeline as one HTML page: the picture, and the same in words for whoever does not see it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from sidecarpolicy.cli.timeline_svg import svg_of
from sidecarpolicy.core.timeline import Lane, State, Timeline
from sidecarpolicy.core.timeline.moments import length, offset

STYLE = """
  :root { color-scheme: light dark; --back: #ffffff; --ink: #1f2328; --soft: #59636e; --edge: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    :root { --back: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --edge: #3d444d; }
  }
  body { margin: 24px auto; padding: 0 16px; max-width: 960px; background: var(--back); color: var(--ink);
         font: 14px/1.5 -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
  svg { max-width: 100%; height: auto; }
  h2 { font-size: 16px; margin: 28px 0 8px; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--edge); }
  th { color: var(--soft); font-weight: 600; }
  td.when { white-space: nowrap; font-variant-numeric: tabular-nums; }
"""


def html_of(timeline: Timeline) -> str:
    """Return the page."""
    return "\n".join(_page(timeline)) + "\n"


def _page(timeline: Timeline) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Timeline of {escape(timeline.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>"
    yield svg_of(timeline).rstrip()
    if timeline.steps:
        yield "<h2>What the application waited for, in order</h2>"
        yield from _table(("from", "until", "took", "what"), _steps(timeline))
    yield "<h2>What happened to each container</h2>"
    yield from _table(("container", "from", "until", "it was", ""), _phases(timeline))
    yield "<h2>What else happened</h2>"
    yield from _table(("container", "when", "times", "what"), _marks(timeline))
    yield "</body>\n</html>"


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "<table>"
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    yield f"<thead><tr>{cells}</tr></thead>\n<tbody>"
    for row in rows:
        yield "<tr>" + "".join(_cell(head, value) for head, value in zip(heads, row, strict=True)) + "</tr>"
    yield "</tbody></table>"


def _cell(head: str, value: str) -> str:
    style = ' class="when"' if head in ("from", "until", "when", "took") else ""
    return f"<td{style}>{escape(value)}</td>"


def _steps(timeline: Timeline) -> Iterator[tuple[str, ...]]:
    for step in timeline.steps:
        until = offset(step.until, timeline.zero) if step.until else "still"
        took = length(step.since, step.until) if step.until else ""
        yield offset(step.since, timeline.zero), until, took, step.text


def _phases(timeline: Timeline) -> Iterator[tuple[str, ...]]:
    for lane in timeline.lanes:
        yield from _lane(lane, timeline.zero)


def _lane(lane: Lane, zero: float) -> Iterator[tuple[str, ...]]:
    for phase in lane.phases:
        until = offset(phase.until, zero) if phase.until else ""
        why = f"for {phase.why}" if phase.state is State.WAITING and phase.why else phase.why
        yield lane.name, offset(phase.since, zero), until, phase.state.value, why


def _marks(timeline: Timeline) -> Iterator[tuple[str, ...]]:
    marks = [(mark.when, lane.name, mark) for lane in timeline.lanes for mark in lane.marks]
    for when, name, mark in sorted(marks, key=lambda each: each[0]):
        times = f"{mark.count}, last {offset(mark.last, timeline.zero)}" if mark.count > 1 and mark.last else "1"
        yield name, offset(when, timeline.zero), times, mark.text
