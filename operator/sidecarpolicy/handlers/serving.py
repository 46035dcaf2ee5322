"""What a process answers over HTTP: its probes and its metrics.

- `/livez` says that the loop runs, and nothing else: a first LIST of minutes, or an API server that is away, is no
  reason to kill the process, which would have to begin anew. `/healthz` is another name for it.
- `/readyz` says that this replica knows what is there: everything was listed, is watched, and the Lease can be read.
  Otherwise it is 503 and says why not. A standby is ready.

Ports are the field's: metrics at 8080, probes at 8081. Both may be the same.

Not Kopf's liveness endpoint: it is one probe for both questions, runs handlers to answer, and logs every request.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

log = logging.getLogger(__name__)

OFF: Final = ("", "0")  # as an address: do not listen


class CannotListen(Exception):
    """*address* is in use, or none of this machine's."""

    def __init__(self, address: str, error: OSError) -> None:
        super().__init__(f"cannot listen on {address}: {error.strerror or error}")
        self.address = address


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a page says."""

    text: str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Answer]


class Server:
    """Serves pages, by path, at addresses, from `start` to `close`; two lots may share an address."""

    def __init__(self, *lots: tuple[str, Mapping[str, Page]]) -> None:
        self._pages: dict[str, dict[str, Page]] = {}
        for address, paths in lots:
            if address not in OFF:
                self._pages.setdefault(address, {}).update(paths)
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Listen at every address; raise CannotListen."""
        for address, paths in self._pages.items():
            host, port = host_and_port(address)
            application = web.Application()
            for path, page in paths.items():
                application.router.add_get(path, _answering(page))
            runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
            await runner.setup()
            self._runners.append(runner)
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                await self.close()
                raise CannotListen(address, error) from error
            log.info("%s at %s", ", ".join(paths), address)

    async def close(self) -> None:
        """Stop listening."""
        while self._runners:
            await self._runners.pop().cleanup()


def _answering(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.Response:
        said = page()
        return web.Response(status=said.status, body=said.text.encode(), headers={"Content-Type": said.content_type})

    return answer


def host_and_port(address: str) -> tuple[str | None, int]:
    """Split `host:port`, `:port` (every interface) or `[v6]:port`; raise ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def probes(problems: Callable[[], Sequence[str]]) -> Mapping[str, Page]:
    """The paths of the probes; *problems* says what keeps the process from being ready."""

    def livez() -> Answer:
        return Answer(text="ok\n")

    def readyz() -> Answer:
        hindered = problems()
        return Answer(text="".join(f"{each}\n" for each in hindered), status=503) if hindered else Answer(text="ok\n")

    return {"/livez": livez, "/readyz": readyz, "/healthz": livez}
