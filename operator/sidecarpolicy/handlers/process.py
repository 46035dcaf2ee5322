"""What runs in one operator process, and in which order it begins and ends.

The order of the end matters: first no new work, then the last Events, then the Lease, so that the next leader starts at
once and never beside us. The probes come first and go last.

Where a part ends by itself, the process ends: it is useless without it, and a Lease that is renewed by a process that
does nothing would keep every standby waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sidecarpolicy import names
from sidecarpolicy.admission.keeper import Keeper
from sidecarpolicy.core.emergency_switch import is_on
from sidecarpolicy.core.field_conflicts import Limits
from sidecarpolicy.engine.config_watches import MOST_WATCHED
from sidecarpolicy.engine.engine import Engine
from sidecarpolicy.engine.metrics import CONTENT_TYPE, Metrics, PolicyCounts, counts_of_status
from sidecarpolicy.engine.port import Json
from sidecarpolicy.handlers.memory import spare_the_collector
from sidecarpolicy.handlers.serving import Answer, Server, probes
from sidecarpolicy.handlers.webhook import BIND_ADDRESS, DRAIN_SECONDS, Admission
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from sidecarpolicy.kube.events import EventRecorder
from sidecarpolicy.kube.lease import Election, default_identity

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Everything that can be set; see `sidecarpolicy run --help`. Periods are in seconds.

    *watch_namespace*: the namespaces that are served; none for the whole cluster.
    """

    kubeconfig: str = ""
    context: str = ""
    operator_namespace: str = "sidecarpolicy-system"
    watch_namespace: tuple[str, ...] = ()
    identity: str = ""
    workers: int = 16
    sync_period: float = 600.0
    lease_seconds: int = 15
    revert_window_seconds: float = 600.0
    revert_threshold: int = 3
    health_probe_bind_address: str = "0.0.0.0:8081"
    metrics_bind_address: str = "0.0.0.0:8080"
    webhook: bool = False
    webhook_bind_address: str = BIND_ADDRESS
    admission_certificates: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What an engine tells the metrics when it is asked: from the cache, so on every replica alike."""

    engine: Engine

    def policy_counts(self) -> Iterable[PolicyCounts]:
        """From the policies' statuses."""
        return [counts_of_status(policy, cached.status) for policy, cached in self.engine.cache.policies.items()]

    def queue_depths(self) -> Mapping[str, int]:
        """Of the term, while there is one."""
        if self.engine.term is None:
            return {"policies": 0, "workloads": 0}
        sizes = self.engine.term.sizes()
        return {"policies": sizes["policies"], "workloads": sizes["dirty"] + sizes["to_inspect"] + sizes["urgent"]}

    @property
    def leading(self) -> bool:
        """Whether this replica writes."""
        return self.engine.leadership.leading


class Process:
    """Everything but Kopf. Use it with `async with`; *stop* is set where a part has ended."""

    def __init__(self, settings: OperatorSettings, login: Login, stop: asyncio.Event) -> None:
        identity = settings.identity or default_identity()
        served = frozenset(settings.watch_namespace)
        self._metrics = Metrics()
        # Each watch holds a connection.
        connections = settings.workers + 16 * max(1, len(served))
        self._api = HttpApi(login, connections=connections, on_request=self._metrics.request)
        # The Lease has its own connection: its renewals never queue behind the workers' requests.
        self._lease_api = HttpApi(login, connections=1, clock=self._api.clock)
        # So have the watches of what policies name: there may be many, and each holds one for good.
        self._configs_api = HttpApi(
            login, connections=MOST_WATCHED, clock=self._api.clock, on_request=self._metrics.request
        )
        self._events = EventRecorder(self._api, identity)
        self._election = Election(
            self._lease_api,
            namespace=settings.operator_namespace,
            name=names.CONTROLLER,
            identity=identity,
            lease_duration=settings.lease_seconds,
            renew_deadline=settings.lease_seconds * 2 / 3,
            retry_period=settings.lease_seconds * 2 / 15,
            on_seen=self._note_lease,
            annotations={names.WATCH_NAMESPACES: ",".join(sorted(served)) or None},
        )
        self._engine = Engine(
            api=self._api,
            events=self._events,
            leadership=self._election,
            operator_namespace=settings.operator_namespace,
            limits=Limits(window=settings.revert_window_seconds, threshold=settings.revert_threshold),
            workers=settings.workers,
            sync_period=settings.sync_period,
            metrics=self._metrics,
            configs_api=self._configs_api,
            namespaces=served,
        )
        self._admission = (
            Admission(
                settings.webhook_bind_address,
                api=self._api,
                cache=self._engine.cache,
                metrics=self._metrics,
                is_synced=self._engine.synced.is_set,
            )
            if settings.webhook
            else None
        )
        self._keeper = (
            Keeper(self._api, self._election, self._engine.cache)
            if settings.webhook or settings.admission_certificates
            else None
        )
        if self._keeper is None:  # nobody looks whether there is a webhook
            self._engine.cache.note_admission(False)
        self._metrics.observe_process()
        self._metrics.observe_engine(Observed(self._engine))
        self._metrics.observe_events(lambda: self._events.dropped, lambda: self._events.waiting)
        self._metrics.observe_clock(lambda: self._api.clock_offset)
        self._server = Server(
            (settings.health_probe_bind_address, probes(self.problems)),
            (settings.metrics_bind_address, {"/metrics": self._metrics_page}),
        )
        self._stop = stop
        self._parts: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    def _note_lease(self, metadata: Json) -> None:
        self._engine.cache.note_switch(is_on(metadata))

    def problems(self) -> Sequence[str]:
        """Why this replica does not know what is there; empty if it does."""
        return [
            *self._engine.problems,
            *([self._election.problem] if self._election.problem else []),
            *(self._admission.problems if self._admission is not None else ()),
        ]

    def _metrics_page(self) -> Answer:
        return Answer(text=self._metrics.text(), content_type=CONTENT_TYPE)

    async def __aenter__(self) -> Self:
        """Begin; raise CannotListen, or ConnectionProblem where there are no credentials."""
        try:
            await self._server.start()
            await self._api.start()
            await self._lease_api.start()
            await self._configs_api.start()
            if self._admission is not None:
                await self._admission.start()
        except BaseException:
            await self.close()
            raise
        self._run("the engine", self._engine.run())
        self._run("the election", self._election.run())
        self._run("the Events", self._events.run())
        self._run("the look at the loop", self._metrics.watch_loop())
        if self._admission is not None:
            self._run("the webhooks", self._admission.run())
        if self._keeper is not None:
            self._run("the webhooks' certificates", self._keeper.run())
        sparing = spare_the_collector([self._engine.synced])
        self._parts.append(asyncio.create_task(sparing, name="the look at memory"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End in good order; once more is nothing. Never raises what a part has failed of."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._admission is not None:
            self._admission.end()
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        await self._events.flush()
        await self._election.release()
        if self._admission is not None:
            await asyncio.sleep(DRAIN_SECONDS if self._parts else 0.0)
            await self._admission.close()
        await self._api.close()
        await self._lease_api.close()
        await self._configs_api.close()
        await self._server.close()

    def raise_failure(self) -> None:
        """Raise what a part has failed of, if any: a mistake of ours."""
        for part in self._parts:
            if part.done() and not part.cancelled() and (failure := part.exception()) is not None:
                raise failure

    def _run(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            finally:
                if not self._stop.is_set() and self._closing is None:
                    log.error("%s has ended; so does this process", what)
                    self._stop.set()

        self._parts.append(asyncio.create_task(run(), name=what))
