"""The metrics of an operator at work, held against what the API server has counted."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import localcluster
from tests.audit import Audit
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet
from tests.polling import poll
from tests.running import Operator

NAMES = [f"d{number}" for number in range(5)]

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(port: int) -> Series:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(series: Series, name: str, **labels: str) -> float:
    """The sum over everything of that name that has these labels."""
    return sum(value for (each, has), value in series.items() if each == name and has >= labels.items())


def test_requests_are_patched_unchanged_skipped_and_failed(
    cluster: localcluster.Cluster, alone: Fleet, operator_kubeconfig: Path
) -> None:
    fleet = alone
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    audit = Audit.begin(cluster)
    with Operator(operator_kubeconfig, f"--metrics-bind-address=127.0.0.1:{port}"):
        fleet.apply(*(a_deployment(name, fleet.namespace) for name in NAMES))
        for tag in ("1", "2"):
            sidecars = [a_sidecar(container={"image": f"example.test/proxy:{tag}"})]
            fleet.apply(a_policy("web", fleet.namespace, rollout={"minReadySeconds": 0}, sidecars=sidecars))
            fleet.wait("RolloutComplete", timeout=120)

        def equal() -> bool:
            series = scraped(port)
            patched = total(series, "sidecarpolicy_workload_writes_total", result="patched")
            assert total(series, "sidecarpolicy_workload_write_requests_total") == total(
                series, "sidecarpolicy_workload_writes_total"
            )
            requests = total(
                series, "sidecarpolicy_api_requests_total", verb="patch", resource="deployments", code="200"
            )
            counted = [each for each in audit.writes() if each.resource == "deployments"]
            assert patched == requests == len(counted) == 2 * len(NAMES)
            return True

        poll(equal)
        series = scraped(port)
        here = {"policy_namespace": fleet.namespace, "policy": "web"}
        assert total(series, "sidecarpolicy_targets", state="updated", **here) == len(NAMES)
        assert total(series, "sidecarpolicy_targets", **here) == len(NAMES)
        assert total(series, "sidecarpolicy_leader") == 1
        assert total(series, "sidecarpolicy_reconcile_total", controller="policy", result="success") > 0
        assert total(series, "sidecarpolicy_loop_lag_seconds_count") > 0
        assert total(series, "process_resident_memory_bytes") > 10_000_000
        fleet.delete_policy()
