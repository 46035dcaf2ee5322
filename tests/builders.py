"""Valid manifests with one thing changed."""

from __future__ import annotations

from typing import Any

from sidecarpolicy import names

Manifest = dict[str, Any]

TIER = {"tier": "web"}


def a_policy(name: str = "web", namespace: str = "shop", **spec: Any) -> Manifest:
    """A SidecarPolicy that selects `a_deployment()` and gives it one sidecar; *spec* replaces fields."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POLICY,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": TIER}, "sidecars": [a_sidecar()]} | spec,
    }


def a_cluster_policy(name: str = "web", **spec: Any) -> Manifest:
    """A ClusterSidecarPolicy for all namespaces, otherwise like `a_policy()`."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.CLUSTER_POLICY,
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {}, "selector": {"matchLabels": TIER}, "sidecars": [a_sidecar()]} | spec,
    }


def a_sidecar(name: str = "proxy", *, container: Manifest | None = None, **changes: Any) -> Manifest:
    """An item of `spec.sidecars`; *container* replaces fields of its container, *changes* its own."""
    return {"name": name, "container": {"image": f"example.test/{name}:1"} | (container or {})} | changes


def a_proxy(namespace: str, tag: str = "1", *, rollout: Manifest | None = None, **container: Any) -> Manifest:
    """A policy whose proxy has image *tag*; workloads need not soak."""
    sidecar = a_sidecar(container={"image": f"example.test/proxy:{tag}"} | container)
    return a_policy("web", namespace, sidecars=[sidecar], rollout={"minReadySeconds": 0} | (rollout or {}))


def carts(namespace: str, count: int) -> list[Manifest]:
    """Deployments `cart-0` and so on."""
    return [a_deployment(f"cart-{number}", namespace) for number in range(count)]


def a_deployment(
    name: str = "cart",
    namespace: str = "shop",
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    pod: Manifest | None = None,
    **spec: Any,
) -> Manifest:
    """A Deployment of one replica with one container, `app`.

    *labels* and *annotations* are the Deployment's, *pod* replaces fields of the Pod's spec, *spec* of its.
    """
    chosen = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": chosen},
            "template": {
                "metadata": {"labels": chosen | TIER},
                "spec": {"containers": [{"name": "app", "image": "example.test/app:1"}]} | (pod or {}),
            },
        }
        | spec,
    }


def a_waiting_deployment(name: str = "new", namespace: str = "shop") -> Manifest:
    """A Deployment whose Pods no node takes: it stays new, however slow the machine that runs the operator is."""
    app = {"name": "app", "image": "example.test/app:1"}
    return a_deployment(name, namespace, pod={"containers": [app], "nodeSelector": {"no.such": "node"}})


def a_node(
    name: str = "node-1",
    *,
    kubelet: str = "v1.37.2",
    labels: dict[str, str] | None = None,
    taints: list[Manifest] | None = None,
    system: str = "linux",
) -> Manifest:
    """A Node as its kubelet reports it; no kubelet is behind it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": system} | (labels or {}),
        },
        "spec": {"taints": taints or []},
        "status": {"nodeInfo": {"kubeletVersion": kubelet, "operatingSystem": system}},
    }


def an_admission_rule(name: str, namespace: str, expression: str, message: str) -> tuple[Manifest, Manifest]:
    """A rule about updates of Deployments, in CEL, and its binding to *namespace*; *message*: what it says."""
    full = f"{name}-{namespace}"
    updates = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    about = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": full}}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return (
        about
        | {
            "kind": "ValidatingAdmissionPolicy",
            "spec": {
                "matchConstraints": {"resourceRules": [updates]},
                "validations": [{"expression": expression, "message": message}],
            },
        },
        about
        | {
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": full, "validationActions": ["Deny"], "matchResources": here},
        },
    )
