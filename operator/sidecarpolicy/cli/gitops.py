"""Whether an object is kept by Argo CD or Flux, told from the marks that they put on it."""

from __future__ import annotations

from sidecarpolicy.core.tree import Json, at, items

ARGO_TRACKING = "argocd.argoproj.io/tracking-id"
"""Annotation: `<application>:<group>/<kind>:<namespace>/<name>`. (Argo CD, resource tracking)"""

LABELS = {
    "argocd.argoproj.io/instance": "Argo CD application",
    "kustomize.toolkit.fluxcd.io/name": "the Flux Kustomization",
    "helm.toolkit.fluxcd.io/name": "the Flux HelmRelease",
}
MANAGERS = {
    "argocd-controller": "Argo CD",
    "kustomize-controller": "a Flux Kustomization",
    "helm-controller": "a Flux HelmRelease",
}
"""Field managers: Argo CD may be set to track by `app.kubernetes.io/instance`, which Helm alone sets as well."""


def git_manager(body: Json) -> str | None:
    """Return who brings *body* from Git, for people, or None where nobody is seen to."""
    metadata = at(body, "metadata")
    if tracking := at(metadata, "annotations").get(ARGO_TRACKING):
        return f"Argo CD application {tracking.partition(':')[0]}"
    for label, who in LABELS.items():
        if name := at(metadata, "labels").get(label):
            return f"{who} {name}"
    managers = {each.get("manager", "") for each in items(metadata, "managedFields")}
    return next((who for manager, who in MANAGERS.items() if manager in managers), None)
