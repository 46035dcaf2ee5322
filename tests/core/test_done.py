"""A target that is done does not change by its revision being called complete, whatever else is true of it."""

from __future__ import annotations

from itertools import product
from typing import TypeVar

from hypothesis import assume, given
from hypothesis import strategies as st

from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import Target, target
from sidecarpolicy.core.record import Note
from sidecarpolicy.core.workload import Child, Workload
from tests.core.objects import START, WEB, a_condition, a_record, a_replica_set, a_status_writer, a_workload

Value = TypeVar("Value")
MOMENTS = st.sampled_from([0, 60, 90, 100, 120, 200, 700])
NOW = st.sampled_from([90, 120, 200, 700, 700, 800])
PROGRESSING = ["NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded"]


def mostly(draw: st.DrawFn, usual: Value, *others: Value) -> Value:
    """The usual, nine times out of ten: most of what is drawn so is done."""
    return draw(st.sampled_from([usual] * 9 * len(others) + [*others]))


CLEARED = st.sampled_from([0.0, START + 100, START + 700])


@st.composite
def records(draw: st.DrawFn) -> str:
    """A record of web-a or web-b, as a step or a join of some moment left it."""
    note = Note(
        stepped=draw(st.sampled_from([0.0, START + 60, START + 100])),
        unhealthy_before=draw(st.booleans()),
        previous=draw(st.sampled_from(["", "web-a"])),
    )
    return a_record(mostly(draw, "web-b", "web-a"), note=note, joined=mostly(draw, False, True))


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Workload, list[Child]]:
    """A Deployment, with what its controller made of it."""
    record, replicas = draw(records()), mostly(draw, 2, 0)
    status = (mostly(draw, replicas, 1, 3), mostly(draw, replicas, 0, 1), mostly(draw, replicas, 0, 1))
    told = [
        a_condition("Available", mostly(draw, "True", "False"), changed=draw(MOMENTS)),
        a_condition("Progressing", "True", mostly(draw, *PROGRESSING), updated=draw(MOMENTS), changed=draw(MOMENTS)),
    ]
    workload = a_workload(
        record=record,
        replicas=replicas,
        generation=2,
        observed=mostly(draw, 2, 1),
        status=status,
        conditions=mostly(draw, told, []),
        metadata={"managedFields": [a_status_writer(draw(MOMENTS))]},
    )
    children = [
        a_replica_set(number, draw(st.sampled_from([record, a_record("web-a"), None])), pods, created=draw(MOMENTS))
        for number, pods in enumerate(draw(st.lists(st.sampled_from([0, 1, 2]), max_size=3)), start=1)
    ]
    return workload, children


ROLLOUTS = [
    Rollout(min_ready_seconds=soak, progress_deadline_seconds=deadline)
    for soak, deadline in product((0, 30), (60, 600))
]


@given(workloads(), st.sampled_from(ROLLOUTS), st.sampled_from([None, "web-a"]), NOW, CLEARED)
def test_what_is_done_stays_as_it_is_when_its_revision_is_complete(
    found: tuple[Workload, list[Child]], rollout: Rollout, current: str | None, seconds: int, cleared_at: float
) -> None:
    workload, children = found

    def seen(current: str | None) -> Target:
        return target(
            WEB,
            "web-b",
            workload,
            children,
            None,
            rollout=rollout,
            now=START + seconds,
            attempt="web-b#1",
            current=current,
            cleared_at=cleared_at,
        )

    assume(seen(current).is_done)
    assert seen(current) == seen("web-b")
