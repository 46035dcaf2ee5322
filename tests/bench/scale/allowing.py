"""The yardstick of admission: a webhook that allows everything, with nothing but aiohttp.

A process of its own, `python -m tests.bench.scale.allowing PAIR PORT`, with the certificate and key of the file PAIR.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from aiohttp import web

from tests.polling import poll


async def allow(request: web.Request) -> web.Response:
    """Read the review and allow it."""
    review = orjson.loads(await request.read())
    answer = {
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {"uid": review["request"]["uid"], "allowed": True},
    }
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


@contextmanager
def running(pair: Path, port: int) -> Iterator[tuple[int, int]]:
    """Run it with the certificate and key in *pair*; its port and the id of its process."""
    command = [sys.executable, "-m", "tests.bench.scale.allowing", str(pair), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        poll(lambda: _listens(port), timeout=30)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def main() -> None:
    """Serve until SIGTERM."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(sys.argv[1])
    app = web.Application()
    app.router.add_post("/", allow)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), ssl_context=tls, access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main()
