"""Watches of the ConfigMaps and Secrets that policies name in `restartOn`, and of no others.

One watch for each name, over all namespaces (`fieldSelector=metadata.name=…`, by which the API server keeps an index):
a cluster may hold ten thousand Secrets of which two are named. It begins when a policy names it, and ends when none
does any more. Each holds a connection, and anybody who may write a policy may name what there is not: so they have
connections of their own, and no more than `MOST_WATCHED` names are watched, those of ClusterSidecarPolicies first. The
rest is told in the statuses. Of an object nothing stays but the hash of its content (`core.configs.hash_of`), by
namespace; it is never logged.

Where they cannot be read that is told in the statuses, and it goes on without: what was read before stays
as it was, and it is tried again. A term of leadership begins with fresh reads of these as well; what cannot be read
then within a while is not known, so that nobody rolls out by a watch that lags.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecarpolicy.core.configs import CONFIG_MAP, SECRET, ConfigObject, hash_of
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.port import Api, Json, Resource
from sidecarpolicy.engine.reflector import Reflector
from sidecarpolicy.engine.resources import CONFIG_MAPS, SECRETS

RESOURCES = {CONFIG_MAP: CONFIG_MAPS, SECRET: SECRETS}

# So long, in seconds, a term waits for fresh reads; without them it begins as if nothing were known.
FRESH_SECONDS = 10.0

# So many names are watched at most, each with a connection.
MOST_WATCHED = 256


@dataclass(slots=True, kw_only=True)
class _Hashes:
    """Where the objects of one name go: their hashes into the *cache*, and nothing else anywhere."""

    cache: Cache
    config: ConfigObject
    listed: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def begin(self, resource: Resource) -> None:
        """A LIST begins."""
        self.listed = set()

    def put(self, resource: Resource, body: Json) -> None:
        """An object as it is now."""
        namespace = body["metadata"]["namespace"]
        self.listed.add(namespace)
        self.known.add(namespace)
        self.cache.note_config(self.config, namespace, hash_of(self.config.kind, body))

    def drop(self, resource: Resource, body: Json) -> None:
        """It was deleted."""
        self._forget(body["metadata"]["namespace"])

    def end(self, resource: Resource, version: str) -> None:
        """The LIST is complete; without a version it stands for one that is not allowed."""
        for namespace in self.known - self.listed if version else ():
            self._forget(namespace)
        if version:
            self.cache.note_configs_listed(self.config)
        else:
            self.note_problem(f"cannot list {resource.plural} at the cluster scope", True)

    def note_problem(self, problem: str, forbidden: bool) -> None:
        """They cannot be read, for want of a right or for anything else; or (empty) they can again."""
        if forbidden:
            kind = self.config.kind
            switch = f"restartOn.{'secrets' if kind == SECRET else 'configMaps'}"
            verbs = f"the verbs list and watch on {RESOURCES[kind].plural} (chart: {switch}: true)"
            problem = f"the operator needs {verbs}: {problem}"
        self.cache.note_configs_problem(self.config, problem)

    def _forget(self, namespace: str) -> None:
        self.listed.discard(namespace)
        self.known.discard(namespace)
        self.cache.note_config(self.config, namespace, None)


class ConfigWatches:
    """All of them, in one process. `run` it as a task.

    *api*: one that nothing else waits for. *most*: so many names are watched.
    """

    def __init__(self, api: Api, cache: Cache, *, most: int = MOST_WATCHED) -> None:
        self._api, self._cache, self._most = api, cache, most
        self._watches: dict[ConfigObject, tuple[Reflector, asyncio.Task[None]]] = {}
        self._left: frozenset[ConfigObject] = frozenset()  # too many
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def watched(self) -> Sequence[ConfigObject]:
        """What is watched now."""
        return sorted(self._watches)

    async def run(self) -> None:
        """Watch what is named, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                self._adapt(self._tasks)
                await self._cache.configs_named.wait()

    def _adapt(self, tasks: asyncio.TaskGroup) -> None:
        self._cache.configs_named.clear()
        named = self._cache.named_configs()
        for config in self._watches.keys() - named:
            self._watches.pop(config)[1].cancel()
            self._cache.forget_config(config)
        waiting = sorted(named - self._watches.keys(), key=lambda each: (not self._cache.is_named_for_all(each), each))
        free = self._most - len(self._watches)
        for config in self._left - named:
            self._cache.forget_config(config)
        self._left = frozenset(waiting[free:])
        for config in self._left:
            self._cache.note_configs_problem(config, f"no more than {self._most} names of all policies are watched")
        for config in waiting[:free]:
            hashes = _Hashes(cache=self._cache, config=config)
            reflector = Reflector(
                self._api,
                RESOURCES[config.kind],
                hashes,
                field_selector=f"metadata.name={config.name}",
                may_be_forbidden=True,
            )
            reflector.what = f"{reflector.resource.plural} named {config.name}"
            reflector.on_problem = hashes.note_problem
            self._watches[config] = reflector, tasks.create_task(reflector.run())

    async def refresh(self, since: float) -> None:
        """Return when all of them rest on a LIST that began after *since* (by the loop's clock), or are forgotten."""
        if self._tasks is not None:
            self._adapt(self._tasks)  # what has just been named is watched, too
        stale = {config: each for config, (each, _) in self._watches.items() if each.begun_at < since}
        if not stale:
            return
        reads = {config: asyncio.ensure_future(each.refresh()) for config, each in stale.items()}
        await asyncio.wait(reads.values(), timeout=FRESH_SECONDS)
        for config, read in reads.items():
            if not read.done() or read.cancelled():
                read.cancel()
                self._cache.forget_config(config)
                self._cache.note_configs_problem(config, f"no answer to a LIST within {FRESH_SECONDS:g} s, as yet")
