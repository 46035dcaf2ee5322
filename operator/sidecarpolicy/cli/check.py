"""`sidecarpolicy check`: is this a cluster for it, is it installed, does it run, and what hangs; as `linkerd check`.

Every line is one finding with a result; what is not well has a hint with the command that goes on. What may not be
read is skipped and said so, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import click

from sidecarpolicy import __version__, names
from sidecarpolicy.cli.asking import Asked, asks_cluster, output_option, print_as
from sidecarpolicy.cli.cluster import Cluster, explanation
from sidecarpolicy.cli.namespace_name import namespaces_named
from sidecarpolicy.cli.operator_seen import LEASES, OperatorSeen, lease_of, look_at_operator, watched_by
from sidecarpolicy.cli.policy_names import command, with_namespace
from sidecarpolicy.cli.standing import WITHOUT_OPERATOR, Standing, awaited_by, standing_of
from sidecarpolicy.cli.text import age, painted, plural, show, width, wrapped
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.nodes import NATIVE, SETTLED, UNREADABLE, kubelet_version, version_of
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.port import ApiError, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, NODES, POLICIES, SECRETS

MOST_NODES = 500
MOST_NAMED = 3

ENDPOINTS = Resource(group="discovery.k8s.io", version="v1", plural="endpointslices", kind="EndpointSlice")
DEFINITIONS = Resource(
    group="apiextensions.k8s.io", version="v1", plural="customresourcedefinitions", kind="CustomResourceDefinition"
)
ADMISSION = "admissionregistration.k8s.io"
WEBHOOKS = Resource(
    group=ADMISSION, version="v1", plural="mutatingwebhookconfigurations", kind="MutatingWebhookConfiguration"
)
BINDINGS = Resource(
    group=ADMISSION,
    version="v1",
    plural="validatingadmissionpolicybindings",
    kind="ValidatingAdmissionPolicyBinding",
)
ACCESS = "authorization.k8s.io"
ACCESS_IN_NAMESPACE = Resource(
    group=ACCESS, version="v1", plural="localsubjectaccessreviews", kind="LocalSubjectAccessReview"
)
OWN_ACCESS = Resource(group=ACCESS, version="v1", plural="selfsubjectaccessreviews", kind="SelfSubjectAccessReview")
ANYBODYS_ACCESS = Resource(group=ACCESS, version="v1", plural="subjectaccessreviews", kind="SubjectAccessReview")

AUTHORS = "sidecarpolicy-authors"
OURS = f"app.kubernetes.io/name={names.CONTROLLER}"

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
    ("create", "events.k8s.io", "events"),
)
# Where it serves some namespaces only, it needs these in each of them. (deploy/namespaced/access.yaml has all of them)
NAMESPACED_RIGHTS = tuple(
    (verb, group, resource)
    for verb, group, resource in OPERATOR_RIGHTS
    if resource != NAMESPACES.plural and not resource.startswith(names.PLURALS[names.CLUSTER_POLICY])
)
# What somebody needs who installs it.
INSTALLER_RIGHTS = (
    ("create", DEFINITIONS.group, DEFINITIONS.plural),
    ("create", "rbac.authorization.k8s.io", "clusterroles"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings"),
    ("create", "", "namespaces"),
    ("create", "apps", "deployments"),
    ("create", ADMISSION, "validatingadmissionpolicies"),
)
# What somebody needs who installs it for some namespaces only: in its own namespace, and in each that it serves.
NAMESPACED_INSTALLER_RIGHTS = (("create", "", "serviceaccounts"), ("create", "apps", "deployments"))
GRANTING_RIGHTS = tuple(("create", "rbac.authorization.k8s.io", each) for each in ("roles", "rolebindings"))


class Result(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


PROGRAMS = ("kubectl ", "sidecarpolicy ", "helm ")
BEFORE_COMMAND = re.compile(rf"[;:,] (?={'|'.join(PROGRAMS)})")
SIGNS = {
    Result.OK: ("√", "green"),
    Result.WARNING: ("‼", "yellow"),
    Result.FAILED: ("×", "red"),
    Result.SKIPPED: ("-", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at and how it is, and what to do about it."""

    section: str
    result: Result
    message: str
    hint: str = ""


