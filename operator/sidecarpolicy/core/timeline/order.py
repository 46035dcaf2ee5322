"""When each run of each container was started, ready and told to stop, as narrow as the record allows.

Every bound has a rule of the kubelet behind it:

- the kubelet turns to a container only when the one before it in `initContainers` has started or ended, so the first
  sign of the next is the latest moment at which a sidecar can have started;
- a failed startupProbe is the earliest, and so is its `initialDelaySeconds`;
- a container without startupProbe and postStart has started when its process runs;
- when the Pod's containers came to be ready (condition ContainersReady), the last of them did;
- at the end a sidecar is told to stop when the application and every sidecar after it are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecarpolicy.core.timeline.model import Kind
from sidecarpolicy.core.timeline.moments import When, first, last
from sidecarpolicy.core.timeline.seen import Run, Seen, SeenContainer
from sidecarpolicy.core.timeline.spec import Container

HANDOVER = 1.0
"""Seconds that may pass between the end of one container and the SIGTERM of the one that waited for it."""


@dataclass(slots=True, kw_only=True)
class Life:
    """One run of a container and its turning points; None where one has not come, or (ready) is not recorded."""

    run: Run
    started: When | None = None
    ready: When | None = None
    told: When | None = None
    told_after: str = ""  # the container whose end the SIGTERM waited for


@dataclass(slots=True, kw_only=True)
class Course:
    """A container's lives. *opened*: when it first let the next container go on."""

    container: Container
    seen: SeenContainer
    lives: list[Life]
    opened: When | None = None


def courses(containers: Sequence[Container], seen: Seen) -> list[Course]:
    """Return the course of every container, in start order."""
    result = [
        Course(container=each, seen=(at := seen.container(each.name)), lives=[Life(run=run) for run in at.runs])
        for each in containers
    ]
    for number, course in enumerate(result):
        later = first(each.seen.first_activity for each in result[number + 1 :])
        if course.container.kind is not Kind.APPLICATION and later is None:
            later = seen.conditions.get("Initialized")
        _start(course, later if course.container.kind is not Kind.APPLICATION else None, seen)
    _only_one_can_have_been_last(result, seen)
    _stop(result, seen)
    return result


def _start(course: Course, later: When | None, seen: Seen) -> None:
    for life in course.lives:
        life.started = _started(course, life.run, later)
        life.ready = _ready(course, life, seen)
    if course.container.kind is Kind.INIT:
        course.opened = first(run.end for run in course.seen.runs if run.exit is not None and run.exit.code == 0)
    elif course.lives:
        course.opened = first(life.started for life in course.lives)
    if course.opened is None and later is not None and course.container.kind is not Kind.APPLICATION:
        begun = course.seen.first_start or seen.created
        course.opened = When(min(begun.earliest, later.latest), later.latest)


def _started(course: Course, run: Run, later: When | None) -> When | None:
    if course.container.kind is Kind.INIT:
        return None
    if not course.container.gate:
        return run.start
    spanned = later is not None and run.start.earliest <= later.latest and _lives_at(run, later)
    if not run.started.seen and not spanned:
        return None
    latest = first([run.started.by, later if spanned else None, run.end])
    latest = latest or last([run.start, *(each.last for each in course.seen.happenings)]) or run.start
    failed = last(each.last for each in course.seen.failures("Startup") if each.last.earliest <= latest.latest)
    begun = When(run.start.earliest + course.container.delay, run.start.latest + course.container.delay)
    earliest = last([begun, run.started.after, failed if course.seen.restarts == 0 else None]) or begun
    return When(min(earliest.earliest, latest.latest), latest.latest)


def _lives_at(run: Run, when: When) -> bool:
    return run.end is None or run.end.latest >= when.earliest


