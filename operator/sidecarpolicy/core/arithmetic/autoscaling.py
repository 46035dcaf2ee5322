"""What a HorizontalPodAutoscaler needs of our sidecars.

A metric of type Resource with a utilization is a share of what the Pod's containers request, sidecars included
(k/k#120001): with one container that requests nothing of it, the autoscaler reports `missing request for cpu in
container proxy` and stops. It goes on where the target is an average value, where the metric is of one container
(ContainerResource), and where the Pod itself has requests (KEP-2837).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.kinds import KINDS
from sidecarpolicy.core.tree import Json, at, items


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """What matters of a HorizontalPodAutoscaler: the workload that it scales, and by which *resources*' utilization
    over all containers."""

    name: str
    scales: WorkloadId
    resources: tuple[str, ...]


# What one without metrics goes by, as people write it (SetDefaults_HorizontalPodAutoscaler).
DEFAULT: Json = {"type": "Resource", "resource": {"name": "cpu"}}


def autoscaler_from(body: Mapping[str, Any]) -> Autoscaler | None:
    """Return what matters of *body* (autoscaling/v2); None where it scales no workload, or asks for no requests."""
    metadata, target = at(body, "metadata"), at(body, "spec", "scaleTargetRef")
    resources = tuple(
        at(metric, "resource")["name"]
        for metric in items(at(body, "spec"), "metrics") or [DEFAULT]
        if metric["type"] == "Resource" and "averageValue" not in at(metric, "resource", "target")
    )
    kind = KINDS.get(target["kind"])
    group = str(target.get("apiVersion")).rpartition("/")[0]
    if kind is None or group != kind.ADDRESS.group or not resources:
        return None
    return Autoscaler(
        name=metadata["name"],
        scales=WorkloadId(namespace=metadata["namespace"], name=target["name"], kind=target["kind"]),
        resources=resources,
    )


def needs_requests(spec: Mapping[str, Any]) -> bool:
    """Whether an autoscaler looks at each container of a Pod of *spec*: not where the Pod has resources of its own."""
    return not (at(spec, "resources", "requests") or at(spec, "resources", "limits"))


def requests(container: Mapping[str, Any], resource: str) -> bool:
    """Whether *container* requests *resource*; in a Pod a limit without a request is one."""
    return any(resource in at(container, "resources", each) for each in ("requests", "limits"))
