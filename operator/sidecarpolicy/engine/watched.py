"""What the operator watches: the kinds of workloads, what their controllers make of them, and what decides."""

from __future__ import annotations

from sidecarpolicy.core.kinds import KINDS
from sidecarpolicy.engine.resources import (
    AUTOSCALERS,
    NAMESPACES,
    NODES,
    POLICIES,
    REVISIONS,
    ROLLOUTS,
    SERVICE_ACCOUNTS,
)

# The kinds of workloads by where they and what their controllers make of them are found.
WORKLOADS = {kind.ADDRESS: kind for kind in KINDS.values()}
CHILDREN = {kind.CHILDREN: kind for kind in KINDS.values()}

# Everything that is watched, in the order in which it is listed: what says what should be before what is.
WATCHED = (
    NAMESPACES,
    NODES,
    SERVICE_ACCOUNTS,
    *POLICIES.values(),
    REVISIONS,
    *CHILDREN,
    AUTOSCALERS,
    ROLLOUTS,
    *WORKLOADS,
)
