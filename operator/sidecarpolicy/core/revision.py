"""A revision: one version of what a policy injects, as the API server would store it.

Its hash is taken over the author's own words, so an upgrade of the operator rolls nothing. What is injected is the
canonical form that the API server returned when the revision was accepted; it is stored with the revision in a
ControllerRevision (`sidepol-<policy>-<hash>`), whose annotations hold when it became the update revision and when
every workload had it. The author's words stand beside it, so that an earlier spec can be put back as it was: from the
canonical form they cannot be told, and other words would be another revision. Priority and creation time are part of
it: order and precedence come from assigned revisions, never from live policies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.adjustment import UNADJUSTED, Adjustment
from sidecarpolicy.core.approvals import approvals
from sidecarpolicy.core.configs import Config, ConfigObject
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.likeness import LIST_KEYS
from sidecarpolicy.core.pod_metadata import NO_METADATA, PodMetadata
from sidecarpolicy.core.policy import ROLES, Application, Policy
from sidecarpolicy.core.reading import Cursor
from sidecarpolicy.core.record import ANNOTATIONS, LABELS, METADATA, PULL_SECRETS
from sidecarpolicy.core.syntax import container_parts
from sidecarpolicy.core.times import is_timestamp, seconds_of
from sidecarpolicy.core.tree import Json, at, compact, items, loaded
from sidecarpolicy.names import Position, Role

HASH_LENGTH = 10

# No count here is ever longer; Python reads numbers that it could not write again.
MOST_DIGITS = 9

# So many of the things that are wrong with a mangled one are named.
MOST_PROBLEMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedSidecar:
    """One sidecar of a revision; *container* is the complete init container in canonical form."""

    name: str
    role: Role
    position: Position
    start_after: tuple[str, ...] = ()
    container: Json

    @property
    def rank(self) -> int:
        """Its role's place in the start order."""
        return ROLES[self.role].rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What one version of a policy injects. *created* is when the policy was created (RFC 3339).

    *restarted*: when the author had everything restarted with it, empty for never (see `restarts`). *adjustment*: what
    the owner of one workload has changed of it there (see `adjusting`); none of what is stored. *config*: what the Pods
    of one workload have read with it (see `configs`); None: as its record says.
    """

    policy: PolicyId
    name: str
    priority: int = 0
    created: str = ""
    sidecars: tuple[InjectedSidecar, ...]
    volumes: tuple[Json, ...] = ()
    application: Application = Application()
    pod_metadata: PodMetadata = NO_METADATA
    pull_secrets: tuple[str, ...] = ()
    restarted: str = ""
    adjustment: Adjustment = UNADJUSTED
    config: Config | None = None

    def sidecar(self, name: str) -> InjectedSidecar | None:
        """The sidecar of that name, if it has one."""
        return next((sidecar for sidecar in self.sidecars if sidecar.name == name), None)

    def volume(self, name: str) -> Json | None:
        """The volume of that name, if it has one."""
        return next((volume for volume in self.volumes if volume["name"] == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Why and since when a rollout is halted; *id* is `<revision>#<attempt>`, so no two halts share one.

    *configs*: where nothing but a change of what `restartOn` names was rolled out on what failed: the hashes then, by
    namespace. Where one is another now, the halt is over.
    """

    id: str
    reason: str
    since: str
    configs: tuple[tuple[str, tuple[tuple[ConfigObject, str], ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRevision:
    """A revision with what only its ControllerRevision shows. Times are RFC 3339 text, for people; no order is theirs.

    *number*: the highest is the update revision; taken up again it becomes the highest again. *completion*: the highest
    is the current revision; 0 for one that was never rolled out completely. *version*: its resourceVersion. *attempt*
    counts how often it has become the update revision or was resumed: a failure counts for one attempt. *config_since*:
    since when workloads restart because their configuration has changed, 0 while none does (seconds since the epoch).
    *approved*: what the author has approved while it was the update revision (`canary/<group>@<revision>`,
    `removal@<generation>`). *owner*: the uid of the policy that owns the object, empty for none.
    """

    revision: Revision
    object_name: str
    number: int
    since: str
    completed: str = ""
    completion: int = 0
    version: str = ""
    attempt: int = 1
    config_since: float = 0.0
    halt: Halt | None = None
    approved: frozenset[str] = frozenset()
    owner: str = ""

    @property
    def attempt_id(self) -> str:
        """`<revision>#<attempt>`: what failures and halts are noted under."""
        return f"{self.revision.name}#{self.attempt}"


def revision_name(policy: PolicyId, words: Json) -> str:
    """Return `<policy>-<hash of the author's words>`: equal words give equal names, for ever."""
    digest = hashlib.sha256(compact(words).encode()).hexdigest()[:HASH_LENGTH]
    return f"{policy.name}-{digest}"


def object_name(policy: PolicyId, revision: str) -> str:
    """The name of the ControllerRevision that stores it."""
    return names.REVISION_PREFIXES[policy.kind] + revision


def to_controller_revision(stored: StoredRevision, *, policy: Policy, namespace: str) -> Json:
    """Return the ControllerRevision of *stored*, owned by *policy*, in *namespace*."""
    revision = stored.revision
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": stored.object_name,
            "namespace": namespace,
            "labels": {
                names.POLICY_KIND_LABEL: policy.id.kind,
                names.POLICY_NAME_LABEL: policy.id.name,
            },
            "annotations": {names.SINCE: stored.since},
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": policy.id.kind,
                    "name": policy.id.name,
                    "uid": policy.uid,
                }
            ],
        },
        "revision": stored.number,
        "data": {
            "policy": str(revision.policy),
            "name": revision.name,
            "priority": revision.priority,
            "created": revision.created,
            "words": policy.words,
            "sidecars": [
                {
                    "name": sidecar.name,
                    "role": sidecar.role.value,
                    "position": sidecar.position.value,
                    "startAfter": list(sidecar.start_after),
                    "container": sidecar.container,
                }
                for sidecar in revision.sidecars
            ],
            "volumes": list(revision.volumes),
            "application": {
                "containers": list(revision.application.containers),
                "initContainers": revision.application.init_containers,
                "env": list(revision.application.env),
                "volumeMounts": list(revision.application.volume_mounts),
            },
            **({"podMetadata": _metadata_data(revision.pod_metadata)} if revision.pod_metadata else {}),
            **({PULL_SECRETS: list(revision.pull_secrets)} if revision.pull_secrets else {}),
            **({"restartedAt": revision.restarted} if revision.restarted else {}),
        },
    }


