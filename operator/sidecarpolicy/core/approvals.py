"""What an author approves with the annotation `sidecars.dev/approve`: how each approval is spelt.

An approval means one thing at one moment: a removal of one generation, a canary group at one revision.
"""

from __future__ import annotations

import re

from sidecarpolicy.core.lists import entries_of

STUCK = "#stuck"
"""How the approval of a removal ends that goes on although too many of its workloads are stuck."""

APPROVAL = re.compile(rf"removal@\d+({STUCK})?|canary/[-a-z0-9]+@[-.a-z0-9]+")


def approvals(text: str) -> frozenset[str]:
    """Return the approvals in the value of the annotation."""
    return frozenset(entries_of(text))


def removal_approval(generation: int, *, stuck: bool = False) -> str:
    """How an approval of a removal is spelt; *stuck*: also of going on although too many make no progress."""
    return f"removal@{generation}" + (STUCK if stuck else "")


def approval_of(group: str, revision: str) -> str:
    """How an approval of canary group *group* at *revision* is spelt."""
    return f"canary/{group}@{revision}"
