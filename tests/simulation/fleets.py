"""What the stories share: fleets, worlds to put them in, and their transcripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import CanaryGroup, Rollout
from sidecarpolicy.core.selection import Operator, Requirement, Selector
from sidecarpolicy.engine.resources import REPLICA_SETS
from sidecarpolicy.names import Approval, OnFailure
from tests.core.golden import GOLDEN, check
from tests.simulation.stories import Deployment, World, established

TENTH = Rollout(max_concurrent=0.1, min_ready_seconds=10, progress_deadline_seconds=300)
LEFT = replace(TENTH, on_failure=OnFailure.HALT)

BY_TIER = Selector(requirements=(Requirement(key="tier", operator=Operator.IN, values=frozenset({"canary"})),))
CANARY = CanaryGroup(name="canary", selector=BY_TIER)
EARLY = CanaryGroup(name="early", most=0.2, approval=Approval.MANUAL)

EVERYWHERE = PolicyId(kind=names.CLUSTER_POLICY, namespace="", name="web")

# In the order in which they are picked.
FIRST, SECOND, THIRD = "app-23", "app-07", "app-28"


def thirty(*, revision: str | None = None, **behaviour: Any) -> list[Deployment]:
    """Thirty Deployments of one namespace."""
    return [established(f"app-{number:02}", revision=revision, **behaviour) for number in range(1, 31)]


def a_world(deployments: list[Deployment], rollout: Rollout = TENTH, **fields: Any) -> World:
    """A world in which the policy's first revision is new."""
    return World(deployments, rollout, **fields)


def an_updated_world(
    deployments: list[Deployment] | None = None, rollout: Rollout = TENTH, *, update: str = "web-b", **fields: Any
) -> World:
    """A world that runs web-a completely; web-b has just been written."""
    fleet = deployments if deployments is not None else thirty(revision="web-a")
    return World(fleet, rollout, current="web-a", update=update, **fields)


def bad(*, good: Sequence[str] = (), revision: str = "web-a", update: str = "web-b") -> list[Deployment]:
    """Thirty with *revision*, of which all but *good* break with *update*."""
    deployments = thirty(revision=revision)
    for each in deployments:
        each.breaks = frozenset() if each.name in good else frozenset({update})
    return deployments


def ticks(world: World, number: int) -> None:
    """Let some ticks pass."""
    for _ in range(number):
        world.tick()


def tell(world: World, story: str) -> None:
    """Compare the transcript with the golden one."""
    check(GOLDEN / "stories" / f"{story}.txt", world.transcript())


def everywhere(world: World, revision: str | None) -> bool:
    """Whether every Deployment bears *revision*."""
    return set(world.end().values()) == {revision}


def versions(world: World) -> Mapping[str, int]:
    """How many Pod templates each Deployment has had, by the ReplicaSets that are left of them."""
    return Counter(each["metadata"]["ownerReferences"][0]["name"] for each in world.server.every(REPLICA_SETS))
