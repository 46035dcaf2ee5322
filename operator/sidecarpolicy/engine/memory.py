"""What one term of leadership remembers: nothing that is not found again, and all of it ends with the term.

What must survive is in the cluster: in records, on ControllerRevisions, in the conditions of workloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecarpolicy.core.adjusting import NO_WISHES, Wishes
from sidecarpolicy.core.arithmetic.change import Finding
from sidecarpolicy.core.configs import ConfigObject, Wanted, changed
from sidecarpolicy.core.diagnosis import Diagnosis
from sidecarpolicy.core.field_conflicts import Undone
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.namespace_backoff import NamespaceBackoff
from sidecarpolicy.core.pod_security import Question
from sidecarpolicy.core.progress import Backoff
from sidecarpolicy.core.record import ItemKey, Record
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.core.status import Rejection, Warned
from sidecarpolicy.core.workload import Body
from sidecarpolicy.engine.retries import Trouble
from sidecarpolicy.names import SkipReason

MOST_TOLD = 20_000

Preflight = Mapping[PolicyId, tuple[Finding, ...]]
"""What the arithmetic says of one workload, by the policy that is there or to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A write of one workload that failed: *tries* in a row, on which version of it.

    *updates*: the update revisions of its policies then. Another revision may well pass, and is tried. *orphaned*:
    policies of which everything was to be left to its owner; that changes no Pods, and may pass where a removal does
    not. *repaired*: what was to be brought in order, where no step went along; as long as that is the same it is not
    tried either.
    """

    uid: str
    generation: int
    updates: Mapping[PolicyId, str]
    tries: int
    backoff: Backoff
    orphaned: frozenset[PolicyId] = frozenset()
    repaired: object = None


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

    *restart*: the last one because of its configuration. *undone*: how often that had been undone. *by_admission*: the
    server's own answer did not have all of it.
    """

    uid: str
    revision: str
    items: frozenset[ItemKey]
    undone: Undone
    by_admission: bool
    restart: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What admission makes of a repair of one workload, tried without writing: nothing that mends *body*.

    *missing*: by policy, items that it takes away altogether. That is looked at again from *until* on, in seconds
    since the epoch.
    """

    body: Body
    missing: Mapping[PolicyId, frozenset[ItemKey]]
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What Pod Security says of a Pod in a namespace that enforces *enforced*: *words*, empty for a yes.

    *until*: then it is asked again, in seconds since the epoch.
    """

    enforced: tuple[str, str]
    words: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on every policy that selects one workload, and the record as far as it can be rebuilt.

    *wishes*: what its owner wants adjusted of what is injected. *questions*: what is to be asked before what policies
    want to inject may come. *configs*: what policies restart it for, and what is known of that now; of a policy that is
    not in it what is recorded stays. *declared*: policies that would restart it, were not its record applied by
    somebody.

    The template is not kept: ten thousand decoded ones are too much. `Workload.content` decodes it where it is needed.
    """

    record: Record
    missing: frozenset[PolicyId]
    verdicts: Mapping[PolicyId, Skip | None]
    wishes: Wishes = NO_WISHES
    questions: Mapping[PolicyId, Question] = field(default_factory=dict)
    configs: Mapping[PolicyId, Wanted] = field(default_factory=dict)
    declared: frozenset[PolicyId] = frozenset()

    def changed(self, policy: PolicyId) -> tuple[ConfigObject, ...]:
        """What of the configuration of *policy* is another than the workload's Pods have read."""
        wanted, entry = self.configs.get(policy), self.record.entries.get(policy)
        return changed(entry.config, wanted) if wanted is not None and entry is not None else ()

    @property
    def decides(self) -> tuple[object, ...]:
        """What decides what becomes of the workload, beside what is on it already."""
        return self.verdicts, self.wishes, self.configs


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What the warnings about a workload were found with: revisions there or to come, policies, its owner's marks."""

    concerned: frozenset[PolicyId]
    coming: frozenset[tuple[PolicyId, str]]
    marks: tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class WorkloadMemory:
    """What is remembered of one workload.

    *judged*, *settled*, *foreseen*: with what they depend on. *settled*: compared with what it should be, and there is
    nothing to write; *settled_until*: when what waits may be put back (seconds since the epoch), None if nothing waits.
    *stale*: what *judged* depends on may have changed. *in_fleets*: the policies whose fleets it is in.
    """

    judged: tuple[object, Judgement] | None = None
    stale: bool = False
    settled: object = None
    settled_until: float | None = None
    foreseen: tuple[object, Preflight] | None = None
    in_fleets: frozenset[PolicyId] = frozenset()
    failed: Failed | None = None
    diagnosed: Diagnosed | None = None
    mutation: Mutation | None = None
    written: dict[PolicyId, Written] = field(default_factory=dict)
    warned: Mapping[PolicyId, tuple[Warned, ...]] = field(default_factory=dict)
    inspected: Inspected | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritten:
    """A removal whose writes fail: *since* the first of them in a row, at *last*; nothing is tried *until*; *why*."""

    since: float
    last: float
    until: float
    why: str


