"""The policies, namespaces and autoscalers that files hold, as the operator would see them in a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sidecarpolicy import names
from sidecarpolicy.cli.manifests import BadInput, Document, Place, objects
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, autoscaler_from
from sidecarpolicy.core.checks import invalid_marks
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.reading import Cursor, InvalidInput
from sidecarpolicy.core.rendering import lacks_gate, offline
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import Namespace
from sidecarpolicy.names import WarningReason

# The label that the API server itself sets on every Namespace.
NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What decides: the policies, what they inject, the namespaces whose labels are known, and the autoscalers.

    *default_namespace* is that of manifests without one.
    """

    policies: Mapping[PolicyId, Policy]
    revisions: Mapping[PolicyId, Revision]
    namespaces: Mapping[str, Namespace]
    autoscalers: Sequence[Autoscaler]
    default_namespace: str

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


def given(policy_files: Iterable[Document], manifests: Iterable[Document], *, default_namespace: str) -> Given:
    """Return what files declare; raise BadInput with every problem of every policy.

    Policies are taken from *policy_files* alone, Namespaces and HorizontalPodAutoscalers from both.
    """
    autoscalers: list[Autoscaler] = []
    policies: dict[PolicyId, Policy] = {}
    places: dict[PolicyId, Place] = {}
    namespaces: dict[str, Namespace] = {}
    problems: list[str] = []
    policy_files = list(policy_files)
    for place, body in (*objects(policy_files), *objects(manifests)):
        if (body.get("apiVersion"), body.get("kind")) == ("v1", "Namespace"):
            namespace, wrong = _namespace(body)
            problems += [f"{place}: {problem}" for problem in wrong]
            namespaces[namespace.name] = namespace
        elif body.get("kind") == "HorizontalPodAutoscaler":
            try:
                autoscaler = autoscaler_from(in_namespace(body, default_namespace))
            except (AttributeError, KeyError, TypeError):
                problems.append(f"{place}: must be a HorizontalPodAutoscaler, with name, scaleTargetRef and metrics")
            else:
                autoscalers += [autoscaler] if autoscaler else []
    for place, body in objects(policy_files):
        if not _is_policy(body):
            continue
        try:
            policy = decode_policy(in_namespace(body, default_namespace))
        except InvalidInput as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
            continue
        if policy.id in policies:
            problems.append(
                f"{place}: metadata.name: must not declare {policy.id.label} again, as {places[policy.id]} does"
            )
        policies[policy.id], places[policy.id] = policy, place
    if not policies and not problems:
        sources = sorted({document.place.source for document in policy_files})
        problems.append(f"{', '.join(sources) or 'the policy files'}: must hold a {' or a '.join(names.PLURALS)}")
    if problems:
        raise BadInput(problems)
    return Given(
        policies=policies,
        revisions={policy.id: _readable(offline(policy)) for policy in policies.values()},
        namespaces=namespaces,
        autoscalers=sorted(autoscalers, key=lambda each: each.name),
        default_namespace=default_namespace,
    )


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


def namespace_warnings(manifests: Iterable[Document]) -> list[tuple[str, WarningReason, str]]:
    """Marks on Namespaces that are not known or have a value that is not allowed."""
    return [
        (f"namespace {at(body, 'metadata').get('name')}", WarningReason.INVALID_MARK, message)
        for _, body in objects(manifests)
        if (body.get("apiVersion"), body.get("kind")) == ("v1", "Namespace")
        for message in invalid_marks(at(body, "metadata", "labels"), at(body, "metadata", "annotations"))
    ]


def _is_policy(body: Json) -> bool:
    """Of any version: one that is not ours yet, or misspelt, is a problem to report and no other object."""
    return body.get("kind") in names.PLURALS or str(body.get("apiVersion")).startswith(f"{names.GROUP}/")


def _namespace(body: Json) -> tuple[Namespace, list[str]]:
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
    return namespace, [str(problem) for problem in root.problems]
