"""What a Pod requests: the formula of the scheduler, quota and kubelet (component-helpers `PodRequests`, KEP-753).

    while init container i runs:  the sidecars before it, and itself
    afterwards:                   all sidecars and all regular containers
    the Pod:                      the larger of the two, and the overhead of its RuntimeClass
    `spec.resources` of the Pod:  replaces that for cpu, memory and hugepages (KEP-2837)

So a sidecar adds the same wherever it stands, but one that stands before a plain init container raises that one's peak.
A container with a limit and no request requests its limit: the API server fills that in for Pods, not for templates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from sidecarpolicy.core.arithmetic.quantities import format_quantity, parse_quantity
from sidecarpolicy.core.tree import Json, at, items, packed, unpacked

Amounts = dict[str, Fraction]
"""By resource name, in base units."""

LISTS = ("initContainers", "containers")
_FIRST = ("cpu", "memory")
_HUGE = "hugepages-"
_BYTES = ("memory", "ephemeral-storage", _HUGE)
_MOST_DIGITS = 6
_MOST_MILLI_DIGITS = 4
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How much of one resource a Pod requests: *steady*, and at most while its init containers run."""

    steady: Fraction = Fraction(0)
    init_peak: Fraction = Fraction(0)

    @property
    def effective(self) -> Fraction:
        """What the scheduler and quota count."""
        return max(self.steady, self.init_peak)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One resource before and after; None: nothing in the Pod requests it."""

    resource: str
    before: Demand | None
    after: Demand | None

    @property
    def changes(self) -> bool:
        """Whether the scheduler and quota count something else than before."""
        before, after = self.before or Demand(), self.after or Demand()
        return before.effective != after.effective


def demands(spec: Mapping[str, object]) -> dict[str, Demand]:
    """Return what a Pod of *spec* requests, by resource.

    :raises InvalidInput: where a quantity is none, with its path in a Pod.
    """
    return dict(_demands(what_counts(spec)))


def what_counts(spec: Mapping[str, object]) -> bytes:
    """Return what of a Pod *spec* its requests and limits depend on: the Pods of a fleet have few of them."""
    containers = {
        listed: [
            {"resources": at(each, "resources"), "restartPolicy": each.get("restartPolicy")}
            for each in items(spec, listed)
        ]
        for listed in LISTS
    }
    return packed({**containers, "resources": at(spec, "resources"), "overhead": at(spec, "overhead")})


@lru_cache(maxsize=4096)
def _demands(counts: bytes) -> Mapping[str, Demand]:
    spec: Json = unpacked(counts)
    found = container_demands(spec)
    for resource, size in pod_level(spec)[0].items():
        found[resource] = Demand(steady=size, init_peak=size)
    for resource, size in _amounts(at(spec, "overhead"), "spec.overhead").items():
        demand = found.get(resource, Demand())
        found[resource] = Demand(steady=demand.steady + size, init_peak=demand.init_peak + size)
    return found


def container_demands(spec: Mapping[str, object]) -> dict[str, Demand]:
    """Return what the containers alone request, by resource."""
    steady: Amounts = defaultdict(Fraction)
    peak: Amounts = defaultdict(Fraction)
    sidecars: Amounts = defaultdict(Fraction)
    for container, requests, _ in container_resources(spec, "initContainers"):
        if is_sidecar(container):
            for resource, size in requests.items():
                sidecars[resource] += size
                steady[resource] += size
            using: Mapping[str, Fraction] = sidecars
        else:
            using = {each: requests.get(each, Fraction(0)) + sidecars[each] for each in {*requests, *sidecars}}
        for resource, size in using.items():
            peak[resource] = max(peak[resource], size)
    for _, requests, _ in container_resources(spec, "containers"):
        for resource, size in requests.items():
            steady[resource] += size
    return {each: Demand(steady=steady[each], init_peak=peak[each]) for each in {*steady, *peak}}


def container_resources(spec: Mapping[str, object], listed: str) -> Iterator[tuple[Json, Amounts, Amounts]]:
    """Yield each container of a list with its requests, as a Pod would have them, and its limits."""
    for index, container in enumerate(items(spec, listed)):
        yield container, *requirements(container, f"spec.{listed}[{index}].resources")


def requirements(container: Mapping[str, object], path: str = "resources") -> tuple[Amounts, Amounts]:
    """Return the requests of a container, as a Pod would have them, and its limits."""
    resources = at(container, "resources")
    limits = _amounts(at(resources, "limits"), f"{path}.limits")
    return limits | _amounts(at(resources, "requests"), f"{path}.requests"), limits


def pod_level(spec: Mapping[str, object]) -> tuple[Amounts, Amounts]:
    """Return the Pod's own requests and limits; empty where it has none.

    As the API server has it, what has a limit and no request gets the containers' request, or else the limit; and
    hugepages, which cannot be overcommitted, get the containers' limit.
    """
    resources = at(spec, "resources")
    limits = _pod_level_amounts(at(resources, "limits"), "spec.resources.limits")
    requests = _pod_level_amounts(at(resources, "requests"), "spec.resources.requests")
    if not limits and not requests:
        return {}, {}
    of_containers = {each: demand.effective for each, demand in container_demands(spec).items()}
    huge = {each: size for each, size in of_containers.items() if each.startswith(_HUGE) and each not in requests}
    limits = huge | limits
    if limits:
        requests = limits | {each: of_containers[each] for each in _FIRST if each in of_containers} | requests
    return requests, limits


def costs(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[Cost, ...]:
    """Return every resource that a Pod requests by the spec *before* or *after*: cpu, memory, then the others."""
    return _costs(what_counts(before), what_counts(after))


def changing_costs(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Return `describe` of what the scheduler and quota count differently *after*; empty where that is nothing."""
    return _changing_costs(what_counts(before), what_counts(after))


