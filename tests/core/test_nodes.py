"""Where Pods may land, what kubelet is there, and who is told when that changes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.node_groups import Nodes
from sidecarpolicy.core.nodes import ANYWHERE, NO_NODE, NOTHING_SEEN, Demand, Eligible, Kubelet, demand_of, node_from
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Judgement
from sidecarpolicy.engine.prepare import NO_STEPS, prepare, warn
from sidecarpolicy.engine.resources import DEPLOYMENTS, NODES
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.engine.warnings import warnings_of
from sidecarpolicy.names import SkipReason, WarningReason
from tests.builders import a_deployment, a_node, a_sidecar
from tests.core.cached import Seen
from tests.core.objects import WEB

CART = WorkloadId(namespace="shop", name="cart")
OLD = "v1.28.15-eks-1-28-50"
BETA = "v1.31.4+k3s1"
VIRTUAL = {"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}


def required(*terms: Json) -> Json:
    """A Pod's spec with a required node affinity."""
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    }


def by_label(key: str, operator: str, *values: str) -> Json:
    """A term with one expression on labels."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


LABELS = {"pool": "blue", "generation": "7"}


@pytest.mark.parametrize(
    ("spec", "lands"),
    [
        ({}, True),
        ({"nodeSelector": {"pool": "blue"}}, True),
        ({"nodeSelector": {"pool": "blue", "zone": "a"}}, False),
        (required(by_label("pool", "In", "red", "blue")), True),
        (required(by_label("pool", "In", "red")), False),
        (required(by_label("pool", "NotIn", "red")), True),
        (required(by_label("zone", "NotIn", "a")), True),
        (required(by_label("pool", "Exists")), True),
        (required(by_label("zone", "DoesNotExist")), True),
        (required(by_label("pool", "DoesNotExist")), False),
        (required(by_label("generation", "Gt", "6")), True),
        (required(by_label("generation", "Gt", "7")), False),
        (required(by_label("generation", "Lt", "8")), True),
        (required(by_label("pool", "Lt", "8")), False),
        (required(by_label("zone", "Gt", "1")), False),
        (required(by_label("pool", "Like", "blue")), False),
        (required(by_label("pool", "In", "red"), by_label("generation", "Exists")), True),
        (required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}), True),
        (required({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}]}), False),
        (required({}), False),
        ({"nodeSelector": {"pool": "blue"}} | required(by_label("pool", "In", "red")), False),
        ({"nodeName": "node-1"}, True),
        ({"nodeName": "node-2"}, False),
        ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}, True),
    ],
)
def test_a_pod_lands_where_the_scheduler_lets_it(spec: Json, lands: bool) -> None:
    assert Demand.read(demand_of(spec)).fits(node_from(a_node(labels=LABELS))) is lands


@pytest.mark.parametrize(
    ("taint", "tolerations", "lands"),
    [
        (VIRTUAL, [], False),
        (VIRTUAL, [{"operator": "Exists"}], True),
        (VIRTUAL, [{"key": VIRTUAL["key"], "operator": "Exists"}], True),
        (VIRTUAL, [{"key": VIRTUAL["key"], "value": "azure"}], True),
        (VIRTUAL, [{"key": VIRTUAL["key"], "operator": "Equal", "value": "aws"}], False),
        (VIRTUAL, [{"key": VIRTUAL["key"], "operator": "Exists", "effect": "NoExecute"}], False),
        (VIRTUAL, [{"key": "other", "operator": "Exists"}], False),
        (VIRTUAL | {"effect": "PreferNoSchedule"}, [], True),
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, [], True),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, [], True),
    ],
)
def test_a_taint_keeps_out_what_does_not_tolerate_it_and_a_nodes_state_keeps_nobody_out(
    taint: Json, tolerations: list[Json], lands: bool
) -> None:
    demand = Demand.read(demand_of({"tolerations": tolerations}))
    assert demand.fits(node_from(a_node(taints=[taint]))) is lands


def test_equal_demands_are_one_text_and_no_demand_is_none() -> None:
    one, other = ({"nodeSelector": selector} for selector in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}))
    assert demand_of(one) is demand_of(other)
    assert demand_of({"containers": [], "nodeSelector": {}, "tolerations": None}) == ANYWHERE


def eligible(*nodes: Json, spec: Json | None = None) -> Eligible:
    """What fits a template among these nodes."""
    known = Nodes()
    for each in nodes:
        known.put(each["metadata"]["name"], node_from(each))
    return known.eligible(demand_of(spec or {}))


def test_without_a_node_that_fits_nothing_is_known() -> None:
    assert eligible() == NOTHING_SEEN
    assert eligible(a_node(kubelet=OLD), spec={"nodeSelector": {"no.such": "node"}}) == NO_NODE


@pytest.mark.parametrize("text", ["", "fake", "kwok-v0.7.0", "v0.7.0", "unknown"])
def test_a_version_that_cannot_be_read_skips_nothing(text: str) -> None:
    assert eligible(a_node(kubelet=text)) == Eligible(known=True)


@pytest.mark.parametrize(
    ("text", "too_old", "beta"),
    [
        (OLD, True, False),
        ("v1.9.11", True, False),
        ("v1.29.0", False, True),
        (BETA, False, True),
        ("v1.32.99", False, True),
        ("v1.33.0-eks-ab12", False, False),
        ("1.33+", False, False),
        ("v2.0.0", False, False),
    ],
)
def test_a_kubelet_is_too_old_below_1_29_and_beta_below_1_33(text: str, too_old: bool, beta: bool) -> None:
    found = eligible(a_node("fine"), a_node(kubelet=text))
    assert (found.too_old, found.beta) == (
        Kubelet("node-1", text) if too_old else None,
        Kubelet("node-1", text) if beta else None,
    )


def test_windows_counts_only_where_no_other_node_fits() -> None:
    win = a_node("win-1", system="windows", labels={"pool": "win"})
    assert eligible(win, a_node()).windows == ""
    assert eligible(win, a_node(), spec={"nodeSelector": {"pool": "win"}}).windows == "win-1"


# Kept by difference

NAMES = st.sampled_from(["one", "two", "three", "four"])
SOME_NODE = st.builds(
    lambda name, kubelet, pool, system, tainted: a_node(
        name, kubelet=kubelet, labels={"pool": pool}, system=system, taints=[VIRTUAL] if tainted else []
    ),
    NAMES,
    st.sampled_from([OLD, "v1.27.1", BETA, "v1.34.0", "none"]),
    st.sampled_from(["blue", "red"]),
    st.sampled_from(["linux", "windows"]),
    st.booleans(),
)
DEMANDS = [
    demand_of(each)
    for each in (
        {},
        {"nodeSelector": {"pool": "blue"}},
        {"nodeSelector": {"kubernetes.io/os": "windows"}, "tolerations": [{"operator": "Exists"}]},
        required(by_label("kubernetes.io/hostname", "In", "one", "two")),
    )
]


@given(st.lists(st.one_of(SOME_NODE, NAMES), max_size=20))
def test_what_is_kept_by_difference_is_what_is_counted_anew(moves: list[Any]) -> None:
    kept, there = Nodes(), dict[str, Json]()
    for demand in DEMANDS:
        kept.hold(demand)
        kept.eligible(demand)
    for move in moves:
        before = {demand: kept.eligible(demand) for demand in DEMANDS}
        if isinstance(move, str):
            there.pop(move, None)
            kept.put(move, None)
        else:
            there[move["metadata"]["name"]] = move
            kept.put(move["metadata"]["name"], node_from(move))
        changed = kept.changes()
        anew = Nodes()
        for each in there.values():
            anew.put(each["metadata"]["name"], node_from(each))
        found = {demand: kept.eligible(demand) for demand in DEMANDS}
        assert found == {demand: anew.eligible(demand) for demand in DEMANDS}
        assert set(changed) == {demand for demand in DEMANDS if found[demand] != before[demand]}


def test_who_is_told_are_those_whose_answer_is_another_one() -> None:
    seen = a_fleet()
    blue = WorkloadId(namespace="shop", name="blue")
    judge_all(seen)
    assert seen.put(NODES, a_node("new", labels={"pool": "blue"})) == {blue}  # the first that fits it
    assert seen.put(NODES, a_node("new", labels={"pool": "blue", "seen": "today"})) == set()
    assert seen.put(NODES, a_node("old", kubelet=OLD)) == {CART}
    judge_all(seen)
    assert seen.put(NODES, a_node("old-too", kubelet=OLD, labels={"pool": "blue"})) - {CART} == {blue}
    seen.forget(NODES, "", "old-too")
    assert seen.put(NODES, a_node("old", kubelet="v1.34.0")) == {CART}


def test_a_heartbeat_tells_nobody() -> None:
    seen = a_fleet()
    judge_all(seen)
    beat = a_node("node-1")
    beat["status"]["conditions"] = [{"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:05:00Z"}]
    beat["metadata"]["annotations"] = {"node.alpha.kubernetes.io/ttl": "0"}
    assert seen.put(NODES, beat) == set()


def test_what_nobody_demands_any_more_is_not_counted() -> None:
    seen = a_fleet()
    judge_all(seen)
    seen.forget(DEPLOYMENTS, "shop", "blue")
    assert seen.put(NODES, a_node("old", kubelet=OLD, labels={"pool": "blue"})) == {CART}
    assert seen.cache.eligible(seen.cache.workloads[CART]).too_old == Kubelet("old", OLD)


# What follows from it


def a_fleet() -> Seen:
    """Two Deployments that a policy selects, one of them for blue nodes only, and a node that is not blue."""
    seen = Seen()
    seen.put(NODES, a_node("node-1"))
    seen.policy("web", a_sidecar())
    seen.put(DEPLOYMENTS, a_deployment("cart"))
    seen.put(DEPLOYMENTS, a_deployment("blue", pod={"nodeSelector": {"pool": "blue"}}))
    return seen


def judge_all(seen: Seen) -> dict[str, Judgement]:
    """What becomes of each, by name."""
    context = Context(cache=seen.cache)
    return {place.name: judged(each, context) for place, each in seen.cache.workloads.items()}


def warned(seen: Seen, name: str = "cart") -> list[tuple[str, str]]:
    """What the status of the policy warns of about one workload: the reasons, and the sentences."""
    context = Context(cache=seen.cache)
    workload = seen.cache.workloads[WorkloadId(namespace="shop", name=name)]
    warn(prepare(workload, NO_STEPS, context), workload, context)
    found = context.memory.of_policy(WEB).warned.get(workload.id, ())
    return [(each.reason.value, each.message) for each in found if each.reason is not WarningReason.REQUESTS_CHANGE]


def test_a_node_that_is_too_old_skips_what_may_land_on_it() -> None:
    seen = a_fleet()
    seen.put(NODES, a_node("new", labels={"pool": "blue"}))
    seen.put(NODES, a_node("old", kubelet=OLD))
    verdicts = {name: each.verdicts[WEB] for name, each in judge_all(seen).items()}
    assert verdicts["blue"] is None
    skip = verdicts["cart"]
    assert skip is not None
    assert (skip.reason, skip.removes) == (SkipReason.NODE_TOO_OLD, False)
    assert "node old, whose kubelet v1.28.15-eks-1-28-50" in skip.message


def test_a_fleet_is_warned_of_what_cannot_be_told_and_of_beta() -> None:
    seen = a_fleet()
    assert warned(seen) == []
    assert [reason for reason, _ in warned(seen, "blue")] == ["NodesUnknown"]
    seen.put(NODES, a_node("beta", kubelet=BETA, labels={"pool": "blue"}))
    ((reason, message),) = warned(seen, "blue")
    assert reason == "NativeSidecarsBeta"
    assert "node beta, whose kubelet v1.31.4+k3s1" in message


def test_without_any_node_the_policy_says_so_once() -> None:
    seen = a_fleet()
    context = Context(cache=seen.cache)
    assert seen.forget(NODES, "", "node-1") >= {WEB}

    def told() -> list[tuple[str, str]]:
        found = warnings_of(seen.cache.policies[WEB], context)
        return [(each.reason.value, each.where) for each in found if each.reason is not WarningReason.NO_STARTUP_GATE]

    assert told() == [("NodesUnknown", "")]
    assert warned(seen) == warned(seen, "blue") == []
    assert seen.put(NODES, a_node()) >= {WEB}
    assert told() == []


def test_five_thousand_nodes_cost_a_look_up_per_deployment() -> None:
    known = Nodes()
    for number in range(5000):
        known.put(f"node-{number}", node_from(a_node(f"node-{number}", kubelet=OLD if number == 4999 else BETA)))
    known.hold(ANYWHERE)
    assert known.eligible(ANYWHERE).too_old == Kubelet("node-4999", OLD)
    began = time.perf_counter()
    for _ in range(10_000):
        known.eligible(ANYWHERE)
    assert time.perf_counter() - began < 0.5  # ten thousand scans would take a minute and more


def test_a_new_demand_is_held_against_each_sort_of_node_and_not_against_each_node() -> None:
    known = Nodes()
    for number in range(5000):
        labels = {"kubernetes.io/hostname": f"node-{number}", "pool": f"pool-{number % 10}"}
        known.put(f"node-{number}", node_from(a_node(f"node-{number}", kubelet=BETA, labels=labels)))
    tolerating = [demand_of({"tolerations": [{"key": "team", "value": f"team-{each}"}]}) for each in range(1000)]
    in_pools = [demand_of({"nodeSelector": {"pool": f"pool-{each}"}}) for each in range(10)]
    began = time.perf_counter()
    for demand in [*tolerating, *in_pools]:
        known.hold(demand)
        assert known.eligible(demand).beta is not None
    assert time.perf_counter() - began < 2.5  # a thousand scans would take a minute and more


def test_the_first_node_of_a_list_does_not_decide_alone() -> None:
    seen = a_fleet()
    seen.forget(NODES, "", "node-1")
    judge_all(seen)
    seen.cache.begin(NODES)
    windows = a_node("windows")
    windows["status"]["nodeInfo"]["operatingSystem"] = "windows"
    assert seen.put(NODES, windows) == set()
    assert judge_all(seen)["cart"].verdicts[WEB] is None
    seen.put(NODES, a_node("linux"))
    seen.cache.end(NODES, "100000")
    assert judge_all(seen)["cart"].verdicts[WEB] is None
    assert seen.cache.eligible(seen.cache.workloads[CART]) == Eligible(known=True)


@pytest.mark.parametrize(
    "key", ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "node.cilium.io/agent-not-ready"]
)
def test_a_taint_that_passes_keeps_nobody_out(key: str) -> None:
    node = a_node("old", kubelet=OLD)
    node["spec"] = {"taints": [{"key": key, "effect": "NoSchedule"}]}
    assert Demand.read(ANYWHERE).fits(node_from(node))


def test_an_upgrade_of_all_nodes_in_order_changes_the_answer_seldom() -> None:
    known = Nodes()
    for number in range(1000):
        known.put(f"node-{number:04}", node_from(a_node(f"node-{number:04}", kubelet=OLD)))
    known.hold(ANYWHERE)
    known.eligible(ANYWHERE)
    known.changes()
    told = 0
    for number in range(1000):
        known.put(f"node-{number:04}", node_from(a_node(f"node-{number:04}", kubelet="v1.34.0")))
        told += bool(known.changes())
    assert known.eligible(ANYWHERE) == Eligible(known=True)
    assert told < 30
