"""Stored revisions as one workload gets them: with what its owner has adjusted, where the policy allows that."""

from __future__ import annotations

from sidecarpolicy.core.adjusting import Wishes, adjusted, adjustment_on, readjusted
from sidecarpolicy.core.adjustment import UNADJUSTED
from sidecarpolicy.core.record import INIT_CONTAINERS, ItemKey, Record
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Judgement


def as_adjusted(revision: Revision, wishes: Wishes, record: Record, context: Context) -> Revision:
    """Return the stored *revision* as a workload with *record* gets it, whose owner has these *wishes*."""
    entry = record.entries.get(revision.policy)
    if not wishes and (entry is None or not entry.adjustment):
        return revision
    cached = context.cache.policies.get(revision.policy)
    policy = cached.policy if cached is not None else None
    return adjusted(revision, adjustment_on(revision, wishes, policy, entry))


def readjusted_on(judgement: Judgement, context: Context) -> frozenset[ItemKey]:
    """Return the items of a judged workload in which its owner sets something anew, or no more: nobody undid them."""
    found: set[ItemKey] = set()
    for policy, entry in judgement.record.entries.items():
        stored = context.revision(policy, entry.revision)
        if stored is None or not (judgement.wishes.overrides or entry.adjustment.overrides):
            continue
        now = as_adjusted(stored, judgement.wishes, judgement.record, context).adjustment
        found |= {ItemKey(INIT_CONTAINERS, name) for name in readjusted(entry.adjustment, now)}
    return frozenset(found)


def as_recorded(revision: Revision, record: Record) -> Revision:
    """Return the stored *revision* as *record* says that it is there."""
    entry = record.entries.get(revision.policy)
    return adjusted(revision, entry.adjustment if entry is not None else UNADJUSTED)
