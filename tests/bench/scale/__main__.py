"""What the operator costs at scale, against yardsticks of the same run: `make bench-scale`.

Every measurement starts a cluster of its own (a real API server on this machine's cores), takes its turns, and writes
docs/results/scale/<label>/<measurement>-<size>.json; docs/performance.md is then written from all of them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from tests.bench.scale import report, results
from tests.bench.scale.processes import prefer

SIZES: dict[str, tuple[int, ...]] = {
    "fanout": (300, 2_000, 10_000),
    "progressive": (600,),
    "coldstart": (10_000,),
    "failover": (10_000,),
    "latency": (2_000,),
    "admission": (10_000,),
    "naive": (2_000,),
}
"""Each measurement is a module of this name with `measure(size, rounds)`; its usual sizes."""
ROOT = Path(__file__).parents[3]


def main() -> None:
    """Measure what was chosen and write it down."""
    parser = argparse.ArgumentParser(prog="bench-scale", description=__doc__)
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=f"of {', '.join(SIZES)}; all if none")
    parser.add_argument(
        "--sizes", type=lambda text: [int(each) for each in text.split(",")], help="instead of the usual"
    )
    parser.add_argument("--rounds", type=int, help="instead of the usual number")
    parser.add_argument("--label", default="now", help="the folder of the results (%(default)s)")
    parser.add_argument("--no-results", action="store_true", help="print, and write nothing")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page from the results")
    chosen = parser.parse_args()
    if chosen.report:
        report.write(ROOT)
        return
    if unknown := [each for each in chosen.measurements if each not in SIZES]:
        parser.error(f"{', '.join(unknown)}: not known; there are {', '.join(SIZES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so does all it started
    prefer(os.getpid())
    for measurement in chosen.measurements or SIZES:
        module = importlib.import_module(f"tests.bench.scale.{measurement}")
        for size in chosen.sizes or SIZES[measurement]:
            result: results.Result = module.measure(size, chosen.rounds)
            for name, figure in result.figures.items():
                print(f"  {name:28} {figure.median:10.3f}  ({figure.low:.3f}–{figure.high:.3f})", flush=True)
            if not chosen.no_results:
                print(f"written to {results.save(result, chosen.label).relative_to(ROOT)}", flush=True)
                report.write(ROOT)


if __name__ == "__main__":
    main()
