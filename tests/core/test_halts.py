"""What has halted a rollout is rolled back, whatever its crashing container looks like in the meantime."""

from __future__ import annotations

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.plan import steps
from sidecarpolicy.core.progress import State
from sidecarpolicy.core.record import Record, text_of
from sidecarpolicy.core.revision import Halt, halt_text
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.observe import observe
from sidecarpolicy.engine.policy_pass import rollout_state
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES, REVISIONS
from tests.core.cached import Seen, a_stored_revision
from tests.core.objects import a_deployment, a_policy, a_sidecar

CART = WorkloadId(namespace="shop", name="cart")
WEB = PolicyId(kind=names.POLICY, namespace="shop", name="web")
CRASH = ("CrashLoopBackOff", "proxy: CrashLoopBackOff")

AVAILABLE: Json = {
    "observedGeneration": 9,
    "replicas": 1,
    "updatedReplicas": 1,
    "availableReplicas": 1,
    "conditions": [
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        {"type": "Available", "status": "True"},
    ],
}


@pytest.mark.parametrize(
    ("on_failure", "halted", "goes_back"), [("Rollback", True, True), ("Rollback", False, False), ("Halt", True, False)]
)
def test_one_that_halted_its_rollout_goes_back_also_where_it_is_up_for_a_moment(
    on_failure: str, halted: bool, goes_back: bool
) -> None:
    seen, manifest = Seen(), a_policy("web", sidecars=[a_sidecar("proxy")], rollout={"onFailure": on_failure})
    seen.put(POLICIES[names.POLICY], manifest)
    body, web = a_stored_revision(manifest)
    if halted:
        halt = Halt(id=f"{web.name}#1", reason="cart crashes", since="2026-01-01T00:00:00.000000Z")
        body["metadata"].setdefault("annotations", {})[names.HALT] = halt_text(halt)
    seen.put(REVISIONS, body)
    cart = a_deployment()
    cart["spec"]["template"], record = inject(cart["spec"]["template"], [web], Record())
    cart["metadata"]["annotations"] = {names.RECORD: text_of(record)}
    cart["status"] = AVAILABLE
    seen.put(DEPLOYMENTS, cart)
    context = Context(cache=seen.cache)
    remembered = context.memory.of_policy(WEB)
    remembered.halted_by = {CART: CRASH}
    observe(CART, context)
    found = remembered.fleet.get(CART)
    assert found is not None
    assert (found.state is State.FAILED, found.message == CRASH[1]) == (goes_back, goes_back)
    made = list(steps(rollout_state(seen.cache.policies[WEB], remembered, context), remembered.fleet, {}))
    assert [(each.workload, each.revision) for each in made] == ([(CART, None)] if goes_back else [])
