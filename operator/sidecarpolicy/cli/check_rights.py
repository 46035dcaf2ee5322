"""Whether somebody has the rights that it takes: who installs, and the operator, by questions to the API server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.cluster import Cluster
from sidecarpolicy.cli.findings import Finding, Findings, Result, skipped, some
from sidecarpolicy.core.identity import namespaces_in_words
from sidecarpolicy.core.tree import at
from sidecarpolicy.engine.port import Rejected, Resource
from sidecarpolicy.engine.resources import NAMESPACES

ACCESS = "authorization.k8s.io"
ACCESS_IN_NAMESPACE = Resource(
    group=ACCESS, version="v1", plural="localsubjectaccessreviews", kind="LocalSubjectAccessReview"
)
OWN_ACCESS = Resource(group=ACCESS, version="v1", plural="selfsubjectaccessreviews", kind="SelfSubjectAccessReview")
ANYBODYS_ACCESS = Resource(group=ACCESS, version="v1", plural="subjectaccessreviews", kind="SubjectAccessReview")

# What the operator cannot do without: verb, group, resource. (deploy/base/access/operator.yaml has all of them)
OPERATOR_RIGHTS = (
    *((verb, names.GROUP, plural) for plural in names.PLURALS.values() for verb in ("list", "watch", "patch")),
    *(("patch", names.GROUP, f"{plural}/status") for plural in names.PLURALS.values()),
    *((verb, "apps", "deployments") for verb in ("list", "watch", "patch")),
    *((verb, "apps", "replicasets") for verb in ("list", "watch")),
    *((verb, "apps", "controllerrevisions") for verb in ("list", "watch", "create", "patch", "delete")),
    *((verb, "", "namespaces") for verb in ("list", "watch")),
    ("create", "", "podtemplates"),
    ("list", "", "pods"),
    *((verb, "events.k8s.io", "events") for verb in ("create", "list", "patch")),
    *((verb, "autoscaling", "horizontalpodautoscalers") for verb in ("list", "watch")),
    *((verb, "argoproj.io", "rollouts") for verb in ("list", "watch")),
)
# What it goes on without, where it has neither of the two: verb, group, resource.
SPARED_RIGHTS = tuple((verb, "", plural) for plural in ("nodes", "serviceaccounts") for verb in ("list", "watch"))
# In its own namespace; all but `create` for the one Lease of its name.
LEASE_RIGHTS = tuple((verb, "coordination.k8s.io", "leases") for verb in ("get", "patch", "create"))
# Where it serves some namespaces only, it needs these in each of them. (deploy/namespaced/access.yaml has all of them)
NAMESPACED_RIGHTS = tuple(
    (verb, group, resource)
    for verb, group, resource in OPERATOR_RIGHTS
    if resource != NAMESPACES.plural and not resource.startswith(names.PLURALS[names.CLUSTER_POLICY])
)
# What somebody needs who installs it.
INSTALLER_RIGHTS = (
    ("create", "apiextensions.k8s.io", "customresourcedefinitions"),
    ("create", "rbac.authorization.k8s.io", "clusterroles"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings"),
    ("create", "", "namespaces"),
    ("create", "apps", "deployments"),
    ("create", "admissionregistration.k8s.io", "validatingadmissionpolicies"),
)
# What somebody needs who installs it for some namespaces only: in its own namespace, and in each that it serves.
NAMESPACED_INSTALLER_RIGHTS = (("create", "", "serviceaccounts"), ("create", "apps", "deployments"))
GRANTING_RIGHTS = tuple(("create", "rbac.authorization.k8s.io", each) for each in ("roles", "rolebindings"))


def installer_rights(asked: Asked) -> Findings:
    """Whether the user may install an operator for the whole cluster."""
    missing = _missing(asked, OWN_ACCESS, INSTALLER_RIGHTS, {})
    section = "rights"
    if missing:
        hint = "let a cluster administrator install it"
        yield Finding(section=section, result=Result.FAILED, message=f"you may not {some(missing)}", hint=hint)
    else:
        yield Finding(section=section, result=Result.OK, message="you may install it")


def namespaced_installer_rights(asked: Asked, watched: Sequence[str]) -> Findings:
    """Whether the user may install an operator for some namespaces: RBAC lets nobody grant what they do not have."""
    wanted = [(asked.operator_namespace, NAMESPACED_INSTALLER_RIGHTS + GRANTING_RIGHTS)]
    wanted += [(each, GRANTING_RIGHTS + NAMESPACED_RIGHTS) for each in watched]
    missing = [
        f"{each} in namespace {place}"
        for place, rights in wanted
        for each in _missing(asked, OWN_ACCESS, rights, {}, place)
    ]
    if missing:
        yield Finding(
            section="rights",
            result=Result.FAILED,
            message=f"you may not {some(missing)}",
            hint="you need the role admin there; and a cluster administrator has to apply deploy/namespaced/cluster, "
            "once: it lets admins grant what the operator needs",
        )
    else:
        message = f"you may install it in namespace {asked.operator_namespace}, for {namespaces_in_words(watched)}"
        yield Finding(section="rights", result=Result.OK, message=message)


def operator_rights(asked: Asked, watched: Sequence[str]) -> Findings:
    """Whether the operator's ServiceAccount may do what it has to."""
    section, place = "rights", asked.operator_namespace
    account = f"system:serviceaccount:{place}:{names.CONTROLLER}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{place}", "system:authenticated"]
    who = {"user": account, "groups": groups}
    try:
        missing = [] if watched else _missing(asked, ANYBODYS_ACCESS, OPERATOR_RIGHTS, who)
        for each in watched:
            lacking = _missing(asked, ACCESS_IN_NAMESPACE, NAMESPACED_RIGHTS, who, each)
            missing += [f"{right} in namespace {each}" for right in lacking]
        lacking = _missing(asked, ACCESS_IN_NAMESPACE, LEASE_RIGHTS, who, place, name=names.CONTROLLER)
        missing += [f"{right} in namespace {place}" for right in lacking]
        spared = [] if watched else _missing(asked, ANYBODYS_ACCESS, SPARED_RIGHTS, who)
    except Rejected:
        yield skipped(section, "the operator's rights: you may not ask for those of others")
        return
    if missing:
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=f"{account} may not {some(missing)}",
            hint="apply the roles of this version: "
            + (
                "deploy/namespaced, or the chart with watchNamespaces"
                if watched
                else "kubectl apply -k deploy/base/access"
            ),
        )
        return
    if spared:
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{account} may not {some(spared)}: what it may not list is unknown to it (kubelets that are too "
            "old, nodes with Windows, the pull secrets of ServiceAccounts); what it may list and not watch keeps "
            "it unready",
            hint="apply the roles of this version: kubectl apply -k deploy/base/access",
        )
    else:
        where = f" in {namespaces_in_words(watched)}" if watched else ""
        yield Finding(section=section, result=Result.OK, message=f"{account} has the rights that it needs{where}")


