"""The cluster as the operator sees it, filled from LISTs: what a policy's targets are computed from.

The store, the checks and the states are the operator's own; only what it alone knows cannot be had, and is said: what
the API server answered to its patches (the status tells that of its failures), and what admission made of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import cast

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.cluster import Cluster, explanation
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import Situation
from sidecarpolicy.core.selection import EVERYTHING
from sidecarpolicy.core.status import MOST_LISTED
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.engine.examination import examine
from sidecarpolicy.engine.gathering import Memory, situation_of
from sidecarpolicy.engine.port import Api, ApiError, Events, NotFound, Resource
from sidecarpolicy.engine.port import Rejected as Forbidden
from sidecarpolicy.engine.queue import WorkQueue
from sidecarpolicy.engine.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    LABEL_SELECTORS,
    NAMESPACES,
    OPTIONAL,
    POLICIES,
    REPLICA_SETS,
    REVISIONS,
)
from sidecarpolicy.engine.store import SeenPolicy
from sidecarpolicy.engine.world import World, WriteBackoff


@dataclass(slots=True)
class Snapshot:
    """A world that is not watched but asked once; *notes* say what was left out, and why."""

    world: World
    cluster: Cluster
    notes: list[str] = field(default_factory=list)

    def situation(self, seen: SeenPolicy) -> Situation:
        """Return where each target of *seen* stands, late ones with what their Pods say."""
        self._recall_refusals(seen)
        situation = situation_of(seen, Memory(), self.world)
        late = [each.workload for each in situation.targets if each.failing or each.suspect]
        for workload in late:
            try:
                asyncio.run(examine(self.world.store.workloads[workload], self.world))
            except ApiError as error:
                self.notes.append(f"no cause of failures: {explanation(error, self.cluster.server)}")
                return situation
        return situation_of(seen, Memory(), self.world) if late else situation

    def fill(self, resource: Resource, namespace: str = "", *, what: str = "") -> None:
        """LIST *resource* into the store. Where that is forbidden, note *what* is left out; raise if that is empty."""
        try:
            listed = self.cluster.list(resource, namespace, label_selector=LABEL_SELECTORS.get(resource, ""))
        except Forbidden as error:
            self._leave_out(error, what)
            return
        except NotFound:
            if resource not in OPTIONAL:
                raise
            return
        for body in listed:
            self.world.store.put(resource, body)

    def fill_namespace(self, name: str, *, what: str) -> None:
        """GET one namespace into the store; where that is forbidden, note *what* is left out."""
        try:
            self.world.store.put(NAMESPACES, self.cluster.get(NAMESPACES, "", name))
        except Forbidden as error:
            self._leave_out(error, what)

    def _leave_out(self, error: Forbidden, what: str) -> None:
        if not what or error.reason != "Forbidden":
            raise error
        self.notes.append(f"left out: {what}; {explanation(error, self.cluster.server)}")

    def _recall_refusals(self, seen: SeenPolicy) -> None:
        """Take from the status what only the operator heard: that the API server refused a patch."""
        update = self.world.store.update_revision(seen.id)
        refused = [each for each in items(seen.status, "failures") if each["reason"] == names.REFUSED]
        if update is None:
            return
        for each in refused:
            workload = self.world.store.workloads.get(WorkloadId(namespace=each["namespace"], name=each["name"]))
            if workload is not None:
                self.world.refusals[workload.id] = WriteBackoff(
                    uid=workload.uid,
                    generation=workload.generation,
                    message=each["message"],
                    messages={update.revision.name: each["message"]},
                    until=inf,
                )
        if refused and len(items(seen.status, "failures")) >= MOST_LISTED:
            self.notes.append(
                f"only the operator knows which workloads the API server refuses to change ({names.REFUSED}); others "
                "than those of the status are listed in the state that they had otherwise"
            )


def snapshot(asked: Asked, identity: PolicyId) -> Snapshot:
    """Return what decides about the targets of a policy: in its namespace, or in all or the one that was named."""
    reach = identity.namespace or asked.chosen
    world = World(
        api=cast("Api", _Reading(asked.cluster)),  # nothing but examine() reaches it, and that only lists
        events=cast("Events", None),
        queue=WorkQueue(),
        operator_namespace=asked.operator_namespace,
        now=asked.cluster.now,
    )
    found = Snapshot(world, asked.cluster)
    if reach:
        found.fill_namespace(
            reach, what=f"whether namespace {reach} has the label {names.INJECT} or is selected by cluster policies"
        )
    else:
        found.fill(NAMESPACES, what=f"namespaces that opt out by the label {names.INJECT}")
    found.fill(POLICIES[names.POLICY], reach)
    found.fill(POLICIES[names.CLUSTER_POLICY], what="what cluster policies override")
    found.fill(REVISIONS, reach)
    if reach and reach != asked.operator_namespace:
        found.fill(REVISIONS, asked.operator_namespace, what="what cluster policies inject, and so override")
    found.fill(REPLICA_SETS, reach)
    found.fill(AUTOSCALERS, reach, what="whether a sidecar without requests would stop an autoscaler")
    found.fill(DEPLOYMENTS, reach)
    return found


def needs_namespaces(seen: SeenPolicy) -> bool:
    """Whether it cannot be told what a policy selects without the labels of namespaces."""
    return seen.policy is not None and seen.policy.namespace_selector not in (None, EVERYTHING)


class _Reading:
    """The part of the engine's port that only reads, over the synchronous cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def list_in(
        self, resource: Resource, namespace: str, *, label_selector: str = "", field_selector: str = ""
    ) -> Sequence[Json]:
        return self._cluster.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)
