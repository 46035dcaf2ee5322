"""How the API addresses kinds, those of workloads above all; what their controllers make of them is known in `kinds`.

Apart from `kinds`, so that a command which only asks for a Deployment starts without all that decides about one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How the API addresses a kind."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


DEPLOYMENTS = Address(group="apps", version="v1", plural="deployments", kind="Deployment")
REPLICA_SETS = Address(group="apps", version="v1", plural="replicasets", kind="ReplicaSet")
