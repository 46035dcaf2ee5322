"""What is known of the objects that policies name in `restartOn`."""

from __future__ import annotations

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.resources import POLICIES
from tests.core.cached import SYSTEM, stored
from tests.core.objects import a_policy


def naming(count: int, policy: str = "web", version: int = 9) -> Json:
    """A policy that names so many ConfigMaps of its own."""
    configs = [f"{policy}-{number}" for number in range(count)]
    return stored(a_policy(name=policy, restartOn={"configMaps": configs}), version)


def test_a_name_is_listed_when_all_of_its_list_is_there() -> None:
    cache = Cache(SYSTEM)
    cache.put(POLICIES[names.POLICY], naming(1))
    ((_, cached),) = cache.policies.items()
    (config,) = cache.configs.names
    assert cached.policy is not None
    cache.configs.note(config, "bank", "1")
    assert cache.configs.is_there(config, "shop") is None
    assert not cache.configs.are_listed(cached.policy)
    cache.configs.note_listed(config)
    assert cache.configs.is_there(config, "shop") is False
    assert cache.configs.are_listed(cached.policy)
    cache.configs.forget(config)
    assert not cache.configs.are_listed(cached.policy)
