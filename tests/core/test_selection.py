"""Label selection as metav1.LabelSelector means it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.decode import decode_selector
from sidecarpolicy.core.reading import Cursor
from sidecarpolicy.core.selection import EVERYTHING, Selector, SelectorIndex
from sidecarpolicy.core.tree import Json


def selector(**fields: object) -> Selector:
    """Decode a LabelSelector."""
    cursor = Cursor(fields, "spec.selector")
    decoded = decode_selector(cursor)
    assert not cursor.problems
    return decoded


def expression(operator: str, *values: str) -> Json:
    """One requirement on the label `tier`."""
    return {"key": "tier", "operator": operator, **({"values": list(values)} if values else {})}


WEB, DB, EMPTY, ABSENT = {"tier": "web"}, {"tier": "db"}, {"tier": ""}, {"app": "web"}


@pytest.mark.parametrize(
    ("requirement", "selected", "not_selected"),
    [
        (expression("In", "web"), [WEB], [DB, EMPTY, ABSENT]),
        (expression("In", "web", "db"), [WEB, DB], [EMPTY, ABSENT]),
        (expression("In", ""), [EMPTY], [WEB, DB, ABSENT]),
        (expression("NotIn", "web"), [DB, EMPTY, ABSENT], [WEB]),
        (expression("NotIn", "web", "db"), [EMPTY, ABSENT], [WEB, DB]),
        (expression("Exists"), [WEB, DB, EMPTY], [ABSENT]),
        (expression("DoesNotExist"), [ABSENT], [WEB, DB, EMPTY]),
    ],
    ids=lambda value: str(value.get("operator")) if isinstance(value, dict) and "operator" in value else None,
)
def test_operators(requirement: Json, selected: list[dict[str, str]], not_selected: list[dict[str, str]]) -> None:
    chosen = selector(matchExpressions=[requirement])
    assert all(chosen.matches(labels) for labels in selected)
    assert not any(chosen.matches(labels) for labels in not_selected)


def test_match_labels_must_all_hold() -> None:
    chosen = selector(matchLabels={"tier": "web", "team": "shop"})
    assert chosen.matches({"tier": "web", "team": "shop", "other": "x"})
    assert not chosen.matches({"tier": "web"})
    assert not chosen.matches({"tier": "web", "team": "else"})


def test_labels_and_expressions_must_both_hold() -> None:
    chosen = selector(matchLabels={"team": "shop"}, matchExpressions=[expression("NotIn", "db")])
    assert chosen.matches({"team": "shop"})
    assert chosen.matches({"team": "shop", "tier": "web"})
    assert not chosen.matches({"team": "shop", "tier": "db"})
    assert not chosen.matches({"tier": "web"})


@pytest.mark.parametrize("empty", [{}, {"matchLabels": {}}, {"matchLabels": None, "matchExpressions": []}])
def test_an_empty_selector_selects_everything(empty: Json) -> None:
    assert selector(**empty) == EVERYTHING
    assert EVERYTHING.matches({})


LABELS = st.dictionaries(st.sampled_from(["tier", "app"]), st.sampled_from(["web", "db", ""]))
VALUES = st.lists(st.sampled_from(["web", "db", ""]), min_size=1, max_size=3)


@given(LABELS, VALUES)
def test_opposites_are_opposite(labels: dict[str, str], values: list[str]) -> None:
    def matches(*requirement: str) -> bool:
        return selector(matchExpressions=[expression(*requirement)]).matches(labels)

    assert matches("In", *values) != matches("NotIn", *values)
    assert matches("Exists") != matches("DoesNotExist")


@given(LABELS, st.permutations([expression("In", "web"), expression("Exists"), expression("NotIn", "db")]))
def test_the_order_of_requirements_means_nothing(labels: dict[str, str], expressions: list[Json]) -> None:
    assert selector(matchExpressions=expressions).matches(labels) == (labels.get("tier") == "web")


REQUIREMENTS = st.one_of(
    st.builds(expression, st.sampled_from(["In", "NotIn"]), st.sampled_from(["web", "db", ""])),
    st.builds(expression, st.just("In"), st.just("web"), st.just("db")),
    st.sampled_from([expression("Exists"), expression("DoesNotExist")]),
    st.builds(lambda value: {"key": "app", "operator": "In", "values": [value]}, st.sampled_from(["web", "db"])),
)
SELECTORS = st.builds(lambda found: selector(matchExpressions=found), st.lists(REQUIREMENTS, max_size=3))
WRITES = st.lists(st.tuples(st.integers(0, 3), st.none() | SELECTORS), max_size=12)


@given(WRITES, st.lists(LABELS, min_size=1, max_size=4))
def test_an_index_misses_no_selector_and_gives_none_twice(
    writes: list[tuple[int, Selector | None]], objects: list[dict[str, str]]
) -> None:
    index, there = SelectorIndex[int](), dict[int, Selector]()
    for key, written in writes:
        if written is None:
            index.drop(key)
            there.pop(key, None)
        else:
            index.put(key, written)
            there[key] = written
    for labels in objects:
        found = list(index.candidates(labels))
        assert len(found) == len(set(found))
        assert {key for key, each in there.items() if each.matches(labels)} <= set(found) <= there.keys()


def test_an_index_leaves_out_who_wants_another_value() -> None:
    index = SelectorIndex[str]()
    for tier in ("web", "db"):
        index.put(tier, selector(matchLabels={"tier": tier}, matchExpressions=[expression("Exists")]))
    assert list(index.candidates({"app": "x", "tier": "db"})) == ["db"]
    index.drop("db")
    assert list(index.candidates({"app": "x", "tier": "db"})) == []
