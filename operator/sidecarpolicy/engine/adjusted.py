"""Stored revisions as one workload gets them: with what its owner has adjusted, where the policy allows that."""

from __future__ import annotations

from sidecarpolicy.core.adjusting import Wishes, adjusted, adjustment_on
from sidecarpolicy.core.adjustment import UNADJUSTED
from sidecarpolicy.core.record import Record
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.engine.context import Context


def as_adjusted(revision: Revision, wishes: Wishes, record: Record, context: Context) -> Revision:
    """Return the stored *revision* as a workload with *record* gets it, whose owner has these *wishes*."""
    entry = record.entries.get(revision.policy)
    if not wishes and (entry is None or not entry.adjustment):
        return revision
    cached = context.cache.policies.get(revision.policy)
    policy = cached.policy if cached is not None else None
    return adjusted(revision, adjustment_on(revision, wishes, policy, entry))


def as_recorded(revision: Revision, record: Record) -> Revision:
    """Return the stored *revision* as *record* says that it is there."""
    entry = record.entries.get(revision.policy)
    return adjusted(revision, entry.adjustment if entry is not None else UNADJUSTED)
