"""The commands of each page, one after the other, in a shell and on an API server of their own, as a reader types them.

The nodes are simulated: Pods are said to run, and nothing runs in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import localcluster
from tests.docs.blocks import POLICIES, ROOT, Block, blocks
from tests.docs.scenes import SCENES
from tests.docs.stage import Stage
from tests.docs.walking import walk

pytestmark = pytest.mark.long

REGISTRY = "registry.example.test"
ON_A_CLUSTER = [page for page, scene in SCENES.items() if scene.begin is not None]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A shell, and a cluster in which nothing is installed."""
    with localcluster.start(f"docs-{os.getpid()}", simulated_nodes=3) as cluster:
        reader = Stage(folder=tmp_path, cluster=cluster, words={"REGISTRY": REGISTRY})
        yield reader
        reader.end()


@pytest.mark.parametrize("page", ON_A_CLUSTER)
def test_the_commands_of_a_page_do_what_it_says(stage: Stage, page: str) -> None:
    walk(stage, page)


@pytest.mark.parametrize("block", POLICIES, ids=lambda block: block.place)
def test_the_server_takes_a_policy_of_a_page(cluster: localcluster.Cluster, namespace: str, block: Block) -> None:
    policy = yaml.safe_load(block.text)
    if "namespace" in policy["metadata"]:  # where a page is read there is one of that name
        policy["metadata"]["namespace"] = namespace
    applied = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", input=yaml.dump(policy))
    assert applied.stdout.endswith("created (server dry run)\n")
    assert applied.stderr == ""


KUSTOMIZATIONS = [each for each in blocks("docs/install.md") if "kind: Kustomization" in each.text]


@pytest.mark.parametrize("block", KUSTOMIZATIONS, ids=lambda block: block.place)
def test_a_kustomization_of_ones_own_names_another_image(
    cluster: localcluster.Cluster, tmp_path: Path, block: Block
) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "kustomization.yaml").write_text(block.text.replace("REGISTRY", REGISTRY).replace("# comp", "comp"))
    made = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(tmp_path)).stdout))
    pods = [each["spec"]["template"]["spec"] for each in made if each["kind"] == "Deployment"]
    assert pods
    assert {pod["containers"][0]["image"] for pod in pods} == {f"{REGISTRY}/sidecarpolicy:0.1.0"}
