"""What people decide while a rollout goes on: approvals, pins, the emergency switch."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from sidecarpolicy import names
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.conftest import OPERATOR_NAMESPACE
from tests.fleet import Fleet, image_of, init_names
from tests.polling import poll
from tests.running import Operator

QUICK = {"minReadySeconds": 0, "maxConcurrent": 2}


def carts(namespace: str, count: int) -> list[Manifest]:
    """Deployments; the first two are canaries."""
    made = [a_deployment(f"cart-{number:02}", namespace) for number in range(count)]
    for each in made[:2]:
        each["spec"]["template"]["metadata"]["labels"]["stage"] = "canary"
    return made


def a_proxy(namespace: str, tag: str = "1", **rollout: object) -> Manifest:
    """A policy whose proxy has image *tag*."""
    sidecar = a_sidecar(container={"image": f"example.test/proxy:{tag}"})
    return a_policy("web", namespace, sidecars=[sidecar], rollout=QUICK | rollout)


def at_tag(fleet: Fleet, tag: str) -> list[str]:
    """The Deployments whose proxy has image *tag*."""
    found = fleet.deployments().items()
    return sorted(name for name, each in found if image_of(each, "proxy").endswith(f":{tag}"))


def approve(fleet: Fleet, policy: str, approval: str) -> None:
    """Approve, in addition to nothing else."""
    fleet.kubectl("annotate", "--overwrite", policy, f"{names.APPROVE}={approval}")


def test_canaries_go_first_and_the_rest_waits_for_its_approval(fleet: Fleet, operator: Operator) -> None:
    fleet.apply(*carts(fleet.namespace, 6))
    canary = {"name": "canary", "selector": {"matchLabels": {"stage": "canary"}}, "approval": "Manual"}
    fleet.apply(a_proxy(fleet.namespace, canary=[canary]))
    status = fleet.wait("AwaitingApproval")
    assert at_tag(fleet, "1") == ["cart-00", "cart-01"]
    assert (status["targets"]["updated"], status["targets"]["pending"]) == (2, 4)
    approval = f"canary/canary@{status['updateRevision']}"
    assert status["awaiting"] == [approval]
    assert f"sidecars.dev/approve: {approval}" in fleet.condition("Ready")["message"]
    operator.restart()
    approve(fleet, "sidecarpolicy/web", "canary/canary@web-0000000000")
    poll(lambda: fleet.status()["targets"], until=lambda targets: targets["updated"] == 2)
    assert fleet.condition("Ready")["reason"] == "AwaitingApproval"
    approve(fleet, "sidecarpolicy/web", approval)
    fleet.wait("RolloutComplete")
    # The next revision is another one to approve; the old approval says nothing about it.
    fleet.apply(a_proxy(fleet.namespace, "2", canary=[canary]))
    fleet.wait("AwaitingApproval")
    assert at_tag(fleet, "2") == ["cart-00", "cart-01"]
    fleet.apply(a_proxy(fleet.namespace, "1", canary=[canary]))
    fleet.wait("RolloutComplete")
    assert len(at_tag(fleet, "1")) == 6


def test_what_was_approved_stays_so_without_its_annotation(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 5))
    fleet.apply(a_proxy(fleet.namespace, maxConcurrent=1, canary=[{"name": "one", "max": 1, "approval": "Manual"}]))
    revision = fleet.wait("AwaitingApproval")["updateRevision"]
    approve(fleet, "sidecarpolicy/web", f"canary/one@{revision}")
    poll(lambda: len(at_tag(fleet, "1")), until=lambda count: count > 1)
    fleet.kubectl("annotate", "sidecarpolicy/web", f"{names.APPROVE}-")
    fleet.wait("RolloutComplete")


def test_a_cluster_policy_takes_nothing_out_without_approval(fleet: Fleet) -> None:
    here = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    name = f"all-{fleet.namespace}"[:63]
    policy = a_cluster_policy(name, namespaceSelector=here, rollout=QUICK)
    kind = names.CLUSTER_POLICY
    fleet.apply(*carts(fleet.namespace, 4), policy)
    fleet.wait("RolloutComplete", name, kind=kind)
    # Its owner takes one out of the selection, and nobody has to approve that.
    remove = [{"op": "remove", "path": "/spec/template/metadata/labels/tier"}]
    fleet.kubectl("patch", "deployment", "cart-03", "--type=json", "--patch", json.dumps(remove))
    fleet.wait_for(lambda cart: init_names(cart) == [], "cart-03")
    narrowed = policy["spec"] | {"selector": {"matchLabels": {"stage": "canary"}}}
    fleet.apply(policy | {"spec": narrowed})
    status = fleet.wait("RemovalHeld", name, kind=kind)
    assert (status["targets"]["matched"], status["targets"]["removing"]) == (2, 1)
    assert init_names(fleet.deployment("cart-02")) == ["proxy"]
    approve(fleet, f"clustersidecarpolicy/{name}", f"removal@{status['observedGeneration']}")
    fleet.wait("RolloutComplete", name, kind=kind)
    assert init_names(fleet.deployment("cart-02")) == []
    fleet.kubectl("delete", f"clustersidecarpolicy/{name}", "--wait=false")
    status = fleet.wait("RemovalHeld", name, kind=kind)
    message = fleet.condition("Ready", name, kind)["message"]
    assert init_names(fleet.deployment("cart-00")) == ["proxy"]
    approval = f"removal@{status['observedGeneration']}"
    assert status["awaiting"] == [approval]
    assert f"sidecars.dev/approve: {approval}" in message
    approve(fleet, f"clustersidecarpolicy/{name}", approval)
    fleet.kubectl("wait", "--for=delete", f"clustersidecarpolicy/{name}", "--timeout=60s")
    assert {tuple(init_names(each)) for each in fleet.deployments().values()} == {()}


def test_a_pinned_one_stays_and_goes_where_it_is_pinned(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 3))
    fleet.apply(a_proxy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    pin = f"{names.PIN}=web@{first.rpartition('-')[2]}"
    fleet.kubectl("annotate", "deployment", "cart-00", pin)
    fleet.apply(a_proxy(fleet.namespace, "2"))
    status = fleet.wait("RolloutComplete")
    assert at_tag(fleet, "1") == ["cart-00"]
    (skipped,) = status["skipped"]
    assert (skipped["reason"], skipped["examples"]) == ("Pinned", [f"{fleet.namespace}/cart-00"])
    assert first in skipped["message"]
    fleet.kubectl("annotate", "deployment", "cart-01", pin)
    fleet.wait_for(lambda cart: image_of(cart, "proxy").endswith(":1"), "cart-01")
    # What somebody changes by hand is repaired to what it is pinned to.
    change = [{"op": "replace", "path": "/spec/template/spec/initContainers/0/image", "value": "example.test/other:1"}]
    fleet.kubectl("patch", "deployment", "cart-01", "--type=json", "--patch", json.dumps(change))
    fleet.wait_for(lambda cart: image_of(cart, "proxy") == "example.test/proxy:1", "cart-01")
    fleet.kubectl("annotate", "deployment", "cart-00", "cart-01", f"{names.PIN}-")
    poll(lambda: at_tag(fleet, "2"), until=lambda found: len(found) == 3)
    fleet.kubectl("annotate", "deployment", "cart-02", f"{names.PIN}=web@nonsense")
    wrong = poll(lambda: [each for each in fleet.status().get("warnings", []) if each["reason"] == "InvalidMark"])
    assert "web@nonsense" in wrong[0]["message"]
    assert at_tag(fleet, "2") == ["cart-00", "cart-01", "cart-02"]


def test_two_policies_cross_and_a_halted_rollout_is_left_alone(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 2))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    huge = a_sidecar(container={"image": "example.test/proxy:2", "resources": {"requests": {"cpu": "100000"}}})
    rollout = QUICK | {"progressDeadlineSeconds": 3, "onFailure": "Halt", "maxConcurrent": 1}
    fleet.apply(a_policy("web", fleet.namespace, sidecars=[huge], rollout=rollout))
    status = fleet.wait("RolloutHalted")
    (failure,) = status["failures"]
    (other,) = {"cart-00", "cart-01"} - {failure["name"]}
    logger = a_sidecar("logger", role="Logger")
    fleet.apply(a_policy("log", fleet.namespace, sidecars=[logger], rollout=QUICK))
    status = fleet.wait("RolloutComplete", "log")
    (skipped,) = status["skipped"]
    assert skipped["reason"] == "OtherRolloutHalted"
    assert skipped["examples"] == [f"{fleet.namespace}/{failure['name']}"]
    assert init_names(fleet.deployment(other)) == ["logger", "proxy"]
    assert init_names(fleet.deployment(failure["name"])) == ["proxy"]
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.wait_for(lambda cart: init_names(cart) == ["logger", "proxy"], failure["name"])


@pytest.fixture
def switch(fleet: Fleet) -> Iterator[str]:
    """The annotation that stops everything; it is off afterwards."""
    yield f"{names.STOP}=true"
    fleet.kubectl("annotate", "namespace", OPERATOR_NAMESPACE, f"{names.STOP}-")


def test_the_emergency_switch_stops_every_change(fleet: Fleet, switch: str) -> None:
    fleet.apply(*carts(fleet.namespace, 4))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.kubectl("annotate", "namespace", OPERATOR_NAMESPACE, switch)
    fleet.apply(a_proxy(fleet.namespace, "2"), a_deployment("new", fleet.namespace))
    status = fleet.wait("Stopped")
    assert status["targets"]["pending"] == 5
    fleet.kubectl("delete", "sidecarpolicy", "web", "--wait=false")
    fleet.wait("Removing")
    assert "sidecars.dev/stop" in fleet.condition("Ready")["message"]
    assert len(at_tag(fleet, "1")) == 4
    assert init_names(fleet.deployment("new")) == []
    fleet.kubectl("annotate", "namespace", OPERATOR_NAMESPACE, f"{names.STOP}-")
    fleet.kubectl("wait", "--for=delete", "sidecarpolicy/web", "--timeout=60s")
    assert {tuple(init_names(each)) for each in fleet.deployments().values()} == {()}
