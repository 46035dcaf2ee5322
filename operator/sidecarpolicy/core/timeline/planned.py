"""The life of a Pod as its spec plans it: the order of start and stop, with no times, for nobody has measured any.

Lengths are those of a sketch: everything that takes time takes the same. Drawn beside each other, two plans show what
a change of the spec does to the order. The rules are the kubelet's, as in `order`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sidecarpolicy.core.timeline.model import Kind, Lane, Moment, Phase, State, Timeline, Wait
from sidecarpolicy.core.timeline.moments import When
from sidecarpolicy.core.timeline.spec import Container, containers
from sidecarpolicy.core.tree import Json

STARTS, RUNS, WORKS, STOPS = 2.0, 1.0, 3.0, 2.0
"""How long a gate or an init container takes, a process to run, the application to work, and a container to stop."""


def planned_timeline(spec: Json, title: str) -> Timeline:
    """Return the timeline of a Pod with *spec* from its creation to its end, in a unit of no meaning."""
    declared = containers({"spec": spec})
    before = [each for each in declared if each.kind is not Kind.APPLICATION]
    applications = [each for each in declared if each.kind is Kind.APPLICATION]
    begun, now = [], 0.0
    for each in before:
        begun.append(now)
        now += STARTS if each.kind is Kind.INIT or each.gate else RUNS
    deleted = now + WORKS
    told = dict(_told(before, deleted + STOPS))
    gone = max([deleted, *told.values()]) + STOPS
    lanes = [
        *(
            _init(each, start) if each.kind is Kind.INIT else _sidecar(each, start, told[each.name])
            for each, start in zip(before, begun, strict=True)
        ),
        *(_lane(each, [(State.WAITING, 0.0), (State.RUNNING, now), *_stop(deleted)]) for each in applications),
    ]
    return Timeline(
        title=title,
        headline=" ".join(_sentences(before, applications)),
        zero=0.0,
        zero_name="Pod created",
        end=gone,
        lanes=tuple(lanes),
        moments=(Moment(name="Pod deleted", when=When.at(deleted)),),
        waits=(*_starts(declared, [*begun, *(now for _ in applications)]), *_stops(before, applications, told)),
        dated=False,
    )


def _told(before: Sequence[Container], first: float) -> Iterator[tuple[str, float]]:
    """Yield when each sidecar is told to stop: one after the other, the last one that started first."""
    sidecars = [each.name for each in before if each.kind is Kind.SIDECAR]
    for number, name in enumerate(reversed(sidecars)):
        yield name, first + number * STOPS


def _init(container: Container, start: float) -> Lane:
    ends = start + STARTS
    lane = _lane(container, [(State.WAITING, 0.0), (State.RUNNING, start), (State.EXITED, ends)])
    *earlier, ended = lane.phases
    return replace(lane, phases=(*earlier, replace(ended, why="exit 0")))


def _sidecar(container: Container, start: float, told: float) -> Lane:
    gate = [(State.STARTING, start), (State.RUNNING, start + STARTS)] if container.gate else [(State.RUNNING, start)]
    return _lane(container, [(State.WAITING, 0.0), *gate, *_stop(told)])


def _stop(told: float) -> list[tuple[State, float]]:
    return [(State.STOPPING, told), (State.EXITED, told + STOPS)]


def _lane(container: Container, points: Sequence[tuple[State, float]]) -> Lane:
    """Return the lane that is in each state from its point to the next one's; what takes no time is left out."""
    ends = [*(since for _, since in points[1:]), None]
    phases = tuple(
        Phase(state=state, since=When.at(since), until=None if until is None else When.at(until))
        for (state, since), until in zip(points, ends, strict=True)
        if until is None or until > since
    )
    return Lane(name=container.name, kind=container.kind, image=container.image, gate=container.gate, phases=phases)


def _starts(declared: Sequence[Container], begun: Sequence[float]) -> Iterator[Wait]:
    last: Container | None = None
    for each, start in zip(declared, begun, strict=True):
        if last is not None:
            yield Wait(waiter=each.name, on=last.name, until=When.at(start))
        if each.kind is not Kind.APPLICATION:
            last = each


def _stops(before: Sequence[Container], applications: Sequence[Container], told: dict[str, float]) -> Iterator[Wait]:
    on = applications[-1].name if applications else ""
    for each in reversed(before):
        if each.kind is Kind.SIDECAR:
            if on:
                yield Wait(waiter=each.name, on=on, until=When.at(told[each.name]), stopping=True)
            on = each.name


def _sentences(before: Sequence[Container], applications: Sequence[Container]) -> Iterator[str]:
    """Yield the same in words."""
    names, several = " and ".join(each.name for each in applications), len(applications) > 1
    start, wait, stop = ("start", "wait", "stop") if several else ("starts", "waits", "stops")
    if before:
        yield f"{names} {start} last, and {wait} for {', then '.join(each.condition for each in before)}."
    elif several:
        yield f"{names} start together: none waits for another."
    sidecars = [each.name for each in before if each.kind is Kind.SIDECAR]
    if sidecars:
        yield f"At the end {names} {stop} first, then {', then '.join(reversed(sidecars))}."
    elif several:
        yield "At the end all are told to stop at once."
