"""`sidecarpolicy check`: is this a cluster for it, is it installed, does it run, and what hangs; as `linkerd check`.

Every line is one finding with a result; what is not well has a hint with the command that goes on. What may not be
read is skipped and said so, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import click

from sidecarpolicy import __version__, names
from sidecarpolicy.cli.asking import Asked, asks_cluster, output_option, print_as
from sidecarpolicy.cli.check_rights import installer_rights, namespaced_installer_rights, operator_rights
from sidecarpolicy.cli.cluster import Cluster, explanation
from sidecarpolicy.cli.findings import MOST_NAMED, Finding, Findings, Result, lines_of, skipped, some
from sidecarpolicy.cli.namespace_name import namespaces_named
from sidecarpolicy.cli.operator_seen import LEASES, OperatorSeen, lease_of, look_at_operator, watched_by
from sidecarpolicy.cli.policy_names import command, with_namespace
from sidecarpolicy.cli.standing import WITHOUT_OPERATOR, Standing, awaited_by, standing_of
from sidecarpolicy.cli.text import age, plural, show
from sidecarpolicy.core.identity import PolicyId, namespaces_in_words
from sidecarpolicy.core.nodes import NATIVE, SETTLED, UNREADABLE, kubelet_version, version_of
from sidecarpolicy.core.report import held_by, other_finalizers
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.port import ApiError, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, NODES, POLICIES, SECRETS
from sidecarpolicy.names import DeletionPolicy

MOST_NODES = 500

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
AUTHORS = "sidecarpolicy-authors"
OURS = f"app.kubernetes.io/name={names.CONTROLLER}"


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
        show(lines_of(finding))
    failed = any(each.result is Result.FAILED for each in found)
    if output == "json":
        print_as(output, _json(found, ok=not failed))
    else:
        counted = {result: sum(each.result is result for each in found) for result in Result}
        ends = [f"{count} {result.value}" for result, count in counted.items() if count]
        show(["", ", ".join(ends)])
    raise SystemExit(1 if failed else 0)


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
        yield from namespaced_installer_rights(asked, watched)
    else:
        yield from installer_rights(asked)


def _after(asked: Asked, watched: Sequence[str]) -> Findings:
    look = look_at_operator(asked)
    yield from _kubernetes(asked)
    yield from _kinds(asked)
    seen = look()
    watched = watched or seen.watches
    yield from _operator(asked, seen, watched)
    yield from _others(asked, watched)
    yield from operator_rights(asked, watched)
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
        yield skipped(section, "the kubelets: you have no right to list nodes")
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
            message=f"{len(old)} of {plural(len(kubelets), 'node')} have a kubelet older than 1.29: {some(old)}",
            hint="Pods with native sidecars do not start there: upgrade these nodes, or keep the Deployments off them",
        )
    elif beta:
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{len(beta)} of {plural(len(kubelets), 'node')} have a kubelet older than 1.33: {some(beta)}",
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
        yield skipped(section, f"the schema of {name}: you have no right to read it")
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
            message=f"{name} is older than this program ({__version__}): it lacks {some(behind)}",
            hint="upgrade the kinds before the operator: kubectl apply -f crds/",
        )
    elif ahead := sorted(_paths(schema) - own):
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"{name} is newer than this program ({__version__}): it has {some(ahead)} as well",
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
        yield skipped(section, f"who leads: you have no right to read Leases in namespace {place}")
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
        yield skipped(section, f"the emergency switch: you have no right to read namespace {place}")
    else:
        yield Finding(section=section, result=Result.OK, message="the emergency switch is off")
    if watched:
        message = (
            f"it serves {namespaces_in_words(watched)} only: ClusterSidecarPolicies are not served, nodes and the "
            "labels of namespaces are unknown to it"
        )
        yield Finding(section=section, result=Result.OK, message=message)


def _others(asked: Asked, watched: Sequence[str]) -> Findings:
    """Other operators that serve the same namespaces: both would write the same Deployments and statuses."""
    section = "operator"
    try:
        elsewhere = _kept_elsewhere(asked)
    except Rejected:
        yield skipped(section, "other operators: you have no right to list Leases in all namespaces")
        return
    for other, theirs in elsewhere:
        if watched and theirs and not (shared := sorted({*watched} & {*theirs})):
            continue
        both = namespaces_in_words(shared) if watched and theirs else namespaces_in_words(watched or theirs)
        yield Finding(
            section=section,
            result=Result.WARNING,
            message=f"the operator in namespace {other} serves {both} too: both change the same Deployments, each "
            "within a budget of its own, and both write the statuses",
            hint="let one of them go, or serve other namespaces",
        )


def _kept_elsewhere(asked: Asked) -> list[tuple[str, tuple[str, ...]]]:
    """Return the namespaces of other operators that run, and which ones each serves. Raise Rejected."""
    leases = asked.cluster.list(LEASES, field_selector=f"metadata.name={names.CONTROLLER}")
    found = [(at(each, "metadata").get("namespace", ""), each) for each in leases]
    now = asked.cluster.now()
    return [
        (place, watched_by(each))
        for place, each in found
        if place != asked.operator_namespace and lease_of(each, now).is_kept
    ]


def _deployment(asked: Asked, section: str, place: str) -> Findings:
    try:
        found = asked.cluster.list(DEPLOYMENTS, place, label_selector=OURS)
    except Rejected:
        yield skipped(section, f"its Deployment: you have no right to list Deployments in namespace {place}")
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
        yield skipped(section, f"its Deployment: there is none in namespace {place} (it may run outside the cluster)")


def _version(section: str, name: str, body: Json) -> Findings:
    """Compare the operator's version, told by its label or its image, with that of this program."""
    containers = items(at(body, "spec", "template", "spec"), "containers")
    label = at(body, "metadata", "labels").get("app.kubernetes.io/version", "")
    tags = [str(each.get("image", "")).partition("@")[0].rpartition(":")[2] for each in containers]
    running = next((each.removeprefix("v") for each in (label, *tags) if re.match(r"v?\d+\.\d+", each)), "")
    if not running:
        yield skipped(section, f"the version of {name}: neither its label nor its image's tag says which")
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
        yield skipped(section, "admission policies: you have no right to read them")
    else:
        message = "authors of policies must be allowed to update the Deployments that they reach"
        yield Finding(section=section, result=Result.OK, message=message)


