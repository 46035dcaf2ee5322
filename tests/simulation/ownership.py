"""managedFields as far as they are read: who changed which item of a Deployment last, and when a status was written.

Server-side apply is here, too. Lists that Kubernetes merges by a key are merged by it; every other list is one value.
Fields of `status` are left out: nobody reads who owns them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from sidecarpolicy.core.tree import Json, at, items

Fields = dict[str, Any]
"""As `fieldsV1` has it: `{"f:spec": {"f:replicas": {}}}`."""

KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
}

# What managers can own of a Deployment's metadata.
OWNED_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")


def owned_part(body: Json) -> Json:
    """What of a Deployment somebody can own."""
    metadata = at(body, "metadata")
    kept = {key: metadata[key] for key in OWNED_METADATA if metadata.get(key)}
    return {"metadata": kept, "spec": at(body, "spec")}


def updated(entries: list[Json], before: Json, after: Json, manager: str, now: str) -> list[Json]:
    """Return managedFields after *manager* made *after* of *before* by an update: what it changed is its alone."""
    changed = changes(owned_part(before), owned_part(after))
    gone = changes(owned_part(after), owned_part(before))
    if not changed and not gone:
        return entries
    found = next((each for each in entries if _is_of(each, manager, "Update")), None)
    result = []
    for each in entries:
        if each is not found and (left := without(without(each["fieldsV1"], changed), gone)):
            result.append(each if left == each["fieldsV1"] else {**each, "fieldsV1": left})
    own = union(without(found["fieldsV1"] if found else {}, gone), changed)
    if own:
        when = now if found is None or own != found["fieldsV1"] or changed else found["time"]
        result.append(_entry(manager, "Update", own, when))
    return result


def told(entries: list[Json], manager: str, now: str) -> list[Json]:
    """Return managedFields after *manager* wrote the status: that it did, and when; not which fields of it."""
    others = [each for each in entries if "subresource" not in each]
    return [*others, {**_entry(manager, "Update", {"f:status": {}}, now), "subresource": "status"}]


def _is_of(entry: Json, manager: str, operation: str) -> bool:
    return (entry["manager"], entry["operation"], entry.get("subresource")) == (manager, operation, None)


def applied(body: Json, wanted: Json, manager: str, now: str) -> Json:
    """Return *body* after *manager* applied *wanted* by server-side apply with force."""
    entries = items(at(body, "metadata"), "managedFields")
    found = next((each for each in entries if _is_of(each, manager, "Apply")), None)
    own = owned_fields(owned_part(wanted))
    others = [each for each in entries if each is not found]
    held: Fields = {}
    for each in others:
        held = union(held, each["fieldsV1"])
    dropped = without(without(found["fieldsV1"], own), held) if found else {}
    result = _merged(_without_fields(body, dropped), owned_part(wanted))
    changed = changes(owned_part(body), owned_part(result))
    left = [
        {**each, "fieldsV1": fields}
        for each in others
        if (fields := without(without(each["fieldsV1"], changed), dropped))
    ]
    when = now if found is None or found["fieldsV1"] != own or changed else found["time"]
    metadata = {**at(result, "metadata"), "managedFields": [*left, _entry(manager, "Apply", own, when)]}
    return {**result, "metadata": metadata}


def _entry(manager: str, operation: str, fields: Fields, now: str) -> Json:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def changes(before: Any, after: Any) -> Fields:
    """The fields that are in *after* and not, or not so, in *before*."""
    if before is after:
        return {}
    result: Fields = {}
    for path, value, key in _parts(after):
        was = _part(before, path, key)
        if was is value:
            continue
        if isinstance(value, dict) and value and path != "f:fieldsV1":
            inner = changes(was if isinstance(was, dict) else {}, value)
        elif key in KEYS and isinstance(value, list) and value:
            inner = changes(_Listed(key, was if isinstance(was, list) else []), _Listed(key, value))
        else:
            if was != value:
                result[path] = {}
            continue
        if inner and path.startswith("k:") and was is None:
            inner = {".": {}, **inner}
        if inner:
            result[path] = inner
    return result


def owned_fields(value: Json) -> Fields:
    """All fields of an applied configuration."""
    return changes({}, value)


class _Listed:
    """A list that is merged by keys."""

    def __init__(self, name: str, value: list[Json]) -> None:
        self.by_key = {_key(name, each): each for each in value}


def _key(listed: str, item: Json) -> str:
    return _keyed(*((name, item.get(name, "TCP" if name == "protocol" else None)) for name in KEYS[listed]))


@functools.lru_cache(maxsize=4096)
def _keyed(*chosen: tuple[str, str | int | None]) -> str:
    return "k:" + json.dumps(dict(chosen), separators=(",", ":"))


def _parts(value: Any) -> Iterator[tuple[str, Any, str]]:
    if isinstance(value, _Listed):
        yield from ((path, each, "") for path, each in value.by_key.items())
    elif isinstance(value, dict):
        yield from ((f"f:{name}", each, name) for name, each in value.items())


def _part(value: Any, path: str, name: str) -> Any:
    if isinstance(value, _Listed):
        return value.by_key.get(path)
    return value.get(name) if isinstance(value, dict) else None


def without(fields: Fields, taken: Fields) -> Fields:
    """Return *fields* without the leaves of *taken*."""
    if not taken:
        return fields
    result: Fields = {}
    for path, inner in fields.items():
        if path not in taken:
            result[path] = inner
        elif taken[path] and inner:
            left = without(inner, taken[path])
            if left and left != {".": {}}:
                result[path] = left
    return result


def union(one: Fields, other: Fields) -> Fields:
    """All fields of both."""
    result = dict(one)
    for path, inner in other.items():
        result[path] = union(result[path], inner) if path in result else inner
    return result


def _without_fields(value: Json, dropped: Fields) -> Json:
    """Return *value* without the leaves of *dropped*."""
    result = dict(value)
    for path, inner in dropped.items():
        name = path[2:]
        if name not in result:
            continue
        if not inner:
            del result[name]
        elif isinstance(result[name], list):
            kept = []
            for each in result[name]:
                gone = inner.get(_key(name, each)) if name in KEYS else None
                if gone is None:
                    kept.append(each)
                elif "." not in gone:
                    kept.append(_without_fields(each, gone))
            result[name] = kept
            if not kept:
                del result[name]
        else:
            result[name] = _without_fields(result[name], inner)
    return result


def _merged(value: Json, wanted: Mapping[str, Any]) -> Json:
    result = dict(value)
    for name, each in wanted.items():
        if isinstance(each, dict) and isinstance(result.get(name), dict):
            result[name] = _merged(result[name], each)
        elif name in KEYS and isinstance(result.get(name), list):
            result[name] = _merged_list(name, result[name], each)
        else:
            result[name] = each
    return result


def _merged_list(name: str, live: list[Json], wanted: list[Json]) -> list[Json]:
    """The order of structured-merge-diff: both orders where they agree, the applied one where they do not."""
    there = {_key(name, each): each for each in live}
    asked = {_key(name, each): each for each in wanted}
    left, right = list(there), list(asked)
    result: list[str] = []
    while left or right:
        if right and right[0] not in there:
            result.append(right.pop(0))
        elif left and left[0] not in asked:
            result.append(left.pop(0))
        elif left and right and left[0] == right[0]:
            result.append(left.pop(0))
            right.pop(0)
        elif left:
            left.pop(0)
        else:
            result.append(right.pop(0))
    return [
        _merged(there[key], asked[key]) if key in there and key in asked else there.get(key, asked.get(key, {}))
        for key in result
    ]