Findings = Iterator[Finding]


@click.command(epilog="Exit codes: 0 nothing has failed (there may be warnings), 1 something has, 2 wrong usage.")
@click.option("--pre", is_flag=True, help="Before the install: the cluster, and your rights to install.")
@click.option(
    "--watch-namespace",
    multiple=True,
    callback=namespaces_named,
    metavar="NAME",
    help="The operator serves, or is to serve, this namespace only; may be repeated, or be a comma list. Default: what "
    "its Lease says.",
)
@output_option("json")
@asks_cluster
def check(asked: Asked, pre: bool, watch_namespace: tuple[str, ...], output: str) -> None:
    """Check the cluster and the installation: versions, kinds, rights, the operator, and what hangs.

    Before an install use --pre. Each line that is not well says what to do.
    """
    found: list[Finding] = []
    section = ""
    for finding in (_before if pre else _after)(asked, watch_namespace):
        found.append(finding)
        if output == "json":
            continue
        if finding.section != section:
            show(["", finding.section] if section else [finding.section])
            section = finding.section
        show(_lines(finding))
    failed = any(each.result is Result.FAILED for each in found)
    if output == "json":
        print_as(output, _json(found, ok=not failed))
    else:
        counted = {result: sum(each.result is result for each in found) for result in Result}
        ends = [f"{count} {result.value}" for result, count in counted.items() if count]
        show(["", ", ".join(ends)])
    raise SystemExit(1 if failed else 0)


def _lines(finding: Finding) -> Iterator[str]:
    sign, colour = SIGNS[finding.result]
    first, *more = wrapped(finding.message, width(), 2)
    yield f"{painted(sign, colour)} {first[2:]}"
    yield from more
    if finding.hint:
        yield from hint_lines(finding.hint, width())


def hint_lines(hint: str, room: int | None) -> Iterator[str]:
    """Yield the lines of a hint. Where it does not fit, each command has a line of its own and is not broken."""
    first, *commands = [hint] if room is None or len(hint) + 10 <= room else BEFORE_COMMAND.split(hint)
    yield from wrapped(f"hint: {first}", None if first.startswith(PROGRAMS) else room, 4)
    yield from (f"      {each}" for each in commands)


def _json(found: Sequence[Finding], *, ok: bool) -> Json:
    return {
        "ok": ok,
        "checks": [
            {"section": each.section, "result": each.result.value, "message": each.message, "hint": each.hint}
            for each in found
        ],
    }


def _before(asked: Asked, watched: Sequence[str]) -> Findings:
    yield from _kubernetes(asked)
    if watched:
        yield from _kinds(asked)
        yield from _namespaced_installer(asked, watched)
    else:
        yield from _own_rights(asked, INSTALLER_RIGHTS, "you may install it", "let a cluster administrator install it")


def _after(asked: Asked, watched: Sequence[str]) -> Findings:
    look = look_at_operator(asked)
    yield from _kubernetes(asked)
    yield from _kinds(asked)
    seen = look()
    watched = watched or seen.watches
    yield from _operator(asked, seen, watched)
    yield from _others(asked, watched)
    yield from _operator_rights(asked, watched)
    yield from _admission(asked, watched)
    yield from _webhook(asked, watched)
    yield from _hanging(asked, seen, watched)


# The cluster


def _kubernetes(asked: Asked) -> Findings:
    section, cluster = "kubernetes", asked.cluster
    try:
        told = cluster.get_path("/version", what="/version")
    except ApiError as error:
        raise click.ClickException(explanation(error, cluster.server)) from error
    text = str(told.get("gitVersion", ""))
    yield Finding(section=section, result=Result.OK, message=f"the API server answers at {cluster.server}")
    version = version_of(text)
    if version < NATIVE:
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=f"Kubernetes is {text}: native sidecars need 1.29 or newer",
            hint="upgrade the cluster; with an older API server every policy is UnsupportedCluster",
        )
    else:
        yield Finding(section=section, result=Result.OK, message=f"Kubernetes {text} has native sidecars")
    yield from _nodes(cluster, section)


