"""A namespace that enforces a Pod Security Standard: what would be refused there is not tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import localcluster
from tests.audit import Audit
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
HARMLESS: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
FOR_ALL: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
ENFORCE = "pod-security.kubernetes.io/enforce"


def restrict(fleet: Fleet, level: str = "restricted") -> None:
    """Let the namespace enforce a standard."""
    fleet.cluster.kubectl("label", "--overwrite", "namespace", fleet.namespace, f"{ENFORCE}={level}")


def an_application(name: str, namespace: str, *, for_all: Manifest | None, **own: Any) -> Manifest:
    """A Deployment whose Pods a restricted namespace takes; *for_all*: what its template says for all containers."""
    container = {"name": "app", "image": "example.test/app:1", "securityContext": HARMLESS | FOR_ALL | own}
    pod: Manifest = {"containers": [container]}
    return a_deployment(name, namespace, pod=pod | ({"securityContext": for_all} if for_all else {}))


def the_policy(namespace: str, context: Manifest) -> Manifest:
    """A policy whose sidecar has that securityContext."""
    return a_policy("web", namespace, rollout=QUICK, sidecars=[a_sidecar(container={"securityContext": context})])


def asked(cluster: localcluster.Cluster, namespace: str) -> int:
    """How many Pods the operator has asked about in a namespace."""
    assert cluster.audit_log is not None
    found = Audit(cluster.audit_log, 0).requests()
    return sum((each.resource, each.verb, each.namespace) == ("pods", "create", namespace) for each in found)


def test_what_would_be_refused_is_skipped_with_the_servers_words_and_goes_on_when_that_is_allowed(
    fleet: Fleet, cluster: localcluster.Cluster
) -> None:
    restrict(fleet)
    several = [f"cart-{number}" for number in range(4)]
    fleet.apply(*(an_application(name, fleet.namespace, for_all=FOR_ALL) for name in several))
    before = fleet.templates()
    fleet.apply(the_policy(fleet.namespace, {"privileged": True}))
    status = fleet.wait("AllSkipped")
    (skipped,) = status["skipped"]
    assert (skipped["reason"], skipped["count"]) == ("PodSecurity", len(several))
    assert 'violates PodSecurity "restricted:latest": privileged (container "proxy" must not' in skipped["message"]
    assert fleet.templates() == before
    told = poll(lambda: fleet.messages("cart-0", "SidecarsSkipped"))
    assert "violates PodSecurity" in told[0]
    poll(lambda: asked(cluster, fleet.namespace) == 2)  # with the sidecar, and without: for all four of them
    restrict(fleet, "privileged")
    status = fleet.wait("RolloutComplete")
    assert status["targets"]["updated"] == len(several)
    poll(lambda: asked(cluster, fleet.namespace) == 3)


def test_a_sidecar_that_meets_the_standard_is_injected(fleet: Fleet) -> None:
    restrict(fleet)
    fleet.apply(an_application("cart", fleet.namespace, for_all=None))
    fleet.apply(the_policy(fleet.namespace, HARMLESS | FOR_ALL))
    assert fleet.wait("RolloutComplete")["skipped"] == []
    assert init_names(fleet.deployment()) == ["proxy"]


def test_what_a_template_says_for_all_containers_counts_for_the_sidecar(fleet: Fleet) -> None:
    restrict(fleet)
    fleet.apply(an_application("says", fleet.namespace, for_all=FOR_ALL))
    fleet.apply(an_application("says-nothing", fleet.namespace, for_all=None))
    fleet.apply(the_policy(fleet.namespace, HARMLESS))
    status = fleet.wait("RolloutComplete")
    (skipped,) = status["skipped"]
    assert (skipped["reason"], skipped["examples"]) == ("PodSecurity", [f"{fleet.namespace}/says-nothing"])
    assert init_names(fleet.deployment("says")) == ["proxy"]


def test_what_is_refused_for_its_owners_own_settings_is_no_skip(fleet: Fleet) -> None:
    restrict(fleet)
    root = {"runAsUser": 0}
    fleet.apply(an_application("cart", fleet.namespace, for_all=root, runAsUser=1000))
    fleet.apply(the_policy(fleet.namespace, HARMLESS | FOR_ALL | {"runAsUser": 1000}))
    fleet.wait_for(lambda found: init_names(found) == ["proxy"])
    assert fleet.status()["skipped"] == []


def test_what_is_there_when_a_namespace_becomes_stricter_is_kept(fleet: Fleet) -> None:
    fleet.apply(an_application("cart", fleet.namespace, for_all=FOR_ALL))
    fleet.apply(the_policy(fleet.namespace, {"privileged": True}))
    fleet.wait("RolloutComplete")
    restrict(fleet)
    fleet.apply(the_policy(fleet.namespace, {"privileged": True, "runAsUser": 1000}))
    status = fleet.wait("AllSkipped")
    assert [each["reason"] for each in status["skipped"]] == ["PodSecurity"]
    (container,) = fleet.deployment()["spec"]["template"]["spec"]["initContainers"]
    assert container["securityContext"] == {"privileged": True}


def test_the_operator_may_create_pods_by_dry_run_only(
    cluster: localcluster.Cluster, namespace: str, operator_kubeconfig: Path
) -> None:
    containers = [{"name": "app", "image": "example.test/app:1"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stowaway", "namespace": namespace},
        "spec": {"containers": containers, "automountServiceAccountToken": False},
    }
    poll(lambda: cluster.kubectl("get", "serviceaccount", "default", f"--namespace={namespace}", check=False).stdout)

    def create(*how: str) -> str:
        arguments = (f"--kubeconfig={operator_kubeconfig}", "create", "--filename=-", "--validate=false", *how)
        return cluster.kubectl(*arguments, input=json.dumps(pod), check=False).stderr

    assert create("--dry-run=server") == ""
    assert "the operator may create Pods by dry run only" in create()
    assert "NotFound" in cluster.kubectl("get", "pod", "stowaway", f"--namespace={namespace}", check=False).stderr


def test_what_is_not_admitted_does_not_take_the_place_of_a_policy_that_goes(fleet: Fleet) -> None:
    """That one goes all the same, and the other one is skipped from then on."""
    restrict(fleet, "baseline")
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.apply(the_policy(fleet.namespace, HARMLESS))
    fleet.wait("RolloutComplete")
    privileged = [a_sidecar(container={"securityContext": {"privileged": True}})]
    fleet.apply(a_policy("other", fleet.namespace, rollout=QUICK, sidecars=privileged))
    assert "Overridden" in fleet.wait("AllSkipped", "other")["skipped"][0]["reason"]
    fleet.delete_policy()
    assert init_names(fleet.deployment()) == []
    poll(lambda: [each["reason"] for each in fleet.status("other").get("skipped", [])] == ["PodSecurity"])
