"""What a status is made of: one policy's situation, its plan, and what is in the way; with every fact about targets.

Sentences and counts ask a Report and never its targets, so how the targets are kept is this module's affair alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sidecarpolicy import names
from sidecarpolicy.core import counting
from sidecarpolicy.core.configs import ConfigObject
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import Plan, RolloutState
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.core.revision import Halt
from sidecarpolicy.names import Reason, WarningReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something to know although nothing is refused; *where* tells equal ones apart for the count."""

    reason: WarningReason
    message: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a policy is not accepted. *unreadable*: not even what it says is known, so nothing may be removed for it."""

    reason: Reason
    message: str
    unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFor:
    """*workloads* that wait until the sidecars of another policy are taken out of them.

    *held*: why they are not taken out now, as what to do where somebody has to; empty where they are.
    """

    policy: PolicyId
    workloads: Sequence[Target]
    held: str = ""


def other_finalizers(finalizers: Collection[str]) -> tuple[str, ...]:
    """Return those of others, which hold a deleted policy when ours is done; none while ours is there."""
    return () if names.FINALIZER in finalizers else tuple(sorted(finalizers))


def what_became_of_them(*, orphaned: bool) -> str:
    """Say where the sidecars of a deleted policy are when it is done with them."""
    return "its sidecars are left to their owners" if orphaned else "its sidecars are gone"


def held_by(finalizers: Sequence[str], *, orphaned: bool) -> str:
    """Say of a deleted policy what the *finalizers* of others do to it."""
    return f"{what_became_of_them(orphaned=orphaned)}, and it is held by the finalizer {' and '.join(finalizers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a status is made of.

    *problem*: why the newest generation could not be accepted yet, though nothing is wrong with it; the rest is
    then about what was accepted last. Where *is_stored*, it is accepted, and something else cannot be written. *halt*:
    the halt that is written down, while the rollout is halted. *switch_bearer*: what bears the emergency switch.
    *labels_there*: of a policy that selects nothing, the labels of Pod templates where it looks for some, as
    `app=cart`. *waiting_for*: the policies that are to be taken out of selected workloads first; those that are held
    come before the others. *other_finalizers*: of others, which hold a deleted policy though nothing is left of it.
    """

    generation: int
    state: RolloutState
    fleet: Fleet
    plan: Plan
    rejection: Rejection | None = None
    problem: str = ""
    is_stored: bool = False
    halt: Halt | None = None
    selects_everything: bool = False
    warnings: Sequence[Warned] = ()
    switch_bearer: str = ""
    labels_there: Sequence[str] = ()
    waiting_for: Sequence[WaitingFor] = ()
    other_finalizers: Sequence[str] = ()

    # How many

    @property
    def matched(self) -> int:
        """How many workloads are selected."""
        return self.fleet.matched

    def count(self, state: State) -> int:
        """How many targets are in *state*."""
        return self.plan.counts.get(state, 0)

    @property
    def available(self) -> int:
        """How many selected ones carry the policy, at any revision, and are available."""
        return self.fleet.available

    @property
    def unavailable_before(self) -> int:
        """How many selected ones were not available before the policy changed them, and are not now."""
        return self.fleet.count(counting.UNAVAILABLE_BEFORE)

    @property
    def amended(self) -> int:
        """How many selected ones fail with what their owners have changed while the policy was rolled out."""
        return self.fleet.count(counting.AMENDED)

    @property
    def removing(self) -> int:
        """How many are not selected and still carry the policy."""
        return self.fleet.removing_count

    @property
    def carrying(self) -> int:
        """How many carry sidecars of the policy, selected or not."""
        return self.fleet.bearing

    @property
    def recorded(self) -> int:
        """How many have the policy in their record, selected or not, be it only with a note."""
        return self.fleet.count(counting.RECORDED)

    @property
    def changed(self) -> Sequence[tuple[str, ConfigObject]]:
        """What has changed of what `restartOn` names, by namespace, while workloads are still to restart for it."""
        return sorted(self.fleet.tally(counting.CHANGED))

    @property
    def waiting(self) -> int:
        """How many are still to get the update revision, those that failed at another one too."""
        return self.count(State.PENDING) + self.outdated

    # Failures

    @property
    def outdated(self) -> int:
        """How many have failed at another revision than the update's, and are still to get that one."""
        return self.fleet.count(counting.OUTDATED)

    @property
    def late(self) -> Sequence[Target]:
        """Those, skipped and removed ones too, that have made no progress for too long; the longest standing first."""
        return self.fleet.late

    @property
    def failed(self) -> Sequence[Target]:
        """Failed targets: first what counts against maxFailures and of which the cause is known."""
        return self.fleet.failed

    @property
    def contested(self) -> Sequence[Target]:
        """Targets on which another writer keeps undoing the policy."""
        return self.fleet.conflicts

    @property
    def unrecoverable(self) -> Sequence[Target]:
        """Failed targets that cannot be rolled back, because the revision that they had is not stored any more."""
        found = (self.fleet.get(each) for each in self.plan.stranded)
        return [each for each in found if each is not None]

    # Waiting

    @property
    def retried(self) -> Sequence[Target]:
        """Those whose last write failed for a reason that passes by itself."""
        done = (State.FAILED, State.SKIPPED)
        return [
            each
            for each in self.fleet.in_backoff
            if each.backoff is not None and not each.backoff.rejected and each.state not in done
        ]

    @property
    def busy(self) -> Sequence[Target]:
        """Those that wait until their owner's rollout, or another policy's, is over."""
        return self.fleet.busy

    @property
    def awaiting(self) -> list[str]:
        """The approvals that are asked for now: with them it would go on."""
        state, plan = self.state, self.plan
        if state.stopped or (self.rejection is not None and not state.deleting):
            return []
        if state.deleting:
            return [plan.held] if plan.held else []
        if state.rollout.paused or state.frozen or self.halted:
            return []
        stage = [plan.stage.awaits] if plan.stage is not None and plan.stage.awaits else []
        return [*stage, *([plan.held] if plan.held else [])]

    @property
    def halted(self) -> bool:
        """Whether nothing goes on until the policy is edited or resumed."""
        return not self.state.deleting and (self.state.halted or self.plan.halts)

    @property
    def empty_groups(self) -> Sequence[str]:
        """Canary groups whose selector selects none of the targets, by name."""
        return self.plan.empty_groups if self.matched else ()

    # Removal

    @property
    def contested_removals(self) -> Sequence[Target]:
        """Workloads to which another writer brings back what is removed."""
        return self.fleet.removal_conflicts

    @property
    def refused_removals(self) -> Sequence[tuple[WorkloadId, str]]:
        """Workloads whose change the API server refuses, with its words."""
        return [
            (each.workload, each.backoff.message)
            for each in self.fleet.in_backoff
            if each.backoff is not None and each.backoff.rejected and not self.fleet.is_wanted(each.workload)
        ]

    @property
    def failed_removals(self) -> int:
        """How many removals were tried and have failed: the sidecars are out, and the Pods make no progress."""
        return self.fleet.removals_failed

    @property
    def late_removals(self) -> int:
        """How many removals make no progress; each has freed its slot."""
        return self.fleet.count(counting.REMOVALS_LATE)

    @property
    def removals_wait(self) -> bool:
        """Whether some workload waits for its removal to begin."""
        return self.fleet.count(counting.REMOVALS_WAITING) > 0

    @property
    def removals_move(self) -> bool:
        """Whether some removal is in flight and makes progress."""
        return self.fleet.count(counting.REMOVALS_MOVING) > 0

    # Skipped

    @property
    def skipped(self) -> Mapping[str, Sequence[Target]]:
        """Skipped targets by reason, in order of name."""
        return self.fleet.skipped
