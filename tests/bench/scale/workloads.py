"""The fleet that is measured on: Deployments as they look in life, their ReplicaSets, and policies.

A Deployment has env, probes, resources, a volume, and labels and annotations as Helm writes them; with managedFields
and status it is five to six KiB of JSON. They are spread over forty namespaces. Pure: nothing is sent from here.
"""

from __future__ import annotations

import copy
import datetime
from typing import Any

from sidecarpolicy import names

Manifest = dict[str, Any]

NAMESPACES = 40
TIER = "web"
FIRST = "bench-first"
"""Label of the one Deployment that is a canary group of its own where a measurement wants a single write."""


def namespace(number: int) -> str:
    """The namespace of the Deployment with that number."""
    return f"team-{number % NAMESPACES:02}"


def namespaces(count: int) -> list[str]:
    """Those that *count* Deployments are in."""
    return [namespace(number) for number in range(min(count, NAMESPACES))]


def name(number: int) -> str:
    """The name of the Deployment with that number."""
    return f"service-{number:05}"


def deployment(number: int, *, tier: str = TIER, marked: str | None = None) -> Manifest:
    """The manifest of one Deployment. *tier*: the label that policies select by. *marked*: the value of FIRST."""
    called = name(number)
    chosen = {"app.kubernetes.io/name": called}
    labels = chosen | {
        "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": f"service-4.{number % 9}.1",
        "team": namespace(number),
    }
    pod_labels = labels | {"tier": tier} | ({FIRST: marked} if marked else {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": called,
            "namespace": namespace(number),
            "labels": labels,
            "annotations": {
                "deployment.kubernetes.io/revision": "1",
                "meta.helm.sh/release-name": called,
            },
        },
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": chosen},
            "template": {
                "metadata": {"labels": pod_labels, "annotations": {"checksum/config": f"{number:064x}"}},
                "spec": _pod(called, number),
            },
        },
    }


def _pod(called: str, number: int) -> Manifest:
    return {
        "securityContext": {"runAsNonRoot": True},
        "containers": [
            {
                "name": "app",
                "image": f"registry.example.test/shop/{called}:2.{number % 17}.{number % 5}",
                "args": ["serve", "--config=/etc/service/config.yaml"],
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [
                    {"name": "LOG_LEVEL", "value": "info"},
                    {
                        "name": "DATABASE_PASSWORD",
                        "valueFrom": {"secretKeyRef": {"name": f"{called}-db", "key": "password"}},
                    },
                ],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
                "livenessProbe": {"httpGet": {"path": "/livez", "port": "http"}},
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/service", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": f"{called}-config"}}],
    }


def settled_status(now: datetime.datetime) -> Manifest:
    """A status with which a Deployment counts as rolled out after every write, with no controller there to say so."""
    hour_ago = f"{now - datetime.timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    times = {"lastTransitionTime": hour_ago, "lastUpdateTime": hour_ago}
    return {
        "observedGeneration": 1_000_000,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "conditions": [
            {
                "type": "Available",
                "status": "True",
                "reason": "MinimumReplicasAvailable",
                "message": "Deployment has minimum availability.",
            }
            | times,
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable",
                "message": "ReplicaSet has successfully progressed.",
            }
            | times,
        ],
    }


def replica_sets(live: Manifest, *, old: int) -> list[Manifest]:
    """The ReplicaSets of *live*, a Deployment as the server has it: *old* ones with 0 replicas, and the current one.

    The current one has the Deployment's template and annotations, as the controller copies them; the old ones differ
    by their image, and bear nothing of ours.
    """
    made = []
    metadata, spec = live["metadata"], live["spec"]
    for revision in range(1, old + 2):
        current = revision == old + 1
        template = copy.deepcopy(spec["template"])
        annotations = dict(metadata["annotations"])
        if not current:
            annotations.pop(names.RECORD, None)
            inner = template["spec"]
            inner.pop("initContainers", None)
            inner["containers"][0]["image"] += f"-{revision}"
        digest = f"{revision}{metadata['uid'][:8]}"
        labels = template["metadata"]["labels"] | {"pod-template-hash": digest}
        template["metadata"]["labels"] = labels
        made.append(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{metadata['name']}-{digest}",
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "annotations": annotations
                    | {
                        "deployment.kubernetes.io/revision": str(revision),
                        "deployment.kubernetes.io/desired-replicas": "1",
                        "deployment.kubernetes.io/max-replicas": "2",
                    },
                    "ownerReferences": [
                        {
                            "apiVersion": "apps/v1",
                            "kind": "Deployment",
                            "name": metadata["name"],
                            "uid": metadata["uid"],
                            "controller": True,
                            "blockOwnerDeletion": True,
                        }
                    ],
                },
                "spec": {
                    "replicas": 1 if current else 0,
                    "selector": {"matchLabels": spec["selector"]["matchLabels"] | {"pod-template-hash": digest}},
                    "template": template,
                },
            }
        )
    return made


POLICY = "bench"


def policy(version: int, *, rollout: Manifest, called: str = POLICY, tier: str = TIER) -> Manifest:
    """A cluster policy with one sidecar, whose image has *version*; it selects the Deployments of *tier*."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.CLUSTER_POLICY,
        "metadata": {"name": called},
        "spec": {
            "namespaceSelector": {},
            "selector": {"matchLabels": {"tier": tier}},
            "sidecars": [
                {
                    "name": "proxy",
                    "role": "Proxy",
                    "container": {
                        "image": f"registry.example.test/mesh/proxy:1.{version}",
                        "args": ["--config-path", "/etc/proxy/proxy.yaml"],
                        "ports": [{"name": "proxy-admin", "containerPort": 15000}],
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": 15000}, "timeoutSeconds": 1},
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                        "volumeMounts": [{"name": "proxy-config", "mountPath": "/etc/proxy", "readOnly": True}],
                    },
                }
            ],
            "volumes": [{"name": "proxy-config", "configMap": {"name": "proxy"}}],
            "rollout": {"minReadySeconds": 0, "progressDeadlineSeconds": 86400, "removal": "Automatic"} | rollout,
        },
    }


ALL_AT_ONCE: Manifest = {"strategy": "AllAtOnce"}
TEN_PERCENT: Manifest = {"strategy": "Progressive", "maxConcurrent": "10%"}
ONE_THEN_WAIT: Manifest = TEN_PERCENT | {
    "canary": [{"name": "first", "selector": {"matchLabels": {FIRST: "yes"}}, "approval": "Manual"}]
}
"""One write, to the Deployment with the label FIRST; then the rollout waits for its author."""


def idle_policies(count: int) -> list[Manifest]:
    """Policies that select nothing, half of them of one namespace and half of the whole cluster."""
    made = []
    for number in range(count):
        body = policy(1, rollout=TEN_PERCENT, called=f"idle-{number:03}", tier=f"nothing-{number}")
        if number % 2:
            body["kind"] = names.POLICY
            body["metadata"]["namespace"] = namespace(number)
            del body["spec"]["namespaceSelector"]
        made.append(body)
    return made
