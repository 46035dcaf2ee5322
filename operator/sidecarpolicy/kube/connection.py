"""Credentials for the API server that stay fresh, and sessions that use them.

Both this operator's own requests and Kopf's go through `open_session`, so both see a rotated token within a
minute, and after a 401 at once. TLS material is renewed inside the one SSLContext; a connection that was
answered with 401 is closed, so that none stays with an old certificate. Where they come from is `credentials`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from sidecarpolicy.kube import credentials
from sidecarpolicy.kube.credentials import (
    LEAST_LIFE,
    SERVICE_ACCOUNT,
    USER_AGENT,
    Connection,
    ConnectionProblem,
    read_service_account,
)

__all__ = [
    "USER_AGENT",
    "Connection",
    "ConnectionProblem",
    "Login",
    "open_session",
    "read_kubeconfig",
    "read_service_account",
]

log = logging.getLogger(__name__)

_REJECTED_PAUSE = LEAST_LIFE  # seconds between re-reads because of a 401: a plugin is a process to start


class Login:
    """Credentials that are read again when that is due. One per process; all of it belongs to one event loop.

    *kubeconfig* and *context* are what the user asked for, empty if nothing.
    """

    def __init__(
        self,
        kubeconfig: str = "",
        context: str = "",
        *,
        environ: Mapping[str, str] = os.environ,
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._environ, self._service_account = environ, service_account
        self._current: Connection | None = None
        self._tls: ssl.SSLContext | None = None
        self._read_at = 0.0
        self._rejected_at: float | None = None
        self._reading = asyncio.Lock()

    async def connection(self) -> Connection:
        """Return what is to be used now. ConnectionProblem if there is nothing yet; later ones are logged."""
        if self._is_due():
            async with self._reading:
                if self._is_due():
                    await self._read()
        assert self._current is not None
        return self._current

    async def after_rejection(self, rejected: Connection) -> Connection:
        """Return what is to be used now that *rejected* was answered with 401; it may be the same again."""
        async with self._reading:
            now = time.monotonic()
            paused = self._rejected_at is not None and now < self._rejected_at + _REJECTED_PAUSE
            if self._current is rejected and not paused:
                await self._read()
                self._rejected_at = now
        assert self._current is not None
        return self._current

    async def tls(self) -> ssl.SSLContext:
        """Return the context that all sessions share."""
        connection = await self.connection()
        if self._tls is None:
            self._tls = connection.tls()
        return self._tls

    def _is_due(self) -> bool:
        if self._current is None:
            return True
        good_for = self._current.good_for
        return good_for is not None and time.monotonic() >= self._read_at + good_for

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        try:
            found = await self._find()
            if self._tls is not None:
                found.renew(self._tls)
        except ConnectionProblem as problem:
            if self._current is None:
                raise
            log.warning("going on with the credentials of before: %s", problem)
            return
        if found != self._current:
            self._current = found

    async def _find(self) -> Connection:
        return await asyncio.to_thread(
            credentials.find,
            self._kubeconfig,
            self._context,
            environ=self._environ,
            service_account=self._service_account,
        )


async def read_kubeconfig(files: str, context: str = "") -> Connection:
    """Return the connection of *context* (empty: the current one) in *files* (spelt as in KUBECONFIG)."""
    return await asyncio.to_thread(credentials.read_kubeconfig, files, context)


async def open_session(login: Login, *, connections: int = 0, timeout: float | None = None) -> aiohttp.ClientSession:
    """Return a session that logs in on its own; the caller closes it.

    *connections* bounds those open at a time (0: no bound). *timeout* (seconds) is for a whole request and
    includes waiting for a free connection; connecting has 5 s of it. URLs start with `Connection.server`.
    """
    connection = await login.connection()

    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        used = await login.connection()
        response = await handler(_signed(request, used))
        if response.status != 401:
            return response
        renewed = await login.after_rejection(used)
        if renewed is used:
            return response
        response.close()
        return await handler(_signed(request, renewed))

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=await login.tls()),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=5.0),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        middlewares=[authenticate],
        proxy=connection.proxy_url,
    )


def _signed(request: aiohttp.ClientRequest, connection: Connection) -> aiohttp.ClientRequest:
    if connection.authorization:
        request.headers["Authorization"] = connection.authorization
    if connection.tls_server_name:
        request.server_hostname = connection.tls_server_name
    return request
