"""What Helm and kustomize make of deploy/, as objects; without a cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from localcluster import binaries

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy/chart"
NAMESPACE: Final = "sidecarpolicy-system"
RELEASE: Final = "sidecarpolicy"
Manifest = dict[str, Any]
Key = tuple[str, str, str]


class HelmFailed(Exception):
    """What Helm said."""


def helm(*arguments: str) -> str:
    """Run Helm and return what it prints; raise HelmFailed."""
    program = binaries.require(["helm"])["helm"]
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise HelmFailed(done.stderr)
    return done.stdout


def template(*arguments: str, namespace: str = NAMESPACE, kubernetes: str = "1.37.2") -> str:
    """`helm template` of the chart."""
    where = (f"--namespace={namespace}", f"--kube-version={kubernetes}")
    return helm("template", RELEASE, str(CHART), *where, *arguments)


def values_file(name: str) -> str:
    """The argument for one of the chart's sets of values."""
    return f"--values={CHART / 'ci' / f'{name}-values.yaml'}"


def objects(text: str) -> list[Manifest]:
    """The objects of a stream of documents."""
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


def by_key(some: Iterable[Manifest]) -> Mapping[Key, Manifest]:
    """Objects by kind, namespace and name; two of one key are an error."""
    found: dict[Key, Manifest] = {}
    for each in some:
        metadata = each["metadata"]
        key = (each["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found, f"{key} twice"
        found[key] = each
    return found


def snapshot(name: str) -> str:
    """What a set of values is rendered to, as the file in expected/ holds it: sorted, without the kinds' schemas."""
    rendered = by_key(objects(template(values_file(name))))
    for key, each in rendered.items():
        if key[0] == "CustomResourceDefinition":
            each["spec"] = "as in crds/"
        if key[2].endswith("-dashboard"):
            each["data"] = {file: json.loads(text)["title"] for file, text in each["data"].items()}
    return yaml.safe_dump_all([rendered[key] for key in sorted(rendered)], sort_keys=False, width=120)
