"""What this process counts and measures, for Prometheus; docs/metrics.md lists it all.

Names and suffixes are controller-runtime's with a prefix of ours, so that rules and dashboards made for other operators
need only another prefix. The library is `prometheus_client`, the reference implementation by the Prometheus project.

No metric has a label per Deployment. Two have one per policy, which is what alerts are about: the targets by state, and
that a policy is not accepted. They are bounded: beyond MOST_POLICIES the rest is summed under OTHERS.

A process without an engine (the webhook's own) tells nothing of policies, of queues and of leading: zeros from it would
count as one more replica that stands by.

What is known anyway (targets, queue, leader) is read when it is asked for, by one collector; only what passes by is
counted as it does. Every workload write that is asked for ends in exactly one result:

    requests = patched + unchanged + skipped + failed        (once none is on its way)
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.progress import State
from sidecarpolicy.core.tree import at, items
from sidecarpolicy.names import Reason

# The library would add a gauge to every counter and histogram that says since when it counts.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE: Final = "text/plain; version=0.0.4"
RESULTS: Final = ("patched", "unchanged", "skipped", "failed")
"""What may come of a request for a workload write."""
MOST_POLICIES: Final = 500
OTHERS: Final = "(others)"
LAG_SECONDS: Final = 0.5  # between two looks at the loop's lag

# Seconds: controller-runtime's buckets for a reconcile, thinned out; and for requests and waits.
_RECONCILE: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUEST: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0)
_LAG: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCounts:
    """Where the targets of one policy stand, and its rollout."""

    policy: PolicyId
    targets: Mapping[str, int] = field(default_factory=dict)
    """By state."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """By reason."""
    rollout: str = ""
    """in_progress, halted, or empty where none is under way."""
    not_accepted: str = ""
    """Why the policy is not accepted, the condition's reason; empty where it is, or is not looked at yet."""


_ROLLOUTS: Final = ("in_progress", "halted")
_IN_PROGRESS: Final = (
    Reason.ROLLING_OUT,
    Reason.PAUSED,
    Reason.AWAITING_APPROVAL,
    Reason.AWAITING_OWNERS,
    Reason.REMOVING,
    Reason.REMOVAL_HELD,
)
_HALTED: Final = (Reason.ROLLOUT_HALTED, Reason.ROLLED_BACK)
_STATES: Final = (*(state.value for state in State), "removing")  # every one in exactly one


def counts_of_status(policy: PolicyId, status: Mapping[str, Any]) -> PolicyCounts:
    """Read them from a policy's status; every replica has that, the leader or not."""
    conditions = {each.get("type"): each for each in items(status, "conditions")}
    ready, accepted = conditions.get("Ready", {}), conditions.get("Accepted", {})
    rollout = {**dict.fromkeys(_IN_PROGRESS, "in_progress"), **dict.fromkeys(_HALTED, "halted")}
    return PolicyCounts(
        policy=policy,
        targets={state: at(status, "targets").get(state, 0) for state in _STATES},
        skipped={each["reason"]: each["count"] for each in items(status, "skipped")},
        rollout=rollout.get(ready.get("reason", ""), ""),
        not_accepted=accepted.get("reason", "") if accepted.get("status") == "False" else "",
    )


class Observed(Protocol):
    """What an engine tells when it is asked."""

    def policy_counts(self) -> Iterable[PolicyCounts]:
        """Of every policy."""
        ...

    def queue_depths(self) -> Mapping[str, int]:
        """How many keys wait, by what for."""
        ...

    @property
    def leading(self) -> bool:
        """Whether this replica writes."""
        ...


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = self._counter("reconcile", "Passes, by what came of them", "controller", "result")
        self._reconcile_errors = self._counter("reconcile_errors", "Passes that failed", "controller")
        self._reconcile_time = self._histogram(
            "reconcile_time_seconds", "How long a pass took", _RECONCILE, "controller"
        )
        self._adds = self._counter("workqueue_adds", "Keys that were queued", "name")
        self._queued = self._histogram("workqueue_queue_duration_seconds", "How long a key waited", _RECONCILE, "name")
        self._write_requests = self._counter("workload_write_requests", "Writes of a workload that were asked for")
        self._writes = self._counter("workload_writes", "What came of those requests", "result")
        self._requests = self._counter(
            "api_requests", "Requests to the API server, by HTTP status; none: no answer", "verb", "resource", "code"
        )
        self._request_time = self._histogram(
            "api_request_duration_seconds", "How long the API server took", _REQUEST, "verb", "resource"
        )
        self._lag = self._histogram("loop_lag_seconds", "How much later than due the event loop came to a timer", _LAG)
        self._reviews = self._counter(
            "webhook_reviews", "Reviews of the webhooks, by what came of them", "webhook", "result"
        )
        self._review_time = self._histogram("webhook_latency_seconds", "How long a review took", _REQUEST, "webhook")
        for result in RESULTS:
            self._writes(result)
        self._collector = _Collector()
        self.registry.register(self._collector)

    # Both return the metric by the values of its labels, each looked up once: that takes a lock, and writes are many.

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        made = Counter(f"sidecarpolicy_{name}", text, labels, registry=self.registry)
        return cache(made.labels) if labels else lambda: made

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Callable[..., Histogram]:
        made = Histogram(f"sidecarpolicy_{name}", text, labels, registry=self.registry, buckets=buckets)
        return cache(made.labels) if labels else lambda: made

    # What passes by

    def workload_write_requested(self) -> None:
        """A write of a workload was asked for; exactly one `workload_write` follows."""
        self._write_requests().inc()

    def workload_write(self, result: str) -> None:
        """What came of it: one of RESULTS."""
        if result not in RESULTS:
            raise ValueError(f"{result!r} is none of {RESULTS}")
        self._writes(result).inc()

    def reconcile(self, controller: str, result: str, seconds: float) -> None:
        """A pass is over; *result* is success or error."""
        self._reconciles(controller, result).inc()
        self._reconcile_time(controller).observe(seconds)
        if result == "error":
            self._reconcile_errors(controller).inc()

    def queued(self, name: str) -> None:
        """A key was added to the queue of that name."""
        self._adds(name).inc()

    def taken(self, name: str, waited: float) -> None:
        """A key was taken from the queue of that name after *waited* seconds."""
        self._queued(name).observe(waited)

    def request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """A request to the API server is over; *code* is its HTTP status, or `none`."""
        self._requests(verb, resource, code).inc()
        self._request_time(verb, resource).observe(seconds)

    def reviewed(self, webhook: str, result: str, seconds: float) -> None:
        """A webhook has answered."""
        self._reviews(webhook, result).inc()
        self._review_time(webhook).observe(seconds)

    async def watch_loop(self) -> None:
        """Measure the lag of the running loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._lag().observe(max(0.0, loop.time() - due))

    # What is read when it is asked for

    def observe_engine(self, engine: Observed) -> None:
        """Ask *engine* from now on."""
        self._collector.engine = engine

    def observe_events(self, dropped: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Ask how many Events were dropped, and how many wait."""
        self._collector.dropped, self._collector.waiting = dropped, waiting

    def observe_clock(self, offset: Callable[[], float]) -> None:
        """Ask by how many seconds the API server's clock is ahead of ours."""
        self._collector.offset = offset

    def observe_certificate(self, expires: Callable[[], float]) -> None:
        """Ask when the webhooks' certificate runs out (seconds since the epoch; 0: there is none)."""
        self._collector.expires = expires

    def observe_process(self) -> None:
        """Read memory, CPU and descriptors of this process."""
        ProcessCollector(registry=self.registry)

    def text(self) -> str:
        """Return everything, as Prometheus reads it."""
        return generate_latest(self.registry).decode()


