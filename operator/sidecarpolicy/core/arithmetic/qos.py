"""The QoS class that a Pod of a template gets (`pkg/apis/core/v1/helper/qos`).

All containers count, plain init containers and sidecars too: one sidecar whose limits are not its requests makes a
Guaranteed Pod Burstable. Requests and limits of the Pod itself, where it has any, are all that counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from sidecarpolicy.core.arithmetic.requests import LISTS, Amounts, container_resources, pod_level, what_counts
from sidecarpolicy.core.tree import Json, unpacked

_COUNTED = ("cpu", "memory")


class QosClass(StrEnum):
    """Who is evicted first; the last of these."""

    GUARANTEED = "Guaranteed"
    BURSTABLE = "Burstable"
    BEST_EFFORT = "BestEffort"


def qos_class(spec: Mapping[str, object]) -> QosClass:
    """Return the class of Pods of *spec*.

    :raises InvalidInput: where a quantity is none.
    """
    return _qos_class(what_counts(spec))


@lru_cache(maxsize=4096)
def _qos_class(counts: bytes) -> QosClass:
    spec: Json = unpacked(counts)
    requests, limits = pod_level(spec)
    if requests or limits:
        return _of(requests, limits)
    found = {
        _of(of_container, limits) for listed in LISTS for _, of_container, limits in container_resources(spec, listed)
    }
    return found.pop() if len(found) == 1 else QosClass.BURSTABLE if found else QosClass.BEST_EFFORT


def container_classes(spec: Mapping[str, object]) -> Iterator[tuple[str, QosClass]]:
    """Yield each container's name and the class that a Pod of it alone would have."""
    for listed in LISTS:
        for container, requests, limits in container_resources(spec, listed):
            yield container["name"], _of(requests, limits)


def _of(requests: Amounts, limits: Amounts) -> QosClass:
    sizes = [(requests.get(each, Fraction(0)), limits.get(each, Fraction(0))) for each in _COUNTED]
    if any(request != limit for request, limit in sizes):
        return QosClass.BURSTABLE
    wanted = [bool(request) for request, _ in sizes]
    if all(wanted):
        return QosClass.GUARANTEED
    return QosClass.BURSTABLE if any(wanted) else QosClass.BEST_EFFORT
