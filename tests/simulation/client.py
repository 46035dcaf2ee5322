"""`engine.port.Api` over the model, for one process: latency, trouble, a clock of its own, watches that lag.

A request is on its way for a while before the server acts on it, and its answer for a while after; a process may end
at both times. What was on its way when it ended arrives all the same, or does not, as the plan of faults says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import ApiError, NotFound, Page, Resource, Transient, WatchEvent
from tests.simulation.faults import Fault, Faults, Request, error_of
from tests.simulation.loop import VirtualLoop
from tests.simulation.server import Server

T = TypeVar("T")

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS = 570.0
BEFORE_THE_END = 2.0
READS = frozenset({"get", "list", "watch"})


@dataclass(slots=True)
class Clock:
    """A process's own wall clock, *skew* seconds ahead of the server's, and what answers have told of that one."""

    server: Server
    skew: float = 0.0
    offset: float = 0.0

    def now(self) -> float:
        """The server's, as far as its answers tell: whole seconds, as in the `Date` of an answer."""
        return self.server.now() + self.skew + self.offset

    def read(self) -> None:
        """Learn from an answer, as `kube.clock` does."""
        told = float(int(self.server.now()))
        behind, ahead = told - self.now(), told + 1.0 - self.now()
        if behind > 0.5:
            self.offset += behind
        elif ahead < -0.5:
            self.offset += ahead


