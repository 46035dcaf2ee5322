"""The benchmarks in short: what may not grow with the fleet, counted at the server's side, on a fleet of a hundred.

How fast all of it is, against which yardstick, `make bench-scale` measures; a busy machine cannot fail these.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.bench.scale import bare, fanout, loading, workloads
from tests.bench.scale.processes import await_quiet, operator
from tests.bench.scale.requests import BARE_USER, Log
from tests.bench.scale.stage import Stage, a_stage

MANY = 100
IDLE_POLICIES = 20
OTHER_REQUESTS = 40
"""So many requests a rollout may take beside a patch and an Event for each: dry runs, revisions, statuses, Lease."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A fleet without controllers, injected."""
    make = partial(loading.create_deployments, count=MANY, settled=True)
    with a_stage("short", make, keep=False) as stage:
        stage.apply_policy(0, rollout=workloads.ALL_AT_ONCE)
        yield stage


def test_an_edit_to_all_is_one_patch_each(stage: Stage) -> None:
    with operator(stage.account) as process:
        stage.await_updated(MANY)
        await_quiet(process.pid)
        turn = fanout.edited(stage, process, MANY, 1)
    assert (turn.patches, turn.failed_patches) == (MANY, 0)
    assert turn.others.total() <= MANY + OTHER_REQUESTS


def test_the_bare_client_sends_one_patch_each(stage: Stage) -> None:
    log = Log.begin(stage.cluster)
    bare.run("patch", stage.bare, "--tag", "1")
    patches = log.patches(BARE_USER)
    assert len({(each.namespace, each.name) for each in patches}) == len(patches) == MANY


def test_policies_that_select_nothing_cost_no_writes_in_a_rollout(stage: Stage) -> None:
    idle = workloads.idle_policies(IDLE_POLICIES)
    loading.create_policies(stage.cluster, idle)
    with operator(stage.account) as process:
        stage.await_updated(MANY)
        await_quiet(process.pid)
        log = Log.begin(stage.cluster)
        fanout.edited(stage, process, MANY, 2)
    named = {each["metadata"]["name"] for each in idle}
    assert not [each for each in log.of() if each.is_write and each.name in named]


def test_a_start_over_a_fleet_at_rest_writes_nothing(stage: Stage) -> None:
    log = Log.begin(stage.cluster)
    with operator(stage.account) as process:
        stage.await_updated(MANY)
        await_quiet(process.pid)
        written = [each for each in log.of() if each.is_write and each.resource != "leases"]
    assert not written
