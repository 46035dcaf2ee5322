"""The record of a witness: what the containers of a Pod wrote down themselves, to the nanosecond.

A line is text, as the program in deploy/witness writes it, or JSON:

    15301222333444 app call-failed connection refused
    {"container": "app", "event": "call-failed", "detail": "connection refused", "ns": 15301222333444}

The time is CLOCK_MONOTONIC of the node, in nanoseconds, so the lines of all containers share it. A JSON line may also
bear "time" (RFC 3339 or nanoseconds since the epoch), which ties that clock to the calendar. The events start, ready,
listening, TERM, exit, first-call, call-ok and call-failed mean something here, in any case; every other one becomes a
mark. `proxy/preStop` is a hook of proxy. Other fields of JSON lines are passed over.

What a program says of itself is not what the kubelet found out: "ready" here is the program's word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from sidecarpolicy.core.timeline.model import Kind, Lane, Mark, Phase, Sign, State, Timeline
from sidecarpolicy.core.timeline.moments import When, epoch, offset, seconds
from sidecarpolicy.core.timeline.why import caption

NANO = 1e-9
TEXT_LINE = re.compile(
    r"(?P<ns>\d+)\s+(?P<container>[^\s/]+)(?:/(?P<hook>\S+))?\s+(?P<event>\S+)(?:\s+(?P<detail>.*))?"
)
START, EXIT, TERM = "start", "exit", "term"
READY = frozenset({"ready", "listening"})
CALLS = {"call-ok": Sign.OK, "call-failed": Sign.FAILED, "first-call": Sign.NOTE}


class BadWitness(ValueError):
    """A line that is no record of a witness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One event: *at* in seconds of the node's monotonic clock, *dated* since the epoch where that is said."""

    container: str
    event: str
    at: float
    hook: str = ""
    detail: str = ""
    dated: float | None = None

    @property
    def words(self) -> str:
        """The event for people."""
        hook = f"{self.hook}: " if self.hook else ""
        return f"{hook}{self.event} {self.detail}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One run of a container as it wrote it down; times as in `Line.at`."""

    start: float
    ready: float | None = None
    told: float | None = None
    end: float | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """All lines, in the order of their times."""

    lines: tuple[Line, ...]

    @property
    def containers(self) -> tuple[str, ...]:
        """The containers in the order of their first lines."""
        return tuple(dict.fromkeys(line.container for line in self.lines))

    def of(self, container: str) -> tuple[Line, ...]:
        """Return the lines of one container."""
        return tuple(line for line in self.lines if line.container == container)

    def processes(self, container: str) -> list[Process]:
        """Return the runs of one container."""
        own = [line for line in self.of(container) if not line.hook]
        begins = [number for number, line in enumerate(own) if line.event == START] or [0][: len(own)]
        return [_process(own[begin:end]) for begin, end in pairwise([*begins, len(own)])]


def _process(lines: Sequence[Line]) -> Process:
    def when(*events: str) -> Line | None:
        return next((line for line in lines if line.event in events), None)

    ready, told, end = when(*READY), when(TERM), when(EXIT)
    code = re.search(r"-?\d+", end.detail) if end else None
    return Process(
        start=lines[0].at,
        ready=ready.at if ready else None,
        told=told.at if told else None,
        end=end.at if end else None,
        code=int(code.group()) if code else None,
    )


