"""The operator as Kopf runs it: logging in, starting, ending. What is there comes through Reflectors.

Kopf watches nothing here, policies neither, although `on.event` handlers would be the shorter code:

- Its queue costs 445 µs an event (a task, a memory and several copies for every object), a Reflector 30 µs; ten
  thousand Deployments that roll are 100,000 events.
- It leaves ghosts: what was deleted during a gap of the watch is never told, nor is a LIST known as one. So a term
  could not begin with a fresh read, and a policy's late event would undo what a LIST had told before.
- A CRD that is not there when it starts is never watched, and one that goes away ends the process; so do a 403, a 429
  or a 500 that outlast its retries. A Reflector waits for each of these to end, and says on /readyz that it does.

Where a CRD goes away the process therefore goes on, and keeps the Lease: no other replica sees more, and all is as
before when the CRD is back.

Only `on.cleanup` and `on.login` handlers: every other kind would have Kopf watch, and all but `on.event`
write annotations or finalizers to the objects.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, Final

from sidecarpolicy import names
from sidecarpolicy.handlers.process import OperatorSettings, Process
from sidecarpolicy.handlers.slim_kopf import kopf
from sidecarpolicy.kube.connection import Login, open_session

log = logging.getLogger(__name__)

END_SECONDS: Final = 25.0  # for an orderly end; the kubelet gives thirty


class EndedByKopf(Exception):
    """Kopf could not go on; says why."""


class _ForEver:
    """Pauses between the tries of a request, without an end: Kopf looks once at what kinds there are, and may wait."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0, 5.0), itertools.repeat(10.0))


async def operate(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT; raise ConnectionProblem, CannotListen or EndedByKopf where that cannot be."""
    login = Login(settings.kubeconfig, settings.context)
    stop = asyncio.Event()
    connection = await login.connection()
    log.info("API server %s (%s)", connection.server, connection.where)
    if settings.watch_namespace:
        places = ", ".join(settings.watch_namespace)
        log.info(
            "serving the SidecarPolicies of these namespaces only: %s; ClusterSidecarPolicies are not served, and "
            "nodes and the labels of namespaces are unknown",
            places,
        )
    _handle_signals(stop)
    async with Process(settings, login, stop) as process:
        others = asyncio.all_tasks()
        try:
            tasks = await kopf.spawn_tasks(
                registry=_registry(process, login),
                settings=_settings(),
                clusterwide=True,
                standalone=True,
                stop_flag=stop,
            )
            _handle_signals(stop)  # again: Kopf has set its own handlers, which work only once
            await kopf.run_tasks(tasks, ignored=others)
        except Exception as error:
            log.debug("Kopf has ended", exc_info=True)
            raise EndedByKopf(f"{type(error).__name__}: {error}") from error
    process.raise_failure()


def _registry(process: Process, login: Login) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        connection = await login.connection()
        session = await open_session(login)
        return kopf.AiohttpSession(
            server=connection.server, default_namespace=connection.default_namespace, aiohttp_session=session
        )

    @kopf.on.cleanup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
    async def end(**_: Any) -> None:
        await process.close()

    return registry


def _handle_signals(stop: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set *stop*; a second one, or END_SECONDS, ends the process wherever it is."""

    def received(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("%s: ending", number.name)
        _end_after(END_SECONDS)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)


def _end_after(seconds: float) -> None:
    def end() -> None:
        log.error("could not end within %g s", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _settings() -> kopf.OperatorSettings:
    """Kopf's settings for an operator that watches and writes nothing through it."""
    result = kopf.OperatorSettings()
    # Kopf takes a finalizer of this name off wherever no handler of its own asks for it: it must not be ours.
    result.persistence.finalizer = f"{names.GROUP}/not-used"
    result.peering.standalone = True
    result.scanning.disabled = True
    result.posting.enabled = False
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 5
    result.networking.enforce_retry_after = True
    result.networking.error_backoffs = _ForEver()
    return result
