"""The sentences: why the application started when it did, and each container's life in a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecarpolicy.core.timeline.model import Lane, Mark, Phase, Sign, State, Step
from sidecarpolicy.core.timeline.moments import length, offset, seconds, shortest

NOTICEABLE = 2.0
"""Seconds from which on a wait by Kubernetes' clock, which ticks once a second, is more than the clock's doing."""
NOTICEABLE_SHARE = 0.1
"""The same as a share of the whole, for exact clocks."""
MOST_REASONS = 3
RESTARTED = "being restarted"


def headline(name: str, steps: Sequence[Step], culprit: Lane | None, zero: float, *, others: bool) -> str:
    """Say why the application *name* started when it did; *others*: whether anything starts before it at all.

    *culprit*: the container that it still waits for, if it does.
    """
    if not steps:
        return f"{name}: nothing is recorded yet about its start."
    began = steps[-1].until
    if began is None:
        return _not_started(name, steps[-1], culprit, zero)
    when = length(steps[0].since, began)
    started = f"{name} started {when} after the Pod was created"
    if when == "0 s":
        started = f"{name} started within a second of the Pod's creation"
    reasons = [each for each in steps if _is_noticeable(each, began.latest - zero)]
    perhaps = [each for each in steps if each.until and each.until.latest - each.since.earliest >= NOTICEABLE]
    if not reasons and len(perhaps) > 1:
        names = list(dict.fromkeys(each.on or each.text for each in perhaps))
        return f"{started}; it waited for {_list(names)}, and which of them took how long is not recorded."
    reasons = reasons or perhaps
    if not reasons and others:
        return f"{started}; nothing that it waited for took {seconds(NOTICEABLE)}."
    if not reasons:
        return f"{started}; it waited for no other container."
    longest = sorted(sorted(reasons, key=_least, reverse=True)[:MOST_REASONS], key=reasons.index)
    return f"{started}: it waited {', then '.join(f'{_length(each)} for {each.text}' for each in longest)}."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is_noticeable(step: Step, whole: float) -> bool:
    if step.until is None:
        return True
    exact = not (step.until.latest.is_integer() and step.since.earliest.is_integer())
    return _least(step) >= (NOTICEABLE_SHARE * whole if exact else NOTICEABLE)


def _least(step: Step) -> float:
    return shortest(step.since, step.until) if step.until else float("inf")


def _not_started(name: str, step: Step, culprit: Lane | None, zero: float) -> str:
    text = f"{name} has not started: since {offset(step.since, zero)} it waits for {step.text}."
    if culprit is None:
        return text
    waiting = culprit.phases[-1] if culprit.phases else None
    if waiting is not None and waiting.state is State.WAITING:
        return f"{text} {culprit.name} waits for {waiting.why}."
    failed = [each for each in culprit.marks if each.sign is Sign.FAILED]
    if failed:
        newest = max(failed, key=_newest)
        times = f"{newest.count} times, last" if newest.count > 1 else "once,"
        text += f" {_upper(newest.text)} ({times} at {offset(newest.last or newest.when, zero)})."
    return text


def _newest(mark: Mark) -> float:
    return (mark.last or mark.when).latest


def _upper(text: str) -> str:
    return text if text.startswith(("startupProbe", "readinessProbe", "livenessProbe")) else text[:1].upper() + text[1:]


def _length(step: Step) -> str:
    return length(step.since, step.until) if step.until else ""


def caption(lane: Lane, zero: float) -> str:
    """Tell the life of one container in a line."""
    return _upper(", ".join(_clauses(lane, zero)))


def _clauses(lane: Lane, zero: float) -> Iterator[str]:
    waits = [each for each in lane.phases if each.state is State.WAITING and not each.why.startswith(RESTARTED)]
    begun = next((each for each in lane.phases if each.state not in (State.WAITING, State.EXITED)), None)
    if begun is None:
        if waits and waits[-1].until is None:
            yield f"waits for {waits[-1].why}"
        return
    awaited = [each for each in waits if each.on and _is_noticeable(_step(each), begun.since.latest - zero)]
    if awaited:
        yield f"waited {' and '.join(f'{_length(_step(each))} for {each.on}' for each in awaited)}"
    yield f"process from {offset(begun.since, zero)}"
    for phase in lane.phases:
        yield from _clause(phase, zero)
    if lane.restarts:
        yield "restarted once" if lane.restarts == 1 else f"restarted {lane.restarts} times"


def _step(phase: Phase) -> Step:
    return Step(on=phase.on, text=phase.why, since=phase.since, until=phase.until)


def _clause(phase: Phase, zero: float) -> Iterator[str]:
    when = offset(phase.since, zero)
    match phase.state:
        case State.STARTING:
            end = phase.until
            yield f"started {offset(end, zero)} ({phase.why})" if end else f"not started yet: {phase.why}"
        case State.STARTED if phase.until is None:
            yield f"not ready: {phase.why}" if phase.why else "not ready"
        case State.READY:
            yield f"ready {when}"
        case State.STOPPING:
            yield f"SIGTERM {when}"
        case State.EXITED:
            yield f"{phase.why} at {when}"
        case State.WAITING if phase.why.startswith(RESTARTED):
            yield f"{phase.why.removeprefix(f'{RESTARTED} after ').partition(':')[0]} at {when}"
