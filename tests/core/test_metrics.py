"""The metrics of one process: what docs/metrics.md lists, no more and no less."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.engine.metrics import MOST_POLICIES, OTHERS, RESULTS, Metrics, PolicyCounts, counts_of_status

PAGE = Path(__file__).parents[2] / "docs/metrics.md"


class Engine:
    """What an engine tells."""

    def __init__(self, *policies: PolicyCounts) -> None:
        self.policies = policies
        self.leading = True

    def policy_counts(self) -> Iterable[PolicyCounts]:
        return self.policies

    def queue_depths(self) -> Mapping[str, int]:
        return {"policies": 2}


def a_policy(name: str = "web", **counts: object) -> PolicyCounts:
    return PolicyCounts(policy=PolicyId(kind=names.POLICY, namespace="shop", name=name), **counts)  # type: ignore[arg-type]


def used() -> Metrics:
    """Metrics of which every one has a value."""
    metrics = Metrics()
    metrics.workload_write_requested()
    metrics.workload_write("patched")
    metrics.reconcile("policy", "error", 0.1)
    metrics.queued("policies")
    metrics.taken("policies", 0.1)
    metrics.reviewed("/mutate/deployments", "patched", 0.001)
    metrics.request("patch", "deployments", "200", 0.01)
    counts: dict[str, Any] = {"targets": {"updated": 1}, "skipped": {"Paused": 1}}
    metrics.observe_engine(Engine(a_policy(**counts, rollout="halted", not_accepted="Invalid")))
    return metrics


def exposed(metrics: Metrics) -> dict[str, tuple[str, str, str]]:
    """Name → type, labels, help, as Prometheus sees them."""
    found = {}
    for family in metrics.registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, ", ".join(sorted(labels)), family.documentation)
    return found


def test_the_page_lists_every_metric() -> None:
    rows = re.findall(r"^\| `(sidecarpolicy_\w+)` \| (\w+) \| ([^|]*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {name: (kind, labels.replace("`", ""), text) for name, kind, labels, text in rows}
    assert listed == exposed(used())


def test_nothing_is_scraped_that_the_page_does_not_list() -> None:
    listed = re.findall(r"^\| `(sidecarpolicy_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert re.findall(r"^# TYPE (\w+) ", used().text(), re.MULTILINE) != []
    assert set(re.findall(r"^# TYPE (\w+) ", used().text(), re.MULTILINE)) == set(listed)


def test_every_metric_has_our_prefix_and_says_what_it_is() -> None:
    for name, (_, _, text) in exposed(used()).items():
        assert name.startswith("sidecarpolicy_")
        assert text


def test_nothing_is_labelled_by_deployment() -> None:
    labels = {label for _, labels, _ in exposed(used()).values() for label in labels.split(", ")}
    assert labels - {""} == {
        *("code", "controller", "kind", "name", "policy", "policy_namespace", "reason", "resource", "result"),
        *("state", "verb", "webhook"),
    }


def test_many_policies_are_no_explosion() -> None:
    metrics = Metrics()
    metrics.observe_engine(Engine(*(a_policy(f"p{n:04}", targets={"updated": 2}) for n in range(MOST_POLICIES + 7))))
    series = [line for line in metrics.text().splitlines() if line.startswith("sidecarpolicy_targets{")]
    assert len(series) == MOST_POLICIES + 1
    (others,) = [line for line in series if OTHERS in line]
    assert others.endswith(" 14.0")


def test_many_policies_that_are_not_accepted_are_none_either() -> None:
    metrics = Metrics()
    metrics.observe_engine(Engine(*(a_policy(f"p{n:04}", not_accepted="Invalid") for n in range(MOST_POLICIES + 7))))
    series = [line for line in metrics.text().splitlines() if line.startswith("sidecarpolicy_policy_not_accepted{")]
    assert len(series) == MOST_POLICIES + 1
    (others,) = [line for line in series if OTHERS in line]
    assert others.endswith(" 7.0")


def test_a_process_without_an_engine_is_no_replica_that_stands_by() -> None:
    of_an_engine = ("leader", "rollouts", "targets", "skipped", "policy_not_accepted", "workqueue_depth")
    names_of = [line.split("{")[0].split()[0] for line in Metrics().text().splitlines() if line[0] != "#"]
    assert names_of
    assert [name for name in names_of if name.removeprefix("sidecarpolicy_") in of_an_engine] == []


def test_a_result_that_nobody_knows_is_a_mistake() -> None:
    metrics = Metrics()
    for result in RESULTS:
        metrics.workload_write(result)
    with pytest.raises(ValueError, match="lost"):
        metrics.workload_write("lost")


def test_a_status_tells_the_counts() -> None:
    status = {
        "conditions": [{"type": "Accepted", "reason": "Accepted"}, {"type": "Ready", "reason": "RolledBack"}],
        "targets": {"matched": 5, "updated": 3, "failed": 1, "skipped": 1, "available": 4},
        "skipped": [{"reason": "Paused", "count": 1, "examples": [], "message": ""}],
    }
    policy = PolicyId(kind=names.POLICY, namespace="shop", name="web")
    counts = counts_of_status(policy, status)
    assert {state: count for state, count in counts.targets.items() if count} == {
        "skipped": 1,
        "updated": 3,
        "failed": 1,
    }
    assert (counts.skipped, counts.rollout) == ({"Paused": 1}, "halted")
    assert counts_of_status(policy, {}).rollout == ""


@pytest.mark.parametrize(("accepted", "told"), [("False", "Invalid"), ("Unknown", ""), ("True", "")])
def test_a_status_tells_why_its_policy_is_not_accepted(accepted: str, told: str) -> None:
    status = {"conditions": [{"type": "Accepted", "status": accepted, "reason": "Invalid"}]}
    policy = PolicyId(kind=names.POLICY, namespace="shop", name="web")
    assert counts_of_status(policy, status).not_accepted == told
