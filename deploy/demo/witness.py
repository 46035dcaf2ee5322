"""What the containers say about their own start and end, read from their logs.

Every line begins with the time by the clock of its container, in milliseconds; containers of one Pod share the node's
clock. Pure: text in, facts or Unwitnessed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_STAMP = len("2026-11-22 21:18:42.454")
_SHIPPED = "shipped: "
_UNANSWERED = "NO ANSWER"


class Unwitnessed(Exception):
    """A log does not say what it should; the message says what is missing, and what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a log."""

    at: datetime
    text: str

    @property
    def time(self) -> str:
        """The time of day, in milliseconds."""
        return f"{self.at:%H:%M:%S}.{self.at.microsecond // 1000:03}"

    def __str__(self) -> str:
        return f"{self.time} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A Pod's life: when its proxy could answer, what the application did, and when the proxy was told to stop."""

    pod: str
    ready: Line
    lines: tuple[Line, ...]
    stopping: Line

    @property
    def first(self) -> Line:
        """The application's first line."""
        return self.lines[0]

    @property
    def last(self) -> Line:
        """The application's last line."""
        return self.lines[-1]

    @property
    def head_start(self) -> timedelta:
        """For how long the proxy had been ready when the application wrote its first line."""
        return self.first.at - self.ready.at

    @property
    def outlived(self) -> timedelta:
        """For how long the proxy went on after the application's last line."""
        return self.stopping.at - self.last.at

    @property
    def unanswered(self) -> tuple[Line, ...]:
        """The application's calls that the proxy did not answer."""
        return tuple(line for line in self.lines if line.text.endswith(_UNANSWERED))


def lines_of(log: str) -> tuple[Line, ...]:
    """Return the lines of *log* that begin with a time."""
    found = []
    for line in log.splitlines():
        try:
            at = datetime.fromisoformat(line[:_STAMP])
        except ValueError:
            continue
        found.append(Line(at=at, text=" ".join(line[_STAMP:].split())))
    return tuple(found)


def shipped(log: str) -> str:
    """Return what a logger has shipped: the application's own lines."""
    return "\n".join(line.partition(_SHIPPED)[2] for line in log.splitlines() if _SHIPPED in line)


def life_of(pod: str, *, application: str, proxy: str) -> Life:
    """Return the life of *pod* from the complete logs of its *application* and of its *proxy* (Caddy)."""
    lines = lines_of(application)
    if not lines or not lines[0].text.startswith("first line"):
        raise Unwitnessed(f"{pod}: the application's log does not begin with its first line: {_end_of(lines[:3])}")
    if not lines[-1].text.startswith("last line"):
        raise Unwitnessed(f"{pod}: the application's log does not end with its last line: {_end_of(lines)}")
    said = lines_of(proxy)
    return Life(
        pod=pod,
        ready=_saying(said, "serving initial configuration", pod),
        lines=lines,
        stopping=_saying(said, "shutting down apps", pod),
    )


def _saying(lines: Sequence[Line], words: str, pod: str) -> Line:
    for line in lines:
        if words in line.text:
            return Line(at=line.at, text=words)
    raise Unwitnessed(f'{pod}: the proxy never said "{words}"; its log ends with: {_end_of(lines)}')


def _end_of(lines: Sequence[Line]) -> str:
    return " | ".join(str(line) for line in lines[-3:]) or "nothing"
