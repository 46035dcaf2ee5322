"""The policies and what else decides that files hold, as the operator would see it in a cluster."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sidecarpolicy import names
from sidecarpolicy.cli.locating import located
from sidecarpolicy.cli.schema import policy_problems
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, autoscaler_from
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds import KINDS
from sidecarpolicy.core.node_groups import Nodes
from sidecarpolicy.core.nodes import Node, node_from
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.reading import Cursor, InvalidInput, Problem
from sidecarpolicy.core.record import PULL_SECRETS
from sidecarpolicy.core.rendering import lacks_gate, offline
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import invalid_marks
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import Namespace
from sidecarpolicy.manifests import BadInput, File, Object
from sidecarpolicy.names import WarningReason

# The label that the API server itself sets on every Namespace.
NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What decides: the policies, what they inject, the namespaces whose labels are known, and the autoscalers.

    *pull_secrets*: those of ServiceAccounts, by namespace and name. *nodes*: those of the cluster, as far as they are
    given. *default_namespace* is that of manifests without one.
    """

    policies: Mapping[PolicyId, Policy]
    revisions: Mapping[PolicyId, Revision]
    namespaces: Mapping[str, Namespace]
    autoscalers: Sequence[Autoscaler]
    default_namespace: str
    pull_secrets: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    nodes: Nodes = field(default_factory=Nodes)

    def namespace(self, name: str) -> Namespace:
        """The namespace *name*, with what the API server says of every one where no more is known."""
        return self.namespaces.get(name) or Namespace(name=name, labels={NAMESPACE_NAME: name})

    def selecting(self, workload: WorkloadId, pod_labels: Mapping[str, str]) -> list[PolicyId]:
        """The policies that select *workload*."""
        return [policy.id for policy in self.policies.values() if self._selects(policy, workload, pod_labels)]

    def _selects(self, policy: Policy, workload: WorkloadId, pod_labels: Mapping[str, str]) -> bool:
        if policy.namespace_selector is not None:
            reaches = policy.namespace_selector.matches(self.namespace(workload.namespace).labels)
        else:
            reaches = policy.id.namespace == workload.namespace
        return reaches and not policy.deleting and policy.selector.matches(pod_labels)

    def guessed_namespaces(self, used: Iterable[str]) -> list[str]:
        """Of the namespaces *used*, those whose labels a policy asks for although they are not known."""
        asked = {
            requirement.key
            for policy in self.policies.values()
            if policy.namespace_selector is not None
            for requirement in policy.namespace_selector.requirements
        } - {NAMESPACE_NAME}
        return sorted(set(used) - set(self.namespaces)) if asked else []


def given(policy_files: Sequence[File], manifests: Sequence[File], *, default_namespace: str) -> Given:
    """Return what files declare; raise BadInput with every problem of every policy.

    Policies are taken from *policy_files* alone, Namespaces, ServiceAccounts, HorizontalPodAutoscalers and Nodes from
    both.
    """
    problems: list[str] = []
    namespaces: dict[str, Namespace] = {}
    scalers: list[Object] = []
    deployments: list[Object] = []
    pull_secrets: dict[tuple[str, str], tuple[str, ...]] = {}
    nodes = Nodes()
    for found in (each for file in (*policy_files, *manifests) for each in file.objects()):
        if (found.api_version, found.kind) == ("v1", "Namespace"):
            namespace, wrong = _namespace(found.value)
            problems += [located(found, problem) for problem in wrong]
            namespaces[namespace.name] = namespace
        elif (found.api_version, found.kind) == ("v1", "ServiceAccount"):
            root = Cursor(found.value, "")
            pull_secrets[_identity(found.value, default_namespace)] = _pull_secrets(root)
            problems += [located(found, problem) for problem in root.problems]
        elif (found.api_version, found.kind) == ("v1", "Node"):
            root = Cursor(found.value, "")
            if (node := _node(root)) is not None:
                nodes.put(node.name, node)
            problems += [located(found, problem) for problem in root.problems]
        elif found.kind == "HorizontalPodAutoscaler":
            scalers.append(found)
        elif found.kind in KINDS:
            deployments.append(found)
    scaled = {_identity(each.value, default_namespace) for each in deployments} if scalers else set()
    autoscalers, wrong_scalers = _autoscalers(scalers, scaled, default_namespace)
    policies, wrong_policies = _policies(policy_files, default_namespace)
    problems += wrong_scalers + wrong_policies
    if problems:
        raise BadInput(problems)
    return Given(
        policies=policies,
        revisions={policy.id: _readable(offline(policy)) for policy in policies.values()},
        namespaces=namespaces,
        autoscalers=sorted(autoscalers, key=lambda each: each.name),
        default_namespace=default_namespace,
        pull_secrets=pull_secrets,
        nodes=nodes,
    )


