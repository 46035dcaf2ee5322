"""One change, as everything that is to be said of it beforehand is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sidecarpolicy.core.record import INIT_CONTAINERS, ItemKey
from sidecarpolicy.core.tree import Json, items, with_items
from sidecarpolicy.names import WarningReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to know beforehand: a reason, and a sentence with the numbers that it was made of."""

    reason: WarningReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One policy comes to a workload, or is there: the Pod spec as it is *now*, and as it is *after* composition.

    *ours*: names of the init containers of *after* that the policy puts there; *provided*: all of its items.
    *annotations* and *labels*: those of the Pod template, ours among them; *namespace*: those labels of its
    namespace that call an injector; *emptied*: see `Claims`. *progress_deadline*: the
    policy's, and *own_deadline* the workload's own (None for none); *own_wait*: how long a Pod that is ready waits
    until it counts, by the workload's own minReadySeconds. All in seconds.
    """

    now: Json
    after: Json
    ours: frozenset[str]
    progress_deadline: int = 600
    own_deadline: int | None = 600
    own_wait: int = 0
    provided: frozenset[ItemKey] = frozenset()
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: Mapping[str, str] = field(default_factory=dict)
    emptied: frozenset[tuple[str, str]] = frozenset()

    @property
    def without(self) -> Json:
        """The Pod spec without the policy's sidecars, be they there already or not."""
        others = [each for each in items(self.after, INIT_CONTAINERS) if each["name"] not in self.ours]
        return with_items(self.after, INIT_CONTAINERS, others)


Check = Callable[[Change], Iterable[Finding]]
