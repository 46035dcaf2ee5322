"""Events on a real API server: what people get to see, and how little is written for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

import localcluster
from sidecarpolicy import names
from sidecarpolicy.engine.port import Json, ObjectRef, Resource
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from sidecarpolicy.kube.events import EVENTS, EventRecorder, cut

NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A control plane of its own: these tests stop it."""
    with localcluster.start(f"kube-events-{os.getpid()}", controllers=False) as running:
        yield running


@pytest_asyncio.fixture
async def api(server: localcluster.Cluster) -> AsyncIterator[HttpApi]:
    async with HttpApi(Login(str(server.kubeconfig)), timeout=2) as opened:
        yield opened


@pytest_asyncio.fixture
async def cart(api: HttpApi) -> ObjectRef:
    """A Deployment's reference, in a namespace of its own; no Event asks whether its object exists."""
    name = f"shop-{next(_numbers)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await api.create(NAMESPACES, "", body)
    return a_ref(name)


def a_ref(namespace: str, **fields: Any) -> ObjectRef:
    return ObjectRef(
        **{"api_version": "apps/v1", "kind": "Deployment", "namespace": namespace, "name": "cart", "uid": namespace}
        | fields
    )


@contextlib.asynccontextmanager
async def recording(api: HttpApi, **settings: Any) -> AsyncIterator[EventRecorder]:
    """A recorder at work that is given the time to write everything."""
    recorder = EventRecorder(api, "operator-0_1234", **settings)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
        await recorder.flush()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def events_about(api: HttpApi, ref: ObjectRef) -> list[Json]:
    return [
        event async for page in api.list(EVENTS) for event in page.items if event["regarding"].get("uid") == ref.uid
    ]


async def test_an_event_says_who_did_what_to_what_and_why(api: HttpApi, cart: ObjectRef) -> None:
    async with recording(api) as recorder:
        recorder.emit(cart, reason="SidecarsInjected", message="proxy, logger from mesh-5d41", action="Inject")
    (event,) = await events_about(api, cart)
    assert event["regarding"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": cart.namespace,
        "name": "cart",
        "uid": cart.uid,
    }
    assert event["metadata"]["name"].startswith("cart.")
    told = {key: event[key] for key in ("action", "note", "reason", "type")}
    assert told == {
        "action": "Inject",
        "note": "proxy, logger from mesh-5d41",
        "reason": "SidecarsInjected",
        "type": "Normal",
    }
    assert (event["reportingController"], event["reportingInstance"]) == (names.CONTROLLER, "operator-0_1234")
    assert event.get("series") is None


async def test_kubectl_shows_it(api: HttpApi, cart: ObjectRef, server: localcluster.Cluster) -> None:
    async with recording(api) as recorder:
        recorder.emit(cart, reason="PolicyRejected", message="two Proxies", warning=True)
    shown = server.kubectl("get", "events", f"--namespace={cart.namespace}", "--no-headers").stdout
    assert shown.split()[1:] == ["Warning", "PolicyRejected", "deployment/cart", "two", "Proxies"]


async def test_equal_ones_are_one_event_with_a_count(api: HttpApi, cart: ObjectRef) -> None:
    async with recording(api) as recorder:
        for _ in range(100):
            recorder.emit(cart, reason="R", message="same")
            await asyncio.sleep(0)
        recorder.emit(cart, reason="R", message="other")
    same, other = sorted(await events_about(api, cart), key=lambda event: event["note"], reverse=True)
    assert same["series"]["count"] == 100
    assert other.get("series") is None


async def test_a_storm_of_equal_ones_is_no_storm_of_writes(
    api: HttpApi, cart: ObjectRef, server: localcluster.Cluster
) -> None:
    async with recording(api, pace=0.5) as recorder:
        ends = time.monotonic() + 1.6
        sent = 0
        while time.monotonic() < ends:
            recorder.emit(cart, reason="R", message="same")
            sent += 1
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.7)  # the last patch comes by itself
        (event,) = await events_about(api, cart)
        assert event["series"]["count"] == sent > 100
    assert sorted(await verbs_on_events(server, cart, until="patch")) == ["create"] + 4 * ["patch"]


