"""What injecting costs, as a ratio to a yardstick of the same run: machines differ, and differ from hour to hour."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson

from sidecarpolicy.core.arithmetic.change import Change
from sidecarpolicy.core.arithmetic.findings import findings
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.injection import compose, inject
from sidecarpolicy.core.record import Record
from sidecarpolicy.core.rendering import offline
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar

MOST = 8.0
ROUNDS, REPEATS = 15, 300

PROBE = {"httpGet": {"path": "/ready", "port": 15000}, "periodSeconds": 5, "timeoutSeconds": 1}
RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
POLICY = a_policy(
    sidecars=[
        a_sidecar("proxy", role="Proxy", container={"readinessProbe": PROBE, "resources": RESOURCES}),
        a_sidecar("logger", role="Logger", container={"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}),
        a_sidecar("monitor", role="Monitor", container={"ports": [{"containerPort": 9102}]}),
    ],
    volumes=[{"name": "logs", "emptyDir": {}}],
    application={
        "env": [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}],
        "volumeMounts": [{"name": "logs", "mountPath": "/var/log/app"}],
    },
)


def an_ordinary_pod() -> Manifest:
    """A template as the API server stores it: one init container, one container with probes, env and mounts."""
    container = {
        "name": "app",
        "image": "registry.example.test/team/app:1.2.3",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": f"SETTING_{number}", "value": f"value-{number}"} for number in range(10)],
        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
        "livenessProbe": PROBE,
        "readinessProbe": PROBE,
        "resources": RESOURCES,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": True}],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    pod = {
        "containers": [container],
        "initContainers": [
            {"name": "migrate", "image": "registry.example.test/team/migrate:1.2.3", "command": ["/migrate"]}
        ],
        "volumes": [{"name": "config", "configMap": {"name": "app", "defaultMode": 420}}],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {"runAsNonRoot": True},
        "serviceAccountName": "app",
        "terminationGracePeriodSeconds": 30,
    }
    template: Manifest = a_deployment(pod=pod)["spec"]["template"]
    return template


def fastest(work: Callable[[], object]) -> float:
    """Seconds for one call: the fastest of several rounds, which says least about the neighbours."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(REPEATS):
            work()
        best = min(best, (time.perf_counter() - start) / REPEATS)
    return best


def test_injecting_three_sidecars_costs_a_few_json_round_trips() -> None:
    template = an_ordinary_pod()
    revision = offline(decode_policy(POLICY))
    injected, record = inject(template, [revision], Record())
    yardstick = fastest(lambda: orjson.loads(orjson.dumps(injected["spec"])))
    first = fastest(lambda: inject(template, [revision], Record()))
    again = fastest(lambda: compose(injected, record, {revision.policy: revision}, known=lambda policy, name: revision))
    change = Change(now=template["spec"], after=injected["spec"], ours=frozenset({"proxy", "logger", "monitor"}))
    counted = fastest(lambda: findings(change))
    print(
        f"\norjson round trip of the injected Pod spec ({len(orjson.dumps(injected['spec']))} bytes): "
        f"{yardstick * 1e6:.1f} µs\n"
        f"inject three sidecars: {first * 1e6:.1f} µs = {first / yardstick:.1f} × (at most {MOST:g} ×)\n"
        f"look again and change nothing: {again * 1e6:.1f} µs = {again / yardstick:.1f} ×\n"
        f"count what they cost, once for each revision: {counted * 1e6:.1f} µs = {counted / yardstick:.1f} ×"
    )
    assert first / yardstick <= MOST
