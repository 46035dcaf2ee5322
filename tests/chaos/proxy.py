"""A way to the API server on which things go wrong, switched while it is used.

Two parts, one behind the other, in a thread of their own. `_Wire` passes bytes on and knows nothing of HTTP: it cuts,
delays, throttles and silences connections. `_Server` behind it ends TLS with a certificate of the cluster's own
authority and passes HTTP requests on, watches line by line: it answers 429, 500 and 410 by itself, and can lose the
answer to a write that took effect. Credentials pass through, so the audit log shows the client's own user.

Every write is noted as it passes, so a test can ask which of them carried no precondition.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web

from localcluster.certificates import Authority

Answer = TypeVar("Answer")

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"})
CHUNK = 65536
HANGING = 20.0
"""Seconds that a lost answer keeps a client waiting, where it waits that long."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong now. Shares are of requests, from 0 to 1."""

    delay: float = 0.0
    """Seconds that each byte is late, in each direction."""
    bytes_per_second: float = math.inf
    """For each connection and direction."""
    silent: bool = False
    """Connections stay open, and nothing passes."""
    errors: float = 0.0
    """The share of requests that are answered with 500."""
    too_many: float = 0.0
    """The share of requests that are answered with 429 and Retry-After."""
    retry_after: int = 1
    """Seconds in Retry-After."""
    lost_answers: float = 0.0
    """The share of writes that take effect, while the client gets a 504, no answer, or a closed connection."""
    gone: float = 0.0
    """The share of LISTs that go on and of new watches that are answered with 410."""

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        for name, value in zip(self.__slots__, (getattr(Faults(), name) for name in self.__slots__), strict=True):
            setattr(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write that passed: *at* in seconds since the epoch, *code* as the API server answered."""

    at: float
    method: str
    path: str
    code: int
    guarded: bool
    """Whether it carried a precondition."""


@dataclass(slots=True)
class Log:
    """What passed, and what was done to it."""

    writes: list[Write] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """How often each fault happened."""
    connections: int = 0
    """How many clients have opened."""
    size: int = 0
    """Bytes, of both directions, TLS and all."""


class Proxy:
    """Stands before *server* (`https://127.0.0.1:…`), whose authority is in the folder of *ca_file*."""

    def __init__(self, server: str, ca_file: Path, *, seed: int = 0) -> None:
        self.faults, self.log = Faults(), Log()
        authority = Authority(ca_file.parent)
        pair = authority.issue("proxy", "proxy", serves=["127.0.0.1"])
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._wire = _Wire(self.faults, self.log)
        self._server = _Server(server, ca_file, self.faults, self.log, random.Random(seed))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._wire.port}"

    def kubeconfig(self, like: Path, folder: Path) -> Path:
        """Write *like*, a kubeconfig in JSON with a token, for the way through here into *folder*; return where."""
        config = json.loads(like.read_text())
        config["clusters"][0]["cluster"]["server"] = self.url
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        return self._run(self._wire.cut())

    def end_watches(self) -> None:
        """Tell every watch that its resourceVersion is too old: the ERROR event 410."""
        self._run(self._server.end_watches())

    def __enter__(self) -> Self:
        self._thread.start()
        port = self._run(self._server.start(self._tls))
        self._run(self._wire.start(port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._wire.stop())
        self._run(self._server.stop())
        self._run(_no_tasks_left())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


async def _no_tasks_left() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Wire:
    """Bytes on the way to a port of this machine."""

    def __init__(self, faults: Faults, log: Log) -> None:
        self._faults, self._log = faults, log
        self._target = self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, target: int) -> None:
        self._target = target
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._listener.close()
        await self.cut()

    async def cut(self) -> int:
        """Reset all connections, on both sides."""
        cut = list(self._open)
        for each in cut:
            each.transport.abort()
        self._log.done["connections cut"] += len(cut) // 2
        return len(cut) // 2

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._log.connections += 1
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, there_writer}
        self._open |= ends
        try:
            await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        except asyncio.CancelledError:
            pass  # the proxy stops; asyncio would log it as an error of this callback
        finally:
            self._open -= ends
            for each in ends:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def read() -> None:
            data = b"more"
            while data:
                try:
                    data = await reader.read(CHUNK)
                except OSError:
                    data = b""
                    writer.transport.abort()
                await late.put((time.monotonic() + self._faults.delay, data))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                while self._faults.silent:  # noqa: ASYNC110 - switched by another thread
                    await asyncio.sleep(0.05)
                if not data:
                    if not writer.transport.is_closing():
                        writer.write_eof()
                    return
                writer.write(data)
                self._log.size += len(data)
                await writer.drain()
                if self._faults.bytes_per_second < math.inf:
                    self._log.done["chunks throttled"] += 1
                    await asyncio.sleep(len(data) / self._faults.bytes_per_second)
                self._log.done["chunks delayed"] += self._faults.delay > 0
        except OSError:
            writer.transport.abort()
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await reading


class _Server:
    """HTTP requests on the way to the API server."""

    def __init__(self, server: str, ca_file: Path, faults: Faults, log: Log, chance: random.Random) -> None:
        self._to, self._ca_file = server, ca_file
        self._faults, self._log, self._chance = faults, log, chance
        self._watches: set[asyncio.Event] = set()

    async def start(self, tls: ssl.SSLContext) -> int:
        trusted = ssl.create_default_context(cafile=str(self._ca_file))
        trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=trusted),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
            read_bufsize=2**20,
        )
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def end_watches(self) -> None:
        for each in self._watches:
            each.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if (skip := self._refusal(request)) is not None:
            await request.read()
            return skip
        body = await request.read()
        # A watch is passed on line by line, and so must not be compressed.
        watches = request.query.get("watch") in ("true", "1")
        dropped = HOP_BY_HOP | {"accept-encoding"} if watches else HOP_BY_HOP
        try:
            answer = await self._client.request(
                request.method,
                self._to + request.raw_path,
                data=body or None,
                headers={key: value for key, value in request.headers.items() if key.lower() not in dropped},
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            )
        except (aiohttp.ClientError, OSError):
            return _closed(request)
        try:
            if watches and answer.status == 200:
                return await self._watched(request, answer)
            return await self._answered(request, answer, body)
        finally:
            answer.close() if not answer.content.at_eof() else answer.release()

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        if self._happens(self._faults.too_many):
            self._log.done["answered 429"] += 1
            wait = {"Retry-After": str(self._faults.retry_after)}
            return _status(429, "TooManyRequests", "too many requests, please try again later", wait)
        if self._happens(self._faults.errors):
            self._log.done["answered 500"] += 1
            return _status(500, "InternalError", "Internal error occurred: etcdserver: leader changed")
        goes_on = "continue" in request.query or (
            "watch" in request.query and request.query.get("resourceVersion", "0") != "0"
        )
        if goes_on and self._happens(self._faults.gone):
            self._log.done["answered 410"] += 1
            return _status(410, "Expired", "The provided resource version is too old")
        return None

    async def _answered(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, body: bytes
    ) -> web.StreamResponse:
        try:
            content = await answer.read()
        except (aiohttp.ClientError, OSError):
            return _closed(request)
        if request.method != "GET":
            self._log.writes.append(
                Write(
                    at=time.time(),
                    method=request.method,
                    path=request.raw_path,
                    code=answer.status,
                    guarded=is_guarded(request.method, body),
                )
            )
            if answer.status < 300 and self._happens(self._faults.lost_answers):
                return await self._lose(request)
        headers = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP}
        headers.pop("Content-Length", None)
        return web.Response(status=answer.status, body=content, headers=headers)

    async def _lose(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer in one of the ways in which an answer gets lost."""
        self._log.done["answers lost"] += 1
        match self._chance.randrange(3):
            case 0:
                return _status(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
            case 1:
                await asyncio.sleep(HANGING)
        return _closed(request)

    async def _watched(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass a watch on, whole lines only, until it ends or is told to."""
        passed = web.StreamResponse(status=200, headers={"Content-Type": answer.headers["Content-Type"]})
        try:
            await passed.prepare(request)
        except OSError:  # whoever asked has gone
            return _closed(request)
        over = asyncio.Event()
        self._watches.add(over)
        ended = asyncio.ensure_future(over.wait())
        lines = _lines(answer)
        coming = asyncio.ensure_future(anext(lines, b""))
        try:
            while True:
                await asyncio.wait({ended, coming}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    self._log.done["watches ended with 410"] += 1
                    await passed.write(json.dumps({"type": "ERROR", "object": _gone_object()}).encode() + b"\n")
                    return passed
                if not (some := coming.result()):
                    return passed
                await passed.write(some)
                coming = asyncio.ensure_future(anext(lines, b""))
        except (aiohttp.ClientError, OSError):
            return _closed(request)
        finally:
            self._watches.discard(over)
            ended.cancel()
            coming.cancel()
            with suppress(asyncio.CancelledError, aiohttp.ClientError, OSError):
                await coming

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The content of *answer*, cut at ends of lines."""
    rest = b""
    async for chunk in answer.content.iter_any():
        whole, end, rest = (rest + chunk).rpartition(b"\n")
        if end:
            yield whole + end


def _closed(request: web.BaseRequest) -> web.Response:
    """Close the client's connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _gone_object() -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    }


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = _gone_object() | {"code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers=headers)


def is_guarded(method: str, body: bytes) -> bool:
    """Whether a write cannot do harm if things have changed: it names a uid, a version, or what must be there.

    A POST is: a name is given once. (Events have generated names, and harm nobody.)
    """
    if method == "POST":
        return True
    try:
        data = json.loads(body) if body else None
    except ValueError:
        return False
    if isinstance(data, list):
        return any(isinstance(each, dict) and each.get("op") == "test" for each in data)
    if not isinstance(data, dict):
        return False
    named = [data.get("metadata"), data.get("preconditions")]
    return any(isinstance(each, dict) and bool({"resourceVersion", "uid"} & each.keys()) for each in named)
