"""What the passes share: the store, the ways out, what is decided but not yet written, and what was refused.

All of it may be lost at any moment: what must survive a restart is in the cluster.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sidecarpolicy import names
from sidecarpolicy.core.arithmetic.findings import Finding
from sidecarpolicy.core.checks import Pin, Refusal, Subject, judge
from sidecarpolicy.core.diagnosis import Diagnosis
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import rebuilt
from sidecarpolicy.core.pins import pins_of
from sidecarpolicy.core.plan import Step, Unwritable
from sidecarpolicy.core.record import ItemKey, Record
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.status import Warned
from sidecarpolicy.core.targets import facts_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.undone import Limits, Undone
from sidecarpolicy.core.workload import Workload, record_of
from sidecarpolicy.engine.port import Api, ApiError, Events, Resource
from sidecarpolicy.engine.queue import WorkQueue
from sidecarpolicy.engine.store import Key, Store
from sidecarpolicy.names import OnFailure

log = logging.getLogger(__name__)

Foreseen = Mapping[PolicyId, tuple[Finding, ...]]
"""What the arithmetic says of one workload, by the policy that is there or to come."""

# After this many tries in a row that came to nothing, a workload is reported as refused and no longer holds a slot.
MOST_TRIES = 5

# A refusal of the API server is tried again when the workload changes, or after this many seconds.
REFUSAL_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBackoff:
    """What the server said of our patch of one workload, which version of the workload it was, and when."""

    uid: str
    generation: int
    message: str
    messages: Mapping[str, str]
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """A write that could not be made for no fault of its own: how often in a row, and when it is tried again."""

    tries: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed:
    """What was found out about a late rollout, of which version of the workload, and when."""

    uid: str
    generation: int
    at: float
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What this process wrote last of one policy on one workload; *revision* is empty where it took it away.

    *undone*: how often that had been undone. *by_admission*: the server's own answer did not have all of it.
    """

    uid: str
    revision: str
    items: frozenset[ItemKey]
    undone: Undone
    by_admission: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What admission makes of a repair of one workload, tried without writing: nothing that mends *body*.

    *missing*: by policy, items that it takes away altogether. That is looked at again from *until* on, in seconds
    since the epoch.
    """

    body: bytes
    missing: Mapping[PolicyId, frozenset[ItemKey]]
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One workload, decoded, with the verdict on every policy that selects it."""

    template: Json
    record: Record
    subject: Subject
    verdicts: Mapping[PolicyId, Refusal | None]


