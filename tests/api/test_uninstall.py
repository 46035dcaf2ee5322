"""Leaving in every order, with the operator at work or gone already: what hangs says why, and one command ends it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import localcluster
from sidecarpolicy import names
from sidecarpolicy.cli.main import main
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.conftest import OPERATOR_NAMESPACE, kubeconfig_of
from tests.fleet import Fleet, init_names, traces
from tests.polling import poll
from tests.running import Operator

ROOT = Path(__file__).parents[2]
POLICIES = "sidecarpolicies,clustersidecarpolicies --all --all-namespaces"
RECORD = '{"policies":{}}'


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A cluster of its own: its kinds are taken away."""
    with localcluster.start(f"kube-leave-{os.getpid()}") as running:
        yield running


def install(server: localcluster.Cluster) -> None:
    """Put the kinds and the rights there, and the namespace of the Deployments, as soon as no older one goes."""
    server.kubectl("apply", "--filename", str(ROOT / "crds"))
    server.await_definitions()
    access = ("apply", "--kustomize", str(ROOT / "deploy/base/access"))
    poll(lambda: server.kubectl(*access, check=False), until=lambda done: not done.returncode)
    server.kubectl(
        "wait", "--for=create", "serviceaccount/default", f"--namespace={OPERATOR_NAMESPACE}", "--timeout=120s"
    )


def apply(server: localcluster.Cluster, *bodies: Manifest) -> None:
    """Apply them, and the namespace of the Deployments, as soon as no older one goes any more."""
    place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [place, *bodies]})
    poll(
        lambda: server.kubectl("apply", "--filename=-", input=text, check=False), until=lambda done: not done.returncode
    )


@pytest.fixture
def installed(server: localcluster.Cluster) -> localcluster.Cluster:
    """With the kinds, and policies of an operator that has gone: their finalizers hold them."""
    install(server)
    policies = [a_policy("web", "shop"), a_cluster_policy("mesh")]
    for each in policies:
        each["metadata"]["finalizers"] = [names.FINALIZER]
    cart = a_deployment("cart", "shop", annotations={names.RECORD: RECORD})
    apply(server, cart, *policies)
    return server


@pytest.fixture
def at_work(server: localcluster.Cluster, tmp_path: Path) -> Iterator[Fleet]:
    """With an operator that has brought the sidecars of a policy, and of a cluster policy whose removal is held."""
    install(server)
    mesh = a_cluster_policy("mesh", sidecars=[a_sidecar("mesh")])
    with Operator(kubeconfig_of("sidecarpolicy", server, tmp_path)):
        # Without replicas it is complete at once: there are no nodes here.
        apply(server, a_deployment("cart", "shop", replicas=0), a_policy("web", "shop"), mesh)
        fleet = Fleet(server, "shop")
        fleet.wait("RolloutComplete")
        fleet.wait("RolloutComplete", "mesh", kind=names.CLUSTER_POLICY)
        yield fleet
    server.kubectl("delete", "lease", names.CONTROLLER, f"--namespace={OPERATOR_NAMESPACE}", "--ignore-not-found")


def run(server: localcluster.Cluster, *arguments: str) -> Manifest:
    """Exit code, standard output and error of a verb."""
    done = CliRunner().invoke(main, [*arguments, f"--kubeconfig={server.kubeconfig}"], catch_exceptions=False)
    return {"code": done.exit_code, "out": done.stdout, "err": done.stderr}


def failed(server: localcluster.Cluster) -> dict[str, str]:
    """What `check` finds failed, with its hints."""
    return hinted(server, "failed")


def hinted(server: localcluster.Cluster, *results: str) -> dict[str, str]:
    """What `check` finds, with its hints; of these *results* only, where some are given."""
    found = json.loads(run(server, "check", "--output=json")["out"])["checks"]
    return {each["message"]: each["hint"] for each in found if not results or each["result"] in results}


@pytest.mark.parametrize(
    ("first", "hangs", "described"),
    [
        (
            ["crd --all"],
            "sidecarpolicies.sidecars.dev is being deleted, and waits for its policies",
            ("crd sidecarpolicies.sidecars.dev", "InstanceDeletionInProgress"),
        ),
        (
            ["namespace shop"],
            "namespace shop is being deleted, and waits for its policies to go",
            ("namespace shop", f"{names.FINALIZER} in 1 resource instances"),
        ),
        ([POLICIES], "", ("sidecarpolicy web --namespace=shop", names.FINALIZER)),
        ([f"namespace {OPERATOR_NAMESPACE}", POLICIES], "", ("sidecarpolicy web --namespace=shop", names.FINALIZER)),
        (
            [f"--kustomize {ROOT / 'deploy'} --ignore-not-found"],  # everything at once
            "sidecarpolicies.sidecars.dev is being deleted, and waits for its policies",
            ("crd sidecarpolicies.sidecars.dev", "InstanceDeletionInProgress"),
        ),
    ],
    ids=["the kinds", "a namespace", "the policies", "the operator's namespace", "everything"],
)
def test_whatever_is_deleted_first_check_says_what_it_waits_for_and_release_ends_it(
    installed: localcluster.Cluster, first: list[str], hangs: str, described: tuple[str, str]
) -> None:
    for each in first:
        installed.kubectl("delete", *each.split(), "--wait=false")
    orphaned = "shop/web is being deleted, and there is no operator to take its sidecars out"
    found = poll(lambda: failed(installed), until=lambda found: orphaned in found and hangs in (*found, ""))
    assert "--keep-sidecars --without-operator" in found[orphaned]
    assert any(f"no operator has run in namespace {OPERATOR_NAMESPACE}" in each for each in found)
    what, says = described
    poll(lambda: installed.kubectl("describe", *what.split()).stdout, until=lambda text: says in text)
    refused = run(installed, "release", "--all", "--yes")
    assert refused["code"] == 1
    assert "Start it, for it is what removes sidecars" in refused["err"]
    left = run(installed, "release", "--all", "--yes", "--keep-sidecars", "--without-operator", "--timeout=60s")
    assert left["code"] == 0, left["err"]
    assert left["err"].endswith("then the kinds (kubectl delete -k crds)\n")
    installed.kubectl("delete", "--kustomize", str(ROOT / "crds"), "--ignore-not-found", "--timeout=60s")
    installed.kubectl("delete", "namespace", "shop", "--ignore-not-found", "--timeout=60s")
    assert installed.kubectl("get", "crd", "--output=name").stdout == ""


