"""ConfigMaps and Secrets that policies restart for, on a real API server, with the rights as they are installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pykube
import pytest

import localcluster
from sidecarpolicy import names
from tests.api.sampling import is_complete, sampled
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy
from tests.fleet import Fleet, delete_admission_rule, traces
from tests.polling import poll
from tests.running import Operator

SWITCHES = Path(__file__).parents[2] / "deploy/base/restart-on"
QUICK = {"minReadySeconds": 0}
MANY, BUDGET = 20, 2  # 10 %
RIGHT_SEEN = 90.0
"""Seconds: the test before has taken the right back, and what was refused is tried after 5 s, 10 s, 20 s, …"""


@pytest.fixture
def readable(fleet: Fleet) -> Iterator[Fleet]:
    """A namespace, and an operator that may read ConfigMaps; Secrets it may not."""
    switch = str(SWITCHES / "config-maps/access.yaml")
    fleet.kubectl("apply", "--filename", switch)
    yield fleet
    fleet.kubectl("delete", "--filename", switch)


def a_config_map(fleet: Fleet, content: str) -> Manifest:
    metadata = {"name": "otel-config", "namespace": fleet.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": content}}


def a_secret(fleet: Fleet, content: str) -> Manifest:
    metadata = {"name": "otel-token", "namespace": fleet.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": content}}


def the_policy(fleet: Fleet, **spec: Any) -> Manifest:
    given = {"rollout": QUICK, "restartOn": {"configMaps": ["otel-config"]}} | spec
    return a_policy("web", fleet.namespace, **given)


def carts(fleet: Fleet, count: int) -> list[Manifest]:
    return [a_deployment(f"cart-{number:02}", fleet.namespace) for number in range(count)]


def restarts(fleet: Fleet) -> list[str]:
    """What the Pod templates say of restarts for a configuration, where they do."""
    annotations = [each["metadata"].get("annotations", {}) for each in fleet.templates().values()]
    return [text for each in annotations if (text := each.get(names.CONFIG))]


def generations(fleet: Fleet) -> dict[str, int]:
    """How many Pod templates each Deployment has had."""
    found: dict[str, int] = dict.fromkeys(fleet.deployments(), 0)
    for each in fleet.get("replicasets", version="apps/v1")["items"]:
        found[each["metadata"]["ownerReferences"][0]["name"]] += 1
    return found


def noted(fleet: Fleet, kind: str = "ConfigMap") -> bool:
    """Whether every record has a hash of that kind of object."""
    records = [each["metadata"]["annotations"].get(names.RECORD, "") for each in fleet.deployments().values()]
    return all(f'"{kind}/' in each for each in records)


def warned(fleet: Fleet) -> dict[str, str]:
    return {each["reason"]: each["message"] for each in fleet.status().get("warnings", [])}


def running(fleet: Fleet, count: int) -> None:
    """Deployments that run the policy's sidecar and have read the ConfigMap."""
    fleet.apply(a_config_map(fleet, "one"), *carts(fleet, count))
    fleet.apply(the_policy(fleet))
    fleet.wait("RolloutComplete", timeout=120)
    poll(partial(noted, fleet), timeout=RIGHT_SEEN)


def test_an_edit_restarts_a_fleet_under_the_budget_and_an_operator_that_starts_again_restarts_nothing_more(
    readable: Fleet, operator: Operator, api: pykube.HTTPClient
) -> None:
    running(readable, MANY)
    before = generations(readable)
    assert restarts(readable) == []
    with sampled(api, readable.namespace) as samples:
        readable.apply(a_config_map(readable, "two"))
        told = f"ConfigMap otel-config changed in namespace {readable.namespace}"
        poll(lambda: told in readable.condition("Ready")["message"], timeout=60)
        poll(lambda: len(restarts(readable)) >= MANY / 4, timeout=60)
        operator.restart()
        poll(lambda: len(restarts(readable)) == MANY, timeout=60)
        readable.wait("RolloutComplete", timeout=60)
    incomplete = [sum(not is_complete(each) for each in deployments) for _, deployments in samples.lists]
    assert max(incomplete) == BUDGET
    assert generations(readable) == {name: number + 1 for name, number in before.items()}
    assert len(set(restarts(readable))) == 1
    (told,) = poll(lambda: readable.messages("web", "ConfigChanged"))
    assert told.startswith(f"ConfigMap otel-config changed in namespace {readable.namespace}: {MANY} workloads")
    operator.restart()
    readable.wait("RolloutComplete")
    assert generations(readable) == {name: number + 1 for name, number in before.items()}
    templates = readable.templates()
    readable.delete_policy()
    assert readable.templates() != templates
    assert traces(readable.deployments().values()) == []


