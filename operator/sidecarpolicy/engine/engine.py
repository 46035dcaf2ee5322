"""One operator process: reflectors that fill the cache, and a term of work whenever this process leads.

Every replica lists and watches; only the one that holds the Lease works. A term begins when all that was read before
leadership was gained is as fresh as if it were read then: a watch that lags would bring back what the leader before us
has changed. Likewise nothing is written between the read that shows that etcd was restored and those of all the rest:
Deployments of one history and ReplicaSets of another would free slots. What takes longest, the look at everything, is
begun when the leader before us seems to be gone, before its Lease has run out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecarpolicy.core.field_conflicts import Limits
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.config_watches import ConfigWatches
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.metrics import Metrics
from sidecarpolicy.engine.port import Api, Events, Leadership
from sidecarpolicy.engine.reflector import Reflector, problems_of, reflectors_of_everything
from sidecarpolicy.engine.term import Term

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Engine:
    """Create it inside the running loop, then `run` it.

    *sync_period*: seconds between two full LISTs of everything. *configs_api*: for the watches of what policies name in
    `restartOn`, if not the same as for all else. *namespaces*: those that are served, if not the whole cluster.
    """

    api: Api
    events: Events
    leadership: Leadership
    operator_namespace: str
    limits: Limits = Limits()
    workers: int = 16
    sync_period: float = 600.0
    metrics: Metrics = field(default_factory=Metrics)
    configs_api: Api | None = None
    namespaces: frozenset[str] = frozenset()
    cache: Cache = field(init=False)
    reflectors: Sequence[Reflector] = field(init=False)
    configs: ConfigWatches = field(init=False)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    term: Term | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.cache = Cache(self.operator_namespace, self.namespaces)
        self.reflectors = reflectors_of_everything(self.api, self.cache, self.cache.accounts_needed, self.namespaces)
        self.configs = ConfigWatches(self.configs_api or self.api, self.cache)

    @property
    def problems(self) -> Sequence[str]:
        """Why this process does not know what is there, for a person; empty if it does."""
        return problems_of(self.reflectors)

    async def run(self) -> None:
        """Work until cancelled."""
        await self.leadership.wait_until_known()
        async with asyncio.TaskGroup() as tasks:
            # First: where this process leads already, one LIST is fresh enough.
            tasks.create_task(self._lead_for_ever())
            for reflector in self.reflectors:
                tasks.create_task(reflector.run())
            tasks.create_task(self.configs.run())
            tasks.create_task(self._sync_for_ever())
            tasks.create_task(self._read_anew_for_ever())
            await asyncio.gather(*(each.synced.wait() for each in self.reflectors))
            self.synced.set()

    async def _sync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.sync_period)
            for reflector in self.reflectors:
                await reflector.refresh()

    async def _read_anew_for_ever(self) -> None:
        """Read everything again where history went backwards in a part of it: the rest is of what was undone.

        Until then nothing is written (see `Writer.may_write`).
        """
        while True:
            await self.cache.rewound.wait()
            log.warning("history went backwards, as when etcd is restored: nothing is written before all is read again")
            since = asyncio.get_running_loop().time()
            await asyncio.gather(*(each.refresh() for each in self.reflectors))
            await self.configs.refresh(since)
            if self.term is not None:
                self.term.history_went_backwards()
            self.cache.rewound.clear()

    async def _lead_for_ever(self) -> None:
        while True:
            await self.leadership.wait_until_due()
            work = asyncio.ensure_future(self._lead())
            over = asyncio.ensure_future(self.leadership.wait_until_over())
            try:
                await asyncio.wait([work, over], return_when=asyncio.FIRST_COMPLETED)
            finally:
                work.cancel()
                over.cancel()
                await asyncio.wait([work, over])
                self.term = None
            if not work.cancelled() and (error := work.exception()) is not None:
                raise error

    async def _lead(self) -> None:
        """One term, until cancelled: a look at everything, and, once it leads and knows what there is, work."""
        async with asyncio.TaskGroup() as tasks:
            gained = tasks.create_task(self._gained())
            await self.synced.wait()
            context = Context(cache=self.cache, now=self.api.now, limits=self.limits)
            term = self.term = Term(
                api=self.api,
                events=self.events,
                leadership=self.leadership,
                context=context,
                metrics=self.metrics,
                workers=self.workers,
            )
            looking = tasks.create_task(term.run())
            gained_at = await gained
            stale = [each for each in self.reflectors if each.begun_at < gained_at]
            await asyncio.gather(*(each.refresh(may_confirm=True) for each in stale))
            await self.configs.refresh(gained_at)
            term.begin()
            await looking

    async def _gained(self) -> float:
        """Return when this process began to lead, by the loop's clock (seconds)."""
        await self.leadership.wait_until_leading()
        return asyncio.get_running_loop().time()
