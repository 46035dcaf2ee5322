"""A cache that is filled as the API server would fill it, and that notes who is told of a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Revision, StoredRevision, object_name, to_controller_revision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.port import Resource
from sidecarpolicy.engine.resources import POLICIES, REVISIONS
from tests.core.objects import EPOCH, a_policy

SYSTEM = "system"


class Told:
    """A listener that notes who it was told about."""

    def __init__(self) -> None:
        self.keys: set[WorkloadId | PolicyId] = set()

    def workload_changed(self, workload: WorkloadId) -> None:
        """Note a workload."""
        self.keys.add(workload)

    def judgement_changed(self, workload: WorkloadId) -> None:
        """Note a workload."""
        self.keys.add(workload)

    def revision_completed(self, policy: PolicyId) -> None:
        """Note a policy."""
        self.keys.add(policy)

    def policy_changed(self, policy: PolicyId) -> None:
        """Note a policy."""
        self.keys.add(policy)


class Seen:
    """What the operator has seen, without a cluster."""

    def __init__(self) -> None:
        self.cache = Cache(SYSTEM)
        self.version = 0
        self._generations: dict[tuple[Resource, str, str], tuple[int, object]] = {}

    @contextmanager
    def told(self) -> Iterator[set[WorkloadId | PolicyId]]:
        """Note, until the end, who is told."""
        listener = self.cache.listener = Told()
        yield listener.keys
        self.cache.listener = None

    def put(self, resource: Resource, body: Json) -> set[WorkloadId | PolicyId]:
        """Take *body* in as the API server would send it next; return who is told."""
        self.version += 1
        metadata = body["metadata"]
        name = (resource, metadata.get("namespace", ""), metadata["name"])
        content = (body.get("spec"), metadata.get("annotations"))
        generation, before = self._generations.get(name, (0, None))
        if content != before:  # as of a Deployment: with its spec and its annotations
            generation += 1
        self._generations[name] = (generation, content)
        with self.told() as told:
            self.cache.put(resource, stored(body, self.version, generation))
        return told

    def forget(self, resource: Resource, namespace: str, name: str) -> set[WorkloadId | PolicyId]:
        """Let an object be gone; return who is told."""
        with self.told() as told:
            self.cache.forget(resource, namespace, name)
        return told

    def policy(self, name: str, *sidecars: Json, **spec: Any) -> Revision:
        """A policy with its update revision."""
        manifest = a_policy(name, sidecars=list(sidecars), **spec)
        self.put(POLICIES[manifest["kind"]], manifest)
        body, revision = a_stored_revision(manifest)
        self.put(REVISIONS, body)
        return revision


def stored(body: Json, version: int, generation: int = 1) -> Json:
    """*body* as the API server stores it, at *version*."""
    given = {"uid": f"uid-{body['metadata']['name']}", "generation": generation, "creationTimestamp": EPOCH}
    return {**body, "metadata": given | body["metadata"] | {"resourceVersion": str(version)}}


def a_stored_revision(manifest: Json, number: int = 1) -> tuple[Json, Revision]:
    """The ControllerRevision for the policy that *manifest* declares, and the revision in it."""
    policy = decode_policy(manifest)
    revision = offline(policy)
    found = StoredRevision(
        revision=revision, object_name=object_name(policy.id, revision.name), number=number, since=EPOCH
    )
    return to_controller_revision(found, policy=policy, namespace=policy.id.namespace or SYSTEM), revision
