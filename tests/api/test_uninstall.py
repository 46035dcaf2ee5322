"""Leaving in the wrong order, with the operator gone already: what hangs says why, and one command ends it."""

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
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy
from tests.polling import poll

ROOT = Path(__file__).parents[2]
RECORD = '{"policies":{}}'


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A cluster of its own: its kinds are taken away."""
    with localcluster.start(f"kube-leave-{os.getpid()}") as running:
        yield running


@pytest.fixture
def installed(server: localcluster.Cluster) -> localcluster.Cluster:
    """With the kinds, and policies of an operator that has gone: their finalizers hold them."""
    server.kubectl("apply", "--filename", str(ROOT / "crds"))
    server.await_definitions()
    server.kubectl("apply", "--kustomize", str(ROOT / "deploy/base/access"))
    policies = [a_policy("web", "shop"), a_cluster_policy("mesh")]
    for each in policies:
        each["metadata"]["finalizers"] = [names.FINALIZER]
    cart = a_deployment("cart", "shop", annotations={names.RECORD: RECORD})
    place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [place, cart, *policies]})
    poll(
        lambda: server.kubectl("apply", "--filename=-", input=text, check=False), until=lambda done: not done.returncode
    )
    return server


def run(server: localcluster.Cluster, *arguments: str) -> Manifest:
    """Exit code, standard output and error of a verb."""
    done = CliRunner().invoke(main, [*arguments, f"--kubeconfig={server.kubeconfig}"], catch_exceptions=False)
    return {"code": done.exit_code, "out": done.stdout, "err": done.stderr}


def failed(server: localcluster.Cluster) -> dict[str, str]:
    """What `check` finds failed, with its hints."""
    found = json.loads(run(server, "check", "--output=json")["out"])["checks"]
    return {each["message"]: each["hint"] for each in found if each["result"] == "failed"}


@pytest.mark.parametrize(
    ("first", "hangs"),
    [
        ("crd --all", "sidecarpolicies.sidecars.dev is being deleted, and waits for its policies"),
        ("namespace shop", "namespace shop is being deleted, and waits for its policies to go"),
        ("sidecarpolicies,clustersidecarpolicies --all --all-namespaces", ""),
    ],
)
def test_whatever_is_deleted_first_check_says_what_it_waits_for_and_release_ends_it(
    installed: localcluster.Cluster, first: str, hangs: str
) -> None:
    installed.kubectl("delete", *first.split(), "--wait=false")
    orphaned = "shop/web is being deleted, and there is no operator to take its sidecars out"
    found = poll(lambda: failed(installed), until=lambda found: orphaned in found and hangs in (*found, ""))
    assert "--keep-sidecars --without-operator" in found[orphaned]
    assert any("no operator has run in namespace sidecarpolicy-system" in each for each in found)
    refused = run(installed, "release", "--all", "--yes")
    assert refused["code"] == 1
    assert "Start it, for it is what removes sidecars" in refused["err"]
    left = run(installed, "release", "--all", "--yes", "--keep-sidecars", "--without-operator", "--timeout=60s")
    assert left["code"] == 0, left["err"]
    assert left["err"].endswith("then the kinds (kubectl delete -k crds)\n")
    installed.kubectl("delete", "--kustomize", str(ROOT / "crds"), "--ignore-not-found", "--timeout=60s")
    installed.kubectl("delete", "namespace", "shop", "--ignore-not-found", "--timeout=60s")
    assert installed.kubectl("get", "crd", "--output=name").stdout == ""


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
