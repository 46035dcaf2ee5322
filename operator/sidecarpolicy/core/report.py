"""What a status is made of: one policy's situation, its plan, and what is in the way; with every fact about targets.

Sentences and counts ask a Report and never its targets, so how the targets are kept is this module's affair alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import Plan, Situation
from sidecarpolicy.core.revision import Halt
from sidecarpolicy.core.targets import State, Target
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
class Report:
    """Everything a status is made of.

    *problem*: why the newest generation could not be accepted yet, though nothing is wrong with it; the situation is
    then about what was accepted last. *halt*: the halt that is written down, while the rollout is halted. *stored*:
    the names of the revisions that can be gone back to; None where that is not known.
    """

    generation: int
    situation: Situation
    plan: Plan
    rejection: Rejection | None = None
    problem: str = ""
    halt: Halt | None = None
    stored: frozenset[str] | None = None
    selects_everything: bool = False
    warnings: Sequence[Warned] = ()

    # How many

    @property
    def matched(self) -> int:
        """How many workloads are selected."""
        return len(self.situation.targets)

    def count(self, state: State) -> int:
        """How many targets are in *state*."""
        return self.plan.counts.get(state, 0)

    @property
    def available(self) -> int:
        """How many selected ones carry the policy, at any revision, and are available."""
        return sum(each.available for each in self.situation.targets)

    @property
    def unavailable_before(self) -> int:
        """How many selected ones were not available before the policy changed them, and are not now."""
        return sum(each.note.unhealthy_before and not each.available for each in self.situation.targets)

    @property
    def removing(self) -> int:
        """How many are not selected and still carry the policy."""
        return len(self.situation.removing)

    @property
    def carrying(self) -> int:
        """How many carry sidecars of the policy, selected or not."""
        return sum(each.revision is not None for each in self._everyone)

    @property
    def recorded(self) -> int:
        """How many have the policy in their record, selected or not, be it only with a note."""
        return sum(each.recorded for each in self._everyone)

    # Failures

    @property
    def late(self) -> list[Target]:
        """Those, skipped and removed ones too, that have made no progress for too long; the longest standing first."""
        found = [each for each in self._everyone if each.late_since is not None]
        return sorted(found, key=lambda each: (each.late_since or 0.0, each.workload))

    @property
    def failed(self) -> list[Target]:
        """Failed targets: first what counts against maxFailures and of which the cause is known."""
        failed = (each for each in self.situation.targets if each.state is State.FAILED)
        return sorted(failed, key=lambda each: (not each.counts, not each.message, each.workload))

    @property
    def contested(self) -> list[Target]:
        """Targets on which another writer keeps undoing the policy."""
        return _contested(self.situation.targets)

    @property
    def unrecoverable(self) -> list[Target]:
        """Failed targets that cannot be rolled back, because the revision that they had is not stored any more."""
        if self.stored is None:
            return []
        return [
            each
            for each in self.failed
            if each.failing and each.note.previous and each.note.previous not in self.stored
        ]

    # Waiting

    @property
    def retried(self) -> list[Target]:
        """Those whose last write failed for a reason that passes by itself."""
        found = (
            each
            for each in self._everyone
            if each.backoff is not None
            and not each.backoff.rejected
            and each.state not in (State.FAILED, State.SKIPPED)
        )
        return sorted(found, key=lambda each: each.workload)

    @property
    def awaiting(self) -> list[str]:
        """The approvals that are asked for now: with them it would go on."""
        situation, plan = self.situation, self.plan
        if situation.stopped or (self.rejection is not None and not situation.deleting):
            return []
        if situation.deleting:
            return [plan.held] if plan.held else []
        if situation.rollout.paused or situation.frozen or self.halted:
            return []
        stage = [plan.stage.awaits] if plan.stage is not None and plan.stage.awaits else []
        return [*stage, *([plan.held] if plan.held else [])]

    @property
    def halted(self) -> bool:
        """Whether nothing goes on until the policy is edited or resumed."""
        return not self.situation.deleting and (self.situation.halted or self.plan.halts)

    @property
    def empty_groups(self) -> list[str]:
        """Canary groups whose selector selects none of the targets, by name."""
        if not self.matched:
            return []
        members = {each.group for each in self.situation.targets}
        canary = self.situation.rollout.canary
        return [group.name for group in canary if group.most is None and group.name not in members]

    # Removal

    @property
    def contested_removals(self) -> list[Target]:
        """Workloads to which another writer brings back what is removed."""
        return _contested(self.situation.removing)

    @property
    def refused_removals(self) -> list[tuple[WorkloadId, str]]:
        """Workloads whose change the API server refuses, with its words."""
        return sorted((workload, each.message) for workload, each in self.situation.unwritable.items())

    @property
    def failed_removals(self) -> int:
        """How many removals were tried and have failed: the sidecars are out, and the Pods make no progress."""
        return sum(
            each.state is State.FAILED and each.revision is None and not each.excused
            for each in self.situation.removing
        )

    @property
    def late_removals(self) -> int:
        """How many removals make no progress; each has freed its slot."""
        return sum(each.late_since is not None for each in self.situation.removing)

    @property
    def removals_wait(self) -> bool:
        """Whether some workload waits for its removal to begin."""
        return any(each.revision and not each.holds_slot for each in self.situation.removing)

    @property
    def removals_move(self) -> bool:
        """Whether some removal is in flight and makes progress."""
        return any(each.holds_slot and each.late_since is None for each in self.situation.removing)

    # Skipped

    @property
    def skipped(self) -> Mapping[str, list[Target]]:
        """Skipped targets by reason, in order of name."""
        found: dict[str, list[Target]] = defaultdict(list)
        for each in sorted(self.situation.targets, key=lambda each: each.workload):
            if each.state is State.SKIPPED and each.refusal is not None:
                found[each.refusal.reason.value].append(each)
        return dict(sorted(found.items()))

    @property
    def _everyone(self) -> Iterable[Target]:
        return (*self.situation.targets, *self.situation.removing)


def _contested(targets: Iterable[Target]) -> list[Target]:
    found = (each for each in targets if each.reason == Reason.FIELD_CONFLICT)
    return sorted(found, key=lambda each: each.workload)
