"""What a policy must look like, by the schema of its own CustomResourceDefinition: what the API server would refuse.

The definitions in crds/ are read as they are, so there is no second truth. Checked are types, enums, patterns, bounds,
required and unknown fields, and keys given twice; CEL rules are the decoder's, which says the same in Python. Two
things no schema says are checked besides, because the dry run of a cluster would: a probe has one handler, and its
numbers are not negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.reading import Problem
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.manifests import parse

HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_ARTICLES = {"object": "a mapping", "array": "a list", "string": "a string", "boolean": "true or false"}
_ARTICLES |= {"integer": "a whole number", "number": "a number"}


@cache
def schema_of(kind: str) -> Json:
    """Return the schema of the policy *kind*."""
    name = f"{names.PLURALS[kind]}.yaml"
    here = Path(__file__).parent.parent
    packaged, in_repository = here / "crds" / name, here.parent.parent / "crds" / name
    file = packaged if packaged.exists() else in_repository
    (document,) = parse(file.read_text(encoding="utf-8"), str(file)).documents
    schema: Json = document.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def policy_problems(body: Json) -> list[Problem]:
    """Return what the API server would refuse in the policy *body*."""
    schema = schema_of(body["kind"])
    found = list(_problems(body.get("spec"), schema["properties"]["spec"], "spec"))
    wrong = {problem.path for problem in found}
    spec = body.get("spec")
    listed = spec.get("sidecars") if isinstance(spec, dict) else None
    for index, sidecar in enumerate(listed if isinstance(listed, list) else ()):
        container = sidecar.get("container") if isinstance(sidecar, dict) else None
        if isinstance(container, dict):
            found += (
                each
                for each in _probe_problems(container, f"spec.sidecars[{index}].container")
                if each.path not in wrong
            )
    return found


def shape_problems(spec: Json, path: str) -> list[Problem]:
    """Return what in a Pod *spec* is of another type than Kubernetes has there; unknown fields are left alone."""
    policy = schema_of(names.POLICY)["properties"]["spec"]["properties"]
    container = policy["sidecars"]["items"]["properties"]["container"]
    volume = policy["volumes"]["items"]
    found: list[Problem] = []
    for listed, schema in (("initContainers", container), ("containers", container), ("volumes", volume)):
        for index, value in enumerate(items(spec, listed)):
            found += _problems(value, schema, f"{path}.{listed}[{index}]", only_types=True)
    return found


def _problems(value: Any, schema: Json, path: str, *, only_types: bool = False) -> Iterator[Problem]:
    if value is None:
        return  # null is nothing, as the API server has it
    if schema.get("x-kubernetes-int-or-string"):
        yield from _int_or_string(value, schema, path, only_types=only_types)
        return
    wanted = schema.get("type")
    if wanted in _TYPES and not _is_of(value, wanted):
        yield Problem(path=path, message=f"must be {_ARTICLES[wanted]}, not {_shown(value)}")
        return
    if not only_types:
        yield from _bounds(value, schema, path)
    if isinstance(value, dict):
        yield from _fields(value, schema, path, only_types=only_types)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _problems(each, schema.get("items", {}), f"{path}[{index}]", only_types=only_types)
        if not only_types:
            yield from _twice(value, schema, path)


def _fields(value: Json, schema: Json, path: str, *, only_types: bool) -> Iterator[Problem]:
    properties: Mapping[str, Json] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or not (properties or others)
    for name, content in value.items():
        if name in properties:
            yield from _problems(content, properties[name], f"{path}.{name}", only_types=only_types)
        elif isinstance(others, dict):
            yield from _problems(content, others, f"{path}.{name}", only_types=only_types)
        elif not is_open and not only_types:
            yield Problem(path=f"{path}.{name}", message=_unknown(name, properties))
    if not only_types:
        for name in schema.get("required", ()):
            if value.get(name) is None:
                everything = "; {} selects everything" if name in ("selector", "namespaceSelector") else ""
                yield Problem(path=f"{path}.{name}", message=f"must be given{everything}")


def _unknown(name: str, properties: Mapping[str, Json]) -> str:
    for parent, schema in properties.items():
        if name in schema.get("properties", {}):
            return f"must not stand here: it belongs under {parent}"
    if name == "namespaceSelector":  # a SidecarPolicy has none, nor have its canary groups
        return "must not be given: only a ClusterSidecarPolicy selects namespaces"
    near = get_close_matches(name, properties, 1)
    return f"must not be given: there is no such field{f'; did you mean {near[0]}?' if near else ''}"


def _bounds(value: Any, schema: Json, path: str) -> Iterator[Problem]:
    if "enum" in schema and value not in schema["enum"]:
        yield Problem(path=path, message=f"must be one of {', '.join(map(str, schema['enum']))}, not {value!r}")
    if isinstance(value, str):
        yield from _text(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        least, most = schema.get("minimum"), schema.get("maximum")
        if (least is not None and value < least) or (most is not None and value > most):
            yield Problem(path=path, message=f"must be {_between(least, most)}, not {value}")
    elif isinstance(value, list):
        least, most = schema.get("minItems"), schema.get("maxItems")
        if (least is not None and len(value) < least) or (most is not None and len(value) > most):
            yield Problem(path=path, message=f"must have {_between(least, most)} items, not {len(value)}")


def _text(value: str, schema: Json, path: str) -> Iterator[Problem]:
    least, most = schema.get("minLength"), schema.get("maxLength")
    if least is not None and len(value) < least:
        yield Problem(
            path=path, message="must not be empty" if least == 1 else f"must have {least} characters at least"
        )
    elif most is not None and len(value) > most:
        yield Problem(path=path, message=f"must have {most} characters at most, not {len(value)}")
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield Problem(path=path, message=f"must match {schema['pattern']}, as {value!r} does not")


def _int_or_string(value: Any, schema: Json, path: str, *, only_types: bool) -> Iterator[Problem]:
    pattern = schema.get("pattern", "")
    is_quantity = "KMGTPE" in pattern
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = f"must be a string or a whole number, not {_shown(value)}"
        yield Problem(
            path=path, message=message + (f": put it in quotes ('{value}')" if isinstance(value, float) else "")
        )
    elif isinstance(value, str) and pattern and not only_types and not re.search(pattern, value):
        wanted = "a quantity (100m, 0.5, 64Mi)" if is_quantity else f"of the form {pattern}"
        yield Problem(path=path, message=f"must be {wanted}, not {value!r}")


def _twice(value: list[Any], schema: Json, path: str) -> Iterator[Problem]:
    keys = schema.get("x-kubernetes-list-map-keys") if schema.get("x-kubernetes-list-type") == "map" else None
    if not keys:
        return
    seen: dict[tuple[str, ...], int] = {}
    for index, each in enumerate(value):
        if not isinstance(each, dict) or any(each.get(key) is None for key in keys if key != "protocol"):
            continue
        key = tuple(str(each.get(name, "TCP" if name == "protocol" else "")) for name in keys)
        if key in seen:
            where = f"{path}[{index}].{keys[0]}"
            yield Problem(path=where, message=f"must not be given twice: {path}[{seen[key]}] has it too")
        seen.setdefault(key, index)


def _probe_problems(container: Json, path: str) -> Iterator[Problem]:
    for name in PROBES:
        probe = container.get(name)
        if not isinstance(probe, dict):
            continue
        handlers = [each for each in HANDLERS if probe.get(each) is not None]
        if len(handlers) != 1:
            found = f"{' and '.join(handlers)}" if handlers else "none"
            message = f"must have one of {', '.join(HANDLERS)}, not {found}"
            yield Problem(path=f"{path}.{name}", message=message)
        for field, value in probe.items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 0:
                yield Problem(path=f"{path}.{name}.{field}", message=f"must not be negative, as {value} is")


def _is_of(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _between(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"between {least} and {most}"
    return f"at least {least}" if least is not None else f"at most {most}"


def _shown(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a mapping"}
    short = f" ({value!r})" if isinstance(value, bool | int | float | str) and len(str(value)) <= 40 else ""
    return kinds.get(type(value), type(value).__name__) + short
