"""What owners and their tools do with a Deployment afterwards, on a real API server: who wrote what is its to say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from sidecarpolicy import names
from sidecarpolicy.cli.main import main
from sidecarpolicy.core.tree import items
from tests import kube
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, image_of, init_names, traces
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
OURS = [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}]


def a_shop(fleet: Fleet, deployment: Manifest | None = None, **spec: Any) -> Manifest:
    """A Deployment that has what a policy injects, applied client-side."""
    fleet.apply(deployment or a_deployment("cart", fleet.namespace))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, **spec))
    fleet.wait("RolloutComplete")
    return fleet.deployment()


def own_env(deployment: Manifest) -> dict[str, str]:
    """The variables of the application, in their order."""
    (app,) = deployment["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in items(app, "env")}


def patched(fleet: Fleet, spec: Manifest, manager: str) -> None:
    """A strategic merge patch of the Pod's spec, as Helm 3 sends it."""
    patch = json.dumps({"spec": {"template": {"spec": spec}}})
    fleet.kubectl("patch", "deployment", "cart", f"--field-manager={manager}", f"--patch={patch}")


def applied(fleet: Fleet, env: list[Manifest]) -> None:
    """A server-side apply of the Deployment with these variables of its application."""
    with_it = a_deployment("cart", fleet.namespace)
    with_it["spec"]["template"]["spec"]["containers"][0]["env"] = env
    fleet.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=json.dumps(with_it))


def forced(fleet: Fleet, deployment: Manifest) -> None:
    """A server-side apply with force by another manager, as Flux and Argo CD do it."""
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=robot", "--filename=-")
    fleet.kubectl(*apply, input=json.dumps(deployment))


def with_init_containers(deployment: Manifest, *containers: Manifest) -> Manifest:
    """The Deployment with these in its Pod's spec."""
    pod = deployment["spec"]["template"]["spec"] | {"initContainers": list(containers)}
    return a_deployment("cart", deployment["metadata"]["namespace"], pod=pod)


def a_container_taken_over(fleet: Fleet) -> tuple[Manifest, Manifest]:
    """Have an owner apply a container of our sidecar's name; return what they applied before, and its template."""
    plain = a_deployment("cart", fleet.namespace)
    forced(fleet, plain)
    template = fleet.templates()["cart"]
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    fleet.wait("RolloutComplete")
    forced(fleet, with_init_containers(plain, {"name": "proxy", "image": "example.test/mine:7"}))
    return plain, template


def warned(fleet: Fleet, reason: str) -> str:
    """The message of that warning, or nothing."""
    found = items(fleet.status(), "warnings")
    return next((str(each["message"]) for each in found if each["reason"] == reason), "")


def generation(fleet: Fleet) -> int:
    """The Deployment's."""
    return int(fleet.deployment()["metadata"]["generation"])


@pytest.mark.parametrize("how", ["kubectl set env", "helm", "server-side apply"])
def test_a_variable_that_its_owner_sets_afterwards_is_theirs(fleet: Fleet, how: str) -> None:
    a_shop(fleet, application={"env": OURS})
    mine = "http://mine:8080"
    if how == "helm":
        patched(fleet, {"containers": [{"name": "app", "env": [{"name": "HTTP_PROXY", "value": mine}]}]}, "helm")
    elif how == "kubectl set env":
        fleet.kubectl("set", "env", "deployment/cart", f"HTTP_PROXY={mine}")
    else:
        applied(fleet, [{"name": "HTTP_PROXY", "value": mine}])
    poll(lambda: fleet.messages("cart", "LeftToOwner"))
    assert own_env(fleet.deployment()) == {"HTTP_PROXY": mine}
    poll(lambda: "HTTP_PROXY" in warned(fleet, "EnvKept"))
    fleet.delete_policy()
    left = fleet.deployment()
    assert (own_env(left), init_names(left)) == ({"HTTP_PROXY": mine}, [])
    assert names.RECORD not in left["metadata"]["annotations"]


