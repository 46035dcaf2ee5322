"""What the CustomResourceDefinitions say of a policy, checked without an API server.

The schema is the one that an API server has, without its texts; what its rules say in CEL `core.decode` says too.
A number with a fraction where a quantity belongs, a misspelt field, a list where a text belongs: all of these an API
server refuses, and `core.decode` leaves the containers' own fields to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from sidecarpolicy.cli.hints import did_you_mean

Schema = Mapping[str, Any]

TYPES: Mapping[str, tuple[type, str]] = {
    "object": (dict, "an object"),
    "array": (list, "a list"),
    "string": (str, "a text"),
    "boolean": (bool, "true or false"),
}
# What belongs into a container, and stands beside it with those who come from Deployments.
CONTAINER = "container"


@cache
def spec_schema() -> Schema:
    """Return the schema of a ClusterSidecarPolicy's spec; a SidecarPolicy's is that without namespaceSelector."""
    text = (files("sidecarpolicy.cli") / "policy_schema.json").read_text(encoding="utf-8")
    found: Schema = json.loads(text)
    return found


def schema_problems(value: object, schema: Schema, path: str) -> Iterator[str]:
    """Yield what is wrong with *value*, as `path: must be …`; null is as if it were not there."""
    if value is None:
        return
    if schema.get("x-kubernetes-int-or-string"):
        yield from _of_int_or_text(value, schema, path)
        return
    kind = schema.get("type", "")
    if kind in ("integer", "number"):
        yield from _of_number(value, schema, path)
        return
    wanted, said = TYPES.get(kind, (object, ""))
    if not isinstance(value, wanted):
        quote = f': write "{value}"' if kind == "string" and isinstance(value, int | float | bool) else ""
        yield f"{path}: must be {said}, not {shown(value)}{quote}"
        return
    match value:
        case dict():
            yield from _of_object(value, schema, path)
        case list():
            yield from _of_list(value, schema, path)
        case str():
            yield from _of_text(value, schema, path)


def _of_object(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[str]:
    known: Mapping[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for key in schema.get("required", ()):
        if value.get(key) is None:
            yield f"{path}: must have {key}"
    if (most := schema.get("maxProperties")) is not None and len(value) > most:
        yield f"{path}: must have at most {most} entries, and has {len(value)}"
    for key, each in value.items():
        if key in known:
            yield from schema_problems(each, known[key], f"{path}.{key}")
        elif isinstance(others, Mapping):
            yield from schema_problems(each, others, f"{path}[{key}]")
        elif known:
            yield f"{path}.{key}: {unknown_field(key, known)}"


def unknown_field(key: str, known: Mapping[str, Schema]) -> str:
    """Return what is said of a field that does not belong where it stands."""
    inside = known.get(CONTAINER, {}).get("properties", {})
    if key in inside:
        return f"belongs under {CONTAINER}"
    return f"is not known here; {did_you_mean(known, key)}"


def _of_list(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{path}: must have at least {schema['minItems']} entry"
    if (most := schema.get("maxItems")) is not None and len(value) > most:
        yield f"{path}: must have at most {most} entries, and has {len(value)}"
    for number, each in enumerate(value):
        if each is None:
            yield f"{path}[{number}]: must not be empty"
        yield from schema_problems(each, schema.get("items", {}), f"{path}[{number}]")


def _of_text(value: str, schema: Schema, path: str) -> Iterator[str]:
    if (allowed := schema.get("enum")) is not None and value not in allowed:
        yield f"{path}: must be {' or '.join(filter(None, [', '.join(allowed[:-1]), allowed[-1]]))}, not {value!r}"
    if len(value) < schema.get("minLength", 0):
        yield f"{path}: must not be empty"
    if (most := schema.get("maxLength")) is not None and len(value) > most:
        yield f"{path}: must be at most {most} characters long, and has {len(value)}"
    if (pattern := schema.get("pattern")) is not None and not re.search(pattern, value):
        yield f"{path}: {_pattern(pattern, value)}"


def _of_number(value: object, schema: Schema, path: str) -> Iterator[str]:
    whole = schema["type"] == "integer"
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and value != int(value)):
        yield f"{path}: must be a {'whole ' if whole else ''}number, not {shown(value)}"
        return
    least, most = schema.get("minimum"), schema.get("maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = " and ".join(
            [*([f"at least {least}"] if least is not None else []), *([f"at most {most}"] if most is not None else [])]
        )
        yield f"{path}: must be {bounds}, not {value}"


def _of_int_or_text(value: object, schema: Schema, path: str) -> Iterator[str]:
    pattern = schema.get("pattern", "")
    if isinstance(value, float) and not isinstance(value, bool):
        # The API server does not take a floating point number here.
        yield f'{path}: must be a whole number or a text, not {value}: write "{value:g}"'
    elif isinstance(value, bool) or not isinstance(value, int | str):
        yield f"{path}: must be a whole number or a text, not {shown(value)}"
    elif isinstance(value, str) and pattern and not re.search(pattern, value):
        yield f"{path}: {_pattern(pattern, value)}"


def _pattern(pattern: str, value: str) -> str:
    if "KMGTPE" in pattern:
        return f"must be a quantity such as 100m, 0.5 or 128Mi, not {value!r}"
    return f"must match {pattern}, and is {value!r}"


def shown(value: object) -> str:
    """Return a value as its author sees it."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return repr(value)
        case _:
            return json.dumps(value)
