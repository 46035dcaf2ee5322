"""How Kubernetes spells names, labels and what it merges lists by: checks over a cursor."""

from __future__ import annotations

import re
from typing import Any

from sidecarpolicy.core.likeness import LIST_KEYS
from sidecarpolicy.core.reading import Cursor

# Fields of a container that are read as mappings, and not only passed on.
MAPPINGS = ("lifecycle", "livenessProbe", "readinessProbe", "resources", "securityContext", "startupProbe")

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


def given(cursor: Cursor) -> str:
    """Return the text at *cursor*, which must not be empty."""
    if cursor.value in (None, ""):
        cursor.wrong("must be given")
    return cursor.text()


def container_parts(container: Cursor) -> None:
    """Note what in a container has another type than it is read as; the rest of it is for the API server to check.

    Read are some mappings, and in the lists that Kubernetes merges by key the key of every entry.
    """
    for field in MAPPINGS:
        container.field(field).mapping()
    for claim in container.field("resources").field("claims").entries():
        claim.mapping()
    for listed, (key, *_) in LIST_KEYS.items():
        for entry in container.field(listed).entries():
            entry.mapping()
            if listed == "ports":
                entry.field(key).integer(1, least=1, most=65535)
                entry.field("protocol").text()
            else:
                given(entry.field(key))


def encodable(cursor: Cursor) -> None:
    """Note every text at any depth that UTF-8 cannot hold: JSON can have half a surrogate pair.

    No API server sends one. It could neither be hashed nor be told.
    """
    match cursor.value:
        case str() as text if not is_encodable(text):
            cursor.wrong("must be Unicode, not half a surrogate pair")
        case dict() as fields:
            for name in fields:
                if not isinstance(name, str):
                    continue
                if is_encodable(name):
                    encodable(cursor.field(name))
                else:
                    cursor.wrong("must have Unicode as keys, not half a surrogate pair")
        case list():
            for entry in cursor.entries():
                encodable(entry)


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold *text*: JSON can have half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
