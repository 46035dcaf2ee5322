"""Where the witness performs: a namespace per test on the real node, with its images and its records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pykube
import pytest

import localcluster
from localcluster import images
from tests.node.lifecycle.stage import Stage, a_stage
from tests.running import Operator


@pytest.fixture(scope="session")
def lifecycle_node(node: localcluster.Cluster) -> localcluster.Cluster:
    """The real node, with the witness' images."""
    for tag in (1, 2):
        node.load_image(images.witness(tag))
    return node


@pytest.fixture
def stage(
    lifecycle_node: localcluster.Cluster,
    node_api: pykube.HTTPClient,
    node_operator: Operator,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Stage]:
    """An empty namespace named after the test, with the operator running."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    with a_stage(lifecycle_node, node_api, words[:40].strip("-"), tmp_path) as made:
        yield made