def test_a_cluster_policy_restarts_for_it_too(readable: Fleet, cluster: localcluster.Cluster) -> None:
    name = f"otel-{readable.namespace}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": readable.namespace}}
    policy = a_cluster_policy(name, namespaceSelector=here, rollout=QUICK, restartOn={"configMaps": ["otel-config"]})
    readable.apply(a_config_map(readable, "one"), *carts(readable, 3))
    readable.apply(policy)
    try:
        readable.wait("RolloutComplete", name, kind=names.CLUSTER_POLICY)
        poll(partial(noted, readable), timeout=RIGHT_SEEN)
        readable.apply(a_config_map(readable, "two"))
        poll(lambda: len(restarts(readable)) == 3)
        assert all(each.startswith(f"cluster/{name}@") for each in restarts(readable))
    finally:
        readable.kubectl("annotate", "clustersidecarpolicy", name, f"{names.APPROVE}=removal@2", "--overwrite")
        cluster.kubectl("delete", "clustersidecarpolicy", name, "--wait=false")
        poll(lambda: status_of_removal(readable, name), timeout=60)


def status_of_removal(fleet: Fleet, name: str) -> bool:
    """Approve the removal as often as it asks; whether it is over."""
    found = fleet.kubectl("get", "clustersidecarpolicy", name, "--ignore-not-found", "-o=jsonpath={.status.awaiting}")
    if "removal@" in found.stdout:
        value = found.stdout.strip('[]"').partition('"')[0]
        fleet.kubectl("annotate", "clustersidecarpolicy", name, f"{names.APPROVE}={value}", "--overwrite")
    return not restarts(fleet) and not fleet.kubectl("get", "clustersidecarpolicy", name, "--ignore-not-found").stdout


