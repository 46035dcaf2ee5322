"""What the owner of a workload sets anew in one sidecar: its resources, and single variables.

    sidecars.dev/override.proxy: '{"resources": {"limits": {"memory": "256Mi"}}, "env": {"LOG_LEVEL": "debug"}}'

It is merged into the sidecar key by key. The policy says which paths may be set (`overridable`) and how much of a
resource at most (`overrideMax`). An override is taken whole or not at all: half of what somebody wrote could be a
sidecar that nobody ever meant. `read` gives its one spelling: quantities in canonical form, keys sorted; so what is
recorded, written and compared is the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.arithmetic.quantities import format_quantity, parse_quantity
from sidecarpolicy.core.reading import Cursor, InvalidInput
from sidecarpolicy.core.syntax import is_encodable
from sidecarpolicy.core.tree import Json, at, compact, items, with_items

AMOUNTS = ("requests", "limits")
RESOURCES = ("cpu", "memory", "ephemeral-storage")
VARIABLE = re.compile(r"[A-Za-z_][-._A-Za-z0-9]*")
LONGEST = 4096
LARGEST = 2**63 - 1
MOST_VARIABLES = 32

# What a policy may let be overridden: a path, or what is above it.
OVERRIDABLE = re.compile(rf"resources(\.({'|'.join(AMOUNTS)})(\.({'|'.join(RESOURCES)}))?)?|env\.{VARIABLE.pattern}")


@lru_cache(maxsize=1024)
def read(text: str) -> str:
    """Return the override that *text* holds, in its one spelling; raise InvalidInput, with paths in it, for none."""
    try:
        value = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError):
        value = None
    root = Cursor(value, "")
    if not isinstance(value, dict):
        root.wrong(f"must be a JSON object of at most {LONGEST} characters")
    override = _override(root)
    if not root.problems and not override:
        root.wrong("must set something")
    spelled = compact(override) if not root.problems else ""
    if len(spelled) > LONGEST:  # canonical amounts can be longer than what was written
        root.wrong(f"must have at most {LONGEST} characters in its one spelling, not {len(spelled)}")
    if root.problems:
        raise InvalidInput(tuple(root.problems))
    return spelled


def _override(root: Cursor) -> Json:
    if isinstance(root.value, dict):
        root.mapping(allowed=frozenset({"resources", "env"}))
    resources, variables = root.field("resources"), root.field("env")
    resources.mapping(allowed=frozenset(AMOUNTS))
    amounts = {each: _amounts(resources.field(each), is_limit=each == "limits") for each in AMOUNTS}
    found = {"resources": {key: value for key, value in amounts.items() if value}, "env": _variables(variables)}
    return {key: value for key, value in found.items() if value}


def _amounts(cursor: Cursor, *, is_limit: bool) -> dict[str, str]:
    """Return amounts by resource. A limit of zero would be none at all to the kubelet."""
    found = {}
    for name in cursor.mapping(allowed=frozenset(RESOURCES)):
        amount = cursor.field(name)
        try:
            size = parse_quantity(amount.value, amount.path)
        except InvalidInput as error:
            amount.wrong(error.problems[0].message)
            continue
        if size < 0:
            amount.wrong("must not be negative")
        elif is_limit and not size:
            amount.wrong("must be greater than zero, which means without a limit")
        elif size > LARGEST:
            amount.wrong(f"must be at most {LARGEST}")
        found[name] = format_quantity(size, binary=str(amount.value).endswith("i"))
    return found


def _variables(cursor: Cursor) -> dict[str, str]:
    found = {}
    for name in cursor.mapping():
        if not VARIABLE.fullmatch(name):
            cursor.field(name).wrong(f"must be the name of a variable, not {name!r}")
        if cursor.field(name).absent:
            cursor.field(name).wrong("must be a string")
        found[name] = cursor.field(name).text()
        if not is_encodable(found[name]):
            cursor.field(name).wrong("must be text")
    if len(found) > MOST_VARIABLES:
        cursor.wrong(f"must set at most {MOST_VARIABLES} variables, not {len(found)}")
    return found


def refusals(override: str, container: Json, allowed: Sequence[str], most: Mapping[str, str]) -> Iterator[str]:
    """Yield why *override*, as `read` gives it, may not be set in *container*: a path and a sentence each.

    *allowed*: the paths that may be set; *most*: of a resource at most so much.
    """
    value: Json = json.loads(override)
    for path in _paths(value):
        if not any(_covers(each, path) for each in allowed):
            yield f"{path}: must be among what the policy lets be overridden: {', '.join(allowed) or 'nothing'}"
    for amounts, resource, amount in _resources(value):
        if resource in most and parse_quantity(amount) > parse_quantity(most[resource]):
            yield f"resources.{amounts}.{resource}: must be at most {most[resource]} (overrideMax), not {amount}"
    merged = at(overridden(container, override), "resources")
    for resource, amount in at(merged, "requests").items():
        limit = at(merged, "limits").get(resource)
        if limit is not None and parse_quantity(amount) > parse_quantity(limit):
            yield f"resources.requests.{resource}: must be at most the limit, {limit}, not {amount}"


def _covers(allowed: str, path: str) -> bool:
    """Whether a policy that lets *allowed* be overridden lets *path*. A dot in a variable's name separates nothing."""
    return path == allowed or (path.startswith(f"{allowed}.") and not path.startswith("env."))


def overridden(container: Json, override: str) -> Json:
    """Return *container* with *override*, as `read` gives it, merged into it."""
    value: Json = json.loads(override)
    if resources := at(value, "resources"):
        before = at(container, "resources")
        merged = {amounts: at(before, amounts) | changed for amounts, changed in resources.items()}
        container = {**container, "resources": before | merged}
    if variables := at(value, "env"):
        live = items(container, "env")
        there = {each["name"] for each in live}
        changed = {name: _variable(name, value) for name, value in sorted(variables.items())}
        content = [changed.get(each["name"], each) for each in live]
        content += [each for name, each in changed.items() if name not in there]
        container = with_items(container, "env", content)
    return container


def _variable(name: str, value: str) -> Json:
    return {"name": name, "value": value} if value else {"name": name}  # as the API server stores an empty one


def _paths(value: Json) -> Iterator[str]:
    for amounts, resource, _ in _resources(value):
        yield f"resources.{amounts}.{resource}"
    for name in sorted(at(value, "env")):
        yield f"env.{name}"


def _resources(value: Json) -> Iterator[tuple[str, str, str]]:
    for amounts, found in sorted(at(value, "resources").items()):
        for resource, amount in sorted(found.items()):
            yield amounts, resource, amount


def overrides_in(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the text of each override in a workload's *annotations*, by the name of its sidecar."""
    start = len(names.OVERRIDE)
    return {key[start:]: value for key, value in annotations.items() if key.startswith(names.OVERRIDE)}


def amount_problem(value: Any) -> str:
    """Return why *value* is no amount of a resource, or nothing."""
    try:
        size = parse_quantity(value)
    except InvalidInput as error:
        return error.problems[0].message
    return "must not be negative" if size < 0 else ""
