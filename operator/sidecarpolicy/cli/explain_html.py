"""What `explain` says of a Deployment as a page: as its owner wrote it, and with the sidecars, beside each other."""

from __future__ import annotations

from collections.abc import Iterator

from sidecarpolicy.cli.comparison_html import Comparison, Side, page
from sidecarpolicy.cli.explaining import TOLD, Explained, policy_lines
from sidecarpolicy.cli.manifests import yaml_of
from sidecarpolicy.core.tree import Json, at


def html_of(found: Explained, told: Json) -> str:
    """Return the page; *told* is what `explanation` returned of *found*."""
    title = f"Deployment {found.workload}"
    compared = Comparison(
        title=title,
        source=found.source,
        before=_side("as its owner wrote it", found.without),
        after=_side("with its sidecars", found.after),
        notes=(("Policies", list(_policies(told))), ("To know", list(_to_know(told)))),
    )
    return page(title, [compared], summary=found.source)


def _side(title: str, template: Json) -> Side:
    lines = yaml_of({"spec": {"template": template}}).splitlines()
    return Side(title=title, spec=at(template, "spec"), lines=lines)


def _policies(told: Json) -> Iterator[str]:
    for each in told["policies"]:
        first, *more = (line.strip() for line in policy_lines(each))
        yield "; ".join([first, *more])


def _to_know(told: Json) -> Iterator[str]:
    for each in told["notes"]:
        if each["did"] in TOLD:
            yield f"{each['did']} {each['text']}"
