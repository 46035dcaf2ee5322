"""An in-memory model of the API server, held against the real one in tests/api/test_simulation_model.py.

What is stored is never changed in place: a write stores a new object that shares what it did not change, and readers
get what is stored. One counter gives every write its resourceVersion. Every change is kept until it is compacted, so
that watches can begin at any version since.

Errors are those of `engine.port`, as the client would sort the server's answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.times import timestamp
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.port import (
    NAMESPACE_TERMINATING,
    PATCH_DOES_NOT_FIT,
    Conflict,
    NotFound,
    Rejected,
    Resource,
    Transient,
)
from sidecarpolicy.engine.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    NODES,
    POD_TEMPLATES,
    PODS,
    POLICIES,
    REPLICA_SETS,
    REVISIONS,
    ROLLOUTS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from sidecarpolicy.kube.lease import LEASES
from tests.simulation.defaults import defaulted_deployment, defaulted_policy, defaulted_template
from tests.simulation.ownership import applied, told, updated
from tests.simulation.patches import DoesNotFit, json_patched, merge_patched

Place = tuple[str, str]
"""Namespace and name."""

EVERY_RESOURCE = (
    NAMESPACES,
    NODES,
    SERVICE_ACCOUNTS,
    *POLICIES.values(),
    REVISIONS,
    REPLICA_SETS,
    AUTOSCALERS,
    ROLLOUTS,
    DEPLOYMENTS,
    PODS,
    EVENTS,
    POD_TEMPLATES,
    CONFIG_MAPS,
    SECRETS,
    LEASES,
)
CLUSTER_SCOPED = frozenset({NAMESPACES, NODES, POLICIES[names.CLUSTER_POLICY]})
OURS = frozenset(POLICIES.values())
WITH_GENERATION = OURS | {DEPLOYMENTS, REPLICA_SETS, POD_TEMPLATES}
WITH_STATUS = OURS | {DEPLOYMENTS, REPLICA_SETS, PODS, NAMESPACES, NODES}


@dataclass(frozen=True, slots=True)
class Change:
    """One write: *type* as a watch tells it. *before* is None for ADDED; *after* of DELETED is the last state.

    *manager*: whose write it was, where that is known.
    """

    version: int
    type: str
    resource: Resource
    place: Place
    before: Json | None
    after: Json
    manager: str = ""


@dataclass(slots=True)
class Collection:
    """The objects of one kind. *compacted*: no watch begins before it. *waiting*: to be called at the next change."""

    objects: dict[Place, Json] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    compacted: int = 0
    installed: bool = True
    waiting: list[Callable[[], None]] = field(default_factory=list)


Admission = Callable[[str, Resource, Json | None, Json], Json]
"""Takes CREATE or UPDATE, the kind, the object before and after; returns what is stored, or raises Rejected."""


Snapshot = tuple[int, dict[Resource, dict[Place, Json]]]


class Server:
    """*now*: its clock, in seconds since the epoch. *observers* are called after every write, *admission* before."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.version = 100
        self.collections = {resource: Collection() for resource in EVERY_RESOURCE}
        self.observers: list[Callable[[Change], None]] = []
        self.admission: list[Admission] = []
        self.made_up: dict[Resource, Callable[[str], Sequence[Json]]] = {}
        """Kinds whose objects are told from others when they are listed, by namespace: Pods."""
        self._uids = itertools.count(1)
        self._suffixes = itertools.count(1)

    # Reading

    def find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """The object, if there is one."""
        collection = self.collections[resource]
        return collection.objects.get((namespace, name)) if collection.installed else None

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The object; raise NotFound."""
        found = self._collection(resource, "get").objects.get((namespace, name))
        if found is None:
            raise _not_found("get", resource, namespace, name)
        return found

    def every(self, resource: Resource, namespace: str = "", label_selector: str = "") -> list[Json]:
        """The collection, or what is in one namespace of it, in the order of names."""
        made_up = self.made_up.get(resource)
        if made_up is not None:
            return [each for each in made_up(namespace) if matches(each, label_selector)]
        objects = self._collection(resource, "list").objects
        return [
            objects[place]
            for place in sorted(objects)
            if (not namespace or place[0] == namespace) and matches(objects[place], label_selector)
        ]

    def changes_since(
        self, resource: Resource, version: int, label_selector: str = ""
    ) -> Iterator[tuple[int, str, Json]]:
        """Yield version, type and object of what a watch from *version* would tell; Transient 410 if it is too old."""
        collection = self.check_version(resource, version)
        index = len(collection.changes)
        while index and collection.changes[index - 1].version > version:
            index -= 1
        for change in collection.changes[index:]:
            was = change.before is not None and matches(change.before, label_selector)
            is_now = change.type != "DELETED" and matches(change.after, label_selector)
            if is_now:
                yield change.version, "MODIFIED" if was else "ADDED", change.after
            elif was and change.type == "DELETED":
                yield change.version, "DELETED", change.after
            elif was and change.before is not None:  # what no longer matches is told as it was when it did
                metadata = {**change.before["metadata"], "resourceVersion": str(change.version)}
                yield change.version, "DELETED", {**change.before, "metadata": metadata}

    def check_version(self, resource: Resource, version: int) -> Collection:
        """Whether a watch can begin at *version*: Transient 410 if that is too old."""
        collection = self._collection(resource, "watch")
        if version < collection.compacted:
            message = f"too old resource version: {version} ({collection.compacted})"
            raise Transient(verb="watch", what=resource.plural, message=message, status=410, reason="Expired")
        return collection

    # Writing

    def create(
        self,
        resource: Resource,
        namespace: str,
        body: Json,
        *,
        manager: str = "owner",
        operation: str = "Update",
        dry_run: bool = False,
    ) -> Json:
        """Store a new object and return it; Conflict where the name is taken."""
        collection = self._collection(resource, "create")
        metadata = {key: value for key, value in at(body, "metadata").items() if value}
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._suffixes):05}"
        name = metadata["name"]
        what = _what(resource, namespace, name)
        if resource not in CLUSTER_SCOPED:
            self._check_namespace(resource, namespace, name)
            metadata["namespace"] = namespace
        place = (namespace, name)
        if place in collection.objects:
            message = f'{resource.plural} "{name}" already exists'
            raise Conflict(verb="create", what=what, message=message, status=409, reason="AlreadyExists")
        metadata["uid"] = f"uid-{next(self._uids):06}"
        metadata["creationTimestamp"] = timestamp(self.now())
        if resource in WITH_GENERATION:
            metadata["generation"] = 1
        new = {**body, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        if resource in WITH_STATUS and resource != NODES:  # a kubelet registers its node with one
            new.pop("status", None)
        if resource in (DEPLOYMENTS, REPLICA_SETS):
            new["status"] = {}
        if resource == NAMESPACES:
            new["spec"] = {"finalizers": ["kubernetes"]}
            new["status"] = {"phase": "Active"}
            new["metadata"]["labels"] = {**metadata.get("labels", {}), "kubernetes.io/metadata.name": name}
        new = self._admitted("CREATE", resource, None, self._defaulted(resource, new))
        if resource == DEPLOYMENTS and operation == "Apply":
            new = applied(new, body, manager, timestamp(self.now()))
        elif resource == DEPLOYMENTS:
            managed = updated([], {}, new, manager, timestamp(self.now()))
            new["metadata"] = {**new["metadata"], "managedFields": managed}
        if dry_run:
            return new
        return self._store(resource, place, None, new, "ADDED", manager)

    def json_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        operations: Sequence[Json],
        *,
        subresource: str = "",
        manager: str = "owner",
        dry_run: bool = False,
    ) -> Json:
        """Patch an object; Rejected with PATCH_DOES_NOT_FIT where a test fails."""
        before = self.get(resource, namespace, name)
        try:
            after = json_patched(before, operations)
        except DoesNotFit:
            raise Rejected(
                verb="patch",
                what=_what(resource, namespace, name),
                message="the patch does not fit the object: a test failed or a path is not there",
                status=422,
                reason=PATCH_DOES_NOT_FIT,
            ) from None
        return self.update(resource, before, after, subresource=subresource, manager=manager, dry_run=dry_run)

    def merge_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json,
        *,
        subresource: str = "",
        manager: str = "owner",
    ) -> Json:
        """Patch an object; Conflict where *body* has another resourceVersion."""
        before = self.get(resource, namespace, name)
        return self.update(resource, before, merge_patched(before, body), subresource=subresource, manager=manager)

    def apply(self, resource: Resource, namespace: str, body: Json, *, manager: str) -> Json:
        """Server-side apply with force; for Deployments."""
        assert resource == DEPLOYMENTS
        before = self.find(resource, namespace, body["metadata"]["name"])
        if before is None:
            return self.create(resource, namespace, body, manager=manager, operation="Apply")
        after = applied(before, body, manager, timestamp(self.now()))
        return self.update(resource, before, after, manager=manager, by_apply=True)

    def update(
        self,
        resource: Resource,
        before: Json,
        after: Json,
        *,
        subresource: str = "",
        manager: str = "owner",
        dry_run: bool = False,
        by_apply: bool = False,
    ) -> Json:
        """Store *after* in place of *before*, which is what is stored; return it as it is then.

        *by_apply*: who owns what stands in *after* already.
        """
        was, wanted = before["metadata"], after["metadata"]
        place = (was.get("namespace", ""), was["name"])
        if wanted.get("resourceVersion") not in (None, "", was["resourceVersion"]):
            raise Conflict(
                verb="patch",
                what=_what(resource, *place),
                message="the object has been modified; please apply your changes to the latest version and try again",
                status=409,
                reason="Conflict",
            )
        kept = {key: was[key] for key in _KEPT if key in was}
        metadata = {key: value for key, value in wanted.items() if key not in _KEPT and value not in ({}, [], None)}
        metadata |= kept
        if subresource == "status":
            if resource in OURS:
                metadata = was
            elif "labels" in was:
                metadata["labels"] = was["labels"]
            new = {**before, "metadata": metadata, "status": after.get("status")}
            if resource in (DEPLOYMENTS, REPLICA_SETS):
                managed = told(items(was, "managedFields"), manager, timestamp(self.now()))
                new["metadata"] = {**metadata, "managedFields": managed}
        else:
            new = {**after, "metadata": metadata}
            if resource in WITH_STATUS:
                new.pop("status", None)
                if "status" in before:
                    new["status"] = before["status"]
        if not subresource:
            new = self._admitted("UPDATE", resource, before, self._defaulted(resource, new))
        if resource in WITH_GENERATION and not subresource and self._is_another_generation(resource, before, new):
            new["metadata"] = {**new["metadata"], "generation": was["generation"] + 1}
        if resource == DEPLOYMENTS and not by_apply and not subresource:
            managed = updated(items(was, "managedFields"), before, new, manager, timestamp(self.now()))
            new["metadata"] = {**new["metadata"], "managedFields": managed}
        if _essence(new) == _essence(before):
            return before
        if dry_run:
            return new
        if "deletionTimestamp" in was and not metadata.get("finalizers") and resource != NAMESPACES:
            self._store(resource, place, before, new, "DELETED", manager)
            return new  # at the version that it had: nothing but the event tells that it is gone
        return self._store(resource, place, before, new, "MODIFIED", manager)

    def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", resource_version: str = ""
    ) -> None:
        """Delete an object, or mark it where finalizers hold it."""
        before = self.get(resource, namespace, name)
        metadata = before["metadata"]
        for given, there in ((uid, metadata["uid"]), (resource_version, metadata["resourceVersion"])):
            if given and given != there:
                message = f"Precondition failed: {given} in precondition, {there} in object meta"
                what = _what(resource, namespace, name)
                raise Conflict(verb="delete", what=what, message=message, status=409, reason="Conflict")
        place = (namespace, name)
        if not metadata.get("finalizers") and resource != NAMESPACES:
            self._store(resource, place, before, before, "DELETED")
            return
        if "deletionTimestamp" in metadata:
            return
        marked = {**metadata, "deletionTimestamp": timestamp(self.now()), "deletionGracePeriodSeconds": 0}
        if "generation" in metadata:
            marked["generation"] = metadata["generation"] + 1
        after = {**before, "metadata": marked}
        if resource == NAMESPACES:
            after["status"] = {"phase": "Terminating"}
        self._store(resource, place, before, after, "MODIFIED")

    def remove(self, resource: Resource, body: Json) -> None:
        """Take an object away whatever holds it: the end of a namespace."""
        metadata = body["metadata"]
        self._store(resource, (metadata.get("namespace", ""), metadata["name"]), body, body, "DELETED")

    # Fault

    def compact(self, resource: Resource) -> None:
        """Forget the changes so far: a watch from before now is told to LIST again."""
        collection = self.collections[resource]
        collection.changes.clear()
        collection.compacted = self.version

    def snapshot(self) -> Snapshot:
        """What etcd holds now."""
        return self.version, {resource: dict(each.objects) for resource, each in self.collections.items()}

    def restore(self, snapshot: Snapshot) -> None:
        """Etcd is restored from a backup: objects and versions are those of then, and every watch breaks."""
        version, objects = snapshot
        for resource, collection in self.collections.items():
            collection.objects = dict(objects[resource])
            collection.changes.clear()
            collection.compacted = 2**62  # until the streams of before have ended
            self._wake(collection)
        self.version = version

    def restored(self) -> None:
        """New watches begin."""
        for collection in self.collections.values():
            collection.compacted = self.version

    def install(self, resource: Resource, installed: bool = True) -> None:
        """Whether the server serves this kind."""
        self.collections[resource].installed = installed
        self._wake(self.collections[resource])

    # Parts

    def _collection(self, resource: Resource, verb: str) -> Collection:
        collection = self.collections.get(resource)
        if collection is None or not collection.installed:
            message = "the server could not find the requested resource"
            raise NotFound(verb=verb, what=_what(resource, "", ""), message=message, status=404)
        return collection

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self.collections[NAMESPACES].objects.get(("", namespace))
        what = _what(resource, namespace, name)
        if found is None:
            message = f'namespaces "{namespace}" not found'
            raise NotFound(verb="create", what=what, message=message, status=404, reason="NotFound")
        if "deletionTimestamp" in found["metadata"]:
            message = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise Rejected(verb="create", what=what, message=message, status=403, reason=NAMESPACE_TERMINATING)

    def _admitted(self, verb: str, resource: Resource, before: Json | None, after: Json) -> Json:
        for each in self.admission:
            after = each(verb, resource, before, after)
        return after

    def _defaulted(self, resource: Resource, body: Json) -> Json:
        if resource == DEPLOYMENTS:
            return defaulted_deployment(body)
        if resource == POD_TEMPLATES:
            return {**body, "template": defaulted_template(at(body, "template"))}
        return defaulted_policy(resource.kind, body) if resource in OURS else body

    def _is_another_generation(self, resource: Resource, before: Json, after: Json) -> bool:
        """Annotations of a Deployment count, labels and status never do."""
        if before.get("spec") is not after.get("spec") and before.get("spec") != after.get("spec"):
            return True
        one, other = at(before, "metadata", "annotations"), at(after, "metadata", "annotations")
        return resource == DEPLOYMENTS and one is not other and one != other

    def _store(
        self, resource: Resource, place: Place, before: Json | None, after: Json, kind: str, manager: str = ""
    ) -> Json:
        self.version += 1
        collection = self.collections[resource]
        stored = {**after, "metadata": {**after["metadata"], "resourceVersion": str(self.version)}}
        if kind == "DELETED":
            del collection.objects[place]
        else:
            collection.objects[place] = stored
        change = Change(self.version, kind, resource, place, before, stored, manager)
        collection.changes.append(change)
        self._wake(collection)
        for observer in self.observers:
            observer(change)
        return stored

    def wake(self, resource: Resource) -> None:
        """Let every watch of that kind look whether something has changed."""
        self._wake(self.collections[resource])

    def _wake(self, collection: Collection) -> None:
        waiting, collection.waiting = collection.waiting, []
        for wake in waiting:
            wake()


_KEPT = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
    }
)


def _essence(body: Json) -> Json:
    """Everything but who owns what since when: an update that changes no more than that is none."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    fields = [
        (each["manager"], each["operation"], each["fieldsV1"]) for each in items(body["metadata"], "managedFields")
    ]
    return {**body, "metadata": metadata, "managed": fields}


def _what(resource: Resource, namespace: str, name: str) -> str:
    kind = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    return f"{kind} {namespace + '/' if namespace else ''}{name}".rstrip()


def _not_found(verb: str, resource: Resource, namespace: str, name: str) -> NotFound:
    message = f'{resource.plural} "{name}" not found'
    return NotFound(verb=verb, what=_what(resource, namespace, name), message=message, status=404, reason="NotFound")


def matches(body: Json, selector: str) -> bool:
    """Whether an object has the labels of a selector that is a comma list of `key` and `key=value`."""
    if not selector:
        return True
    labels: Mapping[str, Any] = at(body, "metadata", "labels")
    for each in selector.split(","):
        key, equals, value = each.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