def _ready(course: Course, life: Life, seen: Seen) -> When | None:
    if not course.container.readiness:
        return life.started
    run, all_ready = life.run, seen.conditions.get("ContainersReady")
    if not run.ready.seen:
        return None
    if all_ready is not None and (all_ready.latest < run.start.earliest or not _lives_at(run, all_ready)):
        all_ready = None
    latest = first([run.ready.by, all_ready]) or seen.until
    failed = last(each.last for each in course.seen.failures("Readiness") if each.last.earliest <= latest.latest)
    begun = life.started or run.start
    earliest = last([begun, run.ready.after, failed if course.seen.restarts == 0 else None]) or begun
    return When(min(earliest.earliest, latest.latest), latest.latest)


def _only_one_can_have_been_last(result: Sequence[Course], seen: Seen) -> None:
    """Where all others were ready before ContainersReady came true, the one that is left became ready just then."""
    all_ready = seen.conditions.get("ContainersReady")
    lives = [course.lives[0] for course in result if course.container.kind is not Kind.INIT and course.lives]
    if all_ready is None or any(course.seen.restarts for course in result):
        return
    candidates = [life for life in lives if life.ready is None or life.ready.latest >= all_ready.earliest]
    if len(candidates) == 1 and (known := candidates[0].ready) is not None and not known.known:
        candidates[0].ready = all_ready.not_before(known).not_after(known)


def _stop(result: Sequence[Course], seen: Seen) -> None:
    """Say of every run that was going on when the Pod was stopped when it was told to stop, and after whom."""
    applications = [course for course in result if course.container.kind is Kind.APPLICATION]
    for course in applications:
        if course.lives and seen.deleted is not None:
            course.lives[-1].told = _application_told(course, seen.deleted, seen)
    begun = seen.deleted or _finished(applications, seen)
    if begun is None:
        return
    sidecars = [course for course in result if course.container.kind is Kind.SIDECAR and course.lives]
    for number, course in enumerate(sidecars):
        awaited = [each for each in (*sidecars[number + 1 :], *applications) if each.lives]
        life, gone = course.lives[-1], _gone(awaited, begun, seen)
        if gone is None or _is_over(life.run, begun):
            continue
        latest = min((life.run.end or seen.until).latest, gone.latest + HANDOVER)
        life.told = When(min(gone.earliest, latest), latest)
        life.told_after = (
            max(awaited, key=lambda each: each.lives[-1].run.end or begun).container.name if awaited else ""
        )


def _gone(awaited: Sequence[Course], begun: When, seen: Seen) -> When | None:
    """When all of *awaited* were gone, or the time that they had was over; None if neither has come."""
    ends = [each.lives[-1].run.end for each in awaited]
    gone = last([begun, *ends]) if all(ends) else None
    if not seen.grace or seen.deleted is None:
        return gone
    limit = When(begun.earliest + seen.grace, begun.latest + seen.grace + HANDOVER)
    if gone is not None and gone.earliest <= limit.latest:
        return gone
    return limit if limit.latest <= seen.until.latest else None


def _application_told(course: Course, deleted: When, seen: Seen) -> When | None:
    """The kubelet tells the application at once; a preStop hook comes first and is not recorded."""
    run = course.lives[-1].run
    if _is_over(run, deleted):
        return None
    killing = last(each.when for each in course.seen.of("Killing") if each.when.latest >= deleted.earliest)
    begun = (killing or deleted).not_after(run.end)
    return When(begun.earliest, (run.end or seen.until).latest) if course.container.pre_stop else begun


def _is_over(run: Run, when: When) -> bool:
    return run.end is not None and run.end.latest < when.earliest


def _finished(applications: Sequence[Course], seen: Seen) -> When | None:
    """When the application had ended for good, which stops the sidecars of a Pod that is not restarted."""
    if seen.restart_policy == "Always" or not applications:
        return None
    runs = [course.lives[-1].run if course.lives else None for course in applications]
    ends = [run.end if run and run.exit and _is_final(run, seen) else None for run in runs]
    return last(ends) if all(ends) else None


def _is_final(run: Run, seen: Seen) -> bool:
    return seen.restart_policy == "Never" or (run.exit is not None and run.exit.code == 0)
