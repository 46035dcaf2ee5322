"""One edit to every Deployment of a fleet, all at once, against a client that does nothing but send the patches.

No controllers: each Deployment has a status with which it counts as rolled out after every write, so that nothing but
the operator and the API server works. A round is the bare client and the operator, in alternating order; the operator
is started for its turn and has settled before the edit, and is not there in the other's.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from tests.bench.scale import bare, loading, workloads
from tests.bench.scale.processes import Profile, Program, await_quiet, memory_mib, operator
from tests.bench.scale.requests import BARE_USER, Answered, Log
from tests.bench.scale.results import Figures, Result, figures
from tests.bench.scale.stage import Stage, a_stage

ROUNDS = {300: 5, 2_000: 3, 10_000: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn took. Seconds are from the edit (or the first request) to the last patch's answer."""

    seconds: float
    cpu: float
    server_cpu: float
    patches: int
    others: Counter[str] = field(default_factory=Counter)
    """What else it asked for, and how often."""
    failed_patches: int = 0
    decided_seconds: float = 0.0
    """From the edit to the first patch."""
    complete_seconds: float = 0.0
    """From the edit to a status that says complete."""
    peak_mib: float = 0.0


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure a fleet of *size*."""
    make = partial(loading.create_deployments, count=size, settled=True)
    with a_stage(f"fanout-{size}", make) as stage:
        first = stage.apply_policy(0, rollout=workloads.ALL_AT_ONCE)
        with operator(stage.account):
            stage.await_updated(size)
        print(f"fan-out, {size}: first injection took {time.time() - first:.1f} s", flush=True)
        ours: list[Turn] = []
        theirs: list[Turn] = []
        for number in range(1, (rounds or ROUNDS.get(size, 3)) + 1):
            if number % 2:
                ours.append(operator_turn(stage, size, number))
            theirs.append(bare_turn(stage, number))
            if not number % 2:
                ours.append(operator_turn(stage, size, number))
            print(f"fan-out, {size}, round {number}: {_line(ours[-1], theirs[-1])}", flush=True)
    return Result(
        measurement="fanout",
        size=size,
        figures=_figures(size, ours, theirs),
        notes=[
            f"{len(ours)} rounds, the operator and the bare client ({bare.IN_FLIGHT} in flight) in turn",
            "besides the patches, in the last round: "
            + ", ".join(f"{times} {what}" for what, times in ours[-1].others.most_common()),
        ],
    )


def _line(ours: Turn, theirs: Turn) -> str:
    rate = theirs.seconds / ours.seconds
    each = 1000 * ours.cpu / ours.patches
    return (
        f"operator {ours.seconds:.2f} s, bare {theirs.seconds:.2f} s: {rate:.2f} of its rate, "
        f"{each:.2f} ms CPU each, {ours.patches} patches, {ours.failed_patches} failed"
    )


def operator_turn(stage: Stage, size: int, number: int) -> Turn:
    """The operator's turn: started, settled, edited."""
    with operator(stage.account) as process:
        stage.await_updated(size)
        await_quiet(process.pid)
        return edited(stage, process, size, number)


def edited(stage: Stage, process: Program, size: int, number: int) -> Turn:
    """Edit the policy and follow that to the end, with an operator that has settled."""
    log = Log.begin(stage.cluster)
    cpu, server = process.cpu, stage.server_cpu
    with Profile(process.pid, f"fanout-{size}-{number}"):
        edit = stage.apply_policy(number, rollout=workloads.ALL_AT_ONCE)
        stage.await_updated(size)
        complete = time.time()
        await_quiet(process.pid)
        server = stage.server_cpu - server
    patches = log.patches()
    return Turn(
        seconds=max(each.answered for each in patches) - edit,
        cpu=process.cpu - cpu,
        server_cpu=server,
        patches=len(patches),
        failed_patches=log.count(_is_failed_patch),
        others=Counter(f"{each.verb} {each.resource}" for each in log.of() if not each.is_patch),
        decided_seconds=min(each.received for each in patches) - edit,
        complete_seconds=complete - edit,
        peak_mib=memory_mib(process.pid, "VmHWM"),
    )


def _is_failed_patch(request: Answered) -> bool:
    return request.verb == "patch" and request.resource == "deployments" and request.code >= 300


def bare_turn(stage: Stage, number: int) -> Turn:
    """The bare client's turn."""
    log = Log.begin(stage.cluster)
    server = stage.server_cpu
    did = bare.run("patch", stage.bare, "--tag", str(number))
    server = stage.server_cpu - server
    patches = log.patches(BARE_USER)
    seconds = max(each.answered for each in patches) - min(each.received for each in patches)
    return Turn(seconds=seconds, cpu=did["cpu"], server_cpu=server, patches=len(patches))


def _figures(size: int, ours: list[Turn], theirs: list[Turn]) -> Figures:
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "rate_ratio": figures([b.seconds / a.seconds for a, b in pairs]),
        "work_ratio": figures([(b.cpu + b.server_cpu) / (a.cpu + a.server_cpu) for a, b in pairs]),
        "cpu_ratio": figures([a.cpu / b.cpu for a, b in pairs]),
        "cpu_ms_each": figures([1000 * each.cpu / size for each in ours]),
        "bare_cpu_ms_each": figures([1000 * each.cpu / size for each in theirs]),
        "seconds": figures([each.seconds for each in ours]),
        "bare_seconds": figures([each.seconds for each in theirs]),
        "decided_seconds": figures([each.decided_seconds for each in ours]),
        "complete_seconds": figures([each.complete_seconds for each in ours]),
        "server_cpu_ms_each": figures([1000 * each.server_cpu / size for each in ours]),
        "bare_server_cpu_ms_each": figures([1000 * each.server_cpu / size for each in theirs]),
        "patches": figures([each.patches for each in ours]),
        "failed_patches": figures([each.failed_patches for each in ours]),
        "other_requests": figures([each.others.total() for each in ours]),
        "peak_mib": figures([each.peak_mib for each in ours]),
    }
