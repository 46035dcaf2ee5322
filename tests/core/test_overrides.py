"""What owners set anew in a sidecar: merged by key, taken whole or not at all, and free of budget."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.cli.history import with_words
from sidecarpolicy.core.adjusting import adjusted, adjustment_on, ignored_overrides, wishes_of
from sidecarpolicy.core.adjustment import UNADJUSTED, Adjustment
from sidecarpolicy.core.decode import author_words
from sidecarpolicy.core.injection import compose, eject, inject
from sidecarpolicy.core.overrides import overridden, read, refusals
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import Entry, Mangled, Record, parse, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import invalid_marks
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.prepare import NO_STEPS, prepare
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.core.objects import WEB, decoded
from tests.core.reviews import Cluster, record_on, template_of

CONTAINER: Json = {
    "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "ZONE", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
}
ALLOWED: Json = {"overridable": ["resources", "env.LOG_LEVEL"], "overrideMax": {"cpu": 1, "memory": "256Mi"}}
POLICY = a_policy(sidecars=[a_sidecar(container=CONTAINER, **ALLOWED)])
TEMPLATE = a_deployment()["spec"]["template"]
MORE_MEMORY: Json = {"resources": {"limits": {"memory": "256Mi"}}}
DEBUG: Json = {"env": {"LOG_LEVEL": "debug"}}
LONG = '{"env":{"LOG_LEVEL":"' + "x" * 4039 + '"},"resources":{"limits":{"cpu":1}}}'


def overriding(value: Any, policy: Json = POLICY) -> Revision:
    """The revision of *policy* on a workload whose owner sets *value* anew."""
    found = decoded(policy)
    revision, wishes = offline(found), wishes_of({f"{names.OVERRIDE}proxy": json.dumps(value)}, {})
    return adjusted(revision, adjustment_on(revision, wishes, found, None))


def said(value: Any, policy: Json = POLICY) -> list[str]:
    """What is wrong with the override *value*, without where."""
    found = decoded(policy)
    text = value if isinstance(value, str) else json.dumps(value)
    wishes = wishes_of({f"{names.OVERRIDE}proxy": text}, {})
    where = f"annotation {names.OVERRIDE}proxy: "
    return [each.removeprefix(where) for each in ignored_overrides(offline(found), wishes, found, None)]


# What is set.


def test_it_is_merged_into_the_sidecar_by_key() -> None:
    container = overriding(MORE_MEMORY | DEBUG).sidecars[0].container
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    assert container["env"] == [{"name": "LOG_LEVEL", "value": "debug"}, CONTAINER["env"][1]]


def test_a_variable_that_is_not_there_comes_last_and_one_from_elsewhere_is_replaced() -> None:
    container = overridden(CONTAINER, read('{"env": {"ZONE": "a", "NEW": "1", "EMPTY": ""}}'))
    new = [{"name": "ZONE", "value": "a"}, {"name": "EMPTY"}, {"name": "NEW", "value": "1"}]
    assert container["env"] == [CONTAINER["env"][0], *new]


def test_a_sidecar_without_resources_gets_some() -> None:
    assert overridden({}, read('{"resources": {"limits": {"cpu": 1}}}')) == {"resources": {"limits": {"cpu": "1"}}}


@pytest.mark.parametrize(
    ("written", "stored"),
    [("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), (2, "2"), (0.1, "100m"), ("1e3", "1k")],
)
def test_quantities_are_written_as_the_api_server_stores_them(written: Any, stored: str) -> None:
    override = json.loads(read(json.dumps({"resources": {"limits": {"memory": written}}})))
    assert override == {"resources": {"limits": {"memory": stored}}}


def test_the_record_keeps_it_and_eject_takes_it_out() -> None:
    template, record = inject(TEMPLATE, [overriding(MORE_MEMORY)], Record())
    assert record.entries[WEB].adjustment.overrides == (("proxy", read(json.dumps(MORE_MEMORY))),)
    assert parse(text_of(record)) == record
    assert eject(template, record) == TEMPLATE


def test_it_changes_no_revision() -> None:
    assert overriding(MORE_MEMORY).name == offline(decoded(POLICY)).name
    plain = a_policy(sidecars=[a_sidecar(container=CONTAINER)])
    assert offline(decoded(plain)).name == offline(decoded(POLICY)).name


def test_moving_from_one_override_to_another_keeps_what_others_have_added() -> None:
    template, record = inject(TEMPLATE, [overriding(MORE_MEMORY)], Record())
    added = {"terminationMessagePath": "/dev/termination-log"}
    sidecar = template["spec"]["initContainers"][0] | added
    defaulted = {**template, "spec": template["spec"] | {"initContainers": [sidecar]}}
    stored = offline(decoded(POLICY))
    then = overriding(DEBUG)
    moved = compose(defaulted, record, {WEB: then}, known=lambda policy, name: stored)
    assert moved.template["spec"]["initContainers"] == [then.sidecars[0].container | added]


# What is not.


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"env": {"PATH": "/x"}}, "env.PATH: must be among what the policy lets be overridden: resources, env."),
        (
            {"resources": {"limits": {"memory": "257Mi"}}},
            "resources.limits.memory: must be at most 256Mi (override",
        ),
        (
            {"resources": {"requests": {"cpu": "1001m"}}},
            "resources.requests.cpu: must be at most 1 (override",
        ),
        ({"resources": {"limits": {"memory": "32Mi"}}}, "resources.requests.memory: must be at most the limit, 32Mi"),
        ({"resources": {"limits": {"memory": "lots"}}}, "resources.limits.memory: must be a quantity such as"),
        ({"resources": {"limits": {"memory": None}}}, "resources.limits.memory: must be a quantity such as"),
        ({"resources": {"limits": {"cpu": "-1"}}}, "resources.limits.cpu: must not be negative"),
        (
            {"resources": {"limits": {"gpu": "1"}}},
            "resources.limits.gpu: must be one of cpu, ephemeral-storage",
        ),
        ({"resources": {"claims": []}}, "resources.claims: must be one of limits, requests"),
        ({"resources": {"limits": {"memory": 0}}}, "resources.limits.memory: must be greater than zero"),
        ({"resources": {"limits": {"cpu": "0m"}}}, "resources.limits.cpu: must be greater than zero"),
        ({"resources": {"requests": {"memory": "1e30"}}}, f"resources.requests.memory: must be at most {2**63 - 1}"),
        (LONG, "must have at most 4096 characters in its one spelling, not 4098"),
        ({"image": "other"}, "image: must be one of env, resources"),
        ({"env": {"LOG_LEVEL": 1}}, "env.LOG_LEVEL: must be a string, not a number (1)"),
        ({"env": {"LOG_LEVEL": None}}, "env.LOG_LEVEL: must be a string"),
        ({"env": {"LOG LEVEL": ""}}, "env.LOG LEVEL: must be the name of a variable"),
        ({"env": {"LOG_LEVEL": "\ud800"}}, "env.LOG_LEVEL: must be text"),
        ({}, "must set something"),
        ([], "must be a JSON object"),
        ("{", "must be a JSON object"),
        ("[" * 4000, "must be a JSON object"),
        (json.dumps({"env": {"LOG_LEVEL": "x" * 4096}}), "must be a JSON object of at most 4096 characters"),
    ],
)
def test_what_is_not_allowed_makes_the_whole_override_ignored_and_says_where(value: Any, path: str) -> None:
    problems = said(value)
    assert any(each.startswith(path) for each in problems), problems
    assert all(each.endswith(" (the override is ignored)") for each in problems)
    if isinstance(value, dict) and value:
        assert overriding(DEBUG | value).adjustment.effect == UNADJUSTED


def test_a_policy_that_says_nothing_lets_nothing_be_overridden() -> None:
    plain = a_policy(sidecars=[a_sidecar(container=CONTAINER)])
    assert overriding(DEBUG, plain).sidecars == offline(decoded(plain)).sidecars
    assert said(DEBUG, plain) == [
        "env.LOG_LEVEL: must be among what the policy lets be overridden: nothing (the override is ignored)"
    ]


@pytest.mark.parametrize("allowed", ["resources", "resources.limits", "resources.limits.memory"])
def test_a_path_lets_be_overridden_what_is_below_it(allowed: str) -> None:
    override = read(json.dumps(MORE_MEMORY))
    assert list(refusals(override, CONTAINER, [allowed], {})) == []
    assert list(refusals(override, CONTAINER, ["resources.requests", "resources.limits.cpu"], {})) != []


def test_a_variable_lets_no_other_be_overridden_whose_name_goes_on_after_a_dot() -> None:
    override = read('{"env": {"A.B": "x"}}')
    assert list(refusals(override, CONTAINER, ["env.A.B"], {})) == []
    (found,) = refusals(override, CONTAINER, ["env.A"], {})
    assert found.startswith("env.A.B: must be among what the policy lets be overridden")


def test_an_override_of_no_sidecar_is_an_invalid_mark() -> None:
    key = f"{names.OVERRIDE}vault"
    (found,) = invalid_marks({}, {key: "{}"}, sidecars={"proxy"})
    assert found == f"annotation {key}: names 'vault', which is no sidecar of a policy that selects this Deployment"
    assert invalid_marks({}, {f"{names.OVERRIDE}proxy": "{}"}, sidecars={"proxy"}) == []
    (found,) = invalid_marks({key: "x"}, {}, sidecars={"vault"})
    assert found == f"label {key}: must be an annotation; as a label it has no effect"


@pytest.mark.parametrize(
    ("sidecar", "problem"),
    [
        ({"overridable": ["image"]}, "overridable[0]: must be resources, a part of it such as"),
        ({"overridable": ["env."]}, "overridable[0]: must be resources"),
        ({"overridable": ["env.A", "env.A"]}, "overridable[1]: must not appear twice"),
        (
            {"overridable": [f"env.A{number}" for number in range(33)]},
            "overridable: must hold at most 32 paths",
        ),
        ({"overrideMax": {"cpu": "many"}}, "overrideMax.cpu: must be a quantity"),
        ({"overrideMax": {"memory": -1}}, "overrideMax.memory: must not be negative"),
        ({"overrideMax": {"gpu": 1}}, "overrideMax.gpu: must be one of cpu, memory"),
    ],
)
def test_what_a_policy_may_let_be_overridden(sidecar: Json, problem: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(a_policy(sidecars=[a_sidecar(**sidecar)]))
    assert f"spec.sidecars[0].{problem}" in str(refused.value)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "0", "1", "64Mi", "8Ei", "1e99", "1n", "x", "é" * 999, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["resources", "limits", "requests", "cpu", "memory", "env", "A", ""]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(JSON_VALUES | st.text())
def test_any_text_is_an_override_in_its_one_spelling_or_says_what_is_wrong(value: Any) -> None:
    try:
        override = read(value if isinstance(value, str) else json.dumps(value))
    except InvalidInput as error:
        assert error.problems
    else:
        assert read(override) == override
        override.encode()
        record = Record(entries={WEB: Entry(revision="web-0", adjustment=Adjustment(overrides=(("proxy", override),)))})
        assert parse(text_of(record)) == record
        once = overridden(CONTAINER, override)
        assert overridden(once, override) == once


@pytest.mark.parametrize("override", ['"x"', "[]", '{"proxy":{"image":"x"}}', '{"proxy":{}}', '{"proxy":1}', '{"":{}}'])
def test_a_record_with_another_override_than_we_write_is_mangled(override: str) -> None:
    with pytest.raises(Mangled):
        parse(f'{{"policies":{{"SidecarPolicy/shop/web":{{"revision":"web-1","overrides":{override}}}}}}}')


# What operator and admission make of it.


@pytest.fixture
def cluster() -> Cluster:
    """With a policy that lets its sidecar be overridden."""
    found = Cluster()
    found.roll_out(POLICY)
    return found


def asking(body: Json, value: Any | None) -> Json:
    """*body* with an override, or without one."""
    metadata = body["metadata"]
    key = f"{names.OVERRIDE}proxy"
    annotations = {name: text for name, text in metadata["annotations"].items() if name != key}
    return {
        **body,
        "metadata": metadata | {"annotations": annotations | ({key: json.dumps(value)} if value is not None else {})},
    }


def sidecar_of(body: Json) -> Json:
    """The sidecar of a Deployment."""
    found: Json = template_of(body)["spec"]["initContainers"][0]
    return found


def test_it_costs_no_step_and_counts_as_nobodys_undoing(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    for value in (MORE_MEMORY, DEBUG, MORE_MEMORY | DEBUG, None):
        body = cluster.settled(asking(body, value))
        assert "undone" not in record_on(body)
        assert record_of(record_on(body)).entries[WEB].revision == offline(decoded(POLICY)).name
    assert sidecar_of(body) == sidecar_of(cluster.admit(a_deployment()))


def test_it_is_no_repair(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, asking(cluster.admit(a_deployment()), MORE_MEMORY))
    (workload,) = cluster.cache.workloads.values()
    prepared = prepare(workload, NO_STEPS, cluster.context)
    assert prepared.operations
    assert not prepared.is_repair


def test_what_somebody_else_does_to_it_is_repaired_to_what_its_owner_wants(cluster: Cluster) -> None:
    body = cluster.settled(asking(cluster.admit(a_deployment()), MORE_MEMORY))
    template = template_of(body)
    edited = sidecar_of(body) | {"resources": {"limits": {"memory": "1Gi"}}}
    spec = template["spec"] | {"initContainers": [edited]}
    repaired = cluster.settled({**body, "spec": body["spec"] | {"template": {**template, "spec": spec}}})
    assert sidecar_of(repaired) == sidecar_of(body)
    assert '"undone":{"count":1' in record_on(repaired)


def test_admission_brings_it_in_the_owners_own_write(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    cluster.put(DEPLOYMENTS, body)
    written = cluster.admit(asking(body, DEBUG), cluster.as_cached(body))
    assert sidecar_of(written)["env"][0] == {"name": "LOG_LEVEL", "value": "debug"}
    assert cluster.writes(written) == []
    (said,) = cluster.review(asking(body, {"image": "x"}), cluster.as_cached(body)).warnings
    assert said.startswith(f"annotation {names.OVERRIDE}proxy: image: must be one of env, resources")


def test_a_policy_that_forbids_it_by_now_changes_it_with_the_next_revision(cluster: Cluster) -> None:
    body = cluster.settled(asking(cluster.admit(a_deployment()), MORE_MEMORY))
    narrower = a_policy(sidecars=[a_sidecar(container=CONTAINER, overridable=["env.LOG_LEVEL"])])
    told = cluster.put(POLICIES[names.POLICY], narrower)
    assert cluster.cache.workloads.keys() <= told
    assert cluster.writes(body) == []
    found, entry = decoded(narrower), record_of(record_on(body)).entries[WEB]
    wishes = wishes_of(body["metadata"]["annotations"], {})
    (sentence,) = ignored_overrides(offline(found), wishes, found, entry)
    assert sentence.endswith(" (it goes with the next revision)")
    other = Entry(revision="web-0000000000", adjustment=entry.adjustment)
    assert adjustment_on(offline(found), wishes, found, other).effect == UNADJUSTED


def test_a_policy_that_allows_it_by_now_brings_it_with_the_next_revision(cluster: Cluster) -> None:
    plain = a_policy(sidecars=[a_sidecar(container=CONTAINER)])
    cluster.roll_out(plain)
    body = cluster.settled(asking(cluster.admit(a_deployment()), MORE_MEMORY))
    assert sidecar_of(body)["resources"] == CONTAINER["resources"]
    cluster.put(POLICIES[names.POLICY], POLICY)
    assert cluster.writes(body) == []
    found, entry = decoded(POLICY), record_of(record_on(body)).entries[WEB]
    wishes = wishes_of(body["metadata"]["annotations"], {})
    (sentence,) = ignored_overrides(offline(found), wishes, found, entry)
    assert sentence.endswith("is allowed by now (it comes with the next revision)")
    other = Entry(revision="web-0000000000", adjustment=entry.adjustment)
    assert adjustment_on(offline(found), wishes, found, other).overrides


def test_what_an_owner_asks_for_after_it_was_allowed_comes_at_once(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[a_sidecar(container=CONTAINER)]))
    body = cluster.settled(asking(cluster.admit(a_deployment()), MORE_MEMORY))
    cluster.put(POLICIES[names.POLICY], POLICY)
    anew = cluster.settled(asking(body, MORE_MEMORY | DEBUG))
    assert sidecar_of(anew)["resources"]["limits"] == {"memory": "256Mi"}
    assert "refused" not in record_on(anew)


def test_what_was_refused_comes_with_the_owners_own_restart_of_the_pods(cluster: Cluster) -> None:
    cluster.roll_out(a_policy(sidecars=[a_sidecar(container=CONTAINER)]))
    body = cluster.settled(asking(cluster.admit(a_deployment()), MORE_MEMORY))
    cluster.put(POLICIES[names.POLICY], POLICY)
    template = template_of(body)
    newer = [{**each, "image": "example.test/app:2"} for each in template["spec"]["containers"]]
    changed = {**template, "spec": template["spec"] | {"containers": newer}}
    written = cluster.admit({**body, "spec": body["spec"] | {"template": changed}}, cluster.as_cached(body))
    assert sidecar_of(written)["resources"]["limits"] == {"memory": "256Mi"}
    assert cluster.writes(written) == []


def test_an_override_in_effect_is_not_said_to_be_ignored_while_a_revision_is_to_come(cluster: Cluster) -> None:
    body = cluster.settled(asking(cluster.admit(a_deployment()), MORE_MEMORY))
    entry = record_of(record_on(body)).entries[WEB]
    newer = decoded(a_policy(sidecars=[a_sidecar(container=CONTAINER | {"image": "example.test/proxy:2"})]))
    assert offline(newer).name != entry.revision
    wishes = wishes_of(body["metadata"]["annotations"], {})
    (sentence,) = ignored_overrides(offline(newer), wishes, newer, entry)
    assert sentence.endswith(" (it goes with the next revision)")


def test_going_back_to_an_earlier_spec_keeps_what_may_be_overridden() -> None:
    words = author_words(a_policy(sidecars=[a_sidecar(), a_sidecar("logger")])["spec"])
    restored = with_words(POLICY["spec"], words)
    proxy, logger = restored["sidecars"]
    assert {key: proxy[key] for key in ALLOWED} == ALLOWED
    assert not ALLOWED.keys() & logger.keys()
    assert author_words(restored) == words
