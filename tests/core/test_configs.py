"""What `restartOn` names: how its content is told apart, recorded, and shown on a Pod template."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.core import counting
from sidecarpolicy.core.claims import claims_of
from sidecarpolicy.core.configs import (
    NO_CONFIG,
    Config,
    ConfigObject,
    RestartOn,
    Wanted,
    advanced,
    changed,
    hash_of,
    kept,
    older,
    plain,
    state_of,
)
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.injection import compose, eject, inject
from sidecarpolicy.core.plan import RolloutState, steps
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State, Target, is_config_step
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import INIT_CONTAINERS, Entry, ItemKey, Mangled, Note, Record, parse, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Halt, Revision, halt_text
from sidecarpolicy.core.revision import _halt as halt_of
from sidecarpolicy.core.skips import invalid_marks
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.prepare import _stamped
from tests.builders import a_policy
from tests.core.objects import WEB
from tests.core.strategies import Edit, edits, revisions, templates

OTEL, VAULT = ConfigObject("ConfigMap", "otel"), ConfigObject("Secret", "vault")
REVISION = offline(decode_policy(a_policy()))


def wanted(**known: str) -> Wanted:
    """Both are named; of each of *known* this is the hash."""
    objects = {"otel": OTEL, "vault": VAULT}
    return Wanted(named=(OTEL, VAULT), known={objects[name]: value for name, value in known.items()})


def a_config(restart: str = "", **hashes: str) -> Config:
    """What a record has."""
    return replace(kept(NO_CONFIG, wanted(**hashes)), restart=restart)


def a_template(annotations: Json | None = None) -> Json:
    metadata: Json = {"labels": {"tier": "web"}} | ({"annotations": annotations} if annotations else {})
    return {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "example.test/app:1"}]}}


def told(template: Json) -> str | None:
    """What the Pod template says of restarts for a configuration."""
    text: str | None = at(template, "metadata", "annotations").get(names.CONFIG)
    return text


# The hash


def an_object(uid: str = "u", labels: Json | None = None, **data: str) -> Json:
    return {"metadata": {"name": "otel", "uid": uid, "resourceVersion": "7", "labels": labels or {}}, "data": data}


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_only_the_content_of_an_object_counts(kind: str) -> None:
    first = hash_of(kind, an_object(a="1", b="2"))
    assert hash_of(kind, {**an_object(b="2", a="1"), "immutable": True}) == first
    assert hash_of(kind, an_object(labels={"x": "y"}, a="1", b="2")) == first
    assert hash_of(kind, an_object(a="1", b="3")) != first
    assert hash_of(kind, an_object(a="12")) != hash_of(kind, an_object(a="1", b="2"))
    assert first.startswith("1.")
    assert len(first) == 18


def test_binary_content_of_a_config_map_counts() -> None:
    assert hash_of("ConfigMap", an_object(a="1")) != hash_of("ConfigMap", {**an_object(), "binaryData": {"a": "1"}})


def test_a_secrets_hash_tells_nothing_to_whoever_does_not_know_its_uid() -> None:
    hashes = {hash_of("Secret", an_object(uid=uid, password="1234")) for uid in ("a", "b", "c")}
    assert len(hashes) == 3, "the content alone gives none of them"
    assert len({hash_of("ConfigMap", an_object(uid=uid, a="1234")) for uid in ("a", "b", "c")}) == 1


# What is recorded, and when Pods restart


def test_what_is_not_recorded_yet_is_recorded_and_restarts_nothing() -> None:
    assert kept(NO_CONFIG, wanted(otel="1")) == a_config(otel="1")
    assert changed(NO_CONFIG, wanted(otel="1")) == ()
    assert advanced(NO_CONFIG, wanted(otel="1")) == a_config(otel="1")
    assert kept(a_config(otel="1"), wanted(otel="2", vault="3")) == a_config(otel="1", vault="3")


def test_a_hash_that_was_made_in_another_way_is_as_good_as_none() -> None:
    old = a_config(otel="0.1", vault="3")
    assert changed(old, wanted(otel="1.2", vault="3")) == ()
    assert kept(old, wanted(otel="1.2", vault="3")) == a_config(otel="1.2", vault="3")
    assert kept(old, wanted()) == old
    assert changed(a_config(otel="1.1"), wanted(otel="1.2")) == (OTEL,)


def test_what_is_not_there_or_may_not_be_read_keeps_its_last_hash() -> None:
    there = a_config(otel="1", vault="2")
    assert changed(there, wanted(otel="1")) == changed(there, wanted()) == ()
    assert kept(there, wanted()) == advanced(there, wanted()) == there
    assert changed(there, wanted(otel="3")) == (OTEL,)
    assert dict(advanced(there, wanted(otel="3")).hashes) == {OTEL: "3", VAULT: "2"}


def test_a_change_shows_on_the_pod_template_and_each_one_anew() -> None:
    first = advanced(a_config(otel="1"), wanted(otel="2"))
    second = advanced(first, wanted(otel="1"))
    assert len({"", first.restart, second.restart}) == 3
    assert advanced(a_config(otel="1"), wanted(otel="2")) == first
    assert advanced(first, wanted(otel="2")) == first


def test_content_that_is_again_what_it_was_before_the_step_brings_that_template_back() -> None:
    before = a_config(otel="1")
    step = advanced(before, wanted(otel="2"))
    assert advanced(step, wanted(otel="1"), before) == before


def test_what_is_named_no_more_is_forgotten_and_shows_until_the_next_step() -> None:
    there = a_config("x", otel="1")
    assert kept(there, Wanted()) == Config(restart="x")
    assert advanced(there, Wanted()) == NO_CONFIG


def test_states_differ_by_content_alone() -> None:
    assert state_of(a_config("x", otel="1"), wanted()) == state_of(NO_CONFIG, wanted(otel="1"))
    assert state_of(a_config(otel="1"), wanted(otel="2")) != state_of(a_config(otel="1"), wanted())
    assert state_of(NO_CONFIG, wanted()) == ""


def test_a_plan_tells_an_older_state_from_the_revision() -> None:
    assert plain(older("web-0123456789")) == plain("web-0123456789") == "web-0123456789"
    assert older("web-0123456789") != "web-0123456789"


# The record


def test_a_record_without_any_is_what_it_always_was() -> None:
    record = Record(entries={WEB: Entry(revision="web-0123456789")})
    assert text_of(record) == '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-0123456789"}}}'


def test_the_record_brings_back_what_was_written() -> None:
    note = Note(previous=older("web-0123456789"), config=a_config(otel="1"), failed="web-0123456789#2+abc")
    record = Record(
        entries={WEB: Entry(revision="web-0123456789", config=a_config("r", otel="2", vault="3"), note=note)}
    )
    assert parse(text_of(record)) == record


@pytest.mark.parametrize(
    "config",
    [[], "x", {"hashes": []}, {"hashes": {"Pod/otel": "1"}}, {"hashes": {"ConfigMap/otel": 1}}, {"restart": ""}],
)
def test_a_mangled_one_is_told(config: Any) -> None:
    with pytest.raises(Mangled):
        parse(json.dumps({"policies": {str(WEB): {"revision": "web-1", "config": config}}}))


def test_a_halt_brings_back_what_may_be_edited_to_end_it() -> None:
    halt = Halt(id="web-1#1", reason="r", since="s", configs=(("shop", ((OTEL, "1"), (VAULT, "2"))),))
    assert halt_of(halt_text(halt)) == halt
    assert halt_text(replace(halt, configs=())) == '{"id":"web-1#1","reason":"r","since":"s"}'


# The Pod template


def test_a_restart_changes_one_annotation_and_goes_with_the_policy() -> None:
    injected, record = inject(a_template(), [replace(REVISION, config=a_config(otel="1"))], Record())
    assert told(injected) is None, "the first Pods need none"
    config = advanced(a_config(otel="1"), wanted(otel="2"))
    restarted, after = inject(injected, [replace(REVISION, config=config)], record)
    assert told(restarted) == f"web@{config.restart}"
    assert after.entries[WEB].config == config
    assert inject(restarted, [REVISION], after) == (restarted, after), "as recorded where nothing else is said"
    assert inject(restarted, [replace(REVISION, config=a_config(otel="1"))], after) == (injected, record)
    assert eject(restarted, after) == a_template()


def test_what_somebody_took_off_the_template_is_not_put_back() -> None:
    config = a_config("x", otel="1")
    restarted, record = inject(a_template(), [replace(REVISION, config=config)], Record())
    taken = {**restarted, "metadata": {"labels": {"tier": "web"}}}
    assert inject(taken, [replace(REVISION, config=config)], record) == (taken, record)
    assert eject(taken, record) == a_template()


def test_an_orphaned_template_stays_as_it_is() -> None:
    restarted, record = inject(a_template(), [replace(REVISION, config=a_config("x", otel="1"))], Record())
    assert compose(restarted, record, {}, orphaned=frozenset({WEB})).template == restarted


def test_the_annotation_of_a_template_is_no_mark_that_is_not_known() -> None:
    assert not invalid_marks({}, {}, {}, {names.CONFIG: "web@0123456789"})
    assert invalid_marks({}, {}, {names.CONFIG: "x"}, {})


# A record that comes from Git


@pytest.mark.parametrize(
    ("metadata", "declared"),
    [
        ({}, False),
        ({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"metadata":{}}'}}, False),
        ({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": f'"{names.RECORD}'}}, False),
        (
            {
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": json.dumps(
                        {"metadata": {"annotations": {names.RECORD: "{}"}}}
                    )
                }
            },
            True,
        ),
        *(
            (
                {
                    "managedFields": [
                        {
                            "manager": manager,
                            "operation": operation,
                            "fieldsV1": {"f:metadata": {"f:annotations": {f"f:{names.RECORD}": {}}}},
                        }
                    ]
                },
                found,
            )
            for manager, operation, found in (
                ("kustomize-controller", "Apply", True),
                ("helm", "Update", True),
                ("kubectl-edit", "Update", False),
                (names.FIELD_MANAGER, "Update", False),
            )
        ),
    ],
)
def test_a_record_that_somebody_applies_is_known(metadata: Json, declared: bool) -> None:
    assert claims_of(metadata).record_is_declared is declared


# The policy


def decoded(**restart_on: Any) -> RestartOn:
    return decode_policy(a_policy(restartOn=restart_on)).restart_on


def test_names_are_read_in_one_order() -> None:
    assert decoded(configMaps=["b", "a"], secrets=["c"]).objects == (
        ConfigObject("ConfigMap", "a"),
        ConfigObject("ConfigMap", "b"),
        ConfigObject("Secret", "c"),
    )


@pytest.mark.parametrize(
    ("restart_on", "problem"),
    [
        ({}, "spec.restartOn: must name a ConfigMap or a Secret"),
        ({"configMaps": []}, "spec.restartOn: must name a ConfigMap or a Secret"),
        ({"configMaps": ["A"]}, "spec.restartOn.configMaps[0]: must be the name of a ConfigMap, not 'A'"),
        ({"secrets": ["a", ""]}, "spec.restartOn.secrets[1]: must be the name of a Secret, not ''"),
        ({"secrets": ["a", "a"]}, "spec.restartOn.secrets[1]: must not appear twice: 'a'"),
        ({"secrets": [f"a{n}" for n in range(17)]}, "spec.restartOn.secrets: must hold at most 16 names, not 17"),
        ({"configmaps": ["a"]}, "spec.restartOn.configmaps: must be one of configMaps, secrets; is it misspelt?"),
        ({"configMaps": "a"}, "spec.restartOn.configMaps: must be a list, not a string ('a')"),
    ],
)
def test_what_is_wrong_with_it_is_told_with_its_place(restart_on: Json, problem: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        decode_policy(a_policy(restartOn=restart_on))
    assert problem in map(str, raised.value.problems)


def test_it_is_no_part_of_a_revision() -> None:
    assert decode_policy(a_policy(restartOn={"secrets": ["a"]})).words == decode_policy(a_policy()).words


# Laws, over revisions that have restarted or not, and owners who annotate their Pods

CONFIGS = st.sampled_from([None, NO_CONFIG, a_config(otel="1"), a_config("x", otel="1"), a_config("y", otel="2")])


@given(x=templates(), policies=revisions(), e=edits(), data=st.data())
def test_ejecting_undoes_every_restart(x: Json, policies: list[Revision], e: Edit, data: st.DataObject) -> None:
    def configured() -> list[Revision]:
        return [replace(each, config=data.draw(CONFIGS)) for each in policies]

    one, record_of_one = inject(x, configured(), Record())
    after = configured()
    two, record = inject(one, after, record_of_one)
    assert inject(two, after, record) == (two, record)
    assert eject(two, record) == x
    adopted = {ItemKey(INIT_CONTAINERS, name) for entry in record.entries.values() for name in entry.adopted}
    ours = record.items | adopted
    assert eject(e(two, ours), record)["spec"] == e(x, ours)["spec"]


@given(hashes=st.dictionaries(st.sampled_from(["otel", "vault"]), st.sampled_from("123")), data=st.data())
def test_a_step_leaves_nothing_changed_and_a_second_one_changes_nothing(hashes: Json, data: st.DataObject) -> None:
    known = wanted(**data.draw(st.dictionaries(st.sampled_from(["otel", "vault"]), st.sampled_from("123"))))
    config = a_config(**hashes)
    after = advanced(config, known)
    assert changed(after, known) == ()
    assert advanced(after, known) == kept(after, known) == after
    assert (after.restart != config.restart) == bool(changed(config, known))
    assert changed(kept(config, known), known) == changed(config, known)


# Restarts: who proves, and since when

CART = Target(workload=WorkloadId(namespace="shop", name="cart"), state=State.UPDATED, revision="web-1")


def test_only_a_restart_since_such_restarts_began_proves_its_namespace() -> None:
    new = replace(CART, evidence=True, config=a_config(otel="1"))
    proven = (counting.PROVEN_IN, "shop")
    assert proven not in counting.additions_of(new, wanted=True, update="web-1").tallies
    assert proven in counting.additions_of(replace(new, proves_config=True), wanted=True, update="web-1").tallies


@pytest.mark.parametrize(("clock", "stepped"), [(995.0, 1000.0), (1007.9, 1007.0)])
def test_a_leader_whose_clock_is_behind_restarts_nothing_before_such_restarts_began(
    clock: float, stepped: float
) -> None:
    behind = replace(CART, state=State.PENDING, revision=older("web-1"), changed=(OTEL,))
    state = RolloutState(
        policy=WEB, rollout=Rollout(), update="web-1", current="web-1", stored={"web-1"}, config_since=1000.5
    )
    fleet = Fleet("web-1")
    fleet.put(behind, wanted=True)
    (step,) = steps(state, fleet, {})
    note = _stamped(step, clock).note
    assert note.stepped == stepped
    assert is_config_step("web-1", note, state.config_since)
