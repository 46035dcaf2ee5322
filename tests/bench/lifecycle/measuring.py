"""Measures one variant: its Pods' starts and stops, a crash of its proxy, the end of a Job."""

from __future__ import annotations

import contextlib
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tests.bench.lifecycle.variants import JOB_WORK, PORT, READY_AFTER, Variant, job
from tests.node.lifecycle.records import Record
from tests.node.lifecycle.stage import Stage
from tests.node.lifecycle.watching import PodWatch, Sight
from tests.node.pods import container, is_ready
from tests.polling import poll

STEADY_CALLS = 40
"""Answered calls of every Pod between its start and its stop."""
JOB_PATIENCE = 15.0
"""Seconds after the end of a Job's main container after which the Job counts as never ending."""
_SECOND = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One Pod's start and stop."""

    failed_at_start: int
    """Before the first container was told to stop."""
    failed_at_stop: int
    """From then on."""
    last_call_answered: bool
    first_success: float
    """Seconds from the Pod's creation."""
    gone: float
    """Seconds from the deletion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What a crash of the proxy did to its Pod."""

    failed_calls: int
    unready: float
    """Seconds; 0 if it stayed ready."""
    proxy_restarts: int
    app_restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """What became of a Job whose main container has ended."""

    completed: bool
    seconds: float
    """From the end of the main container; if not completed, how long was waited at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All about one variant."""

    lives: Sequence[Life]
    crash: Crash
    job: JobEnd

    @property
    def failed_at_start(self) -> int:
        """Failed calls at all starts together."""
        return sum(each.failed_at_start for each in self.lives)

    @property
    def failed_at_stop(self) -> int:
        """Failed calls at all stops together."""
        return sum(each.failed_at_stop for each in self.lives)

    @property
    def first_success(self) -> float:
        """The median, in seconds."""
        return statistics.median(each.first_success for each in self.lives)

    @property
    def gone(self) -> float:
        """The median, in seconds."""
        return statistics.median(each.gone for each in self.lives)


def lives(stage: Stage, watch: PodWatch, variant: Variant, pods: int) -> list[Life]:
    """Start so many Pods of a variant, let them call for a while, delete them, and tell."""
    before = set(watch.names(f"{variant.name}-"))
    _scale(stage, variant, pods)
    fresh = poll(partial(_fresh, watch, variant, before), until=lambda found: len(found) == pods)
    for name in fresh:
        watch.wait(name, lambda pod: is_ready(pod), timeout=120)
        poll(partial(stage.record, name), until=_is_steady, timeout=60)
    _scale(stage, variant, 0)
    for name in fresh:
        poll(partial(watch.is_gone, name), timeout=120)
    return [_life(watch.history(name), stage.record(name)) for name in fresh]


def crash(stage: Stage, watch: PodWatch, variant: Variant) -> Crash:
    """Start one Pod, let its proxy exit 1, wait until the Pod is ready again, and tell."""
    before = set(watch.names(f"{variant.name}-"))
    _scale(stage, variant, 1)
    (name,) = poll(partial(_fresh, watch, variant, before), until=lambda found: len(found) == 1)
    pod = watch.wait(name, lambda pod: is_ready(pod), timeout=60)
    poll(partial(stage.record, name), until=_is_steady, timeout=60)
    failed = len(stage.record(name).failed)
    began = time.monotonic_ns()
    with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):  # it ends before it answers
        urllib.request.urlopen(f"http://{pod['status']['podIP']}:{PORT}/exit/1", timeout=5)
    watch.wait(
        name,
        lambda pod: container(pod, "proxy")["restartCount"] and is_ready(pod),
        timeout=90,
    )
    answered = _answered(stage.record(name))
    poll(partial(stage.record, name), until=lambda record: _answered(record) > answered, timeout=10)
    ready = watch.now(name)
    record = stage.record(name)
    told = Crash(
        failed_calls=len(record.failed) - failed,
        unready=_unready([sight for sight in watch.history(name) if sight.at > began]),
        proxy_restarts=container(ready, "proxy")["restartCount"],
        app_restarts=container(ready, "app")["restartCount"],
    )
    _scale(stage, variant, 0)
    poll(partial(watch.is_gone, name), timeout=60)
    return told


def job_ends(stage: Stage, watch: PodWatch, variants: Sequence[Variant]) -> dict[str, JobEnd]:
    """Start a Job of every variant, and tell what becomes of it when its main container has ended."""
    templates = stage.templates()
    stage.apply(*(job(each, templates[each.name]["spec"]) for each in variants))
    ends = {}
    for each in variants:
        name = poll(partial(watch.names, f"job-{each.name}-"), until=lambda found: len(found) == 1)[0]
        (ended,) = poll(partial(_ends_of, stage, name), timeout=READY_AFTER + JOB_WORK + 60)
        ends[each.name] = _end_of_job(watch, name, ended)
    stage.kubectl("delete", "jobs", "--all", "--cascade=foreground", "--timeout=90s")
    return ends


def _end_of_job(watch: PodWatch, name: str, ended: int) -> JobEnd:
    while time.monotonic_ns() < ended + JOB_PATIENCE * _SECOND and not _succeeded(watch.history(name)):
        time.sleep(0.1)
    done = _succeeded(watch.history(name))
    return JobEnd(completed=bool(done), seconds=(done[0] - ended) / _SECOND if done else JOB_PATIENCE)


def _succeeded(history: Sequence[Sight]) -> list[int]:
    return [sight.at for sight in history if sight.pod["status"].get("phase") == "Succeeded"]


def _scale(stage: Stage, variant: Variant, pods: int) -> None:
    stage.kubectl("scale", "deployment", variant.name, f"--replicas={pods}")


def _fresh(watch: PodWatch, variant: Variant, before: set[str]) -> list[str]:
    return [name for name in watch.names(f"{variant.name}-") if name not in before]


def _answered(record: Record) -> int:
    return len(record.calls) - len(record.failed)


def _is_steady(record: Record) -> bool:
    return _answered(record) >= STEADY_CALLS


def _ends_of(stage: Stage, name: str) -> list[int]:
    return [event.at for event in stage.record(name).all("app", "exit")]


def _life(history: Sequence[Sight], record: Record) -> Life:
    created, gone = history[0].at, history[-1].at
    deleted = next(sight.at for sight in history if "deletionTimestamp" in sight.pod["metadata"])
    first = next(event.at for event in record.calls if event not in record.failed)
    ending = next(event.at for event in record.events if event.what == "TERM")
    return Life(
        failed_at_start=sum(event.at < ending for event in record.failed),
        failed_at_stop=sum(event.at >= ending for event in record.failed),
        last_call_answered=record.calls[-1] not in record.failed,
        first_success=(first - created) / _SECOND,
        gone=(gone - deleted) / _SECOND,
    )


def _unready(history: Sequence[Sight]) -> float:
    """How long a Pod was not ready, in seconds, from its states after a crash."""
    fell = next((sight.at for sight in history if not sight.is_ready), None)
    if fell is None:
        return 0.0
    return (next(sight.at for sight in history if sight.at > fell and sight.is_ready) - fell) / _SECOND
