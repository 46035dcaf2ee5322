"""A policy as its author wrote it, decoded and with the defaults of its roles filled in.

Nothing here is rendered: containers and volumes are the author's own words (see `rendering`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor

from sidecarpolicy.core.configs import NO_RESTARTS, RestartOn
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.pod_metadata import NO_METADATA, PodMetadata
from sidecarpolicy.core.selection import Selector
from sidecarpolicy.core.tree import Json
from sidecarpolicy.names import (
    Approval,
    DeletionPolicy,
    OnFailure,
    OptOut,
    PodReadiness,
    Position,
    Removal,
    Role,
    Startup,
    Strategy,
)


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
    """One sidecar of a policy. *container* is a core/v1 Container without name and restartPolicy.

    *overridable*: paths that owners may set anew, and *override_max* how much of a resource at most (quantities).
    """

    name: str
    role: Role
    position: Position
    startup: Startup
    pod_readiness: PodReadiness
    start_after: tuple[str, ...] = ()
    container: Json = field(default_factory=dict)
    overridable: tuple[str, ...] = ()
    override_max: Mapping[str, str] = field(default_factory=dict)

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
class CanaryGroup:
    """Workloads that a new revision reaches before the rest.

    Either those that *selector* and *namespace_selector* (None: every namespace) select, or *most* of any others: a
    number of workloads, or a float for a share of them (0.2). *approval*: what it takes to go on when they are done.
    """

    name: str
    selector: Selector | None = None
    namespace_selector: Selector | None = None
    most: int | float | None = None
    approval: Approval = Approval.AUTOMATIC

    def selects(self, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
        """Whether a Pod template with *labels*, in a namespace with *namespace_labels*, is in it by its selectors."""
        if self.selector is None or not self.selector.matches(labels):
            return False
        return self.namespace_selector is None or self.namespace_selector.matches(namespace_labels)


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
    canary: tuple[CanaryGroup, ...] = ()
    removal: Removal = Removal.AUTOMATIC

    def budget(self, workloads: int) -> int:
        """How many of *workloads* may be in flight at once: rounded down, at least 1."""
        return share_of(self.max_concurrent, workloads)

    def canary_group(self, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> str:
        """The first canary group that selects such a Pod template by its selectors, or nothing."""
        return next((each.name for each in self.canary if each.selects(labels, namespace_labels)), "")


def share_of(share: int | float, workloads: int) -> int:
    """How many of *workloads* a number, or a float for a share of them, stands for: rounded down, at least 1."""
    if isinstance(share, int):
        return max(1, share)
    # 0.29 * 100 is 28.999…96 in floating point: a percentage is a whole number, so count in hundredths.
    return max(1, floor(round(share * 100) * workloads / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One SidecarPolicy or ClusterSidecarPolicy.

    *words* is everything in the spec that shapes a Pod template, as the author wrote it, without values that equal
    their default, and the restart that its annotation asks for; the revision's hash is taken over it. *created* is
    RFC 3339 text, which sorts as time does. *opt_out*: whether owners may keep its sidecars out; like what they may
    override it shapes no template by itself, and is not in *words*. *restart_on* is not either: of that the content
    counts, which is in each workload's namespace.
    *unknown*: paths of fields that this version does not know, as a newer CRD may fill them in.
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
    pod_metadata: PodMetadata = NO_METADATA
    pull_secrets: tuple[str, ...] = ()
    restart_on: RestartOn = NO_RESTARTS
    rollout: Rollout = Rollout()
    opt_out: OptOut = OptOut.ALLOWED
    deletion_policy: DeletionPolicy = DeletionPolicy.REMOVE
    revision_history_limit: int = 10
    words: Json = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
