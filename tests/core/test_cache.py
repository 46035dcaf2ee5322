"""What is cached after any sequence of LISTs, events and answers, and who is told what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds.deployment import own_of
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.port import Resource
from sidecarpolicy.engine.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    POLICIES,
    REPLICA_SETS,
    REVISIONS,
    ROLLOUTS,
    SERVICE_ACCOUNTS,
)
from tests.builders import a_node
from tests.core.cached import SYSTEM, Seen, Told, a_stored_revision, stored
from tests.core.objects import WEB, a_cluster_policy, a_deployment, a_policy, a_record, a_sidecar

CART = WorkloadId(namespace="shop", name="cart")
TILL = WorkloadId(namespace="shop", name="till")
LOAN = WorkloadId(namespace="bank", name="loan")
EVERYWHERE = PolicyId(kind=names.CLUSTER_POLICY, namespace="", name="everywhere")
LOGS = PolicyId(kind=names.POLICY, namespace="shop", name="logs")


# What a LIST, an event and an answer to a write do to each other.


def at(version: int, name: str = "cart", replicas: int | None = None) -> Json:
    """A Deployment at *version*, which its replicas tell too."""
    return stored(a_deployment(name, replicas=version if replicas is None else replicas), version, version)


def versions(cache: Cache) -> dict[str, int]:
    """What is cached, at which version."""
    return {workload.name: found.version for workload, found in cache.workloads.items()}


def listed(cache: Cache, version: int, *bodies: Json, resource: Resource = DEPLOYMENTS) -> bool:
    """Take in a whole LIST; return whether it stands."""
    cache.begin(resource)
    for body in bodies:
        cache.put(resource, body)
    return cache.end(resource, str(version))


def test_what_a_list_does_not_have_is_gone() -> None:
    cache = Cache(SYSTEM)
    cache.put(DEPLOYMENTS, at(3))
    cache.put(DEPLOYMENTS, at(4, "till"))
    told = cache.listener = Told()
    listed(cache, 9, at(3))
    assert versions(cache) == {"cart": 3}
    assert told.keys == {TILL}, "what the LIST has just as it was concerns nobody"


def test_what_is_newer_than_a_list_stays() -> None:
    """It was made, or deleted, while the LIST was on its way."""
    cache = Cache(SYSTEM)
    cache.put(DEPLOYMENTS, at(3))
    cache.begin(DEPLOYMENTS)
    cache.put(DEPLOYMENTS, at(12, "till"))
    cache.drop(DEPLOYMENTS, at(11))
    cache.put(DEPLOYMENTS, at(3))
    cache.end(DEPLOYMENTS, "9")
    assert versions(cache) == {"till": 12}
    listed(cache, 20, at(14))
    assert versions(cache) == {"cart": 14}, "another one of its name, and the other is gone by now"


def test_what_is_older_is_ignored() -> None:
    cache = Cache(SYSTEM)
    cache.put(DEPLOYMENTS, at(7))
    told = cache.listener = Told()
    cache.put(DEPLOYMENTS, at(7))
    cache.put(DEPLOYMENTS, at(6))
    cache.drop(DEPLOYMENTS, at(5))
    assert versions(cache) == {"cart": 7}
    assert told.keys == set()
    cache.drop(DEPLOYMENTS, at(8))
    assert versions(cache) == {}
    cache.put(DEPLOYMENTS, at(7))
    assert versions(cache) == {}, "the late event of what was deleted since brings nothing back"


def test_versions_are_numbers() -> None:
    cache = Cache(SYSTEM)
    cache.put(DEPLOYMENTS, at(9))
    cache.put(DEPLOYMENTS, at(10))
    assert versions(cache) == {"cart": 10}


def test_a_list_that_is_older_than_the_one_before_is_the_truth() -> None:
    """etcd was restored from a backup: versions begin again at a lower number."""
    cache = Cache(SYSTEM)
    listed(cache, 100, at(90), at(95, "till"), at(99, "new"))
    cache.drop(DEPLOYMENTS, at(101, "loan"))
    told = cache.listener = Told()
    restored = at(40), at(45, "loan"), at(99, "new", replicas=7)
    assert not listed(cache, 50, *restored), "there has to be another one, for of the same number may be another"
    assert listed(cache, 50, *restored)
    assert versions(cache) == {"cart": 40, "loan": 45, "new": 99}
    assert own_of(cache.workloads[WorkloadId(namespace="shop", name="new")]).replicas == 7
    assert {each.name for each in told.keys} == {"cart", "till", "loan", "new"}
    cache.put(DEPLOYMENTS, at(51))
    cache.drop(DEPLOYMENTS, at(52, "loan"))
    assert versions(cache) == {"cart": 51, "new": 99}, "events go on from there"


def test_versions_that_have_grown_again_since_a_backup_are_noticed_by_a_single_object() -> None:
    """What was known at 99 cannot be older in a LIST of 100, whatever happened since."""
    cache = Cache(SYSTEM)
    listed(cache, 99, at(90, "till"), at(99))
    cache.drop(DEPLOYMENTS, at(100, "loan"))
    assert not listed(cache, 110, at(90, "till"), at(70)), "it was changed before"
    assert listed(cache, 111, at(90, "till"), at(70))
    assert versions(cache) == {"till": 90, "cart": 70}
    cache.drop(DEPLOYMENTS, at(115))
    assert not listed(cache, 120, at(90, "till"), at(70)), "it was deleted before"
    assert listed(cache, 120, at(90, "till"), at(70))
    assert versions(cache) == {"till": 90, "cart": 70}


def test_a_single_read_shows_that_history_went_backwards_as_well() -> None:
    cache = Cache(SYSTEM)
    cache.put(DEPLOYMENTS, at(9))
    cache.put(DEPLOYMENTS, at(5), read_at="8")
    assert versions(cache) == {"cart": 9}, "the answer is late"
    assert not cache.rewound.is_set()
    cache.put(DEPLOYMENTS, at(5), read_at="9")
    assert versions(cache) == {"cart": 5}
    assert cache.rewound.is_set(), "what else is known may be of before, too"


def test_what_changes_while_a_list_is_told_is_no_sign_of_a_backup() -> None:
    """A LIST as a stream tells what changes meanwhile, and the answer to our own write may be there before."""
    cache = Cache(SYSTEM)
    listed(cache, 8, at(7))
    cache.begin(DEPLOYMENTS)
    cache.put(DEPLOYMENTS, at(9))
    cache.put(DEPLOYMENTS, at(7))
    cache.put(DEPLOYMENTS, at(9))
    assert cache.end(DEPLOYMENTS, "9")
    cache.begin(DEPLOYMENTS)
    cache.put(DEPLOYMENTS, at(12))
    cache.put(DEPLOYMENTS, at(9))
    assert cache.end(DEPLOYMENTS, "11")
    assert versions(cache) == {"cart": 12}


def test_an_optional_kind_that_is_not_served_is_empty() -> None:
    cache = Cache(SYSTEM)
    listed(cache, 0)
    listed(cache, 5, at(3))
    cache.put(DEPLOYMENTS, at(7, "till"))
    listed(cache, 0)
    assert versions(cache) == {}, "it was served in between"


def test_another_one_of_its_name_has_no_children() -> None:
    seen = Seen()
    seen.put(DEPLOYMENTS, a_deployment())
    seen.put(REPLICA_SETS, a_child("web-a"))
    assert [each.number for each in seen.cache.children(seen.cache.workloads[CART])] == [1]
    again = a_deployment()
    again["metadata"]["uid"] = "uid-another"
    seen.put(DEPLOYMENTS, again)
    assert seen.cache.children(seen.cache.workloads[CART]) == ()
    assert seen.put(REPLICA_SETS, a_child("web-b")) == set(), "it is of one that is gone"


def test_nothing_is_kept_of_what_is_gone() -> None:
    """Previews come and go by the hundred a day, each in a namespace of its own, and an operator lives for months."""
    seen = a_fleet_seen()
    seen.put(REPLICA_SETS, a_child("web-a"))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}
    seen.put(AUTOSCALERS, {"metadata": {"namespace": "shop", "name": "cart"}, "spec": {"scaleTargetRef": target}})
    seen.put(ROLLOUTS, {"metadata": {"namespace": "shop", "name": "cart"}, "spec": {"workloadRef": target}})
    seen.put(SERVICE_ACCOUNTS, {"metadata": {"namespace": "shop", "name": "default"}})
    seen.put(NODES, a_node())
    cache = seen.cache
    for (resource, _), versions_known in cache._versions.items():
        for namespace, name in list(versions_known.known):
            seen.forget(resource, namespace, name)
    kept = {name: held for name, held in vars(cache).items() if isinstance(held, dict | set) and held}
    assert kept.keys() == {"_versions"}


def test_deletions_are_not_remembered_for_ever() -> None:
    """Only a LIST that began before one, or an answer that is late, has to be told that it is old."""
    cache = Cache()
    listed(cache, 1, at(1))
    for version in range(2, 50_000):
        cache.drop(DEPLOYMENTS, at(version, f"preview-{version}"))
    assert len(cache._versions[DEPLOYMENTS, ""].deleted) < 10_000
    cache.put(DEPLOYMENTS, at(49_998, "preview-49999"))
    assert versions(cache) == {"cart": 1}


# Who is told.


def a_child(revision: str | None, number: int = 1, owner: str = "uid-cart") -> Json:
    """A ReplicaSet with a copy of the record."""
    record = {names.RECORD: a_record(revision)} if revision else {}
    return {
        "metadata": {
            "name": f"cart-{number}",
            "namespace": "shop",
            "annotations": {"deployment.kubernetes.io/revision": str(number)} | record,
            "ownerReferences": [{"kind": "Deployment", "name": "cart", "uid": owner, "controller": True}],
        },
        "spec": {"replicas": 1},
    }


def a_namespace(name: str, *, labels: dict[str, str] | None = None, stop: bool = False) -> Json:
    """A Namespace; *stop*: with the emergency switch."""
    return {
        "metadata": {"name": name, "labels": labels or {}, "annotations": {names.STOP: "true"} if stop else {}},
    }


def a_fleet_seen() -> Seen:
    """Two Deployments in shop and one in bank; `web` selects those in shop, `everywhere` all three."""
    seen = Seen()
    for namespace in ("shop", "bank", SYSTEM):
        seen.put(NAMESPACES, a_namespace(namespace))
    for workload in (CART, TILL, LOAN):
        seen.put(DEPLOYMENTS, a_deployment(workload.name, workload.namespace))
    seen.policy("web", a_sidecar())
    seen.put(POLICIES[names.CLUSTER_POLICY], a_cluster_policy("everywhere"))
    return seen


def test_one_that_cannot_be_read_leaves_all_else_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """No API server sends it. Should one, that must not end the operator for everybody."""
    seen = Seen()
    seen.put(DEPLOYMENTS, a_deployment("cart"))
    before = seen.cache.workloads[CART]
    seen.put(DEPLOYMENTS, {**a_deployment("cart"), "status": {"conditions": ["no condition"]}})
    seen.put(DEPLOYMENTS, a_deployment("till"))
    assert seen.cache.workloads[CART] == before
    assert "deployments shop/cart: cannot be read" in caplog.text
    assert len(seen.cache.workloads) == 2


def test_a_number_of_thousands_of_digits_is_none() -> None:
    """Anybody may annotate a ReplicaSet, or write a share of Pods; Python reads no more than 4300 digits."""
    seen = Seen()
    deployment = a_deployment("cart")
    strategy = {"rollingUpdate": {"maxSurge": f"{'9' * 5000}%", "maxUnavailable": f"{'9' * 400}%"}}
    seen.put(DEPLOYMENTS, {**deployment, "spec": {**deployment["spec"], "strategy": strategy}})
    body = a_child(None)
    body["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "9" * 5000}
    seen.put(REPLICA_SETS, body)
    (child,) = seen.cache.children(seen.cache.workloads[CART])
    assert child.number == 0


def test_a_deployment_is_told_alone() -> None:
    seen = a_fleet_seen()
    assert seen.put(DEPLOYMENTS, a_deployment("cart", replicas=3)) == {CART}
    assert seen.put(REPLICA_SETS, a_child(None)) == {CART}
    assert seen.put(REPLICA_SETS, a_child(None)) == set(), "nothing that matters has changed"
    assert seen.forget(REPLICA_SETS, "shop", "cart-1") == {CART}
    assert seen.put(REPLICA_SETS, a_child(None, owner="uid-nobody")) == set()
    assert seen.forget(DEPLOYMENTS, "shop", "cart") == {CART}


def test_a_policy_is_told_with_those_it_reaches_when_that_matters_to_them() -> None:
    seen = a_fleet_seen()
    kind = POLICIES[names.POLICY]
    assert seen.put(kind, a_policy(sidecars=[a_sidecar("other")])) == {WEB}, "it reaches them by its revision"
    assert seen.put(kind, a_policy(rollout={"paused": True})) == {WEB, CART, TILL}
    assert seen.put(kind, a_policy(selector={"matchLabels": {"tier": "none"}})) == {WEB, CART, TILL}
    assert seen.put(kind, a_policy(selector={"matchLabels": {"tier": "no"}})) == {WEB}
    assert seen.put(kind, a_policy()) == {WEB, CART, TILL}
    assert seen.forget(kind, "shop", "web") == {WEB, CART, TILL}


def test_a_policy_that_no_longer_selects_is_told_with_those_that_still_carry_it() -> None:
    seen = a_fleet_seen()
    kind = POLICIES[names.POLICY]
    seen.put(DEPLOYMENTS, a_deployment("cart", annotations={names.RECORD: a_record("web-a")}))
    seen.put(kind, a_policy(selector={"matchLabels": {"tier": "none"}}))
    assert seen.put(kind, a_policy(selector={"matchLabels": {"tier": "no"}})) == {WEB, CART}
    seen.put(DEPLOYMENTS, a_deployment("cart"))
    seen.put(REPLICA_SETS, a_child("web-a"))
    assert seen.put(kind, a_policy(selector={"matchLabels": {"tier": "none"}})) == {WEB, CART}, "on its Pods"


def test_a_revision_is_told_to_those_whose_targets_depend_on_it() -> None:
    seen = a_fleet_seen()
    newer, _ = a_stored_revision(a_policy(sidecars=[a_sidecar("other")]), number=2)
    assert seen.put(REVISIONS, newer) == {WEB, CART, TILL}
    older, revision = a_stored_revision(a_policy(sidecars=[a_sidecar("old")]), number=0)
    assert seen.put(REVISIONS, older) == {WEB}, "neither the update nor the current one"
    seen.put(DEPLOYMENTS, a_deployment("till", annotations={names.PIN: f"web={revision.name}"}))
    assert seen.forget(REVISIONS, "shop", older["metadata"]["name"]) == {WEB, TILL}, "it is pinned, perhaps to that"
    assert seen.forget(REVISIONS, "shop", newer["metadata"]["name"]) == {WEB, CART, TILL}


def test_a_revision_that_cannot_be_read_is_told_to_its_policy() -> None:
    seen = a_fleet_seen()
    body, _ = a_stored_revision(a_policy(sidecars=[a_sidecar("other")]), number=2)
    seen.put(REVISIONS, body)
    mangled = {**body, "data": {"policy": body["data"]["policy"]}}
    assert seen.put(REVISIONS, mangled) == {WEB, CART, TILL}
    assert seen.cache.is_mangled("shop", body["metadata"]["name"])
    assert len(seen.cache.revisions(WEB)) == 1


def test_a_revision_elsewhere_is_nobodys() -> None:
    """Anybody may write one in a namespace of theirs, and would choose what every namespace gets."""
    seen = a_fleet_seen()
    body, _ = a_stored_revision(a_cluster_policy("everywhere"))
    stray = {**body, "metadata": {**body["metadata"], "namespace": "shop"}}
    assert seen.put(REVISIONS, stray) == set()
    assert seen.cache.update_revision(EVERYWHERE) is None
    assert seen.put(REVISIONS, body) == {EVERYWHERE, CART, TILL, LOAN}


def test_a_namespace_is_told_with_what_is_in_it() -> None:
    seen = a_fleet_seen()
    assert seen.put(NAMESPACES, a_namespace("bank")) == set()
    assert seen.put(NAMESPACES, a_namespace("bank", labels={"a": "b"})) == {LOAN, EVERYWHERE}
    assert seen.put(NAMESPACES, a_namespace("shop", labels={"a": "b"})) == {CART, TILL, WEB, EVERYWHERE}
    assert seen.put(NAMESPACES, a_namespace(SYSTEM, stop=True)) == {WEB, EVERYWHERE}
    assert seen.cache.stopped


def test_with_nobody_listening_the_same_is_known() -> None:
    quiet, told = Seen(), Seen()
    for seen in (quiet, told):
        if seen is told:
            seen.cache.listener = Told()
        seen.cache.put(POLICIES[names.POLICY], stored(a_policy(), 1))
        seen.cache.put(REVISIONS, stored(a_stored_revision(a_policy())[0], 2))
        seen.cache.put(DEPLOYMENTS, stored(a_deployment(), 3))
    assert known(quiet.cache) == known(told.cache)


# Who selects whom is kept by difference.

PLACES = [CART, TILL, LOAN]
SPECS = st.fixed_dictionaries(
    {
        "selector": st.sampled_from([{}, {"matchLabels": {"tier": "web"}}, {"matchLabels": {"tier": "back"}}]),
        "rollout": st.sampled_from([{}, {"paused": True}]),
    }
)
LABELS = st.sampled_from([{}, {"env": "prod"}, {"env": "dev"}])


@st.composite
def deployments(draw: st.DrawFn) -> tuple[Resource, Json]:
    """One of three, with labels, and perhaps with a record."""
    workload = draw(st.sampled_from(PLACES))
    body = a_deployment(workload.name, workload.namespace)
    body["metadata"]["uid"] = f"{workload.name}-{draw(st.integers(0, 1))}"
    body["spec"]["template"]["metadata"]["labels"] = {"tier": draw(st.sampled_from(["web", "back"]))}
    policy = draw(st.sampled_from([None, EVERYWHERE, *([WEB, LOGS] if workload.namespace == "shop" else [])]))
    if policy is not None:
        body["metadata"]["annotations"] = {names.RECORD: a_record("web-a", policy)}
    return DEPLOYMENTS, body


@st.composite
def policies(draw: st.DrawFn) -> tuple[Resource, Json]:
    """One of three, that selects by labels; perhaps being deleted, or not to be read."""
    name = draw(st.sampled_from(["web", "logs", "everywhere"]))
    spec: Json = dict(draw(SPECS))
    if name == "everywhere":
        spec["namespaceSelector"] = draw(st.sampled_from([{}, {"matchLabels": {"env": "prod"}}]))
        body = a_cluster_policy(name, **spec)
    else:
        body = a_policy(name, **spec)
    if draw(st.integers(0, 5)) == 0:
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if draw(st.integers(0, 5)) == 0:
        body["spec"] = draw(st.sampled_from([1, {**body["spec"], "selector": 1}]))
    return POLICIES[body["kind"]], body


@st.composite
def namespaces(draw: st.DrawFn) -> tuple[Resource, Json]:
    """One of two, with labels."""
    return NAMESPACES, a_namespace(draw(st.sampled_from(["shop", "bank"])), labels=draw(LABELS))


@st.composite
def children(draw: st.DrawFn) -> tuple[Resource, Json]:
    """A ReplicaSet of the one that is there, or of one before it."""
    owner = f"cart-{draw(st.integers(0, 1))}"
    return REPLICA_SETS, a_child(draw(st.sampled_from([None, "web-a"])), draw(st.integers(1, 2)), owner)


@st.composite
def revisions(draw: st.DrawFn) -> tuple[Resource, Json]:
    """One of a few revisions of two policies."""
    build: Any = draw(st.sampled_from([a_policy, a_cluster_policy]))
    manifest = build("web" if build is a_policy else "everywhere", sidecars=[a_sidecar(draw(st.sampled_from("ab")))])
    body, _ = a_stored_revision(manifest, number=draw(st.integers(0, 3)))
    return REVISIONS, body


OBJECTS = st.one_of(deployments(), policies(), namespaces(), children(), revisions())
MOVES = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "drop", "forget"]), OBJECTS), max_size=25)
FEW_MOVES = st.lists(st.tuples(st.sampled_from(["put", "put", "forget"]), OBJECTS), max_size=10)


def known(cache: Cache) -> dict[str, Any]:
    """Everything that is asked of a cache, without the order."""
    return {
        "workloads": dict(cache.workloads),
        "policies": dict(cache.policies),
        "namespaces": dict(cache.namespaces),
        "children": {each: set(map(repr, cache.children(found))) for each, found in cache.workloads.items()},
        "revisions": {
            each: (set(map(repr, cache.revisions(each))), cache.update_revision(each), cache.current_revision(each))
            for each in (WEB, LOGS, EVERYWHERE)
        },
        "selecting": {each: {by.id for by in cache.selecting(found)} for each, found in cache.workloads.items()},
        "concerned": {each: cache.concerned(found) for each, found in cache.workloads.items()},
        "reached": {each: {found.id for found in cache.reached_by(each)} for each in cache.policies},
    }


@given(MOVES, st.randoms(use_true_random=False))
def test_what_is_kept_by_difference_is_what_is_found_from_nothing(
    moves: list[tuple[str, tuple[Resource, Json]]], random: Any
) -> None:
    """After any puts and drops, in whatever order the same objects come to a fresh cache."""
    cache = Cache(SYSTEM)
    there: dict[tuple[Resource, str, str], Json] = {}
    uids: dict[str, str] = {}
    for version, (move, (resource, given_)) in enumerate(moves, start=1):
        body = stored(given_, version, generation=version)
        namespace, name = body["metadata"].get("namespace", ""), body["metadata"]["name"]
        if move == "put":
            cache.put(resource, body)
            there[resource, namespace, name] = body
        else:
            if move == "drop":
                cache.drop(resource, body)
            else:
                cache.forget(resource, namespace, name)
            there.pop((resource, namespace, name), None)
        gone = uids.pop(name, "") if resource == DEPLOYMENTS else ""
        if resource == DEPLOYMENTS and move == "put":
            uids[name] = body["metadata"]["uid"]
        if gone != uids.get(name):  # its children go with it
            there = {
                each: found
                for each, found in there.items()
                if each[0] != REPLICA_SETS or found["metadata"]["ownerReferences"][0]["uid"] != gone
            }
    fresh = Cache(SYSTEM)
    kept = list(there.items())
    random.shuffle(kept)
    for (resource, _, _), body in kept:
        fresh.put(resource, body)
    assert known(cache) == known(fresh)
    for workload, found in cache.workloads.items():
        by_selectors = {
            each.id
            for each in cache.policies.values()
            if each.policy is not None and not each.deleting and cache.selects(each.policy, found)
        }
        assert {each.id for each in cache.selecting(found)} == by_selectors, workload
        assert all(
            (workload in cache.concerned_with(each)) == (each in cache.concerned(found)) for each in cache.policies
        )


@given(FEW_MOVES)
def test_whoever_is_concerned_anew_or_no_more_is_told(moves: list[tuple[str, tuple[Resource, Json]]]) -> None:
    seen = Seen()
    before = known(seen.cache)
    for move, (resource, body) in moves:
        if move == "put":
            told = seen.put(resource, body)
        else:
            told = seen.forget(resource, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        after = known(seen.cache)
        differ: set[WorkloadId | PolicyId]
        for what in ("workloads", "selecting", "concerned", "children"):
            differ = {each for each in PLACES if before[what].get(each) != after[what].get(each)}
            assert differ <= told, what
        for what in ("policies", "revisions"):
            differ = {each for each in (WEB, LOGS, EVERYWHERE) if before[what].get(each) != after[what].get(each)}
            assert differ <= told, what
        before = after


@given(st.permutations(["namespace", "workload", "of the cluster", "of the namespace"]))
def test_in_whichever_order_they_are_seen_a_policy_selects_where_the_namespace_is_known(order: list[str]) -> None:
    seen, there = Seen(), set[str]()
    seen.put(NAMESPACES, {"metadata": {"name": "bank"}})
    selector = {"matchLabels": {"app": "cart"}}
    bodies = {
        "namespace": (NAMESPACES, {"metadata": {"name": "shop"}}),
        "workload": (DEPLOYMENTS, a_deployment("cart", pod_labels={"app": "cart"})),
        "of the cluster": (POLICIES[names.CLUSTER_POLICY], a_cluster_policy("everywhere", selector=selector)),
        "of the namespace": (POLICIES[names.POLICY], a_policy("logs", selector=selector)),
    }
    for each in order:
        seen.put(*bodies[each])
        there.add(each)
        found = seen.cache.workloads.get(CART)
        selecting = {one.id for one in seen.cache.selecting(found)} if found is not None else set()
        expected = {
            policy
            for policy, what in ((EVERYWHERE, "of the cluster"), (LOGS, "of the namespace"))
            if {"namespace", "workload", what} <= there
        }
        assert selecting == expected, each
