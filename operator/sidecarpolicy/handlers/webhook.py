"""Admission as a part of a process, and as a process of its own.

A process of its own reads and never writes: its Reflectors fill the same cache, from which the same functions answer,
and no fan-out of writes shares its loop. It needs no Kopf and no Lease; any number of them answer side by side.

At the end it is not ready first, and answers for some seconds more with `Connection: close`, until every API server
has gone elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sidecarpolicy.admission.application import Webhooks, WebhookServer
from sidecarpolicy.admission.loading import ServingCertificate, follow
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.metrics import CONTENT_TYPE, Metrics
from sidecarpolicy.engine.port import Api
from sidecarpolicy.engine.reflector import problems_of, reflectors_of_everything
from sidecarpolicy.handlers.memory import spare_the_collector
from sidecarpolicy.handlers.serving import Answer, CannotListen, Server, host_and_port, probes
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 5.0
BIND_ADDRESS: Final = "0.0.0.0:9443"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Everything that can be set; see `sidecarpolicy webhook --help`."""

    kubeconfig: str = ""
    context: str = ""
    operator_namespace: str = "sidecarpolicy-system"
    webhook_bind_address: str = BIND_ADDRESS
    health_probe_bind_address: str = "0.0.0.0:8081"
    metrics_bind_address: str = "0.0.0.0:8080"


class Admission:
    """The webhooks of one process, over what it has cached."""

    def __init__(
        self,
        address: str,
        *,
        api: Api,
        cache: Cache,
        metrics: Metrics,
        is_synced: Callable[[], bool],
    ) -> None:
        host, port = host_and_port(address)
        self._address, self._api, self._namespace = address, api, cache.operator_namespace
        self._certificate = ServingCertificate()
        self._webhooks = Webhooks(Context(cache=cache, now=api.now), metrics, is_synced)
        self._server = WebhookServer(self._webhooks, host, port, self._certificate.context)
        metrics.observe_certificate(lambda: self._certificate.expires)

    @property
    def problems(self) -> Sequence[str]:
        """Why no API server should call it."""
        if self._webhooks.ending:
            return ["the webhooks are ending"]
        return [f"the webhooks have no certificate: {self._certificate.problem}"] if self._certificate.problem else []

    async def start(self) -> None:
        """Listen; raise CannotListen."""
        try:
            await self._server.start()
        except OSError as error:
            await self._server.close()
            raise CannotListen(self._address, error) from error

    async def run(self) -> None:
        """Follow the certificate until cancelled."""
        await follow(self._certificate, self._api, self._namespace)

    def end(self) -> None:
        """From now on be not ready, and close every connection after its answer."""
        self._webhooks.ending = True

    async def close(self) -> None:
        """Stop listening."""
        await self._server.close()


async def serve(settings: WebhookSettings) -> None:
    """Run the webhooks alone until SIGTERM or SIGINT; raise ConnectionProblem or CannotListen where that cannot be."""
    login, stop = Login(settings.kubeconfig, settings.context), asyncio.Event()
    connection = await login.connection()
    log.info("API server %s (%s)", connection.server, connection.where)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    process = _Process(settings, login)
    try:
        await process.start()
        await process.wait(stop)
        process.admission.end()
        log.info("ending in %g s", DRAIN_SECONDS)
        await asyncio.sleep(DRAIN_SECONDS)
    finally:
        await process.close()


class _Process:
    """What runs in the process; nothing of it writes."""

    def __init__(self, settings: WebhookSettings, login: Login) -> None:
        self._metrics = Metrics()
        self._api = HttpApi(login, connections=16, on_request=self._metrics.request)
        cache = Cache(settings.operator_namespace)
        self._reflectors = reflectors_of_everything(self._api, cache, cache.accounts_needed)
        self.admission = Admission(
            settings.webhook_bind_address,
            api=self._api,
            cache=cache,
            metrics=self._metrics,
            is_synced=lambda: all(each.synced.is_set() for each in self._reflectors),
        )
        self._metrics.observe_process()
        self._metrics.observe_clock(lambda: self._api.clock_offset)
        self._server = Server(
            (settings.health_probe_bind_address, probes(self.problems)),
            (settings.metrics_bind_address, {"/metrics": self._metrics_page}),
        )
        self._parts: list[asyncio.Task[None]] = []
        self._sparing: asyncio.Task[None] | None = None  # it ends by itself, and the process goes on

    def problems(self) -> Sequence[str]:
        """Why no API server should call this process; empty if it may."""
        return [*problems_of(self._reflectors), *self.admission.problems]

    def _metrics_page(self) -> Answer:
        return Answer(text=self._metrics.text(), content_type=CONTENT_TYPE)

    async def start(self) -> None:
        """Listen, and begin to watch."""
        await self._server.start()
        await self._api.start()
        await self.admission.start()
        works: list[Coroutine[Any, Any, None]] = [each.run() for each in self._reflectors]
        self._parts = [asyncio.create_task(work) for work in (*works, self.admission.run(), self._metrics.watch_loop())]
        self._sparing = asyncio.create_task(spare_the_collector([each.synced for each in self._reflectors]))

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait for *stop*; raise what a part has failed of, if one has."""
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({stopping, *self._parts}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for each in done - {stopping}:
            each.result()

    async def close(self) -> None:
        """End in good order."""
        await self.admission.close()
        parts = [*self._parts, *([self._sparing] if self._sparing is not None else [])]
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await self._api.close()
        await self._server.close()
