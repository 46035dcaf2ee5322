"""Looking at a fleet many times a second while something happens to it, by LIST and nothing else.

`counts` is short and shares nothing with the operator: what a status says is held against it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pykube

from sidecarpolicy import names
from tests.builders import Manifest
from tests.kube import SidecarPolicy

CLOCK_TOLERANCE = 0.2
COUNTED = ("matched", "pending", "progressing", "updated", "available")


def revision_on(deployment: Manifest, policy: str) -> str | None:
    """The revision of *policy* (a record's key) that the Deployment bears."""
    record = json.loads(deployment["metadata"].get("annotations", {}).get(names.RECORD, '{"policies":{}}'))
    entry = record["policies"].get(policy)
    return entry["revision"] if entry else None


def is_complete(deployment: Manifest) -> bool:
    """What `kubectl rollout status` calls successfully rolled out."""
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
    )


def counts(deployments: list[Manifest], policy: str, update: str, soak: float, now: float) -> dict[str, int]:
    """What the status should say of a rollout in which nothing is skipped, fails or is removed."""
    result = dict.fromkeys(COUNTED, 0)
    for each in deployments:
        revision = revision_on(each, policy)
        conditions = {c["type"]: c for c in each.get("status", {}).get("conditions", [])}
        result["matched"] += 1
        since = conditions.get("Progressing", {}).get("lastUpdateTime")
        soaked = since is not None and now >= datetime.fromisoformat(since).timestamp() + soak
        if revision != update and (is_complete(each) or revision is None):
            result["pending"] += 1
        elif revision == update and is_complete(each) and soaked:
            result["updated"] += 1
        else:
            result["progressing"] += 1
        if revision is not None and conditions.get("Available", {}).get("status") == "True":
            result["available"] += 1
    return result


@dataclass(slots=True)
class Samples:
    """What was seen: LISTs of the Deployments and the policy's status, each with its time."""

    lists: list[tuple[float, list[Manifest]]] = field(default_factory=list)
    statuses: list[tuple[float, Manifest]] = field(default_factory=list)

    def in_flight(self, revision: str | None = None) -> list[int]:
        """For each LIST, how many Deployments carry a revision (that one, if given) and are not complete."""
        return [
            sum(
                not is_complete(each) and (bears is not None if revision is None else bears == revision)
                for each in deployments
                for bears in [_any_revision(each)]
            )
            for _, deployments in self.lists
        ]

    def untrue(self, policy: str, soak: float, within: float = 2.0) -> list[str]:
        """Statuses that match no LIST of the *within* seconds before them."""
        found = []
        for seen, status in self.statuses:
            said = {
                key: status["targets"][key] for key in ("matched", "pending", "progressing", "updated", "available")
            }
            total = sum(status["targets"][key] for key in ("skipped", "pending", "progressing", "updated", "failed"))
            if total != status["targets"]["matched"]:
                found.append(f"does not add up: {status['targets']}")
                continue
            then = [
                counts(deployments, policy, status["updateRevision"], soak, moment + tolerance)
                for moment, deployments in self.lists
                if seen - within <= moment <= seen + CLOCK_TOLERANCE
                for tolerance in (0.0, -CLOCK_TOLERANCE, CLOCK_TOLERANCE)
            ]
            if said not in then:
                found.append(f"said {said}, but it was {then}")
        return found


def _any_revision(deployment: Manifest) -> str | None:
    record = json.loads(deployment["metadata"].get("annotations", {}).get(names.RECORD, '{"policies":{}}'))
    return next((entry["revision"] for entry in record["policies"].values()), None)


@contextmanager
def sampled(api: pykube.HTTPClient, namespace: str, policy: str = "web") -> Iterator[Samples]:
    """Sample *namespace* in the background until the block ends."""
    samples, stop = Samples(), threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        mine = pykube.HTTPClient(api.config)
        try:
            while not stop.wait(0.04):
                moment = time.time()
                samples.lists.append((moment, _list(mine, namespace)))
                status = _status(mine, namespace, policy)
                if status.get("observedGeneration", -1) >= 0:
                    samples.statuses.append((time.time(), status))
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
    assert failures == []


def _list(api: pykube.HTTPClient, namespace: str) -> list[Manifest]:
    return [each.obj for each in pykube.Deployment.objects(api, namespace=namespace)]


def _status(api: pykube.HTTPClient, namespace: str, policy: str) -> dict[str, Any]:
    found = SidecarPolicy.objects(api, namespace=namespace).get_or_none(name=policy)
    return found.obj.get("status", {}) if found else {}
