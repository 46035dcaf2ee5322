"""What sidecars cost a workload: quantities, requests, QoS, the seconds for starting and stopping, autoscalers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, autoscaler_from
from sidecarpolicy.core.arithmetic.budgets import gate_seconds, startup_budget, termination_budget
from sidecarpolicy.core.arithmetic.change import Change, Finding
from sidecarpolicy.core.arithmetic.findings import findings
from sidecarpolicy.core.arithmetic.qos import QosClass, qos_class
from sidecarpolicy.core.arithmetic.quantities import format_quantity, parse_quantity
from sidecarpolicy.core.arithmetic.requests import Cost, Demand, costs, demands, describe
from sidecarpolicy.core.arithmetic.sharing import SAFE_TO_EVICT, SAFE_VOLUMES
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import ItemKey, Record
from sidecarpolicy.core.rendering import GATE_SECONDS, startup_gate
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.names import WarningReason
from tests.core.objects import a_revision, a_sidecar

CART = WorkloadId(namespace="shop", name="cart")


def a_container(name: str = "app", requests: Json | None = None, limits: Json | None = None, **fields: Any) -> Json:
    """A container with these resources."""
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value is not None}
    return {"name": name, "image": "example.test/a:1", **({"resources": resources} if resources else {}), **fields}


def a_native(name: str = "proxy", requests: Json | None = None, limits: Json | None = None, **fields: Any) -> Json:
    """A native sidecar."""
    return a_container(name, requests, limits, restartPolicy="Always", **fields)


def a_pod(*inits: Json, app: Json | None = None, **fields: Any) -> Json:
    """A Pod spec with one regular container."""
    return {"initContainers": list(inits), "containers": [app or a_container()], **fields}


def a_change(*inits: Json, app: Json | None = None, ours: str = "proxy", **fields: Any) -> Change:
    """A Pod that gets those of *inits* that are named in *ours*; *fields* of the Pod or of the change."""
    own = {key: fields.pop(key) for key in list(fields) if key in Change.__dataclass_fields__}
    names = frozenset(ours.split())
    after = a_pod(*inits, app=app, **fields)
    now = {**after, "initContainers": [each for each in inits if each["name"] not in names]}
    return Change(**{"now": now, "after": after, "ours": names} | own)


def found(change: Change, reason: WarningReason) -> list[Finding]:
    """The findings of one kind."""
    return [each for each in findings(change) if each.reason is reason]


def probe(port: int | str = 15000, **fields: Any) -> Json:
    """A probe over HTTP."""
    return {"httpGet": {"path": "/ready", "port": port}, **fields}


# Quantities


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", Fraction(0)),
        ("250m", Fraction(1, 4)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("1.", Fraction(1)),
        ("+3", Fraction(3)),
        ("-3", Fraction(-3)),
        ("007", Fraction(7)),
        ("1n", Fraction(1, 10**9)),
        ("1u", Fraction(1, 10**6)),
        ("2k", Fraction(2000)),
        ("2M", Fraction(2 * 10**6)),
        ("2G", Fraction(2 * 10**9)),
        ("2T", Fraction(2 * 10**12)),
        ("2P", Fraction(2 * 10**15)),
        ("2E", Fraction(2 * 10**18)),
        ("1Ki", Fraction(2**10)),
        ("1.5Mi", Fraction(3 * 2**19)),
        ("1Gi", Fraction(2**30)),
        ("1Ti", Fraction(2**40)),
        ("1Pi", Fraction(2**50)),
        ("1Ei", Fraction(2**60)),
        ("12e6", Fraction(12 * 10**6)),
        ("12E6", Fraction(12 * 10**6)),
        ("1e-3", Fraction(1, 1000)),
        ("1e+3", Fraction(1000)),
        ("1E", Fraction(10**18)),
        ("0.1n", Fraction(1, 10**9)),  # a little, never nothing
        ("-0.1n", Fraction(-1, 10**9)),
        ("16Ei", Fraction(2**63 - 1)),  # where a binary quantity ends
        (1, Fraction(1)),
        (0.1, Fraction(1, 10)),
        (1e-07, Fraction(1, 10**7)),
    ],
)
def test_a_quantity_is_read_exactly(text: object, size: Fraction) -> None:
    assert parse_quantity(text) == size


@pytest.mark.parametrize(
    "text",
    ["", ".", "-", "1 Gi", "1GB", "1K", "1gi", "1e", "1e1.5", "1ee3", "0x10", "1,5", "½", "1e9999", "1" * 65],
)
def test_what_is_no_quantity_is_said_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_quantity(text, "spec.containers[0].resources.requests.cpu")
    (problem,) = caught.value.problems
    assert problem.path == "spec.containers[0].resources.requests.cpu"
    assert problem.message.startswith("must be a quantity such as 250m, 1.5 or 64Mi, not ")


@pytest.mark.parametrize("value", [None, True, [], {}, float("nan"), float("inf")])
def test_what_is_neither_text_nor_number_is_no_quantity(value: object) -> None:
    with pytest.raises(InvalidInput):
        parse_quantity(value)


@pytest.mark.parametrize(
    ("size", "binary", "text"),
    [
        (Fraction(1, 4), False, "250m"),
        (Fraction(3, 2), False, "1500m"),
        (Fraction(2), False, "2"),
        (Fraction(2000), False, "2k"),
        (Fraction(3 * 2**29), True, "1536Mi"),
        (Fraction(10**8), True, "100M"),  # no whole number of Ki
        (Fraction(1000), True, "1k"),
        (Fraction(0), True, "0"),
        (Fraction(-1, 2), False, "-500m"),
    ],
)
def test_a_quantity_is_written_in_canonical_form(size: Fraction, binary: bool, text: str) -> None:
    assert format_quantity(size, binary=binary) == text


@given(st.integers(-(2**62), 2**62), st.integers(-9, 9), st.booleans())
def test_reading_what_was_written_gives_the_same(number: int, exponent: int, binary: bool) -> None:
    size = Fraction(number) * Fraction(10) ** exponent
    if abs(size) < 2**63:
        assert parse_quantity(format_quantity(size, binary=binary)) == size


@given(st.fractions(min_value=0, max_value=10**12))
def test_what_is_written_is_never_less_and_at_most_a_billionth_more(size: Fraction) -> None:
    assert 0 <= parse_quantity(format_quantity(size)) - size < Fraction(1, 10**9)


# Requests


@pytest.mark.parametrize(
    ("spec", "steady", "peak"),
    [
        # KEP-753's example: converting order into cost.
        (
            a_pod(
                a_native("s", {"cpu": "100m"}), a_container("i", {"cpu": "200m"}), app=a_container("a", {"cpu": "100m"})
            ),
            "200m",
            "300m",
        ),
        (
            a_pod(
                a_container("i", {"cpu": "200m"}), a_native("s", {"cpu": "100m"}), app=a_container("a", {"cpu": "100m"})
            ),
            "200m",
            "200m",
        ),
        (a_pod(app=a_container("a", {"cpu": "100m"})), "100m", "0"),
        # A limit without a request is one, in a Pod.
        (a_pod(a_native("s", limits={"cpu": "50m"}), app=a_container("a", {"cpu": "100m"})), "150m", "50m"),
        # What the Pod itself requests is all that counts, and its overhead comes on top.
        (a_pod(a_native("s", {"cpu": "1"}), resources={"requests": {"cpu": "500m"}}), "500m", "500m"),
        (
            a_pod(a_native("s", {"cpu": "100m"}), resources={"requests": {"cpu": "500m"}}, overhead={"cpu": "50m"}),
            "550m",
            "550m",
        ),
        # With a limit alone, the containers' request is it, or the limit where there is none.
        (a_pod(a_native("s", {"cpu": "100m"}), resources={"limits": {"cpu": "1"}}), "100m", "100m"),
        (a_pod(a_native("s"), resources={"limits": {"cpu": "1"}}), "1", "1"),
        # A regular container that restarts is no sidecar's business; an init container that does not, neither.
        (
            a_pod(a_container("i", {"cpu": "1"}, restartPolicy="Never"), app=a_container("a", {"cpu": "100m"})),
            "100m",
            "1",
        ),
    ],
    ids=[
        "sidecar first",
        "sidecar last",
        "no init",
        "limit",
        "pod level",
        "overhead",
        "pod limit",
        "only pod limit",
        "plain",
    ],
)
def test_requests_follow_the_schedulers_formula(spec: Json, steady: str, peak: str) -> None:
    assert demands(spec)["cpu"] == Demand(steady=parse_quantity(steady), init_peak=parse_quantity(peak))


def test_pod_level_resources_do_not_replace_other_resources() -> None:
    spec = a_pod(a_native("s", {"example.test/gpu": "1"}), resources={"requests": {"example.test/gpu": "5"}})
    assert demands(spec)["example.test/gpu"].effective == 1


def test_hugepages_of_containers_become_the_pods_own() -> None:
    huge = {"hugepages-2Mi": "4Mi"}
    spec = a_pod(
        a_native("s", huge, huge), app=a_container("a", {"cpu": "1"}), resources={"requests": {"memory": "1Gi"}}
    )
    found = {resource: format_quantity(demand.effective, binary=True) for resource, demand in demands(spec).items()}
    assert found == {"cpu": "1", "memory": "1Gi", "hugepages-2Mi": "4Mi"}


def test_a_bad_quantity_is_said_with_its_place_in_the_pod() -> None:
    with pytest.raises(InvalidInput, match=r"spec\.initContainers\[0\]\.resources\.requests\.memory: must be"):
        demands(a_pod(a_native("s", {"memory": "64MB"})))


SIZES = st.sampled_from(["10m", "100m", "250m", "1", "2"])
RESOURCES = st.dictionaries(st.sampled_from(["cpu", "memory"]), SIZES)


@st.composite
def pods(draw: st.DrawFn) -> Json:
    """A Pod spec of an application, with init containers of both kinds."""
    count = draw(st.integers(0, 3))
    inits = [
        (a_native if draw(st.booleans()) else a_container)(f"init-{number}", draw(RESOURCES), draw(RESOURCES))
        for number in range(count)
    ]
    overhead = draw(st.sampled_from([{}, {"overhead": {"cpu": "50m"}}]))
    pod_level = draw(st.sampled_from([{}, {}, {"resources": {"requests": {"cpu": "4"}}}]))
    return a_pod(*inits, app=a_container("app", draw(RESOURCES), draw(RESOURCES)), **overhead, **pod_level)


@st.composite
def sidecars(draw: st.DrawFn) -> list[Json]:
    """Sidecars of a policy."""
    return [
        a_sidecar(
            name,
            role=draw(st.sampled_from(["Proxy", "Logger", "Monitor", "Custom"])),
            container={"resources": {"requests": draw(RESOURCES), "limits": draw(RESOURCES)}},
        )
        for name in draw(st.lists(st.sampled_from(["proxy", "logger", "vault"]), min_size=1, unique=True))
    ]


@given(pods(), sidecars())
def test_injecting_never_lowers_a_request(spec: Json, chosen: list[Json]) -> None:
    template, _ = inject({"spec": spec}, [a_revision(*chosen)], Record())
    for cost in costs(spec, template["spec"]):
        before, after = cost.before or Demand(), cost.after or Demand()
        assert before.steady <= after.steady
        assert before.init_peak <= after.init_peak
        assert before.effective <= after.effective


@given(st.data(), pods())
def test_the_order_of_init_containers_matters_for_the_init_peak_only(data: st.DataObject, spec: Json) -> None:
    shuffled = {**spec, "initContainers": data.draw(st.permutations(items(spec, "initContainers")))}
    for cost in costs(spec, shuffled):
        assert cost.before is not None
        assert cost.after is not None
        assert cost.before.steady == cost.after.steady


@given(pods())
def test_sidecars_behind_the_plain_init_containers_are_the_cheapest(spec: Json) -> None:
    plain_first = sorted(items(spec, "initContainers"), key=lambda each: each.get("restartPolicy") == "Always")
    for cost in costs(spec, {**spec, "initContainers": plain_first}):
        assert cost.before is not None
        assert cost.after is not None
        assert cost.after.effective <= cost.before.effective


@given(pods())
def test_an_unchanged_pod_costs_the_same(spec: Json) -> None:
    changes = costs(spec, spec)
    assert not any(cost.changes for cost in changes)
    assert describe(changes) == "requests unchanged"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            a_pod(app=a_container("a", {"cpu": "100m", "memory": "64Mi"})),
            a_pod(
                a_native("s", {"cpu": "150m", "memory": "128Mi"}),
                app=a_container("a", {"cpu": "100m", "memory": "64Mi"}),
            ),
            "cpu 100m → 250m, memory 64Mi → 192Mi",
        ),
        (
            a_pod(a_container("i", {"cpu": "1"}), app=a_container("a", {"cpu": "100m"})),
            a_pod(
                a_native("s", {"cpu": "100m"}), a_container("i", {"cpu": "1"}), app=a_container("a", {"cpu": "100m"})
            ),
            "cpu 100m → 200m, init peak cpu 1 → 1100m",
        ),
        (a_pod(), a_pod(a_native("s", {"cpu": "10m"})), "cpu none → 10m"),
        (
            a_pod(app=a_container("a", {"cpu": "10m"})),
            a_pod(a_native("s", {"cpu": "500"}), app=a_container("a", {"cpu": "10m"})),
            "cpu 10m → 500.01",  # and not 500010m
        ),
        (a_pod(a_native("s", {"cpu": "10m"})), a_pod(), "cpu 10m → none"),
        (
            a_pod(app=a_container("a", {"memory": "64Mi"})),
            a_pod(a_native("s", {"memory": "100M"}), app=a_container("a", {"memory": "64Mi"})),
            "memory 64Mi → ≈159.4Mi",
        ),
        (
            a_pod(),
            a_pod(a_native("s", {"example.test/gpu": 1, "memory": "1Gi", "cpu": 2})),
            "cpu none → 2, memory none → 1Gi, example.test/gpu none → 1",
        ),
    ],
    ids=["both", "peak", "new", "large", "gone", "uneven", "order"],
)
def test_a_cost_reads_well(before: Json, after: Json, words: str) -> None:
    assert describe(costs(before, after)) == words


def test_a_cost_is_plain_numbers() -> None:
    (cost,) = costs(a_pod(), a_pod(a_native("s", {"cpu": "10m"})))
    ten = Fraction(1, 100)
    assert cost == Cost(resource="cpu", before=None, after=Demand(steady=ten, init_peak=ten))


# QoS

EQUAL: Json = {"cpu": "1", "memory": "1Gi"}
TWICE: Json = {"cpu": "2", "memory": "2Gi"}
QOS_CHANGE = WarningReason.QOS_CHANGE


@pytest.mark.parametrize(
    ("spec", "qos"),
    [
        (a_pod(), QosClass.BEST_EFFORT),
        (a_pod(app=a_container("a", {"cpu": "1"})), QosClass.BURSTABLE),
        (a_pod(app=a_container("a", EQUAL, EQUAL)), QosClass.GUARANTEED),
        (a_pod(app=a_container("a", limits=EQUAL)), QosClass.GUARANTEED),
        (a_pod(app=a_container("a", EQUAL, {**EQUAL, "cpu": "1000m"})), QosClass.GUARANTEED),
        (a_pod(app=a_container("a", {"cpu": "1"}, {"cpu": "1"})), QosClass.BURSTABLE),
        (a_pod(app=a_container("a", {"cpu": "0"})), QosClass.BEST_EFFORT),
        (a_pod(app=a_container("a", {"example.test/gpu": "1"})), QosClass.BEST_EFFORT),
        (a_pod(a_container("i"), app=a_container("a", EQUAL, EQUAL)), QosClass.BURSTABLE),
        (a_pod(a_native("s"), app=a_container("a", EQUAL, EQUAL)), QosClass.BURSTABLE),
        (a_pod(a_native("s", EQUAL, EQUAL), app=a_container("a", EQUAL, EQUAL)), QosClass.GUARANTEED),
        (a_pod(a_native("s"), resources={"limits": EQUAL}), QosClass.GUARANTEED),
        (a_pod(a_native("s", {"cpu": "1m"}), resources={"limits": EQUAL}), QosClass.BURSTABLE),
        (a_pod(a_native("s", {"cpu": "1m"}), resources={"limits": EQUAL, "requests": EQUAL}), QosClass.GUARANTEED),
    ],
)
def test_the_class_of_a_pod_counts_every_container(spec: Json, qos: QosClass) -> None:
    assert qos_class(spec) is qos


def test_a_sidecar_without_limits_takes_a_guaranteed_pod_down() -> None:
    change = a_change(
        a_native("proxy", {"cpu": "1"}),
        a_native("logger", limits=EQUAL),
        app=a_container(limits=EQUAL),
        ours="proxy logger",
    )
    assert found(replace(change, now=change.after), WarningReason.QOS_CHANGE)  # as long as it is so, not only before
    (finding,) = found(change, WarningReason.QOS_CHANGE)
    assert finding.message == (
        "its Pods change from Guaranteed to Burstable, because of sidecar 'proxy'; to keep Guaranteed, every sidecar "
        "needs cpu and memory limits equal to its requests"
    )


def test_a_sidecar_that_requests_less_than_the_pods_own_limits_is_named_too() -> None:
    (finding,) = found(a_change(a_native(requests=EQUAL, limits=EQUAL), resources={"limits": TWICE}), QOS_CHANGE)
    assert "because of sidecar 'proxy';" in finding.message


def test_a_class_that_stays_or_rises_is_nothing_to_say() -> None:
    assert not found(a_change(a_native("proxy", {"cpu": "1"})), WarningReason.QOS_CHANGE)
    assert not found(a_change(a_native("proxy")), WarningReason.QOS_CHANGE)
    assert not found(a_change(a_native("proxy", EQUAL, EQUAL), app=a_container(limits=EQUAL)), WarningReason.QOS_CHANGE)


# Starting


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 30),
        ({"initialDelaySeconds": 5, "periodSeconds": 2, "failureThreshold": 10}, 25),
        ({"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 10}, 50),  # hanging, every attempt takes 5 s
    ],
)
def test_a_gate_lasts_until_the_kubelet_gives_up(fields: Json, seconds: int) -> None:
    assert gate_seconds(probe(**fields)) == seconds


@given(st.integers(0, 120))
def test_a_derived_gate_lasts_as_long_as_promised(timeout: int) -> None:
    assert GATE_SECONDS <= gate_seconds(startup_gate(probe(timeoutSeconds=timeout))) < GATE_SECONDS + max(1, timeout)


def test_the_startup_budget_says_what_is_unknown() -> None:
    budget = startup_budget(
        a_pod(
            a_native("proxy", startupProbe=probe(periodSeconds=1, failureThreshold=120)),
            a_container("migrate"),
            a_native("vault", startupProbe=probe(), lifecycle={"postStart": {"exec": {"command": ["wait"]}}}),
            a_native("logger", lifecycle={}),
        )
    )
    assert budget.seconds == 150
    assert [gate.container for gate in budget.gates] == ["proxy", "vault"]
    assert budget.unknown == ("init container 'migrate'", "postStart of 'vault'")


SLOW = probe(periodSeconds=1, failureThreshold=300)


def test_gates_that_fill_the_deadline_are_a_warning() -> None:
    inits = (a_native("proxy", startupProbe=SLOW), a_container("migrate"), a_native("vault", startupProbe=SLOW))
    (finding,) = found(a_change(*inits, ours="proxy vault", progress_deadline=600), WarningReason.SLOW_START)
    assert finding.message == (
        "the startup probes may hold the application back for 600 s (proxy 300 s, vault 300 s), besides init container "
        "'migrate', and spec.rollout.progressDeadlineSeconds is 600: a slow start would count as a failure; allow more "
        "time, or shorten the probes"
    )
    assert not found(
        a_change(*inits, ours="proxy vault", progress_deadline=601, own_deadline=601), WarningReason.SLOW_START
    )


def test_the_shorter_deadline_counts() -> None:
    change = a_change(a_native("proxy", startupProbe=SLOW), progress_deadline=600, own_deadline=60)
    (finding,) = found(change, WarningReason.SLOW_START)
    assert "the Deployment's progressDeadlineSeconds is 60" in finding.message


def test_gates_of_the_application_alone_are_not_our_business() -> None:
    change = a_change(a_native("own", startupProbe=SLOW), a_native("proxy"), progress_deadline=60)
    assert not found(change, WarningReason.SLOW_START)


# Stopping


def sleeping(seconds: int) -> Json:
    """A preStop hook of known length."""
    return {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}


def test_the_termination_budget_counts_the_sleeps_alone() -> None:
    drain: Json = {"lifecycle": {"preStop": {"exec": {"command": ["drain"]}}}}
    budget = termination_budget(
        a_pod(a_native("proxy", **drain), a_container("i"), a_native("vault", **sleeping(3)), app=a_container(**drain))
    )
    assert budget.grace == 30
    assert budget.sidecars == {"proxy": 0, "vault": 3}
    assert budget.needed == 2


def test_an_application_that_sleeps_its_grace_away_leaves_the_sidecars_none() -> None:
    app = a_container(**sleeping(29))
    change = a_change(a_native("proxy"), a_native("own"), app=app)
    (finding,) = found(change, WarningReason.SHORT_TERMINATION)
    assert finding.message == (
        "terminationGracePeriodSeconds is 30, but the application's preStop sleeps 29 s and the kubelet needs 2 s: "
        "nothing is left in which the application and then 2 sidecars, one after the other, could stop, and they are "
        "killed; set it to more than 31"
    )
    enough = a_change(a_native("proxy"), app=app, terminationGracePeriodSeconds=31)
    assert not found(enough, WarningReason.SHORT_TERMINATION)


@pytest.mark.parametrize(("grace", "warned"), [(0, True), (1, True), (2, False), (None, False)])
def test_a_grace_period_without_the_last_seconds_is_a_warning(grace: int | None, warned: bool) -> None:
    change = a_change(a_native("proxy"), terminationGracePeriodSeconds=grace)
    assert bool(found(change, WarningReason.SHORT_TERMINATION)) is warned


def test_a_sidecar_must_not_sleep_longer_than_the_grace_period() -> None:
    change = a_change(a_native("proxy", **sleeping(31)))
    (finding,) = found(change, WarningReason.SHORT_TERMINATION)
    assert "the API server refuses that" in finding.message
    assert not found(a_change(a_native("proxy", **sleeping(30))), WarningReason.SHORT_TERMINATION)


# Autoscalers


def an_autoscaler(*metrics: Json, name: str = "cart", **target: Any) -> Json:
    """A HorizontalPodAutoscaler of autoscaling/v2 for the Deployment."""
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"} | target
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"scaleTargetRef": reference, "metrics": list(metrics)},
    }


def by(resource: str, **target: Any) -> Json:
    """A metric of type Resource."""
    return {
        "type": "Resource",
        "resource": {"name": resource, "target": target or {"type": "Utilization", "averageUtilization": 80}},
    }


OF_ONE_CONTAINER: Json = {
    "type": "ContainerResource",
    "containerResource": {
        "name": "cpu",
        "container": "app",
        "target": {"type": "Utilization", "averageUtilization": 80},
    },
}
RATE: Json = {"type": "Pods", "pods": {"metric": {"name": "rps"}}}


@pytest.mark.parametrize(
    ("metrics", "resources"),
    [
        ([by("cpu")], ("cpu",)),
        ([OF_ONE_CONTAINER, by("cpu"), RATE, by("memory")], ("cpu", "memory")),
        ([by("cpu", type="AverageValue", averageValue="500m")], ()),
        ([OF_ONE_CONTAINER], ()),
        ([RATE], ()),
        ([], ("cpu",)),  # as people may write it; the API server fills that in
    ],
)
def test_an_autoscaler_asks_for_requests_where_it_goes_by_a_share_of_them(
    metrics: list[Json], resources: tuple[str, ...]
) -> None:
    expected = Autoscaler(name="cart", scales=CART, resources=resources) if resources else None
    assert autoscaler_from(an_autoscaler(*metrics)) == expected


@pytest.mark.parametrize(
    ("target", "ours"),
    [
        ({}, True),
        ({"apiVersion": "apps/v1beta2"}, True),
        ({"kind": "StatefulSet"}, False),
        ({"apiVersion": "argoproj.io/v1alpha1"}, False),
    ],
)
def test_an_autoscaler_concerns_us_where_it_scales_a_deployment(target: Json, ours: bool) -> None:
    assert (autoscaler_from(an_autoscaler(by("cpu"), **target)) is not None) is ours


# Gates that wait for the application


@pytest.mark.parametrize(
    ("inits", "app", "deadlock"),
    [
        ([a_native(startupProbe=probe(8080))], a_container(ports=[{"containerPort": 8080}]), True),
        (
            [a_native(startupProbe=probe(8080), ports=[{"containerPort": 8080}])],
            a_container(ports=[{"containerPort": 8080}]),
            False,
        ),
        ([a_native(startupProbe=probe(8080))], a_container(), False),
        ([a_native(startupProbe=probe("http"))], a_container(ports=[{"name": "http", "containerPort": 8080}]), True),
        ([a_native(startupProbe={"tcpSocket": {"port": 80}})], a_container(ports=[{"containerPort": 80}]), True),
        ([a_native(startupProbe={"grpc": {"port": 80}})], a_container(ports=[{"containerPort": 80}]), True),
        (
            [a_native(startupProbe={"httpGet": {"port": 80, "host": "example.test"}})],
            a_container(ports=[{"containerPort": 80}]),
            False,
        ),
        (
            [a_native("own", ports=[{"containerPort": 80}]), a_native(startupProbe=probe(80))],
            a_container(),
            False,
        ),
        (
            [a_native(startupProbe=probe(80)), a_native("own", ports=[{"containerPort": 80}])],
            a_container(),
            True,
        ),
        ([a_native(readinessProbe=probe(8080))], a_container(ports=[{"containerPort": 8080}]), False),
        ([a_native("own", startupProbe=probe(8080))], a_container(ports=[{"containerPort": 8080}]), False),
    ],
    ids=[
        "the application's port",
        "its own port",
        "nobody's port",
        "the application's by name",
        "tcp",
        "grpc",
        "elsewhere",
        "of one that has started",
        "of one that starts later",
        "readiness only",
        "not ours",
    ],
)
def test_a_gate_that_waits_for_the_application_is_a_deadlock(inits: list[Json], app: Json, deadlock: bool) -> None:
    assert bool(found(a_change(*inits, app=app), WarningReason.GATE_PROBES_APPLICATION)) is deadlock


def test_a_deadlock_names_both_sides() -> None:
    change = a_change(a_native(startupProbe=probe(8080)), app=a_container(ports=[{"containerPort": 8080}]))
    (finding,) = found(change, WarningReason.GATE_PROBES_APPLICATION)
    assert "port 8080, which is that of container 'app'" in finding.message
    assert "starts only after the sidecar has started" in finding.message


# Requests, before and after


def test_what_each_pod_will_request_is_told_until_it_does() -> None:
    app = a_container(requests={"cpu": "100m", "memory": "64Mi"})
    change = a_change(a_native(requests={"cpu": "150m"}), a_container("migrate", {"cpu": "200m"}), app=app)
    (finding,) = found(change, WarningReason.REQUESTS_CHANGE)
    assert finding.message == (
        "each Pod will request cpu 100m → 250m, init peak cpu 200m → 350m; nodes and quota need room for that"
    )
    assert not found(replace(change, now=change.after), WarningReason.REQUESTS_CHANGE)


def test_an_init_peak_below_what_the_pod_needs_anyway_is_nothing_to_say() -> None:
    app = a_container(requests={"cpu": "1"})
    change = a_change(a_container("migrate", {"cpu": "100m"}), a_native(), app=app)
    assert not found(change, WarningReason.REQUESTS_CHANGE)


def test_a_quantity_that_is_none_is_left_to_the_api_server() -> None:
    change = a_change(a_native(requests={"memory": "64MB"}, startupProbe=SLOW), progress_deadline=60)
    assert [each.reason for each in findings(change)] == [WarningReason.SLOW_START]


# All together


def test_a_workload_that_gets_no_sidecar_is_left_in_peace() -> None:
    change = a_change(a_native("own", startupProbe=SLOW), ours="", progress_deadline=1, terminationGracePeriodSeconds=0)
    assert findings(change) == ()


def test_everything_is_told_at_once() -> None:
    change = a_change(
        a_native(requests={"cpu": "1"}, startupProbe=SLOW),
        app=a_container(limits=EQUAL, ports=[{"containerPort": 15000}]),
        progress_deadline=1,
        terminationGracePeriodSeconds=0,
    )
    assert [each.reason for each in findings(change)] == [
        "GateProbesApplication",
        "SlowStart",
        "ShortTermination",
        "QosChange",
        "RequestsChange",
    ]


def test_a_gate_that_asks_a_port_by_a_name_that_the_sidecar_does_not_declare_never_opens() -> None:
    probe = {"httpGet": {"path": "/", "port": "http"}}
    (finding,) = found(a_change(a_native(startupProbe=probe)), WarningReason.GATE_PROBES_APPLICATION)
    assert "asks port 'http', and the sidecar declares no port of that name" in finding.message
    declared = a_native(startupProbe=probe, ports=[{"containerPort": 80, "name": "http"}])
    assert not found(a_change(declared), WarningReason.GATE_PROBES_APPLICATION)


def a_variable(name: str, container: str = "app") -> frozenset[ItemKey]:
    """What a policy provides that sets it."""
    return frozenset({ItemKey(list="env", name=name, container=container)})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"configMapRef": {"name": "settings"}}, "ConfigMap 'settings' (envFrom): HTTP_PROXY"),
        ({"secretRef": {"name": "keys"}, "prefix": "HTTP_"}, "Secret 'keys' (envFrom): HTTP_PROXY"),
        ({"secretRef": {"name": "keys"}, "prefix": "DB_"}, ""),
    ],
)
def test_a_variable_that_hides_one_of_env_from_is_told_with_container_and_source(source: Json, said: str) -> None:
    change = a_change(a_native(), app=a_container(envFrom=[source]), provided=a_variable("HTTP_PROXY"))
    (finding, *_) = (*found(change, WarningReason.HIDES_ENV_FROM), None)
    assert (finding is None) == (not said)
    assert finding is None or (said in finding.message and "container 'app'" in finding.message)
    elsewhere = a_change(
        a_native(), app=a_container(envFrom=[source]), provided=a_variable("HTTP_PROXY", container="other")
    )
    assert not found(elsewhere, WarningReason.HIDES_ENV_FROM)


def test_a_variable_alone_is_told_too() -> None:
    app = a_container(envFrom=[{"configMapRef": {"name": "settings"}}])
    change = Change(now={}, after={"containers": [app]}, ours=frozenset(), provided=a_variable("MODE"))
    assert [each.reason for each in findings(change)] == ["HidesEnvFrom"]


def test_two_ports_of_one_name_are_told() -> None:
    http = [{"containerPort": 8080, "name": "http"}]
    ours = a_native(ports=[{"containerPort": 15000, "name": "http"}])
    (finding,) = found(a_change(ours, app=a_container(ports=http)), WarningReason.SHARED_PORT_NAME)
    assert "port 15000 of sidecar 'proxy' is named 'http', as a port of container 'app' is" in finding.message
    assert not found(a_change(ours), WarningReason.SHARED_PORT_NAME)
    assert not found(a_change(a_native(), app=a_container(ports=http)), WarningReason.SHARED_PORT_NAME)


@pytest.mark.parametrize(
    ("port", "fields", "taken"),
    [
        ({"containerPort": 1, "hostPort": 9}, {}, "9/TCP of the node"),
        ({"containerPort": 1}, {"hostNetwork": True}, "1/TCP of the node (the Pod has hostNetwork)"),
        ({"containerPort": 1}, {}, ""),
    ],
)
def test_a_port_of_the_node_is_a_cost_that_is_told_beforehand(port: Json, fields: Json, taken: str) -> None:
    told = [each.message for each in found(a_change(a_native(ports=[port]), **fields), WarningReason.HOST_PORT)]
    assert len(told) == bool(taken)
    assert all(taken in each for each in told)


@pytest.mark.parametrize(
    ("volumes", "annotations", "told"),
    [
        ([{"name": "ours", "emptyDir": {}}], {}, True),
        ([{"name": "ours", "emptyDir": {"medium": "Memory"}}], {}, False),
        ([{"name": "ours", "configMap": {"name": "x"}}], {}, False),
        ([{"name": "ours", "emptyDir": {}}, {"name": "own", "emptyDir": {}}], {}, False),
        ([{"name": "ours", "emptyDir": {}}], {SAFE_TO_EVICT: "true"}, False),
        ([{"name": "ours", "emptyDir": {}}], {SAFE_VOLUMES: "own, ours"}, False),
        ([{"name": "ours", "emptyDir": {}}], {SAFE_VOLUMES: "own"}, True),
    ],
)
def test_a_volume_that_keeps_the_autoscaler_from_emptying_a_node_is_told(
    volumes: list[Json], annotations: dict[str, str], told: bool
) -> None:
    provided = frozenset({ItemKey(list="volumes", name="ours")})
    change = a_change(a_native(), volumes=volumes, provided=provided, annotations=annotations)
    assert bool(found(change, WarningReason.LOCAL_STORAGE)) is told


def test_a_list_that_every_apply_empties_is_told_where_ours_are_in_it() -> None:
    change = a_change(a_native(), provided=a_variable("A"), emptied=frozenset({("env", "app"), ("volumes", "")}))
    (finding,) = found(change, WarningReason.EMPTIED_BY_APPLY)
    assert finding.message.startswith("its manifest has `env:` without a value of container 'app': every kubectl apply")


@pytest.mark.parametrize(
    ("inits", "app", "told"),
    [
        ([a_container("istio-init"), a_native()], "istio-proxy", True),
        ([a_container("linkerd-init"), a_native(), a_native("linkerd-proxy")], "app", True),
        ([a_native(), a_container("istio-init")], "istio-proxy", False),
        ([a_container("linkerd-init"), a_native("linkerd-proxy"), a_native()], "app", False),
        ([a_native()], "istio-proxy", False),
    ],
    ids=["proxy among the containers", "native proxy after it", "before both", "after both", "without redirection"],
)
def test_a_sidecar_between_a_meshs_redirection_and_its_proxy_is_told(inits: list[Json], app: str, told: bool) -> None:
    assert bool(found(a_change(*inits, app=a_container(app)), WarningReason.WAITS_FOR_MESH)) is told


# Meshes and other injectors

ISTIO = {"sidecar.istio.io/inject": "true"}
NATIVE_ISTIO = ISTIO | {"sidecar.istio.io/nativeSidecar": "true"}
LINKERD = {"linkerd.io/inject": "enabled"}
DAPR = {"dapr.io/enabled": "true"}
VAULT = {"vault.hashicorp.com/agent-inject": "true"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": ISTIO}, ["may start before the container of Istio", "(sidecar.istio.io/inject)", "native"]),
        ({"labels": ISTIO}, ["(sidecar.istio.io/inject)"]),
        ({"labels": {"istio.io/rev": "canary"}}, ["(istio.io/rev)"]),
        ({"namespace": {"istio-injection": "enabled"}}, ["(istio-injection of the namespace)"]),
        ({"namespace": {"istio.io/rev": "1-27"}}, ["(istio.io/rev of the namespace)"]),
        ({"annotations": LINKERD}, ["may start before the container of Linkerd"]),
        ({"annotations": {"linkerd.io/inject": "ingress"}}, ["Linkerd"]),
        ({"annotations": DAPR}, ["starts before the container of Dapr", "without Dapr's API"]),
        ({"annotations": VAULT}, ["the Vault Agent", "/vault/secrets", "agent-init-first"]),
        ({"annotations": {"sidecar.opentelemetry.io/inject": "otel/agent"}}, ["the OpenTelemetry Collector"]),
    ],
)
def test_what_is_injected_into_pods_after_the_sidecars_is_named(change: Json, words: list[str]) -> None:
    (finding,) = found(a_change(a_native(), **change), WarningReason.INJECTOR_ORDER)
    assert [word for word in ["'proxy'", *words] if word not in finding.message] == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"annotations": NATIVE_ISTIO},
        {"annotations": {"sidecar.istio.io/nativeSidecar": "true"}, "namespace": {"istio-injection": "enabled"}},
        {"labels": {"sidecar.istio.io/inject": "false"}, "namespace": {"istio-injection": "enabled"}},
        {"namespace": {"istio-injection": "disabled"}},
        {"annotations": ISTIO, "hostNetwork": True},
        {"annotations": LINKERD | {"config.linkerd.io/proxy-enable-native-sidecar": "true"}},
        {"annotations": {"linkerd.io/inject": "disabled"}},
        {"annotations": {"dapr.io/enabled": "false"}},
        {"annotations": VAULT | {"vault.hashicorp.com/agent-init-first": "true"}},
        {"annotations": {"sidecar.opentelemetry.io/inject": "false"}},
        {"annotations": {"instrumentation.opentelemetry.io/inject-java": "true"}},
    ],
)
def test_what_starts_first_or_is_not_injected_is_not_mentioned(change: Json) -> None:
    assert found(a_change(a_native(), **change), WarningReason.INJECTOR_ORDER) == []


@pytest.mark.parametrize(
    ("inits", "app", "told"),
    [
        (
            (a_native(), a_container("istio-init"), a_native("istio-proxy")),
            "app",
            ["'istio-proxy' of Istio", "AfterInit"],
        ),
        ((a_container("istio-init"), a_native("istio-proxy"), a_native()), "app", []),
        ((a_native(), a_container("linkerd-init")), "linkerd-proxy", ["'linkerd-proxy' of Linkerd", "native"]),
        ((a_container("linkerd-init"), a_native()), "linkerd-proxy", []),  # that is WaitsForMesh
        ((a_native(),), "daprd", ["'daprd' of Dapr"]),
        ((a_native("daprd"), a_native()), "app", []),
        ((a_native(), a_container("vault-agent-init")), "vault-agent", ["'vault-agent-init'", "AfterInit"]),
        ((a_container("vault-agent-init"), a_native()), "vault-agent", []),
        ((a_native(),), "otc-container", ["'otc-container' of the OpenTelemetry Collector"]),
    ],
)
def test_an_agent_in_the_template_that_starts_after_the_sidecars_is_named(
    inits: tuple[Json, ...], app: str, told: list[str]
) -> None:
    findings = found(a_change(*inits, app=a_container(app)), WarningReason.INJECTOR_ORDER)
    assert len(findings) == bool(told)
    assert [word for word in told if word not in findings[0].message] == []


def test_a_policy_that_brings_the_mesh_itself_waits_for_nobody() -> None:
    change = a_change(a_native("linkerd-proxy"), ours="linkerd-proxy", annotations=LINKERD)
    assert found(change, WarningReason.INJECTOR_ORDER) == []


def test_an_agent_in_the_template_is_told_once_although_a_mark_calls_it_too() -> None:
    change = a_change(a_native(), app=a_container("daprd"), annotations=DAPR)
    assert len(found(change, WarningReason.INJECTOR_ORDER)) == 1
