"""The watches of what policies name in `restartOn`: how many there are, and whom they are in the way of."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from sidecarpolicy import names
from sidecarpolicy.core.configs import ConfigObject
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.config_watches import ConfigWatches
from sidecarpolicy.engine.resources import NAMESPACES, POLICIES
from sidecarpolicy.handlers.process import OperatorSettings, Process
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from tests.core.cached import SYSTEM, stored
from tests.core.objects import a_cluster_policy, a_policy


class ApiServer:
    """One in which nothing happens: its watches stay open.

    *items*: what is there, by kind. *watches*: how many are open, by kind. *answers*: the statuses that LISTs of
    ConfigMaps have instead, one by one.
    """

    def __init__(self) -> None:
        self.watches: Counter[str] = Counter()
        self.answers: list[int] = []
        self.items: dict[str, list[Json]] = {}
        self.url = ""

    async def start(self) -> web.AppRunner:
        """Listen; return what is to be cleaned up."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def login(self, folder: Path) -> Login:
        """How to reach it."""
        config = {
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": self.url}}],
            "users": [{"name": "x", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return Login(str(path))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        resource = request.path.rpartition("/")[2]
        if "sendInitialEvents" in request.query or request.method != "GET":
            return web.json_response({"kind": "Status", "code": 400, "message": "no"}, status=400)
        if "watch" not in request.query:
            if resource == "configmaps" and self.answers:
                status = self.answers.pop(0)
                return web.json_response({"kind": "Status", "code": status, "message": "no"}, status=status)
            return web.json_response({"metadata": {"resourceVersion": "9"}, "items": self.items.get(resource, [])})
        stream = web.StreamResponse()
        await stream.prepare(request)
        self.watches[resource] += 1
        try:
            await asyncio.sleep(60)
        finally:
            self.watches[resource] -= 1
        return stream


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until that is so; fail after ten seconds."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not so within 10 s")


def naming(count: int, policy: str = "web", version: int = 9) -> Json:
    """A policy that names so many ConfigMaps of its own."""
    configs = [f"{policy}-{number}" for number in range(count)]
    return stored(a_policy(name=policy, restartOn={"configMaps": configs}), version)


async def test_the_operator_works_on_however_many_names_policies_watch(tmp_path: Path) -> None:
    server = ApiServer()
    server.items["sidecarpolicies"] = [naming(11, f"web-{number}") for number in range(4)]
    runner = await server.start()
    settings = OperatorSettings(health_probe_bind_address="127.0.0.1:0", metrics_bind_address="127.0.0.1:0")
    async with Process(settings, server.login(tmp_path), asyncio.Event()) as process:
        await eventually(lambda: server.watches["configmaps"] >= 30)
        async with asyncio.timeout(5):
            assert not await process._api.list_in(NAMESPACES, "")
        await eventually(lambda: server.watches["configmaps"] == 44)
    await runner.cleanup()


async def test_no_more_than_so_many_names_are_watched_and_the_rest_is_told(tmp_path: Path) -> None:
    server = ApiServer()
    runner = await server.start()
    async with HttpApi(server.login(tmp_path)) as api:
        cache = Cache(SYSTEM)
        cache.put(POLICIES[names.POLICY], naming(4))
        everywhere = a_cluster_policy(restartOn={"configMaps": ["zoo"]})
        cache.put(POLICIES[names.CLUSTER_POLICY], stored(everywhere, 2))
        watches = ConfigWatches(api, cache, most=3)
        task = asyncio.create_task(watches.run())
        await eventually(lambda: server.watches["configmaps"] == 3)
        zoo = ConfigObject("ConfigMap", "zoo")
        assert zoo in watches.watched, "those of a ClusterSidecarPolicy first"
        (left, _) = [each for each in sorted(cache.named_configs()) if each not in watches.watched]
        assert "more than 3 names" in cache.unreadable_config(left)
        cache.put(POLICIES[names.POLICY], naming(2, version=10))
        await eventually(lambda: set(watches.watched) == cache.named_configs())
        await eventually(lambda: not any(map(cache.unreadable_config, watches.watched)))
        task.cancel()
        await asyncio.wait([task])
    await runner.cleanup()


async def test_whatever_keeps_a_name_from_being_read_is_told_until_it_can_be(tmp_path: Path) -> None:
    server = ApiServer()
    server.answers = [500] * 50
    runner = await server.start()
    async with HttpApi(server.login(tmp_path)) as api:
        cache = Cache(SYSTEM)
        cache.put(POLICIES[names.POLICY], naming(1))
        (config,) = cache.named_configs()
        task = asyncio.create_task(ConfigWatches(api, cache).run())
        await eventually(lambda: bool(cache.unreadable_config(config)))
        assert cache.is_config_there(config, "shop") is None
        server.answers = [500, 403]
        await eventually(lambda: not server.answers)
        await eventually(lambda: "the operator needs the verbs list and watch" in cache.unreadable_config(config))
        assert cache.is_config_there(config, "shop") is None
        task.cancel()
        await asyncio.wait([task])
    await runner.cleanup()


def test_a_name_is_listed_when_all_of_its_list_is_there() -> None:
    cache = Cache(SYSTEM)
    cache.put(POLICIES[names.POLICY], naming(1))
    ((_, cached),) = cache.policies.items()
    (config,) = cache.named_configs()
    assert cached.policy is not None
    cache.note_config(config, "bank", "1")
    assert cache.is_config_there(config, "shop") is None
    assert not cache.configs_are_listed(cached.policy)
    cache.note_configs_listed(config)
    assert cache.is_config_there(config, "shop") is False
    assert cache.configs_are_listed(cached.policy)
    cache.forget_config(config)
    assert not cache.configs_are_listed(cached.policy)
