"""The reflector against a real API server: whatever happens, the sink has in the end what the server has."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import localcluster
from sidecarpolicy.engine import reflector as module
from sidecarpolicy.engine.port import Json, NotFound, Resource, Transient, WatchEvent
from sidecarpolicy.engine.reflector import Reflector
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from sidecarpolicy.kube.wire import PAGE

CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret")
DEFINITIONS = Resource(
    group="apiextensions.k8s.io", version="v1", plural="customresourcedefinitions", kind="CustomResourceDefinition"
)

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A control plane of its own: these tests stop it and make it forget."""
    with localcluster.start(f"reflector-{os.getpid()}", controllers=False) as running:
        yield running


class CountingApi(HttpApi):
    """The client, with a count of its LISTs and of the watches that were opened, and a way to cut them."""

    def __init__(self, login: Login, **settings: Any) -> None:
        super().__init__(login, **settings)
        self.lists, self.watches = 0, 0

    async def list(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        self.lists += 1
        async for page in super().list(*arguments, **options):
            yield page

    async def watch(self, *arguments: Any, **options: Any) -> AsyncGenerator[WatchEvent, None]:
        self.watches += 1
        async with contextlib.aclosing(super().watch(*arguments, **options)) as events:
            async for event in events:
                yield event


@pytest_asyncio.fixture
async def api(server: localcluster.Cluster) -> AsyncIterator[CountingApi]:
    async with CountingApi(Login(str(server.kubeconfig)), timeout=60) as opened:
        yield opened


@pytest.fixture
def kind() -> Resource:
    """A kind that nobody else uses; not installed."""
    plural = f"gadgets{next(_numbers)}"
    return Resource(group="lab.example", version="v1", plural=plural, kind=plural.capitalize())


class Shelf:
    """A sink that keeps names and versions, by the rules."""

    def __init__(self) -> None:
        self.bodies: dict[str, Json] = {}
        self._listed: set[str] | None = None
        self.lists = 0

    def begin(self, resource: Resource, namespace: str) -> None:
        self._listed = set()

    def put(self, resource: Resource, body: Json) -> None:
        self.bodies[body["metadata"]["name"]] = body
        if self._listed is not None:
            self._listed.add(body["metadata"]["name"])

    def drop(self, resource: Resource, body: Json) -> None:
        self.bodies.pop(body["metadata"]["name"], None)
        if self._listed is not None:
            self._listed.discard(body["metadata"]["name"])

    def end(self, resource: Resource, version: str, namespace: str) -> bool:
        assert self._listed is not None
        assert version or not self._listed
        for name in self.bodies.keys() - self._listed:
            del self.bodies[name]
        self._listed = None
        self.lists += 1
        return True

    def values(self) -> dict[str, str]:
        return {name: body["data"]["x"] for name, body in self.bodies.items()}


@contextlib.asynccontextmanager
async def reflecting(
    api: HttpApi, resource: Resource, selector: str = "", *, synced: bool = True, **options: Any
) -> AsyncIterator[tuple[Reflector, Shelf]]:
    shelf = Shelf()
    reflector = Reflector(api, resource, shelf, label_selector=selector, **options)
    task = asyncio.create_task(reflector.run())
    try:
        if synced:
            async with asyncio.timeout(100):
                await reflector.synced.wait()
        yield reflector, shelf
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(holds: Callable[[], object], *, timeout: float = 100) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not so within {timeout} s"
        await asyncio.sleep(0.02)


async def opened(reflector: Reflector) -> None:
    """Wait until its watch is open."""
    await eventually(lambda: reflector._opened_at < math.inf)


def a_map(name: str, x: str, test: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"test": test}},
        "data": {"x": x},
    }


@pytest.fixture
def label() -> str:
    """A value of the label `test`: the objects of one test."""
    return f"t{next(_numbers)}"


async def change(api: HttpApi, name: str, x: str) -> None:
    await api.merge_patch(CONFIG_MAPS, "default", name, {"data": {"x": x}})


async def test_it_has_what_is_there_and_then_what_happens(api: CountingApi, label: str) -> None:
    await api.create(CONFIG_MAPS, "default", a_map(f"{label}-a", "1", label))
    await api.create(CONFIG_MAPS, "default", a_map(f"{label}-b", "1", label))
    async with reflecting(api, CONFIG_MAPS, f"test={label}") as (reflector, shelf):
        assert shelf.values() == {f"{label}-a": "1", f"{label}-b": "1"}
        assert reflector.begun_at <= asyncio.get_running_loop().time()
        await change(api, f"{label}-a", "2")
        await api.delete(CONFIG_MAPS, "default", f"{label}-b")
        await api.create(CONFIG_MAPS, "default", a_map(f"{label}-c", "1", label))
        await eventually(lambda: shelf.values() == {f"{label}-a": "2", f"{label}-c": "1"})
        assert (api.lists, api.watches) == (1, 1)
        assert reflector.problem == ""


