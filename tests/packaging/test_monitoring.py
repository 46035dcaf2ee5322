"""The alerts and the dashboard of the chart ask for metrics that the operator has, by labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from sidecarpolicy.engine.metrics import Metrics
from tests.packaging.rendering import CHART

# What Prometheus adds when it scrapes, and what belongs to a histogram.
OF_PROMETHEUS = {"job", "instance", "pod", "container", "endpoint", "namespace", "le"}
# The API server's own metrics that an alert asks for, with the labels that it asks by.
OF_API_SERVER = {
    "apiserver_admission_webhook_fail_open_count": {"name", "type"},
    "apiserver_admission_webhook_rejection_count": {"name", "type", "operation", "error_type", "rejection_code"},
}
_METRIC = re.compile(r"\b((?:sidecarpolicy|process|apiserver)_[a-z_]+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def rules() -> list[Any]:
    """Every alert."""
    groups = yaml.safe_load((CHART / "files/rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[Any]:
    """Every panel of the dashboard."""
    found: list[Any] = json.loads((CHART / "files/dashboard.json").read_text())["panels"]
    return found


def variables() -> list[str]:
    """The queries of the dashboard's variables."""
    found = json.loads((CHART / "files/dashboard.json").read_text())["templating"]["list"]
    return [each["query"]["query"] for each in found if each["type"] == "query"]


def expressions() -> Iterator[tuple[str, str]]:
    """Every query, with the name of what asks it."""
    yield from ((rule["alert"], rule["expr"]) for rule in rules())
    yield from ((panel["title"], target["expr"]) for panel in panels() for target in panel["targets"])


@pytest.fixture(scope="module")
def labels() -> Mapping[str, set[str]]:
    """The labels of each metric, by the names under which it is scraped; from the table in docs/metrics.md.

    Another test holds that table against the registry.
    """
    text = (CHART.parents[1] / "docs/metrics.md").read_text()
    found = {"process_resident_memory_bytes": set[str](), "process_cpu_seconds_total": set[str](), **OF_API_SERVER}
    for name, kind, named in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE):
        has = set(re.findall(r"`(\w+)`", named))
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + suffix] = has
    return found


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_a_query_asks_for_what_the_operator_has(name: str, expression: str, labels: Mapping[str, set[str]]) -> None:
    asked = _METRIC.findall(expression)
    assert asked, expression
    known = set.union(*(labels[metric] for metric, _ in asked)) | OF_PROMETHEUS
    for metric, matchers in asked:
        assert set(re.findall(r"(\w+)\s*[=!]~?", matchers)) <= labels[metric] | OF_PROMETHEUS, metric
    for grouped in _GROUPED.findall(expression):
        assert {each.strip() for each in grouped.split(",")} <= known, grouped


def test_every_alert_says_what_it_is_how_grave_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(".")


def test_panels_have_a_description_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["description"]
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_results_that_are_asked_for_exist() -> None:
    scraped = Metrics().text()
    asked = re.findall(r'result="\w+"', "\n".join(expression for _, expression in expressions()))
    assert asked
    assert [each for each in asked if each not in scraped] == []
