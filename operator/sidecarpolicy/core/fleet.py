"""One policy's targets, counted and in the order in which they are picked, kept by difference.

A policy may have ten thousand targets, of which one changes at a time. So what a plan, a step and a status need is
never found by walking over all of them: each target says once what it adds (its *additions*), and putting it takes away
what it added before. Two laws follow: the order in which targets were put means nothing, and whatever was put and
dropped before, a fleet equals the one built from nothing.

Nothing is decided here (see `plan`), and no clock is read: a target is put anew when its moment has come (`due`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Any, NamedTuple

from sidecarpolicy.core.counting import (
    AVAILABLE,
    BEARING,
    BUSY,
    CONFLICTS,
    COUNT,
    COUNTED,
    EVIDENCE,
    FAILED,
    HANDOVER,
    IN_BACKOFF,
    JOINING,
    LATE,
    NOT_COUNTED,
    NOTHING,
    REMOVAL_CONFLICTS,
    REMOVALS_FAILED,
    REMOVALS_IN_FLIGHT,
    ROLLBACK,
    SKIPPED,
    SLOTS,
    SLOTS_AT_UPDATE,
    SLOTS_IN,
    STATE,
    TO_DIAGNOSE,
    USE,
    WAITING_FOR,
    Additions,
    QueueKey,
    additions_of,
)
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.picking import Order, Place, Queue, digest
from sidecarpolicy.core.progress import State, Target


class Listing(Sequence[Target]):
    """Targets in an order that somebody wants to read them in; each look reads the fleet as it is."""

    __slots__ = ("_keys", "_members")

    def __init__(self, keys: Sequence[tuple[Any, ...]], members: Mapping[WorkloadId, _Member]) -> None:
        self._keys = keys
        self._members = members

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._members[key[-1]].target for key in self._keys[index]]
        return self._members[self._keys[index][-1]].target

    def __iter__(self) -> Iterator[Target]:
        return (self._members[key[-1]].target for key in self._keys)


class _Member(NamedTuple):
    target: Target
    wanted: bool
    place: Place
    additions: Additions


class Fleet:
    """The targets of one policy on their way to revision *update*.

    Targets are read with the update revision in view, so another update revision wants another fleet.
    """

    def __init__(self, update: str | None = None) -> None:
        self.update = update
        self._members: dict[WorkloadId, _Member] = {}
        self._tallies: dict[str, dict[Hashable, int]] = {}
        self._listings: dict[Hashable, list[tuple[Any, ...]]] = {}
        self._queues: dict[str, dict[Order, dict[tuple[bool, str], Queue]]] = {}
        self._moments: list[tuple[float, WorkloadId]] = []  # a heap; what no longer holds is dropped when it comes up

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fleet) and self._everything() == other._everything()

    __hash__ = None  # type: ignore[assignment]

    def _everything(self) -> tuple[object, ...]:
        return (
            self.update,
            {workload: each[:2] for workload, each in self._members.items()},
            self._tallies,
            self._listings,
            self._queues,
            self.looks_again,
        )

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, workload: object) -> bool:
        return workload in self._members

    # What changes it.

    def put(self, target: Target, *, wanted: bool) -> None:
        """Take in where a workload stands now, in place of what was known of it.

        *wanted*: it is selected, and the policy is not being deleted; otherwise what it has is to be removed.
        """
        workload = target.workload
        before = self._members.get(workload)
        place = before.place if before is not None else Place(digest(str(workload)), workload)
        additions = additions_of(target, wanted=wanted, update=self.update)
        self._members[workload] = _Member(target, wanted, place, additions)
        self._move(place, before.additions if before is not None else NOTHING, additions)

    def drop(self, workload: WorkloadId) -> None:
        """Forget a workload that is gone, or neither selected nor bears anything; one that is not there is none."""
        before = self._members.pop(workload, None)
        if before is not None:
            self._move(before.place, before.additions, NOTHING)

    def _move(self, place: Place, old: Additions, new: Additions) -> None:
        namespace = place.workload.namespace
        load = self._tallies.get(SLOTS_IN, _EMPTY).get(namespace, 0)
        moves = old.queue != new.queue
        if moves and old.queue is not None:
            self._leave(old.queue, place, load)
        if old.tallies != new.tallies:
            self._count(old.tallies, -1)
            self._count(new.tallies, +1)
        if old.slot != new.slot:
            after = load + new.slot - old.slot
            for by_order in self._queues.values():
                for queues in by_order.values():
                    for queue in queues.values():
                        queue.shift(namespace, load, after)
            load = after
        if moves and new.queue is not None:
            kind, order, flag, detail = new.queue
            queues = self._queues.setdefault(kind, {}).setdefault(order, {})
            if (flag, detail) not in queues:
                queues[flag, detail] = Queue()
            queues[flag, detail].add(place, load)
        if old.listings != new.listings:
            for name, key in old.listings:
                self._unlist(name, (*key, place.workload))
            for name, key in new.listings:
                insort(self._listings.setdefault(name, []), (*key, place.workload))
        if new.moment is not None and new.moment != old.moment:
            heappush(self._moments, (new.moment, place.workload))
            if len(self._moments) > 64 + 2 * len(self._members):
                self._moments = [
                    (each.additions.moment, workload)
                    for workload, each in self._members.items()
                    if each.additions.moment is not None
                ]
                heapify(self._moments)

    def _leave(self, key: QueueKey, place: Place, load: int) -> None:
        kind, order, flag, detail = key
        by_order = self._queues[kind]
        queues = by_order[order]
        queue = queues[flag, detail]
        queue.remove(place, load)
        if not queue:
            del queues[flag, detail]
        if not queues:
            del by_order[order]
        if not by_order:
            del self._queues[kind]

    def _count(self, tallies: tuple[tuple[str, Hashable], ...], by: int) -> None:
        for kind, detail in tallies:
            counts = self._tallies.get(kind)
            if counts is None:
                counts = self._tallies[kind] = {}
            count = counts.get(detail, 0) + by
            if count:
                counts[detail] = count
            else:
                del counts[detail]
                if not counts:
                    del self._tallies[kind]

    def _unlist(self, name: Hashable, key: tuple[Any, ...]) -> None:
        listing = self._listings[name]
        del listing[bisect_left(listing, key)]
        if not listing:
            del self._listings[name]

    # Single targets, and all of them.

    def get(self, workload: WorkloadId) -> Target | None:
        """Return where *workload* stands, None for one that is not there."""
        member = self._members.get(workload)
        return member.target if member is not None else None

    def standing_of(self, workload: WorkloadId) -> tuple[Target | None, bool, bool]:
        """Return a workload's target, whether it is selected, and whether it holds a slot."""
        member = self._members.get(workload)
        return (member.target, member.wanted, member.additions.slot) if member is not None else (None, False, False)

    def is_wanted(self, workload: WorkloadId) -> bool:
        """Whether it is there and selected, rather than to be removed."""
        member = self._members.get(workload)
        return member is not None and member.wanted

    def listed(self, workload: WorkloadId) -> frozenset[Hashable]:
        """The listings in which *workload* is."""
        member = self._members.get(workload)
        return frozenset(name for name, _ in member.additions.listings) if member is not None else frozenset()

    def holds_slot(self, workload: WorkloadId) -> bool:
        """Whether it is in flight. What failed and is no concern of ours, or a removal that failed, has no slot."""
        member = self._members.get(workload)
        return member is not None and member.additions.slot

    @property
    def targets(self) -> Iterator[Target]:
        """Every selected one, in no order. Walks over all: for people's tables."""
        return (each.target for each in self._members.values() if each.wanted)

    @property
    def removing(self) -> Iterator[Target]:
        """Every one that is to be removed, in no order. Walks over all: for people's tables."""
        return (each.target for each in self._members.values() if not each.wanted)

    # What a plan and a status count.

    def tally(self, kind: str) -> Mapping[Any, int]:
        """How many there are of a kind, by its details; without zeros."""
        return MappingProxyType(self._tallies.get(kind, _EMPTY))

    def count(self, what: str) -> int:
        """How many there are of *what*, one of the words below."""
        return self._tallies.get(COUNT, _EMPTY).get(what, 0)

    @property
    def counts(self) -> dict[State, int]:
        """How many of the selected are in each state."""
        states = self._tallies.get(STATE, _EMPTY)
        return {state: states.get(state, 0) for state in State}

    @property
    def matched(self) -> int:
        """How many are selected."""
        return sum(self._tallies.get(STATE, _EMPTY).values())

    @property
    def removing_count(self) -> int:
        """How many are not selected and still bear something, or are watched after it was taken out."""
        return len(self._members) - self.matched

    @property
    def rests(self) -> bool:
        """Whether nothing waits, is on its way, has failed or is to be taken out."""
        counts = self.counts
        return self.matched == counts[State.UPDATED] + counts[State.SKIPPED] and not self.removing_count

    @property
    def considered(self) -> int:
        """How many the budget is a share of."""
        return len(self._members) - self._tallies.get(STATE, _EMPTY).get(State.SKIPPED, 0)

    @property
    def available(self) -> int:
        """How many of the selected bear a revision and are available."""
        return self.count(AVAILABLE)

    @property
    def evidence(self) -> int:
        """How many completed the update revision with running replicas."""
        return self.count(EVIDENCE)

    @property
    def counted(self) -> int:
        """How many failures count against maxFailures."""
        return self.count(COUNTED)

    @property
    def bearing(self) -> int:
        """How many bear a revision, selected or not."""
        return self.count(BEARING)

    @property
    def slots(self) -> int:
        """How many are in flight, selected or not."""
        return self.count(SLOTS)

    @property
    def slots_at_update(self) -> int:
        """How many of the selected are in flight at the update revision."""
        return self.count(SLOTS_AT_UPDATE)

    @property
    def removals_in_flight(self) -> int:
        """How many are in flight because what they had was taken out."""
        return self.count(REMOVALS_IN_FLIGHT)

    @property
    def removals_failed(self) -> int:
        """How many removals were tried and made no progress, for no reason of another writer's."""
        return self.count(REMOVALS_FAILED)

    @property
    def in_use(self) -> frozenset[str]:
        """Names of revisions that some workload bears, may go back to or is pinned to."""
        return frozenset(self._tallies.get(USE, _EMPTY))  # type: ignore[arg-type]

    # What a status lists.

    def _listing(self, name: Hashable) -> Listing:
        return Listing(self._listings.get(name, ()), self._members)

    @property
    def late(self) -> Listing:
        """Those that made no progress for too long, skipped ones and removals too; the longest standing first."""
        return self._listing(LATE)

    @property
    def failed(self) -> Listing:
        """Selected ones that failed: those that count first, then those with a message, by identity."""
        return self._listing(FAILED)

    @property
    def to_diagnose(self) -> Listing:
        """Selected ones that fail, or may, and about which nothing has been done yet; by identity."""
        return self._listing(TO_DIAGNOSE)

    @property
    def conflicts(self) -> Listing:
        """Selected ones where another writer keeps undoing us, by identity."""
        return self._listing(CONFLICTS)

    @property
    def busy(self) -> Listing:
        """Pending ones in which another rollout has to be over first, by identity."""
        return self._listing(BUSY)

    @property
    def removal_conflicts(self) -> Listing:
        """Removals that another writer keeps undoing, by identity."""
        return self._listing(REMOVAL_CONFLICTS)

    @property
    def in_backoff(self) -> Listing:
        """Those of which a write failed, by identity."""
        return self._listing(IN_BACKOFF)

    @property
    def not_counted(self) -> Listing:
        """Those that fail now for reasons of their namespace, by identity (so by namespace)."""
        return self._listing(NOT_COUNTED)

    @property
    def skipped(self) -> dict[str, Listing]:
        """Skipped ones by reason, both sorted."""
        found = sorted(key[1] for key in self._listings if isinstance(key, tuple) and key[0] == SKIPPED)
        return {reason: self._listing((SKIPPED, reason)) for reason in found}

    @property
    def waiting_for(self) -> dict[PolicyId, Listing]:
        """Those that wait until other policies are taken out of them, by policy, both sorted."""
        waiting: Mapping[Any, int] = self._tallies.get(WAITING_FOR, _EMPTY)
        return {policy: self._listing((WAITING_FOR, policy)) for policy in sorted(waiting)}

    @property
    def rollbacks(self) -> dict[Any, Listing]:
        """Those to roll back, by where to (empty: to nothing); the longest standing first."""
        return {previous: self._listing((ROLLBACK, previous)) for previous in self._tallies.get(ROLLBACK, ())}

    @property
    def joining(self) -> Listing:
        """New ones that bear nothing yet and may."""
        return self._listing(JOINING)

    @property
    def handovers(self) -> Listing:
        """Those to be left to their owners when the policy is deleted and orphans them."""
        return self._listing(HANDOVER)

    # What is picked.

    def queues(self, kind: str) -> Mapping[Order, Mapping[tuple[bool, str], Queue]]:
        """What may be picked, by a flag and a detail.

        UPDATE by (is new, canary group), CONFIG by (False, ""), PIN by (is new, where to), REMOVE by (left, "").
        """
        return self._queues.get(kind, _NO_QUEUES)

    # When time alone changes something.

    @property
    def looks_again(self) -> float | None:
        """When time alone changes the state of a target next (seconds since the epoch), None for never."""
        moments = self._moments
        while moments:
            moment, workload = moments[0]
            member = self._members.get(workload)
            if member is not None and member.additions.moment == moment:
                return moment
            heappop(moments)
        return None

    def due(self, now: float) -> list[WorkloadId]:
        """Those whose moment has come by *now*: they are to be looked at and put anew."""
        found: dict[WorkloadId, float] = {}
        while (moment := self.looks_again) is not None and moment <= now:
            found[heappop(self._moments)[1]] = moment
        for workload, moment in found.items():
            heappush(self._moments, (moment, workload))
        return list(found)


_EMPTY: dict[Hashable, int] = {}
_NO_QUEUES: dict[Order, dict[tuple[bool, str], Queue]] = {}