async def test_a_list_of_many_pages_lets_others_run(api: CountingApi, label: str) -> None:
    """What is slow here is the sink: every object takes it a millisecond."""
    count = PAGE + 20
    await asyncio.gather(*(api.create(CONFIG_MAPS, "default", a_map(f"{label}-{n}", "1", label)) for n in range(count)))

    class Slow(Shelf):
        def put(self, resource: Resource, body: Json) -> None:
            ends = time.monotonic() + 0.001
            while time.monotonic() < ends:
                pass
            super().put(resource, body)

    shelf = Slow()
    reflector = Reflector(api, CONFIG_MAPS, shelf, label_selector=f"test={label}")
    task = asyncio.create_task(reflector.run())
    turns = 0
    while not reflector.synced.is_set():
        await asyncio.sleep(0)
        turns += len(shelf.bodies) > 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(shelf.bodies) == count
    assert turns >= count / module.SLICE - 2  # and not one in a page


async def test_what_went_away_unseen_is_gone_after_a_gap(
    api: CountingApi, label: str, server: localcluster.Cluster
) -> None:
    """Deleted while nobody watched, and the server has forgotten it since: no watch tells it any more."""
    for name in "abc":
        await api.create(CONFIG_MAPS, "default", a_map(f"{label}-{name}", "1", label))
    gate = asyncio.Event()
    gate.set()

    class Gated(CountingApi):
        async def watch(self, *arguments: Any, **options: Any) -> AsyncGenerator[WatchEvent, None]:
            await gate.wait()
            async with contextlib.aclosing(super().watch(*arguments, **options)) as events:
                async for event in events:
                    yield event
                    if not gate.is_set():
                        raise Transient(verb="watch", what="it", message="cut")

    async with (
        Gated(Login(str(server.kubeconfig)), timeout=60) as gated,
        reflecting(gated, CONFIG_MAPS, f"test={label}") as (reflector, shelf),
    ):
        await opened(reflector)
        gate.clear()
        await change(api, f"{label}-a", "2")  # the last that is told
        await eventually(lambda: shelf.values()[f"{label}-a"] == "2")
        await api.delete(CONFIG_MAPS, "default", f"{label}-b")
        await change(api, f"{label}-c", "2")
        await forget(server, await api.create(CONFIG_MAPS, "default", a_map(f"{label}-d", "1", label)))
        assert f"{label}-b" in shelf.bodies
        gate.set()
        await eventually(lambda: shelf.values() == {f"{label}-a": "2", f"{label}-c": "2", f"{label}-d": "1"})
        assert gated.lists == 2
        with pytest.raises(Transient) as too_old:
            async with asyncio.timeout(60):
                async for _ in api.watch(CONFIG_MAPS, resource_version="1"):
                    pass
        assert too_old.value.status == 410


async def forget(server: localcluster.Cluster, newest: Json) -> None:
    """Have the server forget everything before *newest*: its store and its caches."""
    (etcd,) = {
        argument.partition("=")[2]
        for argument in server._processes.state.components["kube-apiserver"].command.arguments
        if argument.startswith("--etcd-servers=")
    }
    compaction = {"revision": newest["metadata"]["resourceVersion"], "physical": True}
    async with aiohttp.request("POST", f"{etcd}/v3/kv/compaction", json=compaction) as done:
        assert done.status == 200
    await asyncio.to_thread(server.restart, "kube-apiserver")


