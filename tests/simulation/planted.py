"""Defects planted into the product, one at a time: in how many histories the simulation finds each.

`python -m tests.simulation.planted COUNT` plays COUNT histories with each defect and prints the table of
docs/results/simulation.md. A defect is a patch of the running product; its files are never touched.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from sidecarpolicy.core import plan
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.patch import json_patch
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine import prepare
from sidecarpolicy.engine.term import Term
from tests.simulation.histories import history, kind_of, outcome


@contextmanager
def lost_wake_up() -> Iterator[None]:
    """One in five changes of policies is forgotten, and nobody is woken to look."""
    numbers = itertools.count(1)

    def policy_changed(self: Term, policy: PolicyId) -> None:
        if next(numbers) % 5:
            self._look_at(policy)
            self._wake.set()

    with patch.object(Term, "policy_changed", policy_changed):
        yield


@contextmanager
def missing_precondition() -> Iterator[None]:
    """A workload is patched whatever has become of it since the decision."""

    def unguarded(**told: Any) -> list[Json]:
        return [each for each in json_patch(**told) if not each["path"].startswith(GUARDS)]

    with patch.object(prepare, "json_patch", unguarded):
        yield


GUARDS = ("/metadata/uid", "/metadata/generation", "/metadata/resourceVersion")


@contextmanager
def budget_off_by_one() -> Iterator[None]:
    """One more may be in flight than the policy says."""
    right = plan._Limits.__init__

    def wrong(self: Any, *args: Any) -> None:
        right(self, *args)
        self.full += 1
        self.updates += not self.first
        self.removals += self.removals > 1

    with patch.object(plan._Limits, "__init__", wrong):
        yield


@contextmanager
def one_look_too_few() -> Iterator[None]:
    """One in five changes of workloads is noted, and nobody looks."""
    numbers, right = itertools.count(1), Term.workload_changed

    def workload_changed(self: Term, workload: WorkloadId) -> None:
        if next(numbers) % 5:
            right(self, workload)

    with patch.object(Term, "workload_changed", workload_changed):
        yield


DEFECTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "a lost wake-up": lost_wake_up,
    "a missing precondition": missing_precondition,
    "a budget off by one": budget_off_by_one,
    "a workload that nobody looks at again": one_look_too_few,
}


def found(defect: str, seeds: Sequence[int]) -> dict[int, str]:
    """By seed, what does not hold where that defect is planted."""
    failures = {}
    with DEFECTS[defect]():
        for seed in seeds:
            try:
                failure, _ = outcome(history(seed))
            except Exception as error:  # noqa: BLE001  # it may well break in the middle
                failure = repr(error)
            if failure:
                failures[seed] = failure
    return failures


def table(count: int) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| defect | found in | first seed | what does not hold, and in how many seeds |"
    yield "| --- | ---: | ---: | --- |"
    for defect in DEFECTS:
        failures = found(defect, range(count))
        kinds = Counter(kind_of(each.partition(": ")[2] or each) for each in failures.values())
        told = "; ".join(f"{kind} ({times})" for kind, times in kinds.most_common(3))
        yield f"| {defect} | {len(failures)} of {count} | {min(failures, default='none')} | {told} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("count", type=int, help="how many histories, for each defect")
    logging.disable(logging.CRITICAL)
    for line in table(parser.parse_args().count):
        print(line, flush=True)


if __name__ == "__main__":
    main()
