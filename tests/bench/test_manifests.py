"""What a large file costs, as a ratio to what reading it costs anybody: PyYAML's C composer over the same text."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from resource import RUSAGE_SELF, getrusage
from statistics import median
from typing import Any

import yaml

from sidecarpolicy.cli import batch
from sidecarpolicy.cli.offline import injected
from sidecarpolicy.manifests import parse, without_collector
from tests.bench.test_inject import POLICY, an_ordinary_pod
from tests.builders import a_deployment

MOST = 3.5
"""Times the composer's own work: with the cycle collector on, as in a loader, it takes several times as long."""
DEPLOYMENTS, ROUNDS = 1000, 7


class WrittenOut(yaml.CSafeDumper):
    """Writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def a_thousand_deployments() -> str:
    pod = an_ordinary_pod()["spec"]
    bodies = (a_deployment(f"app-{number}", pod=pod) for number in range(DEPLOYMENTS))
    return "---\n".join(yaml.dump(body, Dumper=WrittenOut, sort_keys=False) for body in bodies)


def cost(work: Callable[[], object]) -> float:
    """Seconds of this process for one call."""
    gc.unfreeze()
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def test_injecting_into_a_thousand_deployments_costs_little_more_than_reading_them() -> None:
    text = a_thousand_deployments()
    policies = [parse(yaml.safe_dump(POLICY), "policy.yaml")]

    @batch.in_one_go  # as the command does
    def inject() -> None:
        done, _ = batch.with_policies([parse(text, "apps.yaml")], policies, injected, namespace="shop")
        assert sum(result.changed for result in done.results) == DEPLOYMENTS

    def compose() -> None:
        list(yaml.compose_all(text, Loader=yaml.CSafeLoader))

    def compose_alone() -> None:
        with without_collector():
            compose()

    # In turns, each beside its own yardstick: what others do on the machine changes from second to second.
    rounds = [(cost(compose_alone), cost(inject), cost(compose_alone)) for _ in range(ROUNDS)]
    ratio = median(2 * ours / (before + after) for before, ours, after in rounds)
    yardstick, fastest = min(min(before, after) for before, _, after in rounds), min(ours for _, ours, _ in rounds)
    print(
        f"\ncomposing {DEPLOYMENTS} Deployments ({len(text)} bytes): {yardstick:.2f} s, or {cost(compose):.2f} s with "
        "the cycle collector on, as loaders have it\n"
        f"injecting three sidecars into each: {fastest:.2f} s; in the median of {ROUNDS} rounds {ratio:.1f} × "
        f"(at most {MOST:g} ×)\n"
        f"largest resident set so far: {getrusage(RUSAGE_SELF).ru_maxrss // 1024} MiB"
    )
    assert ratio <= MOST
