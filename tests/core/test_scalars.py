"""Scalars of YAML: read as kubectl reads them, and written so that they stay what they are."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.cli import manifests
from sidecarpolicy.manifests import parse


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_string_stays_a_string(text: str) -> None:
    body = {"data": {"text": text, text: 1}}
    written = manifests.yaml_of(body)
    assert yaml.safe_load(written) == body
    (again,) = parse(written, "test").documents
    assert again.value == body


@pytest.mark.parametrize(
    "text", ["y", "N", "on", "1e3", "0o17", "017", "1:30", "2025-01-01", "~", "=", "<<", ".5", "1_000"]
)
def test_strings_that_look_like_something_else_are_quoted(text: str) -> None:
    assert manifests.yaml_of({"a": text}) == f"a: '{text}'\n"


def test_scalars_are_read_as_kubectl_reads_them() -> None:
    text = "{a: 1:30, b: 2025-01-01, c: 1e3, d: 0644, e: 0o644, f: on, g: , h: 0x1F, i: -0.5, y: 1}"
    (document,) = parse(text, "test").documents
    assert document.value == {
        "a": "1:30",
        "b": "2025-01-01",
        "c": 1000.0,
        "d": 420,
        "e": 420,
        "f": True,
        "g": None,
        "h": 31,
        "i": -0.5,
        "true": 1,
    }


@pytest.mark.parametrize(
    ("spelt", "read"),
    [
        *((each, True) for each in ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")),
        *((each, False) for each in ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")),
        *((each, None) for each in ("~", "null", "Null", "NULL")),
        *((each, each) for each in ("yES", "tRUE", "oN", "nULL", "1:30", "2025-01-01", "2025-01-01T00:00:00Z", "0o8")),
        *(("1_000", 1000), ("0b11", 3), ("+1", 1), (".5", 0.5), ("1e3", 1000), ("-0x1F", -31), ("1.0", 1)),
    ],
)
def test_a_word_is_what_kubectl_makes_of_it(spelt: str, read: object) -> None:
    """As go.yaml.in/yaml/v2 has it (resolve.go), and yaml.v3 or PyYAML have not (yaml/pyyaml#272)."""
    (document,) = parse(f"spec:\n  paused: {spelt}\n", "test").documents
    found = document.value["spec"]["paused"]
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("spelt", [".inf", "-.INF", "+.Inf", ".nan", ".NaN"])
def test_a_number_that_json_cannot_hold_is_refused_with_its_line(spelt: str) -> None:
    with pytest.raises(manifests.BadInput, match=r"test, line 2.*is no number in JSON"):
        _ = parse(f"spec:\n  replicas: {spelt}\n", "test").documents[0].value


def test_texts_of_many_lines_stay_readable() -> None:
    assert manifests.yaml_of({"a": "first\n  second\n"}) == "a: |\n  first\n    second\n"