def _nodes(cluster: Cluster, section: str) -> Findings:
    try:
        nodes = cluster.list(NODES, most=MOST_NODES)
    except Rejected:
        yield _skipped(section, "the kubelets: you have no right to list nodes")
        return
    if not nodes:
        yield Finding(section=section, result=Result.WARNING, message="there is no node yet")
        return
    kubelets = {each["metadata"]["name"]: str(at(each, "status", "nodeInfo").get("kubeletVersion")) for each in nodes}
    old = [name for name, text in kubelets.items() if UNREADABLE < kubelet_version(text) < NATIVE]
    beta = [name for name, text in kubelets.items() if NATIVE <= kubelet_version(text) < SETTLED]
    if old:
        yield Finding(
            section=section,
            result=Result.FAILED if len(old) == len(kubelets) else Result.WARNING,
            message=f"{len(old)} of {plural(len(kubelets), 'node')} have a kubelet older than 1.29: {_some(old)}",
            hint="Pods with native sidecars do not start there: upgrade these nodes, or keep the Deployments off them",
        )
    elif beta:
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{len(beta)} of {plural(len(kubelets), 'node')} have a kubelet older than 1.33: {_some(beta)}",
            hint="native sidecars are beta there; their probes and the end of Pods have known faults",
        )
    else:
        yield Finding(
            section=section, result=Result.OK, message=f"all kubelets are new enough ({plural(len(kubelets), 'node')})"
        )


# The kinds


def _kinds(asked: Asked) -> Findings:
    section, cluster = "kinds", asked.cluster
    what = f"{names.API_VERSION}"
    try:
        served = cluster.get_path(f"/apis/{names.API_VERSION}", what=what)
        plurals = {each["name"] for each in items(served, "resources")}
    except NotFound:
        plurals = set()
    missing = sorted(set(names.PLURALS.values()) - plurals)
    if missing:
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=f"the cluster does not know {' and '.join(missing)}.{names.GROUP}",
            hint="install the kinds: kubectl apply -f crds/",
        )
    else:
        yield Finding(section=section, result=Result.OK, message=f"both kinds of {what} are served")
    for each in names.PLURALS.values():
        if each not in missing:
            yield from _definition(cluster, section, f"{each}.{names.GROUP}")


def _definition(cluster: Cluster, section: str, name: str) -> Findings:
    try:
        body = cluster.get(DEFINITIONS, "", name)
    except NotFound:
        return
    except Rejected:
        yield _skipped(section, f"the schema of {name}: you have no right to read it")
        return
    if "deletionTimestamp" in at(body, "metadata"):
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=f"{name} is being deleted, and waits for its policies",
            hint="let the operator take the sidecars out: sidecarpolicy release --all; or, where it is gone for good, "
            f"leave them: sidecarpolicy release --all {WITHOUT_OPERATOR}; docs/uninstall.md tells more",
        )
        return
    from sidecarpolicy.cli.schema import schema_of

    versions = {each.get("name"): each for each in items(at(body, "spec"), "versions")}
    schema = at(versions.get(names.VERSION, {}), "schema", "openAPIV3Schema", "properties", "spec")
    kind = next(kind for kind, plural in names.PLURALS.items() if name == f"{plural}.{names.GROUP}")
    own = _paths(at(schema_of(kind), "properties", "spec"))
    behind = sorted(own - _paths(schema))
    if behind:
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{name} is older than this program ({__version__}): it lacks {_some(behind)}",
            hint="upgrade the kinds before the operator: kubectl apply -f crds/",
        )
    elif ahead := sorted(_paths(schema) - own):
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{name} is newer than this program ({__version__}): it has {_some(ahead)} as well",
            hint="use the command line of the version that is installed",
        )
    else:
        yield Finding(section=section, result=Result.OK, message=f"{name} has the fields of {__version__}")