def test_a_container_of_our_name_in_a_chart_is_a_conflict_that_names_helm(fleet: Fleet) -> None:
    a_shop(fleet)
    patched(fleet, {"initContainers": [{"name": "proxy", "image": "my-migrate:7", "command": ["migrate"]}]}, "helm")
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "NameConflict" and "'helm' declares it too" in skipped["message"]
    (container,) = fleet.deployment()["spec"]["template"]["spec"]["initContainers"]
    assert (container["image"], container["command"]) == ("my-migrate:7", ["migrate"])


def test_a_claim_that_an_owner_gives_up_is_theirs_no_more(fleet: Fleet) -> None:
    """By server-side apply of the whole template, then without the sidecar: that changes nothing but who owns it."""
    live = a_shop(fleet)
    whole = {**live, "metadata": {"name": "cart", "namespace": fleet.namespace}}
    del whole["status"]
    forced(fleet, whole)
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert "'robot' declares it too" in skipped["message"]
    del whole["spec"]["template"]["spec"]["initContainers"]
    forced(fleet, whole)
    fleet.wait("RolloutComplete")
    assert init_names(fleet.deployment()) == ["proxy"]


@pytest.mark.parametrize("how", ["the policy is deleted", "the owner opts out"])
def test_a_container_that_an_owner_took_over_can_be_taken_out_after_the_removal(fleet: Fleet, how: str) -> None:
    """By server-side apply with force, as Flux and Argo CD do it: nothing of ours may hold a part of it."""
    plain, template = a_container_taken_over(fleet)
    fleet.wait("AllSkipped")
    if how == "the policy is deleted":
        fleet.delete_policy()
    else:
        fleet.kubectl("label", "deployment", "cart", f"{names.INJECT}=false")
    poll(lambda: all(names.FIELD_MANAGER not in each for each in traces([fleet.deployment()])))
    forced(fleet, plain)
    assert fleet.templates()["cart"] == template


def test_a_container_that_an_owner_took_over_can_be_taken_out_as_the_conflict_asks(fleet: Fleet) -> None:
    plain, template = a_container_taken_over(fleet)
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "NameConflict"
    poll(lambda: "f:initContainers" not in json.dumps(ours_in(fleet.deployment())))
    forced(fleet, with_init_containers(plain, {"name": "mine", "image": "example.test/mine:7"}))
    fleet.wait("RolloutComplete")
    assert sorted(init_names(fleet.deployment())) == ["mine", "proxy"]
    assert image_of(fleet.deployment(), "proxy") == "example.test/proxy:1"
    forced(fleet, plain)
    fleet.delete_policy()
    assert fleet.templates()["cart"] == template


def ours_in(deployment: Manifest) -> list[Manifest]:
    """What our field manager owns."""
    return [each for each in deployment["metadata"]["managedFields"] if each["manager"] == names.FIELD_MANAGER]


def test_a_volume_that_what_is_left_to_its_owner_mounts_holds_no_removal(fleet: Fleet) -> None:
    """A client-side apply merges the owner's container into ours, whose mounts it keeps."""
    mounts = {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}
    a_shop(fleet, sidecars=[a_sidecar(container=mounts)], volumes=[{"name": "cache", "emptyDir": {}}])
    own = {"name": "proxy", "image": "example.test/mine:7"}
    pod = a_deployment()["spec"]["template"]["spec"] | {"initContainers": [own]}
    fleet.apply(a_deployment("cart", fleet.namespace, pod=pod))
    fleet.wait("AllSkipped")
    fleet.delete_policy()
    (said,) = poll(lambda: fleet.messages("cart", "SidecarsRemoved"))
    assert said.endswith("left because changed by others: init container 'proxy', volume 'cache'")
    fleet.apply(a_deployment("cart", fleet.namespace))
    assert init_names(fleet.deployment()) == []


