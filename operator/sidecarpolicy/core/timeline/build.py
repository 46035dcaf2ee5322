"""From a Pod's states and Events, and a witness where there is one, to its Timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sidecarpolicy.core.timeline import lanes, why
from sidecarpolicy.core.timeline.calendar import Fit, fit
from sidecarpolicy.core.timeline.model import Kind, Lane, Moment, Step, Timeline, Wait
from sidecarpolicy.core.timeline.moments import Clock, When
from sidecarpolicy.core.timeline.order import Course, courses
from sidecarpolicy.core.timeline.seen import Seen, seen
from sidecarpolicy.core.timeline.spec import containers
from sidecarpolicy.core.timeline.witness import Witness, marks
from sidecarpolicy.core.tree import Json

WHOLE_SECONDS = (
    "Kubernetes records whole seconds: what is drawn at +3 s happened within that second, and lengths are right to "
    "1 s either way."
)
RANGES = "Hatched: it happened somewhere in there, and Kubernetes does not record when."
NO_EVENTS = (
    "There are no Events (Kubernetes keeps them for an hour), so failed probes and image pulls are missing and some "
    "ranges are wider than need be."
)
READY_IS_LOST = (
    "A Pod that has stopped no longer says when its containers were ready; "
    "kubectl get pod NAME --watch -o yaml --show-managed-fields, recorded while it lives, does."
)


def pod_timeline(
    states: Sequence[Json], events: Sequence[Json], *, now: float | None = None, witness: Witness | None = None
) -> Timeline:
    """Return the timeline of one Pod.

    *states*: the Pod object, or several of its states, oldest first; *events*: those about it; *now*: when they were
    read, in seconds since the epoch, if known; *witness*: what its containers wrote down.
    """
    declared = containers(states[-1])
    plain = seen(states, events, Clock(), None if now is None else When.at(float(int(now))))
    fitted = fit(witness, plain) if witness is not None and witness.lines else None
    record = plain
    if fitted is not None:
        record = seen(states, events, Clock(spread=fitted.error), None if now is None else When.at(now))
        fitted.narrow(record)
    course_of = courses(declared, record)
    if fitted is not None:
        _take_his_word(course_of, fitted)
    zero = plain.created.earliest
    record.created = record.created.not_before(When.at(zero))
    drawn = tuple(_with_caption(each, zero) for each in _lanes(course_of, record, fitted))
    main = next((number for number, each in enumerate(declared) if each.kind is Kind.APPLICATION), len(declared) - 1)
    steps = tuple(lanes.held_back(course_of, main, record)) if declared else ()
    return Timeline(
        title=f"{record.namespace}/{record.name}",
        headline=why.headline(declared[main].name, steps, _culprit(drawn, steps), zero, others=main > 0),
        zero=zero,
        zero_name="Pod created",
        end=max(record.until.latest, *(_reach(each) for each in drawn)),
        lanes=drawn,
        moments=tuple(_moments(record)),
        waits=tuple(_waits(course_of)),
        steps=steps,
        notes=tuple(_notes(record, drawn, fitted)),
    )


def _take_his_word(course_of: Sequence[Course], fitted: Fit) -> None:
    for course in course_of:
        for life in course.lives:
            told = fitted.told(course.container.name, life.run.start)
            if told is not None:
                life.told = told


def _lanes(course_of: Sequence[Course], record: Seen, fitted: Fit | None) -> Iterator[Lane]:
    for number, course in enumerate(course_of):
        lane = lanes.lane(course_of, number, record)
        if fitted is not None:
            own = marks(fitted.witness.of(course.container.name), fitted.shift, readiness=True)
            lane = replace(lane, marks=(*lane.marks, *own))
        yield lane


def _with_caption(lane: Lane, zero: float) -> Lane:
    return replace(lane, caption=why.caption(lane, zero))


def _culprit(drawn: Sequence[Lane], steps: Sequence[Step]) -> Lane | None:
    """The container that the application waits for still."""
    return next((each for each in drawn if steps and each.name == steps[-1].on), None)


def _reach(lane: Lane) -> float:
    reached = lanes.reach(lane)
    return reached.latest if reached is not None else 0.0


def _moments(record: Seen) -> Iterator[Moment]:
    yield Moment(name="Pod created", when=record.created)
    if ready := record.conditions.get("Ready"):
        restarted = record.states == 1 and any(each.restarts for each in record.containers.values())
        yield Moment(name="Pod ready again" if restarted else "Pod ready", when=ready)
    if record.deleted is not None:
        yield Moment(name="Pod deleted", when=record.deleted)


def _waits(course_of: Sequence[Course]) -> Iterator[Wait]:
    before: Course | None = None
    for course in course_of:
        began = course.seen.first_start
        if before is not None and before.opened is not None and began is not None:
            yield Wait(waiter=course.container.name, on=before.container.name, until=before.opened.not_after(began))
        if course.container.kind is not Kind.APPLICATION:
            before = course
    for course in course_of:
        for life in course.lives:
            if life.told is not None and life.told_after:
                yield Wait(waiter=course.container.name, on=life.told_after, until=life.told, stopping=True)


def _notes(record: Seen, drawn: Sequence[Lane], fitted: Fit | None) -> Iterator[str]:
    yield fitted.note if fitted is not None else WHOLE_SECONDS
    if any(not edge.known for lane in drawn for phase in lane.phases for edge in (phase.since, phase.until) if edge):
        yield RANGES
    if not record.has_events:
        yield NO_EVENTS
    lost = [phase for lane in drawn for phase in lane.phases if "not recorded any more" in phase.why]
    if lost:
        yield READY_IS_LOST
    missing = [lane.name for lane in drawn if any("the last two runs only" in each.why for each in lane.phases)]
    for name in missing:
        yield f"{name}: Kubernetes keeps the last two runs of a container only; the earlier ones are drawn as one."
