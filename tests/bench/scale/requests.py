"""What the API server's audit log says was asked and answered, with its own times: the evidence of every figure."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

import localcluster
from tests.audit import OPERATOR_USER, WRITES

BARE_USER = "bench:bare"
NAIVE_USER = "bench:naive"
CREATOR_USER = "bench:creator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answered request. Times are the API server's, in seconds since the epoch."""

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    dry_run: bool
    groups: frozenset[str]
    agent: str
    received: float
    answered: float

    @property
    def is_write(self) -> bool:
        """Whether it changed something, the Lease included."""
        return self.verb in WRITES and self.code < 300 and not self.dry_run

    @property
    def is_patch(self) -> bool:
        """Whether it changed a Deployment."""
        return self.is_write and self.verb == "patch" and self.resource == "deployments" and not self.subresource


@dataclass(frozen=True, slots=True)
class Log:
    """The audit log from a mark on."""

    file: Path
    start: int

    @classmethod
    def begin(cls, cluster: localcluster.Cluster) -> Log:
        """Mark the end of *cluster*'s log as it is now."""
        assert cluster.audit_log is not None
        return cls(cluster.audit_log, cluster.audit_log.stat().st_size)

    def of(self, user: str = OPERATOR_USER) -> list[Answered]:
        """Every request of *user* since the mark, as they were answered."""
        with self.file.open("rb") as log:
            log.seek(self.start)
            lines = log.read().split(b"\n")[:-1]
        wanted = f'"username":"{user}"'.encode()
        return [_answered(orjson.loads(line)) for line in lines if wanted in line and b'"objectRef"' in line]

    def patches(self, user: str = OPERATOR_USER) -> list[Answered]:
        """The successful PATCHes of Deployments by *user* since the mark, as they were answered."""
        return [each for each in self.of(user) if each.is_patch]

    def count(self, holds: Callable[[Answered], bool], user: str = OPERATOR_USER) -> int:
        """How many requests of *user* since the mark are as *holds* says."""
        return sum(map(holds, self.of(user)))


def _answered(event: dict[str, object]) -> Answered:
    reference, status, user = event["objectRef"], event.get("responseStatus") or {}, event["user"]
    assert isinstance(reference, dict)
    assert isinstance(status, dict)
    assert isinstance(user, dict)
    return Answered(
        verb=str(event["verb"]),
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=status.get("code", 0),
        dry_run="dryRun=" in str(event["requestURI"]),
        groups=frozenset(user.get("groups", ())),
        agent=str(event.get("userAgent", "")),
        received=_seconds(str(event["requestReceivedTimestamp"])),
        answered=_seconds(str(event["stageTimestamp"])),
    )


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()