def test_a_variable_that_an_owner_took_over_and_gives_up_is_the_policys_again(fleet: Fleet) -> None:
    """By server-side apply: no variable without a value may be left of it."""
    applied(fleet, [])
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, application={"env": OURS}))
    fleet.wait("RolloutComplete")
    applied(fleet, [{"name": "HTTP_PROXY", "value": "mine"}])
    poll(lambda: fleet.messages("cart", "LeftToOwner"))
    poll(lambda: own_env(fleet.deployment()), until=lambda found: found == {"HTTP_PROXY": "mine"})
    poll(lambda: not ours_in_env(fleet))
    applied(fleet, [])
    poll(lambda: own_env(fleet.deployment()), until=lambda found: found == {"HTTP_PROXY": OURS[0]["value"]})


def ours_in_env(fleet: Fleet) -> bool:
    """Whether our field manager owns a variable of the application."""
    return "f:env" in json.dumps(ours_in(fleet.deployment()))


def test_what_was_handed_over_can_be_taken_over_and_out_by_its_owner(fleet: Fleet) -> None:
    plain = a_deployment("cart", fleet.namespace)
    fleet.apply(plain, server_side=True)
    template = fleet.templates()["cart"]
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, deletionPolicy="Orphan"))
    fleet.wait("RolloutComplete")
    fleet.delete_policy()
    poll(lambda: "f:initContainers" not in json.dumps(fleet.deployment()["metadata"]["managedFields"]))
    own = {"name": "proxy", "image": "example.test/mine:7", "restartPolicy": "Always"}
    pod = plain["spec"]["template"]["spec"]
    fleet.apply(a_deployment("cart", fleet.namespace, pod=pod | {"initContainers": [own]}), server_side=True)
    fleet.apply(plain, server_side=True)
    assert fleet.templates()["cart"] == template


def test_a_sidecar_that_is_edited_by_hand_is_repaired_with_the_field_and_who_it_was(fleet: Fleet) -> None:
    a_shop(fleet)
    patched(fleet, {"initContainers": [{"name": "proxy", "image": "mine:7"}]}, "kubectl-edit")
    said = poll(lambda: [each for each in fleet.messages("cart", "SidecarsInjected") if "repaired" in each])
    assert "image of init container 'proxy' was \"mine:7\" instead of" in said[0]
    assert said[0].endswith("(by 'kubectl-edit')")


@pytest.mark.parametrize("how", ["set env", "server-side apply"])
def test_a_variable_that_refers_to_one_that_is_added_later_comes_after_it(fleet: Fleet, how: str) -> None:
    a_shop(fleet, application={"env": [{"name": "ATTRS", "value": "service=$(APP_NAME)"}]})
    if how == "set env":
        fleet.kubectl("set", "env", "deployment/cart", "APP_NAME=cart")
    else:
        applied(fleet, [{"name": "APP_NAME", "value": "cart"}])
    poll(lambda: [*own_env(fleet.deployment())], until=lambda found: found == ["APP_NAME", "ATTRS"])


@pytest.mark.parametrize("how", ["through the API", "kubectl create"])
def test_a_copy_in_another_namespace_is_taken_over_by_the_policy_there(fleet: Fleet, how: str) -> None:
    cart = a_shop(fleet)
    there = Fleet(fleet.cluster, f"{fleet.namespace}-copy")
    fleet.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": there.namespace}})
    try:
        kept = {key: cart["metadata"][key] for key in ("name", "annotations", "labels") if key in cart["metadata"]}
        copy = {**cart, "metadata": kept | {"namespace": there.namespace}}
        if how == "kubectl create":  # its annotation declares all that is there: it is the owner's from now on
            there.kubectl("create", "--filename=-", input=json.dumps({**copy, "status": {}}))
        else:
            kube.create(kube.client(fleet.cluster.kubeconfig), {**copy, "status": {}})
        there.apply(a_policy("web", there.namespace, rollout=QUICK))
        there.wait("RolloutComplete")
        place = [f"--namespace={there.namespace}", f"--kubeconfig={fleet.cluster.kubeconfig}"]
        told = CliRunner().invoke(main, ["targets", "web", *place, "--output=json"])
        (target,) = json.loads(told.stdout)["targets"]
        assert (target["name"], target["state"]) == ("cart", "updated")
        assert there.deployment()["spec"]["template"] == cart["spec"]["template"]
        assert f"SidecarPolicy/{fleet.namespace}/web" not in there.deployment()["metadata"]["annotations"][names.RECORD]
        there.delete_policy()
        assert init_names(there.deployment()) == (["proxy"] if how == "kubectl create" else [])
        assert init_names(fleet.deployment()) == ["proxy"]
    finally:
        fleet.kubectl("delete", "namespace", there.namespace, "--wait=false")