def no_restarted_pods(fleet: Fleet) -> tuple[Manifest, Manifest]:
    """A rule by which no Pod starts that was restarted for a configuration: as if it could not read it."""
    about = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": f"unread-{fleet.namespace}"}}
    creates = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    unmarked = f"!('{names.CONFIG}' in object.metadata.?annotations.orValue({{}}))"
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}}
    constraints = {"resourceRules": [creates]}
    spec = {"matchConstraints": constraints, "validations": [{"expression": unmarked, "message": "unreadable"}]}
    binding = {"policyName": f"unread-{fleet.namespace}", "validationActions": ["Deny"], "matchResources": here}
    return (
        about | {"kind": "ValidatingAdmissionPolicy", "spec": spec},
        about | {"kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    )


def holds(fleet: Fleet) -> bool:
    """Whether that rule is in force by now."""
    container = {"name": "app", "image": "example.test/app:1"}
    metadata = {"name": "probe", "annotations": {names.CONFIG: "probe"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    made = fleet.kubectl("create", "--dry-run=server", "--filename=-", input=json.dumps(pod), check=False)
    return "unreadable" in made.stderr


def test_content_that_breaks_the_first_halts_goes_back_and_begins_again_when_it_is_edited(
    readable: Fleet, operator: Operator
) -> None:
    readable.apply(a_config_map(readable, "one"), *carts(readable, 4))
    readable.apply(the_policy(readable, rollout=QUICK | {"progressDeadlineSeconds": 5}))
    readable.wait("RolloutComplete", timeout=120)
    poll(partial(noted, readable), timeout=RIGHT_SEEN)
    before = readable.templates()
    rule = no_restarted_pods(readable)
    readable.apply(*rule)
    try:
        poll(partial(holds, readable))
        readable.apply(a_config_map(readable, "bad"))
        (failure,) = readable.wait("RolledBack", timeout=90)["failures"]
        poll(lambda: readable.templates() == before)
        message = readable.condition("Ready")["message"]
        assert f"edit what the policy injects or ConfigMap otel-config in namespace {readable.namespace}" in message
        operator.restart()
        assert readable.wait("RolledBack")["failures"][0]["name"] == failure["name"]
        assert readable.templates() == before
    finally:
        delete_admission_rule(readable, rule)
    readable.apply(a_config_map(readable, "good"))
    poll(lambda: len(restarts(readable)) == 4, timeout=90)
    readable.wait("RolloutComplete", timeout=60)


def test_the_operator_works_on_however_many_names_policies_watch(
    readable: Fleet, cluster: localcluster.Cluster
) -> None:
    """Each holds a connection, and there are more than the operator has for everything else."""
    for number in range(4):
        name = f"web-{number}"
        readable.apply(a_deployment(name, readable.namespace))
        configs = [f"absent-{number}-{each}" for each in range(11)]
        selector = {"matchLabels": {"app": name}}
        readable.apply(a_policy(name, readable.namespace, selector=selector, restartOn={"configMaps": configs}))

    def watched() -> int:
        metrics = cluster.kubectl("get", "--raw", "/metrics").stdout.splitlines()
        found = [each for each in metrics if "longrunning_requests{" in each and 'resource="configmaps"' in each]
        return sum(int(float(each.rpartition(" ")[2])) for each in found if 'verb="WATCH"' in each)

    poll(lambda: watched() >= 44, timeout=RIGHT_SEEN)
    for number in range(4):
        readable.wait("RolloutComplete", f"web-{number}")


def test_without_the_rights_everything_else_works_and_the_status_says_what_to_grant(
    fleet: Fleet, operator: Operator
) -> None:
    operator.restart()  # a watch outlives the right with which it was opened
    fleet.apply(a_config_map(fleet, "one"), a_secret(fleet, "one"), *carts(fleet, 2))
    fleet.apply(the_policy(fleet, restartOn={"configMaps": ["otel-config"], "secrets": ["otel-token"]}))
    fleet.wait("RolloutComplete")
    found = poll(lambda: warned(fleet), until=lambda found: "ConfigUnreadable" in found)
    assert "the operator needs the verbs list and watch on" in found["ConfigUnreadable"]
    assert not any(
        "ConfigMap/" in each["metadata"]["annotations"][names.RECORD] for each in fleet.deployments().values()
    )


def test_secrets_that_may_not_be_read_keep_no_config_map_from_restarting(readable: Fleet) -> None:
    readable.apply(a_config_map(readable, "one"), a_secret(readable, "one"), *carts(readable, 2))
    readable.apply(the_policy(readable, restartOn={"configMaps": ["otel-config"], "secrets": ["otel-token"]}))
    readable.wait("RolloutComplete")
    poll(partial(noted, readable), timeout=RIGHT_SEEN)
    wanted = "on secrets (chart: restartOn.secrets: true)"
    poll(lambda: warned(readable), until=lambda found: wanted in found.get("ConfigUnreadable", ""))
    readable.apply(a_config_map(readable, "two"))
    poll(lambda: len(restarts(readable)) == 2)
    readable.wait("RolloutComplete")
    before = generations(readable)
    # The right comes later: what is in the Secret is noted down, and restarts nothing; a change of it does.
    switch = str(SWITCHES / "secrets/access.yaml")
    readable.kubectl("apply", "--filename", switch)
    try:
        poll(partial(noted, readable, "Secret"), timeout=90)
        assert generations(readable) == before
        poll(lambda: "ConfigUnreadable" not in warned(readable))
        readable.apply(a_secret(readable, "two"))
        poll(lambda: generations(readable) == {name: number + 1 for name, number in before.items()}, timeout=60)
        text = str(readable.deployments()) + str(readable.status())
        assert "dHdv" not in text and '"token"' not in text
    finally:
        readable.kubectl("delete", "--filename", switch)
