"""Workloads whose template somebody else rolls out: a change of ours would start that, outside of any budget.

An Argo Rollout with `spec.workloadRef` takes its template from a Deployment, which is scaled to 0: a change there
begins the canary of the Rollout. Argo puts nothing on the Deployment that says so: its annotation
`rollout.argoproj.io/workload-generation` is on the Rollout (argo-rollouts, rollout/templateref.go). So the Rollout
itself has to be seen (`driven_from`). Where it scales the Deployment (`scaleDown: onsuccess` or `progressively`, not
`never`) its controller is among the field managers (rollout/scale_utils.go); that shows without any right to read
Rollouts (`driver_among`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.tree import at

GROUP = "argoproj.io"
VERSION = "v1alpha1"
PLURAL = "rollouts"
KIND = "Rollout"

# The field manager of the controller's updates: the API server takes the program's name (rollouts-controller).
MANAGER = "rollouts-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """*workload* is rolled out by *by*: `Rollout cart`."""

    workload: WorkloadId
    by: str


def driven_from(body: Mapping[str, Any]) -> Driven | None:
    """Return what the Rollout *body* takes its template from, or None where it has its own."""
    metadata, reference = at(body, "metadata"), at(body, "spec", "workloadRef")
    if not reference.get("name") or not reference.get("kind"):
        return None
    workload = WorkloadId(namespace=metadata["namespace"], name=reference["name"], kind=reference["kind"])
    return Driven(workload=workload, by=f"{KIND} {metadata['name']}")


def driver_among(managers: Iterable[Mapping[str, Any]]) -> str:
    """Return who scales a workload for a Rollout, by its *managers* (managedFields), or nothing."""
    scales = any(each.get("manager") == MANAGER and "f:replicas" in at(each, "fieldsV1", "f:spec") for each in managers)
    return "an Argo Rollout" if scales else ""
