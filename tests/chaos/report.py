"""The outcomes as docs/results/chaos.json, and the table of docs/reliability.md made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.running import Outcome
from tests.chaos.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results/chaos.json"
PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- made by `make chaos` -->", "<!-- end -->"


def told(outcome: Outcome) -> str:
    """How it went, for a terminal."""
    lines = [f"  {key}: {value}" for key, value in {**outcome.done, **outcome.figures}.items()]
    problems = [f"  PROBLEM {each}" for each in outcome.problems] or ["  all as it must be"]
    return "\n".join([f"  {outcome.seconds:.0f} s", *lines, *problems])


def write(outcomes: Sequence[Outcome], conditions: Sequence[str]) -> None:
    """Put *outcomes* in place of those of the same scenarios, and make the page anew."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for each in outcomes:
        results[each.name] = {"conditions": list(conditions), **each.as_json()}
    ordered = {name: results[name] for name in SCENARIOS if name in results}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(ordered)}{END}{after}")


def table(results: dict[str, Any]) -> str:
    """The outcomes in Markdown, with what they were measured under."""
    head = (
        "what goes wrong",
        "Deployments",
        "edits",
        "patches",
        "refused",
        "most in flight",
        "leader changes",
        "Ready after",
        "as it must be",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 2) + "|---|"]
    lines += ["| " + " | ".join(_cells(each)) + " |" for each in results.values()]
    problems = [f"- {each['title']}: {problem}" for each in results.values() for problem in each["problems"]]
    found = ["", "Not as it must be:", "", *problems] if problems else []
    conditions = dict.fromkeys(" · ".join(each["conditions"]) for each in results.values())
    return "\n".join([*lines, *found, "", "The conditions:", "", *(f"- {each}" for each in conditions), ""])


def _cells(result: dict[str, Any]) -> Iterator[str]:
    figures = result["figures"]
    done = ", ".join(f"{value} {key}" for key, value in result["done"].items() if isinstance(value, int) and value > 1)
    yield f"{result['title']}" + (f" ({done})" if done else "")
    yield str(figures.get("Deployments", "–"))
    yield str(figures.get("edits of the policy", "–"))
    yield str(figures.get("successful patches of Deployments", "–"))
    yield str(sum(figures.get("refused patches, by code", {}).values()))
    yield str(figures.get("most in flight, and the budget", "–"))
    yield str(figures.get("changes of the leader", "–"))
    yield f"{figures.get('seconds from the last fault to Ready', '–')} s"
    yield "**no**" if result["problems"] else "yes"