def _node(root: Cursor) -> Node | None:
    """Return the node that is declared at *root*; None where what is wrong with it is noted there."""
    metadata, taints = root.field("metadata"), root.field("spec").field("taints")
    for key in metadata.field("labels").mapping():
        metadata.field("labels").field(str(key)).text()
    if not metadata.field("name").text():
        metadata.field("name").wrong("must be given")
    for taint in taints.entries():
        taint.mapping()
        if not taint.field("key").text():
            taint.field("key").wrong("must be given")
        taint.field("effect").text()
    root.field("status").field("nodeInfo").mapping()
    return None if root.problems else node_from(root.mapping())


def _pull_secrets(root: Cursor) -> tuple[str, ...]:
    root.field("metadata").mapping()
    secrets = list(root.field(PULL_SECRETS).entries())
    for each in secrets:
        each.mapping()
    return tuple(name for each in secrets if (name := each.field("name").text()))


def _policies(files: Sequence[File], default_namespace: str) -> tuple[dict[PolicyId, Policy], list[str]]:
    policies: dict[PolicyId, Policy] = {}
    places: dict[PolicyId, Object] = {}
    problems: list[str] = []
    for found in (each for file in files for each in file.objects() if is_policy(each)):
        policy, wrong = _policy(in_namespace(found.value, default_namespace))
        problems += [located(found, problem) for problem in wrong]
        if policy is None:
            continue
        if policy.id in policies:
            twice = f"must not declare {policy.id.label} again, as {places[policy.id].place} does"
            problems.append(located(found, Problem(path="metadata.name", message=twice)))
        policies[policy.id], places[policy.id] = policy, found
    if not policies and not problems:
        sources = sorted({file.source for file in files})
        problems.append(f"{', '.join(sources) or 'the policy files'}: must hold a {' or a '.join(names.PLURALS)}")
    return policies, problems


def _policy(body: Json) -> tuple[Policy | None, list[Problem]]:
    """Return the policy *body*, and what is wrong with it: by its schema, and by the rules that no schema says."""
    wrong: list[Problem] = []
    if not isinstance(body.get("kind"), str):
        return None, [Problem(path="kind", message=f"must be one of {', '.join(names.PLURALS)}")]
    if body.get("kind") in names.PLURALS and body.get("apiVersion") == names.API_VERSION:
        wrong = policy_problems(body)
    try:
        policy = decode_policy(body)
    except InvalidInput as error:
        by_schema = {problem.path: problem for problem in wrong}
        decoded = [each for each in error.problems if not _is_said(each, by_schema)]
        return None, sorted([*decoded, *wrong], key=lambda each: _order(each.path))
    return (None if wrong else policy), wrong


def _is_said(problem: Problem, by_schema: Mapping[str, Problem]) -> bool:
    """Whether the schema has a word on the same field, or on what it is in."""
    return any(problem.path == path or problem.path.startswith((f"{path}.", f"{path}[")) for path in by_schema)


def _order(path: str) -> list[tuple[int, str]]:
    return [(int(step), "") if step.isdigit() else (-1, step) for step in re.split(r"[.\[\]]+", path)]


def _identity(body: Json, default_namespace: str) -> tuple[str, str]:
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return str(metadata.get("namespace") or default_namespace), str(metadata.get("name"))


