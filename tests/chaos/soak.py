"""`make soak MINUTES=60`: owners and authors at work on 200 Deployments, and two replicas that must not grow.

What they do is left to chance: owners edit, scale, create, delete and opt out; the author edits the policy. All the
time the leader's memory, descriptors and threads are sampled, its asyncio tasks where it tells them, and what it
writes. Fails where anything rises, and where the end is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

import pykube

from sidecarpolicy import names
from tests import kube
from tests.audit import Audit
from tests.chaos.replicas import Replica, two_replicas
from tests.chaos.stage import ROOT, Stage, a_cluster
from tests.chaos.trend import Trend, plot, trend
from tests.polling import poll
from tests.results import conditions

RESULTS = ROOT / "docs/results/soak.json"
PLOT = ROOT / "docs/results/soak.svg"
PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- made by `make soak` -->", "<!-- end -->"
EVERY = 2.0
"""Seconds between two things that somebody does."""
ALLOWED = {"memory (MiB)": 6.0, "descriptors": 4.0, "threads": 1.0, "tasks": 6.0, "status writes a minute": 4.0}
"""By how much a figure may be higher at the end, besides noise."""
TASKS = re.compile(r"^\S*tasks\S*\s+([0-9.e+]+)$", re.MULTILINE)


class Figures:
    """Samples of the leader, by name: seconds since the beginning, and a figure."""

    def __init__(self, metrics_ports: dict[str, int]) -> None:
        self.series: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._began = time.monotonic()
        self._ports = metrics_ports
        self._writes_before = 0
        self._minute = 0

    def sample(self, leader: Replica, audit: Audit) -> None:
        """Look at the leader now, and once a minute at what was written."""
        now = time.monotonic() - self._began
        process = Path("/proc", str(leader.pid))
        status = (process / "status").read_text()
        self._note("memory (MiB)", now, int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024)
        self._note("threads", now, int(re.findall(r"Threads:\s+(\d+)", status)[0]))
        self._note("descriptors", now, len(os.listdir(process / "fd")))  # noqa: PTH208 - of numbers only
        if port := self._ports.get(leader.name):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                if told := TASKS.findall(answer.read().decode()):
                    self._note("tasks", now, sum(map(float, told)))
        if int(now // 60) > self._minute:
            self._minute = int(now // 60)
            writes = sum(each.subresource == "status" for each in audit.writes())
            self._note("status writes a minute", now, writes - self._writes_before)
            self._writes_before = writes

    def _note(self, name: str, moment: float, value: float) -> None:
        self.series[name].append((round(moment, 1), round(value, 1)))


def _act(stage: Stage, opted_out: set[str]) -> str:
    """Let somebody do something; return what it was."""
    chance = stage.chance
    name = chance.choice(sorted(stage.owned))
    thing = pykube.Deployment(stage.api, {"metadata": {"name": name, "namespace": stage.namespace}})
    what = chance.choice(("edit", "edit", "scale", "label", "create", "delete", "opt out", "policy"))
    match what:
        case "edit":
            env = [{"name": "MODE", "value": str(chance.randrange(100))}]
            containers = [{"name": "app", "env": env}]
            answer = stage.api.patch(
                version="apps/v1",
                namespace=stage.namespace,
                url=f"deployments/{name}",
                json={"spec": {"template": {"spec": {"containers": containers}}}},
                headers={"Content-Type": "application/strategic-merge-patch+json"},
            )
            stage.api.raise_for_status(answer)
        case "scale":
            thing.patch({"spec": {"replicas": chance.randrange(4)}})
        case "label":
            thing.patch({"metadata": {"labels": {"turn": str(chance.randrange(100))}}})
        case "create":
            stage.create(1)
        case "delete":
            stage.api.raise_for_status(
                stage.api.delete(version="apps/v1", namespace=stage.namespace, url=f"deployments/{name}")
            )
            del stage.owned[name]
            opted_out.discard(name)
        case "opt out":
            value = None if name in opted_out else "false"
            thing.patch({"metadata": {"labels": {names.INJECT: value}}})
            opted_out ^= {name}
        case "policy":
            stage.edit()
    return what


def main() -> None:
    """Run, judge, write."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10_000)
    parser.add_argument("--dry", action="store_true", help="write no results")
    chosen = parser.parse_args()
    with a_cluster(f"soak-{os.getpid()}") as cluster:
        api = kube.client(cluster.kubeconfig)
        with kube.a_namespace(api, "soak") as namespace, two_replicas(cluster, seed=chosen.seed) as replicas:
            ports = _metrics_ports([each.name for each in replicas.members])
            for each in replicas.members:
                if each.name in ports:
                    each.arguments = (f"--metrics-bind-address=127.0.0.1:{ports[each.name]}",)
            stage = Stage(cluster, namespace, replicas, seed=chosen.seed)
            stage.create(chosen.deployments)
            stage.settle()
            audit = Audit.begin(cluster)
            leader = replicas.start()
            stage.edit()
            poll(stage.ready, timeout=300)
            figures = Figures(ports)
            done: dict[str, int] = defaultdict(int)
            opted_out: set[str] = set()
            end = time.monotonic() + chosen.minutes * 60
            while time.monotonic() < end:
                done[_act(stage, opted_out)] += 1
                figures.sample(leader, audit)
                time.sleep(EVERY)  # this is how busy they are
            problems = _judge(stage, leader, opted_out)
            problems += replicas.stop()
            if replicas.tracebacks:
                problems.append(f"{replicas.tracebacks} tracebacks in the operators' logs")
            stage.forget()
    trends = {name: trend(series, allowed=ALLOWED[name]) for name, series in figures.series.items() if len(series) > 2}
    problems += [f"{name} rises: {found}" for name, found in trends.items() if found.rises]
    told = [*conditions(), f"{chosen.minutes:g} minutes, {chosen.deployments} Deployments at first, seed {chosen.seed}"]
    _print(trends, dict(done), problems)
    if not chosen.dry:
        _write(figures, trends, dict(done), problems, told)
    if problems:
        sys.exit("error: not as it must be")


