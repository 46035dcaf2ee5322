"""The alerts, as promtool reads and plays them: each fires in its case, and not in one that is near."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.prometheus import promtool
from tests.packaging.rendering import CHART, objects, template

CASES = Path(__file__).with_name("alerts.yaml")

pytestmark = pytest.mark.long


def cases() -> Iterator[Any]:
    """Every look at an alert."""
    for group in yaml.safe_load(CASES.read_text())["tests"]:
        yield from group["alert_rule_test"]


def test_promtool_finds_no_fault_with_the_rules() -> None:
    assert "SUCCESS: 14 rules found" in promtool(
        "check", "rules", "--lint=all", "--lint-fatal", CHART / "files/rules.yaml"
    )


def test_promtool_finds_no_fault_with_the_rules_in_the_cluster(tmp_path: Path) -> None:
    (found,) = [
        each for each in objects(template("--set=metrics.rules.enabled=true")) if each["kind"] == "PrometheusRule"
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(found["spec"]))
    promtool("check", "rules", tmp_path / "rules.yaml")
    assert found["spec"] == yaml.safe_load((CHART / "files/rules.yaml").read_text())


def test_each_alert_fires_in_its_case_and_not_in_one_that_is_near() -> None:
    promtool("test", "rules", CASES)


@pytest.mark.parametrize("fires", [True, False])
def test_every_alert_has_a_case_of_either_kind(fires: bool) -> None:
    groups = yaml.safe_load((CHART / "files/rules.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert {each["alertname"] for each in cases() if bool(each["exp_alerts"]) == fires} == alerts
