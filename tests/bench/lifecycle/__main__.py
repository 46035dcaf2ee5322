"""Five ways to run a proxy beside an application, measured on a real node: `make bench-lifecycle`.

Starts a cluster with a real node and the operator, measures, and writes the table and the plot into docs/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import localcluster
from localcluster import cgroups, images
from localcluster.errors import NodeTakenError
from tests import kube
from tests.bench.lifecycle import measuring, report, variants
from tests.bench.lifecycle.measuring import Life, Result
from tests.bench.lifecycle.variants import NATIVE, VARIANTS
from tests.fleet import init_names
from tests.node.lifecycle.stage import Stage, a_stage
from tests.node.lifecycle.watching import PodWatch
from tests.running import Operator

ROOT = Path(__file__).parents[3]
NAME = "bench-lifecycle"
PATIENCE = 600.0
"""Seconds to wait for the machine's one real node."""
_NAMESPACE = "sidecarpolicy-system"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench-lifecycle", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="how often each variant is started (%(default)s)")
    parser.add_argument("--pods", type=int, default=5, help="how many Pods at a time (%(default)s)")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: a real node needs root, and this measures nothing without one.")
    with _cluster() as cluster:
        results = _measure(cluster, chosen.rounds, chosen.pods)
        report.write(ROOT, results, _conditions(cluster, chosen.rounds, chosen.pods))
    print(report.table(results, []))
    print(f"written to {report.PAGE} and {report.PLOT}")
    native = results[NATIVE.name]
    if native.failed_at_start or native.failed_at_stop:
        sys.exit("error: calls failed with native sidecars; see the table.")


def _cluster() -> localcluster.Cluster:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return localcluster.start(NAME, node=True)
        except NodeTakenError as taken:
            if time.monotonic() > deadline:
                raise
            print(f"waiting: {taken}".splitlines()[0], flush=True)
            time.sleep(5)


def _measure(cluster: localcluster.Cluster, rounds: int, pods: int) -> dict[str, Result]:
    cluster.kubectl("apply", "--filename", str(ROOT / "crds"))
    cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy/base/access"))
    cluster.await_definitions()
    cluster.load_image(images.witness())
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{_NAMESPACE}")
    account = cluster.user_kubeconfig(f"system:serviceaccount:{_NAMESPACE}:sidecarpolicy", *groups)
    api = kube.client(cluster.kubeconfig)
    with (
        Operator(account),
        tempfile.TemporaryDirectory() as records,
        a_stage(cluster, api, "bench", Path(records)) as stage,
        PodWatch(cluster.kubeconfig, stage.namespace) as watch,
    ):
        stage.apply(*(each.deployment(stage.namespace) for each in VARIANTS))
        stage.apply(variants.policy(stage.namespace))
        stage.wait_for(lambda deployment: init_names(deployment) == ["proxy"], NATIVE.name)
        return _results(stage, watch, rounds, pods)


def _results(stage: Stage, watch: PodWatch, rounds: int, pods: int) -> dict[str, Result]:
    lives: dict[str, list[Life]] = {each.name: [] for each in VARIANTS}
    for number in range(rounds):
        for each in VARIANTS:
            print(f"round {number + 1} of {rounds}: {each.title}", flush=True)
            lives[each.name] += measuring.lives(stage, watch, each, pods)
    crashes = {}
    for each in VARIANTS:
        print(f"crash of the proxy: {each.title}", flush=True)
        crashes[each.name] = measuring.crash(stage, watch, each)
    print("Jobs", flush=True)
    jobs = measuring.job_ends(stage, watch, VARIANTS)
    return {
        each.name: Result(lives=lives[each.name], crash=crashes[each.name], job=jobs[each.name]) for each in VARIANTS
    }


def _conditions(cluster: localcluster.Cluster, rounds: int, pods: int) -> list[str]:
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json").stdout)["items"]
    node = nodes[0]["status"]["nodeInfo"]
    return [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, Kubernetes {node['kubeletVersion']}, "
        f"{node['containerRuntimeVersion'].replace('://', ' ')}, Linux {node['kernelVersion'].partition('-')[0]}, "
        f"cgroup {'v2' if cgroups.is_v2() else 'v1'}, {os.cpu_count()} CPUs",
        f"{rounds * pods} starts and stops of each, {pods} Pods at a time, the five in turn",
        f"the proxy answers (its probe too) {variants.READY_AFTER} s after its start; on TERM it ends at once",
        f"the application calls it every {variants.EVERY_MS} ms, each call on a new connection, from its first "
        f"instruction to its last, and drains for {variants.DRAIN} s after TERM; a call has 1 s",
        "start loop: the application's command is wrapped in `until wget …; do sleep 0.5; done`; "
        f"preStop sleep: {variants.PRE_STOP} s on the proxy",
        "terminationGracePeriodSeconds 30; the crash is an exit 1 of a proxy that was ready, the first of its Pod",
        "created, deleted, ready and gone as a watcher saw them; calls by the node's monotonic clock",
        "the Job of the native one has the Pod that the policy made of the Deployment: a policy changes no Jobs",
    ]


if __name__ == "__main__":
    main()
