#!/usr/bin/env python3
"""Make crds/*.yaml from policy.yaml, written by hand, and openapi-apps-v1.json, written by an API server.

What `sidecarpolicy validate` knows of the schema (cli/policy_schema.json) is made with them.

    generate.py                        write the two CustomResourceDefinitions
    generate.py --refresh KUBECONFIG   take the types of core/v1 anew from that cluster first
    generate.py --check                write nothing; exit 1 if a committed file is not what would be written

The committed OpenAPI holds only the types that policy.yaml uses, so a check needs no cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from core_types import CoreTypes, Schema

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
POLICY = HERE / "policy.yaml"
OPENAPI = HERE / "openapi-apps-v1.json"
OFFLINE = ROOT / "operator" / "sidecarpolicy" / "cli" / "policy_schema.json"

sys.path.insert(0, str(ROOT / "operator"))
from sidecarpolicy import names  # noqa: E402  (the operator's sources need not be installed)

SHORT_NAMES = {names.POLICY: "sidepol", names.CLUSTER_POLICY: "csidepol"}
HEADER = "# Made by crds/src/generate.py from crds/src/policy.yaml and the API server's OpenAPI. Do not edit.\n"

# What the operator writes into a label of each revision must be a label value.
NAME_RULE = {
    "rule": "size(self.metadata.name) <= 63",
    "message": "metadata.name must be at most 63 characters long",
}


def main() -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    parser.add_argument("--refresh", metavar="KUBECONFIG", help="take the OpenAPI from this cluster")
    arguments = parser.parse_args()

    made = files(served(arguments.refresh) if arguments.refresh else json.loads(OPENAPI.read_text()))
    different = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in different:
        if arguments.check:
            print(f"{path.relative_to(ROOT)}: not what crds/src/generate.py makes; run it", file=sys.stderr)
        else:
            path.write_text(made[path])
            print(f"{path.relative_to(ROOT)}: written")
    return 1 if arguments.check and different else 0


def served(kubeconfig: str) -> dict[str, Any]:
    """Return a running server's OpenAPI document of apps/v1, which has core/v1's Pod types in it."""
    import pykube  # here, so that a check need not wait for it

    api = pykube.HTTPClient(pykube.KubeConfig.from_file(kubeconfig))
    response = api.session.get(f"{api.url}/openapi/v3/apis/apps/v1", timeout=30)
    response.raise_for_status()
    document: dict[str, Any] = response.json()
    return document


def files(openapi: dict[str, Any]) -> dict[Path, str]:
    """Return every file that is made, by path, with its text."""
    core = CoreTypes(openapi["components"]["schemas"])
    policy = resolved(yaml.load(POLICY.read_text(), yaml.CSafeLoader), core)
    used = {"components": {"schemas": dict(sorted(core.used.items()))}}
    return {
        OPENAPI: json.dumps(used, indent=1) + "\n",
        OFFLINE: json.dumps(without_texts(policy["spec"]), separators=(",", ":")) + "\n",
    } | {
        HERE.parent / f"{plural}.yaml": HEADER + in_yaml(definition(kind, policy))
        for kind, plural in names.PLURALS.items()
    }


def without_texts(schema: Schema) -> Schema:
    """Return *schema* without what only people and API servers read: descriptions, formats and rules in CEL."""
    unread = ("description", "format", "x-kubernetes-validations")
    kept: Schema = {}
    for key, value in schema.items():
        if key in unread or (key.startswith("x-kubernetes-") and key != "x-kubernetes-int-or-string"):
            continue
        match key, value:
            case "properties", dict():
                kept[key] = {name: without_texts(each) for name, each in value.items()}
            case "items" | "additionalProperties", dict():
                kept[key] = without_texts(value)
            case _:
                kept[key] = value
    return kept


def resolved(node: Any, core: CoreTypes) -> Any:
    """Return *node* with every `$core` in it replaced by that type, and what stands beside it laid over."""
    match node:
        case {"$core": kind, **rest}:
            beside = {key: value for key, value in rest.items() if key not in ("$only", "$without")}
            chosen = core.inlined(kind, only=node.get("$only"), without=node.get("$without", ()))
            return laid_over(chosen, resolved(beside, core))
        case dict():
            return {key: resolved(value, core) for key, value in node.items()}
        case list():
            return [resolved(item, core) for item in node]
        case _:
            return node


def laid_over(below: Schema, above: Schema) -> Schema:
    """Return *below* with the values of *above*, object by object; a null takes the key away."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = laid_over(below[key], value) if both else value
    return {key: value for key, value in merged.items() if value is not None}


def definition(kind: str, policy: dict[str, Any]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of *kind*."""
    clusterwide = kind == names.CLUSTER_POLICY
    plural, short = names.PLURALS[kind], SHORT_NAMES[kind]
    schema = {
        "description": (
            "Injects native sidecars into Deployments of every namespace selected, and keeps them current."
            if clusterwide
            else "Injects native sidecars into Deployments of its namespace, and keeps them current."
        ),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{names.API_VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": policy["spec"] if clusterwide else without_namespaces(policy["spec"]),
            "status": policy["status"],
        },
        "x-kubernetes-validations": [NAME_RULE],
    }
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": policy["columns"],
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Cluster" if clusterwide else "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["sidecars"],
            },
            "versions": [version],
        },
    }


def without_namespaces(spec: Schema) -> Schema:
    """Return *spec* without any `namespaceSelector`: a namespaced policy reaches its own namespace only."""
    stripped = _without(spec, "namespaceSelector")
    assert isinstance(stripped, dict)
    return stripped


def _without(node: Any, name: str) -> Any:
    """Return *node* without the key *name*, its mention in lists, and the rules about it."""
    match node:
        case dict():
            return {key: _without(value, name) for key, value in node.items() if key != name}
        case list():
            kept = [each for each in node if each != name]
            return [
                _without(each, name)
                for each in kept
                if not (isinstance(each, dict) and name in str(each.get("rule", "")))
            ]
        case _:
            return node


class Plain(yaml.CSafeDumper):
    """Writes every value out where it stands, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always: `kubectl` would read anchors, but people would have to look them up."""
        return True


def in_yaml(document: dict[str, Any]) -> str:
    """Return *document* as YAML, keys in the order given."""
    return yaml.dump(document, Dumper=Plain, sort_keys=False, width=110, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
