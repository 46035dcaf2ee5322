"""The operator's log as machines read it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from sidecarpolicy.cli.logs import JsonFormatter


def a_record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    """A record of the logger a.b, at a known time."""
    record = logging.getLogger("a.b").makeRecord(
        "a.b", logging.WARNING, "file.py", 1, message, arguments, None, extra=extra
    )
    record.created = datetime(2026, 11, 29, 14, 30, 0, 250_000, tzinfo=UTC).timestamp()
    return record


def test_a_record_is_one_json_object_on_one_line() -> None:
    line = JsonFormatter().format(a_record('%s: "two\nlines"', "shop/cart"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-11-29T14:30:00.250Z",
        "level": "warning",
        "logger": "a.b",
        "message": 'shop/cart: "two\nlines"',
    }


def test_a_line_about_a_change_says_of_which_workload_and_to_which_revisions() -> None:
    record = a_record(
        "%s: %s", "shop/cart", "first", workload="shop/cart", revisions={"shop/web": "web-1", "old": None}
    )
    said = json.loads(JsonFormatter().format(record))
    assert said["workload"] == "shop/cart"
    assert said["revisions"] == {"shop/web": "web-1", "old": None}


def test_a_traceback_stays_on_the_line() -> None:
    record = a_record("failed")
    try:
        int("no number")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: invalid literal" in json.loads(line)["error"]
