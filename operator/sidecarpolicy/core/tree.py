"""The JSON of Kubernetes as the core sees it: plain dicts and lists, never changed in place.

Unknown fields pass through untouched. A function that returns JSON returns new containers wherever it changed
something and may share everything else with its input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

Json = dict[str, Any]

_COMPACT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def compact(value: object) -> str:
    """Return JSON without white space and with sorted keys: equal values give equal text."""
    return _COMPACT.encode(value)


def loaded(text: str) -> Any:
    """Return the value of JSON that anybody may have written in an annotation. Raise ValueError or RecursionError.

    Half a surrogate pair, which JSON can hold and UTF-8 cannot, is none: it could never be told or written again.
    """
    value = json.loads(text)
    if "\\u" in text or not text.isascii():
        compact(value).encode()
    return value


def packed(value: object) -> bytes:
    """Return JSON as bytes, in the order of the fields; `unpacked` gives an equal value back.

    orjson takes a fifth of the standard library's time; what it will not take (an integer of more than 64 bits, half a
    surrogate pair: no API server sends them, a file may have them) the standard library does. What orjson returns
    keeps the whole buffer that it was written into, 8 KiB at least, so a copy of it is returned.
    """
    try:
        return bytes(memoryview(orjson.dumps(value)))
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def unpacked(text: bytes) -> Any:
    """Return the value that `packed` made *text* of."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def at(value: Mapping[str, Any] | None, *path: str) -> Json:
    """Return the mapping at *path*, or an empty one where any step is absent or null."""
    for key in path:
        value = value.get(key) if value else None
    found: Json | None = value  # type: ignore[assignment]  # by contract there are only plain dicts
    return found or {}


def items(value: Mapping[str, Any] | None, key: str) -> list[Json]:
    """Return the list of mappings under *key*; absent and null are the same as empty, as the API server has it."""
    found: list[Json] | None = value.get(key) if value else None
    return found or []


def without_nulls(value: Any) -> Any:
    """Return *value* without the fields that are null, at any depth: null is nothing, as the API server has it."""
    match value:
        case dict():
            return {key: without_nulls(field) for key, field in value.items() if field is not None}
        case list():
            return [without_nulls(each) for each in value]
        case _:
            return value


def with_items(value: Json, key: str, content: list[Json]) -> Json:
    """Return *value* with *content* under *key*, and without the key where that is empty."""
    if content:
        return {**value, key: content}
    return {name: field for name, field in value.items() if name != key}
