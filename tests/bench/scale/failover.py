"""The leader is killed in the middle of a rollout: how long until another replica writes.

Two replicas over the fleet of coldstart.py, an edit to all of it under way. The time is from SIGKILL to the first
PATCH that the other one sends; at best it is what is left of the Lease.
"""

from __future__ import annotations

import contextlib
import signal
import time
from functools import partial

from tests.bench.scale import coldstart, workloads
from tests.bench.scale.processes import Program, await_quiet, operator
from tests.bench.scale.requests import Answered, Log
from tests.bench.scale.results import Result, figures
from tests.bench.scale.stage import SECOND, Stage, a_stage, awaited

ROUNDS = 3
LEASE_SECONDS = 15
IN_FLIGHT = 16
"""So many requests at most a leader has sent and not been answered."""
UNDER_WAY = 200
"""So many patches have been sent when the leader is killed."""


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure a fleet of *size*."""
    with a_stage(f"cold-{size}", lambda cluster: coldstart.fleet(cluster, size)) as stage:
        seconds = _kill_leaders(stage, size, rounds or ROUNDS)
    return Result(
        measurement="failover",
        size=size,
        figures={
            "seconds": figures(seconds),
            "over_lease_seconds": figures([each - LEASE_SECONDS for each in seconds]),
        },
        notes=[f"{len(seconds)} rounds; the Lease is for {LEASE_SECONDS} s"],
    )


def _kill_leaders(stage: Stage, size: int, rounds: int) -> list[float]:
    replicas = [_replica(stage, second=False), _replica(stage, second=True)]
    seconds: list[float] = []
    with contextlib.ExitStack() as running:
        for each in replicas:
            running.callback(each.stop, signal.SIGKILL)
        replicas[0].start()
        for number in range(rounds):
            leader, standby = replicas[number % 2], replicas[(number + 1) % 2]
            standby.launch()
            time.sleep(2)
            await_quiet(standby.pid, timeout=1800)
            await_quiet(leader.pid, timeout=1800)
            by_standby = number % 2 == 0
            log = Log.begin(stage.cluster)
            stage.apply_policy(100 + number, rollout=workloads.ALL_AT_ONCE)
            awaited(log.patches, lambda patches: len(patches) >= min(UNDER_WAY, size // 3), timeout=120)
            killed = time.time()
            leader.stop(signal.SIGKILL)
            # The other one's alone: the server may still answer what the dead one had sent.
            theirs = awaited(lambda: _of(log, second=by_standby), bool, timeout=120)  # noqa: B023
            seconds.append(theirs[0].received - killed)
            print(f"failover, {size}, round {number + 1}: {seconds[-1]:.1f} s after the kill", flush=True)
            # What the dead one had sent may have been done, and its answer not be in the log.
            awaited(partial(_patched, log), lambda count: count >= size - IN_FLIGHT, timeout=1800)
    return seconds


def _replica(stage: Stage, *, second: bool) -> Program:
    account = stage.second_account if second else stage.account
    return operator(account, f"--lease-seconds={LEASE_SECONDS}")


def _patched(log: Log) -> int:
    """How many Deployments have been patched."""
    return len({each.name for each in log.patches()})


def _of(log: Log, *, second: bool) -> list[Answered]:
    return [each for each in log.patches() if (SECOND in each.groups) == second]