def _paths(schema: Mapping[str, object], path: str = "spec") -> set[str]:
    """The fields of our own in a schema; those of core/v1 come with the cluster's version."""
    found: set[str] = set()
    properties = at(dict(schema), "properties")
    items_ = at(dict(schema), "items")
    for name, each in properties.items():
        found.add(f"{path}.{name}")
        if name not in ("container", "volumes", "env", "volumeMounts", "selector", "namespaceSelector"):
            found |= _paths(each, f"{path}.{name}")
    return found | (_paths(items_, f"{path}[]") if items_ else set())


# The operator


def _operator(asked: Asked, seen: OperatorSeen, watched: Sequence[str]) -> Findings:
    section, place = "operator", asked.operator_namespace
    yield from _deployment(asked, section, place)
    if seen.lease_unknown:
        yield _skipped(section, f"who leads: you have no right to read Leases in namespace {place}")
    elif problem := seen.problem:
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=problem,
            hint=f"kubectl get pods -n {place}; kubectl logs -n {place} -l {OURS}",
        )
    elif seen.lease is not None:
        message = f"{seen.lease.holder} leads, and renewed its Lease {age(seen.lease.silent)} ago"
        yield Finding(section=section, result=Result.OK, message=message)
    if seen.stop:
        yield Finding(section=section, result=Result.WARNING, message=seen.banners[0], hint="sidecarpolicy start")
    elif seen.stop is None:
        yield _skipped(section, f"the emergency switch: you have no right to read namespace {place}")
    else:
        yield Finding(section=section, result=Result.OK, message="the emergency switch is off")
    if watched:
        message = (
            f"it serves {_places(watched)} only: ClusterSidecarPolicies are not served, nodes and the labels of "
            "namespaces are unknown to it"
        )
        yield Finding(section=section, result=Result.OK, message=message)


def _others(asked: Asked, watched: Sequence[str]) -> Findings:
    """Other operators that serve the same namespaces: both would write the same Deployments and statuses."""
    section, place = "operator", asked.operator_namespace
    try:
        leases = asked.cluster.list(LEASES, field_selector=f"metadata.name={names.CONTROLLER}")
    except Rejected:
        yield _skipped(section, "other operators: you have no right to list Leases in all namespaces")
        return
    for body in leases:
        other, theirs = at(body, "metadata").get("namespace", ""), watched_by(body)
        if other == place or not lease_of(body, asked.cluster.now()).is_kept:
            continue
        if watched and theirs and not (shared := sorted({*watched} & {*theirs})):
            continue
        both = _places(shared) if watched and theirs else _places(watched or theirs)
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"the operator in namespace {other} serves {both} too: both change the same Deployments, each "
            "within a budget of its own, and both write the statuses",
            hint="let one of them go, or serve other namespaces",
        )


def _places(namespaces: Sequence[str]) -> str:
    """Return them as a part of a sentence."""
    if not namespaces:
        return "the whole cluster"
    return f"{'namespace' if len(namespaces) == 1 else 'namespaces'} {', '.join(namespaces)}"


def _deployment(asked: Asked, section: str, place: str) -> Findings:
    try:
        found = asked.cluster.list(DEPLOYMENTS, place, label_selector=OURS)
    except Rejected:
        yield _skipped(section, f"its Deployment: you have no right to list Deployments in namespace {place}")
        return
    for body in found:
        name = f"{place}/{body['metadata']['name']}"
        wanted, ready = at(body, "spec").get("replicas", 1), at(body, "status").get("readyReplicas", 0)
        if ready < wanted or not wanted:
            yield Finding(
                section=section,
                result=Result.WARNING if ready else Result.FAILED,
                message=f"{ready} of {wanted} Pods of Deployment {name} are ready",
                hint=f"kubectl describe pods -n {place} -l {OURS}",
            )
        else:
            yield Finding(
                section=section, result=Result.OK, message=f"{plural(ready, 'Pod')} of Deployment {name} ready"
            )
        yield from _version(section, name, body)
    if not found:
        yield _skipped(section, f"its Deployment: there is none in namespace {place} (it may run outside the cluster)")


