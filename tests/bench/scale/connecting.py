"""The yardsticks' way to the API server: a plain aiohttp session, and many requests with so many in flight."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import aiohttp

Item = TypeVar("Item")

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def session(kubeconfig: Path, connections: int) -> aiohttp.ClientSession:
    """Return a session for the server and the client certificate of *kubeconfig* (one of localcluster's: JSON)."""
    document = json.loads(kubeconfig.read_text())
    where, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    tls = ssl.create_default_context(cadata=_pem(where["certificate-authority-data"]))
    with tempfile.NamedTemporaryFile(mode="w", suffix=".pem") as pair:
        pair.write(_pem(user["client-certificate-data"]) + _pem(user["client-key-data"]))
        pair.flush()
        tls.load_cert_chain(pair.name)
    return aiohttp.ClientSession(
        base_url=where["server"], connector=aiohttp.TCPConnector(ssl=tls, limit=connections), trust_env=False
    )


def _pem(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


async def each_of(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, in_flight: int) -> None:
    """Call *work* on every item, *in_flight* of them at a time; the first error ends it."""
    waiting = iter(items)

    async def take() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(take())


async def expect(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer; raise RuntimeError with the server's words where it is none of success."""
    body = await response.read()
    if response.status >= 300:
        raise RuntimeError(f"{response.method} {response.url}: {response.status} {body.decode()[:400]}")
    return body
