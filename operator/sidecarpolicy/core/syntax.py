"""How Kubernetes spells names and labels, and lists whose entries are all different: checks over a cursor."""

from __future__ import annotations

import re
from typing import Any

from sidecarpolicy.core.reading import Cursor

DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def label_key(cursor: Cursor) -> str:
    """Return the key of a label at *cursor*."""
    key = cursor.text()
    if not LABEL_KEY.fullmatch(key):
        cursor.wrong(f"must be the key of a label, not {key!r}")
    return key


def label_value(cursor: Cursor) -> str:
    """Return the value of a label at *cursor*."""
    value = cursor.text()
    if cursor.absent or not LABEL_VALUE.fullmatch(value):
        cursor.wrong(f"must be the value of a label, not {cursor.value!r}")
    return value


def dns_label(cursor: Cursor) -> str:
    """Return the DNS label at *cursor*."""
    name = cursor.text()
    if not DNS_LABEL.fullmatch(name):
        cursor.wrong(f"must be a DNS label (lower-case letters, digits and '-', at most 63), not {name!r}")
    return name


def unique_values(cursor: Cursor) -> None:
    """Note every entry of a list that is there twice."""
    seen: list[Any] = []
    for entry in cursor.entries():
        if entry.value in seen:
            entry.wrong(f"must not appear twice: {entry.value!r}")
        seen.append(entry.value)


def unique(cursor: Cursor, key: str) -> None:
    """Note every entry of a list whose *key* another one has."""
    seen: set[Any] = set()
    for entry in cursor.entries():
        value = entry.field(key).value
        if isinstance(value, str) and value in seen:
            entry.field(key).wrong(f"must not appear twice: {value!r}")
        seen.add(value) if isinstance(value, str) else None