def _autoscalers(
    found: Sequence[Object], deployments: Collection[tuple[str, str]], default_namespace: str
) -> tuple[list[Autoscaler], list[str]]:
    """Return the autoscalers that matter; one that scales nothing among *deployments* need not even be whole."""
    autoscalers: list[Autoscaler] = []
    problems: list[str] = []
    for each in found:
        body = each.value
        namespace, _ = _identity(body, default_namespace)
        root = Cursor(body, "")
        target = root.field("spec").field("scaleTargetRef")
        if (namespace, str(target.field("name").value)) not in deployments:
            continue
        problems += [located(each, problem) for problem in _scaler_problems(root)]
        if not root.problems and (autoscaler := autoscaler_from(in_namespace(body, default_namespace))):
            autoscalers.append(autoscaler)
    return autoscalers, problems


def _scaler_problems(root: Cursor) -> list[Problem]:
    metadata, spec = root.field("metadata"), root.field("spec")
    target = spec.field("scaleTargetRef")
    for required in (metadata.field("name"), target.field("kind"), target.field("name")):
        if not required.text():
            required.wrong("must be given")
    for metric in spec.field("metrics").entries():
        metric.mapping()
        if not metric.field("type").text():
            metric.field("type").wrong("must be given")
        elif metric.field("type").value == "Resource":
            name = metric.field("resource").field("name")
            metric.field("resource").mapping()
            metric.field("resource").field("target").mapping()
            if not name.text():
                name.wrong("must be given")
    return root.problems


def _readable(revision: Revision) -> Revision:
    """Return *revision* with the name of every sidecar first, as people write containers."""
    sidecars = (replace(each, container={"name": each.name, **each.container}) for each in revision.sidecars)
    return replace(revision, sidecars=tuple(sidecars))


def in_namespace(body: Json, default: str) -> Json:
    """Return a namespaced object with the namespace that it is created in."""
    metadata = body.get("metadata")
    if body.get("kind") == names.CLUSTER_POLICY or not isinstance(metadata, dict) or metadata.get("namespace"):
        return body
    return {**body, "metadata": {**metadata, "namespace": default}}


def policy_warnings(given: Given) -> list[tuple[str, WarningReason, str]]:
    """What the authors of policies and owners of namespaces should know: about what, the reason, a sentence."""
    provided = {sidecar.name for policy in given.policies.values() for sidecar in policy.sidecars}
    found: list[tuple[str, WarningReason, str]] = []
    for policy in given.policies.values():
        for sidecar in policy.sidecars:
            if lacks_gate(sidecar):
                message = (
                    f"sidecar {sidecar.name!r} has neither a startupProbe nor a readinessProbe: "
                    f"{sidecar.startup} has nothing to wait for"
                )
                found.append((policy.id.label, WarningReason.NO_STARTUP_GATE, message))
            for name in sorted(set(sidecar.start_after) - provided):
                message = f"sidecar {sidecar.name!r} starts after {name!r}, which none of the policies given injects"
                found.append((policy.id.label, WarningReason.UNKNOWN_START_AFTER, message))
    return found


def namespace_warnings(manifests: Iterable[File]) -> list[tuple[str, WarningReason, str]]:
    """Marks on Namespaces that are not known or have a value that is not allowed."""
    return [
        (f"namespace {at(found.value, 'metadata').get('name')}", WarningReason.INVALID_MARK, message)
        for file in manifests
        for found in file.objects()
        if (found.api_version, found.kind) == ("v1", "Namespace")
        for message in invalid_marks(at(found.value, "metadata", "labels"), at(found.value, "metadata", "annotations"))
    ]


def is_policy(found: Object) -> bool:
    """Of any version: one that is not ours yet, or misspelt, is a problem to report and no other object."""
    return found.kind in names.PLURALS or found.api_version.startswith(f"{names.GROUP}/")


def _namespace(body: Json) -> tuple[Namespace, list[Problem]]:
    root = Cursor(body, "")
    metadata = root.field("metadata")
    name = metadata.field("name").text()
    if not name:
        metadata.field("name").wrong("must be given")
    labels = metadata.field("labels")
    values = {str(key): labels.field(str(key)).text() for key in labels.mapping()}
    metadata.field("annotations").mapping()
    namespace = Namespace(
        name=name,
        labels={NAMESPACE_NAME: name, **values},
        terminating=not metadata.field("deletionTimestamp").absent,
    )
    return namespace, root.problems