def _version(section: str, name: str, body: Json) -> Findings:
    """Compare the operator's version, told by its label or its image, with that of this program."""
    containers = items(at(body, "spec", "template", "spec"), "containers")
    label = at(body, "metadata", "labels").get("app.kubernetes.io/version", "")
    tags = [str(each.get("image", "")).partition("@")[0].rpartition(":")[2] for each in containers]
    running = next((each.removeprefix("v") for each in (label, *tags) if re.match(r"v?\d+\.\d+", each)), "")
    if not running:
        yield _skipped(section, f"the version of {name}: neither its label nor its image's tag says which")
    elif version_of(running) != version_of(__version__):
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{name} is version {running}, this program {__version__}",
            hint="use the command line of the version that is installed",
        )
    else:
        yield Finding(
            section=section, result=Result.OK, message=f"{name} ({running}) and this program ({__version__}) fit"
        )


# Rights


def _own_rights(asked: Asked, rights: Iterable[tuple[str, str, str]], well: str, hint: str) -> Findings:
    missing = _missing(asked, OWN_ACCESS, rights, {})
    section = "rights"
    if missing:
        yield Finding(section=section, result=Result.FAILED, message=f"you may not {_some(missing)}", hint=hint)
    else:
        yield Finding(section=section, result=Result.OK, message=well)


def _namespaced_installer(asked: Asked, watched: Sequence[str]) -> Findings:
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
            message=f"you may not {_some(missing)}",
            hint="you need the role admin there; and a cluster administrator has to apply deploy/namespaced/cluster, "
            "once: it lets admins grant what the operator needs",
        )
    else:
        message = f"you may install it in namespace {asked.operator_namespace}, for {_places(watched)}"
        yield Finding(section="rights", result=Result.OK, message=message)


def _operator_rights(asked: Asked, watched: Sequence[str]) -> Findings:
    section, place = "rights", asked.operator_namespace
    account = f"system:serviceaccount:{place}:{names.CONTROLLER}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{place}", "system:authenticated"]
    who = {"user": account, "groups": groups}
    try:
        missing = [] if watched else _missing(asked, ANYBODYS_ACCESS, OPERATOR_RIGHTS, who)
        for each in watched:
            lacking = _missing(asked, ACCESS_IN_NAMESPACE, NAMESPACED_RIGHTS, who, each)
            missing += [f"{right} in namespace {each}" for right in lacking]
    except Rejected:
        yield _skipped(section, "the operator's rights: you may not ask for those of others")
        return
    if missing:
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=f"{account} may not {_some(missing)}",
            hint="apply the roles of this version: "
            + (
                "deploy/namespaced, or the chart with watchNamespaces"
                if watched
                else "kubectl apply -k deploy/base/access"
            ),
        )
    else:
        where = f" in {_places(watched)}" if watched else ""
        yield Finding(section=section, result=Result.OK, message=f"{account} has the rights that it needs{where}")


def _missing(
    asked: Asked,
    resource: Resource,
    rights: Iterable[tuple[str, str, str]],
    who: Mapping[str, object],
    namespace: str = "",
) -> list[str]:
    """Return those of *rights* that are denied in *namespace* (empty: in any), as `patch deployments.apps`.

    Raise Rejected where that may not be asked.
    """
    cluster = asked.cluster
    # A question is no change: a dry run would get no answer.
    answers = [
        (verb, group, kind, cluster.soon(_may, cluster, resource, (verb, group, kind), who, namespace))
        for verb, group, kind in rights
    ]
    return [f"{verb} {kind}{'.' + group if group else ''}" for verb, group, kind, allowed in answers if not allowed()]


