"""The configuration files of the cluster's parts, as plain values.

Kubernetes reads JSON wherever it reads YAML, so nothing here needs a YAML library. Files of the real
node are in node.py, beside the facts that shape them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster.certificates import KeyPair

KEEPER = "system:sidecarpolicy-local"
"""The user that this package asks the API server as while it starts a cluster."""


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """Write *document* as JSON, readable by its owner only; return *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def kubeconfig(*, cluster: str, server: str, authority: Path, user: str, pair: KeyPair) -> dict[str, Any]:
    """Return a kubeconfig with one context, and everything it needs inside."""

    def embedded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    context = f"sidecarpolicy-{cluster}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {"server": server, "certificate-authority-data": embedded(authority)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": embedded(pair.certificate),
                    "client-key-data": embedded(pair.key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
    }


def audit_policy() -> dict[str, Any]:
    """Return what the API server writes into its audit log: who asked what, one line per request.

    Every request of everybody, without bodies, once, when it has been answered (a watch: once it has
    begun). Left out: Kubernetes' own parts, which would drown the rest, and questions after health.
    So a test can count, say, the successful PATCH requests per Deployment and user.
    """
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "users": [
                    "system:apiserver",
                    "system:kube-controller-manager",
                    "system:kube-scheduler",
                    "system:kube-proxy",
                    "system:kwok",
                    KEEPER,
                ],
            },
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*", "/metrics"]},
            {
                "level": "None",
                "namespaces": ["kube-system"],
                "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
            },
            {"level": "Metadata", "verbs": ["watch"], "omitStages": ["RequestReceived", "ResponseComplete"]},
            {"level": "Metadata"},
        ],
    }
