"""A policy whose spec cannot be read: what it has on the workloads stays, and a deletion of it strips nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest
from sidecarpolicy.engine.gathering import Memory, situation_of
from sidecarpolicy.engine.queue import WorkQueue
from sidecarpolicy.engine.world import World

from sidecarpolicy import names
from sidecarpolicy.core.plan import plan
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import Api, Events
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from tests.builders import a_deployment
from tests.core.objects import START, WEB, a_policy, a_record, at_second

DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def a_world(spec: Json, **metadata: Any) -> World:
    """One stored policy with *spec*, and one Deployment that carries it."""
    world = World(
        api=cast("Api", None), events=cast("Events", None), queue=WorkQueue(), operator_namespace="system", now=time
    )
    policy = a_policy() | {"spec": spec}
    policy["metadata"] |= {"uid": "p", "resourceVersion": "1", "generation": 1, **metadata}
    world.store.put(POLICIES[names.POLICY], policy)
    deployment = a_deployment("cart")
    deployment["metadata"] |= {"uid": "d", "resourceVersion": "2", "generation": 1}
    deployment["metadata"]["annotations"] = {names.RECORD: a_record("web-a")}
    ready = {"type": "Available", "status": "True", "lastTransitionTime": at_second(0)}
    deployment["status"] = {"observedGeneration": 1, "conditions": [ready]}
    world.store.put(DEPLOYMENTS, deployment)
    return world


def time() -> float:
    """Two hours after START."""
    return START + 7200


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
    world = a_world({**a_policy()["spec"], **change}, **DELETED)
    situation = situation_of(world.store.policies[WEB], Memory(), world)
    made = plan(situation)
    assert [each.workload.name for each in situation.removing] == ["cart"]
    assert not made.steps
    assert made.held == "removal@1"


def test_orphan_is_orphan_whatever_else_cannot_be_read() -> None:
    world = a_world({"selector": 1, "deletionPolicy": "Orphan"}, **DELETED)
    made = plan(situation_of(world.store.policies[WEB], Memory(), world))
    assert [each.orphans for each in made.steps] == [True]


def test_a_field_of_a_newer_crd_makes_no_policy_invalid() -> None:
    world = a_world({**a_policy()["spec"], "rollout": {"newDefault": "x"}})
    seen = world.store.policies[WEB]
    assert seen.problems == ""
    assert seen.policy is not None and seen.policy.unknown == ("spec.rollout.newDefault",)
