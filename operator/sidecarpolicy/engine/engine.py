"""The engine: what is observed goes into the store, what it concerns into the queue, and workers do the passes.

Every replica observes; only the one that holds the Lease works. Nothing is judged before everything was listed once.
The own LIST, at the start and every *resync_seconds*, is also what finds objects whose deletion no watch ever told.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.engine.policy_pass import PolicyPasses
from sidecarpolicy.engine.port import ApiError, Conflict, Json, Leadership, NotFound, Rejected, Resource, Transient
from sidecarpolicy.engine.queue import ShutDown
from sidecarpolicy.engine.resources import LABEL_SELECTORS, OPTIONAL, WATCHED
from sidecarpolicy.engine.store import Key
from sidecarpolicy.engine.workload_pass import workload_pass
from sidecarpolicy.engine.world import World

log = logging.getLogger(__name__)

# Soon after the start once more: the watches may have begun after the first LIST.
FIRST_RESYNC_SECONDS = 15.0


@dataclass(slots=True, kw_only=True)
class Engine:
    """One operator process. Create it inside the running loop, then `run` it."""

    world: World
    leadership: Leadership
    workers: int = 16
    resync_seconds: float = 600.0
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    passes: PolicyPasses = field(init=False)

    def __post_init__(self) -> None:
        self.passes = PolicyPasses(world=self.world)

    def observe(self, resource: Resource, event_type: str | None, body: Json) -> None:
        """Take one watch event in: *event_type* as the API spells it, None for an object of the first LIST."""
        change = self.world.store.drop if event_type == "DELETED" else self.world.store.put
        for key in change(resource, body):
            self._add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync_for_ever())
            await self.synced.wait()
            tasks.create_task(self._lead_for_ever())
            for _ in range(self.workers):
                tasks.create_task(self._work())

    async def _resync_for_ever(self) -> None:
        while True:
            try:
                await self._resync()
            except ApiError as error:
                log.warning("could not list what is there, trying again: %s", error)
                await asyncio.sleep(error.retry_after or 2.0 if isinstance(error, Transient) else 10.0)
                continue
            first = not self.synced.is_set()
            self.synced.set()
            await asyncio.sleep(FIRST_RESYNC_SECONDS if first else self.resync_seconds)

    async def _resync(self) -> None:
        for resource in WATCHED:
            bodies: list[Json] = []
            version = 0
            try:
                async for page in self.world.api.list(resource, label_selector=LABEL_SELECTORS.get(resource, "")):
                    bodies += page.items
                    version = int(page.resource_version)
            except NotFound:
                if resource not in OPTIONAL:
                    raise
            for key in self.world.store.replace(resource, bodies, version):
                self._add(key)

    async def _lead_for_ever(self) -> None:
        """Look at everything once whenever this process becomes the leader."""
        led = False
        while True:
            leads = self.leadership.leading
            if leads and not led:
                self.world.written.clear()  # another process may have written since
                log.info("leading: looking at %d policies and %d workloads", *self._sizes())
                for policy in self.world.store.policies:
                    self._add(policy)
                for workload in self.world.store.workloads:
                    self._add(workload)
            led = leads
            await asyncio.sleep(0.2)

    def _sizes(self) -> tuple[int, int]:
        return len(self.world.store.policies), len(self.world.store.workloads)

    def _add(self, key: Key) -> None:
        """Queue *key* where there is somebody to work on it: what a standby sees it looks at when it leads."""
        if self.synced.is_set() and self.leadership.leading:
            self.world.queue.add(key, urgent=isinstance(key, PolicyId))

    async def _work(self) -> None:
        while True:
            try:
                key = await self.world.queue.get()
            except ShutDown:
                return
            try:
                if self.leadership.leading:
                    await self._pass(key)
            finally:
                self.world.queue.done(key)

    async def _pass(self, key: Key) -> None:
        """Do one pass and sort what comes of it by what to do next."""
        queue = self.world.queue
        try:
            if isinstance(key, PolicyId):
                await self.passes.run(key)
            else:
                await workload_pass(key, self.world)
        except Conflict as error:
            log.debug("somebody wrote first: %s", error)
            queue.add_after(key, 0.1)
        except NotFound as error:
            log.debug("%s", error)
        except Transient as error:
            seconds = queue.retry(key, error.retry_after)
            log.warning("%s; trying again in %.1f s", error, seconds)
        except Rejected as error:
            if isinstance(key, PolicyId):
                seconds = queue.retry(key)
                log.warning("%s; trying again in %.1f s", error, seconds)
        except Exception:  # a mistake of ours: told in full, and it must not stop every other key
            seconds = queue.retry(key)
            log.exception("a pass over %s failed, trying again in %.1f s", key, seconds)
        else:
            queue.forget(key)
