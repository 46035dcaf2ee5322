"""When an item is as it should be, and what it becomes when it moves to the next canonical form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.likeness import is_as_it_should_be, moved
from sidecarpolicy.core.tree import Json

CANONICAL: Json = {
    "name": "proxy",
    "image": "example.test/proxy:1",
    "args": ["--a", "--b"],
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
    "volumeMounts": [{"name": "logs", "mountPath": "/logs"}],
    "resources": {"requests": {"cpu": "50m"}},
    "restartPolicy": "Always",
    "lifecycle": {},
}


@pytest.mark.parametrize(
    "extra",
    [
        {"terminationMessagePath": "/dev/log"},
        {"env": [{"name": "X", "value": "x"}, *CANONICAL["env"]]},
        {"env": CANONICAL["env"][::-1]},
        {"env": [{"name": "A", "value": "1", "valueFrom": {}}, CANONICAL["env"][1]]},
        {"ports": [{"containerPort": 9, "protocol": "TCP"}, *CANONICAL["ports"]]},
        {"volumeMounts": [*CANONICAL["volumeMounts"], {"name": "token", "mountPath": "/token"}]},
        {"resources": {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"cpu": "1"}}},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
    ],
    ids=str,
)
def test_what_others_add_is_left_alone(extra: Json) -> None:
    live = {**CANONICAL, **extra}
    assert is_as_it_should_be(live, CANONICAL)
    assert moved(live, CANONICAL, CANONICAL) == live
    assert list(moved(live, CANONICAL, CANONICAL).get("env", [])) == live["env"], "not even the order changes"


def test_a_port_without_protocol_is_a_tcp_port() -> None:
    assert is_as_it_should_be({"ports": [{"containerPort": 80, "protocol": "TCP"}]}, {"ports": [{"containerPort": 80}]})
    assert not is_as_it_should_be(
        {"ports": [{"containerPort": 80, "protocol": "UDP"}]}, {"ports": [{"containerPort": 80}]}
    )


@pytest.mark.parametrize(
    "edit",
    [
        {"image": "example.test/proxy:2"},
        {"args": ["--a"]},
        {"args": ["--b", "--a"]},
        {"args": ["--a", "--b", "--c"]},
        {"args": None},
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "value": "2"}, {"name": "B", "value": "2"}]},
        {"ports": [{"containerPort": 80, "protocol": "TCP"}]},
        {"resources": {"requests": {"cpu": "51m"}}},
        {"resources": None},
        {"lifecycle": None},
        {"env": "A"},
    ],
    ids=str,
)
def test_what_somebody_edited_is_put_back_whole(edit: Json) -> None:
    live = {key: value for key, value in {**CANONICAL, "extra": 1, **edit}.items() if value is not None}
    assert not is_as_it_should_be(live, CANONICAL)
    assert moved(live, CANONICAL, CANONICAL) == CANONICAL


def test_a_move_keeps_what_others_added() -> None:
    added = {
        "terminationMessagePath": "/dev/log",
        "env": [{"name": "X", "value": "x"}, *CANONICAL["env"]],
        "resources": {"requests": {"cpu": "50m", "memory": "1Gi"}},
    }
    new = {**CANONICAL, "image": "example.test/proxy:2", "env": [{"name": "B", "value": "3"}]}
    assert moved({**CANONICAL, **added}, CANONICAL, new) == {
        **new,
        "terminationMessagePath": "/dev/log",
        "env": [{"name": "B", "value": "3"}, {"name": "X", "value": "x"}],
        "resources": {"requests": {"cpu": "50m", "memory": "1Gi"}},
    }


HTTP = {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 5}
TCP = {"tcpSocket": {"port": 80}, "periodSeconds": 5}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"name": "a", "readinessProbe": HTTP}, {"name": "a", "readinessProbe": TCP}),
        ({"name": "a", "emptyDir": {}}, {"name": "a", "configMap": {"name": "x"}}),
        ({"name": "A", "value": "1"}, {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        ({"name": "a", "readinessProbe": HTTP}, {"name": "a"}),
        ({"name": "a", "args": ["x"]}, {"name": "a"}),
        ({"name": "a", "env": [{"name": "A", "value": "1"}]}, {"name": "a"}),
        ({"name": "a", "env": [{"name": "A"}, {"name": "B"}]}, {"name": "a", "env": [{"name": "B"}, {"name": "A"}]}),
        (
            {"name": "a", "ports": [{"containerPort": 1, "protocol": "TCP"}]},
            {"name": "a", "ports": [{"containerPort": 2}]},
        ),
        ({"name": "a", "lifecycle": {"preStop": {"exec": {}}}}, {"name": "a", "lifecycle": {}}),
    ],
    ids=str,
)
def test_members_of_a_union_and_fields_that_are_gone_leave(old: Json, new: Json) -> None:
    assert moved(old, old, new) == new
    assert moved({**old, "added": 1}, old, new) == {**new, "added": 1}
    assert moved(moved(old, old, new), new, old) == old


def test_a_list_of_that_name_in_a_field_that_nobody_knows_is_moved_too() -> None:
    old, new = ({"name": "a", "value": {"volumeMounts": [{"mountPath": [tag]}]}} for tag in ("1", "2"))
    assert moved(old, old, new) == new


def test_an_item_of_an_unknown_form_is_replaced_whole() -> None:
    assert moved({**CANONICAL, "args": ["--old"], "tty": True}, None, CANONICAL) == CANONICAL
    assert moved({**CANONICAL, "readinessProbe": HTTP}, None, CANONICAL) == CANONICAL


def test_an_edited_item_is_not_merged_with_the_edit() -> None:
    old, new = {"name": "a", "image": "1", "args": ["x"]}, {"name": "a", "image": "2"}
    assert moved({"name": "a", "image": "mine", "args": ["x"], "tty": True}, old, new) == new


def test_an_item_that_somebody_has_moved_already_stays() -> None:
    old, new = {"name": "a", "image": "1"}, {"name": "a", "image": "2"}
    live = {"name": "a", "image": "2", "extra": True}
    assert moved(live, old, new) == live


VARIABLES: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"name": st.sampled_from("ABC"), "value": st.sampled_from("12")}
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from(["1", "2"]),
    "args": st.lists(st.sampled_from("xy"), min_size=1, max_size=2),
    "env": st.lists(VARIABLES, unique_by=lambda each: str(each["name"]), min_size=1, max_size=3),
    "probe": st.sampled_from([HTTP, TCP]),
    "lifecycle": st.just({}),
}
NAMED: dict[str, st.SearchStrategy[Any]] = {"name": st.just("a")}
ITEMS = st.fixed_dictionaries(NAMED, optional=FIELDS)


@given(ITEMS, ITEMS)
def test_a_move_of_an_untouched_item_is_the_new_form(old: Any, new: Any) -> None:
    assert moved(old, old, new) == new


@given(ITEMS, ITEMS, ITEMS)
def test_a_moved_item_is_as_it_should_be_and_moves_no_further(live: Any, old: Any, new: Any) -> None:
    once = moved(live, old, new)
    assert is_as_it_should_be(once, new)
    assert moved(once, new, new) == once