def _webhook(asked: Asked, watched: Sequence[str]) -> Findings:
    section = "admission"
    if watched:
        yield skipped(section, "the webhook: there is none for an operator that serves some namespaces only")
        return
    try:
        found = asked.cluster.list(WEBHOOKS, label_selector=OURS)
    except Rejected:
        yield skipped(section, "webhooks: you have no right to list them")
        return
    for configuration in found:
        for each in items(configuration, "webhooks"):
            yield from _one_webhook(asked, section, each)
    if found:
        is_outside = all(_url_of(each) for configuration in found for each in items(configuration, "webhooks"))
        yield from _certificate(asked, section, is_needed=not is_outside)
    else:
        yield skipped(section, "the webhook: it is not installed (it is optional)")


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
        yield skipped(section, f"when the webhook's certificate expires: you have no right to read {name}")
    else:
        yield certificate_finding(section, secret, asked.cluster.now())


def _one_webhook(asked: Asked, section: str, webhook: Json) -> Findings:
    name, service = webhook["name"], at(webhook, "clientConfig", "service")
    if url := _url_of(webhook):
        yield skipped(section, f"webhook {name} is at {url}: whether that can be reached only the API server knows")
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
        yield skipped(section, f"whether webhook {name} can be reached: you have no right to list EndpointSlices")
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
            yield skipped(section, "what hangs: you have no right to list all policies")
            return
    leaving = [each for each in bodies if "deletionTimestamp" in each["metadata"]]
    for body in leaving:
        yield _why_it_hangs(section, body, seen)
    if watched:
        yield from _unserved(asked, section, watched)
    if bodies and not leaving:
        message = f"none of {plural(len(bodies), 'policy', 'policies')} waits to be deleted"
        yield Finding(section=section, result=Result.OK, message=message)
    yield from _halted(section, [standing_of(each) for each in bodies if each not in leaving])
    yield from _hanging_namespaces(cluster, section, leaving)


def _unserved(asked: Asked, section: str, watched: Sequence[str]) -> Findings:
    """Policies that an operator has served, and none serves now: it was told to serve fewer namespaces since."""
    try:
        there = [body for resource in POLICIES.values() for body in asked.cluster.list(resource)]
        others = [theirs for _, theirs in _kept_elsewhere(asked)]
    except (NotFound, Rejected):
        return  # who serves some namespaces may not be able to see the others
    if not all(others):  # one of them serves the whole cluster
        return
    served = {*watched, *(place for each in others for place in each)}
    left = [
        (with_namespace(PolicyId.of(body)), "deletionTimestamp" in body["metadata"])
        for body in there
        if body["metadata"].get("namespace", "") not in served
        and names.FINALIZER in body["metadata"].get("finalizers", ())
    ]
    if not left:
        return
    deleted = sum(is_deleted for _, is_deleted in left)
    hang = f", and {deleted} of them {'waits' if deleted == 1 else 'wait'} to be deleted" if deleted else ""
    yield Finding(
        section=section,
        result=Result.FAILED if deleted else Result.WARNING,
        message=f"{plural(len(left), 'policy', 'policies')} that an operator has served before, and none serves now: "
        f"{some([name for name, _ in left])}{hang}",
        hint="let one serve them too (--watch-namespace, or the whole cluster), at least until they are deleted; what "
        "their status says is what was seen last",
    )


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
    metadata, identity = body["metadata"], PolicyId.of(body)
    name = with_namespace(identity)
    orphaned = at(body, "spec").get("deletionPolicy") == DeletionPolicy.ORPHAN
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
            message=f"{name} is being deleted, and there is no operator to "
            f"{'take its record off' if orphaned else 'take its sidecars out'}",
            hint="start the operator; or, where it is gone for good, leave the sidecars to their owners: "
            f"sidecarpolicy release --all {WITHOUT_OPERATOR}",
        )
    if others := other_finalizers(metadata.get("finalizers", ())):
        return Finding(
            section=section,
            result=Result.WARNING,
            message=f"{name} is being deleted; {held_by(others, orphaned=orphaned)}",
            hint="whoever has set that finalizer takes it off",
        )
    message = f"{name} is being deleted; its sidecars are being {'left to their owners' if orphaned else 'taken out'}"
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
