"""The order of our sidecars in a Pod: role, then precedence of the policy, then the order written; then `startAfter`.

Kubernetes starts init containers in list order (KEP-753), so this order is the start order and, backwards, the stop
order. `startAfter` binds only where both sidecars are on the same workload; a name that nobody provides there is void.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.revision import InjectedSidecar, Revision
from sidecarpolicy.names import Position


def precedence(revision: Revision) -> tuple[bool, int, str, PolicyId]:
    """Sort key: cluster before namespaced, then higher priority, then older, then namespace and name."""
    return (not revision.policy.cluster_wide, -revision.priority, revision.created, revision.policy)


def why_first(revision: Revision, other: Revision) -> str:
    """Return why *revision* goes before *other*, as the end of a sentence."""
    if revision.policy.cluster_wide != other.policy.cluster_wide:
        return "a cluster policy goes before a namespaced one"
    if revision.priority != other.priority:
        return f"its priority is {revision.priority}, this one's {other.priority}"
    if revision.created != other.created:
        return "it is older"
    return "it comes first by name"


def start_order(revisions: Iterable[Revision]) -> list[tuple[Revision, InjectedSidecar]]:
    """Return the sidecars of all *revisions* as they start, BeforeInit ones first.

    The sort is stable: among those that may go next, the first by rank, precedence and place goes. Where `startAfter`
    makes a cycle (see `cycle`; the policy of lowest precedence in it is refused before it gets here), the rest keeps
    its order by rank.
    """
    waiting = sorted(
        ((sidecar.position is Position.AFTER_INIT, sidecar.rank, first, place), revision, sidecar)
        for revision, first in ((each, precedence(each)) for each in revisions)
        for place, sidecar in enumerate(revision.sidecars)
    )
    if not any(sidecar.start_after for _, _, sidecar in waiting):
        return [(revision, sidecar) for _, revision, sidecar in waiting]
    present = {sidecar.name for _, _, sidecar in waiting}
    ordered: list[tuple[Revision, InjectedSidecar]] = []
    placed: set[str] = set()
    while waiting:
        ready = next((entry for entry in waiting if not (set(entry[2].start_after) & present) - placed), waiting[0])
        waiting.remove(ready)
        placed.add(ready[2].name)
        ordered.append((ready[1], ready[2]))
    return ordered


def cycle(after: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the names of one cycle in "starts after", each after the next, or nothing. Unknown names are void."""
    finished: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return path[path.index(name) :]
        if name in finished:
            return ()
        for other in after.get(name, ()):
            if other in after and (found := walk(other, (*path, name))):
                return found
        finished.add(name)
        return ()

    return next((found for name in after if (found := walk(name, ()))), ())


def order_cycle(revisions: Sequence[Revision]) -> tuple[PolicyId, tuple[str, ...]] | None:
    """Return the policy to refuse, and the names of the sidecars, where `startAfter` across policies cannot be met.

    A BeforeInit sidecar that must start after an AfterInit one is a contradiction of the same kind. The policy of
    lowest precedence among those in the cycle is the one to refuse.
    """
    if not any(sidecar.start_after for revision in revisions for sidecar in revision.sidecars):
        return None
    ordered = sorted(revisions, key=precedence)
    # Where two provide a name only the one of higher precedence is injected, so it is the one that counts.
    owners = {sidecar.name: (revision, sidecar) for revision in reversed(ordered) for sidecar in revision.sidecars}
    names = sorted(owners, key=lambda name: precedence(owners[name][0]))
    found = _contradiction([owners[name][1] for name in names]) or cycle(
        {name: owners[name][1].start_after for name in names}
    )
    if not found:
        return None
    return max((owners[name][0] for name in found), key=precedence).policy, found


def _contradiction(sidecars: Sequence[InjectedSidecar]) -> tuple[str, ...]:
    """The first BeforeInit sidecar that must start after an AfterInit one, and that one."""
    late = {sidecar.name for sidecar in sidecars if sidecar.position is Position.AFTER_INIT}
    return next(
        (
            (sidecar.name, name)
            for sidecar in sidecars
            if sidecar.position is Position.BEFORE_INIT
            for name in sidecar.start_after
            if name in late
        ),
        (),
    )
