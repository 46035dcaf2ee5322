"""Before and after as one HTML page that needs nothing else: the order of start and stop, what it takes, the manifest.

Side by side where there is room, below each other where there is not, light or dark as the reader has it. What is drawn
is also said in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from itertools import zip_longest

from sidecarpolicy.cli.plan_svg import legend, plan_svg
from sidecarpolicy.cli.timeline_svg import DEFINITIONS
from sidecarpolicy.cli.timeline_svg import STYLE as OF_PICTURES
from sidecarpolicy.core.arithmetic.budgets import startup_budget, termination_budget
from sidecarpolicy.core.arithmetic.qos import qos_class
from sidecarpolicy.core.arithmetic.requests import costs, describe
from sidecarpolicy.core.timeline import planned_timeline
from sidecarpolicy.core.tree import Json

CONTEXT = 3
STYLE = """
  :root { color-scheme: light dark; --back: #ffffff; --ink: #1f2328; --soft: #59636e; --edge: #d1d9e0; --code: #f6f8fa;
          --gone: #ffebe9; --came: #dafbe1; --blank: #eff2f5; --mark: #0969da; }
  @media (prefers-color-scheme: dark) {
    :root { --back: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --edge: #3d444d; --code: #151b23;
            --gone: #3c1618; --came: #12261e; --blank: #1c2128; --mark: #4493f8; }
  }
  * { box-sizing: border-box; }
  body { margin: 24px auto; padding: 0 16px; max-width: 1280px; background: var(--back); color: var(--ink);
         font: 14px/1.5 -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: anywhere; }
  h1 { font-size: 22px; margin: 0 0 4px; }
  h2 { font-size: 18px; margin: 36px 0 8px; padding-top: 12px; border-top: 1px solid var(--edge); }
  h3 { font-size: 14px; margin: 20px 0 6px; }
  p, ul { margin: 4px 0; }
  .soft, th { color: var(--soft); }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
  .pair > * { min-width: 0; }
  svg.plan { display: block; width: 100%; height: auto; max-width: 620px; }
  .legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 8px 0; color: var(--soft); font-size: 12px; }
  .legend span { display: inline-flex; align-items: center; gap: 6px; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--edge); }
  th { font-weight: 600; }
  .code { border: 1px solid var(--edge); border-radius: 6px; overflow: hidden; background: var(--code); }
  .row { display: grid; grid-template-columns: 3.5em minmax(0, 1fr) 3.5em minmax(0, 1fr); }
  .row > * { font: 12px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
             white-space: pre-wrap; }
  .n { color: var(--soft); text-align: right; padding-right: 8px; user-select: none; }
  .was, .is { padding: 0 8px; }
  .changed .was { background: var(--gone); }
  .changed .is { background: var(--came); }
  .same code::before { content: "\\a0\\a0"; }
  .changed .was::before { content: "\\2212\\a0"; }
  .changed .is::before { content: "+\\a0"; }
  .changed .none { background: var(--blank); }
  .changed .none::before { content: ""; }
  .cut { padding: 2px 12px; color: var(--soft); background: var(--blank); font-size: 12px; }
  @media (max-width: 860px) {
    .pair, .row { grid-template-columns: minmax(0, 1fr); }
    .row { grid-template-columns: 3.5em minmax(0, 1fr); }
    .row.same .new, .row .new.none, .row .old.none { display: none; }
  }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A Deployment, or another workload, at one time: its Pod spec, and its manifest line by line.

    *number*: that of its first line, in its file.
    """

    title: str
    spec: Json
    lines: Sequence[str]
    number: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One workload before and after. *notes*: headings with sentences under them; those without any are left out."""

    title: str
    source: str
    before: Side
    after: Side
    notes: Sequence[tuple[str, Sequence[str]]] = ()


def page(title: str, comparisons: Sequence[Comparison], *, summary: str = "") -> str:
    """Return the page."""
    return "\n".join(_page(title, comparisons, summary)) + "\n"


