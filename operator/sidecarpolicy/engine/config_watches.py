"""Watches of the ConfigMaps and Secrets that policies name in `restartOn`, and of no others.

One watch for each name, over all namespaces (`fieldSelector=metadata.name=…`, by which the API server keeps an index):
a cluster may hold ten thousand Secrets of which two are named. Where only some namespaces are served, it is one in each
of these in which a policy names it. It begins when a policy names it, and ends when none does any more. Each holds a
connection, and anybody who may write a policy may name what there is not: so they have connections of their own, and no
more than `MOST_WATCHED` are watched, those of ClusterSidecarPolicies first. The rest is told in the statuses. Of an
object nothing stays but the hash of its content (`core.configs.hash_of`), by namespace; it is never logged.

Where they cannot be read that is told in the statuses, and it goes on without: what was read before stays as it was,
and it is tried again; for want of a right by one name for all of its kind (see `rights`). A term of leadership begins
with fresh reads of these as well; what cannot be read then within a while is not known, so that nobody rolls out by a
watch that lags.
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
from sidecarpolicy.engine.rights import Right

RESOURCES = {CONFIG_MAP: CONFIG_MAPS, SECRET: SECRETS}

# So long, in seconds, a term waits for fresh reads; without them it begins as if nothing were known.
FRESH_SECONDS = 10.0

# So many names are watched at most, each with a connection.
MOST_WATCHED = 256


@dataclass(slots=True, kw_only=True)
class _Hashes:
    """Where the objects of one name go: their hashes into the *cache*, and nothing else anywhere.

    *where*: the namespace that is watched; empty for all.
    """

    cache: Cache
    config: ConfigObject
    where: str
    listed: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def begin(self, resource: Resource, namespace: str = "") -> None:
        """A LIST begins."""
        self.listed = set()

    def put(self, resource: Resource, body: Json) -> None:
        """An object as it is now."""
        namespace = body["metadata"]["namespace"]
        self.listed.add(namespace)
        self.known.add(namespace)
        self.cache.configs.note(self.config, namespace, hash_of(self.config.kind, body))

    def drop(self, resource: Resource, body: Json) -> None:
        """It was deleted."""
        self._forget(body["metadata"]["namespace"])

    def end(self, resource: Resource, version: str, namespace: str = "") -> bool:
        """The LIST is complete; without a version it stands for one that is not allowed. It always stands."""
        for namespace in self.known - self.listed if version else ():
            self._forget(namespace)
        if version:
            self.cache.configs.note_listed(self.config, self.where)
        else:
            scope = f"in namespace {self.where}" if self.where else "at the cluster scope"
            self.note_problem(f"cannot list {resource.plural} {scope}", True)
        return True

    def note_problem(self, problem: str, forbidden: bool) -> None:
        """They cannot be read, for want of a right or for anything else; or (empty) they can again."""
        if forbidden:
            kind = self.config.kind
            switch = f"restartOn.{'secrets' if kind == SECRET else 'configMaps'}"
            verbs = f"the verbs list and watch on {RESOURCES[kind].plural} (chart: {switch}: true)"
            problem = f"the operator needs {verbs}: {problem}"
        self.cache.configs.note_problem(self.config, problem, self.where)

    def _forget(self, namespace: str) -> None:
        self.listed.discard(namespace)
        self.known.discard(namespace)
        self.cache.configs.note(self.config, namespace, None)


Place = tuple[ConfigObject, str]
"""What is watched, and in which namespace; empty for all."""


class ConfigWatches:
    """All of them, in one process. `run` it as a task.

    *api*: one that nothing else waits for. *most*: so many names are watched.
    """

    def __init__(self, api: Api, cache: Cache, *, most: int = MOST_WATCHED) -> None:
        self._api, self._cache, self._most = api, cache, most
        self._watches: dict[Place, tuple[Reflector, asyncio.Task[None]]] = {}
        self._rights: dict[tuple[str, str], Right] = {}  # by kind, and by namespace
        self._left: frozenset[Place] = frozenset()  # too many
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def watched(self) -> Sequence[ConfigObject]:
        """What is watched now."""
        return sorted({config for config, _ in self._watches})

    async def run(self) -> None:
        """Watch what is named, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                self._adapt(self._tasks)
                await self._cache.configs.named_anew.wait()

    def _adapt(self, tasks: asyncio.TaskGroup) -> None:
        self._cache.configs.named_anew.clear()
        cache = self._cache
        named = {(config, where) for config in cache.configs.names for where in cache.configs.places_of(config)}
        for place in self._watches.keys() - named:
            self._watches.pop(place)[1].cancel()
            cache.configs.forget(*place)
        kinds = {(config.kind, where) for config, where in named}
        self._rights = {each: self._rights.get(each) or Right() for each in kinds}
        waiting = sorted(
            named - self._watches.keys(), key=lambda each: (not cache.configs.is_named_for_all(each[0]), each)
        )
        free = self._most - len(self._watches)
        for place in self._left - named:
            cache.configs.forget(*place)
        self._left = frozenset(waiting[free:])
        for config, where in self._left:
            cache.configs.note_problem(config, f"no more than {self._most} names of all policies are watched", where)
        for config, where in waiting[:free]:
            hashes = _Hashes(cache=cache, config=config, where=where)
            reflector = Reflector(
                self._api,
                RESOURCES[config.kind],
                hashes,
                namespace=where,
                field_selector=f"metadata.name={config.name}",
                may_be_forbidden=True,
                right=self._rights[config.kind, where],
            )
            reflector.what = f"{reflector.resource.plural} named {where + '/' if where else ''}{config.name}"
            reflector.on_problem = hashes.note_problem
            self._watches[config, where] = reflector, tasks.create_task(reflector.run())

    async def refresh(self, since: float) -> None:
        """Return when all of them rest on a LIST that began after *since* (by the loop's clock), or are forgotten."""
        if self._tasks is not None:
            self._adapt(self._tasks)  # what has just been named is watched, too
        stale = {place: each for place, (each, _) in self._watches.items() if each.begun_at < since}
        if not stale:
            return
        reads = {place: asyncio.ensure_future(each.refresh()) for place, each in stale.items()}
        await asyncio.wait(reads.values(), timeout=FRESH_SECONDS)
        for (config, where), read in reads.items():
            if not read.done() or read.cancelled():
                read.cancel()
                self._cache.configs.forget(config, where)
                problem = f"no answer to a LIST within {FRESH_SECONDS:g} s, as yet"
                self._cache.configs.note_problem(config, problem, where)
