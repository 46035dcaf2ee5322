"""What the operator keeps of a Deployment, its ReplicaSets and its namespace.

Slim on purpose: with 10,000 Deployments only numbers and labels are kept as objects; the Pod template and the fields
that tell who owns what stay JSON bytes, decoded by the one pass that needs them. Two observations with equal bytes
share them, so a verdict about a template can be kept until it changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, cast

from sidecarpolicy import names
from sidecarpolicy.core.claims import LAST_APPLIED, Claims, claims_of
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.record import Mangled, Record, parse
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json, at, compact, items

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition of a Deployment; times in seconds since the epoch."""

    status: str
    reason: str
    message: str
    updated: float
    changed: float


NO_CONDITION = Condition(status="Unknown", reason="", message="", updated=0.0, changed=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """What matters of a namespace; *stops*: where it is the operator's own, no workload is changed."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    terminating: bool = False
    stops: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSet:
    """What matters of a ReplicaSet of a Deployment.

    *record* is its copy of the Deployment's record, *labels* are its own: those of its Pods.
    """

    name: str
    namespace: str
    owner: str
    uid: str
    pod_template_hash: str
    number: int
    replicas: int
    record: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Writer(NamedTuple):
    """Another field manager of a Deployment: when it last took a field (RFC 3339), and whether one of the template."""

    since: str
    manager: str
    of_template: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The decoded rest of a Deployment: its Pod template, and what others claim of it."""

    template: Json
    claims: Claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What matters of a Deployment.

    *record* is the text of our annotation, None where it is absent. *writers* are the field managers that are not ours.
    """

    id: WorkloadId
    uid: str
    version: int
    generation: int
    labels: Mapping[str, str]
    pod_labels: Mapping[str, str]
    annotations: Mapping[str, str]
    annotated: bool
    record: str | None
    deleting: bool
    controller: str
    paused: bool
    recreates: bool
    progress_deadline: int
    replicas: int
    observed_generation: int
    status_replicas: int
    updated_replicas: int
    available_replicas: int
    progressing: Condition
    available: Condition
    replica_failure: Condition
    body: bytes
    writers: tuple[Writer, ...] = ()

    @property
    def content(self) -> Content:
        """Decode the template and the claims on it."""
        return _content(self.body)


def workload_from(body: Mapping[str, Any]) -> Workload:
    """Return what matters of the Deployment *body*."""
    metadata, spec, status = at(body, "metadata"), at(body, "spec"), at(body, "status")
    annotations = at(metadata, "annotations")
    conditions = {each["type"]: _condition(each) for each in items(status, "conditions")}
    return Workload(
        id=WorkloadId(namespace=metadata["namespace"], name=metadata["name"]),
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        generation=metadata["generation"],
        labels=at(metadata, "labels"),
        pod_labels=at(spec, "template", "metadata", "labels"),
        annotations={
            key: value
            for key, value in annotations.items()
            if key.startswith(f"{names.GROUP}/") and key != names.RECORD
        },
        annotated=bool(annotations),
        record=annotations.get(names.RECORD),
        deleting="deletionTimestamp" in metadata,
        controller=next(
            (f"{each['kind']}/{each['name']}" for each in items(metadata, "ownerReferences") if each.get("controller")),
            "",
        ),
        paused=bool(spec.get("paused")),
        recreates=_recreates(spec),
        progress_deadline=_or(spec.get("progressDeadlineSeconds"), 600),
        replicas=_or(spec.get("replicas"), 1),
        observed_generation=status.get("observedGeneration", 0),
        status_replicas=status.get("replicas", 0),
        updated_replicas=status.get("updatedReplicas", 0),
        available_replicas=status.get("availableReplicas", 0),
        progressing=conditions.get("Progressing", NO_CONDITION),
        available=conditions.get("Available", NO_CONDITION),
        replica_failure=conditions.get("ReplicaFailure", NO_CONDITION),
        body=compact(
            {
                "template": at(spec, "template"),
                "managedFields": [
                    {key: entry.get(key) for key in ("manager", "operation", "fieldsV1")}
                    for entry in items(metadata, "managedFields")
                    if entry.get("subresource") != "status"  # changes with every Pod, and never touches the template
                ],
                "lastApplied": annotations.get(LAST_APPLIED),
            }
        ).encode(),
        writers=tuple(
            Writer(
                since=entry.get("time") or "",
                manager=str(entry.get("manager")),
                of_template="f:template" in at(entry, "fieldsV1", "f:spec"),
            )
            for entry in items(metadata, "managedFields")
            if not entry.get("subresource") and entry.get("manager") != names.FIELD_MANAGER
        ),
    )


def replica_set_from(body: Mapping[str, Any]) -> ReplicaSet | None:
    """Return what matters of the ReplicaSet *body*, or None where no Deployment controls it."""
    metadata = at(body, "metadata")
    owner = next(
        (
            each["uid"]
            for each in items(metadata, "ownerReferences")
            if each.get("controller") and each["kind"] == "Deployment"
        ),
        None,
    )
    if owner is None:
        return None
    annotations = at(metadata, "annotations")
    number = annotations.get(REVISION_ANNOTATION, "0")
    return ReplicaSet(
        name=metadata["name"],
        namespace=metadata["namespace"],
        owner=owner,
        uid=metadata["uid"],
        pod_template_hash=at(metadata, "labels").get("pod-template-hash", ""),
        number=int(number) if number.isdecimal() else 0,
        replicas=max(at(body, "spec").get("replicas") or 0, at(body, "status").get("replicas") or 0),
        record=annotations.get(names.RECORD, ""),
        labels=at(metadata, "labels"),
    )


def namespace_from(body: Mapping[str, Any]) -> Namespace:
    """Return what matters of the Namespace *body*."""
    metadata = at(body, "metadata")
    return Namespace(
        name=metadata["name"],
        labels=at(metadata, "labels"),
        terminating="deletionTimestamp" in metadata,
        # In an emergency nobody should have to know how "true" is spelt.
        stops=at(metadata, "annotations").get(names.STOP, "false") != "false",
    )


def record_of(text: str | None) -> Record:
    """Return the record in *text*; an empty one where it is mangled (see `is_mangled`)."""
    return _parsed(text)[0]


def is_mangled(text: str | None) -> str:
    """What is wrong with a record's text, or nothing."""
    return _parsed(text)[1]


@lru_cache(maxsize=4096)
def _parsed(text: str | None) -> tuple[Record, str]:
    try:
        return parse(text), ""
    except Mangled as error:
        return Record(), str(error) or "not readable"


@lru_cache(maxsize=64)
def _content(body: bytes) -> Content:
    data = json.loads(body)
    metadata = {"managedFields": data["managedFields"], "annotations": {LAST_APPLIED: data["lastApplied"]}}
    return Content(template=cast("Json", data["template"]), claims=claims_of(metadata))


def _condition(body: Mapping[str, Any]) -> Condition:
    return Condition(
        status=body.get("status", "Unknown"),
        reason=body.get("reason", ""),
        message=body.get("message", ""),
        updated=seconds_of(body.get("lastUpdateTime")),
        changed=seconds_of(body.get("lastTransitionTime")),
    )


def _recreates(spec: Mapping[str, Any]) -> bool:
    """Whether a change of the template takes all Pods down at once."""
    strategy = at(spec, "strategy")
    return strategy.get("type") == "Recreate" or at(strategy, "rollingUpdate").get("maxUnavailable") == "100%"


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
