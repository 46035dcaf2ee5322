"""An operator that serves some namespaces only: what it watches, what it makes of a LIST, what it says of itself."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sidecarpolicy import names
from sidecarpolicy.cli.operator_seen import watched_by
from sidecarpolicy.cli.run import run
from sidecarpolicy.core.configs import ConfigObject
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.events import Teller
from sidecarpolicy.engine.reflector import reflectors_of_everything
from sidecarpolicy.engine.resources import CLUSTER_SCOPED, DEPLOYMENTS, POLICIES
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.engine.warnings import warnings_of
from sidecarpolicy.engine.watched import WATCHED
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from tests.core.cached import SYSTEM, Seen, Told, stored
from tests.core.objects import a_deployment, a_policy, a_sidecar

BOTH = frozenset({"bank", "shop"})
OTEL = ConfigObject("ConfigMap", "otel")


def a_cache(*served: str) -> Cache:
    return Cache(SYSTEM, frozenset(served or BOTH))


def seen_by(cache: Cache) -> Seen:
    seen = Seen()
    seen.cache = cache
    return seen


def workloads(cache: Cache) -> set[str]:
    return {str(each) for each in cache.workloads}


def in_namespace(namespace: str, name: str = "cart", version: int = 3) -> dict[str, object]:
    return stored(a_deployment(name, namespace=namespace), version)


async def test_what_is_in_no_namespace_is_not_watched_and_everything_else_is_in_each() -> None:
    api = HttpApi(Login("/does/not/exist"))  # nothing is asked of it
    cache = a_cache()
    found = reflectors_of_everything(api, cache, cache.accounts_needed, BOTH)
    places = {(each.resource, each.namespace) for each in found}
    assert len(places) == len(found)
    assert places == {(each, place) for each in WATCHED if each not in CLUSTER_SCOPED for place in BOTH}
    everywhere = reflectors_of_everything(api, Cache(SYSTEM), cache.accounts_needed)
    assert [(each.resource, each.namespace) for each in everywhere] == [(each, "") for each in WATCHED]


def test_a_list_of_one_namespace_says_nothing_about_another() -> None:
    cache = a_cache()
    for namespace in ("shop", "bank"):
        cache.begin(DEPLOYMENTS, namespace)
    cache.put(DEPLOYMENTS, in_namespace("shop"))
    cache.put(DEPLOYMENTS, in_namespace("bank"))
    cache.end(DEPLOYMENTS, "9", "shop")
    assert workloads(cache) == {"shop/cart", "bank/cart"}
    cache.end(DEPLOYMENTS, "9", "bank")
    cache.begin(DEPLOYMENTS, "bank")
    cache.put(DEPLOYMENTS, in_namespace("bank", "loan", 12))
    cache.end(DEPLOYMENTS, "12", "bank")
    assert workloads(cache) == {"shop/cart", "bank/loan"}
    cache.begin(DEPLOYMENTS, "shop")
    cache.end(DEPLOYMENTS, "13", "shop")
    assert workloads(cache) == {"bank/loan"}


def test_history_that_goes_back_in_one_namespace_is_taken_for_that_one() -> None:
    cache = a_cache()
    for namespace in BOTH:
        cache.begin(DEPLOYMENTS, namespace)
        cache.put(DEPLOYMENTS, in_namespace(namespace, version=90))
        cache.end(DEPLOYMENTS, "100", namespace)
    for stands in (False, True):
        cache.begin(DEPLOYMENTS, "shop")
        cache.put(DEPLOYMENTS, in_namespace("shop", version=40))
        assert cache.end(DEPLOYMENTS, "50", "shop") == stands
    assert {str(each.id): each.version for each in cache.workloads.values()} == {"shop/cart": 40, "bank/cart": 90}


def test_the_switch_is_what_the_lease_says_and_tells_every_policy() -> None:
    cache = a_cache()
    cache.put(POLICIES[names.POLICY], stored(a_policy(), 2))
    told = cache.listener = Told()
    cache.note_switch(True)
    assert cache.stopped
    assert told.keys == {PolicyId(kind=names.POLICY, namespace="shop", name="web")}
    cache.note_switch(False)
    assert not cache.stopped
    assert cache.switch_bearer == f"Lease {SYSTEM}/sidecarpolicy"
    whole = Cache(SYSTEM)
    whole.note_switch(True)
    assert not whole.stopped, "for the whole cluster it is on the namespace"
    assert whole.switch_bearer == f"namespace {SYSTEM}"


def test_a_policy_is_told_once_what_cannot_be_seen_and_nothing_twice() -> None:
    seen = seen_by(a_cache())
    seen.policy("web", a_sidecar("proxy"))
    (cached,) = seen.cache.policies.values()
    found = [each for each in warnings_of(cached, Context(cache=seen.cache)) if not each.where]
    assert [each.reason for each in found] == ["NamespacedInstall"]
    assert found[0].message.startswith("the operator serves namespaces bank, shop only and may not read what is in no")
    whole = Context(cache=Cache(SYSTEM))
    assert [each.reason for each in warnings_of(cached, whole) if not each.where] == ["NodesUnknown"]


def test_nobody_is_asked_about_pod_security_without_the_rule_that_leaves_dry_runs_alone() -> None:
    for cache, asked in ((a_cache(), 0), (Cache(SYSTEM), 1)):
        seen = seen_by(cache)
        seen.policy("web", a_sidecar("proxy"))
        seen.put(DEPLOYMENTS, a_deployment("cart"))
        (workload,) = cache.workloads.values()
        judgement = judged(workload, Context(cache=cache))
        assert len(judgement.questions) == asked
        assert list(judgement.verdicts.values()) == [None]


class Emitted:
    """Events that are kept."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def emit(self, regarding: object, *, reason: str, message: str, warning: bool = False, action: str = "") -> None:
        self.reasons.append(reason)


def test_a_cluster_policy_that_cannot_be_seen_is_not_called_missing() -> None:
    mesh = PolicyId(kind=names.CLUSTER_POLICY, namespace="", name="mesh")
    gone = PolicyId(kind=names.POLICY, namespace="shop", name="gone")
    for missing, served, reasons in (
        (mesh, BOTH, []),
        (gone, BOTH, ["PolicyMissing"]),
        (mesh, frozenset[str](), ["PolicyMissing"]),
    ):
        cache = Cache(SYSTEM, served)
        cache.put(DEPLOYMENTS, in_namespace("shop"))
        events = Emitted()
        teller = Teller(context=Context(cache=cache), events=events)
        teller.of_missing(cache.workloads[WorkloadId(namespace="shop", name="cart")], [missing])
        assert events.reasons == reasons


@pytest.mark.parametrize("flag", ["--webhook", "--admission-certificates"])
def test_admission_for_some_namespaces_is_wrong_usage(flag: str) -> None:
    result = CliRunner().invoke(run, ["--watch-namespace=shop", flag])
    assert result.exit_code == 2
    assert "there is no admission for some namespaces only" in result.output


@pytest.mark.parametrize("value", ["", "shop,", "Shop", "shop/cart"])
def test_what_is_no_namespace_is_wrong_usage(value: str) -> None:
    result = CliRunner().invoke(run, [f"--watch-namespace={value}"])
    assert result.exit_code == 2


def test_a_lease_says_which_namespaces_are_served() -> None:
    told = {"metadata": {"annotations": {names.WATCH_NAMESPACES: "shop, bank"}}}
    assert watched_by(told) == ("bank", "shop")
    assert watched_by({"metadata": {}}) == ()
