"""What the operator has seen of the cluster: slim objects by identity, and who belongs to whom.

It is filled by reflectors (a LIST, then a watch) and by the answers to our own writes; which fields of an object are
kept is said in `core.workload` and by its kind in `core.kinds`, and which of two states is the newer one in `versions`.
What is known of the ConfigMaps and Secrets that policies restart for is in `named_configs`.

Whoever listens is told what may have changed for whom, never what happened. With nobody listening (a standby) nothing
is kept of that: a term begins by looking at everything.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from sidecarpolicy import names
from sidecarpolicy.core.argo_rollouts import Driven, driven_from
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, autoscaler_from
from sidecarpolicy.core.configs import ConfigObject
from sidecarpolicy.core.decode import InvalidPolicy, decode_policy, readable_deletion_policy
from sidecarpolicy.core.emergency_switch import bearer
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds import KINDS
from sidecarpolicy.core.node_groups import Nodes
from sidecarpolicy.core.nodes import Eligible, Node, node_from
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.pull_secrets import secrets_in
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import PULL_SECRETS
from sidecarpolicy.core.revision import (
    StoredRevision,
    current_revision,
    from_controller_revision,
    policy_of_revision,
    revision_name,
    update_revision,
)
from sidecarpolicy.core.selection import SelectorIndex
from sidecarpolicy.core.tree import at
from sidecarpolicy.core.workload import Child, Namespace, Workload, namespace_from, record_of
from sidecarpolicy.engine.named_configs import NamedConfigs
from sidecarpolicy.engine.port import Json, Resource
from sidecarpolicy.engine.resources import (
    AUTOSCALERS,
    NAMESPACES,
    NODES,
    POLICIES,
    REVISIONS,
    ROLLOUTS,
    SERVICE_ACCOUNTS,
)
from sidecarpolicy.engine.versions import Name, Versions
from sidecarpolicy.engine.watched import CHILDREN, WORKLOADS
from sidecarpolicy.names import DeletionPolicy

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told what may have changed. Both return at once."""

    def workload_changed(self, workload: WorkloadId) -> None:
        """*workload*, or what its controller made of it, has changed, or it is gone."""
        ...

    def judgement_changed(self, workload: WorkloadId) -> None:
        """Something else that *workload*'s targets depend on has changed: a policy, a revision, its namespace."""
        ...

    def revision_completed(self, policy: PolicyId) -> None:
        """The update revision of *policy* is its current one from now on; nothing else of its revisions has changed."""
        ...

    def policy_changed(self, policy: PolicyId) -> None:
        """The object of *policy*, its revisions or what they depend on has changed, or it is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPolicy:
    """A policy object. Where *problems* says why it cannot be used, *policy* is what is readable of it, or None.

    *annotated*: it has annotations, whatever they are. *deletion_policy*: what becomes of its sidecars in the end, None
    where that cannot be read. *declares*: the name of the revision that it declares, empty where it cannot be used.
    """

    id: PolicyId
    uid: str
    version: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    annotated: bool
    resume: str
    approve: str
    restarted_at: str
    status: Json
    policy: Policy | None
    deletion_policy: DeletionPolicy | None = DeletionPolicy.REMOVE
    problems: str = ""
    declares: str = ""

    @property
    def orphaning(self) -> bool:
        """Whether it is being deleted and leaves what it has to the owners."""
        return self.deleting and self.deletion_policy is DeletionPolicy.ORPHAN


Key = TypeVar("Key")
Part = TypeVar("Part")
Value = TypeVar("Value")


def _take_out(kept: dict[Key, dict[Part, Value]], key: Key, name: Part) -> Value | None:
    """Take *name* out of what is *kept* under *key*, and with the last one the key."""
    found = kept[key].pop(name, None) if key in kept else None
    if key in kept and not kept[key]:
        del kept[key]
    return found


def _name_of(body: Json) -> Name:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version_of(body: Json) -> int:
    return int(body["metadata"]["resourceVersion"])


def cached_policy(body: Json) -> CachedPolicy:
    """Return what matters of a policy object."""
    metadata = at(body, "metadata")
    policy: Policy | None = None
    problems = ""
    try:
        policy = decode_policy(body, strict=False)
    except InvalidPolicy as error:
        policy, problems = error.readable, str(error)
    except InvalidInput as error:
        problems = str(error)
    identity = PolicyId.of(body)
    return CachedPolicy(
        id=identity,
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        generation=metadata["generation"],
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        annotated="annotations" in metadata,
        resume=at(metadata, "annotations").get(names.RESUME, ""),
        approve=at(metadata, "annotations").get(names.APPROVE, ""),
        restarted_at=at(metadata, "annotations").get(names.RESTARTED_AT, ""),
        status=at(body, "status"),
        policy=policy,
        deletion_policy=readable_deletion_policy(body),
        problems=problems,
        declares=revision_name(identity, policy.words) if policy is not None and not problems else "",
    )


def _reach(cached: CachedPolicy) -> tuple[object, ...]:
    """What of a policy object matters for where its workloads stand."""
    policy = cached.policy
    of_spec = (
        (
            policy.selector,
            policy.namespace_selector,
            policy.rollout,
            policy.opt_out,
            policy.restart_on,
            _overridable(policy),
        )
        if policy is not None
        else None
    )
    return (of_spec, cached.deleting, cached.uid)


def _named_configs(cached: CachedPolicy | None) -> frozenset[ConfigObject]:
    """What a policy that is not being deleted restarts for."""
    if cached is None or cached.policy is None or cached.deleting:
        return frozenset()
    return frozenset(cached.policy.restart_on.objects)


def _overridable(policy: Policy) -> list[tuple[object, ...]]:
    return [(each.name, each.overridable, each.override_max) for each in policy.sidecars if each.overridable]


class _Decides(NamedTuple):
    """The name, attempt, halt and restarts of the *update* revision, when it was *completed*, and the *current* one."""

    update: tuple[str, int, bool, float] | None
    completed: str
    current: str | None

    def only_completes(self, before: _Decides) -> bool:
        """Whether nothing is new but that the update revision, which is not halted, has been rolled out completely."""
        if self.update is None or self.update != before.update or not self.completed:
            return False
        name, _, halted, _ = self.update
        return self.current == name and not halted


@dataclass(slots=True)
class _Revisions:
    """The stored revisions of one policy, by the name of their ControllerRevision, and what is asked most of them."""

    stored: dict[str, StoredRevision] = field(default_factory=dict)
    update: StoredRevision | None = None
    current: StoredRevision | None = None
    by_name: dict[str, StoredRevision] = field(default_factory=dict)

    def refresh(self) -> None:
        """Find the update and the current revision anew."""
        everything = tuple(self.stored.values())
        self.update, self.current = update_revision(everything), current_revision(everything)
        self.by_name = {each.revision.name: each for each in everything}

    @property
    def decides(self) -> _Decides:
        """What the targets of the policy depend on."""
        update, current = self.update, self.current
        return _Decides(
            update=(update.revision.name, update.attempt, update.halt is not None, update.config_since)
            if update
            else None,
            completed=update.completed if update is not None else "",
            current=current.revision.name if current else None,
        )


class Cache:
    """The last known state of everything that is watched."""

    def __init__(self, operator_namespace: str = "", served: frozenset[str] = frozenset()) -> None:
        self.operator_namespace = operator_namespace
        self.served = served
        """The namespaces that are served; empty for the whole cluster. Nothing outside of them is known then."""
        self._stopped_by_lease = False
        self.listener: Listener | None = None
        self.has_admission: bool | None = None  # whether workloads are reviewed while they are written; None: unknown
        self.accounts_needed = asyncio.Event()
        """Set once a policy or a stored revision has pull secrets: then those of ServiceAccounts matter."""
        self.configs = NamedConfigs(served, self)
        self.rewound = asyncio.Event()
        """Set when a read has shown that history went backwards; what else is cached may be of the one undone."""
        self.policies: dict[PolicyId, CachedPolicy] = {}
        self.workloads: dict[WorkloadId, Workload] = {}
        self.namespaces: dict[str, Namespace] = {}
        self._versions: dict[tuple[Resource, str], Versions] = defaultdict(Versions)
        self._in_namespace: dict[str, dict[WorkloadId, Workload]] = defaultdict(dict)
        self._children: dict[str, dict[Name, Child]] = defaultdict(dict)
        self._by_uid: dict[str, WorkloadId] = {}
        self._owner_of_child: dict[Name, str] = {}
        self._revisions: dict[PolicyId, _Revisions] = {}
        self._policy_of_revision: dict[str, PolicyId] = {}
        self._mangled: dict[str, tuple[PolicyId | None, str]] = {}
        self._autoscalers: dict[WorkloadId, dict[str, Autoscaler]] = defaultdict(dict)
        self._scaled_by: dict[str, WorkloadId] = {}
        self._rollouts: dict[Name, Driven] = {}
        self._pull_secrets: dict[Name, tuple[str, ...]] = {}
        self._drivers: dict[WorkloadId, str] = {}
        self._nodes = Nodes()
        self._selecting: dict[WorkloadId, tuple[PolicyId, ...]] = {}
        self._selectors: dict[str, SelectorIndex[PolicyId]] = defaultdict(SelectorIndex)
        """Of policies that may select, by their namespace; empty for those of the whole cluster."""

    # --- what it is asked

    def namespace(self, name: str) -> Namespace:
        """The namespace of that name; one without labels where it has not been seen."""
        return self.namespaces.get(name) or Namespace(name=name)

    @property
    def stopped(self) -> bool:
        """Whether the emergency switch is on: no workload is changed."""
        return self._stopped_by_lease if self.served else self.namespace(self.operator_namespace).stops

    @property
    def switch_bearer(self) -> str:
        """What bears the emergency switch, as people call it."""
        return bearer(self.operator_namespace, namespaced=bool(self.served))

    def children(self, workload: Workload) -> Sequence[Child]:
        """What the controller of *workload* made of it, one for each template."""
        return tuple(self._children.get(workload.uid, {}).values())

    def autoscalers(self, workload: WorkloadId) -> Sequence[Autoscaler]:
        """What scales *workload* by the share of what its containers request, by name."""
        found = self._autoscalers.get(workload)
        return tuple(each for _, each in sorted(found.items())) if found else ()

    def driver(self, workload: WorkloadId) -> str:
        """Who else rolls the template of *workload* out (an Argo Rollout), or nothing."""
        return self._drivers.get(workload, "")

    @property
    def sees_nodes(self) -> bool:
        """Whether any node is known: there may be none, or they may not be read."""
        return self._nodes.seen

    def eligible(self, workload: Workload) -> Eligible:
        """The nodes on which Pods of *workload* may land, as far as they are known."""
        return self._nodes.eligible(workload.node_demand)

    def pull_secrets(self, namespace: str, account: str) -> tuple[str, ...] | None:
        """The names of a ServiceAccount's pull secrets; None where it is not there, or may not be read."""
        return self._pull_secrets.get((namespace, account))

    def revisions(self, policy: PolicyId) -> Sequence[StoredRevision]:
        """All stored revisions of *policy*."""
        found = self._revisions.get(policy)
        return tuple(found.stored.values()) if found else ()

    def revision(self, policy: PolicyId, name: str) -> StoredRevision | None:
        """The stored revision of *policy* with that name."""
        found = self._revisions.get(policy)
        return found.by_name.get(name) if found else None

    def update_revision(self, policy: PolicyId) -> StoredRevision | None:
        """The one that *policy* is rolling out, or has."""
        found = self._revisions.get(policy)
        return found.update if found else None

    def current_revision(self, policy: PolicyId) -> StoredRevision | None:
        """The one that *policy* rolled out completely last."""
        found = self._revisions.get(policy)
        return found.current if found else None

    def is_mangled(self, namespace: str, object_name: str) -> bool:
        """Whether a ControllerRevision of that name is there and cannot be read."""
        return f"{namespace}/{object_name}" in self._mangled

    def mangled(self, policy: PolicyId) -> Mapping[str, str]:
        """The ControllerRevisions of *policy* that cannot be read, by place (`namespace/name`), and what is wrong."""
        return {place: problem for place, (owner, problem) in sorted(self._mangled.items()) if owner == policy}

    def reached_by(self, policy: PolicyId) -> Iterable[Workload]:
        """Every workload where *policy* may act: those of its namespace, or all."""
        if policy.cluster_wide:
            return list(self.workloads.values())
        return self.workloads_in(policy.namespace)

    def workloads_in(self, namespace: str) -> Iterable[Workload]:
        """Every workload of *namespace*."""
        return list(self._in_namespace.get(namespace, {}).values())

    def goes(self, workload: Workload) -> bool:
        """Whether *workload* or its namespace is being deleted: nothing is written on it any more."""
        return workload.deleting or self.namespace(workload.id.namespace).terminating

    def selects(self, policy: Policy, workload: Workload) -> bool:
        """Whether *policy* selects *workload* now."""
        return self.selects_namespace(policy, workload.id.namespace) and policy.selector.matches(workload.pod_labels)

    def _sees(self, namespace: str) -> bool:
        """Whether *namespace* is known, with what its owner says on it: a workload's event may come before its.

        It was made a moment ago then, by the same `kubectl apply`. What is in it concerns nobody until it is known.
        """
        return namespace in self.namespaces or not self.namespaces

    def selects_namespace(self, policy: Policy, namespace: str) -> bool:
        """Whether *policy* reaches *namespace* and selects it by its labels; one that has not been seen yet is not."""
        if not self._sees(namespace) or not (policy.id.cluster_wide or policy.id.namespace == namespace):
            return False
        selector = policy.namespace_selector
        return selector is None or selector.matches(self.namespace(namespace).labels)

    def selecting(self, workload: Workload) -> Iterator[CachedPolicy]:
        """The policies that select *workload* and are not being deleted."""
        for identity in self._selecting.get(workload.id, ()):
            yield self.policies[identity]

    def proposed(self, workload: Workload) -> Cache:
        """What would be selected if *workload* were as its owner is about to write it; for reading only."""
        proposed = copy.copy(self)
        proposed.listener, proposed._selecting = None, {workload.id: self._that_select(workload)}
        return proposed

    def concerned(self, workload: Workload) -> set[PolicyId]:
        """The policies that select *workload* or have something on it or on its Pods."""
        if not self._sees(workload.id.namespace):
            return set()
        concerned = set(self._selecting.get(workload.id, ()))
        for record in {workload.record, *(each.record for each in self.children(workload))}:
            if record:  # a removal is under way until Pods without it have taken over
                concerned.update(record_of(record).entries)
        return {each for each in concerned if self.may_act(each, workload.id)}

    def may_act(self, policy: PolicyId, workload: WorkloadId) -> bool:
        """Whether *policy* exists and reaches *workload*: one that is copied elsewhere takes its record with it."""
        return policy in self.policies and (policy.cluster_wide or policy.namespace == workload.namespace)

    def concerned_with(self, policy: PolicyId) -> set[WorkloadId]:
        """The workloads that *policy* selects, or where it has something on them or on their Pods."""
        return {each.id for each in self.reached_by(policy) if policy in self.concerned(each)}

    def note_admission(self, there: bool) -> None:
        """Take in whether workloads are reviewed while they are written."""
        if self.has_admission is not there:
            self.has_admission = there
            for policy in self.policies:
                self._tell_policy(policy)

    def note_switch(self, on: bool) -> None:
        """Take in what the Lease says of the emergency switch; it counts where no Namespace can be seen."""
        if self._stopped_by_lease is not on:
            self._stopped_by_lease = on
            for policy in self.policies:
                self._tell_policy(policy)

    def naming_changed(self, policy: PolicyId) -> None:
        """What is known of an object that *policy* restarts for is another than before."""
        self._tell_policy(policy)

    def content_changed(self, namespace: str, policies: AbstractSet[PolicyId]) -> None:
        """So is the content of one: that concerns what *policies* select in *namespace*."""
        for workload in self.workloads_in(namespace):
            if not policies.isdisjoint(self._selecting.get(workload.id, ())):
                self._tell_judgement(workload.id)

    # --- what it is told: the sink of the reflectors, and the answers to our own writes

    def begin(self, resource: Resource, namespace: str = "") -> None:
        """A LIST of *resource* begins, in one namespace or (empty) in all."""
        self._versions[resource, namespace].begin()

    def put(self, resource: Resource, body: Json, *, read_at: str = "") -> None:
        """Take in an object, unless something newer is cached; *read_at*: the version of the LIST, if it is known."""
        name, version, at_version = _name_of(body), _version_of(body), int(read_at or 0)
        versions = self._versions_of(resource, name)
        if versions.is_undone(name, version, at_version):
            self.rewound.set()
        if versions.takes(name, version, at_version):
            self._take(resource, name, body)

    def end(self, resource: Resource, version: str, namespace: str = "") -> bool:
        """The LIST is complete at *version*: what it did not have is gone, unless it is newer than the LIST.

        Return whether it stands. It does not where it shows that history went backwards: then another one is needed.
        """
        # An optional kind that is not served has no version, and nothing of it is there.
        gone = self._versions[resource, namespace].end(int(version or 0))
        if gone is None:
            self.rewound.set()
            return False
        for place in gone:
            self.forget(resource, *place)
        if resource == NODES:
            self._tell_nodes()
        return True

    def drop(self, resource: Resource, body: Json) -> None:
        """Forget a deleted object, unless another one of its name is cached."""
        name = _name_of(body)
        if self._versions_of(resource, name).drops(name, _version_of(body)):
            self._take(resource, name, None)

    def forget(self, resource: Resource, namespace: str, name: str) -> None:
        """Forget an object of which only the name is known."""
        place = (namespace, name)
        self._versions_of(resource, place).forget(place)
        self._take(resource, place, None)

    def _versions_of(self, resource: Resource, name: Name) -> Versions:
        return self._versions[resource, name[0] if name[0] in self.served else ""]

    def _take(self, resource: Resource, name: Name, body: Json | None) -> None:
        try:
            self._take_in(resource, name, body)
        except Exception:  # a mistake of ours: told in full, and one object must not end everything else
            log.exception("%s %s: cannot be read; what was known of it stays", resource.plural, "/".join(name))

    def _take_in(self, resource: Resource, name: Name, body: Json | None) -> None:
        if resource in WORKLOADS:
            self._workload(WorkloadId(*name, kind=resource.kind), body)
        elif resource in CHILDREN:
            self._child(name, CHILDREN[resource].child_from(body) if body is not None else None)
        elif resource == REVISIONS:
            self._revision(name, body)
        elif resource == ROLLOUTS:
            self._rollout(name, driven_from(body) if body is not None else None)
        elif resource == SERVICE_ACCOUNTS:
            self._account(name, secrets_in(body) if body is not None else None)
        elif resource == AUTOSCALERS:
            self._autoscaler(name, autoscaler_from(body) if body is not None else None)
        elif resource == NODES:
            self._node(name[1], node_from(body) if body is not None else None)
        elif resource == NAMESPACES:
            self._namespace(name[1], namespace_from(body) if body is not None else None)
        else:
            assert resource in POLICIES.values(), resource
            policy = PolicyId(kind=resource.kind, namespace=name[0], name=name[1])
            self._policy(policy, cached_policy({**body, "kind": resource.kind}) if body is not None else None)

    # --- how each kind is taken in

    def _workload(self, identity: WorkloadId, body: Json | None) -> None:
        old = self.workloads.get(identity)
        new = KINDS[identity.kind].workload_from(body, old) if body is not None else None
        if old is not None and (new is None or new.uid != old.uid):
            self._by_uid.pop(old.uid, None)
            self._children.pop(old.uid, None)
        if new is None or old is None or old.node_demand != new.node_demand:
            for each, change in ((new, self._nodes.hold), (old, self._nodes.release)):
                if each is not None:
                    change(each.node_demand)
        if new is None:
            self.workloads.pop(identity, None)
            _take_out(self._in_namespace, identity.namespace, identity)
            self._selecting.pop(identity, None)
        else:
            self.workloads[identity] = self._in_namespace[identity.namespace][identity] = new
            self._by_uid[new.uid] = identity
            if old is None or old.pod_labels != new.pod_labels:
                self._select_anew(new)
        self._tell_workload(identity)

    def _select_anew(self, workload: Workload) -> None:
        self._selecting[workload.id] = self._that_select(workload)

    def _that_select(self, workload: Workload) -> tuple[PolicyId, ...]:
        """Find the policies that select *workload*."""
        found = (
            self.policies[each]
            for namespace in ("", workload.id.namespace)
            if namespace in self._selectors
            for each in self._selectors[namespace].candidates(workload.pod_labels)
        )
        return tuple(
            sorted(each.id for each in found if each.policy is not None and self.selects(each.policy, workload))
        )

    def _child(self, name: Name, new: Child | None) -> None:
        before = self._owner_of_child.pop(name, "")
        old = _take_out(self._children, before, name)
        if new is not None:  # perhaps another one's now: one that was orphaned is adopted
            self._owner_of_child[name] = new.owner
            self._children[new.owner][name] = new
        if old != new:
            for owner in {each.owner for each in (old, new) if each is not None} & self._by_uid.keys():
                self._tell_workload(self._by_uid[owner])

    def _autoscaler(self, name: Name, new: Autoscaler | None) -> None:
        place = f"{name[0]}/{name[1]}"
        scaled = self._scaled_by.pop(place, None)
        old = _take_out(self._autoscalers, scaled, name[1]) if scaled is not None else None
        if new is not None:
            self._autoscalers[new.scales][name[1]] = new
            self._scaled_by[place] = new.scales
        if old != new:
            for each in sorted({each.scales for each in (old, new) if each is not None} & self.workloads.keys()):
                self._tell_judgement(each)

    def _node(self, name: str, new: Node | None) -> None:
        """Take a node in: most that is told of one (its heartbeat, its load) concerns no workload at all.

        While a LIST is under way nobody is told, or the first node of it would decide alone.
        """
        self._nodes.put(name, new)
        if not self._versions[NODES, ""].listing:
            self._tell_nodes()

    def _tell_nodes(self) -> None:
        saw = self._nodes.seen
        changed = self._nodes.changes()
        if changed:
            for workload in self.workloads.values():
                if workload.node_demand in changed:
                    self._tell_judgement(workload.id)
        if saw is not self._nodes.seen:
            for policy in self.policies:
                self._tell_policy(policy)

    def _account(self, name: Name, new: tuple[str, ...] | None) -> None:
        old = self._pull_secrets.pop(name, None)
        if new is not None:
            self._pull_secrets[name] = new
        if old != new:
            for workload in self._in_namespace.get(name[0], {}).values():
                if PULL_SECRETS in (workload.record or "") or any(
                    map(self._pulls, self._selecting.get(workload.id, ()))
                ):
                    self._tell_judgement(workload.id)

    def _pulls(self, policy: PolicyId) -> bool:
        """Whether *policy* brings pull secrets."""
        cached, update = self.policies.get(policy), self.update_revision(policy)
        if update is not None and update.revision.pull_secrets:
            return True
        return cached is not None and cached.policy is not None and bool(cached.policy.pull_secrets)

    def _rollout(self, name: Name, new: Driven | None) -> None:
        old = self._rollouts.pop(name, None)
        if new is not None:
            self._rollouts[name] = new
        for each in sorted({each.workload for each in (old, new) if each is not None and old != new}):
            drivers = sorted(one.by for one in self._rollouts.values() if one.workload == each)
            self._drivers.pop(each, None)
            if drivers:
                self._drivers[each] = ", ".join(drivers)
            if each in self.workloads:
                self._tell_judgement(each)

    def _namespace(self, name: str, new: Namespace | None) -> None:
        knew_any = bool(self.namespaces)
        old = self.namespaces.pop(name, None)
        if new is not None:
            self.namespaces[name] = new
        if old == new:
            return
        all_of_them = knew_any is not bool(self.namespaces)  # as long as none is known all are taken for seen
        for workload in (self.workloads if all_of_them else self._in_namespace.get(name, {})).copy().values():
            if all_of_them or old is None or new is None or old.labels != new.labels:
                self._select_anew(workload)
            self._tell_judgement(workload.id)
        switched = (old is not None and old.stops) != (new is not None and new.stops)
        for policy in self.policies:
            if policy.cluster_wide or policy.namespace == name or switched or all_of_them:
                self._tell_policy(policy)

    def _revision(self, name: Name, body: Json | None) -> None:
        place = f"{name[0]}/{name[1]}"
        mended, _ = self._mangled.pop(place, (None, ""))
        touched = {mended} if mended is not None else set()
        if place in self._policy_of_revision:
            touched.add(self._policy_of_revision.pop(place))
        before = {policy: self._revisions[policy].decides for policy in touched & self._revisions.keys()}
        for policy in before:
            self._revisions[policy].stored.pop(place, None)
        if body is not None:
            try:
                stored = from_controller_revision(body)
            except ValueError as error:  # mangled by somebody: as if it were not there, and told
                owner = policy_of_revision(body)
                if owner is not None and name[0] != (owner.namespace or self.operator_namespace):
                    owner = None
                self._mangled[place] = (owner, str(error))
                touched |= {owner} if owner is not None else set()
            else:
                policy = stored.revision.policy
                if stored.revision.pull_secrets:
                    self.accounts_needed.set()
                # Anybody may have written one elsewhere, and would choose what every namespace gets.
                if name[0] == (policy.namespace or self.operator_namespace):
                    found = self._revisions.setdefault(policy, _Revisions())
                    before.setdefault(policy, found.decides)
                    found.stored[place] = stored
                    self._policy_of_revision[place] = policy
                    touched.add(policy)
        for policy in sorted(touched):
            if policy in self._revisions:
                self._revisions[policy].refresh()
                if policy in before:
                    self._tell_revisions(policy, before[policy])
                if not self._revisions[policy].stored:
                    del self._revisions[policy]
            self._tell_policy(policy)

    def _tell_revisions(self, policy: PolicyId, before: _Decides) -> None:
        """Tell those workloads that depend on which revisions *policy* has."""
        if self.listener is None:
            return
        decides = self._revisions[policy].decides
        decided_anew = decides != before
        if decided_anew and decides.only_completes(before):
            decided_anew = False
            self.listener.revision_completed(policy)
        for workload in self.reached_by(policy):
            if (decided_anew or names.PIN in workload.annotations) and policy in self.concerned(workload):
                self._tell_judgement(workload.id)

    def _policy(self, identity: PolicyId, new: CachedPolicy | None) -> None:
        old = self.policies.pop(identity, None)
        if new is not None:
            self.policies[identity] = new
            if new.policy is not None and new.policy.pull_secrets:
                self.accounts_needed.set()
        self.configs.name(identity, _named_configs(old), _named_configs(new))
        self._tell_policy(identity)
        if old is not None and new is not None and _reach(old) == _reach(new):
            return  # what it injects reaches workloads by its revisions
        policy = new.policy if new is not None and not new.deleting else None
        if policy is not None:
            self._selectors[identity.namespace].put(identity, policy.selector)
        elif (index := self._selectors.get(identity.namespace)) is not None:
            index.drop(identity)
            if not index:
                del self._selectors[identity.namespace]
        namespaces = {
            each for each in self._in_namespace if policy is not None and self.selects_namespace(policy, each)
        }
        for workload in self.reached_by(identity):
            before = self._selecting.get(workload.id, ())
            selects = (
                policy is not None
                and workload.id.namespace in namespaces
                and policy.selector.matches(workload.pod_labels)
            )
            if selects != (identity in before):
                others = tuple(each for each in before if each != identity)
                self._selecting[workload.id] = tuple(sorted((*others, identity))) if selects else others
            # A term begins by looking at everything: without a listener there is nobody to tell.
            if self.listener is not None and (selects or identity in before or self._bears(workload, identity)):
                self._tell_judgement(workload.id)

    def _bears(self, workload: Workload, policy: PolicyId) -> bool:
        records: Mapping[str | None, None] = dict.fromkeys(
            [workload.record, *(each.record for each in self.children(workload))]
        )
        return any(policy in record_of(record).entries for record in records if record)

    def _tell_workload(self, identity: WorkloadId) -> None:
        if self.listener is not None:
            self.listener.workload_changed(identity)

    def _tell_judgement(self, identity: WorkloadId) -> None:
        if self.listener is not None:
            self.listener.judgement_changed(identity)

    def _tell_policy(self, identity: PolicyId) -> None:
        if self.listener is not None:
            self.listener.policy_changed(identity)
