"""AdmissionReviews as the API server sends them, and the operator that would do the same work afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.admission.proposal import proposal_from
from sidecarpolicy.admission.room import Room
from sidecarpolicy.admission.workloads import Reviewed, review
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import urgent_step
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import PolicyMemory
from sidecarpolicy.engine.observe import observe
from sidecarpolicy.engine.policy_pass import rollout_state
from sidecarpolicy.engine.prepare import NO_STEPS, prepare
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES, REVISIONS
from tests.core.cached import Seen, a_stored_revision
from tests.core.objects import START
from tests.simulation.patches import json_patched

NO_MARKS: Mapping[str, str] = {}
ANNOTATIONS = ("metadata", "annotations")


def a_request(new: Json, old: Json | None = None, **changes: Any) -> Json:
    """The request of an AdmissionReview about a Deployment."""
    metadata = new["metadata"]
    request: Json = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "operation": "UPDATE" if old else "CREATE",
        "namespace": metadata["namespace"],
        "object": new,
        "oldObject": old,
        "options": {"fieldManager": "kubectl-create"},
    }
    if "name" in metadata:
        request["name"] = metadata["name"]
    return request | changes


def template_of(body: Json) -> Json:
    """The Pod template of a Deployment."""
    return at(body, "spec", "template")


def record_on(body: Json) -> str:
    """The record on a Deployment; empty for none."""
    return str(at(body, *ANNOTATIONS).get(names.RECORD) or "")


class Cluster(Seen):
    """What a process has seen, and what its admission and its engine make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.time = START

    @property
    def context(self) -> Context:
        """With nothing remembered."""
        return Context(cache=self.cache, now=lambda: self.time)

    def roll_out(
        self, manifest: Json, *, number: int = 1, complete: bool = True, marks: Mapping[str, str] = NO_MARKS
    ) -> Revision:
        """Have a policy whose update revision is what *manifest* declares; *complete*: it is the current one too."""
        self.put(POLICIES[manifest["kind"]], manifest)
        body, revision = a_stored_revision(manifest, number)
        done = {names.COMPLETED: "2026-01-01T00:00:00Z", names.COMPLETION: str(number)} if complete else {}
        body["metadata"]["annotations"] |= done | dict(marks)
        self.put(REVISIONS, body)
        return revision

    def review(self, new: Json, old: Json | None = None, **changes: Any) -> Reviewed:
        """Review a write."""
        return review(proposal_from(a_request(new, old, **changes)), self.context, self.room)

    def admit(self, new: Json, old: Json | None = None, **changes: Any) -> Json:
        """Return what becomes of a write."""
        return json_patched(new, self.review(new, old, **changes).operations)

    def operate(self, body: Json) -> tuple[Json, str]:
        """Return the template and record that the operator gives, at once, to a Deployment that is there as *body*."""
        self.put(DEPLOYMENTS, body)
        context = self.context
        identity = WorkloadId(namespace=body["metadata"]["namespace"], name=body["metadata"]["name"])
        observe(identity, context)
        workload = self.cache.workloads[identity]
        found = {}
        for policy in sorted(self.cache.concerned(workload)):
            remembered = context.memory.policies.get(policy, PolicyMemory())
            state = rollout_state(self.cache.policies[policy], remembered, context)
            if (step := urgent_step(state, remembered.fleet, identity)) is not None:
                found[policy] = step
        prepared = prepare(workload, found, context)
        after = json_patched(self.as_cached(body), prepared.operations)
        return template_of(after), record_on(after)

    def writes(self, body: Json) -> list[Json]:
        """Return what the operator would write on a Deployment that is there as *body*, without any step."""
        self.put(DEPLOYMENTS, body)
        identity = WorkloadId(namespace=body["metadata"]["namespace"], name=body["metadata"]["name"])
        return list(prepare(self.cache.workloads[identity], NO_STEPS, self.context).operations)

    def settled(self, body: Json) -> Json:
        """*body* after what the operator writes on it without any step, and then writes no more."""
        template, record = self.operate(body)
        metadata = body["metadata"]
        after = {
            **body,
            "metadata": metadata | {"annotations": metadata["annotations"] | {names.RECORD: record}},
            "spec": body["spec"] | {"template": template},
        }
        assert self.writes(after) == []
        return after

    def as_cached(self, body: Json) -> Json:
        """*body* with what the API server numbers, as it was put last."""
        identity = WorkloadId(namespace=body["metadata"]["namespace"], name=body["metadata"]["name"])
        workload = self.cache.workloads[identity]
        given = {
            "uid": workload.uid,
            "generation": workload.generation,
            "resourceVersion": str(workload.version),
        }
        return {**body, "metadata": body["metadata"] | given}