@dataclass(slots=True, kw_only=True)
class PolicyMemory:
    """What is remembered of one policy, and its fleet.

    *accepted*: the generation that *rejection* is about, *met*: the revisions of other policies then. *asks_again*:
    when a cluster that is too old for it is asked again, in seconds since the epoch. *trouble*: with the newest
    generation, or with something else that is to be written of the policy; *pruning*: with an old revision that is to
    be deleted, which holds nothing up; *reporting*: with the status. *halted_by*: the failures that halted the rollout,
    and why. *explained*: why workloads failed, also when they have been rolled back since. *told*: the failures of
    which there has been an Event. *admitted*: what Pod Security says of its revisions, by name; *not_admitted*: the
    noes. *to_ask*: what the status was written with and is not known in this term, None where nobody has looked yet;
    until *restores_until* nothing is reported because of that. *unwritten*: removals of which writes fail. *held*: what
    keeps it from being taken out of workloads, as those were told that wait for it.
    """

    fleet: Fleet = field(default_factory=Fleet)
    accepted: int = -1
    met: frozenset[str] = frozenset()
    rejection: Rejection | None = None
    canonical: dict[str, Revision | Rejection] = field(default_factory=dict)
    asks_again: float = 0.0
    trouble: Trouble = field(default_factory=Trouble)
    pruning: Trouble = field(default_factory=Trouble)
    reporting: Trouble = field(default_factory=Trouble)
    backoffs: Mapping[str, NamespaceBackoff] = field(default_factory=dict)
    removal_proven: bool = False
    held: str = ""
    unwritten: dict[WorkloadId, Unwritten] = field(default_factory=dict)
    status_written: float = -1.0
    skipped: Mapping[WorkloadId, SkipReason] | None = None
    explained: dict[WorkloadId, tuple[str, str]] = field(default_factory=dict)
    halted_by: dict[WorkloadId, tuple[str, str]] = field(default_factory=dict)
    told: set[tuple[WorkloadId, str]] | None = None
    warned: dict[WorkloadId, tuple[Warned, ...]] = field(default_factory=dict)
    uninspected: set[WorkloadId] = field(default_factory=set)
    admitted: dict[str, dict[Question, Admitted]] = field(default_factory=dict)
    not_admitted: set[Question] = field(default_factory=set)
    to_ask: dict[Question, None] | None = None
    restores_until: float = 0.0


@dataclass(slots=True, kw_only=True)
class Memory:
    """Everything that one term remembers."""

    workloads: dict[WorkloadId, WorkloadMemory] = field(default_factory=dict)
    policies: dict[PolicyId, PolicyMemory] = field(default_factory=dict)
    told: dict[tuple[str, PolicyId, str], None] = field(default_factory=dict)

    def is_new(self, uid: str, policy: PolicyId, what: str) -> bool:
        """Whether *what* has not been told yet of an object and a policy; from now on it has.

        Of very many the oldest are forgotten: an Event that is told twice is better than a memory that grows.
        """
        key = (uid, policy, what)
        if key in self.told:
            return False
        self.told[key] = None
        if len(self.told) > MOST_TOLD:
            del self.told[next(iter(self.told))]
        return True

    def of(self, workload: WorkloadId) -> WorkloadMemory:
        """What is remembered of *workload*."""
        found = self.workloads.get(workload)
        if found is None:
            found = self.workloads[workload] = WorkloadMemory()
        return found

    def of_policy(self, policy: PolicyId) -> PolicyMemory:
        """What is remembered of *policy*."""
        found = self.policies.get(policy)
        if found is None:
            found = self.policies[policy] = PolicyMemory()
        return found
