"""Who is picked next: the healthy before the broken, the least busy namespace first, then a stable hash.

Who counts as healthy, broken or empty is said by `counting`. The first one of a rollout is picked so too; which canary
group is open is `canary_groups`, how many may be in flight is `plan`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Callable, Container, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from sidecarpolicy.core.identity import WorkloadId


class Order(IntEnum):
    """Who is picked first. What is known to be broken waits for the healthy, be its rollout ours or not."""

    IN_PROGRESS = 0  # it holds a slot, at another revision
    HEALTHY = 1
    BROKEN = 2  # it holds a slot, and failed or was unhealthy before
    UNHEALTHY = 3
    EMPTY = 4  # without Pods: free of the budget


HOLDERS = frozenset({Order.IN_PROGRESS, Order.BROKEN})
WITH_PODS = (Order.IN_PROGRESS, Order.HEALTHY, Order.BROKEN, Order.UNHEALTHY)


class Place(NamedTuple):
    """Where a workload comes within its namespace: by a stable hash, so that neighbours do not follow each other."""

    digest: bytes
    workload: WorkloadId


class Picked(NamedTuple):
    """The next of a queue, and what it comes first by: the least busy namespace, ties by a stable hash."""

    load: int
    namespace: bytes
    digest: bytes
    workload: WorkloadId


class Queue:
    """Workloads to pick from: the next is one of the namespace with the fewest in flight."""

    __slots__ = ("_members", "_namespaces")

    def __init__(self) -> None:
        self._members: dict[str, list[Place]] = {}
        self._namespaces: list[tuple[int, bytes, str]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and self._members == other._members and self._namespaces == other._namespaces

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._members)

    def add(self, place: Place, load: int) -> None:
        """Take a workload in, of whose namespace *load* are in flight."""
        namespace = place.workload.namespace
        members = self._members.get(namespace)
        if members is None:
            self._members[namespace] = [place]
            insort(self._namespaces, (load, digest(namespace), namespace))
        else:
            insort(members, place)

    def remove(self, place: Place, load: int) -> None:
        """Let a workload go that was added."""
        namespace = place.workload.namespace
        members = self._members[namespace]
        del members[bisect_left(members, place)]
        if not members:
            del self._members[namespace]
            del self._namespaces[bisect_left(self._namespaces, (load, digest(namespace), namespace))]

    def shift(self, namespace: str, before: int, after: int) -> None:
        """Note that *after* are in flight in *namespace*, where *before* were."""
        if namespace in self._members:
            del self._namespaces[bisect_left(self._namespaces, (before, digest(namespace), namespace))]
            insort(self._namespaces, (after, digest(namespace), namespace))

    def pick(
        self, *, taken: Container[WorkloadId], extra: Mapping[str, int], closed: Callable[[str], bool] | None = None
    ) -> Picked | None:
        """Return the next that is not *taken*; *extra* are in flight besides by namespace, some are *closed*.

        Costs as much as there are of these, not as there are members.
        """
        best: Picked | None = None
        for load, name, namespace in self._namespaces:
            if best is not None and (load, name) >= best[:2]:
                break
            if closed is not None and closed(namespace):
                continue
            for found in self._members[namespace]:
                if found[1] not in taken:
                    break
            else:
                continue
            more = extra.get(namespace, 0)
            candidate = Picked(load + more, name, *found)
            if best is None or candidate < best:
                best = candidate
            if not more:
                break
        return best


@lru_cache(maxsize=2**14)
def digest(text: str) -> bytes:
    """A stable hash to order by."""
    return hashlib.sha256(text.encode()).digest()
