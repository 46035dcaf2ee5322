"""The lifecycle scenarios that a Pod alone can show: all at once, each in a Pod of its own (see table.py).

Where a policy can make the order of a scenario, its sidecars come from our injection.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pykube
import pytest

import localcluster
from tests.node.lifecycle.performing import perform
from tests.node.lifecycle.scenarios import Scenario
from tests.node.lifecycle.stage import a_stage
from tests.node.lifecycle.table import SCENARIOS
from tests.node.lifecycle.watching import PodWatch

AT_ONCE = 16

# One of each kind, none of which waits for the kubelet's back-off: `make test` runs these, `make test-long` the others.
QUICK = frozenset(
    {"1", "2", "5", "9-Never", "16", "20", "21-Always", "22", "25", "26-deleted", "28", "30", "31", "32", "33"}
)


@pytest.fixture(scope="module")
def performances(
    lifecycle_node: localcluster.Cluster,
    node_api: pykube.HTTPClient,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[None]]]:
    """Every scenario that was selected, under way: the longest first."""
    chosen = [each for item in request.session.items for each in _performed_by(item)]
    with (
        a_stage(lifecycle_node, node_api, "scenarios", tmp_path_factory.mktemp("records")) as stage,
        PodWatch(lifecycle_node.kubeconfig, stage.namespace) as watch,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        yield {each.number: pool.submit(perform, stage, watch, each) for each in sorted(chosen, key=_patience)}


def _performed_by(item: pytest.Item) -> list[Scenario]:
    """The scenario of one of the tests below; none of another test."""
    call = getattr(item, "callspec", None)
    return [call.params["scenario"]] if call and item.path.samefile(__file__) else []


def _patience(scenario: Scenario) -> int:
    """Those that wait for the kubelet's back-off take the longest."""
    return -max([0, *scenario.at_least.values()])


def _marks(scenario: Scenario) -> tuple[pytest.MarkDecorator, ...]:
    return () if scenario.number in QUICK else (pytest.mark.long,)


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.number, marks=_marks(each)) for each in SCENARIOS])
def test_a_pod_lives_as_promised(scenario: Scenario, performances: dict[str, Future[None]]) -> None:
    performances[scenario.number].result()
