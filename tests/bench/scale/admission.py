"""A review of a new Deployment, beside a handler that allows everything: idle, and while a fan-out is under way.

Both get the same reviews in turn, fifty a second each, over TLS and connections that are kept, and share the machine
with the operator, the API server and the sender. The time is from sending a review to having read its answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson

from sidecarpolicy.admission.certificates import data_of, material_from, new_authority
from tests import webhook as admission
from tests.bench.scale import allowing, loading, workloads
from tests.bench.scale.processes import await_quiet, cpu_seconds, operator
from tests.bench.scale.results import Result, figures, percentile
from tests.bench.scale.stage import Stage, a_stage, is_updated

ROUNDS = 2
EVERY = 0.02
"""Seconds between two reviews of the same handler."""
A_SECOND = round(1 / EVERY)
IDLE_COUNT = 1_000
FEWEST = 500
"""So many are sent in a fan-out at least, however quick it is."""
POLICIES = 200
HOST = "127.0.0.1"


@dataclass(slots=True)
class Handler:
    """One of the two: where it listens, its process, and the seconds of its answers."""

    url: str
    pid: int
    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    cpu: float = 0.0
    """Seconds of CPU over all reviews of a quiet time."""


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure beside a fleet of *size*."""
    idle = workloads.idle_policies(POLICIES - 1)
    with a_stage(f"fanout-{size}", partial(loading.create_deployments, count=size, settled=True)) as stage:
        stage.apply_policy(0, rollout=workloads.ALL_AT_ONCE)
        loading.create_policies(stage.cluster, idle)
        with handlers(stage) as (ours, bare), operator(stage.account) as process:
            stage.await_updated(size)
            for number in range(1, (rounds or ROUNDS) + 1):
                await_quiet(process.pid)
                before = [cpu_seconds(each.pid) for each in (ours, bare)]
                _review(ours, bare, busy=False, goes_on=lambda sent: sent < IDLE_COUNT)
                for each, cpu in zip((ours, bare), before, strict=True):
                    each.cpu += cpu_seconds(each.pid) - cpu
                await_quiet(process.pid)
                stage.apply_policy(number, rollout=workloads.ALL_AT_ONCE)
                _review(ours, bare, busy=True, goes_on=partial(_is_under_way, stage, size))
                stage.await_updated(size)
                print(f"admission, {size}, round {number}: {told(ours)} beside {told(bare)}", flush=True)
    return Result(
        measurement="admission",
        size=size,
        figures={
            "p99_ratio": figures([percentile(ours.quiet, 0.99) / percentile(bare.quiet, 0.99)]),
            "busy_p99_ratio": figures([percentile(ours.busy, 0.99) / percentile(bare.busy, 0.99)]),
            "p99_ms": figures([1000 * percentile(ours.quiet, 0.99)]),
            "p50_ms": figures([1000 * percentile(ours.quiet, 0.5)]),
            "bare_p99_ms": figures([1000 * percentile(bare.quiet, 0.99)]),
            "bare_p50_ms": figures([1000 * percentile(bare.quiet, 0.5)]),
            "busy_p99_ms": figures([1000 * percentile(ours.busy, 0.99)]),
            "busy_p50_ms": figures([1000 * percentile(ours.busy, 0.5)]),
            "bare_busy_p99_ms": figures([1000 * percentile(bare.busy, 0.99)]),
            "bare_busy_p50_ms": figures([1000 * percentile(bare.busy, 0.5)]),
            "highest_ms": figures([1000 * max(*ours.quiet, *ours.busy)]),
            "cpu_ms_each": figures([1000 * ours.cpu / len(ours.quiet)]),
            "bare_cpu_ms_each": figures([1000 * bare.cpu / len(bare.quiet)]),
        },
        notes=[
            f"{len(ours.quiet)} reviews of each in quiet, {len(ours.busy)} in a fan-out; "
            f"{1 / EVERY:.0f} a second of each; {POLICIES} policies"
        ],
    )


def told(handler: Handler) -> str:
    """The 99th percentiles so far, in words."""
    quiet, busy = (1000 * percentile(each, 0.99) for each in (handler.quiet, handler.busy))
    return f"p99 {quiet:.1f} ms quiet, {busy:.1f} ms in a fan-out"


