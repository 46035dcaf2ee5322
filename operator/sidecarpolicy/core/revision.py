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
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of
from sidecarpolicy.core.policy import ROLES, Application, Policy
from sidecarpolicy.core.tree import Json, at, compact, items
from sidecarpolicy.names import Position, Role

HASH_LENGTH = 10


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
    """What one version of a policy injects. *created* is when the policy was created (RFC 3339)."""

    policy: PolicyId
    name: str
    priority: int = 0
    created: str = ""
    sidecars: tuple[InjectedSidecar, ...]
    volumes: tuple[Json, ...] = ()
    application: Application = Application()

    def sidecar(self, name: str) -> InjectedSidecar | None:
        """The sidecar of that name, if it has one."""
        return next((sidecar for sidecar in self.sidecars if sidecar.name == name), None)

    def volume(self, name: str) -> Json | None:
        """The volume of that name, if it has one."""
        return next((volume for volume in self.volumes if volume["name"] == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Why and since when a rollout is halted; *id* is `<revision>#<attempt>`, so no two halts share one."""

    id: str
    reason: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRevision:
    """A revision with what only its ControllerRevision shows. Times are RFC 3339 text, for people; no order is theirs.

    *number*: the highest is the update revision; taken up again it becomes the highest again. *completion*: the highest
    is the current revision; 0 for one that was never rolled out completely. *version*: its resourceVersion. *attempt*
    counts how often it has become the update revision or was resumed: a failure counts for one attempt.
    *approved*: what the author has approved while it was the update revision (`canary/<group>@<revision>`,
    `removal@<generation>`).
    """

    revision: Revision
    object_name: str
    number: int
    since: str
    completed: str = ""
    completion: int = 0
    version: str = ""
    attempt: int = 1
    halt: Halt | None = None
    approved: frozenset[str] = frozenset()

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
        },
    }


def from_controller_revision(body: Mapping[str, Any]) -> StoredRevision:
    """Return what `to_controller_revision` stored; raise ValueError or KeyError where somebody mangled it."""
    try:
        return _stored(body)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _stored(body: Mapping[str, Any]) -> StoredRevision:
    data = at(body, "data")
    application = at(data, "application")
    annotations = at(body, "metadata", "annotations")
    return StoredRevision(
        revision=Revision(
            policy=PolicyId.parse(data["policy"]),
            name=data["name"],
            priority=data["priority"],
            created=data["created"],
            sidecars=tuple(
                InjectedSidecar(
                    name=sidecar["name"],
                    role=Role(sidecar["role"]),
                    position=Position(sidecar["position"]),
                    start_after=tuple(sidecar["startAfter"]),
                    container=sidecar["container"],
                )
                for sidecar in items(data, "sidecars")
            ),
            volumes=tuple(items(data, "volumes")),
            application=Application(
                containers=tuple(application["containers"]),
                init_containers=application["initContainers"],
                env=tuple(application["env"]),
                volume_mounts=tuple(application["volumeMounts"]),
            ),
        ),
        object_name=at(body, "metadata")["name"],
        number=int(body["revision"]),
        since=annotations.get(names.SINCE, ""),
        completed=annotations.get(names.COMPLETED, ""),
        completion=int(annotations.get(names.COMPLETION, "1" if annotations.get(names.COMPLETED) else "0")),
        version=at(body, "metadata").get("resourceVersion", ""),
        attempt=int(annotations.get(names.ATTEMPT, "1")),
        halt=_halt(annotations.get(names.HALT)),
        approved=approvals(annotations.get(names.APPROVED, "")),
    )


def words_of(body: Mapping[str, Any]) -> Json | None:
    """Return the author's words that the ControllerRevision *body* holds, exactly those that its hash is taken over.

    None where it holds none (an earlier version wrote it), or where somebody mangled them.
    """
    data = at(body, "data")
    words: Json = at(data, "words")
    try:
        name = revision_name(PolicyId.parse(data["policy"]), words)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return words if words and name == data.get("name") else None


def approvals(text: str) -> frozenset[str]:
    """Return the entries of a comma list of approvals."""
    return frozenset(entries_of(text))


def halt_text(halt: Halt) -> str:
    """The value of the annotation that holds *halt*."""
    return compact({"id": halt.id, "reason": halt.reason, "since": halt.since})


def _halt(text: str | None) -> Halt | None:
    if not text:
        return None
    data = json.loads(text)
    return Halt(id=data["id"], reason=data["reason"], since=data["since"])


def update_revision(stored: Sequence[StoredRevision]) -> StoredRevision | None:
    """The revision that became the update revision last: by number, never by anybody's clock."""
    return max(stored, key=lambda each: (each.number, each.object_name), default=None)


def current_revision(stored: Sequence[StoredRevision]) -> StoredRevision | None:
    """The revision that was rolled out completely last, or None before the first."""
    completed = (each for each in stored if each.completion)
    return max(completed, key=lambda each: (each.completion, each.number), default=None)
