"""What is told before anything moves: of whom, until when, and at what cost once it is known."""

from __future__ import annotations

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import Record, text_of
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Preflight
from sidecarpolicy.engine.port import Resource
from sidecarpolicy.engine.preflight import preflight
from sidecarpolicy.engine.resources import AUTOSCALERS, DEPLOYMENTS, POLICIES
from sidecarpolicy.engine.skip_verdicts import judged
from tests.core.cached import Seen
from tests.core.objects import a_deployment, a_policy, a_sidecar

CART = WorkloadId(namespace="shop", name="cart")
WEB = PolicyId(kind=names.POLICY, namespace="shop", name="web")
LOGS = PolicyId(kind=names.POLICY, namespace="shop", name="logs")
CPU: Json = {"resources": {"requests": {"cpu": "100m"}}}


class Foreseen(Seen):
    """What the operator has seen, and what it tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.context = Context(cache=self.cache)

    def put(self, resource: Resource, body: Json) -> set[WorkloadId | PolicyId]:
        """Take *body* in; the verdicts on those who are told of are found anew."""
        told = super().put(resource, body)
        for workload, remembered in self.context.memory.workloads.items():
            remembered.stale = remembered.stale or workload in told
        return told

    def preflight(self, *there: Revision) -> Preflight:
        """What is told of the Deployment where *there* is to be kept."""
        workload = self.cache.workloads[CART]
        assigned = {each.policy: each for each in there}
        return preflight(workload, judged(workload, self.context), assigned, frozenset(), self.context)


def reasons(found: Preflight) -> dict[str, list[str]]:
    """The reasons, by the policy's name."""
    return {policy.name: [each.reason.value for each in told] for policy, told in found.items()}


def test_each_policy_is_told_what_its_own_step_would_do() -> None:
    seen = Foreseen()
    seen.put(DEPLOYMENTS, a_deployment())
    seen.policy("web", a_sidecar("proxy", container=CPU))
    seen.policy("logs", a_sidecar("logger", container=CPU))
    found = seen.preflight()
    for policy in (WEB, LOGS):
        (told,) = found[policy]
        assert told.message.startswith("each Pod will request cpu none → 100m;")


def test_what_is_there_is_told_no_more_and_stays_part_of_what_comes() -> None:
    seen = Foreseen()
    web = seen.policy("web", a_sidecar("proxy", container=CPU))
    seen.policy("logs", a_sidecar("logger", container=CPU))
    cart = a_deployment()
    template, record = inject(cart["spec"]["template"], [web], Record())
    cart["spec"]["template"] = template
    cart["metadata"]["annotations"] = {names.RECORD: text_of(record)}
    seen.put(DEPLOYMENTS, cart)
    found = seen.preflight(web)
    assert found[WEB] == ()
    (told,) = found[LOGS]
    assert told.message.startswith("each Pod will request cpu 100m → 200m;")


def test_a_policy_that_is_refused_is_told_nothing() -> None:
    seen = Foreseen()
    seen.put(DEPLOYMENTS, a_deployment(labels={names.INJECT: "false"}))
    seen.policy("web", a_sidecar(container=CPU))
    assert seen.preflight() == {}


def test_it_is_counted_once_and_again_when_a_deadline_changes() -> None:
    seen = Foreseen()
    seen.put(DEPLOYMENTS, a_deployment())
    slow = {"startupProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 10}}
    seen.policy("web", a_sidecar(container=slow))
    first = seen.preflight()
    assert reasons(first) == {"web": []}
    seen.put(DEPLOYMENTS, a_deployment() | {"status": {"replicas": 1}})
    assert seen.preflight() is first
    seen.put(
        POLICIES[names.POLICY],
        a_policy(sidecars=[a_sidecar(container=slow)], rollout={"progressDeadlineSeconds": 100}),
    )
    assert reasons(seen.preflight()) == {"web": ["SlowStart"]}
    seen.put(DEPLOYMENTS, a_deployment(progressDeadlineSeconds=60))
    assert "the Deployment's progressDeadlineSeconds is 60" in seen.preflight()[WEB][0].message


def an_autoscaler(deployment: str = "cart", **changes: Json) -> Json:
    """An autoscaler that goes by a share of the requested cpu."""
    return {
        "metadata": {"name": "by-cpu", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}},
    } | changes


def test_an_autoscaler_concerns_what_it_scales_now_and_before() -> None:
    seen = Foreseen()
    assert seen.put(AUTOSCALERS, an_autoscaler()) == set()
    for name in ("cart", "other"):
        seen.put(DEPLOYMENTS, a_deployment(name))
    seen.policy("web", a_sidecar())
    other = WorkloadId(namespace="shop", name="other")
    assert [each.name for each in seen.cache.autoscalers(CART)] == ["by-cpu"]
    assert reasons(seen.preflight()) == {}
    assert seen.put(AUTOSCALERS, an_autoscaler(status={"currentReplicas": 3})) == set()
    assert seen.put(AUTOSCALERS, an_autoscaler("other")) == {CART, other}
    assert reasons(seen.preflight()) == {"web": []}
    assert seen.forget(AUTOSCALERS, "shop", "by-cpu") == {other}
    assert seen.cache.autoscalers(other) == ()
