"""Stories told by the product's own engine on the model: fleets, a policy, people, and a transcript.

The world moves in ticks of ten seconds. At each the controllers work first, then the operator has the time until the
next. What a story's author calls `web-b` is the policy `web` with the image `example.test/web:b`; the transcript says
`web-b` where the cluster says `web-<hash>`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import compose, eject
from sidecarpolicy.core.policy import CanaryGroup, Policy, Rollout
from sidecarpolicy.core.record import NOTHING_NOTED, Entry, Note, Record, text_of
from sidecarpolicy.core.rendering import canonical_request, canonical_revision
from sidecarpolicy.core.revision import (
    Revision,
    StoredRevision,
    from_controller_revision,
    object_name,
    revision_name,
    to_controller_revision,
)
from sidecarpolicy.core.selection import Selector
from sidecarpolicy.core.times import micro_timestamp
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, NODES, POD_TEMPLATES, POLICIES, REVISIONS
from tests.builders import a_node
from tests.core.objects import START, WEB
from tests.simulation.controllers import (
    COMPLETE,
    IMAGES,
    TICK,
    Behaviour,
    Controllers,
    borne_by,
    condition_of,
    is_observed,
    rolled_out,
    version_of,
)
from tests.simulation.faults import Faults
from tests.simulation.from_nothing import differences
from tests.simulation.invariants import FLEET, Invariants
from tests.simulation.loop import VirtualLoop
from tests.simulation.operator import NAMESPACE, Replica
from tests.simulation.server import Change, Place, Server

SETTLES = 5.0  # seconds after a tick: by then the operator has done what it can, and told it
SIGHT = 20.0  # seconds after which an operator that leads, and sees, must know what is
LONG_AGO = START - 3600


BEHAVIOUR = frozenset({"ticks", "breaks", "crashes", "bad_versions", "last_words", "unwell", "starting"})


class Deployment:
    """A Deployment of a story; before it is put into a world its fields say how it will be there."""

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "shop",
        replicas: int = 2,
        tier: str = "",
        revision: str | None = None,
        healthy: bool = True,
        established: bool = False,
        never_available: bool = False,
        recreates: bool = False,
        contested: bool = False,
        selected: bool = True,
        pinned_to: str | None = None,
        spec: Json | None = None,
        annotations: Json | None = None,
        **behaviour: Any,
    ) -> None:
        self.name, self.namespace = name, namespace
        self.behaviour = Behaviour(**behaviour)
        self._revision, self._healthy, self.established, self._replicas = revision, healthy, established, replicas
        self.never_available = never_available
        self.tier, self.recreates, self.contested = tier, recreates, contested
        self.spec, self.annotations = spec or {}, annotations or {}
        self._selected, self._pinned_to = selected, pinned_to
        self.world: World | None = None

    # What it does

    def __getattr__(self, name: str) -> Any:
        if name in BEHAVIOUR:
            return getattr(self.behaviour, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in BEHAVIOUR:
            setattr(self.behaviour, name, value)
        else:
            super().__setattr__(name, value)

    # What is there

    @property
    def place(self) -> Place:
        """Where it is stored."""
        return self.namespace, self.name

    @property
    def body(self) -> Json:
        """The object as it is."""
        assert self.world is not None
        return self.world.server.get(DEPLOYMENTS, *self.place)

    @property
    def revisions(self) -> frozenset[str]:
        """What it bears, of every policy."""
        return borne_by(self.body["spec"]["template"])

    @property
    def revision(self) -> str | None:
        """What it bears of the story's policy."""
        assert self.world is not None
        return self.bears(self.world.policy.name)

    def bears(self, policy: str) -> str | None:
        """What it bears of *policy*."""
        return next((each for each in self.revisions if each.rpartition("-")[0] == policy), None)

    @property
    def record(self) -> str:
        """The annotation's text."""
        return str(at(self.body, "metadata", "annotations").get(names.RECORD, ""))

    @property
    def entry(self) -> Entry | None:
        """What the record says of the story's policy."""
        assert self.world is not None
        return record_of(self.record).entries.get(self.world.policy)

    @property
    def joined(self) -> bool:
        """Whether that came to it while it was new."""
        return self.entry is not None and self.entry.joined

    @property
    def note(self) -> Note:
        """What the policy's last step wrote down on it."""
        return self.entry.note if self.entry is not None else NOTHING_NOTED

    @property
    def complete(self) -> bool:
        """Whether its controller has nothing left to do."""
        progressing = condition_of(self.body, "Progressing")
        if not progressing:
            return rolled_out(self.body)
        assert self.world is not None
        complete = progressing["reason"] == COMPLETE and not self.world.controllers.is_rolling(self.body)
        return is_observed(self.body) and complete

    @property
    def has_all_pods(self) -> bool:
        """Whether nothing of it is rolled out, available or not."""
        assert self.world is not None
        return self.world.controllers.has_all_pods_of(self.body)

    @property
    def rests(self) -> bool:
        """Whether its controller is done, has given up, or never gives up."""
        progressing = condition_of(self.body, "Progressing")
        waits = self.behaviour.hinders(self.body["spec"]["template"])
        tells = progressing and progressing["reason"] != COMPLETE  # or else of the template before
        given_up = progressing["status"] == "False" if tells else waits
        return self.complete or (is_observed(self.body) and given_up)

    @property
    def version(self) -> int:
        """Its owner's own."""
        return version_of(self.body["spec"]["template"])

    @property
    def replicas(self) -> int:
        """How many Pods it wants."""
        return int(self.body["spec"]["replicas"]) if self.world is not None else self._replicas

    @replicas.setter
    def replicas(self, number: int) -> None:
        if self.world is None:
            self._replicas = number
        else:
            self.scale(number)

    @property
    def healthy(self) -> bool:
        """Whether it is available."""
        return bool(condition_of(self.body, "Available").get("status") == "True")

    @healthy.setter
    def healthy(self, healthy: bool) -> None:
        assert self.world is None
        self._healthy = healthy

    # What its owner does

    def edit(self, change: Callable[[Json], Json], manager: str = "kubectl-edit") -> None:
        """Change the object as an owner does, by an update."""
        assert self.world is not None
        self.world.server.update(DEPLOYMENTS, self.body, change(self.body), manager=manager)

    def scale(self, replicas: int) -> None:
        """An autoscaler scales it."""
        self.edit(lambda body: {**body, "spec": {**body["spec"], "replicas": replicas}}, "kube-controller-manager")

    def hotfix(self) -> None:
        """The owner changes their own image."""
        self.edit(lambda body: _with_image(body, f"{IMAGES}app:{self.version + 1}"))

    def lose_a_node(self) -> None:
        """Too few of its Pods are left."""
        assert self.world is not None
        self.world.controllers.lose(self.body)

    def annotate(self, key: str, value: str | None) -> None:
        """Set or remove an annotation of its own."""
        assert self.world is not None
        patch = {"metadata": {"annotations": {key: value}}}
        self.world.server.merge_patch(DEPLOYMENTS, *self.place, patch, manager="kubectl-annotate")

    def label(self, key: str, value: str | None) -> None:
        """Set or remove a label of its own."""
        assert self.world is not None
        patch = {"metadata": {"labels": {key: value}}}
        self.world.server.merge_patch(DEPLOYMENTS, *self.place, patch, manager="kubectl-label")

    @property
    def selected(self) -> bool:
        """Whether the policy's selector leaves it in; to change that is to edit the policy."""
        return self._selected

    @selected.setter
    def selected(self, selected: bool) -> None:
        self._selected = selected
        if self.world is not None:
            self.world.write_policy()

    @property
    def pinned_to(self) -> str | None:
        """The revision at which its owner wants it."""
        return self._pinned_to

    @pinned_to.setter
    def pinned_to(self, revision: str | None) -> None:
        self._pinned_to = revision
        if self.world is not None:
            self.annotate(names.PIN, self.world.pin(revision))

    def leave_selection(self) -> None:
        """The owner takes the label off its Pods that selects it."""

        def change(body: Json) -> Json:
            metadata = body["spec"]["template"]["metadata"]
            labels = {key: value for key, value in metadata["labels"].items() if key not in FLEET}
            template = {**body["spec"]["template"], "metadata": {**metadata, "labels": labels}}
            return {**body, "spec": {**body["spec"], "template": template}}

        self.edit(change)


