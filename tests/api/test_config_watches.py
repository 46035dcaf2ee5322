"""The watches of what policies name in `restartOn`, on a real API server: how many there are, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import localcluster
from sidecarpolicy import names
from sidecarpolicy.core.configs import ConfigObject
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.config_watches import ConfigWatches
from sidecarpolicy.engine.resources import POLICIES
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from tests.chaos.proxy import Proxy
from tests.core.cached import SYSTEM, stored
from tests.core.objects import a_cluster_policy, a_policy

ABSENT = "no-such-object"
"""How the names begin that are watched here: nothing is called so."""


def naming(count: int, *, namespace: str = "shop", version: int = 9) -> Json:
    """A policy that names so many ConfigMaps."""
    configs = [f"{ABSENT}-{number}" for number in range(count)]
    return stored(a_policy(namespace=namespace, restartOn={"configMaps": configs}), version)


@asynccontextmanager
async def watching(kubeconfig: Path, cache: Cache, **limits: int) -> AsyncIterator[ConfigWatches]:
    """The watches of what *cache* names, at work."""
    async with HttpApi(Login(str(kubeconfig))) as api:
        watches = ConfigWatches(api, cache, **limits)
        task = asyncio.create_task(watches.run())
        try:
            yield watches
        finally:
            task.cancel()
            await asyncio.wait([task])


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until that is so; fail after a minute."""
    for _ in range(3000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not so within a minute: {what}")


async def test_no_more_than_so_many_names_are_watched_and_the_rest_is_told(cluster: localcluster.Cluster) -> None:
    cache = Cache(SYSTEM)
    cache.put(POLICIES[names.POLICY], naming(4))
    everywhere = a_cluster_policy(restartOn={"configMaps": ["zoo"]})
    cache.put(POLICIES[names.CLUSTER_POLICY], stored(everywhere, 2))
    async with watching(cluster.kubeconfig, cache, most=3) as watches:
        await eventually(lambda: len(watches.watched) == 3, "three are watched")
        assert ConfigObject("ConfigMap", "zoo") in watches.watched, "those of a ClusterSidecarPolicy first"
        (left, _) = [each for each in sorted(cache.configs.names) if each not in watches.watched]
        assert "more than 3 names" in cache.configs.problem(left)
        cache.put(POLICIES[names.POLICY], naming(2, version=10))
        await eventually(lambda: set(watches.watched) == cache.configs.names, "all are watched")
        await eventually(lambda: not any(map(cache.configs.problem, watches.watched)), "nothing is told any more")


async def test_whatever_keeps_a_name_from_being_read_is_told_until_it_can_be(
    cluster: localcluster.Cluster, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    """First the API server is in trouble, and then the right is missing."""
    assert cluster.ca_file is not None
    cache = Cache(SYSTEM)
    cache.put(POLICIES[names.POLICY], naming(1))
    (config,) = cache.configs.names
    with Proxy(cluster.server, cluster.ca_file) as proxy:
        kubeconfig = proxy.kubeconfig(operator_kubeconfig, tmp_path)
        proxy.faults.errors = 1.0
        async with watching(kubeconfig, cache):
            await eventually(lambda: bool(cache.configs.problem(config)), "it is told that it cannot be read")
            assert "the operator needs the verbs" not in cache.configs.problem(config)
            assert cache.configs.is_there(config, "shop") is None
            proxy.faults.clear()
            needs = "the operator needs the verbs list and watch"
            await eventually(lambda: needs in cache.configs.problem(config), "it is told which right is missing")
            assert cache.configs.is_there(config, "shop") is None


async def test_a_name_is_watched_in_each_namespace_whose_policies_give_it_and_told_there_alone(
    cluster: localcluster.Cluster,
) -> None:
    """Where some namespaces only are served."""
    name = ConfigObject("ConfigMap", f"{ABSENT}-0")
    cache = Cache(SYSTEM, frozenset({"bank", "shop"}))
    for version, namespace in enumerate(("bank", "shop"), 2):
        cache.put(POLICIES[names.POLICY], naming(1, namespace=namespace, version=version))
    async with watching(cluster.kubeconfig, cache):
        for namespace in ("bank", "shop"):
            await eventually(lambda at=namespace: cache.configs.is_there(name, at) is False, f"listed in {namespace}")  # type: ignore[misc]
        cache.configs.note_problem(name, "no right", "bank")
        assert (cache.configs.problem(name, "bank"), cache.configs.problem(name, "shop")) == ("no right", "")
        cache.put(POLICIES[names.POLICY], stored(a_policy(namespace="bank"), 9))
        await eventually(lambda: not cache.configs.problem(name, "bank"), "what nobody watches is no problem")
        assert cache.configs.is_there(name, "bank") is None, "nobody watches it any more"
        assert cache.configs.is_there(name, "shop") is False