def _metadata_data(metadata: PodMetadata) -> Json:
    return {listed: dict(metadata.of(listed)) for listed in METADATA}


def from_controller_revision(body: Mapping[str, Any]) -> StoredRevision:
    """Return what `to_controller_revision` stored; raise ValueError, which says where, where somebody mangled it.

    What is accepted can be injected: everything that is read of it later has the type that it is read as.
    """
    metadata, annotations = at(body, "metadata"), at(body, "metadata", "annotations")
    data = Cursor(body.get("data"), "data")
    revision = _revision(data)
    if data.problems:
        raise ValueError("; ".join(str(problem) for problem in data.problems[:MOST_PROBLEMS]))
    try:
        return StoredRevision(
            revision=revision,
            object_name=metadata["name"],
            number=int(body["revision"]),
            since=annotations.get(names.SINCE, ""),
            completed=annotations.get(names.COMPLETED, ""),
            completion=_count(annotations.get(names.COMPLETION, "1" if annotations.get(names.COMPLETED) else "0")),
            version=metadata.get("resourceVersion", ""),
            attempt=_count(annotations.get(names.ATTEMPT, "1")),
            config_since=seconds_of(annotations.get(names.CONFIG_SINCE)),
            halt=_halt(annotations.get(names.HALT)),
            approved=approvals(annotations.get(names.APPROVED, "")),
            owner=next(
                (each["uid"] for each in items(metadata, "ownerReferences") if each["kind"] in names.PLURALS), ""
            ),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"metadata: {error}") from error


def _revision(data: Cursor) -> Revision:
    data.mapping()
    application, sidecars, volumes = data.field("application"), data.field("sidecars"), data.field("volumes")
    application.mapping()
    of_application = [application.field(each) for each in ("containers", "initContainers")]
    for cursor in (data.field("priority"), data.field("created"), sidecars, volumes, *of_application):
        if cursor.absent:
            cursor.wrong("must be given")
    return Revision(
        policy=_policy(data.field("policy")),
        name=_given(data.field("name")),
        priority=data.field("priority").integer(0, least=-(2**31), most=2**31 - 1),
        created=data.field("created").text(),
        sidecars=tuple(_sidecar(each) for each in sidecars.entries()),
        volumes=_keyed(volumes, "name"),
        application=Application(
            containers=tuple(_given(each) for each in application.field("containers").entries()),
            init_containers=application.field("initContainers").flag(),
            env=_keyed(application.field("env"), *LIST_KEYS["env"]),
            volume_mounts=_keyed(application.field("volumeMounts"), *LIST_KEYS["volumeMounts"]),
        ),
        pod_metadata=PodMetadata(
            labels=_texts(data.field("podMetadata").field(LABELS)),
            annotations=_texts(data.field("podMetadata").field(ANNOTATIONS)),
        ),
        pull_secrets=tuple(_given(each) for each in data.field(PULL_SECRETS).entries()),
        restarted=_restarted(data.field("restartedAt")),
    )


