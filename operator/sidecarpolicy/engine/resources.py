"""The kinds that the operator reads and writes."""

from __future__ import annotations

from sidecarpolicy import names
from sidecarpolicy.core import addresses, argo_rollouts
from sidecarpolicy.engine.port import Resource

POLICIES = {
    kind: Resource(group=names.GROUP, version=names.VERSION, plural=plural, kind=kind)
    for kind, plural in names.PLURALS.items()
}

DEPLOYMENTS = addresses.DEPLOYMENTS
REPLICA_SETS = addresses.REPLICA_SETS
REVISIONS = Resource(group="apps", version="v1", plural="controllerrevisions", kind="ControllerRevision")
AUTOSCALERS = Resource(
    group="autoscaling", version="v2", plural="horizontalpodautoscalers", kind="HorizontalPodAutoscaler"
)
ROLLOUTS = Resource(
    group=argo_rollouts.GROUP, version=argo_rollouts.VERSION, plural=argo_rollouts.PLURAL, kind=argo_rollouts.KIND
)
NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace")
NODES = Resource(group="", version="v1", plural="nodes", kind="Node")
SERVICE_ACCOUNTS = Resource(group="", version="v1", plural="serviceaccounts", kind="ServiceAccount")
PODS = Resource(group="", version="v1", plural="pods", kind="Pod")
EVENTS = Resource(group="events.k8s.io", version="v1", plural="events", kind="Event")
POD_TEMPLATES = Resource(group="", version="v1", plural="podtemplates", kind="PodTemplate")

CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret")
MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS = (
    Resource(group="admissionregistration.k8s.io", version="v1", plural=f"{kind.lower()}s", kind=kind)
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
)

# What is in no namespace: an operator that serves some namespaces only has no right to it.
CLUSTER_SCOPED = frozenset({NAMESPACES, NODES, POLICIES[names.CLUSTER_POLICY]})

# Where the API server does not serve these there are none.
OPTIONAL = frozenset({AUTOSCALERS, ROLLOUTS})

# Where the operator may not read these it goes on as if there were none: rights of an earlier version do not have them.
MAY_BE_FORBIDDEN = frozenset({SERVICE_ACCOUNTS, NODES})

# Only ControllerRevisions of ours: those of StatefulSets and DaemonSets live in the same collection.
LABEL_SELECTORS = {REVISIONS: names.POLICY_NAME_LABEL}
