"""What one writes first: a Kopf operator in sixty lines, with the official client. Only to be compared with.

It keeps the policy in memory, patches every Deployment that needs it when the policy changes, and looks at each that
is created or changed. No budget, no record, no revisions, no removal, no guard against another writer.
`KUBECONFIG=… python -m tests.bench.scale.naive_operator`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf
from kubernetes import client, config

POLICIES = ("sidecars.dev", "v1alpha1", "clustersidecarpolicies")
policies: dict[str, Any] = {}


@kopf.on.startup()
def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Connect."""
    settings.posting.enabled = False
    config.load_kube_config()  # type: ignore[no-untyped-call]
    print("naive operator: watching", flush=True)


@kopf.on.create(*POLICIES)
@kopf.on.update(*POLICIES)
@kopf.on.resume(*POLICIES)
def spread(spec: Mapping[str, Any], name: str, **_: Any) -> None:
    """Bring a policy to every Deployment."""
    policies[name] = spec
    for each in client.AppsV1Api().list_deployment_for_all_namespaces().items:
        inject(client.ApiClient().sanitize_for_serialization(each))  # type: ignore[no-untyped-call]


@kopf.on.create("apps", "v1", "deployments")
@kopf.on.update("apps", "v1", "deployments")
@kopf.on.resume("apps", "v1", "deployments")
def look(body: kopf.Body, **_: Any) -> None:
    """Bring every policy to one Deployment."""
    inject(body)


def sidecar(item: Mapping[str, Any]) -> dict[str, Any]:
    """The container: under a name of its own and without ports, so that the operator's can stay beside it."""
    container = {key: value for key, value in item["container"].items() if key != "ports"}
    return container | {"name": f"{item['name']}-naive", "restartPolicy": "Always"}


def inject(deployment: Mapping[str, Any]) -> None:
    """Patch one Deployment if it lacks a sidecar of a policy that selects it."""
    template, meta = deployment["spec"]["template"], deployment["metadata"]
    labels = template["metadata"].get("labels", {})
    for spec in list(policies.values()):
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            continue
        ours = [sidecar(each) for each in spec["sidecars"]]
        there = {each["name"]: each for each in template["spec"].get("initContainers", [])}
        if all(there.get(each["name"], {}).get("image") == each["image"] for each in ours):
            continue
        others = [each for name, each in there.items() if name not in {one["name"] for one in ours}]
        change = {"spec": {"template": {"spec": {"initContainers": others + ours}}}}
        client.AppsV1Api().patch_namespaced_deployment(
            meta["name"], meta["namespace"], change, _content_type="application/merge-patch+json"
        )


if __name__ == "__main__":
    kopf.run(clusterwide=True, standalone=True)
