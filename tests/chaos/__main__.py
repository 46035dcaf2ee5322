"""`make chaos`: what goes wrong in a cluster, done to two replicas of the operator on a real API server.

Writes docs/results/chaos.json and docs/reliability.md. Exits with 1 where anything was not as it must be.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.chaos import report
from tests.chaos.running import Outcome, run
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import a_cluster
from tests.results import conditions


def main() -> None:
    """Run what was chosen."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all if none")
    parser.add_argument("--deployments", type=int, help="how many Deployments (by scenario)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10_000, help="for what is left to chance")
    parser.add_argument("--logs", type=Path, default=Path(".make/chaos"), help="where the operators' logs go")
    parser.add_argument("--short", action="store_true", help="do less harm")
    parser.add_argument("--dry", action="store_true", help="write no results")
    chosen = parser.parse_args()
    if unknown := [each for each in chosen.scenarios if each not in SCENARIOS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    chosen.logs.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for name in chosen.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        count = chosen.deployments or scenario.count
        print(f"{name}: {scenario.title}, {count} Deployments, seed {chosen.seed}", flush=True)
        with a_cluster(f"chaos-{os.getpid()}") as cluster:
            outcome = run(scenario, cluster, count=count, seed=chosen.seed, short=chosen.short)
        (chosen.logs / f"{name}.log").write_text(outcome.log)
        outcomes.append(outcome)
        print(report.told(outcome), flush=True)
        if not chosen.dry:
            report.write([outcome], [*conditions(), f"seed {chosen.seed}"])
    bad = [each.name for each in outcomes if each.problems]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} scenarios as they must be; logs in {chosen.logs}")
    if bad:
        sys.exit(f"error: not as it must be: {', '.join(bad)}")


if __name__ == "__main__":
    main()