@dataclass(slots=True, kw_only=True)
class Client:
    """*process*: whose it is.

    *held*: kinds whose watches tell nothing while they are in it; *unheard*: whether an event is never told
    (*deaf*: whether that happens now). *twice*: every event is told twice. *cuts*: how often its connections were cut.
    *lands*: whether a request that is on its way when the process ends still arrives.
    """

    server: Server
    loop: VirtualLoop
    faults: Faults
    process: str
    clock: Clock
    leading: Callable[[], bool] = lambda: False
    latency: float = 0.004
    lag: float = 0.002
    page: int = 500
    manager: str = names.FIELD_MANAGER
    held: dict[Resource, asyncio.Event] = field(default_factory=dict)
    unheard: Callable[[Resource, str, Json], bool] | None = None
    deaf: bool = False
    twice: bool = False
    cuts: int = 0
    lands: Callable[[], bool] = lambda: True
    requests: list[Request] = field(default_factory=list)
    writes: int = 0
    dead: bool = False
    frozen: asyncio.Event | None = None

    def now(self) -> float:
        """The server's clock, as far as its answers tell."""
        return self.clock.now()

    # The port

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[Page]:
        """Pages of one snapshot, of all namespaces."""
        assert not namespace, "the simulated operator serves the whole cluster"

        def look() -> tuple[Sequence[Json], str]:
            found = self.server.every(resource, label_selector=label_selector)
            return [each for each in found if _is_named(each, field_selector)], str(self.server.version)

        found, version = await self._request("list", resource, "", "", look)
        for begin in range(0, max(1, len(found)), self.page):
            if begin:
                await self._request("list", resource, "", "", lambda: None)
            yield Page(items=found[begin : begin + self.page], resource_version=version)

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str,
        seconds: int | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What changed since, as it comes, of all namespaces; with a bookmark two seconds before the end."""
        assert not namespace, "the simulated operator serves the whole cluster"
        version = int(resource_version)
        ends, cuts = self.loop.time() + (seconds or WATCH_SECONDS), self.cuts
        told_of_end = not seconds
        await self._request("watch", resource, "", "", lambda: self.server.check_version(resource, version))
        yield WatchEvent(type="BOOKMARK", object={"metadata": {"resourceVersion": resource_version}})
        while self.loop.time() < ends:
            told = list(self.server.changes_since(resource, version, label_selector))
            if told:
                await asyncio.sleep(self.lag)
                if (holding := self.held.get(resource)) is not None:
                    await holding.wait()
                await self._thawed()
            if self.cuts != cuts:
                raise Transient(verb="watch", what=resource.plural, message="the connection was cut")
            for version, kind, body in told:  # noqa: B007  # the last one is where to go on
                if not _is_named(body, field_selector):
                    continue
                if self.unheard is None or not self.unheard(resource, kind, body):
                    yield WatchEvent(type=kind, object=body)
                    if self.twice:
                        yield WatchEvent(type=kind, object=body)
            seen = self.server.version
            if told or any(self.server.changes_since(resource, version, label_selector)):
                continue
            version, now = seen, self.loop.time()
            pause = ends - now if told_of_end else max(0.0, ends - BEFORE_THE_END - now)
            if not await self._change(resource, min(BOOKMARK_SECONDS, max(0.0, pause))):
                told_of_end = True
                yield WatchEvent(type="BOOKMARK", object={"metadata": {"resourceVersion": str(version)}})

    async def _change(self, resource: Resource, seconds: float) -> bool:
        """Wait for a change of that kind; False if none came in *seconds*."""
        waiter = self.loop.create_future()

        def wake(change: bool) -> None:
            if not waiter.done():
                waiter.set_result(change)

        self.server.collections[resource].waiting.append(lambda: wake(True))
        timer = self.loop.call_later(seconds, wake, False)
        try:
            return bool(await waiter)
        finally:
            timer.cancel()

    async def version(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> str:
        """That of now."""
        return await self._request("list", resource, namespace, "", lambda: str(self.server.version))

    async def list_in(
        self, resource: Resource, namespace: str, *, label_selector: str = "", field_selector: str = ""
    ) -> Page:
        """A small LIST."""
        if field_selector.startswith("metadata.name="):
            wanted = field_selector.partition("=")[2]

            def one() -> Page:
                found = self.server.find(resource, namespace, wanted)
                return self._page([found] if found is not None else [])

            return await self._request("list", resource, namespace, wanted, one)
        assert not field_selector or field_selector.startswith("regarding.name=")
        name = field_selector.partition("=")[2]

        def look() -> Page:
            found = self.server.every(resource, namespace, label_selector)
            return self._page([each for each in found if not name or at(each, "regarding").get("name") == name])

        return await self._request("list", resource, namespace, "", look)

    def _page(self, items: Sequence[Json]) -> Page:
        return Page(items=items, resource_version=str(self.server.version))

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """One object."""
        return await self._request("get", resource, namespace, name, lambda: self.server.get(resource, namespace, name))

    async def create(self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        """A new object."""
        metadata = at(body, "metadata")
        name = str(metadata.get("name") or metadata.get("generateName"))
        return await self._request(
            "create",
            resource,
            namespace,
            name,
            lambda: self.server.create(resource, namespace, body, manager=self.manager, dry_run=dry_run),
            dry_run=dry_run,
            guarded="name" in metadata,
        )

    async def json_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        operations: Sequence[Json],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        """A JSON Patch."""
        guards = ("/metadata/resourceVersion", "/metadata/generation")
        return await self._request(
            "patch",
            resource,
            namespace,
            name,
            lambda: self.server.json_patch(
                resource,
                namespace,
                name,
                operations,
                subresource=subresource,
                manager=self.manager,
                dry_run=dry_run,
            ),
            dry_run=dry_run,
            guarded=any(each["path"] in guards for each in operations),
            subresource=subresource,
        )

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Json, *, subresource: str = ""
    ) -> Json:
        """A merge patch."""
        return await self._request(
            "patch",
            resource,
            namespace,
            name,
            lambda: self.server.merge_patch(
                resource, namespace, name, body, subresource=subresource, manager=self.manager
            ),
            guarded="resourceVersion" in at(body, "metadata"),
            subresource=subresource,
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", resource_version: str = ""
    ) -> None:
        """What is gone already is no error."""

        def act() -> None:
            try:
                self.server.delete(resource, namespace, name, uid=uid, resource_version=resource_version)
            except NotFound:
                return

        await self._request("delete", resource, namespace, name, act, guarded=bool(uid or resource_version))

    def cut(self) -> None:
        """End every watch in the middle."""
        self.cuts += 1
        for resource in self.server.collections:
            self.server.wake(resource)

    # On the way

    async def _request(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str,
        act: Callable[[], T],
        *,
        dry_run: bool = False,
        guarded: bool = False,
        subresource: str = "",
    ) -> T:
        if self.dead:
            raise asyncio.CancelledError
        writes = verb not in READS and not dry_run
        self.writes += writes
        request = Request(
            at=self.loop.time(),
            process=self.process,
            verb=verb,
            resource=resource,
            namespace=namespace,
            name=name,
            number=len(self.requests) + 1,
            write=self.writes if writes else 0,
            dry_run=dry_run,
            guarded=guarded,
            leading=self.leading(),
            subresource=subresource,
        )
        self.requests.append(request)
        try:
            answer = await self._send(request, act)
        except ApiError:
            self.faults.answered(request, False)
            raise
        self.faults.answered(request, True)
        return answer

    async def _send(self, request: Request, act: Callable[[], T]) -> T:
        trouble = self.faults.of(request)
        if trouble is Fault.CRASH_BEFORE:
            await self._crash(request)
        await self._thawed()
        try:
            await asyncio.sleep(self.latency)
        except asyncio.CancelledError:
            if self.dead and request.write and trouble is None and self.lands():
                self.loop.call_later(self.latency, _quietly, act)
            raise
        if trouble is not None and not trouble.has_effect:
            await asyncio.sleep(self.latency + trouble.seconds)
            raise error_of(trouble, request)
        if trouble is None:
            try:
                return act()
            finally:
                await self._way_back()
        _quietly(act)  # it ends in trouble all the same
        if trouble is Fault.CRASH_AFTER:
            await self._crash(request)
        await asyncio.sleep(self.latency + trouble.seconds)
        raise error_of(trouble, request)

    async def _way_back(self) -> None:
        await asyncio.sleep(self.latency)
        await self._thawed()
        self.clock.read()

    async def _thawed(self) -> None:
        while self.frozen is not None and not self.frozen.is_set():
            await self.frozen.wait()

    async def _crash(self, request: Request) -> None:
        self.faults.crash(request.process)
        await asyncio.Event().wait()  # until this is cancelled with everything else


def _is_named(body: Json, field_selector: str) -> bool:
    assert not field_selector or field_selector.startswith("metadata.name=")
    return not field_selector or body["metadata"]["name"] == field_selector.partition("=")[2]


def _quietly(act: Callable[[], Any]) -> None:
    try:
        act()
    except ApiError:
        return