def read_witness(text: str) -> Witness:
    """Return the record in *text*, empty lines left out; raise BadWitness with the number of a line that is none."""
    lines = [_line(line.strip(), number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return Witness(lines=tuple(sorted(lines, key=lambda line: line.at)))


def _line(text: str, number: int) -> Line:
    if text.startswith("{"):
        return _json_line(text, number)
    found = TEXT_LINE.fullmatch(text)
    if found is None:
        raise BadWitness(f'line {number}: must be "<ns> <container> <event> [detail]" or JSON, not {text[:60]!r}')
    return Line(
        container=found["container"],
        hook=found["hook"] or "",
        event=_word(found["event"]),
        at=int(found["ns"]) * NANO,
        detail=(found["detail"] or "").strip(),
    )


def _json_line(text: str, number: int) -> Line:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadWitness(f"line {number}: must be JSON: {error.msg} at column {error.colno}") from error
    ns, container, event = body.get("ns"), body.get("container"), body.get("event")
    if isinstance(ns, bool) or not isinstance(ns, int) or not isinstance(container, str) or not isinstance(event, str):
        raise BadWitness(f"line {number}: must have container and event (text) and ns (a whole number): {text[:80]}")
    stamp = body.get("time")
    dated = stamp * NANO if isinstance(stamp, int) and not isinstance(stamp, bool) else epoch(stamp)
    name, _, hook = container.partition("/")
    detail = body.get("detail", body.get("code", ""))
    return Line(container=name, hook=hook, event=_word(event), at=ns * NANO, detail=str(detail).strip(), dated=dated)


def _word(event: str) -> str:
    return event.lower().replace("_", "-")


def marks(lines: Iterable[Line], shift: float, *, readiness: bool = False) -> Iterator[Mark]:
    """Yield marks for what is no turning point; calls that went the same way, one after the other, make one mark.

    *readiness*: also for the program's word that it is ready.
    """
    plain = {START, EXIT, TERM, *(() if readiness else READY)}
    told = [line for line in lines if line.hook or line.event not in plain]
    for event, group in groupby(told, key=lambda line: (line.hook, line.event, line.event in CALLS or line.at)):
        same = list(group)
        sign = CALLS.get(event[1], Sign.NOTE)
        words = same[0].words if event[1] not in CALLS or len(same) == 1 else event[1]
        yield Mark(
            sign=sign,
            when=When.at(same[0].at + shift),
            text={"call-ok": "calls answered", "call-failed": f"calls failed: {same[0].detail}".rstrip(": ")}.get(
                words.split()[0], words
            ),
            count=len(same),
            last=When.at(same[-1].at + shift),
        )


def witness_timeline(witness: Witness, *, source: str) -> Timeline:
    """Return the timeline of a record alone: what happened when, but not who waited for whom; that the Pod says."""
    if not witness.lines:
        raise BadWitness("must have a line at least")
    zero = witness.lines[0].at
    lanes = tuple(_lane(witness, name, -zero) for name in witness.containers)
    ordered = tuple(sorted(lanes, key=lambda lane: lane.phases[0].until or When.at(0.0)))
    return Timeline(
        title=source,
        headline=_headline(witness, zero),
        zero=0.0,
        zero_name="first line of the record",
        end=witness.lines[-1].at - zero,
        lanes=ordered,
        dated=False,
        notes=(
            "The record says what happened when, not why: give the Pod too (-f pod.yaml) to see who waited for whom.",
            '"Ready" is the word of the program itself, not what the kubelet\'s probes found.',
        ),
    )


def _lane(witness: Witness, name: str, shift: float) -> Lane:
    phases: list[Phase] = []
    since = When.at(witness.lines[0].at + shift)
    for process in witness.processes(name):
        start = When.at(process.start + shift)
        phases.append(
            Phase(state=State.WAITING, since=since, until=start, why="its start" if not phases else "being restarted")
        )
        phases += _phases(process, shift)
        since = When.at((process.end if process.end is not None else process.start) + shift)
    lane = Lane(name=name, kind=Kind.UNKNOWN, phases=tuple(phases), marks=tuple(marks(witness.of(name), shift)))
    return Lane(name=name, kind=lane.kind, phases=lane.phases, marks=lane.marks, caption=caption(lane, 0.0))


def _phases(process: Process, shift: float) -> Iterator[Phase]:
    points = [(State.RUNNING, process.start), (State.READY, process.ready), (State.STOPPING, process.told)]
    reached = [(state, When.at(at + shift)) for state, at in points if at is not None]
    end = None if process.end is None else When.at(process.end + shift)
    for (state, since), after in zip(reached, [*(when for _, when in reached[1:]), end], strict=True):
        yield Phase(state=state, since=since, until=after)
    if end is not None:
        yield Phase(state=State.EXITED, since=end, why="exit" if process.code is None else f"exit {process.code}")


def _headline(witness: Witness, zero: float) -> str:
    callers = [line.container for line in witness.lines if line.event in CALLS]
    name = callers[0] if callers else witness.containers[-1]
    began = witness.processes(name)[0].start
    text = f"{name} began {offset(When.at(began - zero), 0.0).removeprefix('+')} after the first line of the record"
    before = [line for line in witness.lines if line.at < began and line.container != name and line.event not in CALLS]
    if before:
        text += f", {seconds(round(began - before[-1].at, 3))} after {before[-1].container}: {before[-1].words}"
    first = next((line for line in witness.of(name) if line.event in ("call-ok", "call-failed")), None)
    if first is not None:
        text += "; its first call " + ("was answered" if first.event == "call-ok" else f"failed ({first.detail})")
    return text + "."
