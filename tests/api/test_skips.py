"""Selected and left alone: every reason is counted, says why in a sentence, and harms no other target."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.record import NOTHING_NOTED, Entry
from sidecarpolicy.core.workload import record_of
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar, an_admission_rule
from tests.fleet import Fleet, delete_admission_rule, init_names
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
PORT = {"ports": [{"containerPort": 15000}]}
READY = {"readinessProbe": {"tcpSocket": {"port": 15000}}}
LOGS = {
    "volumes": [{"name": "logs", "emptyDir": {}}],
    "application": {"volumeMounts": [{"name": "logs", "mountPath": "/var/log/app"}]},
}


def the_policy(namespace: str, **spec: Any) -> Manifest:
    """A policy with a proxy on port 15000 and a log volume."""
    return a_policy(
        "web", namespace, **({"rollout": QUICK, "sidecars": [a_sidecar(container=PORT | READY)]} | LOGS | spec)
    )


def an_application(**container: Any) -> Manifest:
    """The containers of a Pod, with one of them changed."""
    return {"containers": [{"name": "app", "image": "example.test/app:1"} | container]}


SKIPPED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "container": (
        {"pod": {"initContainers": [{"name": "proxy", "image": "their/proxy:9"}]}},
        "NameConflict",
        ["'proxy'", "their/proxy:9", "example.test/proxy:1"],
    ),
    "regular container": (
        {"pod": {"containers": [{"name": "proxy", "image": "their/proxy:9"}]}},
        "NameConflict",
        ["'proxy'", "their/proxy:9", "example.test/proxy:1"],
    ),
    "volume": (
        {"pod": {"volumes": [{"name": "logs", "configMap": {"name": "x"}}]}},
        "NameConflict",
        ["'logs'", "configMap", "emptyDir"],
    ),
    "mount path": (
        {
            "pod": {"volumes": [{"name": "own", "emptyDir": {}}]}
            | an_application(volumeMounts=[{"name": "own", "mountPath": "/var/log/app"}])
        },
        "NameConflict",
        ["/var/log/app", "'own'", "'logs'"],
    ),
    "port": ({"pod": an_application(**PORT)}, "PortConflict", ["15000/TCP", "'proxy'", "'app'"]),
    "recreate": ({"strategy": {"type": "Recreate"}}, "Downtime", ["Recreate", names.ALLOW_DOWNTIME]),
    "opted out": ({"labels": {names.INJECT: "false"}}, "OptedOut", [names.INJECT]),
}


@pytest.mark.parametrize("case", SKIPPED, ids=[case.replace(" ", "-") for case in SKIPPED])
def test_it_is_skipped_with_a_reason_and_the_other_proceeds(fleet: Fleet, case: str) -> None:
    changes, reason, words = SKIPPED[case]
    fleet.apply(a_deployment("odd", fleet.namespace, **changes), a_deployment("cart", fleet.namespace))
    check_that_odd_is_skipped(fleet, reason, words)


def test_one_that_its_owner_has_paused_is_skipped(fleet: Fleet) -> None:
    fleet.apply(a_deployment("odd", fleet.namespace), a_deployment("cart", fleet.namespace))
    fleet.wait_for(lambda odd: odd.get("status", {}).get("replicas"), "odd")
    fleet.kubectl("rollout", "pause", "deployment/odd")
    check_that_odd_is_skipped(fleet, "DeploymentPaused", ["paused by its owner"])


def test_one_that_is_created_paused_starts_with_its_sidecars(fleet: Fleet) -> None:
    """Without the webhook too: as long as it is paused there are no Pods that a change could restart."""
    fleet.apply(a_deployment("cart", fleet.namespace), the_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_deployment("new", fleet.namespace, paused=True))
    fleet.wait_for(lambda new: init_names(new) == ["proxy"], "new")
    poll(lambda: fleet.status()["targets"], until=lambda targets: targets["updated"] == targets["matched"] == 2)
    fleet.kubectl("rollout", "resume", "deployment/new")
    fleet.kubectl("rollout", "status", "deployment/new", "--timeout=60s")
    fleet.wait("RolloutComplete")
    sets = fleet.get("replicasets", version="apps/v1")["items"]
    (made,) = [each for each in sets if each["metadata"]["ownerReferences"][0]["name"] == "new"]
    assert init_names(made) == ["proxy"]


def check_that_odd_is_skipped(fleet: Fleet, reason: str, words: list[str]) -> None:
    """Check that the policy leaves "odd" alone, says why, and goes on with "cart"."""
    before = fleet.deployment("odd")["spec"]
    fleet.apply(the_policy(fleet.namespace))
    status = fleet.wait("RolloutComplete")
    assert (status["targets"]["matched"], status["targets"]["updated"], status["targets"]["skipped"]) == (2, 1, 1)
    (skipped,) = status["skipped"]
    assert (skipped["reason"], skipped["count"], skipped["examples"]) == (reason, 1, [f"{fleet.namespace}/odd"])
    assert [word for word in words if word not in skipped["message"]] == []
    assert fleet.deployment("odd")["spec"] == before
    assert init_names(fleet.deployment("cart")) == ["proxy"]
    told = poll(lambda: [each["message"] for each in fleet.events("odd") if each["reason"] == "SidecarsSkipped"])
    assert reason in told[0]


def test_a_deployment_that_a_controller_made_is_left_to_it(fleet: Fleet) -> None:
    fleet.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "maker", "namespace": fleet.namespace}})
    maker = fleet.get("configmaps/maker")["metadata"]
    odd = a_deployment("odd", fleet.namespace)
    odd["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "maker", "uid": maker["uid"], "controller": True}
    ]
    fleet.apply(odd)
    fleet.apply(the_policy(fleet.namespace))
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "Controlled"
    assert "ConfigMap/maker" in skipped["message"]


def test_when_all_are_skipped_the_policy_is_not_ready(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace, labels={names.INJECT: "false"}))
    fleet.apply(the_policy(fleet.namespace))
    status = fleet.wait("AllSkipped")
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == {"Accepted": "True", "Ready": "False", "Stalled": "True"}


def test_downtime_is_allowed_by_the_owner(fleet: Fleet) -> None:
    recreate = a_deployment(
        "cart", fleet.namespace, annotations={names.ALLOW_DOWNTIME: "true"}, strategy={"type": "Recreate"}
    )
    fleet.apply(recreate)
    fleet.apply(the_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment()) == ["proxy"]


def test_a_policy_of_higher_precedence_overrides_one_of_lower(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(a_policy("low", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(container={"image": "low:1"})]))
    fleet.wait("RolloutComplete", "low")
    fleet.apply(
        a_policy(
            "high", fleet.namespace, rollout=QUICK, priority=1, sidecars=[a_sidecar(container={"image": "high:1"})]
        )
    )
    fleet.wait("RolloutComplete", "high")
    (skipped,) = fleet.wait("AllSkipped", "low")["skipped"]
    assert skipped["reason"] == "Overridden"
    assert f"SidecarPolicy {fleet.namespace}/high" in skipped["message"]
    cart = fleet.deployment()
    assert [each["image"] for each in cart["spec"]["template"]["spec"]["initContainers"]] == ["high:1"]
    fleet.delete_policy("high")
    fleet.wait("RolloutComplete", "low")
    assert [each["image"] for each in fleet.deployment()["spec"]["template"]["spec"]["initContainers"]] == ["low:1"]


def test_a_cluster_policy_reaches_the_system_only_where_that_is_asked_for(fleet: Fleet) -> None:
    name, there = f"all-{fleet.namespace}", "kube-public"
    here = {"matchLabels": {"fleet": fleet.namespace}}
    system = Fleet(fleet.cluster, there)
    policy = a_cluster_policy(name, selector=here, rollout=QUICK | {"removal": "Automatic"})
    try:
        for each in (fleet, system):
            deployment = a_deployment(name, each.namespace)
            deployment["spec"]["template"]["metadata"]["labels"] |= here["matchLabels"]
            each.apply(deployment)
        fleet.apply(policy)
        status = fleet.wait("RolloutComplete", name, kind=names.CLUSTER_POLICY)
        assert [(each["reason"], each["examples"]) for each in status["skipped"]] == [
            ("ProtectedNamespace", [f"{there}/{name}"])
        ]
        assert init_names(system.deployment(name)) == []
        fleet.cluster.kubectl("label", "namespace", there, f"{names.INJECT}=true")
        system.wait_for(lambda found: init_names(found) == ["proxy"], name)
    finally:
        fleet.cluster.kubectl("label", "namespace", there, f"{names.INJECT}-")
        fleet.cluster.kubectl("delete", "clustersidecarpolicy", name, "--timeout=60s")
        fleet.cluster.kubectl("delete", "deployment", name, f"--namespace={there}", "--ignore-not-found")


def test_what_admission_refuses_is_reported_with_the_servers_words(fleet: Fleet) -> None:
    rule = "object.metadata.name != 'odd' || !has(object.spec.template.spec.initContainers)"
    forbids = an_admission_rule("no-proxy", fleet.namespace, rule, "no init containers in odd, please")
    fleet.apply(a_deployment("odd", fleet.namespace), a_deployment("cart", fleet.namespace))
    fleet.apply(*forbids)
    try:
        patch = '--patch={"spec":{"template":{"spec":{"initContainers":[{"name":"x","image":"x"}]}}}}'
        poll(
            lambda: fleet.kubectl("patch", "deployment", "odd", "--dry-run=server", patch, check=False).returncode != 0
        )
        fleet.apply(the_policy(fleet.namespace))
        (failure,) = fleet.wait("CompletedWithFailures")["failures"]
        assert (failure["reason"], failure["name"]) == ("Refused", "odd")
        assert "no init containers in odd, please" in failure["message"]
        assert init_names(fleet.deployment("cart")) == ["proxy"]
    finally:
        delete_admission_rule(fleet, forbids)


def test_what_cannot_be_removed_holds_neither_the_others_nor_the_policy_for_ever(fleet: Fleet) -> None:
    impatient = {"minReadySeconds": 0, "maxConcurrent": 1, "progressDeadlineSeconds": 8}
    names = ("cart", "odd", "orders")
    fleet.apply(*(a_deployment(name, fleet.namespace) for name in names))
    fleet.apply(a_policy("web", fleet.namespace, rollout=impatient))
    fleet.wait("RolloutComplete")
    rule = "object.metadata.name != 'odd' || has(object.spec.template.spec.initContainers)"
    forbids = an_admission_rule("keep", fleet.namespace, rule, "odd keeps its sidecars")
    fleet.apply(*forbids)
    try:
        removes = [{"op": "remove", "path": "/spec/template/spec/initContainers"}]
        patch = ("patch", "deployment", "odd", "--dry-run=server", "--type=json", f"--patch={json.dumps(removes)}")
        poll(lambda: fleet.kubectl(*patch, check=False).returncode != 0)
        before = fleet.deployment("odd")["spec"]["template"]
        fleet.kubectl("delete", "sidecarpolicy", "web", "--wait=false")
        message = poll(lambda: fleet.condition("Ready").get("message", ""), until=lambda words: "odd keeps" in words)
        assert f"{fleet.namespace}/odd cannot be changed" in message
        fleet.kubectl("wait", "--for=delete", "sidecarpolicy/web", "--timeout=60s")
        assert [init_names(fleet.deployment(name)) for name in names] == [[], ["proxy"], []]
        assert fleet.deployment("odd")["spec"]["template"] == before
        (given_up,) = poll(lambda: fleet.messages("odd", "RemovalGivenUp"))
        assert "odd keeps its sidecars" in given_up
    finally:
        delete_admission_rule(fleet, forbids)


def test_an_owners_equal_container_is_adopted_and_never_removed(fleet: Fleet) -> None:
    fleet.apply(a_deployment("other", fleet.namespace))
    fleet.apply(the_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    ours = fleet.deployment("other")["spec"]["template"]["spec"]["initContainers"]
    fleet.apply(a_deployment("cart", fleet.namespace, pod={"initContainers": ours}))
    poll(lambda: fleet.status()["targets"]["updated"] == 2)
    fleet.delete_policy()
    assert init_names(fleet.deployment()) == ["proxy"]
    assert init_names(fleet.deployment("other")) == []


def test_a_client_side_owner_who_claims_our_name_wins_and_is_named(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(the_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_deployment("cart", fleet.namespace, pod={"initContainers": [{"name": "proxy", "image": "their:1"}]}))
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "NameConflict"
    assert "kubectl apply" in skipped["message"]
    fleet.delete_policy()
    assert init_names(fleet.deployment()) == ["proxy"]


def recorded(deployment: Manifest) -> dict[PolicyId, Entry]:
    """What its record says, but for how often that was undone."""
    entries = record_of(deployment["metadata"]["annotations"][names.RECORD]).entries
    return {policy: replace(entry, note=NOTHING_NOTED) for policy, entry in entries.items()}


@pytest.mark.parametrize("garbage", ["garbage", "{}", '{"policies":{"x":1}}', "[1]"])
def test_a_garbled_record_removes_nothing_and_is_healed(fleet: Fleet, garbage: str) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(the_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    before = fleet.deployment()
    fleet.kubectl("annotate", "--overwrite", "deployment", "cart", f"{names.RECORD}={garbage}")
    fleet.wait_for(lambda cart: recorded(cart) == recorded(before))
    assert fleet.deployment()["spec"] == before["spec"]


def test_a_garbled_record_of_a_workload_that_was_never_ours_is_reported(fleet: Fleet) -> None:
    theirs = {"initContainers": [{"name": "proxy", "image": "their:1"}]}
    fleet.apply(a_deployment("cart", fleet.namespace, pod=theirs, annotations={names.RECORD: "garbage"}))
    fleet.apply(the_policy(fleet.namespace))
    fleet.wait("AllSkipped")
    warned = poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "InvalidRecord"])
    assert f"{fleet.namespace}/cart" in warned[0]["message"]
    assert init_names(fleet.deployment()) == ["proxy"]
    assert fleet.deployment()["metadata"]["annotations"][names.RECORD] == "garbage"


def test_unknown_and_ill_valued_marks_are_reported(fleet: Fleet) -> None:
    fleet.apply(
        a_deployment("cart", fleet.namespace, labels={names.INJECT: "no"}, annotations={"sidecars.dev/injekt": "x"})
    )
    fleet.apply(the_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    (warning,) = poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "InvalidMark"])
    assert warning["count"] == 2
    assert "sidecars.dev/inj" in warning["message"]


def test_an_env_variable_of_the_applications_own_is_kept(fleet: Fleet) -> None:
    own = an_application(env=[{"name": "A", "value": "own"}])
    fleet.apply(a_deployment("cart", fleet.namespace, pod=own))
    env = [{"name": "A", "value": "ours"}, {"name": "B", "value": "ours"}]
    fleet.apply(the_policy(fleet.namespace, application={"env": env}))
    fleet.wait("RolloutComplete")
    container = fleet.deployment()["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "own"}, {"name": "B", "value": "ours"}]
    assert poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "EnvKept"])
    fleet.delete_policy()
    assert fleet.deployment()["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "own"}]
