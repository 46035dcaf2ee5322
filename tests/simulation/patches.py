"""JSON Patch (RFC 6902) and merge patch (RFC 7386) over JSON that is never changed in place: what stays is shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecarpolicy.core.tree import Json


class DoesNotFit(Exception):
    """A `test` failed, or a path is not there."""


def json_patched(document: Json, operations: Sequence[Json]) -> Json:
    """Return *document* after *operations*; raise DoesNotFit."""
    result: Any = document
    for each in operations:
        path = [step.replace("~1", "/").replace("~0", "~") for step in each["path"].split("/")[1:]]
        match each["op"]:
            case "test":
                if not equal(_found(result, path), each.get("value")):
                    raise DoesNotFit(f"test {each['path']}")
            case "add" | "replace" | "remove" as op:
                result = _changed(result, path, op, each.get("value"))
            case other:
                raise NotImplementedError(other)
    patched: Json = result
    return patched


def merge_patched(document: Any, patch: Any) -> Any:
    """Return *document* after the merge patch *patch*."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patched(result.get(key), value)
    return result


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; true is not 1 there."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _found(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        match document:
            case dict() if step in document:
                document = document[step]
            case list():
                document = document[_index(step, len(document) - 1)]
            case _:
                return None
    return document


def _changed(document: Any, path: Sequence[str], op: str, value: Any) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    match document:
        case dict():
            if (rest or op != "add") and step not in document:
                raise DoesNotFit(step)
            if not rest and op == "remove":
                return {key: each for key, each in document.items() if key != step}
            return {**document, step: _changed(document.get(step), rest, op, value)}
        case list() if not rest and op == "add":
            index = len(document) if step == "-" else _index(step, len(document))
            return [*document[:index], value, *document[index:]]
        case list():
            index = _index(step, len(document) - 1)
            if not rest and op == "remove":
                return [*document[:index], *document[index + 1 :]]
            return [*document[:index], _changed(document[index], rest, op, value), *document[index + 1 :]]
        case _:
            raise DoesNotFit(step)


def _index(step: str, most: int) -> int:
    if not step.isdecimal() or int(step) > most:
        raise DoesNotFit(step)
    return int(step)