def _may(
    cluster: Cluster, resource: Resource, right: tuple[str, str, str], who: Mapping[str, object], namespace: str
) -> bool:
    verb, group, kind = right
    name, _, subresource = kind.partition("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": name,
        "subresource": subresource,
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


# Admission


def _admission(asked: Asked, watched: Sequence[str]) -> Findings:
    section = "admission"
    try:
        asked.cluster.get(BINDINGS, "", AUTHORS)
    except NotFound:
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"the admission policy {AUTHORS} is not installed: whoever may write a policy runs containers in "
            "Deployments that they may not edit",
            hint="let a cluster administrator run: kubectl apply -k deploy/namespaced/cluster"
            if watched
            else "kubectl apply -k deploy/base/access",
        )
    except Rejected:
        yield _skipped(section, "admission policies: you have no right to read them")
    else:
        message = "authors of policies must be allowed to update the Deployments that they reach"
        yield Finding(section=section, result=Result.OK, message=message)


def _webhook(asked: Asked, watched: Sequence[str]) -> Findings:
    section = "admission"
    if watched:
        yield _skipped(section, "the webhook: there is none for an operator that serves some namespaces only")
        return
    try:
        found = asked.cluster.list(WEBHOOKS, label_selector=OURS)
    except Rejected:
        yield _skipped(section, "webhooks: you have no right to list them")
        return
    for configuration in found:
        for each in items(configuration, "webhooks"):
            yield from _one_webhook(asked, section, each)
    if found:
        is_outside = all(_url_of(each) for configuration in found for each in items(configuration, "webhooks"))
        yield from _certificate(asked, section, is_needed=not is_outside)
    else:
        yield _skipped(section, "the webhook: it is not installed (it is optional)")


def _url_of(webhook: Json) -> str:
    """Where a webhook is that runs outside the cluster; its certificate may be of whoever runs it."""
    return str(at(webhook, "clientConfig").get("url") or "")


def _certificate(asked: Asked, section: str, *, is_needed: bool) -> Findings:
    from sidecarpolicy.cli.certificate import certificate_finding  # X.509 takes a while to import

    name = f"Secret {asked.operator_namespace}/{names.WEBHOOK_SECRET}"
    try:
        secret = asked.cluster.get(SECRETS, asked.operator_namespace, names.WEBHOOK_SECRET)
    except NotFound:
        if is_needed:
            yield Finding(
                section=section,
                result=Result.FAILED,
                message=f"the webhook has no certificate: there is no {name}",
                hint="apply the manifests of the webhook again: kubectl apply -k deploy/base/admission",
            )
    except Rejected:
        yield _skipped(section, f"when the webhook's certificate expires: you have no right to read {name}")
    else:
        yield certificate_finding(section, secret, asked.cluster.now())


def _one_webhook(asked: Asked, section: str, webhook: Json) -> Findings:
    name, service = webhook["name"], at(webhook, "clientConfig", "service")
    if url := _url_of(webhook):
        yield _skipped(section, f"webhook {name} is at {url}: whether that can be reached only the API server knows")
        return
    if not at(webhook, "clientConfig").get("caBundle"):
        yield Finding(
            section=section,
            result=Result.FAILED,
            message=f"webhook {name} has no caBundle: the API server cannot trust it",
            hint=f"the operator writes it; kubectl logs -n {asked.operator_namespace} -l {OURS}",
        )
        return
    place, of = str(service.get("namespace", "")), str(service.get("name", ""))
    try:
        slices = asked.cluster.list(ENDPOINTS, place, label_selector=f"kubernetes.io/service-name={of}")
    except Rejected:
        yield _skipped(section, f"whether webhook {name} can be reached: you have no right to list EndpointSlices")
        return
    ready = sum(bool(at(end, "conditions").get("ready", True)) for each in slices for end in items(each, "endpoints"))
    if not ready:
        lenient = webhook.get("failurePolicy") == "Ignore"
        yield Finding(
            section=section,
            result=Result.WARNING if lenient else Result.FAILED,
            message=f"webhook {name} has nobody behind it: Service {place}/{of} has no ready endpoint",
            hint=f"kubectl get pods -n {place}",
        )
    else:
        yield Finding(section=section, result=Result.OK, message=f"webhook {name}: {plural(ready, 'ready endpoint')}")


