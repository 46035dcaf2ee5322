"""Argo CD as a judge: its health script, run as Argo CD runs it, and the files that bring it there.

Argo CD runs scripts from its ConfigMap in Lua 5.1 with the base, table and package libraries and nothing else
(`util/lua/lua.go`); here package is closed too. One script serves both kinds. `deploy/argocd/health.lua` is the only
one written by hand: what the ConfigMap and the layout of Argo CD's own repository hold is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from lupa import lua51

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json
from tests.gitops.situations import EXAMPLES, Example, one_of_each_health

FOLDER = Path(__file__).parent.parent.parent / "deploy/argocd"
SCRIPT = FOLDER / "health.lua"
KINDS = (names.POLICY, names.CLUSTER_POLICY)
HEALTHS = ("Healthy", "Progressing", "Degraded", "Suspended")

_CLOSED = ("coroutine", "debug", "dofile", "io", "loadfile", "math", "os", "package", "python", "require", "string")

_CONFIG_MAP = """\
# Health of our policies in Argo CD: without it Argo CD takes a policy for done as soon as it exists.
# Adds two keys to Argo CD's own ConfigMap and leaves the others alone:
#
#   kubectl apply --server-side --field-manager=sidecarpolicy-health -f deploy/argocd/argocd-cm.yaml
#
# Made from health.lua (UPDATE_GOLDEN=1 pytest tests/gitops); do not edit.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels:
    app.kubernetes.io/name: argocd-cm
    app.kubernetes.io/part-of: argocd
data:
"""


@dataclass(frozen=True, slots=True)
class Health:
    """What Argo CD shows."""

    status: str
    message: str


def health_of(policy: Json, script: str | None = None) -> Health:
    """Return what the health script makes of *policy*."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.execute("getmetatable('').__index = nil")
    lua.execute(" ".join(f"{each} = nil" for each in _CLOSED))
    lua.globals()["obj"] = lua.table_from(policy, recursive=True)
    answer = dict(lua.execute(script or SCRIPT.read_text(encoding="utf-8")).items())
    assert answer.keys() == {"status", "message"}, answer
    return Health(**answer)


def files() -> Mapping[Path, str]:
    """Return every file under `deploy/argocd` that is made from the script and the situations."""
    script = SCRIPT.read_text(encoding="utf-8")
    made = {FOLDER / "argocd-cm.yaml": _config_map(script)}
    for kind in KINDS:
        folder = FOLDER / "resource_customizations" / names.GROUP / kind
        examples = EXAMPLES if kind == names.POLICY else one_of_each_health()
        made[folder / "health.lua"] = script
        made[folder / "health_test.yaml"] = _yaml({"tests": [_expected(each, kind) for each in examples]})
        made |= {folder / f"testdata/{each.name}.yaml": _yaml(each.policy(kind)) for each in examples}
    return made


def _expected(example: Example, kind: str) -> Json:
    health = health_of(example.policy(kind))
    return {
        "healthStatus": {"status": health.status, "message": health.message},
        "inputPath": f"testdata/{example.name}.yaml",
    }


def _config_map(script: str) -> str:
    indented = "".join(f"    {line}".rstrip() + "\n" for line in script.splitlines())
    return _CONFIG_MAP + "".join(
        f"  resource.customizations.health.{names.GROUP}_{kind}: |\n{indented}" for kind in KINDS
    )


def _yaml(content: Json) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=10_000, allow_unicode=True)
