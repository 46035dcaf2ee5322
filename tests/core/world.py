"""A fake world that ticks: Deployments, their controller, and one policy that is planned anew at every tick.

It has what the planner looks at and nothing else. The world keeps no memory of earlier plans: what a plan decides is
written into records, and the next plan reads only records, ReplicaSets and conditions, as the operator does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sidecarpolicy.core import plan as planning
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.namespace_backoff import NamespaceBackoff, namespace_backoffs
from sidecarpolicy.core.plan import Plan, RolloutState, Step
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import Target, soak_ends, target
from sidecarpolicy.core.record import NOTHING_NOTED, Entry, ItemKey, Note, Record, text_of
from sidecarpolicy.core.report import Report
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.core.status import status_of
from sidecarpolicy.core.times import timestamp
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import NO_CONDITION, Child, Condition, Workload, borne, record_of
from sidecarpolicy.names import SkipReason
from tests.core.objects import START, WEB, a_replica_set, a_workload

TICK = 10.0
ITEMS = frozenset({ItemKey(list="initContainers", name="proxy")})
LONG_AGO = START - 3600
GIVES_UP = 600.0  # progressDeadlineSeconds of every Deployment here
CONTESTED = Skip(reason=SkipReason.NAME_CONFLICT, message="somebody else declares it too")


# The owner's version, and what each policy has on it.
Template = tuple[int, tuple[tuple[PolicyId, str], ...]]


@dataclass(slots=True)
class Set:
    """A ReplicaSet: the template it was made for, and its copy of the record."""

    template: Template
    number: int
    record: str
    replicas: int


@dataclass(slots=True)
class Deployment:
    """A Deployment, its ReplicaSets, and how it behaves: after *ticks* a rollout is complete, unless it *breaks*.

    *breaks*: revisions with which it never completes; *crashes*: with which it completes and is lost right after.
    """

    name: str
    namespace: str = "shop"
    replicas: int = 2
    ticks: int = 2
    breaks: frozenset[str] = frozenset()
    crashes: frozenset[str] = frozenset()
    selected: bool = True
    contested: bool = False
    tier: str = ""
    left: bool = False
    pinned_to: str | None = None
    recreates: bool = False
    bad_versions: frozenset[int] = frozenset()
    generation: int = 1
    observed: int = 0
    version: int = 1  # the owner's own
    hotfixed: bool = False  # its owner has changed it since we did
    taken_over: bool = False  # and our rollout was complete by then
    record: str = ""
    sets: list[Set] = field(default_factory=list)
    done: int = 0
    progressing: Condition = NO_CONDITION
    available: Condition = NO_CONDITION

    @property
    def id(self) -> WorkloadId:
        """Who it is."""
        return WorkloadId(namespace=self.namespace, name=self.name)

    @property
    def revision(self) -> str | None:
        """What it bears of the policy."""
        return borne(self.record, WEB)

    @property
    def template(self) -> Template:
        """What makes it roll out when it changes."""
        entries = record_of(self.record).entries.items()
        return self.version, tuple(sorted((policy, entry.revision) for policy, entry in entries if entry.revision))

    def bears(self, revisions: frozenset[str]) -> bool:
        """Whether one of *revisions*, of whichever policy, is on it; "" stands for none at all."""
        on_it = {revision for _, revision in self.template[1]}
        return bool(on_it & revisions) or ("" in revisions and not on_it)

    @property
    def joined(self) -> bool:
        """Whether that came to it while it was new."""
        entry = record_of(self.record).entries.get(WEB)
        return entry is not None and entry.joined

    @property
    def complete(self) -> bool:
        """Whether the controller has nothing left to do."""
        return self.observed == self.generation and self.progressing.reason == "NewReplicaSetAvailable"

    def write(
        self, revision: str | None, *, policy: PolicyId = WEB, joined: bool = False, note: Note = NOTHING_NOTED
    ) -> None:
        """Write a revision into the template and the record; a note stays even without one."""
        entries = {each: entry for each, entry in record_of(self.record).entries.items() if each != policy}
        if revision is not None:
            entries[policy] = Entry(revision=revision, items=ITEMS, joined=joined, note=note)
        elif note.failed:
            entries[policy] = Entry(revision="", note=note)
        self.record = text_of(Record(entries=entries))
        self.hotfixed = self.taken_over = False
        self.generation += 1

    def scale(self, replicas: int) -> None:
        """An autoscaler scales it; the new Pods are not ready at once, and no rollout begins."""
        self.replicas = self.sets[-1].replicas = replicas
        self.generation += 1

    def lose_a_node(self, now: float) -> None:
        """Too few of its Pods are left."""
        self.available = self._condition("False", "MinimumReplicasUnavailable", now)

    def hotfix(self) -> None:
        """The owner changes his own template."""
        self.hotfixed = True
        self.taken_over = self.taken_over or self.complete
        self.version += 1
        self.generation += 1

    def tick(self, now: float) -> None:
        """Let the Deployment controller do what it does in one tick."""
        template = self.template
        if self.observed < self.generation:
            self.observed = self.generation
            if self.sets and self.sets[-1].template == template:
                self.sets[-1].record = self.record
                return
            if self.recreates:
                self.lose_a_node(now)
                for each in self.sets:
                    each.replicas = 0
            self._roll(template, now)
        elif self.complete:
            if self.bears(self.crashes) and self.available.status == "True" and self._complete_since(now) <= TICK:
                self.available = self._condition("False", "MinimumReplicasUnavailable", now)
        elif self.bears(self.breaks) or self.version in self.bad_versions:
            if now - self.progressing.updated >= GIVES_UP and self.progressing.status == "True":
                self.progressing = self._condition("False", "ProgressDeadlineExceeded", now)
        else:
            self.done += 1
            self.progressing = self._condition("True", "ReplicaSetUpdated", now)
            if self.done >= self.ticks:
                self._finish(now)

    def _complete_since(self, now: float) -> float:
        return now - self.progressing.updated

    def _roll(self, template: Template, now: float) -> None:
        again = next((each for each in self.sets if each.template == template), None)
        if again is not None:
            self.sets.remove(again)
        number = 1 + max((each.number for each in self.sets), default=0)
        self.sets.append(Set(template=template, number=number, record=self.record, replicas=min(1, self.replicas)))
        self.done = 0
        self.progressing = self._condition("True", "ReplicaSetUpdated", now)
        if self.available is NO_CONDITION:
            self.available = self._condition("False", "MinimumReplicasUnavailable", now)
        if self.replicas == 0:
            self._finish(now)

    def _finish(self, now: float) -> None:
        for each in self.sets:
            each.replicas = 0
        self.sets[-1].replicas = self.replicas
        self.progressing = self._condition("True", "NewReplicaSetAvailable", now)
        if self.available.status != "True":
            self.available = self._condition("True", "MinimumReplicasAvailable", now)

    def _condition(self, status: str, reason: str, now: float) -> Condition:
        return Condition(status=status, reason=reason, message=f"{self.name}: {reason}", updated=now, changed=now)

    def seen(self) -> Workload:
        """What the operator sees of it."""
        newest = self.sets[-1].replicas if self.sets else 0
        everything = sum(each.replicas for each in self.sets)
        conditions = {"Progressing": self.progressing, "Available": self.available}
        return a_workload(
            self.name,
            record=self.record,
            generation=self.generation,
            observed=self.observed,
            replicas=self.replicas,
            status=(
                everything,
                newest if self.observed == self.generation else everything,
                newest if self.complete else everything - newest,
            ),
            conditions=[as_json(kind, each) for kind, each in conditions.items() if each is not NO_CONDITION],
            metadata={"namespace": self.namespace},
            strategy={"type": "Recreate" if self.recreates else "RollingUpdate"},
            progressDeadlineSeconds=int(GIVES_UP),
        )

    def replica_sets(self) -> list[Child]:
        """What the operator sees of its ReplicaSets."""
        return [a_replica_set(each.number, each.record, each.replicas) for each in self.sets]


def as_json(kind: str, condition: Condition) -> Json:
    """A condition as the API server serves it."""
    return {
        "type": kind,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastUpdateTime": timestamp(condition.updated),
        "lastTransitionTime": timestamp(condition.changed),
    }


def established(name: str, *, revision: str | None = None, healthy: bool = True, **behaviour: object) -> Deployment:
    """A Deployment that has been there for an hour, with or without a revision of the policy."""
    found = Deployment(name, **behaviour)  # type: ignore[arg-type]
    if revision:
        found.write(revision)
    found.observed = found.generation
    found.sets = [Set(template=found.template, number=1, record=found.record, replicas=found.replicas)]
    found.progressing = replace(found._condition("True", "NewReplicaSetAvailable", LONG_AGO))
    found.available = found._condition(
        "True" if healthy else "False", "MinimumReplicas", LONG_AGO if healthy else LONG_AGO - TICK
    )
    return found


class Everything:
    """Holds every revision."""

    def __contains__(self, name: object) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a plan depends on at one moment; *rest*: neither selected nor bearing anything."""

    state: RolloutState
    targets: Sequence[Target]
    removing: Sequence[Target]
    rest: Sequence[Target] = ()

    @cached_property
    def fleet(self) -> Fleet:
        """The targets, counted."""
        return a_fleet(self.state.update, self.targets, self.removing)

    @cached_property
    def plan(self) -> Plan:
        """How the policy stands."""
        return planning.plan(self.state, self.fleet)

    def steps(self) -> list[Step]:
        """Everything that may be written now."""
        return list(planning.steps(self.state, self.fleet, {}))


