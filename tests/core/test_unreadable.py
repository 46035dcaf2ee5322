"""A policy whose spec cannot be read: what it has on the workloads stays, and a deletion of it strips nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import Step, plan, steps
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.observe import fleet_of, observe
from sidecarpolicy.engine.policy_pass import rollout_state
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from tests.builders import a_deployment
from tests.core.cached import Seen
from tests.core.objects import START, WEB, a_policy, a_record, at_second

DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


CART = WorkloadId(namespace="shop", name="cart")


class Case:
    """One stored policy with *spec*, and one Deployment that carries it."""

    def __init__(self, spec: Json, **metadata: Any) -> None:
        seen = Seen()
        self.context = Context(cache=seen.cache, now=lambda: START + 7200)
        policy = a_policy() | {"spec": spec}
        policy["metadata"] |= metadata
        seen.put(POLICIES[names.POLICY], policy)
        deployment = a_deployment("cart")
        deployment["metadata"]["annotations"] = {names.RECORD: a_record("web-a")}
        ready = {"type": "Available", "status": "True", "lastTransitionTime": at_second(0)}
        deployment["status"] = {"observedGeneration": 1, "conditions": [ready]}
        seen.put(DEPLOYMENTS, deployment)
        observe(CART, self.context)
        self.policy = seen.cache.policies[WEB]
        self.fleet = fleet_of(WEB, self.context)
        self.state = rollout_state(self.policy, self.context.memory.of_policy(WEB), self.context)

    @property
    def steps(self) -> list[Step]:
        """What may be written now."""
        return list(steps(self.state, self.fleet, {}))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the selection", {"selector": {"matchAnnotations": {}}}),
        ("the rollout", {"rollout": {"strategy": "BlueGreen"}}),
        ("what becomes of them", {"deletionPolicy": "Archive"}),
        ("everything", {"selector": 1, "sidecars": 1, "rollout": 1, "deletionPolicy": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_deletion_of_what_cannot_be_read_is_held(what: str, change: Json) -> None:
    case = Case({**a_policy()["spec"], **change}, **DELETED)
    assert [each.workload for each in case.fleet.removing] == [CART]
    assert case.steps == []
    assert plan(case.state, case.fleet).held == "removal@1"


def test_orphan_is_orphan_whatever_else_cannot_be_read() -> None:
    case = Case({"selector": 1, "deletionPolicy": "Orphan"}, **DELETED)
    assert [each.orphans for each in case.steps] == [True]


def test_a_field_of_a_newer_crd_makes_no_policy_invalid() -> None:
    seen = Case({**a_policy()["spec"], "rollout": {"newDefault": "x"}}).policy
    assert seen.problems == ""
    assert seen.policy is not None and seen.policy.unknown == ("spec.rollout.newDefault",)
