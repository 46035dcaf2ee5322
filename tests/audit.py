"""Counting requests at the server's side: what the operator says of itself is no evidence."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import localcluster

OPERATOR_USER = "system:serviceaccount:sidecarpolicy-system:sidecarpolicy"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answered request."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    dry_run: bool
    allowed: bool
    at: float
    """When the server received it, in seconds since the epoch."""
    credential: str
    """The id of the token that it came with (a JWT's `jti`); it tells replicas of one ServiceAccount apart."""
    uri: str = ""
    """The path and the query, as they were sent."""
    acts_as: str = ""
    """Whom the user impersonated, if anybody."""
    groups: frozenset[str] = frozenset()
    """The groups of whom the user impersonated."""

    @property
    def writes(self) -> bool:
        """Whether it changed something, the Lease apart."""
        return self.verb in WRITES and self.code < 300 and not self.dry_run and self.resource != "leases"


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit log from a mark on."""

    log: Path
    start: int
    user: str = OPERATOR_USER

    @classmethod
    def begin(cls, cluster: localcluster.Cluster, user: str = OPERATOR_USER) -> Audit:
        """Mark the end of *cluster*'s log as it is now; *user*: whose requests are meant, where not the operator's."""
        assert cluster.audit_log is not None, "this test counts requests and needs a cluster with an audit log"
        return cls(cluster.audit_log, cluster.audit_log.stat().st_size, user)

    def requests(self) -> list[Request]:
        """Every request of that user's since the mark."""
        with self.log.open("rb") as log:
            log.seek(self.start)
            lines = log.read().split(b"\n")[:-1]
        events = [json.loads(line) for line in lines]
        return [_request(each) for each in events if each["user"].get("username") == self.user and "objectRef" in each]

    def writes(self) -> list[Request]:
        """Every change that the operator made since the mark, without its Lease."""
        return [each for each in self.requests() if each.writes]

    def patches_of(self, namespace: str) -> dict[str, int]:
        """How many successful PATCHes each Deployment of *namespace* got since the mark."""
        counts: dict[str, int] = {}
        for each in self.writes():
            if each.resource == "deployments" and each.namespace == namespace:
                counts[each.name] = counts.get(each.name, 0) + 1
        return counts


def _request(event: dict[str, object]) -> Request:
    reference = event["objectRef"]
    status = event.get("responseStatus") or {}
    assert isinstance(reference, dict)
    assert isinstance(status, dict)
    annotations = event.get("annotations") or {}
    assert isinstance(annotations, dict)
    impersonated = event.get("impersonatedUser") or {}
    assert isinstance(impersonated, dict)
    return Request(
        verb=str(event["verb"]),
        group=reference.get("apiGroup", ""),
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=status.get("code", 0),
        dry_run="dryRun=" in str(event["requestURI"]),
        allowed=annotations.get("authorization.k8s.io/decision") == "allow",
        at=datetime.fromisoformat(str(event["requestReceivedTimestamp"])).timestamp(),
        credential=_credential(event["user"]),
        uri=str(event["requestURI"]),
        acts_as=impersonated.get("username", ""),
        groups=frozenset(impersonated.get("groups", ())),
    )


def credential_of(token: str) -> str:
    """Return what the audit log calls *token*, a JWT."""
    payload = token.split(".")[1]
    credential: str = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"]
    return credential


def _credential(user: object) -> str:
    extra = user.get("extra") if isinstance(user, dict) else None
    found: list[str] = (extra or {}).get("authentication.kubernetes.io/credential-id", [])
    return found[0].removeprefix("JTI=") if found else ""