def established(name: str, *, revision: str | None = None, healthy: bool = True, **fields: Any) -> Deployment:
    """A Deployment that has been there for an hour, with or without a revision of the policy."""
    return Deployment(name, revision=revision, healthy=healthy, established=True, **fields)


def _with_image(body: Json, image: str) -> Json:
    spec = body["spec"]["template"]["spec"]
    first, *others = spec["containers"]
    template = {**body["spec"]["template"], "spec": {**spec, "containers": [{**first, "image": image}, *others]}}
    return {**body, "spec": {**body["spec"], "template": template}}


@dataclass(frozen=True, slots=True)
class Move:
    """The operator wrote a Deployment: *revision* is what it bears of the policy then."""

    at: float
    deployment: str
    policy: str
    before: str | None
    revision: str | None
    note: Note
    joined: bool


LOOKS = 8
"""So many looks at the cluster to one at what its operators keep, which takes three times as long as all else."""

OPEN: list[Cluster] = []
"""Those that somebody has to end."""


@dataclass(eq=False)
class Cluster:
    """What worlds share: the model, its controllers, and the operators on it."""

    loop: VirtualLoop = field(default_factory=VirtualLoop)
    faults: Faults = field(default_factory=Faults)
    replicas: list[Replica] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.time_of_setup: float | None = None
        OPEN.append(self)
        self.server = Server(self.now)
        self.server.create(NODES, "", a_node())
        self.controllers = Controllers(self.server)
        self.faults.crash = self.crash
        self.invariants = Invariants(self.server, self.controllers, lambda: self.loop.now)
        self.faults.sent = self.invariants.sent
        self.faults.answered = self.invariants.answered
        self.sighted_since = 0.0
        self.looks = 0
        self.hindered: set[str] = set()
        """What keeps every operator from seeing or telling what is, as it must be now and then."""

    def now(self) -> float:
        """The server's clock."""
        return self.time_of_setup if self.time_of_setup is not None else START + self.loop.now

    def look(self) -> None:
        """Judge what is there, once the operator has had time to see it; raise Broken."""
        if self.hindered or not any(each.leading and not each.blind for each in self.replicas):
            self.sighted_since = self.loop.now
        elif self.loop.now >= self.sighted_since + SIGHT:
            self.invariants.judge_status()
        self.looks += 1
        for each in self.replicas:
            if self.looks % LOOKS == 0 and each.leading and each.process.engine is not None:
                for difference in differences(each.process.engine):
                    self.invariants.say(difference)
        for failed in (error for each in self.replicas for process in each.processes for error in process.failed):
            self.invariants.say(f"a process ended by itself: {failed!r}")
        self.invariants.check()

    def crash(self, process: str) -> None:
        """End the replica of that process."""
        for each in self.replicas:
            if each.processes and each.process.name == process:
                each.crash()

    def add_replica(self, name: str = "one", **fields: Any) -> Replica:
        """Another operator; not started yet."""
        self.replicas.append(Replica(name=name, server=self.server, loop=self.loop, faults=self.faults, **fields))
        return self.replicas[-1]

    def end(self) -> None:
        """End every operator and the loop."""
        if self in OPEN:
            OPEN.remove(self)
        if not self.loop.is_closed():
            self.loop.end()

    def ensure_namespace(self, name: str) -> None:
        """Make a namespace where it is absent."""
        if self.server.find(NAMESPACES, "", name) is None:
            self.server.create(NAMESPACES, "", {"metadata": {"name": name}})