@contextmanager
def handlers(stage: Stage) -> Iterator[tuple[Handler, Handler]]:
    """The webhook as a process of its own, and the one that allows everything, with the same certificate."""
    now = datetime.now(UTC)
    files = data_of(material_from(*new_authority(now), [HOST], now))
    admission.grant(stage.cluster)
    stage.cluster.kubectl("apply", "--filename", str(admission.BASE / "certificate.yaml"))
    secret = {"stringData": {name: value.decode() for name, value in files.items()}}
    stage.cluster.kubectl(
        "patch", "secret", admission.SECRET, f"--namespace={admission.SYSTEM}", f"-p={json.dumps(secret)}"
    )
    with (
        TemporaryDirectory() as folder,
        admission.Webhook(stage.account, admission.free_port()) as webhook,
    ):
        pair = Path(folder) / "pair.pem"
        pair.write_bytes(files["tls.crt"] + files["tls.key"])
        with allowing.running(pair, admission.free_port()) as (port, pid):
            yield (
                Handler(url=f"https://{HOST}:{webhook.port}/mutate/deployments", pid=webhook.pid),
                Handler(url=f"https://{HOST}:{port}/", pid=pid),
            )


def _is_under_way(stage: Stage, size: int, sent: int) -> bool:
    """Whether the fan-out is still going on, or too few have been sent."""
    return sent < FEWEST or not is_updated(stage.status(), size)


def _review(ours: Handler, bare: Handler, *, busy: bool, goes_on: Callable[[int], bool]) -> None:
    asyncio.run(_send(ours, bare, busy=busy, goes_on=goes_on))


async def _send(ours: Handler, bare: Handler, *, busy: bool, goes_on: Callable[[int], bool]) -> None:
    """Send reviews to both in turn, at a steady rate whatever becomes of them, while it *goes_on*: asked once a second.

    To ask costs one request: what it took of this process would be told as the handlers' time.
    """
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting, limit=64), trust_env=False) as session,
        asyncio.TaskGroup() as sending,
    ):
        await _answer(session, ours, a_review(0))  # a connection, before the first that counts
        await _answer(session, bare, a_review(0))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in itertools.count():
            if number % A_SECOND == 0 and not await asyncio.to_thread(goes_on, number):
                return
            for handler, offset in ((ours, 0.0), (bare, EVERY / 2)):
                await asyncio.sleep(begun + number * EVERY + offset - loop.time())
                sending.create_task(_timed(session, handler, a_review(number), busy=busy))


async def _timed(session: aiohttp.ClientSession, handler: Handler, review: bytes, *, busy: bool) -> None:
    began = time.perf_counter()
    answer = await _answer(session, handler, review)
    (handler.busy if busy else handler.quiet).append(time.perf_counter() - began)
    if not answer["response"]["allowed"]:
        raise RuntimeError(f"{handler.url} refused: {answer}")


async def _answer(session: aiohttp.ClientSession, handler: Handler, review: bytes) -> Any:
    async with session.post(handler.url, data=review, headers={"Content-Type": "application/json"}) as response:
        answer = orjson.loads(await response.read())
    if handler.url.endswith("/mutate/deployments") and "patch" not in answer["response"]:
        raise RuntimeError(f"nothing was injected: {answer}")
    return answer


def a_review(number: int) -> bytes:
    """The review of a new Deployment, as the API server sends it."""
    body = workloads.deployment(number)
    body["metadata"]["name"] = f"new-{number}"
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    resource = {"group": "apps", "version": "v1", "resource": "deployments"}
    return orjson.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": str(uuid.uuid4()),
                "kind": kind,
                "requestKind": kind,
                "resource": resource,
                "requestResource": resource,
                "operation": "CREATE",
                "name": body["metadata"]["name"],
                "namespace": body["metadata"]["namespace"],
                "userInfo": {"username": "helm", "groups": ["system:authenticated"]},
                "object": body,
                "oldObject": None,
                "dryRun": False,
                "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "fieldManager": "helm"},
            },
        }
    )