class _Collector:
    """Reads what is known anyway."""

    def __init__(self) -> None:
        self.engine: Observed | None = None
        self.dropped: Callable[[], int] = int
        self.waiting: Callable[[], int] = int
        self.offset: Callable[[], float] = float
        self.expires: Callable[[], float] = float

    def collect(self) -> Iterator[Metric]:
        """Yield every family, those without a value too."""
        engine = self.engine
        policies = sorted(engine.policy_counts(), key=lambda each: each.policy) if engine is not None else []
        yield _targets(policies)
        yield _not_accepted(policies)
        skipped: Tally[str] = Tally()
        for each in policies:
            skipped.update(each.skipped)
        yield _gauge("skipped", "Selected Deployments that are skipped, over all policies", "reason", skipped)
        rollouts = Tally(each.rollout for each in policies)
        states = _ROLLOUTS if engine is not None else ()
        text = "Policies with a rollout under way"
        yield _gauge("rollouts", text, "state", {state: rollouts[state] for state in states})
        depths = engine.queue_depths() if engine is not None else {}
        yield _gauge("workqueue_depth", "Keys that wait", "name", depths)
        leader = GaugeMetricFamily("sidecarpolicy_leader", "1 while this replica writes, 0 while it stands by")
        if engine is not None:
            leader.add_metric([], float(engine.leading))
        yield leader
        dropped = CounterMetricFamily("sidecarpolicy_events_dropped", "Events that were never written")
        dropped.add_metric([], self.dropped())
        yield dropped
        waiting = GaugeMetricFamily("sidecarpolicy_events_waiting", "Events that wait to be written")
        waiting.add_metric([], self.waiting())
        yield waiting
        offset = GaugeMetricFamily(
            "sidecarpolicy_api_clock_offset_seconds", "How far the API server's clock is ahead of this process's"
        )
        offset.add_metric([], self.offset())
        yield offset
        expires = GaugeMetricFamily(
            "sidecarpolicy_webhook_certificate_expiry_timestamp_seconds",
            "When the webhooks' certificate runs out, 0 where this process has none",
        )
        expires.add_metric([], self.expires())
        yield expires


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"sidecarpolicy_{name}", text, labels=[label])
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family


def _targets(policies: Iterable[PolicyCounts]) -> GaugeMetricFamily:
    """Targets by policy and state."""
    text = "Deployments that a policy selects, by state"
    return _by_policy("targets", text, "state", ((each.policy, each.targets) for each in policies))


def _not_accepted(policies: Iterable[PolicyCounts]) -> GaugeMetricFamily:
    """1 for each policy that is not accepted."""
    text = "1 for each policy that is not accepted, by the reason of its condition Accepted"
    found = ((each.policy, {each.not_accepted: 1}) for each in policies if each.not_accepted)
    return _by_policy("policy_not_accepted", text, "reason", found)


def _by_policy(
    name: str, text: str, label: str, found: Iterable[tuple[PolicyId, Mapping[str, int]]]
) -> GaugeMetricFamily:
    """A gauge by policy and *label*; where they are too many the last in one sum."""
    labels = ["kind", "policy_namespace", "policy", label]
    family = GaugeMetricFamily(f"sidecarpolicy_{name}", text, labels=labels)
    rest: Tally[tuple[str, str]] = Tally()
    for number, (policy, values) in enumerate(found):
        for value, count in values.items():
            if number < MOST_POLICIES:
                family.add_metric([policy.kind, policy.namespace, policy.name, value], count)
            else:
                rest[policy.kind, value] += count
    for (kind, value), count in rest.items():
        family.add_metric([kind, "", OTHERS, value], count)
    return family
