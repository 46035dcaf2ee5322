"""Manifests as text: what is read, where it stands, and that a change leaves everything else as it was."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sidecarpolicy.manifests import Edits, Unspliceable, block, flow, parse

# Layouts are filtered for those that can be changed at all, and machines are busy.
settings.register_profile("texts", deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS_PROFILE = settings.get_profile("texts")

# Values and texts of every style

TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(["y", "no", "~", "1:30", "0644", "1e3", "a: b", "# c", "x\ny\n", " x\n", "-", "{", "*a", "&a"])
KEYS = st.one_of(st.sampled_from(["name", "image", "env", "args", "on", "1", "a b"]), st.text(max_size=4))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXTS, WORDS)


def collections(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(children, max_size=3), st.dictionaries(KEYS, children, max_size=3))


VALUES = st.recursive(SCALARS, collections, max_leaves=12)
MAPPINGS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4)


class Writer:
    """Writes a value as people do: any indentation, comments, empty lines, brackets here and there."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.step = draw(st.sampled_from([2, 4, 3]))
        self.dashes = draw(st.sampled_from([0, 2]))

    def comment(self) -> str:
        return self.draw(st.sampled_from(["", "", "", " # c", "   # - x: y"]))

    def between(self) -> list[str]:
        return self.draw(st.sampled_from([[], [], [], [""], ["# - c"], ["", "# c", ""]]))

    def lines(self, value: Any) -> list[str]:
        if isinstance(value, dict) and value:
            return [line for key, content in value.items() for line in self.entry(flow(key), content)]
        if isinstance(value, list) and value:
            return [line for content in value for line in self.item(content)]
        return [flow(value) + self.comment()]

    def entry(self, key: str, value: Any) -> list[str]:
        in_block = self.draw(st.booleans())
        if value and isinstance(value, dict | list) and in_block:
            by = self.step if isinstance(value, dict) else self.dashes
            below = [*self.between(), *self.lines(value)]
            return [*self.between(), f"{key}:{self.comment()}", *(" " * by + line if line else "" for line in below)]
        if isinstance(value, str) and "\n" in value:
            first, *rest = block({"k": value})
            return [f"{key}:{first[2:]}", *rest]
        if value is None and in_block:
            return [f"{key}:{self.comment()}"]
        return [*self.between(), f"{key}: {flow(value)}{self.comment()}"]

    def item(self, value: Any) -> list[str]:
        if value and isinstance(value, dict | list) and self.draw(st.booleans()):
            first, *rest = self.lines(value)
            if not first.strip() or first.lstrip().startswith("#"):
                return ["-", *("  " + line if line else "" for line in [first, *rest])]
            return [*self.between(), "- " + first, *("  " + line if line else "" for line in rest)]
        return [f"- {flow(value)}{self.comment()}"]


@st.composite
def written(draw: st.DrawFn, values: st.SearchStrategy[Any] = MAPPINGS) -> tuple[Any, str]:
    """A mapping and a text of it: YAML or JSON, any line break, with and without the last one."""
    value = draw(values)
    match draw(st.sampled_from(["yaml", "yaml", "yaml", "flow", "json", "pretty", "tabs"])):
        case "yaml":
            text = "\n".join(Writer(draw).lines(value)) + "\n"
        case "flow":
            text = flow(value) + "\n"
        case "json":
            text = json.dumps(value, separators=draw(st.sampled_from([(",", ":"), (", ", ": ")]))) + "\n"
        case "tabs":
            text = json.dumps(value, indent="\t") + "\n"
        case _:
            text = json.dumps(value, indent=draw(st.sampled_from([2, 4])), ensure_ascii=False) + "\n"
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    if draw(st.booleans()):
        text = text.removesuffix("\n").removesuffix("\r")
        value = value_in(text)  # a block scalar at the end has lost its last break
    return value, text


def value_in(text: str) -> Any:
    """The value of the only document in *text*."""
    (document,) = parse(text, "test").documents
    return document.value


@TEXTS_PROFILE
@given(written())
def test_a_text_is_read_as_what_was_written(both: tuple[Any, str]) -> None:
    value, text = both
    assert value_in(text) == value


@TEXTS_PROFILE
@given(VALUES)
def test_every_value_can_be_written(value: Any) -> None:
    assert value_in("\n".join(block({"a": value})) + "\n") == {"a": value}
    assert value_in(flow({"a": value})) == {"a": value}
    assert yaml.safe_load("\n".join(block({"a": value})) + "\n") == {"a": value}


@TEXTS_PROFILE
@given(st.data(), written(), MAPPINGS)
def test_one_value_becomes_the_other(data: st.DataObject, both: tuple[Any, str], other: Any) -> None:
    before, text = both
    after = mixed(data, before, other)
    file = parse(text, "test")
    edits = Edits(file)
    for key in after:
        if key not in before:
            edits.set(file.documents[0], (key,), after[key])
    for key in before:
        if key not in after:
            edits.remove(file.documents[0], (key,))
        else:
            edits.become(file.documents[0], (key,), before[key], after[key])
    try:
        changed = edits.text()
    except Unspliceable:
        assume(False)
    assert value_in(changed) == after


def mixed(data: st.DataObject, one: Any, other: Any) -> Any:
    """A value with parts of both."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        chosen = {key: data.draw(st.sampled_from("onotherboth")) for key in keys}
        return {
            key: mixed(data, one.get(key), other.get(key))
            if key in one and key in other
            else one.get(key, other.get(key))
            for key in keys
            if chosen[key] != "h"
        }
    if isinstance(one, list) and isinstance(other, list):
        return data.draw(st.permutations([*one, *other]))[: data.draw(st.integers(0, 4))]
    return data.draw(st.sampled_from([one, other]))


EMPTY: st.SearchStrategy[Any] = st.sampled_from([None, [], {}])
SOMETHING = st.one_of(st.lists(VALUES, min_size=1, max_size=3), st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))


@TEXTS_PROFILE
@given(written(st.dictionaries(KEYS, st.one_of(EMPTY, VALUES), min_size=1, max_size=4)), KEYS, SOMETHING)
def test_clearing_undoes_filling(both: tuple[Any, str], key: str, value: Any) -> None:
    before, text = both
    assume(not before.get(key))
    if before.get(key) is not None:
        assume(type(before[key]) is type(value))
    file = parse(text, "test")
    edits = Edits(file)
    edits.fill(file.documents[0], (key,), value)
    try:
        filled = edits.text()
    except Unspliceable:
        assume(False)
    assert value_in(filled) == {**before, key: value}
    file = parse(filled, "test")
    edits = Edits(file)
    edits.clear(file.documents[0], (key,))
    assert edits.text() == text
