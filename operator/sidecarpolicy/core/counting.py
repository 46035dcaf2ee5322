"""What one target adds to its policy's fleet: to the counts, to the lists that a status shows, to the queues.

Pure, one target at a time; `fleet` adds it up by difference.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum
from typing import Any, NamedTuple

from sidecarpolicy.core.configs import is_older, plain
from sidecarpolicy.core.picking import Order, digest
from sidecarpolicy.core.progress import Health, State, Target
from sidecarpolicy.names import Reason


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


# Kinds of tallies, and what the details are.
COUNT = "count"  # one of the words below
STATE = "state"  # State
STANDING = "standing"  # (canary group, Standing)
USE = "use"  # name of a revision
SLOTS_IN = "slots in"  # namespace
MOVING_IN = "moving in"  # namespace; those in flight that have not failed
UPDATED_IN = "updated in"  # namespace
BEHIND_IN = "behind in"  # namespace; those that are to get the update revision
CHANGED = "changed"  # (namespace, ConfigObject); those that are to restart because of it
PROVEN_IN = "proven in"  # namespace; those of CONFIG_PROVEN
WAITING_FOR = "waiting for"  # a policy; those of WAITING_FOR_OTHERS that it is to be taken out of

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
OUTDATED = "outdated"  # failed at another revision, and still to get the update revision
AMENDED = "amended"  # it fails with what its owner has changed on top of ours
CONFIG_BEHIND = "config behind"  # they are to restart because of their configuration
CONFIG_PROVEN = "config proven"  # they have, since such restarts began
CONFIG_DECLARED = "config declared"  # they never do, because somebody applies their records
CONFIG_MOVING = "config moving"  # they do now
CONFIG_FAILING = "config failing"  # they have failed of it, and nothing has been done about it yet
WAITING_FOR_OTHERS = "waiting for others"  # pending until another policy is taken out of it
RECORDED = "recorded"  # the policy is in the record, be it only with a note

# Names of listings.
LATE = "late"
FAILED = "failed"
TO_DIAGNOSE = "to diagnose"
CONFLICTS = "conflicts"
REMOVAL_CONFLICTS = "removal conflicts"
IN_BACKOFF = "in backoff"
BUSY = "busy"  # pending until the owner's rollout there, or another policy's, is over
NOT_COUNTED = "not_counted"
SKIPPED = "skipped"
ROLLBACK = "rollback"
JOINING = "joining"
HANDOVER = "handover"

# Kinds of queues.
UPDATE = "update"
CONFIG = "config"
PIN = "pin"
REMOVE = "remove"

# In place of a canary group: of none, and yet a member of one given by a number, because it had its turn.
MEMBER = "*"

QueueKey = tuple[str, Order, bool, str]


class Additions(NamedTuple):
    """What one target adds: to *tallies* by kind and detail, to *listings* by name and sort key, to a *queue*."""

    tallies: tuple[tuple[str, Hashable], ...]
    listings: tuple[tuple[Hashable, tuple[Any, ...]], ...]
    queue: QueueKey | None
    slot: bool
    moment: float | None


NOTHING = Additions((), (), None, False, None)


def additions_of(each: Target, *, wanted: bool, update: str | None) -> Additions:
    """Return what *each* adds; *wanted*: it is selected, otherwise what it has is to be removed."""
    namespace, state, note = each.workload.namespace, each.state, each.note
    tallies: list[tuple[str, Hashable]] = []
    listings: list[tuple[Hashable, tuple[Any, ...]]] = []
    # What was unhealthy before fails for no reason of ours, and a removal that was tried is never undone.
    released = (each.failing and each.is_its_owners) or (not wanted and not each.recorded and state is State.FAILED)
    # Pods that start for a rollback read the content that failed: the next edit heals them, and is not to wait for it.
    released = released or (wanted and each.goes_back_late)
    slot = each.holds_slot and not released
    late = each.late_since is not None
    if slot:
        tallies += ((COUNT, SLOTS), (SLOTS_IN, namespace))
        if not each.failing:
            tallies.append((MOVING_IN, namespace))
    if each.recorded:
        tallies.append((COUNT, RECORDED))
    if each.revision is not None:
        tallies += ((COUNT, BEARING), (USE, plain(each.revision)))
    if note.previous:
        tallies.append((USE, plain(note.previous)))
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
    return Additions(tuple(tallies), tuple(listings), queue, slot, moment)


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
    if each.proves_config:
        tallies += ((COUNT, CONFIG_PROVEN), (PROVEN_IN, namespace))
    if each.declared and each.skip is None:
        tallies.append((COUNT, CONFIG_DECLARED))
    if each.restarts and slot:
        tallies.append((COUNT, CONFIG_FAILING if each.failing else CONFIG_MOVING))
    if each.note.unhealthy_before:
        tallies.append((COUNT, UNHEALTHY_BEFORE))
        if not each.available:
            tallies.append((COUNT, UNAVAILABLE_BEFORE))
    elif each.failing and each.is_its_owners:
        tallies.append((COUNT, AMENDED))
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
    if state is State.FAILED and each.outdated and idle:
        tallies.append((COUNT, OUTDATED))
    fresh = each.new and each.revision is None
    if each.skip is not None:
        listings.append(((SKIPPED, each.skip.reason.value), ()))
        if each.pinned_to is not None and each.pinned_to != each.revision and idle and not each.busy:
            return PIN, order, fresh, each.pinned_to
        return None
    if each.waits_for:
        if state is State.PENDING:
            tallies.append((COUNT, WAITING_FOR_OTHERS))
            for policy in sorted(each.waits_for):
                tallies.append((WAITING_FOR, policy))
                listings.append(((WAITING_FOR, policy), ()))
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
    if each.changed:
        tallies.append((COUNT, CONFIG_BEHIND))
        tallies += ((CHANGED, (namespace, changed)) for changed in each.changed)
    if fresh and idle and not each.rolled_back and not each.busy:
        listings.append((JOINING, (digest(str(each.workload)),)))
    if each.busy and state is State.PENDING:
        listings.append((BUSY, ()))
    if each.busy or not idle:
        return None
    if is_older(each.revision):
        return CONFIG, order, False, ""
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
        case State.PENDING if each.waits_for:  # nobody knows when it can: its group does not wait for it
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