async def test_a_cut_watch_goes_on_from_the_last_version(
    api: CountingApi, label: str, server: localcluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cut = asyncio.Event()

    class Cut(CountingApi):
        async def watch(self, *arguments: Any, **options: Any) -> AsyncGenerator[WatchEvent, None]:
            async with contextlib.aclosing(super().watch(*arguments, **options)) as events:
                async for event in events:
                    yield event
                    if cut.is_set():
                        cut.clear()
                        raise Transient(verb="watch", what="it", message="cut")

    async with Cut(Login(str(server.kubeconfig)), timeout=60) as api:
        await api.create(CONFIG_MAPS, "default", a_map(f"{label}-a", "1", label))
        async with reflecting(api, CONFIG_MAPS, f"test={label}") as (reflector, shelf):
            await opened(reflector)
            cut.set()
            await change(api, f"{label}-a", "2")
            await eventually(lambda: reflector.problem == "watch it: cut")
            await api.delete(CONFIG_MAPS, "default", f"{label}-a")
            await eventually(lambda: shelf.bodies == {})
            assert (api.lists, api.watches, reflector.problem) == (1, 2, "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_outage_is_told_once_and_ends_with_a_list(
    api: CountingApi, label: str, server: localcluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecarpolicy")
    await api.create(CONFIG_MAPS, "default", a_map(f"{label}-a", "1", label))
    async with reflecting(api, CONFIG_MAPS, f"test={label}", jitter=lambda: 0.0) as (reflector, shelf):
        await opened(reflector)
        await asyncio.to_thread(server.restart, "kube-apiserver")
        await change(api, f"{label}-a", "2")
        await eventually(lambda: shelf.values() == {f"{label}-a": "2"})
        assert reflector.problem == ""
        assert shelf.lists == 2
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) <= 1  # none where the server is back before the first try
    assert all("onnect" in each for each in warned)
    assert ("configmaps: listed and watched again" in caplog.text) == bool(warned)


async def test_refresh_returns_what_was_written_before_it(api: CountingApi, label: str) -> None:
    await api.create(CONFIG_MAPS, "default", a_map(f"{label}-a", "0", label))
    async with reflecting(api, CONFIG_MAPS, f"test={label}") as (reflector, shelf):
        for x in range(1, 20):
            await change(api, f"{label}-a", str(x))
            asked = asyncio.get_running_loop().time()
            await reflector.refresh()
            assert reflector.begun_at >= asked
            assert shelf.values() == {f"{label}-a": str(x)}
        before = api.lists
        await asyncio.gather(*(reflector.refresh() for _ in range(10)))
        assert api.lists == before + 1
        await change(api, f"{label}-a", "last")
        await eventually(lambda: shelf.values() == {f"{label}-a": "last"})


def a_secret(name: str, x: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"x": x}}


async def test_what_only_wants_nothing_older_is_confirmed_without_a_list(api: CountingApi, label: str) -> None:
    name = f"{label}-a"
    await api.create(SECRETS, "default", a_secret(name, ""))
    async with reflecting(api, SECRETS) as (reflector, shelf):
        for x in ("AAAA", "BBBB", "CCCC"):
            await api.merge_patch(SECRETS, "default", name, {"data": {"x": x}})
            await api.create(CONFIG_MAPS, "default", a_map(f"{label}-{x.lower()}", "0", label))
            asked = asyncio.get_running_loop().time()
            await asyncio.gather(*(reflector.refresh(may_confirm=True) for _ in range(10)))
            assert reflector.begun_at >= asked
            assert shelf.values()[name] == x
        assert api.lists == shelf.lists == 1
        await api.merge_patch(SECRETS, "default", name, {"data": {"x": "DDDD"}})
        await eventually(lambda: shelf.values()[name] == "DDDD")


async def test_who_wants_a_list_has_one_beside_those_who_do_not(api: CountingApi) -> None:
    async with reflecting(api, SECRETS) as (reflector, shelf):
        await asyncio.gather(reflector.refresh(may_confirm=True), reflector.refresh())
        assert shelf.lists == 2


@pytest.mark.parametrize(
    "why", ["not heard of lately", "has broken", "too old", "goes backwards", "never comes so far", "a part"]
)
async def test_what_cannot_be_confirmed_is_listed(
    api: CountingApi, label: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, goal = f"{label}-a", 0
    await api.create(SECRETS, "default", a_secret(name, ""))

    async def too_old(*arguments: Any, **options: Any) -> AsyncGenerator[WatchEvent, None]:
        monkeypatch.undo()
        raise Transient(verb="watch", what="secrets", message="too old", status=410)
        yield

    async def version(*arguments: Any, **options: Any) -> str:
        return str(goal)

    async with reflecting(api, SECRETS, "!test" if why == "a part" else "") as (reflector, shelf):
        await opened(reflector)
        await api.merge_patch(SECRETS, "default", name, {"data": {"x": "AAAA"}})
        if why == "not heard of lately":
            monkeypatch.setattr(module, "HEARD", 0.0)
        elif why == "has broken":
            monkeypatch.setattr(reflector, "_has_broken", True)
        elif why == "too old":
            monkeypatch.setattr(api, "watch", too_old)
        elif why != "a part":
            now = int(await api.version(SECRETS))
            goal = now - 5 if why == "goes backwards" else now + 1000
            monkeypatch.setattr(api, "version", version)
        await reflector.refresh(may_confirm=True)
        assert shelf.lists == 2
        assert shelf.values()[name] == "AAAA"


async def test_a_refresh_during_a_list_waits_for_one_that_began_later(api: CountingApi, label: str) -> None:
    shelf = Shelf()
    reflector = Reflector(api, CONFIG_MAPS, shelf, label_selector=f"test={label}")
    task = asyncio.create_task(reflector.run())
    while not api.lists:  # noqa: ASYNC110 - the very next turn matters
        await asyncio.sleep(0)
    assert not reflector.synced.is_set()
    asked = asyncio.get_running_loop().time()
    await reflector.refresh()
    assert (api.lists, shelf.lists) == (2, 2)
    assert reflector.begun_at >= asked
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_those_who_wait_are_let_go_when_it_ends(api: CountingApi, kind: Resource) -> None:
    async with reflecting(api, kind, synced=False) as (reflector, _):
        waiting = asyncio.create_task(reflector.refresh())
        await eventually(lambda: reflector.problem)
    with pytest.raises(asyncio.CancelledError):
        await waiting


def definition(kind: Resource) -> Json:
    return {
        "apiVersion": DEFINITIONS.api_version,
        "kind": DEFINITIONS.kind,
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"plural": kind.plural, "singular": kind.kind.lower(), "kind": kind.kind},
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            ],
        },
    }


