"""What may go wrong with a request, and when: by a plan, or by seed.

A fault is decided when the request is sent. Everything is counted per process, so that a plan can name the fourth
write of the second process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from sidecarpolicy.engine.port import ApiError, Conflict, Rejected, Resource, Transient


class Fault(StrEnum):
    """How a request ends that does not end well. BEFORE: it had no effect; AFTER: it had, and the answer is lost."""

    CONFLICT = "409"
    REJECTED = "422"
    FORBIDDEN = "403"
    THROTTLED = "429"
    ERROR_BEFORE = "500 before"
    ERROR_AFTER = "500 after"
    TOO_LARGE = "500 too large"
    TIMEOUT_BEFORE = "time-out before"
    TIMEOUT_AFTER = "time-out after"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"

    @property
    def has_effect(self) -> bool:
        """Whether the server did what was asked."""
        return self in (Fault.ERROR_AFTER, Fault.TIMEOUT_AFTER, Fault.CRASH_AFTER)

    @property
    def seconds(self) -> float:
        """How long it takes until the client knows."""
        return 30.0 if self in (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it was sent. *number* counts all of a process, *write* its writes (0 for a read).

    *guarded*: it names the version of what it changes (resourceVersion or generation), or can happen only once.
    *leading*: whether the process led when it sent it. *at*: virtual seconds.
    """

    at: float
    process: str
    verb: str
    resource: Resource
    namespace: str
    name: str
    number: int
    write: int
    dry_run: bool = False
    guarded: bool = False
    leading: bool = False
    subresource: str = ""

    @property
    def what(self) -> str:
        """`patch deployments shop/cart`."""
        kind = self.resource.plural + (f"/{self.subresource}" if self.subresource else "")
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.verb} {kind} {where}{self.name}" + (" (dry run)" if self.dry_run else "")


Rule = Callable[[Request], Fault | None]


@dataclass(slots=True)
class Faults:
    """*rules* are asked in turn; the first trouble counts. *crash* is told who has to end, *sent* of every request.

    *answered* is told of every answer that came, and whether it was a good one.
    """

    rules: list[Rule] = field(default_factory=list)
    crash: Callable[[str], None] = lambda process: None
    sent: Callable[[Request], None] = lambda request: None
    answered: Callable[[Request, bool], None] = lambda request, good: None
    happened: list[tuple[Request, Fault]] = field(default_factory=list)

    def of(self, request: Request) -> Fault | None:
        """What happens to *request*."""
        self.sent(request)
        for rule in self.rules:
            if (found := rule(request)) is not None:
                self.happened.append((request, found))
                return found
        return None


def error_of(trouble: Fault, request: Request) -> ApiError:
    """What the client makes of it."""
    told: Any = {"verb": request.verb, "what": f"{request.resource.plural} {request.namespace}/{request.name}"}
    match trouble:
        case Fault.CONFLICT:
            return Conflict(**told, message="somebody wrote first", status=409, reason="Conflict")
        case Fault.REJECTED:
            return Rejected(**told, message="an admission rule would not have it", status=422, reason="Invalid")
        case Fault.FORBIDDEN:
            return Rejected(**told, message="forbidden: no such right", status=403, reason="Forbidden")
        case Fault.THROTTLED:
            return Transient(**told, message="too many requests", status=429, retry_after=1.0)
        case Fault.TIMEOUT_BEFORE | Fault.TIMEOUT_AFTER:
            return Transient(**told, message="no answer within 30 s")
        case Fault.TOO_LARGE:
            return Transient(**told, message="etcdserver: request is too large", status=500)
        case _:
            return Transient(**told, message="etcdserver: request timed out", status=500)


def at_write(number: int, trouble: Fault, process: str = "") -> Rule:
    """The *number*th write of a process."""
    return lambda request: trouble if request.write == number and process in ("", request.process) else None


def while_(holds: Callable[[Request], bool], trouble: Fault) -> Rule:
    """Every request for which *holds*."""
    return lambda request: trouble if holds(request) else None


def some(random: Random, share: float, troubles: tuple[Fault, ...], until: float) -> Rule:
    """A *share* of the requests before *until*, by seed; what a read cannot suffer does not happen to it."""

    def rule(request: Request) -> Fault | None:
        if request.at >= until or random.random() >= share:
            return None
        found = random.choice(troubles)
        if not request.write and found in (Fault.CONFLICT, Fault.REJECTED, Fault.FORBIDDEN):
            return Fault.ERROR_BEFORE
        return found

    return rule
