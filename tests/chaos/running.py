"""Runs one scenario from its Deployments to its verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pykube

import localcluster
from tests import kube
from tests.audit import Audit
from tests.builders import Manifest
from tests.chaos.onlooker import Witness
from tests.chaos.patience import AWAY
from tests.chaos.replicas import two_replicas
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import Stage
from tests.chaos.verdict import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a scenario went; *done*: how often which fault happened."""

    name: str
    title: str
    seconds: float
    problems: list[str]
    figures: Mapping[str, object]
    done: Mapping[str, object]
    log: str

    def as_json(self) -> dict[str, Any]:
        """Without the operators' logs."""
        return {key: value for key, value in asdict(self).items() if key != "log"}


def run(scenario: Scenario, cluster: localcluster.Cluster, *, count: int, seed: int, short: bool = False) -> Outcome:
    """Run *scenario* with *count* Deployments in a namespace of its own; *short*: with less harm."""
    began = time.monotonic()
    api = kube.client(cluster.kubeconfig)
    verdict = Verdict()
    with kube.a_namespace(api, scenario.name) as namespace, two_replicas(cluster, seed=seed) as replicas:
        stage = Stage(cluster, namespace, replicas, seed=seed, short=short)
        if scenario.controllers:
            stage.create(count)
            stage.settle()
        else:
            without_controllers(stage, count)
        audit = Audit.begin(cluster)
        try:
            with Witness(api, namespace, stage.key) as witness:
                try:
                    replicas.start()
                    scenario.harm(stage)
                except (AssertionError, *AWAY) as error:
                    verdict.problems.append(f"the scenario could not go on: {error}")
                for each in replicas.members:
                    each.proxy.faults.clear()
                    if not each.pid or each.ended:
                        verdict.problems += [f"{each.name} had ended by itself"] * each.ended
                        each.kill()
                        each.spawn()
                judged = judge(stage, audit, witness.seen, owners_roll=scenario.owners_roll, patience=scenario.patience)
            verdict.problems += judged.problems
            verdict.figures |= judged.figures
            log = "\n".join(each.log for each in replicas.members)
            verdict.problems += replicas.stop()
            if replicas.tracebacks:
                verdict.problems.append(f"{replicas.tracebacks} tracebacks in the operators' logs")
        finally:
            stage.forget()
            if not scenario.controllers:
                cluster.resume("kube-controller-manager")
        done: dict[str, object] = dict(stage.told)
        for each in replicas.members:
            for what, often in each.proxy.log.done.items():
                if often:
                    done[what] = int(str(done.get(what, 0))) + often
    return Outcome(
        name=scenario.name,
        title=scenario.title,
        seconds=round(time.monotonic() - began, 1),
        problems=verdict.problems,
        figures=verdict.figures,
        done=done,
        log=log,
    )


def without_controllers(stage: Stage, count: int) -> None:
    """Create Deployments that look as if every change of theirs were rolled out at once, with no controller at work."""
    stage.cluster.pause("kube-controller-manager")
    stage.create(count, replicas=0)
    stage.each(partial(_mark_complete, stage.api, stage.namespace), sorted(stage.owned))
    stage.remember(stage.fleet.deployments())


def _mark_complete(api: pykube.HTTPClient, namespace: str, name: str) -> None:
    conditions: list[Manifest] = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": "",
            "lastUpdateTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, reason in (("Available", "MinimumReplicasAvailable"), ("Progressing", "NewReplicaSetAvailable"))
    ]
    answer = api.patch(
        version="apps/v1",
        namespace=namespace,
        url=f"deployments/{name}/status",
        json={"status": {"observedGeneration": 1_000_000, "conditions": conditions}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    api.raise_for_status(answer)
