"""What comes of an answer of the API server's, or of whoever stands before it, and what an Event may say."""

from __future__ import annotations

import pytest

from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import Transient
from sidecarpolicy.kube.events import cut
from sidecarpolicy.kube.wire import MOST_WAIT, decoded, error_of


@pytest.mark.parametrize(
    ("header", "seconds"), [("5", 5.0), ("86400", MOST_WAIT), ("9" * 400, MOST_WAIT), ("Mon, 30 Nov 2026", None)]
)
def test_nobody_is_left_alone_for_long_because_an_answer_asks_for_it(header: str, seconds: float | None) -> None:
    error = error_of("patch", "deployments shop/cart", b"", status=429, phrase="slow down", retry_after=header)
    assert isinstance(error, Transient)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": "\\ud800"}', {"a": "?"}),
        (b'{"\\udc00": ["b"]}', {"?": ["b"]}),
    ],
)
def test_half_a_character_in_one_object_keeps_no_other_from_being_read(text: bytes, value: Json) -> None:
    assert decoded(text) == value


@pytest.mark.parametrize("text", [b"", b"<html>", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_told_as_that(text: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        decoded(text)


@pytest.mark.parametrize(("text", "left"), [("short", "short"), ("äöü", "ä…"), ("\ud800", "?")])
def test_what_an_event_says_fits_and_can_be_written(text: str, left: str) -> None:
    assert cut(text, 5) == left
