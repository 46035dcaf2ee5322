"""A timeline as JSON; docs/timeline.md describes the fields. Times are seconds since `zero`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from sidecarpolicy.core.timeline import Lane, Mark, Phase, Timeline, When
from sidecarpolicy.core.tree import Json


def json_of(timeline: Timeline) -> str:
    """Return one JSON object."""
    return json.dumps(_timeline(timeline), indent=2, ensure_ascii=False) + "\n"


def _timeline(timeline: Timeline) -> Json:
    zero = timeline.zero
    dated = datetime.fromtimestamp(zero, UTC).isoformat().replace("+00:00", "Z") if timeline.dated else None
    return {
        "title": timeline.title,
        "headline": timeline.headline,
        "zero": {"what": timeline.zero_name, "time": dated},
        "end": _round(timeline.end - zero),
        "moments": [{"name": each.name, "when": _when(each.when, zero)} for each in timeline.moments],
        "steps": [
            {
                "waitsFor": each.on or None,
                "text": each.text,
                "since": _when(each.since, zero),
                "until": _or(each.until, zero),
            }
            for each in timeline.steps
        ],
        "lanes": [_lane(each, zero) for each in timeline.lanes],
        "waits": [
            {"waiter": each.waiter, "on": each.on, "until": _when(each.until, zero), "stopping": each.stopping}
            for each in timeline.waits
        ],
        "notes": list(timeline.notes),
    }


def _lane(lane: Lane, zero: float) -> Json:
    return {
        "name": lane.name,
        "kind": lane.kind.value,
        "image": lane.image or None,
        "gate": lane.gate or None,
        "readiness": lane.readiness or None,
        "restarts": lane.restarts,
        "caption": lane.caption,
        "phases": [_phase(each, zero) for each in lane.phases],
        "marks": [_mark(each, zero) for each in lane.marks],
    }


def _phase(phase: Phase, zero: float) -> Json:
    return {
        "state": phase.state.value,
        "since": _when(phase.since, zero),
        "until": _or(phase.until, zero),
        "waitsFor": phase.on or None,
        "why": phase.why or None,
    }


def _mark(mark: Mark, zero: float) -> Json:
    return {
        "sign": mark.sign.value,
        "when": _when(mark.when, zero),
        "last": _or(mark.last, zero),
        "count": mark.count,
        "text": mark.text,
    }


def _or(when: When | None, zero: float) -> Json | None:
    return None if when is None else _when(when, zero)


def _when(when: When, zero: float) -> Json:
    return {"earliest": _round(when.earliest - zero), "latest": _round(when.latest - zero)}


def _round(seconds: float) -> float:
    """Nanoseconds since the epoch do not fit a float; microseconds do."""
    return round(seconds, 6)