@dataclass(slots=True, kw_only=True)
class World:
    """Everything the passes work on. *operator_namespace* holds what belongs to cluster policies."""

    api: Api
    events: Events
    queue: WorkQueue[Key]
    operator_namespace: str
    store: Store = field(init=False)
    limits: Limits = Limits()
    now: Callable[[], float] = time.time
    steps: dict[WorkloadId, dict[PolicyId, Step]] = field(default_factory=lambda: defaultdict(dict))
    writing: dict[WorkloadId, frozenset[PolicyId]] = field(default_factory=dict)
    refusals: dict[WorkloadId, WriteBackoff] = field(default_factory=dict)
    postponed: dict[WorkloadId, Postponed] = field(default_factory=dict)
    warned: dict[WorkloadId, dict[PolicyId, tuple[Warned, ...]]] = field(default_factory=lambda: defaultdict(dict))
    mutated: dict[WorkloadId, Mutation] = field(default_factory=dict)
    written: dict[WorkloadId, dict[PolicyId, Written]] = field(default_factory=dict)
    diagnosed: dict[WorkloadId, Diagnosed] = field(default_factory=dict)
    told_missing: set[tuple[str, PolicyId]] = field(default_factory=set)
    looked_at: set[WorkloadId] = field(default_factory=set)
    foreseen: dict[WorkloadId, tuple[object, Foreseen]] = field(default_factory=dict)
    told_conflicts: set[tuple[str, PolicyId]] = field(default_factory=set)
    _judged: dict[WorkloadId, tuple[object, Judgement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = Store(self.operator_namespace)

    def note(self, resource: Resource, body: Json) -> None:
        """Take in what the server answered to a write or a read of ours, and queue what it concerns."""
        for key in self.store.put(resource, body):
            self.queue.add(key)

    @property
    def stopped(self) -> bool:
        """Whether the emergency switch is on: no workload is changed."""
        return self.store.namespace(self.operator_namespace).stops

    def queue_policies_on(self, identity: WorkloadId) -> None:
        """Have every policy looked at again that selects a workload, or has something on it or its Pods."""
        workload = self.store.workloads.get(identity)
        if workload is not None:
            for key in self.store.concerned(workload):
                self.queue.add(key)

    def revision(self, policy: PolicyId, name: str) -> Revision | None:
        """Look a stored revision up; this is what the core calls *known*."""
        stored = self.store.revision(policy, name)
        return stored.revision if stored else None

    def refused(self, workload: Workload) -> Mapping[str, str]:
        """What the server would not have on *workload* as it is now, by revision."""
        refused = self.refusals.get(workload.id)
        if refused is None:
            return {}
        if (refused.uid, refused.generation) != (workload.uid, workload.generation) or self.now() >= refused.until:
            del self.refusals[workload.id]
            self.queue_policies_on(workload.id)  # they may try again
            return {}
        return refused.messages

    def unwritable(self, workload: Workload) -> Unwritable | None:
        """What the server said of the last patch of *workload* as it is now, where it would not have it."""
        self.refused(workload)
        refused = self.refusals.get(workload.id)
        return Unwritable(until=refused.until, message=refused.message) if refused else None

    def refuse(self, workload: Workload, message: str, revisions: frozenset[str]) -> None:
        """Remember that the server would not have *revisions* on *workload* as it is now."""
        log.warning("%s", message)
        self.refusals[workload.id] = WriteBackoff(
            uid=workload.uid,
            generation=workload.generation,
            message=message,
            messages=dict.fromkeys(revisions, message),
            until=self.now() + REFUSAL_SECONDS,
        )
        self.queue.add_after(workload.id, REFUSAL_SECONDS + 1.0)

    def postpone(self, workload: Workload, error: ApiError, revisions: frozenset[str], *, seconds: float) -> None:
        """Remember that writing *workload* failed for the moment; try again in *seconds*, doubling.

        After MOST_TRIES in a row it counts as refused, so that it holds nobody up.
        """
        tries = 1 + (self.postponed[workload.id].tries if workload.id in self.postponed else 0)
        if tries >= MOST_TRIES:
            del self.postponed[workload.id]
            self.refuse(workload, f"{error} (tried {tries} times)", revisions)
            return
        self.postponed[workload.id] = Postponed(tries=tries, until=self.now() + min(30.0, seconds * 2.0 ** (tries - 1)))

    def wait_of(self, workload: WorkloadId) -> float:
        """How many seconds from now *workload* may be written again."""
        postponed = self.postponed.get(workload)
        return max(0.0, postponed.until - self.now()) if postponed else 0.0

    def mutation(self, workload: Workload) -> Mutation | None:
        """What admission makes of a repair of *workload* as it is now, where that is known and would mend nothing."""
        found = self.mutated.get(workload.id)
        if found is None or found.body != workload.body or (found.missing and self.now() >= found.until):
            return None
        return found

    def judgement(self, workload: Workload) -> Judgement:
        """Decode *workload* and judge every policy that selects it; kept until something that matters changes."""
        pins = self._pins(workload)
        candidates, leaving = self._revisions_on(workload, pins)
        inspected = self._inspected(workload)
        namespace = self.store.namespace(workload.id.namespace)
        missing = frozenset(set(record_of(workload.record).entries) - set(self.store.policies))
        autoscalers = self.store.autoscalers(workload.id)
        key = (
            (workload.uid, workload.generation, workload.deleting, workload.labels, workload.body),
            tuple(each.name for each in candidates),
            tuple(each.name for each in leaving),
            namespace,
            missing,
            inspected,
            pins,
            autoscalers,
        )
        kept = self._judged.get(workload.id)
        if kept is not None and kept[0] == key:
            return kept[1]
        content = workload.content
        spec = at(content.template, "spec")
        record = record_of(workload.record)
        if any(each.policy not in record.entries for each in candidates):
            stored = [
                revision.revision
                for each in candidates
                for revision in sorted(self.store.revisions(each.policy), key=lambda stored: stored.since, reverse=True)
            ]
            record = rebuilt(spec, record, content.claims, stored)
        subject = Subject(
            workload=workload,
            namespace=namespace,
            spec=spec,
            record=record,
            owners=content.claims.owners,
            missing=missing,
            pins=pins,
            inspected=inspected,
            autoscalers=autoscalers,
        )
        judgement = Judgement(
            template=content.template,
            record=record,
            subject=subject,
            verdicts=judge(subject, candidates, leaving),
        )
        self._judged[workload.id] = (key, judgement)
        return judgement

    def forget(self, workload: WorkloadId) -> None:
        """Drop everything that is kept about a workload that is gone."""
        self.steps.pop(workload, None)
        self.refusals.pop(workload, None)
        self.postponed.pop(workload, None)
        self.diagnosed.pop(workload, None)
        self.warned.pop(workload, None)
        self.looked_at.discard(workload)
        self.mutated.pop(workload, None)
        self.foreseen.pop(workload, None)
        self.written.pop(workload, None)
        self._judged.pop(workload, None)

    def _pins(self, workload: Workload) -> dict[PolicyId, Pin]:
        """What the owner of *workload* pins policies to, where that is not what they are rolling out anyway."""
        text = workload.annotations.get(names.PIN)
        if not text:
            return {}
        pinned = pins_of(text)
        found = {}
        for seen in self.store.selecting(workload):
            asked, update = pinned.of(seen.id), self.store.update_revision(seen.id)
            if asked is not None and update is not None and update.revision.name != asked:
                stored = self.store.revision(seen.id, asked)
                found[seen.id] = Pin(asked=asked, revision=stored.revision.name if stored else None)
        return found

    def _inspected(self, workload: Workload) -> frozenset[PolicyId]:
        """Policies whose halted rollout has been left on *workload*, not complete, for somebody to look at."""
        found = set()
        for policy in record_of(workload.record).entries:
            seen, update = self.store.policies.get(policy), self.store.update_revision(policy)
            if seen is None or seen.policy is None or update is None or update.halt is None:
                continue
            if seen.policy.rollout.on_failure is not OnFailure.HALT:
                continue
            replica_sets = self.store.replica_sets(workload)
            facts = facts_of(policy, workload, replica_sets, seen.policy.rollout, self.now())
            if facts.ours and not facts.arrived:
                found.add(policy)
        return frozenset(found)

    def _revisions_on(self, workload: Workload, pins: Mapping[PolicyId, Pin]) -> tuple[list[Revision], list[Revision]]:
        """What the policies that select *workload* want on it, and what others still have there."""
        candidates = []
        for seen in self.store.selecting(workload):
            pin = pins.get(seen.id)
            update = self.store.update_revision(seen.id)
            if pin is not None and pin.revision and (pinned := self.revision(seen.id, pin.revision)) is not None:
                candidates.append(pinned)
            elif update is not None:
                candidates.append(update.revision)
        selecting = {each.policy for each in candidates}
        leaving = [
            revision
            for policy, entry in record_of(workload.record).entries.items()
            if policy not in selecting and (revision := self.revision(policy, entry.revision)) is not None
        ]
        return candidates, leaving
