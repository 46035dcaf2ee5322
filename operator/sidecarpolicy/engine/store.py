"""What the operator has seen of the cluster: slim objects by identity, and who belongs to whom.

One `put` or `drop` per watch event, a `replace` per LIST; each returns the keys that may have to be looked at again.
An object that is older than what is stored is ignored (resourceVersions are ordered within a resource, KEP-5504), so
the answer to a write of ours can be stored at once and the late event of it changes nothing.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sidecarpolicy import names
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, autoscaler_from
from sidecarpolicy.core.decode import InvalidPolicy, decode_policy, readable_deletion_policy
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds.deployment import child_from, workload_from
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.revision import StoredRevision, current_revision, from_controller_revision, update_revision
from sidecarpolicy.core.tree import at
from sidecarpolicy.core.workload import Child, Namespace, Workload, namespace_from, record_of
from sidecarpolicy.engine.port import Json, Resource
from sidecarpolicy.engine.resources import AUTOSCALERS, DEPLOYMENTS, NAMESPACES, POLICIES, REPLICA_SETS, REVISIONS
from sidecarpolicy.names import DeletionPolicy

Key = PolicyId | WorkloadId


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPolicy:
    """A policy object. Where *problems* says why it cannot be used, *policy* is what is readable of it, or None.

    *deletion_policy*: what becomes of its sidecars in the end, None where that cannot be read.
    """

    id: PolicyId
    uid: str
    version: int
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    resume: str
    approve: str
    status: Json
    policy: Policy | None
    deletion_policy: DeletionPolicy | None = DeletionPolicy.REMOVE
    problems: str = ""


def seen_policy(body: Json) -> SeenPolicy:
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
    return SeenPolicy(
        id=PolicyId(kind=body["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"]),
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        generation=metadata["generation"],
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        resume=at(metadata, "annotations").get(names.RESUME, ""),
        approve=at(metadata, "annotations").get(names.APPROVE, ""),
        status=at(body, "status"),
        policy=policy,
        deletion_policy=readable_deletion_policy(body),
        problems=problems,
    )


class Store:
    """The last known state of everything that is watched."""

    def __init__(self, operator_namespace: str = "") -> None:
        self._operator_namespace = operator_namespace
        self.policies: dict[PolicyId, SeenPolicy] = {}
        self.workloads: dict[WorkloadId, Workload] = {}
        self.namespaces: dict[str, Namespace] = {}
        self._in_namespace: dict[str, dict[WorkloadId, Workload]] = defaultdict(dict)
        self._replica_sets: dict[str, dict[str, Child]] = defaultdict(dict)
        self._by_uid: dict[str, WorkloadId] = {}
        self._revisions: dict[PolicyId, dict[str, StoredRevision]] = defaultdict(dict)
        self._owner_of_replica_set: dict[str, str] = {}
        self._autoscalers: dict[WorkloadId, dict[str, Autoscaler]] = defaultdict(dict)
        self._scaled_by: dict[str, WorkloadId] = {}
        self._versions: dict[tuple[Resource, str, str], int] = {}
        self._deleted: dict[tuple[Resource, str, str], int] = {}

    # What it is asked

    def namespace(self, name: str) -> Namespace:
        """The namespace of that name; one without labels where it has not been seen."""
        return self.namespaces.get(name) or Namespace(name=name)

    def replica_sets(self, workload: Workload) -> Sequence[Child]:
        """The ReplicaSets that *workload* controls."""
        return tuple(self._replica_sets.get(workload.uid, {}).values())

    def autoscalers(self, workload: WorkloadId) -> Sequence[Autoscaler]:
        """What scales *workload* by the share of what its containers request, by name."""
        return tuple(each for _, each in sorted(self._autoscalers.get(workload, {}).items()))

    def revisions(self, policy: PolicyId) -> Sequence[StoredRevision]:
        """All stored revisions of *policy*."""
        return tuple(self._revisions.get(policy, {}).values())

    def revision(self, policy: PolicyId, name: str) -> StoredRevision | None:
        """The stored revision of *policy* with that name."""
        return next((each for each in self.revisions(policy) if each.revision.name == name), None)

    def update_revision(self, policy: PolicyId) -> StoredRevision | None:
        """The one that *policy* is rolling out, or has."""
        return update_revision(self.revisions(policy))

    def current_revision(self, policy: PolicyId) -> StoredRevision | None:
        """The one that *policy* rolled out completely last."""
        return current_revision(self.revisions(policy))

    def reached_by(self, policy: PolicyId) -> Iterable[Workload]:
        """Every workload where *policy* may act: those of its namespace, or all."""
        if policy.cluster_wide:
            return list(self.workloads.values())
        return list(self._in_namespace.get(policy.namespace, {}).values())

    def selects(self, policy: Policy, workload: Workload) -> bool:
        """Whether *policy* selects *workload* now."""
        if not policy.id.cluster_wide and policy.id.namespace != workload.id.namespace:
            return False
        return self.selects_namespace(policy, workload) and policy.selector.matches(workload.pod_labels)

    def selects_namespace(self, policy: Policy, workload: Workload) -> bool:
        """Whether *policy* selects the namespace of *workload*, by its labels; a namespaced one has its own only."""
        selector = policy.namespace_selector
        return selector is None or selector.matches(self.namespace(workload.id.namespace).labels)

    def selecting(self, workload: Workload) -> Iterator[SeenPolicy]:
        """The policies that select *workload* and are not being deleted."""
        for seen in self.policies.values():
            if seen.policy is not None and not seen.deleting and self.selects(seen.policy, workload):
                yield seen

    # What it is told

    def put(self, resource: Resource, body: Json) -> set[Key]:
        """Store *body*, unless something newer is stored; return the keys that it may concern."""
        metadata = at(body, "metadata")
        name = (resource, metadata.get("namespace", ""), metadata["name"])
        version = int(metadata["resourceVersion"])
        if max(self._versions.get(name, 0), self._deleted.get(name, 0)) >= version:
            return set()
        self._versions[name] = version
        return self._keys(resource, body, present=True)

    def drop(self, resource: Resource, body: Json) -> set[Key]:
        """Forget *body*, unless another object of its name is stored; return the keys that it may concern."""
        metadata = at(body, "metadata")
        name = (resource, metadata.get("namespace", ""), metadata["name"])
        version = int(metadata["resourceVersion"])
        if self._versions.get(name, 0) > version:
            return set()
        self._versions.pop(name, None)
        self._deleted[name] = version  # so that a LIST from before the deletion does not bring it back
        return self._keys(resource, body, present=False)

    def replace(self, resource: Resource, bodies: Iterable[Json], version: int) -> set[Key]:
        """Make the stored collection what a LIST at *version* returned; later objects stay."""
        keys: set[Key] = set()
        listed = set()
        for body in bodies:
            metadata = at(body, "metadata")
            listed.add((resource, metadata.get("namespace", ""), metadata["name"]))
            keys |= self.put(resource, body)
        gone = [
            name
            for name, stored in self._versions.items()
            if name[0] == resource and name not in listed and stored <= version
        ]
        for _, namespace, name in gone:
            keys |= self.forget(resource, namespace, name)
        self._deleted = {name: at for name, at in self._deleted.items() if name[0] != resource or at > version}
        return keys

    def forget(self, resource: Resource, namespace: str, name: str) -> set[Key]:
        """Forget an object of which only the name is known."""
        self._versions.pop((resource, namespace, name), None)
        return self._keys(resource, {"metadata": {"namespace": namespace, "name": name}}, present=False)

    def _keys(self, resource: Resource, body: Json, *, present: bool) -> set[Key]:
        metadata = at(body, "metadata")
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if resource == DEPLOYMENTS:
            return self._workload(WorkloadId(namespace=namespace, name=name), workload_from(body) if present else None)
        if resource == REPLICA_SETS:
            return self._replica_set(namespace, name, child_from(body) if present else None)
        if resource == AUTOSCALERS:
            return self._autoscaler(namespace, name, autoscaler_from(body) if present else None)
        if resource == NAMESPACES:
            return self._namespace(name, namespace_from(body) if present else None)
        if resource == REVISIONS:
            return self._revision(namespace, name, body if present else None)
        assert resource in POLICIES.values(), resource
        policy = PolicyId(kind=resource.kind, namespace=namespace, name=name)
        return self._policy(policy, seen_policy({**body, "kind": resource.kind}) if present else None)

    def _workload(self, identity: WorkloadId, new: Workload | None) -> set[Key]:
        old = self.workloads.pop(identity, None)
        self._in_namespace[identity.namespace].pop(identity, None)
        if old is not None and (new is None or new.uid != old.uid):
            self._by_uid.pop(old.uid, None)
            self._replica_sets.pop(old.uid, None)
        if new is not None:
            if old is not None and old.body == new.body:
                new = replace(new, body=old.body)
            self.workloads[identity] = self._in_namespace[identity.namespace][identity] = new
            self._by_uid[new.uid] = identity
        keys: set[Key] = {identity}
        for each in (old, new):
            keys |= self.concerned(each) if each is not None else set()
        return keys

    def _replica_set(self, namespace: str, name: str, new: Child | None) -> set[Key]:
        place = f"{namespace}/{name}"
        owner = new.owner if new is not None else self._owner_of_replica_set.pop(place, "")
        old = self._replica_sets[owner].pop(place, None) if owner in self._replica_sets else None
        if new is not None:
            self._owner_of_replica_set[place] = owner
            self._replica_sets[owner][place] = new
        workload = self.workloads.get(self._by_uid[owner]) if owner in self._by_uid else None
        return self.concerned(workload) if workload is not None and old != new else set()

    def _autoscaler(self, namespace: str, name: str, new: Autoscaler | None) -> set[Key]:
        place = f"{namespace}/{name}"
        scaled = self._scaled_by.pop(place, None)
        old = self._autoscalers[scaled].pop(name, None) if scaled is not None else None
        if new is not None:
            self._autoscalers[new.scales][name] = new
            self._scaled_by[place] = new.scales
        if old == new:
            return set()
        concerned = {each.scales for each in (old, new) if each is not None} & self.workloads.keys()
        keys: set[Key] = set(concerned)
        return keys | {policy for each in concerned for policy in self.concerned(self.workloads[each])}

    def _namespace(self, name: str, new: Namespace | None) -> set[Key]:
        old = self.namespaces.pop(name, None)
        if new is not None:
            self.namespaces[name] = new
        if old == new:
            return set()
        if (old is not None and old.stops) != (new is not None and new.stops):  # the emergency switch
            return {*self.policies, *self.workloads}
        keys: set[Key] = set(self._in_namespace.get(name, {}))
        return keys | {policy for policy in self.policies if policy.cluster_wide or policy.namespace == name}

    def _revision(self, namespace: str, name: str, body: Json | None) -> set[Key]:
        place = f"{namespace}/{name}"
        touched = {policy for policy, stored in self._revisions.items() if stored.pop(place, None)}
        if body is not None:
            with contextlib.suppress(KeyError, TypeError, ValueError):  # mangled by somebody: as if it were not there
                stored = from_controller_revision(body)
                policy = stored.revision.policy
                # Anybody may have written one elsewhere, and would choose what every namespace gets.
                if namespace == (policy.namespace or self._operator_namespace):
                    self._revisions[policy][place] = stored
                    touched.add(policy)
        keys: set[Key] = set(touched)
        for policy in touched:
            seen = self.policies.get(policy)
            if seen is not None and seen.policy is not None:
                keys |= {each.id for each in self.reached_by(policy) if self.selects(seen.policy, each)}
        return keys

    def _policy(self, identity: PolicyId, new: SeenPolicy | None) -> set[Key]:
        old = self.policies.pop(identity, None)
        if new is not None:
            self.policies[identity] = new
        keys: set[Key] = {identity}
        if old is not None and new is not None and old.policy == new.policy and old.deleting == new.deleting:
            return keys
        reached = self.reached_by(identity)
        keys |= {each.id for each in reached}
        # Another policy may gain or lose a workload by precedence.
        return keys | {each for workload in reached for each in self.concerned(workload)}

    def concerned(self, workload: Workload) -> set[Key]:
        """The policies that select *workload* or have something on it or on its Pods."""
        concerned: set[Key] = {seen.id for seen in self.selecting(workload)}
        concerned |= set(record_of(workload.record).entries)
        for each in self.replica_sets(workload):  # a removal is under way until Pods without it have taken over
            concerned |= set(record_of(each.record).entries)
        return concerned & set(self.policies)
