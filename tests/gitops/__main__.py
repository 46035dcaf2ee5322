"""Play stories outside of pytest: `python -m tests.gitops FIRST [COUNT]`, beside a Kubernetes of their own.

After every 25 it says how far it is and what they have cost, so that a run can be stopped at any time. Both `tests` and
`localcluster` must be found: `PYTHONPATH=deploy/local`.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import localcluster
from tests import kube
from tests.bench.scale.processes import cpu_seconds
from tests.conftest import OPERATOR, kubeconfig_of
from tests.gitops.beside import beside
from tests.gitops.sequences import Places, readable_config_maps
from tests.gitops.stories import ARGUMENTS, AT_ONCE, failures

BATCH = 25


def main() -> int:
    """Return whether one failed, as an exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.gitops", description=__doc__)
    parser.add_argument("first", type=int, help="the number of the first story")
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many stories")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="how many are played at the same time")
    chosen = parser.parse_args()
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    numbers, failed = range(chosen.first, chosen.first + chosen.count), []
    with ExitStack() as stack:
        cluster = stack.enter_context(localcluster.start(f"stories-{os.getpid()}", simulated_nodes=3))
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        kube.install_kinds(cluster)
        stack.enter_context(readable_config_maps(cluster))
        kubeconfig = kubeconfig_of(OPERATOR, cluster, folders[0])
        operator = stack.enter_context(beside(cluster, kubeconfig, folders[1], *ARGUMENTS))
        places = stack.enter_context(Places(cluster))
        for begin in range(0, len(numbers), BATCH):
            batch, before, began = numbers[begin : begin + BATCH], spent(), time.monotonic()
            for number, told in failures(batch, places, operator, chosen.at_once).items():
                failed.append(number)
                print(told, flush=True)
            cost = {name: seconds - before.get(name, 0.0) for name, seconds in spent().items()}
            shares = ", ".join(f"{name} {seconds:.1f}" for name, seconds in sorted(cost.items()))
            took = f"{time.monotonic() - began:.0f} s, {sum(cost.values()):.0f} s of CPU ({shares})"
            print(f"{batch[0]} to {batch[-1]}: {took}; failed so far: {failed or 'none'}", flush=True)
    return bool(failed)


def spent() -> dict[str, float]:
    """Seconds of CPU so far: of this process, of what it has started by name, and of all that has ended of that."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = defaultdict(float, {"python": time.process_time(), "ended": ended.ru_utime + ended.ru_stime})
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            before, _, after = (folder / "stat").read_text().rpartition(")")
            if int(after.split()[1]) == os.getpid():
                found[before.partition("(")[2]] += cpu_seconds(int(folder.name))
        except OSError:
            continue  # it has ended
    return found


if __name__ == "__main__":
    raise SystemExit(main())