def an_object(kind: Resource, name: str) -> Json:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "data": {"x": "1"}}


async def install(api: HttpApi, kind: Resource) -> None:
    await api.create(DEFINITIONS, "", definition(kind))

    async def served() -> bool:
        with contextlib.suppress(NotFound):
            await api.list_in(kind, "default")
            return True
        return False

    deadline = time.monotonic() + 100
    while not await served():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_kind_that_is_not_installed_is_waited_for(
    api: CountingApi, kind: Resource, caplog: pytest.LogCaptureFixture
) -> None:
    async with reflecting(api, kind, synced=False, jitter=lambda: 0.0) as (reflector, shelf):
        await eventually(lambda: reflector._failures >= 2)
        assert reflector.problem == f"the API server does not serve {kind.plural}.lab.example"
        assert not reflector.synced.is_set()
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
        await install(api, kind)
        await api.create(kind, "default", an_object(kind, "first"))
        await eventually(lambda: shelf.values() == {"first": "1"})
        assert (reflector.problem, reflector.synced.is_set()) == ("", True)


async def test_a_kind_whose_definition_goes_away_is_waited_for(
    api: CountingApi, kind: Resource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 2.0)
    await install(api, kind)
    async with reflecting(api, kind) as (reflector, shelf):
        await api.create(kind, "default", an_object(kind, "first"))
        await eventually(lambda: shelf.values() == {"first": "1"})
        await api.delete(DEFINITIONS, "", f"{kind.plural}.{kind.group}")
        await eventually(lambda: reflector.problem == f"the API server does not serve {kind.plural}.lab.example")
        await eventually(lambda: reflector._failures >= 3)
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
        await install(api, kind)
        await api.create(kind, "default", an_object(kind, "second"))
        await eventually(lambda: shelf.values() == {"second": "1"})
        assert reflector.problem == ""


async def test_an_optional_kind_counts_as_empty_until_it_is_served(
    api: CountingApi, kind: Resource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.5)
    async with reflecting(api, kind, optional=True) as (reflector, shelf):
        assert (shelf.values(), reflector.problem) == ({}, "")
        await asyncio.wait_for(reflector.refresh(), 60)
        await install(api, kind)
        await api.create(kind, "default", an_object(kind, "first"))
        await eventually(lambda: shelf.values() == {"first": "1"})
        await api.delete(DEFINITIONS, "", f"{kind.plural}.{kind.group}")
        await eventually(lambda: shelf.values() == {})
        assert reflector.problem == ""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_missing_rights_are_told_once_and_ended_by_themselves(
    api: CountingApi, label: str, server: localcluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"reader-{label}"
    async with (
        CountingApi(Login(str(server.user_kubeconfig(name)))) as nobody,
        reflecting(nobody, CONFIG_MAPS, synced=False, jitter=lambda: 0.0) as (reflector, _),
    ):
        await eventually(lambda: reflector._failures >= 2)
        assert f'User "{name}" cannot list resource "configmaps"' in reflector.problem
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
        server.kubectl("create", "clusterrole", name, "--verb=list,watch", "--resource=configmaps")
        server.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--user={name}")
        await eventually(lambda: reflector.problem == "" and reflector.synced.is_set())


async def test_a_watch_that_ends_at_once_is_no_storm(server: localcluster.Cluster, label: str) -> None:
    class Short(CountingApi):
        async def watch(self, *arguments: Any, **options: Any) -> AsyncGenerator[WatchEvent, None]:
            self.watches += 1
            return
            yield

    async with (
        Short(Login(str(server.kubeconfig)), timeout=60) as api,
        reflecting(api, CONFIG_MAPS, f"test={label}"),
    ):
        await asyncio.sleep(2.5)
        assert 2 <= api.watches <= 4


def test_the_errors_of_a_stream_are_sorted_like_others() -> None:
    from sidecarpolicy.kube.client import _event

    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (7)"}
    with pytest.raises(Transient, match="too old") as error:
        _event("watch", "configmaps", json.dumps({"type": "ERROR", "object": status}).encode())
    assert (error.value.status, error.value.reason) == (410, "Expired")
