"""Carry a write out: one match, closed; no write without a precondition, and none after leadership has ended.

The answer of the server is taken into the cache at once, so that the next decision is made on it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

from sidecarpolicy.core.kinds import kind_of
from sidecarpolicy.core.patch import release
from sidecarpolicy.core.record import ItemKey
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.port import PATCH_DOES_NOT_FIT, Api, Conflict, Json, Leadership, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import POLICIES, REVISIONS
from sidecarpolicy.engine.write_requests import (
    ChangeFinalizers,
    CreateRevision,
    DeleteRevision,
    MarkRevision,
    PatchWorkload,
    Write,
    WriteStatus,
)

RELEASE_TRIES = 5


class LeadershipLost(Exception):
    """This process may not write now; whatever it was about to write is the next leader's, or is decided anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The only way out for writes of the engine."""

    api: Api
    cache: Cache
    leadership: Leadership

    @property
    def may_write(self) -> bool:
        """Whether this process leads, and what it knows is of one history: not while etcd's, restored, is read anew."""
        return self.leadership.leading and not self.cache.rewound.is_set()

    async def apply(self, write: Write) -> Json:
        """Carry *write* out and return the object as it is now. Raise ApiError, or LeadershipLost.

        NotFound means that the object is gone; the cache has forgotten it.
        """
        if not self.may_write:
            raise LeadershipLost
        match write:
            case PatchWorkload(workload=workload, operations=operations, dry_run=dry_run):
                return await self._patch(
                    kind_of(workload).ADDRESS, workload.id.namespace, workload.id.name, operations, dry_run=dry_run
                )
            case WriteStatus(policy=policy, status=status):
                operations = [
                    {"op": "test", "path": "/metadata/uid", "value": policy.uid},
                    {"op": "test", "path": "/metadata/resourceVersion", "value": policy.version},
                    {"op": "add", "path": "/status", "value": status},
                ]
                return await self._patch(
                    POLICIES[policy.id.kind], policy.id.namespace, policy.id.name, operations, subresource="status"
                )
            case ChangeFinalizers(policy=policy, operations=changes):
                operations = [
                    {"op": "test", "path": "/metadata/uid", "value": policy.uid},
                    {"op": "test", "path": "/metadata/resourceVersion", "value": policy.version},
                    *changes,
                ]
                return await self._patch(POLICIES[policy.id.kind], policy.id.namespace, policy.id.name, operations)
            case CreateRevision(namespace=namespace, body=body):
                answer = await self.api.create(REVISIONS, namespace, body)
                self.cache.put(REVISIONS, answer)
                return answer
            case MarkRevision():
                return await self._mark(write)
            case DeleteRevision(namespace=namespace, stored=stored):
                with suppress(NotFound):  # Kubernetes collects those of a policy that goes, too
                    await self.api.delete(REVISIONS, namespace, stored.object_name, resource_version=stored.version)
                self.cache.forget(REVISIONS, namespace, stored.object_name)
                return {}
            case _:
                assert_never(write)

    async def read_workload(self, workload: Workload) -> None:
        """Read a workload into the cache. Raise ApiError."""
        await self._read(kind_of(workload).ADDRESS, workload.id.namespace, workload.id.name)

    async def release(self, workload: Workload, given: Collection[ItemKey], body: Json | None = None) -> None:
        """Give up what our field manager owns of *given*. *body*: the object, where it is known. Raise ApiError.

        The controllers write its status at the same moment, so it is tried more than once. What is not given up now is
        with the next write.
        """
        address, where = kind_of(workload).ADDRESS, workload.id
        for _ in range(RELEASE_TRIES):
            if body is None:
                body = await self._read(address, where.namespace, where.name) or {}
            if not self.may_write:
                return
            if not (operations := release(body, given, workload.template)):
                return
            try:
                await self._patch(address, where.namespace, where.name, operations)
            except Conflict:
                body = None
            else:
                return

    async def _read(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """Read one object into the cache, and return it; None where it is gone."""
        page = await self.api.list_in(resource, namespace, field_selector=f"metadata.name={name}")
        if not page.items:
            self.cache.forget(resource, namespace, name)
            return None
        self.cache.put(resource, page.items[0], read_at=page.resource_version)
        return page.items[0]

    async def _mark(self, write: MarkRevision) -> Json:
        metadata: Json = {"resourceVersion": write.stored.version, "annotations": dict(write.annotations)}
        body: Json = {"metadata": metadata} | ({} if write.number is None else {"revision": write.number})
        try:
            answer = await self.api.merge_patch(REVISIONS, write.namespace, write.stored.object_name, body)
        except NotFound:
            self.cache.forget(REVISIONS, write.namespace, write.stored.object_name)
            raise
        self.cache.put(REVISIONS, answer)
        return answer

    async def _is_as_it_was(self, resource: Resource, namespace: str, name: str, operations: Sequence[Json]) -> bool:
        """Whether what the operations test holds, by a fresh read: then it is the patch that is wrong.

        Somebody wrote first otherwise. What was read goes into the cache, so that the next decision is made on it.
        """
        found = await self._read(resource, namespace, name)
        if found is None:
            return False
        tests = {each["path"].rpartition("/")[2]: each["value"] for each in operations if each["op"] == "test"}
        return all(found["metadata"].get(key) == value for key, value in tests.items())

    async def _patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        operations: Sequence[Json],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        try:
            answer = await self.api.json_patch(
                resource,
                namespace,
                name,
                operations,
                subresource=subresource,
                dry_run=dry_run,
            )
        except NotFound:
            self.cache.forget(resource, namespace, name)
            raise
        except Rejected as error:
            if error.reason != PATCH_DOES_NOT_FIT:
                raise
            if await self._is_as_it_was(resource, namespace, name, operations):
                raise
            raise Conflict(verb=error.verb, what=error.what, message=error.message, status=error.status) from error
        if not dry_run:
            self.cache.put(resource, answer)
        return answer