# What hangs


def _hanging(asked: Asked, seen: OperatorSeen, watched: Sequence[str]) -> Findings:
    """Policies that are being deleted and are not gone, or halted: why, and what to do."""
    section, cluster = "policies", asked.cluster
    lists = [cluster.soon(cluster.list, POLICIES[names.POLICY], each) for each in watched]
    lists = lists or [cluster.soon(cluster.list, resource) for resource in POLICIES.values()]
    bodies: list[Json] = []
    for listed in lists:
        try:
            bodies += listed()
        except NotFound:
            continue  # the kinds are not there, as has been said
        except Rejected:
            yield _skipped(section, "what hangs: you have no right to list all policies")
            return
    leaving = [each for each in bodies if "deletionTimestamp" in each["metadata"]]
    for body in leaving:
        yield _why_it_hangs(section, body, seen)
    if bodies and not leaving:
        message = f"none of {plural(len(bodies), 'policy', 'policies')} waits to be deleted"
        yield Finding(section=section, result=Result.OK, message=message)
    yield from _halted(section, [standing_of(each) for each in bodies if each not in leaving])
    yield from _hanging_namespaces(cluster, section, leaving)


def _halted(section: str, standings: Sequence[Standing]) -> Findings:
    """Policies whose rollout is halted, each until somebody acts."""
    halted = [each for each in standings if each.observed and each.status.get("halt")]
    for each in halted[:MOST_NAMED]:
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"the rollout of {with_namespace(each.policy)} is halted: {each.reason}",
            hint=command("status", each.policy),
        )
    if len(halted) > MOST_NAMED:
        message = f"so are those of {plural(len(halted) - MOST_NAMED, 'more policy', 'more policies')}"
        yield Finding(section=section, result=Result.WARNING, message=message, hint="sidecarpolicy status -A")


def _why_it_hangs(section: str, body: Json, seen: OperatorSeen) -> Finding:
    metadata = body["metadata"]
    identity = PolicyId(kind=body["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"])
    name = with_namespace(identity)
    if awaiting := awaited_by(body):
        return Finding(
            section=section,
            result=Result.WARNING,
            message=f"{name} is being deleted, and held until {', '.join(awaiting)} is approved",
            hint=command("approve", identity),
        )
    if seen.problem:
        return Finding(
            section=section,
            result=Result.FAILED,
            message=f"{name} is being deleted, and there is no operator to take its sidecars out",
            hint="start the operator; or, where it is gone for good, leave the sidecars to their owners: "
            f"sidecarpolicy release --all {WITHOUT_OPERATOR}",
        )
    message = f"{name} is being deleted; its sidecars are being taken out"
    return Finding(section=section, result=Result.WARNING, message=message, hint=command("status", identity, "--watch"))


def _hanging_namespaces(cluster: Cluster, section: str, leaving: Sequence[Json]) -> Findings:
    places = sorted({place for each in leaving if (place := at(each, "metadata").get("namespace", ""))})
    for place in places:
        try:
            body = cluster.get(NAMESPACES, "", place)
        except ApiError:
            continue
        if "deletionTimestamp" in at(body, "metadata"):
            yield Finding(
                section=section,
                result=Result.FAILED,
                message=f"namespace {place} is being deleted, and waits for its policies to go",
                hint=f"kubectl describe namespace {place}; with an operator running it goes by itself",
            )


def _skipped(section: str, message: str) -> Finding:
    return Finding(section=section, result=Result.SKIPPED, message=message)


def _some(found: Sequence[str]) -> str:
    """Return the first few, and how many more there are."""
    rest = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + rest
