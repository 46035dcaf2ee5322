"""What the witness (deploy/witness) has written down: the events of one Pod, in the order in which they happened.

Pure: text in, facts out. The clock is CLOCK_MONOTONIC of the node, which the tests share: `time.monotonic_ns()`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLACE = re.compile(r"(?P<container>[\w/-]+)\.(?P<what>[\w-]+)(?:#(?P<number>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a record."""

    at: int
    """Nanoseconds of CLOCK_MONOTONIC."""
    container: str
    """Which container, or which of its hooks: `proxy/preStop`."""
    what: str
    """start, TERM, exit, listening, call-ok, call-failed, ..."""
    detail: str

    @property
    def is_call(self) -> bool:
        """Whether it is a call through the sidecar."""
        return self.what.startswith("call-")

    def __str__(self) -> str:
        return f"{self.at / 1e9:.3f} {self.container}.{self.what} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that happened in one Pod."""

    pod: str
    events: tuple[Event, ...]

    @property
    def calls(self) -> tuple[Event, ...]:
        """The calls through the sidecar."""
        return tuple(event for event in self.events if event.is_call)

    @property
    def failed(self) -> tuple[Event, ...]:
        """The calls that were not answered."""
        return tuple(event for event in self.calls if event.what == "call-failed")

    def all(self, container: str, what: str) -> tuple[Event, ...]:
        """Every event of that kind."""
        return tuple(event for event in self.events if (event.container, event.what) == (container, what))

    def find(self, place: str) -> Event | None:
        """The event that *place* names: `m.start` is the first start of m, `m.start#2` the second."""
        match = _PLACE.fullmatch(place)
        assert match, place
        found = self.all(match["container"], match["what"])
        number = int(match["number"] or 1)
        return found[number - 1] if len(found) >= number else None

    def told(self, law: str) -> bool:
        """Whether the record shows *law*, such as `i1.exit < s1.start < m.start`.

        A law about something that has not happened is not shown.
        """
        seen = [self.find(place.strip()) for place in law.split("<")]
        times = [event.at for event in seen if event]
        return len(times) == len(seen) and times == sorted(times)

    def __str__(self) -> str:
        return f"{self.pod}:\n" + "\n".join(f"  {event}" for event in self.events if not event.is_call)


def record_of(pod: str, text: str) -> Record:
    """Return the record of *pod* from the witness' lines, those of a file or of several logs."""
    events = []
    for line in text.splitlines():
        words = line.split(maxsplit=3)
        if len(words) < 3 or not words[0].isdigit():
            continue
        events.append(
            Event(at=int(words[0]), container=words[1], what=words[2], detail=words[3] if len(words) > 3 else "")
        )
    return Record(pod=pod, events=tuple(sorted(events, key=lambda event: event.at)))
