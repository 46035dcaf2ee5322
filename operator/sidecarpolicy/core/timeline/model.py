"""What a timeline consists of. Data for whoever draws it; every sentence in it is for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sidecarpolicy.core.timeline.moments import When


class Kind(StrEnum):
    """What a container is to its Pod."""

    SIDECAR = "native sidecar"
    INIT = "init container"
    APPLICATION = "application"
    UNKNOWN = "container"


class State(StrEnum):
    """What a container does during a phase."""

    WAITING = "waiting"  # there is no process yet, or none between two runs
    STARTING = "starting"  # the process runs; the startupProbe or postStart that others wait for has not succeeded
    STARTED = "started"  # whoever waited for it goes on; it is not ready
    READY = "ready"
    RUNNING = "running"  # an init container at work; or it runs, and more than that is not recorded
    STOPPING = "stopping"  # told to stop (SIGTERM), not gone yet
    EXITED = "exited"


class Sign(StrEnum):
    """What a mark stands for."""

    PULLED = "pulled"
    FAILED = "failed"  # a probe, a hook, a call
    OK = "ok"
    TERM = "term"
    KILLED = "killed"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a container did from *since* to *until* (None: it still does).

    *on*: the container that it waits for, empty where it waits for something else. *why*: what for, as words that go on
    after "waits for" where it waits; otherwise about the phase.
    """

    state: State
    since: When
    until: When | None = None
    on: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened to a container, *count* times, the last time at *last*."""

    sign: Sign
    when: When
    text: str
    count: int = 1
    last: When | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One container. *gate*: what "started" takes; *caption*: its life in a line; *restarts* as its status counts."""

    name: str
    kind: Kind
    image: str = ""
    gate: str = ""
    readiness: str = ""
    phases: tuple[Phase, ...] = ()
    marks: tuple[Mark, ...] = ()
    restarts: int = 0
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened to the Pod as a whole."""

    name: str
    when: When


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """*waiter* went on (started; with *stopping*, was told to stop) at *until*, which is when *on* let it."""

    waiter: str
    on: str
    until: When
    stopping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that held the application back, in the order in which they came."""

    on: str
    text: str
    since: When
    until: When | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A Pod's life. *zero*: what offsets count from; *end*: how far the data reach (both as in When).

    *headline* says why the application started when it did, *steps* what that consists of, *notes* what is not known.
    *dated*: whether times are since the epoch.
    """

    title: str
    headline: str
    zero: float
    zero_name: str
    end: float
    lanes: tuple[Lane, ...]
    moments: tuple[Moment, ...] = ()
    waits: tuple[Wait, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    dated: bool = True