def _metrics_ports(members: list[str]) -> dict[str, int]:
    """A free port for each replica, where this version serves metrics."""
    command = str(Path(sys.executable).with_name("sidecarpolicy"))
    words = subprocess.run([command, "run", "--help"], capture_output=True, text=True, check=True).stdout
    if "--metrics-bind-address" not in words:
        return {}
    ports = {}
    for name in members:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports[name] = free.getsockname()[1]
    return ports


def _judge(stage: Stage, leader: Replica, opted_out: set[str]) -> list[str]:
    """In the end the policy is Ready, and carried by exactly those that did not opt out."""
    try:
        stage.await_ready()
    except AssertionError:
        return [f"not Ready three minutes after the last change: {stage.status().get('conditions')}"]
    problems = [f"the leader {leader.name} has ended"] if leader.ended else []
    for name, each in stage.fleet.deployments().items():
        carried = names.RECORD in each["metadata"].get("annotations", {})
        if carried == (name in opted_out):
            problems.append(f"{name} {'carries' if carried else 'lacks'} the sidecars")
    return problems


def _print(trends: dict[str, Trend], done: dict[str, int], problems: list[str]) -> None:
    print(f"done: {', '.join(f'{count} × {what}' for what, count in sorted(done.items()))}")
    for name, found in trends.items():
        print(f"  {name}: {found}{', rises' if found.rises else ''}")
    print("\n".join(f"  PROBLEM {each}" for each in problems) or "  all as it must be")


def _write(
    figures: Figures, trends: dict[str, Trend], done: dict[str, int], problems: list[str], told: list[str]
) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results = {
        "conditions": told,
        "done": done,
        "problems": problems,
        "trends": {name: [found.first, found.last] for name, found in trends.items()},
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PLOT.write_text(plot(figures.series, title="The leader during the soak"))
    lines = ["| the leader's | first third | last third |", "|---|---:|---:|"]
    lines += [f"| {name} | {found.first:.4g} | {found.last:.4g} |" for name, found in trends.items()]
    lines += ["", *(f"- not as it must be: {each}" for each in problems)]
    lines += [f"- {each}" for each in told]
    lines += [f"- done: {', '.join(f'{count} × {what}' for what, count in sorted(done.items()))}"]
    lines += ["", "![The leader during the soak](results/soak.svg)", ""]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"{END}{after}")


if __name__ == "__main__":
    main()
