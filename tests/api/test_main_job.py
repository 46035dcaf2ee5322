"""The main job: policies come, change and go, and so do their sidecars, in running Deployments."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

import localcluster
from sidecarpolicy import names
from tests.audit import Audit
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, image_of, init_names, traces
from tests.polling import poll
from tests.running import Operator

QUICK = {"minReadySeconds": 0}
MIGRATE = {"name": "migrate", "image": "example.test/migrate:1"}
PROBE = {"httpGet": {"path": "/ready", "port": 15000}}
THREE = [
    a_sidecar("monitor", role="Monitor"),
    a_sidecar("proxy", role="Proxy", container={"readinessProbe": PROBE}),
    a_sidecar("logger", role="Logger", container={"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}),
]
LOGS: Manifest = {
    "volumes": [{"name": "logs", "emptyDir": {}}],
    "application": {
        "volumeMounts": [{"name": "logs", "mountPath": "/var/log/app"}],
        "env": [{"name": "A", "value": "b"}],
    },
}


def a_quick_policy(namespace: str, name: str = "web", **spec: Any) -> Manifest:
    """A policy whose workloads need not soak."""
    return a_policy(name, namespace, **({"rollout": QUICK} | spec))


def a_cart(namespace: str, name: str = "cart", **changes: Any) -> Manifest:
    """A Deployment with an init container of its own."""
    return a_deployment(name, namespace, pod={"initContainers": [MIGRATE]}, **changes)


def test_three_sidecars_come_in_order_and_leave_without_a_trace(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace), a_deployment("plain", fleet.namespace))
    before = fleet.templates()
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=THREE, **LOGS))
    status = fleet.wait("RolloutComplete")
    assert status["targets"] == {
        **dict.fromkeys(("matched", "updated", "available"), 2),
        **dict.fromkeys(("skipped", "pending", "progressing", "failed", "removing"), 0),
    }
    assert status["currentRevision"] == status["updateRevision"]
    cart = fleet.deployment()
    assert init_names(cart) == ["proxy", "logger", "migrate", "monitor"]
    containers = {each["name"]: each for each in cart["spec"]["template"]["spec"]["initContainers"]}
    assert all(containers[name]["restartPolicy"] == "Always" for name in ("proxy", "logger", "monitor"))
    assert containers["proxy"]["startupProbe"]["failureThreshold"] == 120
    application = cart["spec"]["template"]["spec"]["containers"][0]
    assert application["env"] == [{"name": "A", "value": "b"}]
    assert application["volumeMounts"] == [{"name": "logs", "mountPath": "/var/log/app"}]
    fleet.delete_policy()
    assert fleet.templates() == before
    assert traces(fleet.deployments().values()) == []


@pytest.mark.parametrize("server_side", [False, True], ids=["client-side", "server-side"])
def test_applying_the_unchanged_original_again_changes_nothing(fleet: Fleet, server_side: bool) -> None:
    original = a_cart(fleet.namespace)
    fleet.apply(original, server_side=server_side)
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=THREE, **LOGS))
    fleet.wait("RolloutComplete")
    before = fleet.deployment()
    fleet.apply(original, server_side=server_side)
    after = fleet.deployment()
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]


def test_one_patch_per_deployment_per_change_and_none_for_a_second_look(
    fleet: Fleet, cluster: localcluster.Cluster, operator: Operator
) -> None:
    carts = [a_cart(fleet.namespace, f"cart-{number}") for number in range(4)]
    fleet.apply(*carts)
    audit = Audit.begin(cluster)
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=THREE, **LOGS))
    fleet.wait("RolloutComplete")
    assert audit.patches_of(fleet.namespace) == {f"cart-{number}": 1 for number in range(4)}
    changed = [a_sidecar("monitor", role="Monitor", container={"image": "example.test/monitor:2"}), *THREE[1:]]
    audit = Audit.begin(cluster)
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=changed, **LOGS))
    fleet.wait("RolloutComplete")
    assert audit.patches_of(fleet.namespace) == {f"cart-{number}": 1 for number in range(4)}
    audit = Audit.begin(cluster)
    operator.restart()
    # A change that it must react to, so that everything before has been looked at.
    fleet.kubectl("annotate", "deployment", "cart-0", "example.test/touched=yes")
    fleet.kubectl("set", "image", "deployment/cart-1", "app=example.test/app:2")
    fleet.kubectl("rollout", "status", "deployment/cart-1", "--timeout=30s")
    fleet.kubectl("label", "deployment", "cart-3", f"{names.INJECT}=false")
    fleet.wait_for(lambda cart: init_names(cart) == ["migrate"], "cart-3")
    others = [each for each in audit.writes() if each.name != "cart-3" and not each.name.startswith("cart-3.")]
    assert [each for each in others if each.resource == "deployments"] == []


def test_a_restart_writes_nothing_but_the_lease(
    fleet: Fleet, cluster: localcluster.Cluster, operator: Operator
) -> None:
    taken = a_deployment("taken", fleet.namespace, pod={"initContainers": [{"name": "proxy", "image": "their:1"}]})
    resources = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}}
    container = {"name": "app", "image": "example.test/app:1", "resources": resources}
    guaranteed = a_deployment("guaranteed", fleet.namespace, pod={"containers": [container]})
    fleet.apply(a_cart(fleet.namespace), taken, guaranteed)
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=THREE, **LOGS))
    fleet.wait("RolloutComplete")
    # What it warns of about workloads is not lost either.
    warned = [each["reason"] for each in poll(lambda: fleet.status().get("warnings", []))]
    assert "QosChange" in warned
    operator.stop()
    audit = Audit.begin(cluster)
    operator.start()
    # It has looked at everything when it has looked at what came last.
    fleet.apply(a_policy("late", fleet.namespace, selector={"matchLabels": {"nobody": "has-this"}}))
    fleet.wait("NoTargets", "late")
    namespaced = [each for each in audit.writes() if each.namespace == fleet.namespace and "late" not in each.name]
    assert namespaced == []


def test_an_edit_travels_and_the_event_says_from_what_to_what(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace))
    fleet.apply(a_quick_policy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=[a_sidecar(container={"image": "example.test/proxy:2"})]))
    second = fleet.wait("RolloutComplete")["updateRevision"]
    assert second != first
    assert image_of(fleet.deployment(), "proxy") == "example.test/proxy:2"
    for about in ("cart", "web"):
        told = poll(partial(fleet.messages, about, "SidecarsInjected"))
        assert any("example.test/proxy:1 → example.test/proxy:2" in message and second in message for message in told)


def test_going_back_takes_the_old_revision_up_again(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace))
    revisions = []
    for tag in ("1", "2", "1"):
        image = {"image": f"example.test/proxy:{tag}"}
        fleet.apply(a_quick_policy(fleet.namespace, sidecars=[a_sidecar(container=image)]))
        revisions.append(fleet.wait("RolloutComplete")["updateRevision"])
    assert revisions[0] == revisions[2] != revisions[1]
    stored = fleet.get("controllerrevisions", version="apps/v1")["items"]
    assert sorted(each["metadata"]["name"] for each in stored) == sorted(f"sidepol-{name}" for name in set(revisions))


def test_new_deployments_get_their_sidecars(fleet: Fleet) -> None:
    fleet.apply(a_quick_policy(fleet.namespace))
    fleet.wait("NoTargets")
    fleet.apply(a_cart(fleet.namespace))
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment()) == ["migrate", "proxy"]
    fleet.apply(a_cart(fleet.namespace, "later"))
    fleet.wait_for(lambda later: init_names(later) == ["migrate", "proxy"], "later")
    assert poll(lambda: fleet.status()["targets"]["updated"] == 2)


def test_relabelling_moves_a_deployment_into_and_out_of_the_selection(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace), a_cart(fleet.namespace, "stays"))
    other = {"spec": {"template": {"metadata": {"labels": {"tier": "other"}}}}}
    fleet.kubectl("patch", "deployment", "cart", "--patch", json.dumps(other))
    fleet.apply(a_quick_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment()) == ["migrate"]
    other["spec"]["template"]["metadata"]["labels"]["tier"] = "web"
    fleet.kubectl("patch", "deployment", "cart", "--patch", json.dumps(other))
    fleet.wait_for(lambda cart: init_names(cart) == ["migrate", "proxy"])
    other["spec"]["template"]["metadata"]["labels"]["tier"] = "other"
    fleet.kubectl("patch", "deployment", "cart", "--patch", json.dumps(other))
    fleet.wait_for(lambda cart: init_names(cart) == ["migrate"] and not traces([cart]))
    assert init_names(fleet.deployment("stays")) == ["migrate", "proxy"]


def test_an_owner_opts_out_and_in_again(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace), a_cart(fleet.namespace, "stays"))
    fleet.apply(a_quick_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.kubectl("label", "deployment", "cart", f"{names.INJECT}=false")
    fleet.wait_for(lambda cart: init_names(cart) == ["migrate"])
    assert names.RECORD not in fleet.deployment()["metadata"]["annotations"]
    skipped = poll(lambda: fleet.status()["skipped"])
    assert (skipped[0]["reason"], skipped[0]["count"]) == ("OptedOut", 1)
    assert skipped[0]["examples"] == [f"{fleet.namespace}/cart"]
    fleet.kubectl("label", "deployment", "cart", f"{names.INJECT}-")
    fleet.wait_for(lambda cart: init_names(cart) == ["migrate", "proxy"])


def test_a_namespace_opts_out_and_a_deployment_back_in(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    cluster.kubectl("label", "namespace", fleet.namespace, f"{names.INJECT}=false")
    fleet.apply(a_cart(fleet.namespace), a_cart(fleet.namespace, "joins", labels={names.INJECT: "true"}))
    fleet.apply(a_quick_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment("joins")) == ["migrate", "proxy"]
    assert init_names(fleet.deployment()) == ["migrate"]


def test_our_container_removed_or_edited_by_hand_is_repaired(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace))
    fleet.apply(a_quick_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.kubectl("set", "image", "deployment/cart", "proxy=example.test/proxy:evil")
    fleet.wait_for(lambda cart: image_of(cart, "proxy") == "example.test/proxy:1")
    fleet.kubectl(
        "patch",
        "deployment",
        "cart",
        "--type=json",
        '--patch=[{"op":"remove","path":"/spec/template/spec/initContainers/1"}]',
    )
    fleet.wait_for(lambda cart: init_names(cart) == ["migrate", "proxy"])
    assert fleet.wait("RolloutComplete")["targets"]["updated"] == 1


def test_what_changed_while_the_operator_was_down_is_found(fleet: Fleet, operator: Operator) -> None:
    fleet.apply(a_cart(fleet.namespace), a_cart(fleet.namespace, "goes"), a_cart(fleet.namespace, "leaves"))
    fleet.apply(
        a_quick_policy(fleet.namespace), a_policy("gone", fleet.namespace, selector={"matchLabels": {"x": "y"}})
    )
    fleet.wait("RolloutComplete")
    operator.stop()
    fleet.kubectl("delete", "deployment", "goes")
    fleet.kubectl("label", "deployment", "leaves", f"{names.INJECT}=false")
    fleet.apply(a_cart(fleet.namespace, "comes"))
    fleet.apply(a_quick_policy(fleet.namespace, sidecars=[a_sidecar(container={"image": "example.test/proxy:2"})]))
    fleet.kubectl("delete", "sidecarpolicy", "gone", "--wait=false")
    operator.start()
    status = fleet.wait("RolloutComplete")
    assert (status["targets"]["matched"], status["targets"]["updated"], status["targets"]["skipped"]) == (3, 2, 1)
    assert (
        image_of(fleet.deployment(), "proxy") == image_of(fleet.deployment("comes"), "proxy") == "example.test/proxy:2"
    )
    assert init_names(fleet.deployment("leaves")) == ["migrate"]
    assert poll(lambda: fleet.kubectl("get", "sidecarpolicy", "gone", check=False).returncode != 0)


def test_orphaned_sidecars_stay_and_a_later_policy_reports_them(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace))
    policy = a_quick_policy(fleet.namespace, deletionPolicy="Orphan")
    fleet.apply(policy)
    fleet.wait("RolloutComplete")
    before = fleet.deployment()
    fleet.delete_policy()
    after = fleet.deployment()
    assert after["spec"]["template"] == before["spec"]["template"]
    fleet.apply(policy)
    skipped = fleet.wait("AllSkipped")["skipped"]
    assert [each["reason"] for each in skipped] == ["NameConflict"]
    assert fleet.deployment()["spec"]["template"] == before["spec"]["template"]
    fleet.delete_policy()


def test_a_cluster_policy_reaches_the_namespaces_it_selects(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    here = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    name = f"mesh-{fleet.namespace}"
    fleet.apply(a_cart(fleet.namespace))
    fleet.apply(a_cluster_policy(name, namespaceSelector=here, rollout=QUICK | {"removal": "Automatic"}))
    fleet.wait("RolloutComplete", name, kind=names.CLUSTER_POLICY)
    assert init_names(fleet.deployment()) == ["migrate", "proxy"]
    cluster.kubectl("delete", "clustersidecarpolicy", name, "--timeout=60s")
    assert init_names(fleet.deployment()) == ["migrate"]
    assert traces(fleet.deployments().values()) == []


@pytest.mark.parametrize("kind", [names.POLICY, names.CLUSTER_POLICY])
def test_a_policy_is_renamed_without_a_rollout(fleet: Fleet, cluster: localcluster.Cluster, kind: str) -> None:
    fleet.apply(a_cart(fleet.namespace))
    fleet.apply(a_quick_policy(fleet.namespace, name="old"))
    fleet.wait("RolloutComplete", "old")
    before = fleet.templates()
    name = f"new-{fleet.namespace}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    spec = fleet.get("sidecarpolicies/old", version=names.API_VERSION)["spec"]
    if kind == names.POLICY:
        fleet.apply(a_policy(name, fleet.namespace, **spec | {"priority": 1}))
    else:
        rollout = spec["rollout"] | {"removal": "Automatic"}
        fleet.apply(a_cluster_policy(name, **spec | {"namespaceSelector": here, "rollout": rollout}))
    fleet.wait("RolloutComplete", name, kind=kind)
    fleet.delete_policy("old")
    fleet.wait("RolloutComplete", name, kind=kind)
    assert fleet.templates() == before
    assert init_names(fleet.deployment()) == ["migrate", "proxy"]
    cluster.kubectl("delete", names.PLURALS[kind], name, *(f"--namespace={fleet.namespace}",) * (kind == names.POLICY))
    assert init_names(fleet.deployment()) == ["migrate"]


def test_two_policies_share_a_deployment_in_order_of_precedence(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace))
    fleet.apply(
        a_quick_policy(fleet.namespace, "low", sidecars=[a_sidecar("low", role="Proxy")]),
        a_quick_policy(fleet.namespace, "high", sidecars=[a_sidecar("high", role="Proxy")], priority=10),
    )
    for policy in ("low", "high"):
        fleet.wait("RolloutComplete", policy)
    fleet.wait_for(lambda cart: init_names(cart) == ["high", "low", "migrate"])
    fleet.delete_policy("high")
    fleet.delete_policy("low")
    assert init_names(fleet.deployment()) == ["migrate"]


def test_the_empty_selector_says_how_many_it_selects(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace), a_cart(fleet.namespace, "other"))
    fleet.apply(a_quick_policy(fleet.namespace, selector={}))
    fleet.wait("RolloutComplete")
    assert "empty selector selects 2 workloads" in fleet.condition("Ready")["message"]


def test_kubectl_wait_works_on_the_policy_and_every_deployment(fleet: Fleet) -> None:
    fleet.apply(*(a_cart(fleet.namespace, f"cart-{number}") for number in range(5)))
    fleet.apply(a_quick_policy(fleet.namespace))
    fleet.kubectl("wait", "--for=condition=Ready", "sidecarpolicy/web", "--timeout=60s")
    for number in range(5):
        fleet.kubectl("rollout", "status", f"deployment/cart-{number}", "--timeout=10s")
        assert init_names(fleet.deployment(f"cart-{number}")) == ["migrate", "proxy"]


def test_characters_that_go_escapes_change_nothing(fleet: Fleet) -> None:
    fleet.apply(a_cart(fleet.namespace))
    for script in ("sleep 9 && true", "sleep 9 & wait <x >y", "sleep 9 && true"):
        command = {"command": ["sh", "-c", script]}
        fleet.apply(a_quick_policy(fleet.namespace, sidecars=[a_sidecar(container=command)]))
        fleet.wait("RolloutComplete")
        proxy = fleet.deployment()["spec"]["template"]["spec"]["initContainers"][1]
        assert proxy["command"][2] == script