def _texts(cursor: Cursor) -> dict[str, str]:
    return {name: cursor.field(name).text() for name in cursor.mapping()}


def _policy(cursor: Cursor) -> PolicyId:
    try:
        return PolicyId.parse(cursor.text())
    except ValueError as error:
        cursor.wrong(f"must name a policy: {error}")
        return PolicyId(kind="", namespace="", name="")


def _sidecar(cursor: Cursor) -> InjectedSidecar:
    cursor.mapping()
    name, container = _given(cursor.field("name")), cursor.field("container")
    for field in ("role", "position"):
        _given(cursor.field(field))
    if _given(container.field("name")) != name:
        container.field("name").wrong(f"must be that of the sidecar, {name!r}")
    container_parts(container)
    return InjectedSidecar(
        name=name,
        role=Role(cursor.field("role").choice(Role.CUSTOM)),
        position=Position(cursor.field("position").choice(Position.AFTER_INIT)),
        start_after=tuple(_given(each) for each in cursor.field("startAfter").entries()),
        container=container.mapping(),
    )


def _restarted(cursor: Cursor) -> str:
    text = cursor.text()
    if text and not is_timestamp(text):
        cursor.wrong("must be a time")
    return text


def _keyed(cursor: Cursor, key: str) -> tuple[Json, ...]:
    """Return a list of mappings, each with a text under *key*."""
    for each in cursor.entries():
        _given(each.field(key))
    return tuple(each.mapping() for each in cursor.entries())


def _given(cursor: Cursor) -> str:
    text = cursor.text()
    if not text or not text.isprintable():  # half a surrogate pair could not even be logged
        cursor.wrong("must be given")
    return text


def policy_of_revision(body: Mapping[str, Any]) -> PolicyId | None:
    """Return whose the ControllerRevision *body* is by its labels and namespace, however mangled its data is."""
    metadata = at(body, "metadata")
    labels = at(metadata, "labels")
    kind, name = labels.get(names.POLICY_KIND_LABEL), labels.get(names.POLICY_NAME_LABEL)
    if kind not in names.PLURALS or not name:
        return None
    return PolicyId(kind=kind, namespace="" if kind == names.CLUSTER_POLICY else metadata["namespace"], name=name)


def words_of(body: Mapping[str, Any]) -> Json | None:
    """Return the author's words that the ControllerRevision *body* holds, exactly those that its hash is taken over.

    None where it holds none (an earlier version wrote it), or where somebody mangled them.
    """
    try:
        data = at(body, "data")
        words: Json = at(data, "words")
        name = revision_name(PolicyId.parse(data["policy"]), words)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return words if words and name == data.get("name") else None


def halt_text(halt: Halt) -> str:
    """The value of the annotation that holds *halt*."""
    configs = {namespace: {each.key: value for each, value in hashes} for namespace, hashes in halt.configs}
    return compact(
        {"id": halt.id, "reason": halt.reason, "since": halt.since, **({"configs": configs} if configs else {})}
    )


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise ValueError(f"metadata.annotations: {text[:MOST_DIGITS]!r} is no count")
    return int(text)


def _halt(text: str | None) -> Halt | None:
    if not text:
        return None
    data = loaded(text)
    configs = tuple(
        (namespace, tuple(sorted((ConfigObject.parse(key), value) for key, value in hashes.items())))
        for namespace, hashes in sorted(data.get("configs", {}).items())
    )
    return Halt(id=data["id"], reason=data["reason"], since=data["since"], configs=configs)


def update_revision(stored: Sequence[StoredRevision]) -> StoredRevision | None:
    """The revision that became the update revision last: by number, never by anybody's clock."""
    return max(stored, key=lambda each: (each.number, each.object_name), default=None)


def current_revision(stored: Sequence[StoredRevision]) -> StoredRevision | None:
    """The revision that was rolled out completely last, or None before the first."""
    completed = (each for each in stored if each.completion)
    return max(completed, key=lambda each: (each.completion, each.number), default=None)
