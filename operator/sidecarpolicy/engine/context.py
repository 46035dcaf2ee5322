"""What every part of the engine works on: the cache, the memory of this term, the time and the limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecarpolicy.core.field_conflicts import Limits
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.memory import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """*now*: the API server's clock, in seconds since the epoch. *limits*: of reverts by other writers."""

    cache: Cache
    memory: Memory = field(default_factory=Memory)
    now: Callable[[], float] = time.time
    limits: Limits = Limits()

    def revision(self, policy: PolicyId, name: str) -> Revision | None:
        """Look a stored revision up; this is what the core calls *known*."""
        stored = self.cache.revision(policy, name)
        return stored.revision if stored else None
