"""A walk over the fields of the CRD, as Acto does (https://github.com/xlab-uiuc/acto): every field is set, set to its
bounds, changed and taken away again, and what comes of it is judged by the objects alone.

The values are made from the schema. What the schema's rules (CEL) and the operator's own would not have is tried, too:
then the policy is not accepted, and nothing changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.injection import compose
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import Record
from sidecarpolicy.core.tree import Json
from tests.simulation.defaults import _schema
from tests.simulation.fleets import a_world
from tests.simulation.stories import World, established

Path = tuple[str, ...]

# The image says which revision there is, and the selector which Deployments: other tests change these.
LEFT_OUT = {("sidecars", "container", "image"), ("selector",), ("rollout", "paused"), ("sidecars", "name")}

# Their parts are set one by one: the model tells whose a sidecar is by its image.
NOT_AS_A_WHOLE = {("sidecars",), ("sidecars", "container")}

QUICK = Rollout(max_concurrent=2, min_ready_seconds=0, progress_deadline_seconds=60)


def schema_of(field: str) -> Json:
    """The schema of a field of the spec."""
    found: Json = _spec_schema()["properties"][field]
    return found


def _spec_schema() -> Json:
    found: Json = _schema(names.POLICY)["properties"]["spec"]
    return found


def fields(path: Path, schema: Json, depth: int = 4) -> Iterator[tuple[Path, Json]]:
    """Every field at and below *path*; the items of a list count as the list's own."""
    if path in LEFT_OUT:
        return
    yield path, schema
    inner = schema.get("items", schema)
    if len(path) < depth:
        for name, each in inner.get("properties", {}).items():
            yield from fields((*path, name), each, depth)


def values(schema: Json) -> list[Any]:
    """Values of a field: its bounds, its words, or something short."""
    if "enum" in schema:
        return list(schema["enum"])
    match schema.get("type"):
        case "boolean":
            return [True, False]
        case "integer":
            return [schema.get("minimum", 1), min(schema.get("maximum", 2), 2)]
        case "string":
            return ["x", "x" * min(schema.get("maxLength", 40), 60)]
        case "array":
            return [[], [values(schema["items"])[0]]]
        case "object" if "properties" in schema:
            wanted = schema.get("required", [])
            return [{name: values(schema["properties"][name])[0] for name in wanted}]
        case "object":
            return [{}, {"x": "1"}]
        case _:
            return [1, "50%"]


def with_value(spec: Json, path: Path, value: Any, schema: Json) -> Json:
    """Return *spec* with *value* at *path*, in the first item of every list on the way.

    Steps that are missing are made as *schema* wants them, with what it requires.
    """
    name, *rest = path
    inner = schema["properties"][name]
    if not rest:
        return {**spec, name: value}
    there = spec.get(name)
    if inner.get("type") == "array":
        first, *others = there or [values(inner["items"])[0]]
        return {**spec, name: [with_value(first, tuple(rest), value, inner["items"]), *others]}
    return {**spec, name: with_value(there or values(inner)[0], tuple(rest), value, inner)}


class Walk:
    """Two Deployments with a policy that is changed field by field."""

    def __init__(self) -> None:
        self.world: World = a_world([established("cart"), established("till")], QUICK)
        self.world.run()
        self.base = copy.deepcopy(self.world.object or {})["spec"]

    def visit(self, path: Path, schema: Json) -> Iterator[str]:
        """Set the field to each of its values and take it away again; yield what does not come out right."""
        for value in values(schema) if path not in NOT_AS_A_WHOLE else ():
            self.write(with_value(self.base, path, value, _spec_schema()))
            yield from (f"{'.'.join(path)}: {value!r}: {each}" for each in self.wrong())
        self.write(self.base)
        yield from (f"{'.'.join(path)} taken away: {each}" for each in self.wrong())

    def write(self, spec: Json) -> None:
        """The author applies a spec; wait until nothing moves."""
        world = self.world
        body = world.object
        assert body is not None
        world.server.update(world._kind, body, {**body, "spec": spec})
        world.run()

    def wrong(self) -> Iterator[str]:
        """What is not as the spec says, by the objects and the pure function."""
        world = self.world
        body = world.object
        assert body is not None
        conditions = {each["type"]: each for each in body["status"]["conditions"]}
        policy, problems = world.cluster.invariants.decode(body)
        accepted = conditions["Accepted"]["status"] == "True"
        if problems or policy is None:
            if accepted:
                yield f"is accepted, although {problems}"
            return
        if not accepted or conditions["Ready"]["reason"] != "RolloutComplete":
            yield f"is valid, but {conditions['Ready']['reason']}: {conditions['Ready']['message']}"
            return
        try:
            revision = world.revision_of(policy)
        except InvalidInput as error:
            yield f"is accepted, although {error}"
            return
        for each in world.deployments:
            stripped = world.bare(each)
            wanted = compose(stripped, Record(), {world.policy: revision}).template
            if each.body["spec"]["template"] != wanted:
                yield f"{each.name} has {each.body['spec']['template']['spec']}, not {wanted['spec']}"