class World:
    """One policy and its Deployments. *update*: what its spec says; *current*: what was rolled out completely before.

    *steps*: those of the operator during the last tick. *halted*: attempts that were halted, and not resumed.
    """

    def __init__(
        self,
        deployments: Iterable[Deployment],
        rollout: Rollout,
        *,
        update: str = "web-a",
        current: str | None = None,
        policy: PolicyId = WEB,
        name: str = "",
        cluster: Cluster | None = None,
        known: Sequence[str] = (),
        sidecar: Json | None = None,
        sidecar_name: str = "",
        spec: Json | None = None,
        seed: int = 0,
    ) -> None:
        random.seed(seed)
        self.cluster = cluster or Cluster()
        self.policy, self.name = policy, name
        self.deployments: list[Deployment] = []
        self.lines: list[str] = []
        self.moves: list[Move] = []
        self.steps: list[Move] = []
        self.halted: set[str] = set()
        self.completed: set[str] = set()
        self.touched: dict[str, set[str]] = {}
        self._rollout, self._update, self._sidecar = rollout, current or update, sidecar or {}
        # One name for each policy, unless two of them are to clash where they meet.
        self._sidecar_name = sidecar_name or ("proxy" if policy.name == "web" else policy.name)
        self.spec = spec or {}
        """Further fields of the policy's spec."""
        self._real: dict[str, str] = {}
        self._stopped = False
        self._told = ""
        self.server.observers.append(self._observe)
        self.cluster.time_of_setup = LONG_AGO
        self._set_up(list(deployments), current, known)
        self.cluster.time_of_setup = None
        self.edit(update)
        if not self.cluster.replicas:
            self.cluster.add_replica()

    # The cluster

    @property
    def server(self) -> Server:
        """The model."""
        return self.cluster.server

    @property
    def controllers(self) -> Controllers:
        """Those beside us."""
        return self.cluster.controllers

    @property
    def operator(self) -> Replica:
        """The first operator."""
        return self.cluster.replicas[0]

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.cluster.now()

    def __getitem__(self, name: str) -> Deployment:
        return next(each for each in self.deployments if each.name == name)

    def _set_up(self, deployments: list[Deployment], current: str | None, known: Sequence[str]) -> None:
        for namespace in (NAMESPACE, self.policy.namespace, *(each.namespace for each in deployments)):
            if namespace:
                self.cluster.ensure_namespace(namespace)
        body = self._manifest(self._update)
        body["metadata"]["finalizers"] = [names.FINALIZER]
        self.server.create(self._kind, self.policy.namespace, body)
        for letter in dict.fromkeys([*known, *([current] if current else [])]):
            self._store_revision(letter, completed=True)
            self.cluster.invariants.landed.add(letter)
        self.arrive(*deployments)

    def arrive(self, *deployments: Deployment) -> None:
        """New Deployments, or such as have been there for an hour."""
        for each in deployments:
            each.world = self
            self.deployments.append(each)
            if self.server.find(DEPLOYMENTS, *each.place) is None:
                self._place(each)
        if any(not each.selected for each in deployments):
            self.write_policy()

    def _place(self, each: Deployment) -> None:
        self.cluster.ensure_namespace(each.namespace)
        self.controllers.behaviours[each.place] = each.behaviour
        labels = {"app": each.name, **FLEET} | ({"tier": each.tier} if each.tier else {})
        pod: Json = {"containers": [{"name": "app", "image": f"{IMAGES}app:1"}]}
        if each.contested:
            pod["initContainers"] = [{"name": "proxy", "image": "owners.test/proxy:1"}]
        template: Json = {"metadata": {"labels": labels}, "spec": pod}
        annotations = dict(each.annotations)
        if each.pinned_to:
            annotations[names.PIN] = str(self.pin(each.pinned_to))
        if each._revision:
            composed = compose(template, Record(), {self.policy: self.revision(each._revision)})
            template, annotations[names.RECORD] = composed.template, text_of(composed.record)
        spec = {
            "replicas": each._replicas,
            "selector": {"matchLabels": {"app": each.name}},
            "template": template,
            **({"strategy": {"type": "Recreate"}} if each.recreates else {}),
            **each.spec,
        }
        if each.recreates:
            annotations[names.ALLOW_DOWNTIME] = "true"
        body = {"metadata": {"name": each.name, "annotations": annotations}, "spec": spec}
        before = self.cluster.time_of_setup
        if each.established:
            self.cluster.time_of_setup = LONG_AGO
        made = self.server.create(DEPLOYMENTS, each.namespace, body)
        if each.established:
            if each.never_available:
                self.controllers.never_available(made)
            else:
                self.controllers.settle(made)
            if not each._healthy:
                each.unwell = True
                self.cluster.time_of_setup = LONG_AGO + 1800  # long after its rollout, and long ago
                self.controllers.lose(each.body)
        self.cluster.time_of_setup = before

    def leave(self, deployment: Deployment) -> None:
        """The owner deletes it."""
        self.server.delete(DEPLOYMENTS, *deployment.place)
        self.deployments.remove(deployment)

    # The policy

    @property
    def _kind(self) -> Any:
        return POLICIES[self.policy.kind]

    @property
    def object(self) -> Json | None:
        """The policy as it is stored, None where it is gone."""
        return self.server.find(self._kind, self.policy.namespace, self.policy.name)

    @property
    def status(self) -> Json:
        """Its status."""
        return at(self.object, "status") if self.object else {}

    def _manifest(self, update: str) -> Json:
        letter = update.rpartition("-")[2]
        container = {"image": f"{IMAGES}{self.policy.name}:{letter}", **self._sidecar}
        sidecar = {"name": self._sidecar_name, "container": container}
        out = sorted(each.name for each in self.deployments if not each.selected)
        selector: Json = {"matchLabels": FLEET}
        if out:
            selector["matchExpressions"] = [{"key": "app", "operator": "NotIn", "values": out}]
        rollout = {**rollout_of(self._rollout), **self.spec.get("rollout", {})}
        spec = {"selector": selector, "sidecars": [sidecar], **self.spec, "rollout": rollout}
        if not self.policy.namespace:
            spec["namespaceSelector"] = {}
        return {
            "apiVersion": names.API_VERSION,
            "kind": self.policy.kind,
            "metadata": {"name": self.policy.name, "namespace": self.policy.namespace},
            "spec": spec,
        }

    def create_policy(self) -> None:
        """Its author creates it again."""
        self.server.create(self._kind, self.policy.namespace, self._manifest(self._update))

    def write_policy(self) -> None:
        """Its author applies it, where it is there."""
        before = self.object
        if before is not None:
            self.server.update(self._kind, before, {**before, "spec": self._manifest(self._update)["spec"]})

    @property
    def update(self) -> str:
        """What the spec says."""
        return self._update

    def edit(self, update: str) -> None:
        """The author writes another image."""
        self._update = update
        self._name_of(update)
        self.write_policy()

    @property
    def rollout(self) -> Rollout:
        """The spec's."""
        return self._rollout

    @rollout.setter
    def rollout(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self.write_policy()

    @property
    def generation(self) -> int:
        """The policy's."""
        assert self.object is not None
        return int(self.object["metadata"]["generation"])

    @property
    def in_flight(self) -> set[str]:
        """The names of those that roll something of the policy out."""
        flights = self.cluster.invariants.flights
        return {place[1] for policy, place in flights if policy == self.policy.name}

    @property
    def most_in_flight(self) -> int:
        """The most Deployments that ever rolled something of the policy out at a time."""
        return self.cluster.invariants.most_in_flight.get(self.policy.name, 0)

    @property
    def deleting(self) -> bool:
        """Whether its author has deleted it."""
        return self.object is None or "deletionTimestamp" in self.object["metadata"]

    def delete(self) -> None:
        """Its author deletes it."""
        self.server.delete(self._kind, self.policy.namespace, self.policy.name)

    def annotate(self, key: str, value: str | None) -> None:
        """The author sets or removes an annotation."""
        patch = {"metadata": {"annotations": {key: value}}}
        self.server.merge_patch(self._kind, self.policy.namespace, self.policy.name, patch)

    def resume(self) -> None:
        """The author goes on after a halt."""
        self.say(f"resumed: {self.attempt}")
        self.halted.discard(self.attempt)
        self.annotate(names.RESUME, self.real(self.attempt))

    def approve(self, approval: str) -> None:
        """The author approves what the status asks for."""
        self.say(f"approved: {approval}")
        given = at(self.object, "metadata", "annotations").get(names.APPROVE, "")
        self.annotate(names.APPROVE, ",".join(each for each in (given, self.real(approval)) if each))

    @property
    def stopped(self) -> bool:
        """The emergency switch."""
        return self._stopped

    @stopped.setter
    def stopped(self, stopped: bool) -> None:
        self._stopped = stopped
        patch = {"metadata": {"annotations": {names.STOP: "true" if stopped else None}}}
        self.server.merge_patch(NAMESPACES, "", NAMESPACE, patch)

    @property
    def without_quota(self) -> set[str]:
        """Namespaces in which no Pod can be made."""
        return self.controllers.without_quota

    # Revisions

    def revision(self, letter: str) -> Revision:
        """What `web-a` injects, in canonical form."""
        policy = self.decoded(letter)
        namespace = self.policy.namespace or NAMESPACE
        request = canonical_request(policy, namespace)
        found = canonical_revision(policy, self.server.create(POD_TEMPLATES, namespace, request, dry_run=True))
        self._real[found.name] = letter
        return found

    def revision_of(self, policy: Policy) -> Revision:
        """What *policy* injects, in canonical form."""
        namespace = self.policy.namespace or NAMESPACE
        request = canonical_request(policy, namespace)
        return canonical_revision(policy, self.server.create(POD_TEMPLATES, namespace, request, dry_run=True))

    def bare(self, deployment: Deployment) -> Json:
        """Its Pod template without anything of ours."""
        return eject(deployment.body["spec"]["template"], record_of(deployment.record))

    def decoded(self, letter: str) -> Policy:
        """The policy with `web-a` in its spec, as it is stored."""
        body = self.object
        assert body is not None
        return decode_policy({**body, "spec": self._manifest(letter)["spec"]}, strict=False)

    def _store_revision(self, letter: str, *, completed: bool) -> None:
        namespace = self.policy.namespace or NAMESPACE
        revision = self.revision(letter)
        when = micro_timestamp(self.now + len(self._real))
        stored = StoredRevision(
            revision=revision,
            object_name=object_name(self.policy, revision.name),
            number=len(self._real),
            since=when,
        )
        body = to_controller_revision(stored, policy=self.decoded(letter), namespace=namespace)
        if completed:
            body["metadata"]["annotations"][names.COMPLETED] = when
        self.server.create(REVISIONS, namespace, body, manager=names.FIELD_MANAGER)

    def stored(self) -> list[StoredRevision]:
        """The policy's ControllerRevisions that can be read, the one taken up last at the end."""
        found = []
        for body in self.server.every(REVISIONS, self.policy.namespace or NAMESPACE):
            labels = body["metadata"]["labels"]
            if (labels[names.POLICY_KIND_LABEL], labels[names.POLICY_NAME_LABEL]) == self.policy[::2]:
                try:
                    found.append(from_controller_revision(body))
                except (KeyError, ValueError):
                    continue
        return sorted(found, key=lambda each: (each.since, each.number))

    @property
    def attempt(self) -> str:
        """What failures and halts are noted under."""
        name = self.real(self._update)
        return self.told(next((each.attempt_id for each in self.stored() if each.revision.name == name), f"{name}#1"))

    @property
    def current(self) -> str | None:
        """What was rolled out completely last."""
        done = [each for each in self.stored() if each.completed]
        return self.told(max(done, key=lambda each: each.completed).revision.name) if done else None

    def real(self, text: str) -> str:
        """Put the cluster's names of revisions into *text*."""
        return re.sub(rf"\b{self.policy.name}-([a-z0-9])\b", lambda found: self._name_of(found.group()), text)

    def told(self, text: str) -> str:
        """Put the story's names of revisions into *text*."""
        for real, letter in self._real.items():
            text = text.replace(real, letter)
        return text

    def _name_of(self, letter: str) -> str:
        name = revision_name(self.policy, decode_policy(self._manifest(letter)).words)
        self._real[name] = letter
        return name

    def pin(self, revision: str | None) -> str | None:
        """The pin's value."""
        if revision is None:
            return None
        return f"{self.policy.name}@{self.real(revision).removeprefix(self.policy.name + '-')}"

    # Time

    def tick(self) -> list[Move]:
        """Let a tick pass: the controllers work, the operator reacts; return its steps."""
        self.cluster_tick()
        return self.note()

    def cluster_tick(self) -> None:
        """Let time pass until the operator has reacted to the next tick of the controllers."""
        loop = self.cluster.loop
        following = (loop.now // TICK + 1) * TICK
        loop.run_to(following)
        self.controllers.tick()
        for each in self.cluster.replicas:
            each.keep_running()
        loop.run_to(following + SETTLES)
        self.cluster.look()

    def note(self) -> list[Move]:
        """Write into the transcript what happened since the last time; return the steps."""
        self.steps, self.moves_noted = self.moves[self.moves_noted :], len(self.moves)
        self._write()
        return self.steps

    moves_noted = 0

    def run(self, most: int = 600) -> int:
        """Tick until nothing changes by itself any more; return how many ticks that took."""
        quiet = 0
        for number in range(most):
            version = self._stirring()
            self.tick()
            rests = all(each.rests for each in self.deployments)
            done = all(each.complete and each.healthy for each in self.deployments)
            seen = self.cluster.loop.now > self.cluster.sighted_since + SIGHT
            quiet = quiet + 1 if version == self._stirring() and rests and seen else 0
            seconds = self._rollout.min_ready_seconds + (0 if done else self._rollout.progress_deadline_seconds)
            if quiet > seconds / TICK + 2:
                return number - quiet
        raise AssertionError(f"still moving after {most} ticks:\n{self.transcript()}")

    def _stirring(self) -> tuple[Any, ...]:
        """What changes while something goes on."""
        return len(self.moves), self._told, len(self.halted), self.status.get("targets")

    # What the transcript says

    def say(self, what: str) -> None:
        """Note in the transcript what people do."""
        self.lines.append(f"{self._clock()}  -- {what}")

    def settled(self) -> str:
        """Reason and sentence of the status' Ready."""
        if self.object is None:
            return "gone"
        ready = next((each for each in items(self.status, "conditions") if each["type"] == "Ready"), None)
        return self.told(f"{ready['reason']}: {ready['message']}") if ready else "nothing yet"

    def end(self) -> dict[str, str | None]:
        """Which revision is where."""
        return {each.name: each.revision for each in self.deployments}

    def counts(self) -> dict[str, int]:
        """How many targets are in which state, by the status."""
        told = self.status.get("targets", {})
        return {state: told[state] for state in STATES if told.get(state)}

    def _write(self) -> None:
        removing = self.status.get("targets", {}).get("removing", 0)
        counts = ", ".join(f"{count} {state}" for state, count in self.counts().items()) or "none matched"
        what = f"{counts}{f', {removing} removing' if removing else ''}; {self.settled().partition(':')[0]}"
        if not self.steps and self._told == what:
            return
        self._told = what
        steps = [
            f"{kind}: {', '.join(sorted(each.deployment for each in self.steps if _kind_of(each) == kind))}"
            for kind in dict.fromkeys(map(_kind_of, self.steps))
        ]
        self.lines.append("\n".join([f"{self._clock()}  {what}", *(f"       {step}" for step in steps)]))

    def _clock(self) -> str:
        minutes, seconds = divmod(int(self.cluster.loop.now // TICK * TICK), 60)
        return f"{minutes:02}:{seconds:02}" + (f"  {self.name}" if self.name else "")

    def transcript(self) -> str:
        """The whole story, and how it ends."""
        return "\n".join([*self.lines, f"in the end: {self.settled()}", ""])

    # What happens

    def _observe(self, change: Change) -> None:
        if change.resource == REVISIONS and change.type == "MODIFIED":
            self._observe_revision(change)
        if change.resource != DEPLOYMENTS or change.before is None or change.type != "MODIFIED":
            return
        before, after = (
            at(each, "metadata", "annotations").get(names.RECORD) for each in (change.before, change.after)
        )
        old, new = (self._borne(each) for each in (change.before, change.after))
        if before == after and old == new:
            return
        entry = record_of(after).entries.get(self.policy)
        was = record_of(before).entries.get(self.policy)
        if old == new and entry == was:
            return
        self.moves.append(
            Move(
                at=self.cluster.loop.now,
                deployment=str(WorkloadId(*change.place)),
                policy=self.policy.name,
                before=old,
                revision=new,
                note=entry.note if entry else NOTHING_NOTED,
                joined=bool(entry and entry.joined),
            )
        )
        if new is not None:
            self.touched.setdefault(new, set()).add(change.place[1])

    def _borne(self, body: Json) -> str | None:
        there = borne_by(body["spec"]["template"])
        return next((each for each in there if each.rpartition("-")[0] == self.policy.name), None)

    def _observe_revision(self, change: Change) -> None:
        assert change.before is not None
        data, labels = change.after.get("data"), change.after["metadata"]["labels"]
        name = str(data.get("name")) if isinstance(data, dict) else ""
        if (labels[names.POLICY_KIND_LABEL], labels[names.POLICY_NAME_LABEL]) != self.policy[::2]:
            return
        before, after = (at(each, "metadata", "annotations") for each in (change.before, change.after))
        if after.get(names.HALT) and not before.get(names.HALT):
            attempt = self.told(f"{name}#{after.get(names.ATTEMPT, '1')}")
            self.halted.add(attempt)
            self.lines.append(f"{self._clock()}  !! halted: {attempt}")
        if after.get(names.COMPLETED) != before.get(names.COMPLETED):
            self.completed.add(self.told(name))


STATES = ("skipped", "pending", "progressing", "updated", "failed")


def _kind_of(move: Move) -> str:
    what = f"to {move.revision}" if move.revision else "removed"
    if move.before == move.revision:
        what = f"{move.revision or 'nothing'} stays, and its record is written"
    if move.note.failed and move.before != move.revision:
        return f"{what}, rolled back"
    return f"{what}, new" if move.joined and move.before is None else what


def rollout_of(rollout: Rollout) -> Json:
    """`spec.rollout` as an author writes it."""
    return {
        "strategy": rollout.strategy.value,
        "maxConcurrent": _share(rollout.max_concurrent),
        "progressDeadlineSeconds": rollout.progress_deadline_seconds,
        "minReadySeconds": rollout.min_ready_seconds,
        "maxFailures": rollout.max_failures,
        "onFailure": rollout.on_failure.value,
        "paused": rollout.paused,
        "removal": rollout.removal.value,
        **({"canary": [_group(each) for each in rollout.canary]} if rollout.canary else {}),
    }


def _group(group: CanaryGroup) -> Json:
    body: Json = {"name": group.name, "approval": group.approval.value}
    if group.selector is not None:
        body["selector"] = _selector(group.selector)
    if group.most is not None:
        body["max"] = _share(group.most)
    return body


def _selector(selector: Selector) -> Json:
    return {
        "matchExpressions": [
            {"key": each.key, "operator": each.operator.value, "values": sorted(each.values)}
            for each in selector.requirements
        ]
    }


def _share(share: int | float) -> int | str:
    return share if isinstance(share, int) else f"{round(share * 100)}%"
