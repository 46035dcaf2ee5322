"""One policy's targets, counted and in the order in which they are picked, kept by difference.

A policy may have ten thousand targets, of which one changes at a time. So what a plan, a step and a status need is
never found by walking over all of them: each target says once what it adds (its *facts*), and putting it takes away
what it added before. Two laws follow: the order in which targets were put means nothing, and whatever was put and
dropped before, a fleet equals the one built from nothing.

Nothing is decided here (see `plan`), and no clock is read: a target is put anew when its moment has come (`due`).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Any, NamedTuple

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.targets import Health, State, Target
from sidecarpolicy.names import Reason


class Order(IntEnum):
    """Who is picked first. What is known to be broken waits for the healthy, be its rollout ours or not."""

    IN_PROGRESS = 0  # it holds a slot, at another revision
    HEALTHY = 1
    BROKEN = 2  # it holds a slot, and failed or was unhealthy before
    UNHEALTHY = 3
    EMPTY = 4  # without Pods: free of the budget


HOLDERS = frozenset({Order.IN_PROGRESS, Order.BROKEN})
WITH_PODS = (Order.IN_PROGRESS, Order.HEALTHY, Order.BROKEN, Order.UNHEALTHY)


class Standing(IntEnum):
    """Where a target stands for its canary group; the members of a group given by a number are taken in this order."""

    UPDATED = 0
    ROLLED_BACK = 1
    ROLLED_BACK_NOT_COUNTED = 2
    FAILED = 3
    FAILED_NOT_COUNTED = 4
    ARRIVING_EMPTY = 5
    ARRIVING = 6
    WAITING = 7
    ELSEWHERE_FAILED = 8
    ELSEWHERE_FAILED_NOT_COUNTED = 9
    WAITING_EMPTY = 10
    SKIPPED = 11


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


QueueKey = tuple[str, Order, bool, str]


class _Facts(NamedTuple):
    """What one target adds: to *tallies* by kind and detail, to *listings* by name and sort key, to a *queue*."""

    tallies: tuple[tuple[str, Hashable], ...]
    listings: tuple[tuple[Hashable, tuple[Any, ...]], ...]
    queue: QueueKey | None
    slot: bool
    moment: float | None


class _Member(NamedTuple):
    target: Target
    wanted: bool
    place: Place
    facts: _Facts


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
        facts = _facts(target, wanted=wanted, update=self.update)
        self._members[workload] = _Member(target, wanted, place, facts)
        self._move(place, before.facts if before is not None else _NOTHING, facts)

    def drop(self, workload: WorkloadId) -> None:
        """Forget a workload that is gone, or neither selected nor bears anything; one that is not there is none."""
        before = self._members.pop(workload, None)
        if before is not None:
            self._move(before.place, before.facts, _NOTHING)

    def _move(self, place: Place, old: _Facts, new: _Facts) -> None:
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
                    (each.facts.moment, workload)
                    for workload, each in self._members.items()
                    if each.facts.moment is not None
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
        return (member.target, member.wanted, member.facts.slot) if member is not None else (None, False, False)

    def is_wanted(self, workload: WorkloadId) -> bool:
        """Whether it is there and selected, rather than to be removed."""
        member = self._members.get(workload)
        return member is not None and member.wanted

    def listed(self, workload: WorkloadId) -> frozenset[Hashable]:
        """The listings in which *workload* is."""
        member = self._members.get(workload)
        return frozenset(name for name, _ in member.facts.listings) if member is not None else frozenset()

    def holds_slot(self, workload: WorkloadId) -> bool:
        """Whether it is in flight. What failed and is no concern of ours, or a removal that failed, has no slot."""
        member = self._members.get(workload)
        return member is not None and member.facts.slot

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
        """What may be picked: UPDATE by (is new, canary group), PIN by (is new, where to), REMOVE by (left, "")."""
        return self._queues.get(kind, _NO_QUEUES)

    # When time alone changes something.

    @property
    def looks_again(self) -> float | None:
        """When time alone changes the state of a target next (seconds since the epoch), None for never."""
        moments = self._moments
        while moments:
            moment, workload = moments[0]
            member = self._members.get(workload)
            if member is not None and member.facts.moment == moment:
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
_NOTHING = _Facts((), (), None, False, None)

# Kinds of tallies, and what the details are.
COUNT = "count"  # one of the words below
STATE = "state"  # State
STANDING = "standing"  # (canary group, Standing)
USE = "use"  # name of a revision
SLOTS_IN = "slots in"  # namespace
MOVING_IN = "moving in"  # namespace; those in flight that have not failed
UPDATED_IN = "updated in"  # namespace
BEHIND_IN = "behind in"  # namespace; those that are to get the update revision

AVAILABLE = "available"
EVIDENCE = "evidence"
COUNTED = "counted"
BEARING = "bearing"
SLOTS = "slots"
SLOTS_AT_UPDATE = "slots at update"
REMOVALS_IN_FLIGHT = "removals in flight"
REMOVALS_FAILED = "removals failed"
REMOVALS_LATE = "removals late"
REMOVALS_WAITING = "removals waiting"  # they bear a revision and are not in flight
REMOVALS_MOVING = "removals moving"  # in flight and not late
REMOVALS_UNAPPROVED = "removals unapproved"  # not the owner's wish
WITH_REPLICAS = "with replicas"  # selected, not skipped, not empty, and not rolled back: one of them goes first
UNHEALTHY_BEFORE = "unhealthy before"
UNAVAILABLE_BEFORE = "unavailable before"  # and it is not available now
RECORDED = "recorded"  # the policy is in the record, be it only with a note

# Names of listings.
LATE = "late"
FAILED = "failed"
TO_DIAGNOSE = "to diagnose"
CONFLICTS = "conflicts"
REMOVAL_CONFLICTS = "removal conflicts"
IN_BACKOFF = "in backoff"
NOT_COUNTED = "not_counted"
SKIPPED = "skipped"
ROLLBACK = "rollback"
JOINING = "joining"
HANDOVER = "handover"

# Kinds of queues.
UPDATE = "update"
PIN = "pin"
REMOVE = "remove"

# In place of a canary group: of none, and yet a member of one given by a number, because it had its turn.
MEMBER = "*"


@lru_cache(maxsize=2**14)
def digest(text: str) -> bytes:
    """A stable hash to order by."""
    return hashlib.sha256(text.encode()).digest()


def _facts(each: Target, *, wanted: bool, update: str | None) -> _Facts:
    namespace, state, note = each.workload.namespace, each.state, each.note
    tallies: list[tuple[str, Hashable]] = []
    listings: list[tuple[Hashable, tuple[Any, ...]]] = []
    # What was unhealthy before fails for no reason of ours, and a removal that was tried is never undone.
    released = (each.failing and each.is_its_owners) or (not wanted and not each.recorded and state is State.FAILED)
    slot = each.holds_slot and not released
    late = each.late_since is not None
    if slot:
        tallies += ((COUNT, SLOTS), (SLOTS_IN, namespace))
        if not each.failing:
            tallies.append((MOVING_IN, namespace))
    if each.recorded:
        tallies.append((COUNT, RECORDED))
    if each.revision is not None:
        tallies += ((COUNT, BEARING), (USE, each.revision))
    if note.previous:
        tallies.append((USE, note.previous))
    if each.pinned_to:
        tallies.append((USE, each.pinned_to))
    if late:
        listings.append((LATE, (each.late_since,)))
    if each.backoff is not None:
        listings.append((IN_BACKOFF, ()))
    if each.failing or each.suspect:
        listings.append((TO_DIAGNOSE, ()))
    order = _order(each, slot=slot)
    if wanted:
        queue = _selected(each, slot=slot, order=order, update=update, tallies=tallies, listings=listings)
    else:
        queue = _unselected(each, slot=slot, order=order, tallies=tallies, listings=listings)
    moment = each.looks_again
    if each.backoff is not None and (moment is None or each.backoff.until < moment):
        moment = each.backoff.until
    return _Facts(tuple(tallies), tuple(listings), queue, slot, moment)


def _selected(
    each: Target,
    *,
    slot: bool,
    order: Order,
    update: str | None,
    tallies: list[tuple[str, Hashable]],
    listings: list[tuple[Hashable, tuple[Any, ...]]],
) -> QueueKey | None:
    namespace, state = each.workload.namespace, each.state
    tallies += ((STATE, state), (STANDING, (each.group, _standing(each, update))))
    if each.available:
        tallies.append((COUNT, AVAILABLE))
    if each.evidence:
        tallies.append((COUNT, EVIDENCE))
    if each.note.unhealthy_before:
        tallies.append((COUNT, UNHEALTHY_BEFORE))
        if not each.available:
            tallies.append((COUNT, UNAVAILABLE_BEFORE))
    if slot and each.revision == update:
        tallies.append((COUNT, SLOTS_AT_UPDATE))
    if state is State.UPDATED:
        tallies.append((UPDATED_IN, namespace))
    elif state is State.FAILED:
        counts = each.counts
        if counts:
            tallies.append((COUNT, COUNTED))
        listings.append((FAILED, (not counts, not each.message)))
    if each.failing and each.not_counted:
        listings.append((NOT_COUNTED, ()))
    if each.reason == Reason.FIELD_CONFLICT:
        listings.append((CONFLICTS, ()))
    idle = not each.is_left_alone and each.backoff is None
    fresh = each.new and each.revision is None
    if each.skip is not None:
        listings.append(((SKIPPED, each.skip.reason.value), ()))
        if each.pinned_to is not None and each.pinned_to != each.revision and idle and not each.busy:
            return PIN, order, fresh, each.pinned_to
        return None
    failed_here = each.rolled_back and not each.not_counted
    if each.health is not Health.EMPTY and not failed_here:
        tallies.append((COUNT, WITH_REPLICAS))
    if each.revision == update:
        # One that was rolled back to just this has nothing to go back to: what its note does not say is not "nothing".
        if each.failing and not (each.is_its_owners or each.note.failed) and each.backoff is None:
            tallies.append((ROLLBACK, each.note.previous))
            listings.append(((ROLLBACK, each.note.previous), (each.late_since or 0.0,)))
        return None
    if failed_here:
        return None
    tallies.append((BEHIND_IN, namespace))
    if fresh and idle and not each.rolled_back and not each.busy:
        listings.append((JOINING, (digest(str(each.workload)),)))
    if each.busy or not idle:
        return None
    return UPDATE, order, fresh, MEMBER if each.rolled_back and not each.group else each.group


def _unselected(
    each: Target,
    *,
    slot: bool,
    order: Order,
    tallies: list[tuple[str, Hashable]],
    listings: list[tuple[Hashable, tuple[Any, ...]]],
) -> QueueKey | None:
    late = each.late_since is not None
    if slot and each.revision is None and not each.recorded:
        tallies.append((COUNT, REMOVALS_IN_FLIGHT))
    # Only a removal that was tried can have failed: while the entry is there, what is late is another change.
    if not each.recorded and each.state is State.FAILED and not each.not_counted:
        tallies.append((COUNT, REMOVALS_FAILED))
    if late:
        tallies.append((COUNT, REMOVALS_LATE))
    if each.revision is not None and not slot:
        tallies.append((COUNT, REMOVALS_WAITING))
    if slot and not late:
        tallies.append((COUNT, REMOVALS_MOVING))
    if each.reason == Reason.FIELD_CONFLICT:
        listings.append((REMOVAL_CONFLICTS, ()))
    if not each.recorded:
        return None
    if not each.deselected_by_owner:
        tallies.append((COUNT, REMOVALS_UNAPPROVED))
    if each.backoff is not None:
        return None
    listings.append((HANDOVER, (digest(str(each.workload)),)))
    if each.busy or each.is_left_alone:
        return None
    # A note alone changes no Pods.
    return REMOVE, Order.EMPTY if each.revision is None and not slot else order, each.deselected_by_owner, ""


def _order(each: Target, *, slot: bool) -> Order:
    if slot:
        return Order.BROKEN if each.failing or each.note.unhealthy_before else Order.IN_PROGRESS
    if each.health is Health.EMPTY:
        return Order.EMPTY
    return Order.UNHEALTHY if each.health is Health.UNHEALTHY or each.failing else Order.HEALTHY


def _standing(each: Target, update: str | None) -> Standing:
    match each.state:
        case State.SKIPPED:
            return Standing.SKIPPED
        case State.UPDATED:
            return Standing.UPDATED
        case State.FAILED if each.rolled_back:
            return Standing.ROLLED_BACK_NOT_COUNTED if each.not_counted else Standing.ROLLED_BACK
        case State.FAILED if each.revision == update:
            return Standing.FAILED_NOT_COUNTED if each.not_counted else Standing.FAILED
        case State.FAILED:
            return Standing.ELSEWHERE_FAILED_NOT_COUNTED if each.not_counted else Standing.ELSEWHERE_FAILED
    empty = each.health is Health.EMPTY
    if each.revision == update:
        return Standing.ARRIVING_EMPTY if empty else Standing.ARRIVING
    return Standing.WAITING_EMPTY if empty else Standing.WAITING