def _missing(
    asked: Asked,
    resource: Resource,
    rights: Iterable[tuple[str, str, str]],
    who: Mapping[str, object],
    namespace: str = "",
    *,
    name: str = "",
) -> list[str]:
    """Return those of *rights* that are denied in *namespace* (empty: in any), as `patch deployments.apps`.

    *name*: of the one object that it is about; nothing can be created by name.

    Raise Rejected where that may not be asked.
    """
    cluster = asked.cluster
    # A question is no change: a dry run would get no answer.
    answers = [
        (verb, group, kind, cluster.soon(_may, cluster, resource, (verb, group, kind), who, namespace, name))
        for verb, group, kind in rights
    ]
    return [f"{verb} {kind}{'.' + group if group else ''}" for verb, group, kind, allowed in answers if not allowed()]


def _may(
    cluster: Cluster,
    resource: Resource,
    right: tuple[str, str, str],
    who: Mapping[str, object],
    namespace: str,
    name: str,
) -> bool:
    verb, group, kind = right
    plural, _, subresource = kind.partition("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": subresource,
        "name": "" if verb == "create" else name,
        "namespace": namespace,
    }
    body = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {},
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}} | dict(who),
    }
    place = namespace if resource == ACCESS_IN_NAMESPACE else ""
    if place:
        body["metadata"] = {"namespace": place}
    return bool(at(cluster.create(resource, place, body), "status").get("allowed"))
