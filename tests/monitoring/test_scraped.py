"""A real Prometheus scrapes real operators, a webhook and their API server: what it then has, and what it answers.

Two replicas of the operator and the webhook run as processes; targets are labelled as a ServiceMonitor labels them. One
policy is rolled out, one has halted, one is Invalid, some Deployments are skipped, and the webhook reviews, but for a
time in which it is killed and the API server does not reach it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykube
import pytest

import localcluster
from tests import kube
from tests.audit import Audit
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.conftest import kubeconfig_of
from tests.fleet import Fleet, init_names
from tests.monitoring.prometheus import Prometheus
from tests.packaging.rendering import CHART, ROOT
from tests.packaging.test_monitoring import panels, rules, variables
from tests.polling import poll
from tests.running import Operator
from tests.webhook import SYSTEM, Webhook, free_port, grant, install, uninstall

pytestmark = pytest.mark.long

NAMES = [f"cart-{number}" for number in range(6)]
LEFT = [f"left-{number}" for number in range(3)]
QUICK = {"minReadySeconds": 0}
OPERATORS, WEBHOOKS, API_SERVER = "sidecarpolicy-metrics", "sidecarpolicy-webhook-metrics", "apiserver"
OURS = f'{{job=~"{OPERATORS}|{WEBHOOKS}"}}'
OF_TARGETS = {"__name__", "job", "instance", "namespace", "service", "pod", "container", "endpoint", "le"}
WORKERS = 16  # of an operator: how many writes may be on their way

# Whose condition holds here; of whom that depends on the machine; and what even without its comparison gives no result,
# and why that is right.
HOLD = {
    "SidecarPolicyRolloutHalted",
    "SidecarPolicyWorkloadsFailed",
    "SidecarPolicyNotAccepted",
    "SidecarPolicyWebhookDoesNotAnswer",
}
ON_A_BUSY_MACHINE = {"SidecarPolicyLoopIsLate", "SidecarPolicyReviewsAreSlow"}
EMPTY = {
    "SidecarPolicyPassesFail": "no pass has failed, and its counter has a series for each controller that has",
    "SidecarPolicyReviewsFail": "no review has failed, and there is a series for each result that there was",
    "SidecarPolicySkipsGrow": "nothing was stored an hour ago; promtool plays that hour",
}
# The metrics without a series here, of which only name and type are seen.
NEVER_COUNTED = {"sidecarpolicy_reconcile_errors_total"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """Who scraped, and how many Deployments the API server has patched for the operators meanwhile."""

    prometheus: Prometheus
    patches: int


def job(name: str, *ports: int) -> Mapping[str, Any]:
    """The replicas behind a Service, labelled as by a ServiceMonitor."""
    where = {"namespace": SYSTEM, "service": name, "container": name, "endpoint": "metrics"}
    found = [{"targets": [f"127.0.0.1:{port}"], "labels": {**where, "pod": f"{name}-{port}"}} for port in ports]
    return {"job_name": name, "static_configs": found}


@contextmanager
def api_server(cluster: localcluster.Cluster, folder: Path) -> Iterator[Mapping[str, Any]]:
    """The API server, with a token that may read its metrics and nothing else."""
    account = f"--serviceaccount={SYSTEM}:prometheus"
    cluster.kubectl("create", "serviceaccount", "prometheus", f"--namespace={SYSTEM}")
    cluster.kubectl("create", "clusterrole", "prometheus", "--verb=get", "--non-resource-url=/metrics")
    cluster.kubectl("create", "clusterrolebinding", "prometheus", "--clusterrole=prometheus", account)
    token = folder / "token"
    token.write_text(cluster.kubectl("create", "token", "prometheus", f"--namespace={SYSTEM}").stdout.strip())
    try:
        yield {
            "job_name": API_SERVER,
            "scheme": "https",
            "authorization": {"credentials_file": str(token)},
            "tls_config": {"ca_file": str(cluster.ca_file)} if cluster.ca_file else {},
            "static_configs": [{"targets": [cluster.server.removeprefix("https://")]}],
        }
    finally:
        cluster.kubectl("delete", "clusterrolebinding,clusterrole", "prometheus")
        cluster.kubectl("delete", "serviceaccount", "prometheus", f"--namespace={SYSTEM}")


@pytest.fixture(scope="module")
def scraped(
    cluster: localcluster.Cluster,
    api: pykube.HTTPClient,
    operator_kubeconfig: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scraped]:
    """Everything has happened, and has been scraped."""
    folder = tmp_path_factory.mktemp("monitoring")
    grant(cluster)
    webhook = Webhook(kubeconfig_of("sidecarpolicy-webhook", cluster, folder), free_port())
    ports = (free_port(), free_port())
    with ExitStack() as stack:
        fleet = Fleet(cluster, stack.enter_context(kube.a_namespace(api, "monitoring")))
        Operator.stop_all()
        audit = Audit.begin(cluster)
        replicas = [
            Operator(
                operator_kubeconfig,
                f"--identity=replica-{port}",
                f"--metrics-bind-address=127.0.0.1:{port}",
                f"--workers={WORKERS}",
                "--admission-certificates",
            )
            for port in ports
        ]
        stack.enter_context(replicas[0])
        replicas[1].spawn()
        stack.callback(replicas[1].stop)
        jobs = [
            job(OPERATORS, *ports),
            job(WEBHOOKS, webhook.metrics_port),
            stack.enter_context(api_server(cluster, folder)),
        ]
        prometheus = stack.enter_context(Prometheus(folder, CHART / "files/rules.yaml", jobs))
        poll(lambda: prometheus.query(f'sum(up{{job="{OPERATORS}"}}) == {len(ports)}'), timeout=120)
        stack.callback(fleet.kubectl, "delete", "sidecarpolicies", "--all", "--timeout=60s")
        policies(fleet)
        stack.callback(webhook.stop)
        stack.callback(uninstall, cluster)
        reviews(fleet, webhook, prometheus)
        poll(lambda: firing(prometheus) >= {"SidecarPolicyRolloutHalted"}, timeout=150)
        poll(lambda: in_flight(prometheus) == 0, timeout=60)
        patches = [each for each in audit.writes() if each.resource == "deployments"]
        yield Scraped(prometheus=prometheus, patches=len(patches))


def policies(fleet: Fleet) -> None:
    """One is rolled out, and skips some; one halts; one is Invalid."""
    these = {"matchExpressions": [{"key": "app", "operator": "In", "values": [*NAMES, *LEFT, "new", "unreviewed"]}]}
    fleet.apply(*(a_deployment(name, fleet.namespace) for name in (*NAMES, "broken")))
    fleet.apply(*(a_deployment(name, fleet.namespace, labels={"sidecars.dev/inject": "false"}) for name in LEFT))
    fleet.apply(
        a_policy("web", fleet.namespace, selector=these, rollout=QUICK),
        a_policy(
            "halts",
            fleet.namespace,
            selector={"matchLabels": {"app": "broken"}},
            rollout=QUICK | {"progressDeadlineSeconds": 3},
            sidecars=[a_sidecar(container={"resources": {"requests": {"cpu": "100000"}}})],  # no node can run it
        ),
        a_policy("invalid", fleet.namespace, sidecars=[a_sidecar(container={"ports": [{"containerPort": 99999}]})]),
    )
    fleet.wait("RolloutComplete", timeout=120)
    fleet.wait("RolledBack", "halts", timeout=120)
    fleet.wait("Invalid", "invalid")


def reviews(fleet: Fleet, webhook: Webhook, prometheus: Prometheus) -> None:
    """The webhook reviews some Deployments; then it is killed, the API server goes on without it, and it is started."""
    install(fleet.cluster, webhook.port, fleet.namespace)
    webhook.start()

    def is_reviewed() -> bool:
        fleet.apply(a_deployment("new", fleet.namespace))
        new = init_names(fleet.deployment("new"))
        fleet.kubectl("delete", "deployment", "new")
        return new == ["proxy"]

    poll(is_reviewed, timeout=90)
    is_patched = f'rate(sidecarpolicy_webhook_reviews_total{{job="{WEBHOOKS}", result="patched"}}[1m]) > 0'
    poll(lambda: is_reviewed() and prometheus.query(is_patched), timeout=60, every=1)
    webhook.stop()

    def is_not_reached() -> object:
        fleet.apply(a_deployment("unreviewed", fleet.namespace))
        fleet.kubectl("delete", "deployment", "unreviewed")
        return prometheus.query(expressions()["SidecarPolicyWebhookDoesNotAnswer"])

    poll(is_not_reached, timeout=90, every=1)
    webhook.start()


def expressions() -> Mapping[str, str]:
    """The condition of each alert, by its name."""
    return {rule["alert"]: rule["expr"] for rule in rules()}


def without_comparisons(expression: str) -> str:
    """What it compares: `a - b` of `a - b < 7 * 86400`."""
    return re.sub(r" [<>]=? [\d.]+( \* \d+)?", "", expression)


def firing(prometheus: Prometheus) -> set[str]:
    """The names of the alerts that fire."""
    return {each["labels"]["alertname"] for each in prometheus.ask("alerts")["alerts"] if each["state"] == "firing"}


def in_flight(prometheus: Prometheus) -> float:
    """How many writes were on their way at the last scrape."""
    requests = prometheus.query("sum(sidecarpolicy_workload_write_requests_total)")
    writes = prometheus.query("sum(sidecarpolicy_workload_writes_total)")
    return float(requests[0]["value"][1]) - float(writes[0]["value"][1])


def listed() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric that docs/metrics.md lists."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def labels_of(prometheus: Prometheus, name: str, kind: str) -> set[str] | None:
    """The labels that its series have besides those of their targets; None without a series."""
    names = [f"{name}{suffix}" for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))]
    found = [prometheus.ask("series", **{"match[]": f"{each}{OURS}"}) for each in names]
    return {label for some in found for each in some for label in each} - OF_TARGETS if all(found) else None


def test_every_listed_metric_is_scraped_with_its_type_and_labels_and_nothing_else_is(scraped: Scraped) -> None:
    told = scraped.prometheus.ask("targets/metadata", match_target=OURS)
    types = {each["metric"]: each["type"] for each in told if not each["metric"].startswith("process_")}
    assert types == {name: kind for name, (kind, _) in listed().items()}
    found = {name: labels_of(scraped.prometheus, name, kind) for name, kind in types.items()}
    assert {name for name, labels in found.items() if labels is None} == NEVER_COUNTED
    for name, labels in found.items():
        assert labels in (None, listed()[name][1]), name


def test_every_series_of_ours_belongs_to_a_listed_metric(scraped: Scraped) -> None:
    stored = scraped.prometheus.ask("label/__name__/values", **{"match[]": '{__name__=~"sidecarpolicy_.+"}'})
    of = {name: ("_bucket", "_sum", "_count") if kind == "histogram" else ("",) for name, (kind, _) in listed().items()}
    assert set(stored) - {name + suffix for name, suffixes in of.items() for suffix in suffixes} == set()
    assert scraped.prometheus.query(f"process_resident_memory_bytes{OURS} > 10e6")


@pytest.mark.parametrize("panel", panels(), ids=[panel["title"] for panel in panels()])
def test_every_query_of_the_dashboard_gives_a_result(scraped: Scraped, panel: Mapping[str, Any]) -> None:
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "5m").replace("$policy", ".*")
        assert "$" not in expression
        found = scraped.prometheus.query(expression)
        assert found, expression
        assert all(re.fullmatch(r"[-+.e\d]+", each["value"][1]) for each in found if panel["type"] == "stat"), found
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert all(named <= each["metric"].keys() for each in found), f"{target['legendFormat']}: {found}"
        assert panel["type"] != "stat" or len(found) == 1, f"a number, not {found}"


def test_the_choice_of_policies_offers_every_one(scraped: Scraped) -> None:
    ((function, series, label),) = re.findall(r"(\w+)\((\w+), (\w+)\)", " ".join(variables()))
    assert function == "label_values"
    assert scraped.prometheus.ask(f"label/{label}/values", **{"match[]": series}) == ["halts", "invalid", "web"]


def test_prometheus_evaluates_every_alert_without_an_error(scraped: Scraped) -> None:
    (group,) = scraped.prometheus.ask("rules")["groups"]
    assert {each["name"]: (each["health"], each.get("lastError", "")) for each in group["rules"]} == dict.fromkeys(
        expressions(), ("ok", "")
    )
    states = {each["name"]: each["state"] for each in group["rules"]}
    assert {name for name, state in states.items() if state != "inactive"} - ON_A_BUSY_MACHINE == HOLD
    assert states["SidecarPolicyRolloutHalted"] == "firing"


@pytest.mark.parametrize("alert", expressions())
def test_what_an_alert_looks_at_is_there(scraped: Scraped, alert: str) -> None:
    expression = expressions()[alert]
    if alert not in ON_A_BUSY_MACHINE:
        assert bool(scraped.prometheus.query(expression)) == (alert in HOLD)
    assert bool(scraped.prometheus.query(without_comparisons(expression))) == (alert not in EMPTY), EMPTY.get(alert)


def test_two_replicas_stand_by_or_lead_and_the_webhook_is_none_of_them(scraped: Scraped) -> None:
    found = {each["metric"]["job"] for each in scraped.prometheus.query("sidecarpolicy_leader")}
    assert found == {OPERATORS}
    (count,) = scraped.prometheus.query("count(sidecarpolicy_leader)")
    assert count["value"][1] == "2"


def test_at_every_scrape_requests_are_patched_unchanged_skipped_and_failed(scraped: Scraped) -> None:
    """But for those on their way; and what was patched is what the API server has patched."""
    requests = stored(scraped.prometheus.query("sidecarpolicy_workload_write_requests_total[1h]"))
    writes = stored(scraped.prometheus.query("sidecarpolicy_workload_writes_total[1h]"))
    assert requests.keys() == writes.keys()
    assert len(requests) > 60
    assert {requests[each] - writes[each] for each in requests} <= set(range(WORKERS + 1))
    assert in_flight(scraped.prometheus) == 0
    by_result = scraped.prometheus.query("sum by (result) (sidecarpolicy_workload_writes_total)")
    assert {each["metric"]["result"] for each in by_result} == {"patched", "unchanged", "skipped", "failed"}
    (patched,) = [float(each["value"][1]) for each in by_result if each["metric"]["result"] == "patched"]
    assert patched == scraped.patches > len(NAMES)


def stored(series: Iterable[Any]) -> dict[tuple[str, float], float]:
    """The sum of all samples of one replica and one scrape."""
    found: dict[tuple[str, float], float] = {}
    for each in series:
        for at, value in each["values"]:
            key = (each["metric"]["pod"], at)
            found[key] = found.get(key, 0.0) + float(value)
    return found
