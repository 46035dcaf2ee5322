"""The operator at work on a real API server with simulated nodes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

import localcluster
from sidecarpolicy.cli.main import main
from tests.fleet import Fleet
from tests.running import Operator

Command = Callable[..., Result]


@pytest.fixture
def fleet(cluster: localcluster.Cluster, namespace: str, operator: Operator) -> Fleet:
    """An empty namespace, with the operator running."""
    return Fleet(cluster, namespace)


@pytest.fixture
def verb(fleet: Fleet) -> Command:
    """Runs `sidecarpolicy VERB …` as the administrator, in the fleet's namespace."""

    def run(*arguments: str) -> Result:
        where = [f"--kubeconfig={fleet.cluster.kubeconfig}", f"--namespace={fleet.namespace}"]
        return CliRunner().invoke(main, [*arguments, *where], catch_exceptions=False)

    return run


@pytest.fixture
def alone(cluster: localcluster.Cluster, namespace: str, operator_of_the_session: Operator) -> Fleet:
    """An empty namespace, and no operator: the test runs its own."""
    operator_of_the_session.stop()
    return Fleet(cluster, namespace)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what writes statuses itself, while no operator runs; last what judges the whole session."""
    items.sort(key=lambda item: ("tests/api" in item.nodeid) - ("test_crds" in item.nodeid))
    items.sort(key=lambda item: "test_rights_used" in item.nodeid)