@pytest.mark.parametrize(
    ("container", "pod", "told"),
    [
        ({"securityContext": {"procMount": "Unmasked"}}, {"hostUsers": False}, "`hostUsers` must be false"),
        (
            {"resources": {"claims": [{"name": "gpu"}]}},
            {"resourceClaims": [{"name": "gpu", "resourceClaimName": "x"}]},
            'resources.claims[0]: Not found: "gpu"',
        ),
        (
            {"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}},
            {"terminationGracePeriodSeconds": 120},
            "less than terminationGracePeriodSeconds (30)",
        ),
    ],
    ids=["procMount", "claims", "sleep"],
)
def test_what_the_server_checks_against_the_rest_of_the_pod_is_decided_for_each_target(
    fleet: Fleet, container: Manifest, pod: Manifest, told: str
) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace, pod=pod), a_deployment("odd", fleet.namespace))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar(container=container)]))
    (failure,) = poll(lambda: fleet.status().get("failures", []))
    assert (failure["name"], failure["reason"]) == ("odd", "Refused")
    assert told in failure["message"]
    poll(lambda: init_names(fleet.deployment()), until=lambda found: found == ["proxy"])  # be it that no node has it


def test_a_field_of_a_feature_that_the_server_does_not_have_is_named(fleet: Fleet) -> None:
    lifecycle = {"lifecycle": {"stopSignal": "SIGUSR1"}}
    cart = a_shop(fleet, sidecars=[a_sidecar(container=lifecycle)])
    (container,) = cart["spec"]["template"]["spec"]["initContainers"]
    if "stopSignal" in container["lifecycle"]:
        assert warned(fleet, "DroppedField") == ""
    else:
        assert container["lifecycle"] == {}, "the seal"
        assert warned(fleet, "DroppedField").startswith("spec.sidecars[0].container.lifecycle.stopSignal:")


def test_a_list_that_every_apply_empties_is_told_beforehand(fleet: Fleet) -> None:
    owners = a_deployment("cart", fleet.namespace)
    owners["spec"]["template"]["spec"]["containers"][0]["env"] = None
    a_shop(fleet, owners, application={"env": OURS})
    poll(lambda: "`env:` without a value of container 'app'" in warned(fleet, "EmptiedByApply"))
    before = generation(fleet)
    fleet.apply(owners)
    poll(lambda: generation(fleet) > before and own_env(fleet.deployment()) == {"HTTP_PROXY": OURS[0]["value"]})


def test_volumes_that_every_apply_would_empty_keep_the_policy_off_until_that_is_mended(fleet: Fleet) -> None:
    owners = a_deployment("cart", fleet.namespace)
    owners["spec"]["template"]["spec"]["volumes"] = None
    fleet.apply(owners)
    logs = {"container": {"image": "example.test/proxy:1", "volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}}
    volumes = [{"name": "logs", "emptyDir": {}}]
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[{"name": "proxy", **logs}], volumes=volumes))
    (skipped,) = fleet.wait("AllSkipped")["skipped"]
    assert skipped["reason"] == "EmptiedByApply"
    fleet.apply(owners)
    fleet.apply(a_deployment("cart", fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_deployment("cart", fleet.namespace))
    assert init_names(fleet.deployment()) == ["proxy"]
