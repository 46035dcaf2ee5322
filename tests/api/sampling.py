"""Looking at a fleet many times a second, and at every change, while something happens to it: see replay.py.

`counts` is short and shares nothing with the operator: what a status says is held against it.
"""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import pykube

from sidecarpolicy import names
from tests.api.replay import Replay
from tests.builders import Manifest
from tests.kube import SidecarPolicy

PERIOD = 0.1
"""Seconds between two samples of what does not change."""
CLOCK_TOLERANCE = 0.2
COUNTED = ("matched", "pending", "progressing", "updated", "available")
ADDED_UP = ("skipped", "pending", "progressing", "updated", "failed")


@cache
def _entries(record: str) -> dict[str, Any]:
    """What a record says of each policy."""
    entries: dict[str, Any] = json.loads(record)["policies"] if record else {}
    return entries


def _on(deployment: Manifest) -> dict[str, Any]:
    return _entries(deployment["metadata"].get("annotations", {}).get(names.RECORD, ""))


def revision_on(deployment: Manifest, policy: str) -> str | None:
    """The revision of *policy* (a record's key) that the Deployment bears."""
    entry = _on(deployment).get(policy)
    return entry["revision"] if entry else None


def is_complete(deployment: Manifest) -> bool:
    """What `kubectl rollout status` calls successfully rolled out."""
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
    )


def counts(deployments: Sequence[Manifest], policy: str, update: str, soak: float, now: float) -> dict[str, int]:
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
    """What was seen: the Deployments as a LIST shows them and the policy's status, each with its time."""

    lists: list[tuple[float, Sequence[Manifest]]] = field(default_factory=list)
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
            targets = status["targets"]
            if sum(targets[key] for key in ADDED_UP) != targets["matched"]:
                found.append(f"does not add up: {targets}")
            elif (age := self.age(seen, status, policy, soak)) > within:
                found.append(f"said {targets}, which was so {age:.2f} s before")
        return found

    def age(self, seen: float, status: Manifest, policy: str, soak: float) -> float:
        """How many seconds before *seen* the status was true last; infinite if it never was."""
        said = {key: status["targets"][key] for key in COUNTED}
        before = bisect_right(self.lists, seen + CLOCK_TOLERANCE, key=lambda sample: sample[0])
        for moment, deployments in reversed(self.lists[:before]):
            for tolerance in (0.0, -CLOCK_TOLERANCE, CLOCK_TOLERANCE):
                if said == counts(deployments, policy, status["updateRevision"], soak, moment + tolerance):
                    return max(0.0, seen - moment)
        return math.inf


def _any_revision(deployment: Manifest) -> str | None:
    return next((entry["revision"] for entry in _on(deployment).values()), None)


@contextmanager
def sampled(api: pykube.HTTPClient, namespace: str, policy: str = "web") -> Iterator[Samples]:
    """Sample *namespace* in the background until the block ends; only then there are samples."""
    samples = Samples()
    with Replay(api, pykube.Deployment, namespace) as deployments, Replay(api, SidecarPolicy, namespace) as policies:
        yield samples
    (began, _), end = deployments.history[0], time.time()
    ticks = [began + PERIOD * number for number in range(int((end - began) / PERIOD))]
    for moment in sorted({*ticks, *(moment for moment, _ in deployments.history)}):
        samples.lists.append((moment, deployments.at(moment)))
    for moment in sorted({*ticks, *(moment for moment, _ in policies.history)}):
        for each in policies.at(moment):
            if each["metadata"]["name"] == policy and each["status"].get("observedGeneration", -1) >= 0:
                samples.statuses.append((moment, each["status"]))
