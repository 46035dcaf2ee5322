"""A policy as its author wrote it, decoded and with the defaults of its roles filled in.

Nothing here is rendered: containers and volumes are the author's own words (see `rendering`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.selection import Selector
from sidecarpolicy.core.tree import Json
from sidecarpolicy.names import DeletionPolicy, OnFailure, PodReadiness, Position, Role, Startup, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleDefaults:
    """What a role stands for; lower ranks start earlier."""

    rank: int
    position: Position
    startup: Startup
    pod_readiness: PodReadiness


ROLES = {
    # The application's init containers may need it; without it the Pod should take no traffic.
    Role.PROXY: RoleDefaults(
        rank=0,
        position=Position.BEFORE_INIT,
        startup=Startup.WAIT_UNTIL_READY,
        pod_readiness=PodReadiness.INCLUDE,
    ),
    # Must see the first line and the last; an unreachable log store must not stop a service from scaling.
    Role.LOGGER: RoleDefaults(
        rank=1,
        position=Position.BEFORE_INIT,
        startup=Startup.WAIT_UNTIL_STARTED,
        pod_readiness=PodReadiness.EXCLUDE,
    ),
    # Needs nothing early; a broken exporter must not take a service down.
    Role.MONITOR: RoleDefaults(
        rank=2,
        position=Position.AFTER_INIT,
        startup=Startup.WAIT_UNTIL_STARTED,
        pod_readiness=PodReadiness.EXCLUDE,
    ),
    # Kubernetes' own behaviour, plus the gate.
    Role.CUSTOM: RoleDefaults(
        rank=3,
        position=Position.AFTER_INIT,
        startup=Startup.WAIT_UNTIL_READY,
        pod_readiness=PodReadiness.INCLUDE,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One sidecar of a policy. *container* is a core/v1 Container without name and restartPolicy."""

    name: str
    role: Role
    position: Position
    startup: Startup
    pod_readiness: PodReadiness
    start_after: tuple[str, ...] = ()
    container: Json = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Its role's place in the start order."""
        return ROLES[self.role].rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """Additions to the application's own containers; empty *containers* means all regular ones."""

    containers: tuple[str, ...] = ()
    init_containers: bool = False
    env: tuple[Json, ...] = ()
    volume_mounts: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a revision travels. *max_concurrent* is a number of workloads, or a float for a share of them (0.1)."""

    strategy: Strategy = Strategy.PROGRESSIVE
    max_concurrent: int | float = 0.1
    progress_deadline_seconds: int = 600
    min_ready_seconds: int = 10
    max_failures: int = 0
    on_failure: OnFailure = OnFailure.ROLLBACK
    paused: bool = False

    def budget(self, workloads: int) -> int:
        """How many of *workloads* may be in flight at once: rounded down, at least 1."""
        if isinstance(self.max_concurrent, int):
            return max(1, self.max_concurrent)
        # 0.29 * 100 is 28.999…96 in floating point: a percentage is a whole number, so count in hundredths.
        return max(1, floor(round(self.max_concurrent * 100) * workloads / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One SidecarPolicy or ClusterSidecarPolicy.

    *words* is everything in the spec that shapes a Pod template, as the author wrote it, without values that equal
    their default; the revision's hash is taken over it. *created* is RFC 3339 text, which sorts as time does.
    """

    id: PolicyId
    uid: str
    generation: int
    created: str
    deleting: bool = False
    selector: Selector
    namespace_selector: Selector | None = None
    priority: int = 0
    sidecars: tuple[Sidecar, ...]
    volumes: tuple[Json, ...] = ()
    application: Application = Application()
    rollout: Rollout = Rollout()
    deletion_policy: DeletionPolicy = DeletionPolicy.REMOVE
    revision_history_limit: int = 10
    words: Json = field(default_factory=dict)
