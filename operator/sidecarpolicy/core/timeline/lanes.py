"""From a container's course to its lane: one phase after the other, without gaps, and the marks upon them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sidecarpolicy.core.timeline.model import Kind, Lane, Mark, Phase, Sign, State, Step
from sidecarpolicy.core.timeline.moments import When, last
from sidecarpolicy.core.timeline.order import Course, Life
from sidecarpolicy.core.timeline.seen import Happening, Seen
from sidecarpolicy.core.timeline.why import RESTARTED

POD = ""
PULLING = "the image to be pulled"
LONGEST = 160
KILLED = 128 + 9


def lane(courses: Sequence[Course], number: int, seen: Seen) -> Lane:
    """Return the lane of the *number*-th of *courses*, without its caption."""
    course = courses[number]
    return Lane(
        name=course.container.name,
        kind=course.container.kind,
        image=course.container.image,
        gate=course.container.gate,
        readiness=course.container.readiness,
        phases=tuple(_phases(courses, number, seen)),
        marks=tuple(_marks(course, seen)),
        restarts=course.seen.restarts,
    )


def held_back(courses: Sequence[Course], number: int, seen: Seen) -> Iterator[Step]:
    """Yield what held the *number*-th container back, in order; the last one without an end if it still waits."""
    course = courses[number]
    began, prepared = course.seen.first_start, _first_activity(courses)
    scheduled = seen.conditions.get("PodScheduled") or prepared
    since = seen.created
    for step in (
        _Open("a node to run on", scheduled, detail=seen.unschedulable),
        _Open("the node: volumes, network", prepared),
        *(_Open(each.container.condition, each.opened, on=each.container.name) for each in courses[:number]),
        _pull(course, began),
    ):
        if step is None or (began is not None and step.until is None):
            continue
        until = None if step.until is None else step.until.not_after(began).not_before(since)
        yield Step(on=step.on, text=step.text + (f" ({step.detail})" if step.detail else ""), since=since, until=until)
        if until is None:
            return
        since = until
    if began is not None or course.seen.waiting in ("", "PodInitializing", "ContainerCreating"):
        rest = "the container to be created"
    else:
        rest = _reason(course.seen.waiting, course.seen.waiting_message)
    yield Step(on=POD, text=rest, since=since, until=began)


@dataclass(frozen=True, slots=True)
class _Open:
    text: str
    until: When | None
    on: str = POD
    detail: str = ""


def _first_activity(courses: Sequence[Course]) -> When | None:
    found = [each.seen.first_activity for each in courses if each.seen.first_activity is not None]
    return min(found) if found else None


def _pull(course: Course, began: When | None) -> _Open | None:
    """A pull that took time; None where the image was there, or nothing is said about it."""
    pulling, pulled = course.seen.of("Pulling"), course.seen.of("Pulled")
    if not pulling:
        return None
    bad = "ImagePull" in course.seen.waiting
    cause = course.seen.waiting_message.rpartition(": ")[2].strip()
    done = pulled[0].when if pulled else began
    return _Open(
        f"{PULLING}: {course.container.image}", done, detail=f"{course.seen.waiting}: {_short(cause)}" if bad else ""
    )


def _reason(reason: str, message: str) -> str:
    return f"its container: {reason}" + (f": {_short(message)}" if message else "")


def _phases(courses: Sequence[Course], number: int, seen: Seen) -> Iterator[Phase]:
    course = courses[number]
    for step in held_back(courses, number, seen):
        if step.until is None or step.until.latest > step.since.earliest:
            yield Phase(state=State.WAITING, since=step.since, until=step.until, on=step.on, why=step.text)
    yield from _runs_not_recorded(course)
    for number_of_life, life in enumerate(course.lives, start=1):
        yield from _life(course, life)
        following = course.lives[number_of_life] if number_of_life < len(course.lives) else None
        if life.run.end is not None:
            yield _after(course, life, following)


def _runs_not_recorded(course: Course) -> Iterator[Phase]:
    began = course.seen.first_start
    if began is None or not course.lives or began.latest >= course.lives[0].run.start.earliest:
        return
    missing = course.seen.restarts + 1 - len(course.lives)
    times = "once" if missing == 1 else f"{missing} times"
    yield Phase(
        state=State.RUNNING,
        since=began,
        until=course.lives[0].run.start,
        why=f"ran {times} and ended; Kubernetes keeps the last two runs only",
    )


def _life(course: Course, life: Life) -> Iterator[Phase]:
    """Yield the phases of one run; of a run within one second the first."""
    points = [(State.RUNNING, life.run.start, "")]
    if course.container.kind is not Kind.INIT:
        points = list(_turning_points(course, life))
    if life.told is not None:
        points.append((State.STOPPING, life.told, ""))
    ends = [*(since for _, since, _ in points[1:]), life.run.end]
    phases = [
        Phase(state=state, since=since, until=until, why=why)
        for (state, since, why), until in zip(points, ends, strict=True)
    ]
    took_time = [each for each in phases if each.until is None or each.until.latest > each.since.earliest]
    yield from took_time or phases[:1]


def _turning_points(course: Course, life: Life) -> Iterator[tuple[State, When, str]]:
    container, run = course.container, life.run
    unknown = "runs; whether it was ready is not recorded any more"
    if container.gate:
        yield State.STARTING, run.start, container.gate
    if life.started is None:
        if not container.gate:
            yield State.RUNNING, run.start, unknown
        return
    if life.ready is not None:
        if container.readiness and life.ready.latest > life.started.earliest:
            yield State.STARTED, life.started, container.readiness
        yield State.READY, life.ready, ""
    elif run.end is None:
        yield State.STARTED, life.started, container.readiness
    else:
        yield State.RUNNING, life.started, unknown


def _after(course: Course, life: Life, following: Life | None) -> Phase:
    exit_ = life.run.exit
    words = f"exit {exit_.code}" if exit_ else "ended"
    if exit_ and exit_.reason not in ("", "Completed", "Error"):
        words += f" ({exit_.reason})"
    end = life.run.end or life.run.start
    if following is not None:
        return Phase(state=State.WAITING, since=end, until=following.run.start, why=f"{RESTARTED} after {words}")
    if course.seen.waiting and not (exit_ and exit_.code == 0 and course.container.kind is Kind.INIT):
        why = f"{RESTARTED} after {words}: {_reason(course.seen.waiting, course.seen.waiting_message)}"
        return Phase(state=State.WAITING, since=end, why=why)
    return Phase(state=State.EXITED, since=end, why=words)


def _marks(course: Course, seen: Seen) -> Iterator[Mark]:
    for each in course.seen.happenings:
        if (found := _sign(each)) is not None:
            sign, text = found
            yield Mark(sign=sign, when=each.when, text=text, count=each.count, last=each.last)
    for life in course.lives:
        if life.told is not None:
            yield Mark(sign=Sign.TERM, when=life.told, text="told to stop (SIGTERM)")
        exit_ = life.run.exit
        if exit_ is not None and life.run.end is not None and exit_.code == KILLED:
            late = seen.deleted is not None and life.told is not None
            text = "killed: its time to stop was over (SIGKILL)" if late else f"killed ({exit_.reason or 'SIGKILL'})"
            yield Mark(sign=Sign.KILLED, when=life.run.end, text=text)


def _sign(event: Happening) -> tuple[Sign, str] | None:
    match event.reason:
        case "Pulled" if event.message.startswith("Successfully"):
            return Sign.PULLED, _short(event.message)
        case "Unhealthy":
            probe, _, why = event.message.partition(" probe failed: ")
            return Sign.FAILED, f"{probe.lower()}Probe failed" + (f": {_short(_cause(why))}" if why else "")
        case "BackOff" | "Failed" | "FailedPostStartHook" | "FailedPreStopHook" | "ExceededGracePeriod":
            return Sign.FAILED, _short(event.message)
        case "Killing" if "Stopping container" not in event.message:
            return Sign.NOTE, _short(event.message)
    return None


def _cause(why: str) -> str:
    """`Get "http://10.0.0.3:15000/ready": dial tcp …: connect: connection refused` is a refused connection."""
    return why.rpartition(": ")[2] if why.startswith("Get ") else why


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def reach(lane_of: Lane) -> When | None:
    """Return the last moment of a lane that is known."""
    return last([*(each.since for each in lane_of.phases), *(each.last or each.when for each in lane_of.marks)])