@lru_cache(maxsize=4096)
def _changing_costs(before: bytes, after: bytes) -> str:
    changing = [each for each in _costs(before, after) if each.changes]
    return describe(changing) if changing else ""


def _costs(before: bytes, after: bytes) -> tuple[Cost, ...]:
    was, becomes = _demands(before), _demands(after)
    return tuple(
        Cost(resource=each, before=was.get(each), after=becomes.get(each))
        for each in sorted({*was, *becomes}, key=lambda each: (each not in _FIRST, each))
    )


def describe(changes: Iterable[Cost]) -> str:
    """Return what changes, for people: `cpu 100m → 250m, memory 64Mi → 192Mi, init peak cpu 200m → 300m`.

    The peak is told where it is more than what the Pod needs afterwards. Without a change: `requests unchanged`.
    """
    steady: list[str] = []
    peaks: list[str] = []
    for cost in changes:
        before, after = cost.before or Demand(), cost.after or Demand()
        if before.steady != after.steady:
            steady.append(_arrow(cost, before.steady, after.steady))
        peaking = any(each.init_peak > each.steady for each in (before, after))
        if peaking and before.init_peak != after.init_peak:
            peaks.append(f"init peak {_arrow(cost, before.init_peak, after.init_peak)}")
    return ", ".join([*steady, *peaks]) or "requests unchanged"


def is_sidecar(container: Mapping[str, object]) -> bool:
    """Whether an init container keeps running beside the application (KEP-753)."""
    return container.get("restartPolicy") == "Always"


def _arrow(cost: Cost, before: Fraction, after: Fraction) -> str:
    was = "none" if cost.before is None else _readable(cost.resource, before)
    becomes = "none" if cost.after is None else _readable(cost.resource, after)
    return f"{cost.resource} {was} → {becomes}"


def _readable(resource: str, size: Fraction) -> str:
    """Return an amount exactly, as a person writes it: a long number of bytes in mebibytes, 500010m as 500.01."""
    in_bytes = resource.startswith(_BYTES)
    text = format_quantity(size, binary=in_bytes)
    if in_bytes and sum(each.isdigit() for each in text) > _MOST_DIGITS:
        return f"≈{float(size / _MEBIBYTE):.1f}Mi"
    if text.endswith("m") and sum(each.isdigit() for each in text) > _MOST_MILLI_DIGITS:
        whole, milli = divmod(int(text[:-1]), 1000)
        return f"{whole}.{milli:03}".rstrip("0")
    return text


def _amounts(listed: Mapping[str, object], path: str) -> Amounts:
    return {resource: parse_quantity(value, f"{path}.{resource}") for resource, value in listed.items()}


def _pod_level_amounts(listed: Mapping[str, object], path: str) -> Amounts:
    return {resource: size for resource, size in _amounts(listed, path).items() if _is_pod_level(resource)}


def _is_pod_level(resource: str) -> bool:
    return resource in _FIRST or resource.startswith(_HUGE)
