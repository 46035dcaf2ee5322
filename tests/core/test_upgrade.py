"""An upgrade of the operator rolls nothing out, and what an earlier version wrote is read as it was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import Record, parse, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.tree import Json
from tests.builders import a_deployment

# What the first version made of it. Never to be made anew: another name would roll every Deployment.
POLICY: Json = {
    "apiVersion": "sidecars.dev/v1alpha1",
    "kind": "SidecarPolicy",
    "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "selector": {"matchLabels": {"tier": "web"}},
        "priority": 3,
        "sidecars": [
            {
                "name": "proxy",
                "role": "Proxy",
                "container": {
                    "image": "example.test/proxy:1",
                    "ports": [{"containerPort": 15001, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 15001}},
                    "resources": {"limits": {"cpu": "1", "memory": "128Mi"}},
                    "env": [{"name": "LOG_LEVEL", "value": "info"}],
                },
            },
            {
                "name": "logger",
                "role": "Logger",
                "startAfter": ["proxy"],
                "container": {
                    "image": "example.test/logger:1",
                    "volumeMounts": [{"name": "logs", "mountPath": "/var/log"}],
                },
            },
        ],
        "volumes": [{"name": "logs", "emptyDir": {}}],
        "application": {
            "initContainers": "All",
            "env": [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}],
            "volumeMounts": [{"name": "logs", "mountPath": "/var/log"}],
        },
        "rollout": {"maxConcurrent": 2},
        "deletionPolicy": "Remove",
        "revisionHistoryLimit": 10,
    },
}
REVISION = "web-45123e103c"
RECORD = (
    '{"policies":{"SidecarPolicy/shop/web":{"env":{"app":["HTTP_PROXY"]},"initContainers":["logger","proxy"],'
    '"revision":"web-45123e103c","volumeMounts":{"app":["/var/log"]},"volumes":["logs"]}}}'
)

NOT_OF_A_REVISION: list[Json] = [
    {},
    {"optOut": "Allowed"},
    {"optOut": "Forbidden"},
    {"restartOn": {"configMaps": ["otel-config"], "secrets": ["otel-token"]}},
    {"podMetadata": {}},
    {"imagePullSecrets": []},
    {"podMetadata": {"labels": {}}},
]


def revision_of(**changes: Any) -> str:
    """The name of the revision of that policy with *changes* to its spec."""
    return offline(decode_policy({**POLICY, "spec": POLICY["spec"] | changes})).name


@pytest.mark.parametrize("changes", NOT_OF_A_REVISION, ids=str)
def test_the_revision_of_a_policy_is_what_it_was_in_earlier_versions(changes: Json) -> None:
    assert revision_of(**changes) == REVISION


def test_what_owners_may_override_is_no_part_of_it() -> None:
    allowed = {"overridable": ["resources", "env.LOG_LEVEL"], "overrideMax": {"cpu": 1}}
    sidecars = [sidecar | allowed for sidecar in POLICY["spec"]["sidecars"]]
    assert revision_of(sidecars=sidecars) == REVISION


def test_what_is_injected_makes_another_revision() -> None:
    assert revision_of(podMetadata={"labels": {"mesh": "on"}}) != REVISION
    assert revision_of(imagePullSecrets=[{"name": "registry"}]) != REVISION


def test_a_record_of_an_earlier_version_is_read_and_written_back_as_it_was() -> None:
    template = a_deployment()["spec"]["template"]
    injected, record = inject(template, [offline(decode_policy(POLICY))], Record())
    assert text_of(record) == RECORD
    assert parse(RECORD) == record
    assert inject(injected, [offline(decode_policy(POLICY))], parse(RECORD)) == (injected, record)
    assert names.RECORD not in str(injected)


def test_keys_that_a_later_version_adds_to_the_record_are_passed_over() -> None:
    later = json.loads(RECORD)
    later["added"] = later["policies"]["SidecarPolicy/shop/web"]["added"] = {"by": ["later"]}
    assert parse(json.dumps(later)) == parse(RECORD)