async def test_the_tenth_minute_begins_another_event(
    api: HttpApi, cart: ObjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recording(api) as recorder:
        recorder.emit(cart, reason="R", message="same")
        await recorder.flush()
        monkeypatch.setattr("sidecarpolicy.kube.events._WINDOW", -1.0)
        recorder.emit(cart, reason="R", message="same")
    assert [event.get("series") for event in await events_about(api, cart)] == [None, None]


async def test_an_event_that_has_outlived_its_hour_is_followed_by_another(api: HttpApi, cart: ObjectRef) -> None:
    async with recording(api) as recorder:
        recorder.emit(cart, reason="R", message="same")
        await recorder.flush()
        (old,) = await events_about(api, cart)
        await api.delete(EVENTS, cart.namespace, old["metadata"]["name"])
        recorder.emit(cart, reason="R", message="same")
    (new,) = await events_about(api, cart)
    assert new["metadata"]["name"] != old["metadata"]["name"]
    assert new["series"]["count"] == 2


async def test_events_on_cluster_scoped_objects_are_in_default(api: HttpApi) -> None:
    policy = a_ref("", kind="ClusterSidecarPolicy", api_version=names.API_VERSION, name="mesh", uid="mesh-uid")
    async with recording(api) as recorder:
        recorder.emit(policy, reason="R", message="m")
    (event,) = await events_about(api, policy)
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["regarding"]


async def test_what_is_too_long_is_cut(api: HttpApi, cart: ObjectRef) -> None:
    long = a_ref(cart.namespace, name="a." * 126 + "b", uid=cart.uid)
    async with recording(api) as recorder:
        recorder.emit(long, reason="R", message="ü" * 2000, action="a" * 200)
    (event,) = await events_about(api, cart)
    assert len(event["note"].encode()) <= 1024
    assert event["note"].endswith("ü…")
    assert recorder.dropped == 0


async def test_one_object_cannot_have_more_than_its_bucket(api: HttpApi, cart: ObjectRef) -> None:
    quiet = a_ref(cart.namespace, name="quiet", uid=cart.uid + "-quiet")
    async with recording(api, burst=5) as recorder:
        for number in range(9):
            recorder.emit(cart, reason="R", message=f"{number}")
        recorder.emit(quiet, reason="R", message="m")
    assert sorted(event["note"] for event in await events_about(api, cart)) == list("01234")
    assert len(await events_about(api, quiet)) == 1
    assert recorder.dropped == 4


async def test_a_full_queue_drops_the_oldest_and_says_so_once(
    api: HttpApi, cart: ObjectRef, caplog: pytest.LogCaptureFixture
) -> None:
    async with recording(api, capacity=3) as recorder:
        for number in range(8):
            recorder.emit(cart, reason="R", message=f"{number}")
    assert sorted(event["note"] for event in await events_about(api, cart)) == list("567")
    assert recorder.dropped == 5
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


async def test_warnings_are_the_last_to_be_dropped(api: HttpApi, cart: ObjectRef) -> None:
    async with recording(api, capacity=3) as recorder:
        for number in range(8):
            recorder.emit(cart, reason="R", message=f"{number}", warning=number < 2)
    assert sorted(event["note"] for event in await events_about(api, cart)) == list("017")
    assert recorder.dropped == 5


async def test_a_fan_out_is_written_at_a_pace_and_warnings_first(
    api: HttpApi, cart: ObjectRef, server: localcluster.Cluster
) -> None:
    """However many there are: in no second more than the rate and what a quiet time has saved.

    A request is on its way for a while, so a few more than were sent in a second may arrive in one.
    """
    rate = 20
    async with recording(api, rate=float(rate), at_once=rate) as recorder:
        for number in range(90):
            recorder.emit(
                a_ref(cart.namespace, name=f"d{number}", uid=f"{cart.uid}-{number}"),
                reason="R",
                message=f"{number}",
                warning=number == 80,
            )
        assert recorder.waiting == 90
        while recorder.waiting:  # noqa: ASYNC110 - not flushed, which would be in a hurry
            await asyncio.sleep(0.05)
    requests = await requests_on_events(server, cart, count=90)
    times = [when for when, _ in requests]
    assert max(sum(begin <= each < begin + 1 for each in times) for begin in times) <= 2 * rate + rate // 2
    assert '"name":"d80.' in requests[0][1]


async def test_a_server_that_stands_still_holds_nobody_up(
    api: HttpApi, cart: ObjectRef, server: localcluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecarpolicy.kube.events._TRY_AGAIN", 0.1)
    async with recording(api) as recorder:
        server.pause("kube-apiserver")
        try:
            began = time.monotonic()
            recorder.emit(cart, reason="R", message="m")
            assert time.monotonic() - began < 0.1
            await asyncio.sleep(2.5)  # the first try has timed out
        finally:
            server.resume("kube-apiserver")
    assert [event["note"] for event in await events_about(api, cart)] == ["m"]


async def test_what_the_server_refuses_is_dropped(
    server: localcluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with HttpApi(Login(str(server.user_kubeconfig("nobody")))) as nobody, recording(nobody) as recorder:
        recorder.emit(a_ref("default", uid="u"), reason="R", message="m")
    assert recorder.dropped == 1
    assert 'User "nobody" cannot create resource "events"' in caplog.text


async def verbs_on_events(server: localcluster.Cluster, ref: ObjectRef, *, until: str) -> list[str]:
    """Return the verbs of the requests about this object's Events, once the audit log has been quiet."""
    assert server.audit_log is not None
    before: list[str] = []
    for _ in range(50):
        lines = server.audit_log.read_text().splitlines()
        verbs = [
            line.split('"verb":"')[1].split('"')[0] for line in lines if f"/namespaces/{ref.namespace}/events" in line
        ]
        if verbs == before and until in verbs:
            return verbs
        before = verbs
        await asyncio.sleep(0.3)
    raise AssertionError(f"the audit log has only {before}")


async def requests_on_events(server: localcluster.Cluster, ref: ObjectRef, *, count: int) -> list[tuple[float, str]]:
    """Return the requests about Events of this namespace, once there are *count*: when each came, and its line."""
    assert server.audit_log is not None
    for _ in range(100):
        lines = [
            line for line in server.audit_log.read_text().splitlines() if f"/namespaces/{ref.namespace}/events" in line
        ]
        if len(lines) >= count:
            told = [(datetime.fromisoformat(json.loads(line)["requestReceivedTimestamp"]), line) for line in lines]
            return sorted((when.timestamp(), line) for when, line in told)
        await asyncio.sleep(0.3)
    raise AssertionError(f"the audit log has only {len(lines)}")


@given(text=st.text(), limit=st.integers(3, 40))
def test_a_cut_text_fits_and_is_a_beginning(text: str, limit: int) -> None:
    short = cut(text, limit)
    assert len(short.encode()) <= limit
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
