"""Types of core/v1 as schemas that a CustomResourceDefinition may hold, from the API server's own OpenAPI.

A CRD must spell its whole schema out, and `kubectl apply` must be able to keep it in one annotation of
at most 262,144 bytes. So references are inlined, descriptions keep their first sentence, and what means
nothing in a CRD goes: patch strategies (custom resources have none) and defaults (they would be written
into the object of an author; the operator's dry run fills in the same ones, where they belong).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

Schema = dict[str, Any]

PREFIX = "io.k8s.api.core.v1."
REFERENCE = "#/components/schemas/"

# The two types that are neither objects nor plain values; the pattern is that of resource.Quantity.
INT_OR_STRING: Schema = {"x-kubernetes-int-or-string": True}
QUANTITY: Schema = INT_OR_STRING | {
    "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
}
SPECIAL = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
}

KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)


SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)\.(?=\s|$)")


class CoreTypes:
    """The `components.schemas` of an OpenAPI v3 document; remembers which of them were asked for."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas
        self.used: dict[str, Schema] = {}

    def inlined(self, kind: str, *, only: Collection[str] | None = None, without: Collection[str] = ()) -> Schema:
        """Return core/v1 *kind* with no reference left, with the properties in *only* and not in *without*.

        Raises KeyError for a type, or a property in *only*, that does not exist.
        """
        name = PREFIX + kind
        whole = self._schemas[name]
        absent = set(only or ()) - set(whole["properties"])
        if absent:
            raise KeyError(f"{name} has no {', '.join(sorted(absent))}")
        chosen = [p for p in whole["properties"] if (only is None or p in only) and p not in without]
        part = whole | {"properties": {p: whole["properties"][p] for p in chosen}}
        if "required" in whole:
            part["required"] = [p for p in whole["required"] if p in chosen]
        self.used[name] = part
        return self._inlined(part)

    def _inlined(self, schema: Schema) -> Schema:
        for name in _references(schema):
            return self._referenced(name) | _described(schema)
        plain = {key: schema[key] for key in KEPT if schema.get(key)} | _described(schema)
        if "properties" in schema:
            plain["properties"] = {name: self._inlined(s) for name, s in schema["properties"].items()}
        for nested in ("items", "additionalProperties"):
            if nested in schema:
                plain[nested] = self._inlined(schema[nested])
        return plain

    def _referenced(self, name: str) -> Schema:
        if name in SPECIAL:
            return dict(SPECIAL[name])
        self.used.setdefault(name, self._schemas[name])
        return self._inlined(self._schemas[name])


def _references(schema: Schema) -> Iterator[str]:
    """Yield the type that *schema* stands for; the server puts a description beside an allOf."""
    for part in (schema, *schema.get("allOf", ())):
        if "$ref" in part:
            yield part["$ref"].removeprefix(REFERENCE)


def _described(schema: Schema) -> Schema:
    return {"description": first_sentence(schema["description"])} if schema.get("description") else {}


def first_sentence(text: str) -> str:
    """Return *text* up to the first full stop that ends a sentence; its first paragraph if none does."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    end = SENTENCE_END.search(paragraph, len("Deprecated.") + 1)
    return paragraph[: end.end()] if end else paragraph
