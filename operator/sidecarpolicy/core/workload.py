"""What the operator keeps of a workload, of what its controller makes of it, and of its namespace.

Slim on purpose: with 10,000 workloads only numbers and labels are kept as objects; the Pod template and the fields
that tell who owns what stay compressed JSON, decoded by the one pass that needs them. Two observations with equal bytes
share them, so a verdict about a template can be kept until it changes. Labels and other words that many objects have
are kept once.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from sidecarpolicy import names
from sidecarpolicy.core.argo_rollouts import driver_among
from sidecarpolicy.core.claims import LAST_APPLIED, NO_CLAIMS, Claims, claims_of
from sidecarpolicy.core.emergency_switch import is_on
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.nodes import ANYWHERE, demand_of
from sidecarpolicy.core.pod_metadata import owners_labels
from sidecarpolicy.core.pod_security import NO_SETTINGS, settings_of
from sidecarpolicy.core.record import LABELS, Mangled, Record, parse
from sidecarpolicy.core.sharing import shared, shared_labels, shared_text
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json, at, items, packed, unpacked

MARKED = f"{names.GROUP}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition of an object; times in seconds since the epoch."""

    status: str
    reason: str
    message: str
    updated: float
    changed: float


NO_CONDITION = Condition(status="Unknown", reason="", message="", updated=0.0, changed=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """What matters of a namespace.

    *stops*: where it is the operator's own, no workload is changed. *misplaced*: the label that keeps sidecars out or
    lets them in is an annotation on it, which has no effect.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    terminating: bool = False
    stops: bool = False
    misplaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What the controller of a workload made of one version of its template: a ReplicaSet of a Deployment.

    *number* counts the versions, *replicas* are its Pods. *record* is its copy of the workload's record; of *stripped*
    policies its Pods have no sidecar, though that names some. *labels* are those of its Pods, without the one by which
    the label selector *pods* finds them (empty for none). *created*, and *status_changed*, when its status changed
    last: seconds since the epoch, 0 unknown. *refused*: whether it cannot make Pods, and why.
    """

    name: str
    namespace: str
    owner: str
    uid: str
    pods: str
    number: int
    replicas: int
    record: str
    stripped: frozenset[PolicyId] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0
    status_changed: float = 0.0
    refused: Condition = NO_CONDITION


class Writer(NamedTuple):
    """Another field manager of a workload: when it last took a field (RFC 3339), and whether one of the template."""

    since: str
    manager: str
    of_template: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The decoded rest of a workload: its Pod template, and what others claim of it."""

    template: Json
    claims: Claims


class Body(NamedTuple):
    """What a Content is made of, as compressed JSON: the Pod template, and the metadata that claims are found in.

    The latter is the same before and after most writes, and many workloads that were made alike share it.
    """

    template: bytes
    claims: bytes


class _Contents:
    """The contents that were looked at last, by what they are kept as."""

    def __init__(self, size: int = 128) -> None:
        self._size = size
        self._kept: OrderedDict[Body, Content] = OrderedDict()

    def of(self, body: Body, path: tuple[str, ...]) -> Content:
        """Return the content that *body* holds; *path*: where in the object its template was."""
        found = self._kept.get(body)
        if found is None:
            return self.put(body, path, unpacked(zlib.decompress(body.template)))
        self._kept.move_to_end(body)
        return found

    def put(self, body: Body, path: tuple[str, ...], template: Json) -> Content:
        """Keep the content of *body*, whose template is decoded already."""
        made = self._kept[body] = Content(template=template, claims=_claims_in(body.claims, path))
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return made


_contents = _Contents()


@lru_cache(maxsize=128)
def _claims_in(packed_metadata: bytes, path: tuple[str, ...]) -> Claims:
    return claims_of(unpacked(zlib.decompress(packed_metadata)), path)


@lru_cache(maxsize=128)
def _compressed(text: bytes) -> bytes:
    return zlib.compress(text, level=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What matters of a workload, whatever its kind.

    *pod_labels*: those of its Pod template that no policy has added. *selector_keys*: labels that its own selector asks
    for by an expression. *annotations* and *pod_annotations*, those of its Pod template, are the ones under our group
    alone. *record* is the text of our annotation, None where it is absent. *writers* are the field managers that are
    not ours, and *ownership* is another where managers own, or kubectl has applied, something else. *controller*:
    who made it, as `kind/name`. *driven_by*: who else rolls its template out. *takes_down*: why a change takes all
    its Pods down at once, empty where it does not. *deadline*: its own time without progress, None for none, and
    *min_ready*: how long a ready Pod waits until it counts, in seconds. *created*: seconds since the epoch.
    *template*: where in the object its Pod template is. *own*: what its kind alone knows (see `kinds`).
    *node_demand*: what its Pods demand of a node (see `nodes`). *pod_settings*: what its Pod template says for all
    containers (see `pod_security`).
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
    driven_by: str = ""
    paused: bool
    takes_down: str
    deadline: int | None
    min_ready: int = 0
    created: float = 0.0
    template: tuple[str, ...]
    own: object
    body: Body
    writers: tuple[Writer, ...] = ()
    ownership: int = 0
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    selector_keys: frozenset[str] = frozenset()
    node_demand: str = ANYWHERE
    pod_settings: str = NO_SETTINGS

    @property
    def content(self) -> Content:
        """Decode the template and the claims on it."""
        return _contents.of(self.body, self.template)


def workload_parts(
    body: Mapping[str, Any],
    identity: WorkloadId,
    template: tuple[str, ...],
    *,
    paused: bool,
    takes_down: str,
    deadline: int | None,
    min_ready: int,
    own: object,
    known: Workload | None = None,
) -> Workload:
    """Return what matters of the object *body*, given what only its kind can tell.

    *known*: the workload as it was before. A rollout changes its status many times and nothing else; what has not
    changed then is shared.
    """
    metadata = at(body, "metadata")
    annotations = at(metadata, "annotations")
    managed = [each for each in items(metadata, "managedFields") if each.get("subresource") != "status"]
    writers = tuple(
        Writer(
            since=entry.get("time") or "",
            manager=str(entry.get("manager")),
            of_template=bool(at(entry, "fieldsV1", *(f"f:{key}" for key in template))),
        )
        for entry in managed
        if not entry.get("subresource") and entry.get("manager") != names.FIELD_MANAGER
    )
    # Generation moves with every change of spec and annotations. A server-side apply that changes no value but who owns
    # it moves nothing, not even its writer's time, so what is owned is compared itself.
    claims = packed(
        {
            "managedFields": [
                {key: entry.get(key) for key in ("manager", "operation", "fieldsV1")} for entry in managed
            ],
            "annotations": {LAST_APPLIED: annotations.get(LAST_APPLIED)},
        }
    )
    ownership = hash(claims)
    same = known is not None and (known.uid, known.generation) == (metadata["uid"], metadata["generation"])
    kept = known if same else None
    claims = known.body.claims if known is not None and known.ownership == ownership else _compressed(claims)
    return Workload(
        id=identity,
        uid=shared_text(metadata["uid"]),
        version=int(metadata["resourceVersion"]),
        generation=metadata["generation"],
        labels=shared_labels(at(metadata, "labels")),
        pod_labels=shared_labels(
            labels_of_owner(
                at(body, *template, "metadata", "labels"), annotations.get(names.RECORD), claims_of(metadata, template)
            )
        ),
        annotations=_marks(annotations),
        pod_annotations=_marks(at(body, *template, "metadata", "annotations")),
        annotated=bool(annotations),
        record=shared_text(annotations.get(names.RECORD)),
        deleting="deletionTimestamp" in metadata,
        controller=next(
            (f"{each['kind']}/{each['name']}" for each in items(metadata, "ownerReferences") if each.get("controller")),
            "",
        ),
        driven_by=driver_among(managed),
        paused=paused,
        takes_down=takes_down,
        deadline=deadline,
        min_ready=min_ready,
        created=seconds_of(metadata.get("creationTimestamp")),
        template=template,
        own=own,
        body=Body(kept.body.template, claims) if kept is not None else _body_of(body, template, claims),
        writers=known.writers if known is not None and known.writers == writers else writers,
        ownership=ownership,
        selector_keys=shared(
            frozenset(each["key"] for each in items(at(body, "spec", "selector"), "matchExpressions"))
        ),
        node_demand=kept.node_demand if kept is not None else demand_of(at(body, *template, "spec")),
        pod_settings=kept.pod_settings if kept is not None else settings_of(at(body, *template, "spec")),
    )


def labels_of_owner(labels: Mapping[str, str], record: str | None, claims: Claims = NO_CLAIMS) -> Mapping[str, str]:
    """Return those of a Pod template's *labels* that are not ours alone: by the *record*'s text, and *claims*."""
    if not record or f'"{LABELS}"' not in record:
        return labels
    return owners_labels(labels, record_of(record), declared=claims.owners)


def _marks(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Those under our group, without the record."""
    ours = {key: value for key, value in annotations.items() if key.startswith(MARKED) and key != names.RECORD}
    return shared_labels(ours)


def _body_of(body: Mapping[str, Any], template: tuple[str, ...], claims: bytes) -> Body:
    """The template and what tells who owns it; the API server's order of fields is always the same."""
    found = at(body, *template)
    made = Body(zlib.compress(packed(found), level=1), claims)
    _contents.put(made, template, found)  # whoever looks at it next need not decode it
    return made


def conditions_of(body: Mapping[str, Any]) -> dict[str, Condition]:
    """Return the conditions in the status of *body*, by type."""
    return {each["type"]: _condition(each) for each in items(at(body, "status"), "conditions")}


def status_written(metadata: Mapping[str, Any]) -> float:
    """When a status last changed (seconds since the epoch), 0 where nothing tells.

    The API server stamps a manager's entry in managedFields whenever it changes a value (fieldmanager,
    managedfieldsupdater.go).
    """
    entries = (each for each in items(metadata, "managedFields") if each.get("subresource") == "status")
    return max((seconds_of(each.get("time")) for each in entries), default=0.0)


def namespace_from(body: Mapping[str, Any]) -> Namespace:
    """Return what matters of the Namespace *body*."""
    metadata = at(body, "metadata")
    return Namespace(
        name=metadata["name"],
        labels=at(metadata, "labels"),
        terminating="deletionTimestamp" in metadata,
        stops=is_on(metadata),
        misplaced=names.INJECT in at(metadata, "annotations"),
    )


def borne(record: str | None, policy: PolicyId) -> str | None:
    """The revision of *policy* that a record's text names, or None."""
    entry = record_of(record).entries.get(policy)
    return (entry.revision or None) if entry else None


def rolled(record: str | None, policy: PolicyId) -> tuple[str, str] | None:
    """What Pods with that record were last rolled out for by *policy*: its revision, and the restart within that."""
    entry = record_of(record).entries.get(policy)
    return (entry.revision, entry.config.restart) if entry and entry.revision else None


def record_of(text: str | None) -> Record:
    """Return the record in *text*; an empty one where it is mangled (see `is_mangled`)."""
    return _parsed(text)[0]


def is_mangled(text: str | None) -> str:
    """What is wrong with a record's text, or nothing."""
    return _parsed(text)[1]


@lru_cache(maxsize=16384)
def _parsed(text: str | None) -> tuple[Record, str]:
    try:
        return parse(text), ""
    except Mangled as error:
        return Record(), str(error) or "not readable"


def _condition(body: Mapping[str, Any]) -> Condition:
    return Condition(
        status=shared_text(body.get("status", "Unknown")),
        reason=shared_text(body.get("reason", "")),
        message=body.get("message", ""),
        updated=seconds_of(body.get("lastUpdateTime")),
        changed=seconds_of(body.get("lastTransitionTime")),
    )