def _page(title: str, comparisons: Sequence[Comparison], summary: str) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title>\n<style>{STYLE}{OF_PICTURES}</style>\n</head>\n<body>"
    yield f'<svg class="tl" width="0" height="0" style="position: absolute" aria-hidden="true">{DEFINITIONS}</svg>'
    yield f"<h1>{escape(title)}</h1>"
    if summary:
        yield f'<p class="soft">{escape(summary)}</p>'
    yield '<div class="legend">'
    yield from (f"<span>{shape}{escape(words)}</span>" for shape, words in legend())
    yield "<span>Lengths mean nothing: nobody has measured any.</span></div>"
    for number, each in enumerate(comparisons, start=1):
        yield from _comparison(each, f"plan-{number}", alone=len(comparisons) == 1)
    yield "</body>\n</html>"


def _comparison(each: Comparison, name: str, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield f"<h2>{escape(each.title)}</h2>"
        yield f'<p class="soft">{escape(each.source)}</p>'
    for heading, sentences in each.notes:
        if sentences:
            yield f"<h3>{escape(heading)}</h3>"
            yield "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"
    yield "<h3>Start and stop</h3>"
    yield '<div class="pair">'
    for side, which in ((each.before, "before"), (each.after, "after")):
        yield f'<div><p class="soft">{escape(side.title)}</p>'
        yield plan_svg(planned_timeline(side.spec, f"{each.title}: {side.title}"), f"{name}-{which}").rstrip()
        yield "</div>"
    yield "</div>"
    yield "<h3>What it takes</h3>"
    yield from _facts(each)
    yield "<h3>The manifest</h3>"
    yield from _code(each.before, each.after)


def _facts(each: Comparison) -> Iterator[str]:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in ("", each.before.title, each.after.title))
    yield f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>"
    before, after = _measures(each.before.spec), _measures(each.after.spec)
    for what, was in before.items():
        yield _line(what, was, after[what])
    change = describe(cost for cost in costs(each.before.spec, each.after.spec) if cost.changes)
    yield _line("requests and limits", "", change or "the same")
    yield "</tbody></table>"


def _measures(spec: Json) -> dict[str, str]:
    starting, stopping = startup_budget(spec), termination_budget(spec)
    besides = f", besides {' and '.join(starting.unknown)}" if starting.unknown else ""
    return {
        "the startup probes may take": f"{starting.seconds} s{besides}",
        "what is known of the hooks needs": f"{stopping.needed} s of {stopping.grace} s",
        "QoS class": str(qos_class(spec)),
    }


def _line(what: str, was: str, becomes: str) -> str:
    return f'<tr><th scope="row">{escape(what)}</th><td>{escape(was)}</td><td>{escape(becomes)}</td></tr>'


def _code(before: Side, after: Side) -> Iterator[str]:
    """Yield two texts beside each other; what is the same for long is left out."""
    groups = list(SequenceMatcher(None, before.lines, after.lines, autojunk=False).get_grouped_opcodes(CONTEXT))
    if not groups:
        yield '<p class="soft">nothing changes</p>'
        return
    yield '<div class="code">'
    shown = 0
    for group in groups:
        yield from _cut(group[0][1] - shown)
        for tag, first, last, new_first, new_last in group:
            was, becomes = before.lines[first:last], after.lines[new_first:new_last]
            for number, (one, other) in enumerate(zip_longest(was, becomes)):
                old = _cells("old", "was", before.number + first + number, one)
                new = _cells("new", "is", after.number + new_first + number, other)
                yield f'<div class="row {"same" if tag == "equal" else "changed"}">{old}{new}</div>'
        shown = group[-1][2]
    yield from _cut(len(before.lines) - shown)
    yield "</div>"


def _cut(lines: int) -> Iterator[str]:
    if lines > 0:
        yield f'<div class="cut">{lines} line{"s" if lines > 1 else ""} more, the same in both</div>'


def _cells(side: str, role: str, number: int, text: str | None) -> str:
    none = " none" if text is None else ""
    return (
        f'<span class="n {side}{none}">{"" if text is None else number}</span>'
        f'<code class="{role} {side}{none}">{escape(text or "")}</code>'
    )
