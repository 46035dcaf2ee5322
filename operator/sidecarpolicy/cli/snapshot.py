"""The cluster as the operator sees it, filled from LISTs: what a policy's targets are computed from.

The cache, the checks and the states are the operator's own; only what it alone knows cannot be had, and is said: what
the API server answered to its patches (of that the status lists up to ten failures), and what admission made of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import cast

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.cluster import Cluster, explanation
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.progress import Backoff, State
from sidecarpolicy.core.selection import EVERYTHING
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.cache import Cache, CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Failed
from sidecarpolicy.engine.observe import fleet_of, observe
from sidecarpolicy.engine.pods import assume, examine
from sidecarpolicy.engine.port import Api, ApiError, NotFound, Page, Resource
from sidecarpolicy.engine.port import Rejected as Forbidden
from sidecarpolicy.engine.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    LABEL_SELECTORS,
    NAMESPACES,
    NODES,
    OPTIONAL,
    POLICIES,
    REPLICA_SETS,
    REVISIONS,
    SERVICE_ACCOUNTS,
)
from sidecarpolicy.names import Reason, SkipReason

OF_NODES = "whether a node is too old for native sidecars"
OF_AUTOSCALERS = "whether a sidecar without requests would stop an autoscaler"


@dataclass(slots=True)
class Snapshot:
    """What is not watched but asked once; *notes* say what was left out, and why."""

    context: Context
    api: Api
    cluster: Cluster
    notes: list[str] = field(default_factory=list)
    _left_out: dict[str, str] = field(default_factory=dict)

    def fleet(self, cached: CachedPolicy) -> Fleet:
        """Return where each target of *cached* stands, late ones with what their Pods say."""
        self._recall_refusals(cached)
        self._note_asked(cached)
        if cached.policy is not None and cached.policy.restart_on:
            self.notes.append(
                "what restartOn names is not read: Deployments that are still to restart, or were taken back, count as "
                "updated"
            )
        concerned = self.context.cache.concerned_with(cached.id)
        for identity in concerned:
            observe(identity, self.context)
        found = fleet_of(cached.id, self.context)
        told = False
        for each in list(found.to_diagnose):
            workload = self.context.cache.workloads[each.workload]
            try:
                if not told:
                    asyncio.run(examine(workload, self.api, self.context))
            except ApiError as error:
                self.notes.append(f"no cause of failures: {explanation(error, self.cluster.server)}")
                told = True
            assume(workload, self.context)
            observe(each.workload, self.context)
        self._recall_conflicts(cached, found)
        return found

    def fill(self, resource: Resource, namespace: str = "", *, what: str = "", labels: str = "") -> Callable[[], None]:
        """Begin to LIST *resource*, those with *labels*; return what takes the answer into the cache.

        Where that is forbidden, *what* is noted as left out; it raises if that is empty.
        """
        selector = LABEL_SELECTORS.get(resource, labels)
        listed = self.cluster.soon(self.cluster.list, resource, namespace, label_selector=selector)

        def take() -> None:
            try:
                for body in listed():
                    self.context.cache.put(resource, body)
            except Forbidden as error:
                self._leave_out(error, what)
            except NotFound:
                if resource not in OPTIONAL:
                    raise

        return take

    def fill_namespace(self, name: str) -> Callable[[], None]:
        """Begin to GET one namespace; return what takes the answer into the cache, or notes that it is left out."""
        found = self.cluster.soon(self.cluster.get, NAMESPACES, "", name)
        what = f"whether namespace {name} has the label {names.INJECT} or is selected by cluster policies"

        def take() -> None:
            try:
                self.context.cache.put(NAMESPACES, found())
            except Forbidden as error:
                self._leave_out(error, what)

        return take

    @property
    def short_notes(self) -> list[str]:
        """The notes for a person: what is left out for want of rights in one line, and the others."""
        others = [each for each in self.notes if each not in self._left_out]
        without = "; ".join(self._left_out.values())
        return [*([f"left out, because you may not read it: {without}"] if without else []), *others]

    def _leave_out(self, error: Forbidden, what: str) -> None:
        if not what or error.reason != "Forbidden":
            raise error
        note = f"left out: {what}; {explanation(error, self.cluster.server)}"
        self.notes.append(note)
        self._left_out[note] = what

    def _note_asked(self, cached: CachedPolicy) -> None:
        """Say so where the operator has asked about Pods, which is not done again here."""
        found = [each for each in items(cached.status, "skipped") if each["reason"] == SkipReason.POD_SECURITY]
        for each in found:
            self.notes.append(
                f"{each['count']} that the operator skips for PodSecurity are listed in the state that they would have "
                f"otherwise: {each['message']}"
            )

    @staticmethod
    def _recall_conflicts(cached: CachedPolicy, fleet: Fleet) -> None:
        """Take from the status what only the operator knows: that another writer takes even the record away."""
        for each in items(cached.status, "failures"):
            target = fleet.get(WorkloadId(namespace=each["namespace"], name=each["name"]))
            if target is None or target.state is not State.PENDING or each["reason"] != Reason.FIELD_CONFLICT:
                continue
            if not fleet.is_wanted(target.workload):
                continue
            message = each.get("message", "")
            failed = replace(target, state=State.FAILED, reason=each["reason"], message=message, not_counted=True)
            fleet.put(failed, wanted=True)

    def _recall_refusals(self, cached: CachedPolicy) -> None:
        """Take from the status what only the operator heard: that the API server refused a patch."""
        cache = self.context.cache
        update = cache.update_revision(cached.id)
        for each in items(cached.status, "failures"):
            workload = cache.workloads.get(WorkloadId(namespace=each["namespace"], name=each["name"]))
            if workload is None:
                continue
            if each["reason"] == names.REFUSED and update is not None:
                self.context.memory.of(workload.id).failed = Failed(
                    uid=workload.uid,
                    generation=workload.generation,
                    updates={cached.id: update.revision.name},
                    tries=1,
                    backoff=Backoff(until=inf, message=each.get("message", ""), rejected=True),
                )
            else:
                self.context.memory.of_policy(cached.id).explained[workload.id] = (
                    each["reason"],
                    each.get("message", ""),
                )
        if (more := at(cached.status, "targets").get("failed", 0) - len(items(cached.status, "failures"))) > 0:
            self.notes.append(
                f"the status lists not all failures: of the {more} others, those whose change the API server refused "
                "are listed in the state that they had before"
            )


def snapshot(asked: Asked, identity: PolicyId, served: Sequence[str]) -> Snapshot:
    """Return what decides about the targets of a policy: in its namespace, or in all or the one that was named.

    *served*: the namespaces that the operator serves; none for the whole cluster.
    """
    found = _nothing_yet(asked, served)
    reach = identity.namespace or asked.chosen
    fills = [
        *_what_should_be(found, reach, asked.operator_namespace),
        found.fill(REPLICA_SETS, reach),
        found.fill(AUTOSCALERS, reach, what=OF_AUTOSCALERS),
        found.fill(DEPLOYMENTS, reach),
    ]
    for take in fills:  # all have been asked for by now; what says what should be is taken before what is
        take()
    return found


def snapshot_of(asked: Asked, body: Json, served: Sequence[str]) -> Snapshot:
    """Return what decides about one Deployment, *body*, and nothing of others; *served* as for `snapshot`."""
    found = _nothing_yet(asked, served)
    place = body["metadata"]["namespace"]
    labels = at(body, "spec", "selector", "matchLabels")  # those of its Pods, and so of its ReplicaSets
    fills = [
        *_what_should_be(found, place, asked.operator_namespace),
        found.fill(REPLICA_SETS, place, labels=",".join(f"{key}={value}" for key, value in labels.items())),
        found.fill(AUTOSCALERS, place, what=OF_AUTOSCALERS),
    ]
    for take in fills:
        take()
    found.context.cache.put(DEPLOYMENTS, body)
    return found


def _nothing_yet(asked: Asked, served: Sequence[str]) -> Snapshot:
    context = Context(cache=Cache(asked.operator_namespace, frozenset(served)), now=asked.cluster.now)
    api = cast("Api", _Reading(asked.cluster))  # nothing but examine() reaches it, and that only lists
    return Snapshot(context, api, asked.cluster)


def _what_should_be(found: Snapshot, reach: str, operator_namespace: str) -> list[Callable[[], None]]:
    """Begin to read the policies that may act in the namespace *reach* (empty: in all), and what decides about them.

    What the operator cannot see decides nothing.
    """
    if found.context.cache.served:
        resources = (POLICIES[names.POLICY], REVISIONS)
        fills = [found.fill(each, reach) for each in resources]
        return [*fills, found.fill(SERVICE_ACCOUNTS, reach, what="pull secrets of ServiceAccounts")]
    fills = (
        [found.fill_namespace(reach)] if reach else [found.fill(NAMESPACES, what="namespaces that opt out by label")]
    )
    fills += [
        found.fill(POLICIES[names.POLICY], reach),
        found.fill(POLICIES[names.CLUSTER_POLICY], what="what cluster policies override"),
        found.fill(REVISIONS, reach),
    ]
    if reach and reach != operator_namespace:
        fills.append(found.fill(REVISIONS, operator_namespace, what="what cluster policies inject, and so override"))
    fills.append(found.fill(SERVICE_ACCOUNTS, reach, what="pull secrets of ServiceAccounts"))
    fills.append(found.fill(NODES, what=OF_NODES))
    return fills


def needs_namespaces(cached: CachedPolicy) -> bool:
    """Whether it cannot be told what a policy selects without the labels of namespaces."""
    return cached.policy is not None and cached.policy.namespace_selector not in (None, EVERYTHING)


class _Reading:
    """The part of the engine's port that only reads, over the synchronous cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def list_in(
        self, resource: Resource, namespace: str, *, label_selector: str = "", field_selector: str = ""
    ) -> Page:
        found = self._cluster.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        return Page(items=found, resource_version="")
