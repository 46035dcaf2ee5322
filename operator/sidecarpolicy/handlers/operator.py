"""One operator process: Kopf for watching and probes, the engine for the work, a Lease for who may write.

The order of the end matters: first no new work, then Kopf's watches, then the last Events, then the Lease, so that
the next leader starts at once and never beside us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

import kopf

from sidecarpolicy import names
from sidecarpolicy.core.undone import Limits
from sidecarpolicy.engine.engine import Engine
from sidecarpolicy.handlers import watching
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login, open_session
from sidecarpolicy.kube.events import EventRecorder
from sidecarpolicy.kube.lease import Election, default_identity

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Everything that can be set; see `sidecarpolicy run --help`. *health* is `host:port`, empty for none."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = "sidecarpolicy-system"
    identity: str = ""
    workers: int = 16
    resync_seconds: float = 600.0
    lease_seconds: int = 15
    undone_window_seconds: float = 600.0
    undone_threshold: int = 3
    health: str = "0.0.0.0:8080"


async def operate(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT; raise ConnectionProblem where there is no way to the API server."""
    login = Login(settings.kubeconfig, settings.context)
    identity = settings.identity or default_identity()
    # The Lease has its own connection: its renewals never queue behind the workers' requests.
    async with HttpApi(login, connections=settings.workers + 8) as api, HttpApi(login, connections=1) as lease_api:
        connection = await login.connection()
        log.info("API server %s (%s)", connection.server, connection.where)
        events = EventRecorder(api, identity)
        election = Election(
            lease_api,
            namespace=settings.namespace,
            name=names.CONTROLLER,
            identity=identity,
            lease_duration=settings.lease_seconds,
            renew_deadline=settings.lease_seconds * 2 / 3,
            retry_period=settings.lease_seconds * 2 / 15,
        )
        engine = Engine(
            api=api,
            events=events,
            leadership=election,
            operator_namespace=settings.namespace,
            limits=Limits(window=settings.undone_window_seconds, threshold=settings.undone_threshold),
            workers=settings.workers,
            sync_period=settings.resync_seconds,
        )
        stop = asyncio.Event()
        background = [
            _supervised("the engine", engine.run(), stop),
            _supervised("the election", election.run(), stop),
            _supervised("the Events", events.run(), stop),
        ]
        try:
            await kopf.operator(
                registry=_registry(engine, login),
                settings=watching.settings(),
                memo=watching.Memo(),
                clusterwide=True,
                standalone=True,
                liveness_endpoint=f"http://{settings.health}/healthz" if settings.health else None,
                stop_flag=stop,
            )
        finally:
            for task in background:
                task.cancel()
            results = await asyncio.gather(*background, return_exceptions=True)
            await events.flush()
            await election.release()
    for result in results:
        if isinstance(result, Exception):
            raise result


def _supervised(what: str, work: Any, stop: asyncio.Event) -> asyncio.Task[None]:
    """Run *work*; where it ends, for whatever reason, the process ends: it is useless without it."""

    async def run() -> None:
        try:
            await work
        finally:
            if not stop.is_set():
                log.info("%s has ended; so does this process", what)
                stop.set()

    return asyncio.create_task(run(), name=what)


def _registry(engine: Engine, login: Login) -> kopf.OperatorRegistry:
    """Watching, plus how Kopf logs in and what its probe answers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        connection = await login.connection()
        session = await open_session(login)
        return kopf.AiohttpSession(
            server=connection.server, default_namespace=connection.default_namespace, aiohttp_session=session
        )

    @kopf.on.probe(registry=registry, id="synced", errors=kopf.ErrorsMode.PERMANENT)
    async def synced(**_: Any) -> str:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(engine.synced.wait(), timeout=1.0)
        if not engine.synced.is_set():
            raise kopf.PermanentError("what is there has not been listed yet")
        return "listed"

    @kopf.on.probe(registry=registry, id="leading")
    async def leading(**_: Any) -> bool:
        return engine.leadership.leading

    return registry
