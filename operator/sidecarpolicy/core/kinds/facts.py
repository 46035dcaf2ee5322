"""What is to be known of a workload, whatever its kind: the facts that everything outside of `kinds` decides by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from sidecarpolicy.core.addresses import Address
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.workload import NO_CONDITION, Child, Condition, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How far the controller of one workload has come with its newest template, as one policy sees it.

    *ours*: the last change of its Pods was the policy's. *arrived*: it is complete, and its Pods bear what the record
    has of the policy. *moving*: a rollout, whoever's, still goes on: neither complete nor given up nor paused.
    *empty*: it has no Pods, so a change of it starts nothing and proves nothing. *paused*: its owner has paused it, and
    a rollout goes no further, whoever's it is. *not_begun*: its owner has paused it before anything was made of it, so
    it is empty, and its first Pods will be of whatever its template is then.

    *was_complete*: its controller has not seen its newest change yet (a scaling, an annotation, or an owner's rollout,
    which shows only then), and before that all its Pods bore what the record has of the policy, and were complete.

    *new*: it has never been available, and is still within the time that its own first rollout may take, which ends at
    *new_until*. *available*, *unhealthy*: as its controller says; neither where it says nothing, but what counts as
    given up by *gives_up* is unhealthy.

    *completed*: when the rollout was complete. Where *exact* is false that is the earliest it can have been.
    *availability_changed*: when *available* became what it is. *progressed*: the last step forward of a rollout under
    way, None where that is not known yet. *gives_up*: when one counts as given up whose controller never says so.
    *refused*: the newest template cannot make Pods, since *refused_since* (a quota, an admission rule), but never since
    before our step.

    *own_wait*: how long a Pod that is ready has to wait until it counts, by the workload's own spec, in seconds.
    *on_top*: an owner's change of its template followed ours so soon that ours may not have been over. *amended*: one
    followed ours, however late; where ours is not over, what comes of it is not ours alone.
    *down_since_step*: when our step was, where it has not been available since, whoever has changed it meanwhile; None
    where it has been, or where nothing tells.
    *behind*: what its controller has made of its newest template is not seen yet, so nobody knows what its Pods bear.
    *said*, *said_of_availability*: the controller's words about the rollout, and about availability.

    All times are seconds since the epoch.
    """

    ours: bool
    arrived: bool
    moving: bool
    empty: bool
    new: bool
    available: bool
    unhealthy: bool
    paused: bool = False
    not_begun: bool = False
    was_complete: bool = False
    completed: float = 0.0
    exact: bool = True
    availability_changed: float = 0.0
    progressed: float | None = None
    gives_up: float | None = None
    refused: Condition = NO_CONDITION
    refused_since: float | None = None
    new_until: float | None = None
    own_wait: int = 0
    on_top: bool = False
    amended: bool = False
    down_since_step: float | None = None
    behind: bool = False
    said: str = ""
    said_of_availability: str = ""

    def soaked_at(self, seconds: int, patience: float) -> float:
        """When a complete workload has soaked for *seconds* (since the epoch); infinity while it must start again.

        The soak counts from the completion. Losing availability within it starts it again when availability is back.
        Only the last change of availability shows: a container that crashes again and again is up for a moment each
        time. So a loss, or the end of one, that came sooner than *patience* seconds after the completion (after which
        it would have failed) counts as within the soak; one that came later does not: rather a slot is held a little
        longer than the next step begun early, and a restart changes nothing. Times are whole seconds: a workload that
        is unavailable since the very second in which it completed has lost it again (a crash loop is up for a moment).
        """
        ends = self.completed + seconds
        changed, patience = self.availability_changed, max(patience, seconds)
        if self.available:
            return changed + seconds if self.completed < changed < self.completed + patience else ends
        lost = self.completed <= changed < self.completed + patience
        return inf if lost and self.unhealthy else ends


class Kind(Protocol):
    """One kind of workload: the module that knows how its controller rolls a template out.

    A module is the implementation, so that a kind is one file. What it keeps of an object beside `Workload` is its own,
    in `Workload.own`, and nobody else reads it.
    """

    @property
    def ADDRESS(self) -> Address:  # noqa: N802
        """The kind itself."""

    @property
    def CHILDREN(self) -> Address:  # noqa: N802
        """What the controller makes of it, one for each template: these bear a copy of the record."""

    @property
    def TEMPLATE(self) -> tuple[str, ...]:  # noqa: N802
        """Where in the object its Pod template is."""

    def workload_from(self, body: Mapping[str, Any], known: Workload | None = None, /) -> Workload:
        """Return what matters of the object *body*; *known*: as it was before."""

    def child_from(self, body: Mapping[str, Any], /) -> Child | None:
        """Return what matters of a child *body*, or None where no workload of this kind controls it."""

    def observe(
        self,
        workload: Workload,
        children: Sequence[Child],
        policy: PolicyId,
        /,
        *,
        now: float,
        patience: int,
        soak: int,
    ) -> Facts:
        """Return the facts about *workload* for *policy* at *now*.

        *patience* and *soak*: how long the policy lets a rollout be without a step forward, and complete before it
        counts, in seconds.
        """