def a_fleet(update: str | None, targets: Iterable[Target] = (), removing: Iterable[Target] = ()) -> Fleet:
    """A fleet built from nothing."""
    fleet = Fleet(update)
    for each in targets:
        fleet.put(each, wanted=True)
    for each in removing:
        fleet.put(each, wanted=False)
    return fleet


@dataclass(slots=True)
class World:
    """Deployments and one policy. *update* and *current* are what its ControllerRevisions show."""

    deployments: list[Deployment]
    rollout: Rollout
    policy: PolicyId = WEB
    name: str = ""
    others: list[World] = field(default_factory=list)
    update: str | None = "web-a"
    current: str | None = None
    completed: set[str] = field(default_factory=set)
    deleting: bool = False
    attempts: dict[str, int] = field(default_factory=dict)
    halted: set[str] = field(default_factory=set)
    approved: set[str] = field(default_factory=set)
    generation: int = 1
    stopped: bool = False
    without_quota: set[str] = field(default_factory=set)
    backoffs: dict[str, NamespaceBackoff] = field(default_factory=dict)
    removal_proven: bool = False
    taken_out: dict[WorkloadId, Target] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    known: set[str | None] = field(default_factory=set)
    now: float = START
    lines: list[str] = field(default_factory=list)
    touched: dict[str, set[str]] = field(default_factory=dict)
    looked: Look | None = None

    def __getitem__(self, name: str) -> Deployment:
        return next(each for each in self.deployments if each.name == name)

    def say(self, what: str) -> None:
        """Note in the transcript what people do."""
        self.lines.append(f"{self._clock()}  -- {what}")

    @property
    def attempt(self) -> str:
        """What failures and halts are noted under."""
        return f"{self.update}#{self.attempts.get(self.update, 1)}" if self.update else ""

    def edit(self, update: str) -> None:
        """The author writes a spec; going back to one that was there begins its next attempt, and no halt is left."""
        if update == self.update:
            return
        self.known.add(self.update)
        self.update = update
        if update in self.known:
            self.attempts[update] = self.attempts.get(update, 1) + 1

    def resume(self) -> None:
        """The author goes on after a halt."""
        assert self.update is not None
        self.say(f"resumed: {self.attempt}")
        self.halted.discard(self.attempt)
        self.attempts[self.update] = self.attempts.get(self.update, 1) + 1

    def done_with(self, deployment: Deployment) -> float:
        """When the soak of this policy's rollout on *deployment* ends."""
        revision = borne(deployment.record, self.policy)
        seen, sets = deployment.seen(), deployment.replica_sets()
        if revision in (None, self.current):
            return 0.0
        return soak_ends(self.policy, seen, sets, rollout=self.rollout, now=self.now)

    def approve(self, approval: str) -> None:
        """The author approves what the status asks for."""
        self.say(f"approved: {approval}")
        self.approved.add(approval)

    def look(self) -> Look:
        """Gather what a plan depends on, as the operator does."""
        targets: list[Target] = []
        removing: list[Target] = []
        rest: list[Target] = []
        for each in self.deployments:
            selected = each.selected and not self.deleting
            skip = CONTESTED if selected and each.contested else None
            if selected and skip is None and each.pinned_to not in (None, self.update):
                skip = Skip(reason=SkipReason.PINNED, message="", pinned_to=each.pinned_to)
            found = target(
                self.policy,
                self.update,
                each.seen(),
                each.replica_sets(),
                skip,
                rollout=self.rollout,
                now=self.now,
                attempt=self.attempt if selected else "",
                current=self.current,
                busy_until=max((other.done_with(each) for other in self.others), default=0.0),
                group=self.rollout.canary_group({"tier": each.tier}, {}),
                deselected_by_owner=each.left,
            )
            if selected:
                found = replace(
                    found, not_counted=found.not_counted or (found.failing and each.namespace in self.without_quota)
                )
                targets.append(found)
            elif found.recorded or found.holds_slot:
                removing.append(found)
            else:
                rest.append(found)
        state = RolloutState(
            policy=self.policy,
            rollout=self.rollout,
            update=self.update,
            current=self.current,
            stored=Everything(),
            tried=self.update in self.completed,
            deleting=self.deleting,
            attempt=self.attempt,
            halted=self.attempt in self.halted,
            now=self.now,
            backoffs=self.backoffs,
            stopped=self.stopped,
            generation=self.generation,
            approved=frozenset(self.approved),
            removal_proven=self.removal_proven,
        )
        return Look(state=state, targets=targets, removing=removing, rest=rest)

    def tick(self) -> Plan:
        """Let a tick pass: the controller works, the policy is planned, its steps are written."""
        self.now += TICK
        for each in self.deployments:
            each.tick(self.now)
        return self.decide()

    def decide(self) -> Plan:
        """Plan the policy and write its steps, each planned after the one before it was written."""
        look = self.look()
        self.backoffs = namespace_backoffs(self.backoffs, look.fleet, self.now)
        after = {each.workload: each for each in (*look.removing, *look.rest)}
        proven = any(planning.proves_removal(each, after.get(workload)) for workload, each in self.taken_out.items())
        self.removal_proven = self.removal_proven or proven
        self.taken_out = {each.workload: each for each in look.removing}
        look = self.looked = self.look()
        plan = look.plan
        if plan.halts:
            self.lines.append(f"{self._clock()}  !! halted: {self.attempt}")
            self.halted.add(self.attempt)
            look = self.looked = self.look()
            plan = look.plan
        self.steps = look.steps()
        for step in self.steps:
            self._apply(step)
        again = self.look().steps()
        assert not again, f"planned {self.steps} and at once {again}: {self.lines}"
        if plan.completes:
            assert self.update is not None
            self.current = self.update
            self.completed.add(self.update)
        self._write(look, plan)
        return plan

    def _apply(self, step: Step) -> None:
        deployment = next(each for each in self.deployments if each.id == step.workload)
        deployment.write(step.revision, policy=self.policy, joined=step.joins, note=step.note)
        if step.revision is not None:
            self.touched.setdefault(step.revision, set()).add(deployment.name)

    def run(self, most: int = 400) -> int:
        """Tick until nothing changes by itself any more; return how many ticks that took."""
        for number in range(most):
            plan = self.tick()
            waits = plan.looks_again is not None and plan.looks_again > self.now
            resting = all(each.complete or each.progressing.status == "False" for each in self.deployments)
            if not self.steps and not waits and resting:
                return number
        raise AssertionError(f"still moving after {most} ticks")

    def settled(self) -> str:
        """Reason and sentence of the status' Ready."""
        look = self.look()
        return self._ready(look, look.plan)

    def end(self) -> dict[str, str | None]:
        """Which revision is where."""
        return {each.name: borne(each.record, self.policy) for each in self.deployments}

    def _ready(self, look: Look, plan: Plan) -> str:
        status = status_of(Report(generation=1, state=look.state, fleet=look.fleet, plan=plan), {}, self.now)
        ready = next(each for each in status["conditions"] if each["type"] == "Ready")
        return f"{ready['reason']}: {ready['message']}"

    def _write(self, look: Look, plan: Plan) -> None:
        steps = [
            f"{what}: {', '.join(str(step.workload) for step in self.steps if _move(step) == what)}"
            for what in dict.fromkeys(map(_move, self.steps))
        ]
        ready = self._ready(look, plan)
        counts = ", ".join(f"{count} {state.value}" for state, count in plan.counts.items() if count) or "none matched"
        removing = f", {len(look.removing)} removing" if look.removing else ""
        reason = ready.partition(":")[0]
        what = f"{counts}{removing}; {plan.in_flight} of {plan.budget} slots; {reason}"
        if not steps and self.lines and self.lines[-1].partition("  ")[2].splitlines()[0] == what:
            return
        self.lines.append("\n".join([f"{self._clock()}  {what}", *(f"       {step}" for step in steps)]))

    def _clock(self) -> str:
        minutes, seconds = divmod(int(self.now - START), 60)
        return f"{minutes:02}:{seconds:02}" + (f"  {self.name}" if self.name else "")

    def transcript(self) -> str:
        """The whole story, and how it ends."""
        return "\n".join([*self.lines, f"{self._clock()}  {self.settled()}", ""])


def _move(step: Step) -> str:
    return f"{f'to {step.revision}' if step.revision else 'removed'}, {step.why}"
