"""The operator at work on a real API server with simulated nodes."""

from __future__ import annotations

import localcluster
import pytest

from tests.fleet import Fleet
from tests.running import Operator


@pytest.fixture
def fleet(cluster: localcluster.Cluster, namespace: str, operator: Operator) -> Fleet:
    """An empty namespace, with the operator running."""
    return Fleet(cluster, namespace)