HELD = "cluster/mesh is being deleted, and held until removal@2 is approved"


def test_with_an_operator_a_namespace_goes_by_itself(at_work: Fleet) -> None:
    at_work.cluster.kubectl("delete", "namespace", "shop", "--timeout=60s")
    done = run(at_work.cluster, "release", "--all", "--yes", "--timeout=60s")
    assert done["code"] == 0, done["err"]


@pytest.mark.parametrize("first", ["crd --all", POLICIES], ids=["the kinds", "the policies"])
def test_with_an_operator_only_what_is_held_stays_and_everybody_says_how_it_goes_on(at_work: Fleet, first: str) -> None:
    server = at_work.cluster
    deleted = server.kubectl("delete", *first.split(), "--wait=false")
    # Who deletes a policy is warned; who deletes its kind deletes it by the hand of the API server.
    assert ("sidecarpolicy approve cluster/mesh" in deleted.stderr) == (first == POLICIES)
    hints = poll(lambda: hinted(server), until=lambda found: HELD in found)
    assert hints[HELD] == "sidecarpolicy approve cluster/mesh"
    at_work.wait_for(lambda cart: init_names(cart) == ["mesh"])
    described = server.kubectl("describe", "clustersidecarpolicy", "mesh").stdout
    assert "RemovalHeld" in described
    assert "approve" in described
    assert run(server, "approve", "cluster/mesh")["code"] == 0
    at_work.wait_for(lambda cart: init_names(cart) == [])
    server.kubectl("delete", "--kustomize", str(ROOT / "crds"), "--ignore-not-found", "--timeout=60s")
    assert traces([at_work.deployment()]) == []


def test_a_policy_says_from_its_first_day_what_to_do_where_the_operator_is_gone(at_work: Fleet) -> None:
    server = at_work.cluster
    for what, which in (("sidecarpolicy web -n shop", "-n shop web"), ("clustersidecarpolicy mesh", "cluster/mesh")):
        described = " ".join(server.kubectl("describe", *what.split()).stdout.split())
        assert f"gone: sidecarpolicy release --keep-sidecars --without-operator {which} " in described
    assert run(server, "release", "--all", "--yes", "--timeout=60s")["code"] == 0


def test_what_a_policy_says_there_is_what_lets_it_go(installed: localcluster.Cluster) -> None:
    entry = {"initContainers": ["proxy"], "revision": "web-0000000000"}
    record = json.dumps({"policies": {"SidecarPolicy/shop/web": entry, "ClusterSidecarPolicy//mesh": entry}})
    installed.kubectl("annotate", "deployment/cart", "-n", "shop", "--overwrite", f"{names.RECORD}={record}")
    for which in (["-n", "shop", "web"], ["cluster/mesh"]):
        done = run(installed, "release", "--keep-sidecars", "--without-operator", *which, "--yes", "--timeout=60s")
        assert done["code"] == 0, done["err"]
        assert f"took what is gone in the annotation {names.RECORD} off 1 Deployment" in done["err"]
    assert installed.kubectl("get", "sidecarpolicies,clustersidecarpolicies", "-A", "--output=name").stdout == ""
    cart = json.loads(installed.kubectl("get", "deployment/cart", "-n", "shop", "-o", "json").stdout)
    assert names.RECORD not in cart["metadata"]["annotations"]


def test_a_record_goes_with_the_last_policy_and_no_pod_restarts(installed: localcluster.Cluster) -> None:
    def cart() -> Manifest:
        body: Manifest = json.loads(installed.kubectl("get", "deployment/cart", "-n", "shop", "-o", "json").stdout)
        return body

    before = cart()
    done = run(installed, "release", "--all", "--yes", "--keep-sidecars", "--without-operator", "--timeout=60s")
    assert done["code"] == 0, done["err"]
    assert names.RECORD not in cart()["metadata"]["annotations"]
    assert cart()["spec"] == before["spec"]


def test_before_the_install_check_looks_at_the_cluster_and_at_rights(server: localcluster.Cluster) -> None:
    assert run(server, "check", "--pre")["code"] == 0
    nobody = run(server, "check", "--pre", "--as=nobody", "--as-group=system:authenticated")
    assert nobody["code"] == 1
    assert "you may not create customresourcedefinitions.apiextensions.k8s.io" in nobody["out"]
