"""The narrow port through which the engine reaches a cluster, and the errors that may come back.

The engine knows nothing of HTTP. Errors are sorted by what to do next, not by what went wrong:

    ApiError
    ├── Conflict    somebody wrote first: read again, decide again
    ├── NotFound    the object is not there any more: forget it
    ├── Rejected    the server will not have it: somebody must edit something
    └── Transient   nothing is wrong with the request: try again after a while
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sidecarpolicy.core.addresses import Address

Json = dict[str, Any]


# Reasons of a Rejected that call for something of their own.
NAMESPACE_TERMINATING = "NamespaceTerminating"  # 403: nothing is created there any more, the namespace goes
PATCH_DOES_NOT_FIT = "PatchDoesNotFit"  # 422: a `test` failed or a path is not there; the server says not which


class ApiError(Exception):
    """A request failed. *verb*, *what* and *message* (the server's own words) are for people.

    *status* is the HTTP status, None without an answer; *reason* the server's word for machines, or one of the
    names below where that says more, or empty.
    """

    def __init__(self, *, verb: str, what: str, message: str, status: int | None = None, reason: str = "") -> None:
        super().__init__(f"{verb} {what}: {message}")
        self.verb, self.what, self.message, self.status, self.reason = verb, what, message, status, reason


class Conflict(ApiError):
    """409: the object is not what the decision was made on, or the name is taken already."""


class NotFound(ApiError):
    """404: the object does not exist."""


class Rejected(ApiError):
    """400, 403 or 422 and the like: the same request will be refused again until somebody edits something."""


class Transient(ApiError):
    """401, 408, 410, 429, 5xx, a lost connection or a time-out. *retry_after*: the server's wish in seconds, if any."""

    def __init__(
        self,
        *,
        verb: str,
        what: str,
        message: str,
        status: int | None = None,
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(verb=verb, what=what, message=message, status=status, reason=reason)
        self.retry_after = retry_after


Resource = Address
"""A kind as the API addresses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a LIST: objects, *gone* those of pages before it that were deleted since.

    The last one has the resourceVersion of the whole collection, the others have it or none. Objects may be newer than
    it: a watch from there tells them again.
    """

    items: Sequence[Json]
    resource_version: str
    gone: Sequence[Json] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One change that a watch tells: *type* is ADDED, MODIFIED, DELETED or BOOKMARK, as the API spells it.

    The object of a BOOKMARK has nothing but `metadata.resourceVersion` (and its annotations).
    """

    type: str
    object: Json


class Api(Protocol):
    """A cluster. Every method raises ApiError, as sorted above, and nothing else."""

    def now(self) -> float:
        """What the API server's own clock shows now, in seconds since the epoch, as far as its answers tell.

        Before the first answer that is this process's clock. Only differences between times of this clock and those
        in objects mean anything.
        """
        ...

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str,
        seconds: int | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changed since *resource_version*, in one namespace or all, until the server ends the stream.

        A BOOKMARK of that version comes first, as soon as the stream is open. *seconds*: end it so soon; two seconds
        before, a BOOKMARK tells how far it has come. Transient with status 410 where that version is too old: LIST
        again.
        """
        ...

    async def version(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> str:
        """Return the resourceVersion that a LIST of just now has, without its objects."""
        ...

    def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[Page]:
        """Yield the collection of one namespace or of all, a page (at most 500 objects) at a time."""
        ...

    async def list_in(
        self, resource: Resource, namespace: str, *, label_selector: str = "", field_selector: str = ""
    ) -> Page:
        """Return the objects of one namespace that the selectors match; for small answers."""
        ...

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return one object; *namespace* is empty for a cluster-scoped one."""
        ...

    async def create(self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        """POST with fieldValidation=Strict; return what the server made of it. An existing name is a Conflict."""
        ...

    async def json_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        operations: Sequence[Json],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        """PATCH with RFC 6902 operations; return the object as it is now.

        A failed `test`, or a path that is not there, is a Rejected with reason PATCH_DOES_NOT_FIT; a stale
        `/metadata/resourceVersion` is a Conflict.
        """
        ...

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Json, *, subresource: str = ""
    ) -> Json:
        """PATCH with an RFC 7386 document; for objects of our own only, never for a workload.

        With `metadata.resourceVersion` in *body* a Conflict where the object has another one.
        """
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", resource_version: str = ""
    ) -> None:
        """DELETE, where given only what has that *uid* and *resource_version* (Conflict otherwise).

        An object that is gone already is no error.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """What an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Events(Protocol):
    """Where Events go. Never blocks, never raises: an Event that cannot be written is logged and dropped."""

    def emit(self, regarding: ObjectRef, *, reason: str, message: str, warning: bool = False, action: str = "") -> None:
        """Post one Event; an equal one (object, reason, message) within ten minutes raises the count of the first."""
        ...


class Leadership(Protocol):
    """Whether this process may write."""

    @property
    def leading(self) -> bool:
        """True while the Lease is held and has not run out on this process's own monotonic clock."""
        ...

    @property
    def term(self) -> int:
        """How many terms of this process there have been; one is interrupted, not ended, while nobody else can lead."""
        ...

    async def wait_until_known(self) -> None:
        """Return once it is known whether this process leads from its start, or cannot be for now."""
        ...

    async def wait_until_due(self) -> None:
        """Return once this process leads, or seems to be about to: the leader has not renewed for so long."""
        ...

    async def wait_until_leading(self) -> None:
        """Return once this process leads."""
        ...

    async def wait_until_over(self) -> None:
        """Return once the term that is now, or that is due, has ended or is not due any more."""
        ...
