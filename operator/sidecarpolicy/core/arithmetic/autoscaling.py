"""What a HorizontalPodAutoscaler makes of our sidecars.

A metric of type Resource with a utilization is a share of what the Pod's containers request, sidecars included
(k/k#120001): with one container that requests nothing of it, the autoscaler reports `missing request for cpu in
container proxy` and stops. It goes on where the target is an average value, where the metric is of one container
(ContainerResource), and where the Pod itself has requests (KEP-2837).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sidecarpolicy.core.arithmetic.finding import Concern, Finding, named
from sidecarpolicy.core.arithmetic.requests import pod_level, requirements
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.tree import Json, at, items

# What an autoscaler without metrics goes by (SetDefaults_HorizontalPodAutoscaler).
DEFAULT_RESOURCE = "cpu"


def scales(autoscaler: Mapping[str, object], workload: WorkloadId) -> bool:
    """Whether *autoscaler* (autoscaling/v2) scales the Deployment *workload*."""
    target = at(autoscaler, "spec", "scaleTargetRef")
    return (
        at(autoscaler, "metadata").get("namespace") == workload.namespace
        and target.get("kind") == "Deployment"
        and str(target.get("apiVersion", "apps/v1")).startswith("apps/")
        and target.get("name") == workload.name
    )


def autoscaling_conflict(
    sidecars: Sequence[Json], spec: Mapping[str, object], autoscalers: Iterable[Mapping[str, object]]
) -> Finding | None:
    """Return what *sidecars* (containers that would come into the Pod of *spec*) would break, or None.

    *autoscalers* are those that scale the workload (see `scales`).

    :raises InvalidInput: where a quantity is none.
    """
    if pod_level(spec)[0]:
        return None
    for autoscaler in sorted(autoscalers, key=_name):
        for resource in _shares(autoscaler):
            lacking = [each["name"] for each in sidecars if resource not in requirements(each)[0]]
            if lacking:
                return Finding(
                    reason=Concern.BREAKS_AUTOSCALING,
                    message=f"HorizontalPodAutoscaler {_name(autoscaler)!r} scales by {resource} utilization, and "
                    f"would stop scaling: {named(lacking)} {'has' if len(lacking) == 1 else 'have'} no {resource} "
                    "request; give the sidecar one, or let the autoscaler measure the application's container "
                    "(type ContainerResource)",
                    numbers={
                        "autoscaler": _name(autoscaler),
                        "resource": resource,
                        "containers": ", ".join(lacking),
                    },
                )
    return None


def _shares(autoscaler: Mapping[str, object]) -> Iterator[str]:
    """Yield the resources whose utilization over all containers the autoscaler goes by."""
    metrics = items(at(autoscaler, "spec"), "metrics")
    if not metrics:
        yield DEFAULT_RESOURCE
    for metric in metrics:
        measured = at(metric, "resource")
        if metric.get("type") == "Resource" and at(measured, "target").get("averageValue") is None:
            yield str(measured.get("name"))


def _name(autoscaler: Mapping[str, object]) -> str:
    return str(at(autoscaler, "metadata").get("name", ""))
