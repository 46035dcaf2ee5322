"""What is told before anything moves: of whom, until when, and at what cost once it is known."""

from __future__ import annotations

from typing import Any, cast

from sidecarpolicy import names
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import Record, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Revision, StoredRevision, object_name, to_controller_revision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.foresight import foreseen
from sidecarpolicy.engine.queue import WorkQueue
from sidecarpolicy.engine.resources import AUTOSCALERS, DEPLOYMENTS, POLICIES, REVISIONS
from sidecarpolicy.engine.store import Key
from sidecarpolicy.engine.world import Foreseen, World
from tests.core.objects import EPOCH, a_deployment, a_policy, a_sidecar

CART = WorkloadId(namespace="shop", name="cart")
WEB = PolicyId(kind=names.POLICY, namespace="shop", name="web")
LOGS = PolicyId(kind=names.POLICY, namespace="shop", name="logs")
CPU: Json = {"resources": {"requests": {"cpu": "100m"}}}


class Seen:
    """What the operator has seen, without a cluster: nothing here asks for one."""

    def __init__(self) -> None:
        self.world = World(
            api=cast("Any", None), events=cast("Any", None), queue=WorkQueue(), operator_namespace="system"
        )
        self._version = 0

    def put(self, resource: Any, body: Json) -> set[Key]:
        """Take *body* in as the API server would send it; return the keys that it concerns."""
        self._version += 1
        stored = {"uid": f"uid-{body['metadata']['name']}", "generation": 1, "creationTimestamp": EPOCH}
        metadata = stored | body["metadata"] | {"resourceVersion": str(self._version)}
        return self.world.store.put(resource, {**body, "metadata": metadata})

    def policy(self, name: str, *sidecars: Json, **spec: Any) -> Revision:
        """A policy with its update revision."""
        manifest = a_policy(name, sidecars=list(sidecars), **spec)
        policy = decode_policy(manifest)
        revision = offline(policy)
        stored = StoredRevision(
            revision=revision, object_name=object_name(policy.id, revision.name), number=1, since=EPOCH
        )
        self.put(POLICIES[names.POLICY], manifest)
        self.put(REVISIONS, to_controller_revision(stored, policy=policy, namespace="shop"))
        return revision

    def foreseen(self, *there: Revision) -> Foreseen:
        """What is told of the Deployment where *there* is to be kept."""
        workload = self.world.store.workloads[CART]
        assigned = {each.policy: each for each in there}
        return foreseen(workload, self.world.judgement(workload), assigned, frozenset(), self.world)


def reasons(found: Foreseen) -> dict[str, list[str]]:
    """The reasons, by the policy's name."""
    return {policy.name: [each.reason.value for each in told] for policy, told in found.items()}


def test_each_policy_is_told_what_its_own_step_would_do() -> None:
    seen = Seen()
    seen.put(DEPLOYMENTS, a_deployment())
    seen.policy("web", a_sidecar("proxy", container=CPU))
    seen.policy("logs", a_sidecar("logger", container=CPU))
    found = seen.foreseen()
    for policy in (WEB, LOGS):
        (told,) = found[policy]
        assert told.message.startswith("each Pod will request cpu none → 100m;")


def test_what_is_there_is_told_no_more_and_stays_part_of_what_comes() -> None:
    seen = Seen()
    web = seen.policy("web", a_sidecar("proxy", container=CPU))
    seen.policy("logs", a_sidecar("logger", container=CPU))
    cart = a_deployment()
    template, record = inject(cart["spec"]["template"], [web], Record())
    cart["spec"]["template"] = template
    cart["metadata"]["annotations"] = {names.RECORD: text_of(record)}
    seen.put(DEPLOYMENTS, cart)
    found = seen.foreseen(web)
    assert found[WEB] == ()
    (told,) = found[LOGS]
    assert told.message.startswith("each Pod will request cpu 100m → 200m;")


def test_a_policy_that_is_refused_is_told_nothing() -> None:
    seen = Seen()
    seen.put(DEPLOYMENTS, a_deployment(labels={names.INJECT: "false"}))
    seen.policy("web", a_sidecar(container=CPU))
    assert seen.foreseen() == {}


def test_it_is_counted_once_and_again_when_a_deadline_changes() -> None:
    seen = Seen()
    seen.put(DEPLOYMENTS, a_deployment())
    slow = {"startupProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 10}}
    seen.policy("web", a_sidecar(container=slow))
    first = seen.foreseen()
    assert reasons(first) == {"web": []}
    seen.put(DEPLOYMENTS, a_deployment() | {"status": {"replicas": 1}})
    assert seen.foreseen() is first
    seen.put(
        POLICIES[names.POLICY],
        a_policy(sidecars=[a_sidecar(container=slow)], rollout={"progressDeadlineSeconds": 100}),
    )
    assert reasons(seen.foreseen()) == {"web": ["SlowStart"]}
    seen.put(DEPLOYMENTS, a_deployment(progressDeadlineSeconds=60))
    assert "the Deployment's progressDeadlineSeconds is 60" in seen.foreseen()[WEB][0].message


def an_autoscaler(deployment: str = "cart", **changes: Json) -> Json:
    """An autoscaler that goes by a share of the requested cpu."""
    return {
        "metadata": {"name": "by-cpu", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}},
    } | changes


def test_an_autoscaler_concerns_what_it_scales_and_its_policies() -> None:
    seen = Seen()
    assert seen.put(AUTOSCALERS, an_autoscaler()) == set()
    for name in ("cart", "other"):
        seen.put(DEPLOYMENTS, a_deployment(name))
    seen.policy("web", a_sidecar())
    other = WorkloadId(namespace="shop", name="other")
    assert [each.name for each in seen.world.store.autoscalers(CART)] == ["by-cpu"]
    assert reasons(seen.foreseen()) == {}
    assert seen.put(AUTOSCALERS, an_autoscaler(status={"currentReplicas": 3})) == set()
    assert seen.put(AUTOSCALERS, an_autoscaler("other")) == {CART, other, WEB}
    assert reasons(seen.foreseen()) == {"web": []}
    assert seen.world.store.forget(AUTOSCALERS, "shop", "by-cpu") == {other, WEB}
    assert seen.world.store.autoscalers(other) == ()
