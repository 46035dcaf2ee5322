"""A control plane of its own: these tests freeze and restart parts of it, and bring their own operators."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import localcluster
from tests.chaos.stage import a_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[localcluster.Cluster]:
    """A control plane with simulated nodes, our kinds and the operator's rights; no operator."""
    with a_cluster(f"chaos-{os.getpid()}", nodes=1) as running:
        yield running
