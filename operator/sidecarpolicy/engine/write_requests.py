"""Everything that the engine writes, as data: each with its precondition and the reason why.

Whoever decides returns these; `apply` alone carries them out. So a dry run is printing them, and a test is comparing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecarpolicy.core.revision import StoredRevision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.cache import CachedPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRevision:
    """Store a revision. The name is the precondition: equal content gives the same name."""

    namespace: str
    body: Json
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRevision:
    """Change annotations (None: remove) or the number of a stored revision, while it is as it was read."""

    namespace: str
    stored: StoredRevision
    annotations: Mapping[str, str | None]
    number: int | None = None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRevision:
    """Delete a stored revision, while it is as it was read."""

    namespace: str
    stored: StoredRevision
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFinalizers:
    """A JSON Patch of a policy's finalizers, and of what is told of them, while the object is as it was read."""

    policy: CachedPolicy
    operations: Sequence[Json]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus:
    """Replace a policy's status, while the object is as it was read."""

    policy: CachedPolicy
    status: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchWorkload:
    """One JSON Patch of one workload; its operations test uid and generation. *dry_run*: only ask what would come."""

    workload: Workload
    operations: Sequence[Json]
    why: str
    dry_run: bool = False


RevisionWrite = CreateRevision | MarkRevision | DeleteRevision
PolicyWrite = RevisionWrite | ChangeFinalizers
Write = PolicyWrite | WriteStatus | PatchWorkload
