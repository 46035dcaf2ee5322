"""What Kubernetes has recorded about a Pod: one or several states of the Pod object, and its Events.

One state tells when containers began and ended, not when they were started or ready: of that it has only a flag, and
when the Pod's conditions last changed. Several states (`kubectl get pod --watch`) tell between which two of them a flag
changed; each is dated by the kubelet's entry in `managedFields`, the time of its last write to the status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecarpolicy.core.timeline.moments import Clock, When, first, last
from sidecarpolicy.core.tree import Json, at, items

CONTAINER_STATUSES = ("initContainerStatuses", "containerStatuses")
ACTIVITY = frozenset({"Pulling", "Pulled", "Created", "Started"})
PROBES = ("Startup", "Readiness", "Liveness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a run ended."""

    code: int
    reason: str = ""
    message: str = ""


@dataclass(slots=True, kw_only=True)
class Change:
    """When a flag came true: it was last seen false at *after*, first seen true *by*; *seen*: whether it ever was."""

    after: When | None = None
    by: When | None = None
    seen: bool = False

    def look(self, value: bool, when: When | None) -> None:
        """Take one more state into account; states come in their order."""
        if value and not self.seen:
            self.seen, self.by = True, when
        elif not value and not self.seen:
            self.after = when or self.after


@dataclass(slots=True, kw_only=True)
class Run:
    """One process of a container, from *start* to *end*."""

    start: When
    end: When | None = None
    exit: Exit | None = None
    started: Change = field(default_factory=Change)
    ready: Change = field(default_factory=Change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An Event: *count* times from *when* to *last*."""

    reason: str
    message: str
    when: When
    last: When
    count: int


@dataclass(slots=True, kw_only=True)
class SeenContainer:
    """What is recorded about one container; *runs* in their order, at most those that its statuses show."""

    runs: list[Run] = field(default_factory=list)
    restarts: int = 0
    waiting: str = ""
    waiting_message: str = ""
    happenings: list[Happening] = field(default_factory=list)

    def of(self, *reasons: str) -> list[Happening]:
        """Return the Events with one of *reasons*."""
        return [each for each in self.happenings if each.reason in reasons]

    def failures(self, probe: str) -> list[Happening]:
        """Return the failures of its startup, readiness or liveness probe."""
        return [each for each in self.of("Unhealthy") if each.message.startswith(probe)]

    @property
    def first_start(self) -> When | None:
        """When its first process began."""
        return first([*(each.when for each in self.of("Started")), *(run.start for run in self.runs)])

    @property
    def first_activity(self) -> When | None:
        """When the kubelet first turned to it: from then on whatever it had to wait for was there."""
        return first([*(each.when for each in self.of(*ACTIVITY)), self.first_start])


@dataclass(slots=True, kw_only=True)
class Seen:
    """What is recorded about a Pod. *conditions*: when each was first seen to have come true."""

    name: str
    namespace: str
    created: When
    deleted: When | None = None
    grace: float = 0.0
    phase: str = ""
    reason: str = ""
    restart_policy: str = "Always"
    conditions: dict[str, When] = field(default_factory=dict)
    unschedulable: str = ""
    containers: dict[str, SeenContainer] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    states: int = 0
    has_events: bool = False
    until: When

    def container(self, name: str) -> SeenContainer:
        """Return what is recorded about a container, which may be nothing."""
        return self.containers.setdefault(name, SeenContainer())


def seen(states: Sequence[Json], events: Iterable[Json], clock: Clock, now: When | None = None) -> Seen:
    """Return what *states* of one Pod, oldest first, and its *events* say; *now*: when they were read, if known."""
    newest = states[-1]
    metadata = at(newest, "metadata")
    created = clock.read(metadata.get("creationTimestamp")) or now or When.at(0.0)
    result = Seen(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "default")),
        created=created,
        phase=str(at(newest, "status").get("phase", "")),
        reason=str(at(newest, "status").get("reason", "")),
        restart_policy=str(at(newest, "spec").get("restartPolicy") or "Always"),
        until=created,
    )
    for state in states:
        _state(result, state, clock)
    for event in events:
        _event(result, event, clock)
    _deletion(result, states, clock)
    for container in result.containers.values():
        container.runs.sort(key=lambda run: run.start)
    result.until = now or last([result.until, *_moments(result)]) or created
    return result


def written(state: Json, clock: Clock) -> When | None:
    """Return when the kubelet last wrote the status of *state*, None where managedFields are missing."""
    entries = items(at(state, "metadata"), "managedFields")
    return last(clock.read(each.get("time")) for each in entries if each.get("subresource") == "status")


def _state(result: Seen, state: Json, clock: Clock) -> None:
    when = written(state, clock)
    result.states += 1
    result.until = last([result.until, when]) or result.until
    status = at(state, "status")
    result.unschedulable = ""
    for condition in items(status, "conditions"):
        kind, changed = str(condition.get("type")), clock.read(condition.get("lastTransitionTime"))
        if changed is None:
            continue
        result.until = last([result.until, changed]) or result.until
        if condition.get("status") == "True":
            result.conditions[kind] = first([result.conditions.get(kind), changed]) or changed
        elif kind == "PodScheduled":
            result.unschedulable = str(condition.get("message", ""))
    for statuses in CONTAINER_STATUSES:
        for each in items(status, statuses):
            _container(result.container(str(each.get("name"))), each, when, clock)


def _container(container: SeenContainer, status: Json, when: When | None, clock: Clock) -> None:
    container.restarts = max(container.restarts, int(status.get("restartCount") or 0))
    waiting = at(status, "state", "waiting")
    container.waiting, container.waiting_message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    _ended(container, at(status, "lastState", "terminated"), clock)
    _ended(container, at(status, "state", "terminated"), clock)
    start = clock.read(at(status, "state", "running").get("startedAt"))
    if start is not None:
        run = _run(container, start)
        run.started.look(status.get("started") is True, when)
        run.ready.look(status.get("ready") is True, when)


def _ended(container: SeenContainer, terminated: Json, clock: Clock) -> None:
    end = clock.read(terminated.get("finishedAt"))
    start = clock.read(terminated.get("startedAt"))
    if end is None or end.latest <= 0:
        return
    run = _run(container, start if start is not None and start.latest > 0 else end)
    code = int(terminated.get("exitCode") or 0)
    run.end = end
    run.exit = Exit(
        code=code, reason=str(terminated.get("reason") or ""), message=str(terminated.get("message") or "").strip()
    )


def _run(container: SeenContainer, start: When) -> Run:
    for run in container.runs:
        if run.start == start:
            return run
    container.runs.append(Run(start=start))
    return container.runs[-1]


def _event(result: Seen, event: Json, clock: Clock) -> None:
    """Read a core/v1 or events.k8s.io/v1 Event."""
    series = at(event, "series")
    stamps: list[Any] = [event.get(key) for key in ("firstTimestamp", "deprecatedFirstTimestamp", "eventTime")]
    when = next((found for stamp in stamps if (found := clock.read(stamp))), None)
    ends = [event.get("lastTimestamp"), event.get("deprecatedLastTimestamp"), series.get("lastObservedTime")]
    if when is None:
        return
    happening = Happening(
        reason=str(event.get("reason", "")),
        message=str(event.get("message") or event.get("note") or ""),
        when=when,
        last=last([when, *(clock.read(stamp) for stamp in ends)]) or when,
        count=int(event.get("count") or event.get("deprecatedCount") or series.get("count") or 1),
    )
    result.has_events = True
    result.until = last([result.until, happening.last]) or result.until
    path = str((at(event, "involvedObject") or at(event, "regarding")).get("fieldPath") or "")
    _, brace, name = path.rstrip("}").partition("{")
    (result.container(name).happenings if brace else result.happenings).append(happening)


def _deletion(result: Seen, states: Sequence[Json], clock: Clock) -> None:
    """The API server writes down when a Pod's grace ends, not when it began; the kubelet's last DELETE has none."""
    asked: list[When] = []
    for state in states:
        metadata = at(state, "metadata")
        end = clock.read(metadata.get("deletionTimestamp"))
        if end is not None:
            grace = float(metadata.get("deletionGracePeriodSeconds") or 0)
            result.grace = max(result.grace, grace)
            asked.append(When(end.earliest - grace, end.latest - grace))
    stops = [
        happening.when for each in result.containers.values() for happening in each.of("Killing") if _stops(happening)
    ]
    result.deleted = first([*asked, *stops]) if asked else None
    if asked and not stops and result.grace == 0:
        begun = last(run.start for each in result.containers.values() for run in each.runs)
        result.deleted = asked[0] if begun is None else When(min(begun.earliest, asked[0].latest), asked[0].latest)


def _stops(killing: Happening) -> bool:
    """Whether the Pod was being stopped: a failed probe that restarts a container has other words."""
    return killing.message.startswith("Stopping container")


def _moments(result: Seen) -> list[When | None]:
    runs = [run for container in result.containers.values() for run in container.runs]
    return [result.deleted, *(run.start for run in runs), *(run.end for run in runs)]


def is_event(body: Mapping[str, Any]) -> bool:
    """Whether *body* is an Event of either API group."""
    return body.get("kind") == "Event"


def events_of(pod: Mapping[str, Any], events: Iterable[Json]) -> list[Json]:
    """Return those of *events* that are about *pod*: by uid, or by name where an Event bears none."""
    metadata = at(pod, "metadata")
    return [event for event in events if _is_about(at(event, "involvedObject") or at(event, "regarding"), metadata)]


def _is_about(target: Json, metadata: Json) -> bool:
    if target.get("kind") not in (None, "Pod"):
        return False
    if target.get("uid") and metadata.get("uid"):
        return bool(target["uid"] == metadata["uid"])
    same_namespace = target.get("namespace", "default") == metadata.get("namespace", "default")
    return same_namespace and target.get("name") == metadata.get("name")
