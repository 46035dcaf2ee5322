"""The order of start and stop that a Pod spec plans."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.cli.plan_svg import plan_svg
from sidecarpolicy.core.timeline import Kind, Lane, State, Timeline, planned_timeline
from sidecarpolicy.core.tree import Json

PROBE = {"tcpSocket": {"port": 80}}


def a_spec(*inits: Json, regular: tuple[str, ...] = ("app",)) -> Json:
    return {"initContainers": list(inits), "containers": [{"name": name} for name in regular]}


def a_native(name: str, *, gated: bool = False) -> Json:
    return {"name": name, "restartPolicy": "Always"} | ({"startupProbe": PROBE} if gated else {})


def an_init(name: str) -> Json:
    return {"name": name}


def began(lane: Lane) -> float:
    return next(each.since.latest for each in lane.phases if each.state is not State.WAITING)


def told(lane: Lane) -> float:
    return next(each.since.latest for each in lane.phases if each.state is State.STOPPING)


def gone(lane: Lane) -> float:
    return lane.phases[-1].since.latest


def lanes(timeline: Timeline) -> dict[str, Lane]:
    return {each.name: each for each in timeline.lanes}


@st.composite
def specs(draw: st.DrawFn) -> Json:
    """Pods with up to five init containers, native sidecars among them, and one to three others."""
    inits = [
        draw(st.sampled_from([an_init(name), a_native(name), a_native(name, gated=True)]))
        for name in "abcde"[: draw(st.integers(0, 5))]
    ]
    return a_spec(*inits, regular=("app", "web", "worker")[: draw(st.integers(1, 3))])


def test_a_sidecar_starts_before_and_stops_after_what_it_serves() -> None:
    timeline = planned_timeline(a_spec(a_native("proxy", gated=True), an_init("migrate"), a_native("log")), "cart")
    found = lanes(timeline)
    assert [began(found[name]) for name in ("proxy", "migrate", "log", "app")] == sorted(
        began(each) for each in timeline.lanes
    )
    assert told(found["app"]) < gone(found["app"]) == told(found["log"]) < gone(found["log"]) == told(found["proxy"])
    assert timeline.headline == (
        "app starts last, and waits for proxy's startupProbe TCP :80 to succeed, then migrate to end with exit code 0, "
        "then log's process to run. At the end app stops first, then log, then proxy."
    )


def test_containers_of_old_start_and_stop_together() -> None:
    timeline = planned_timeline(a_spec(regular=("app", "proxy")), "cart")
    app, proxy = timeline.lanes
    assert (began(app), told(app), gone(app)) == (began(proxy), told(proxy), gone(proxy))
    assert not timeline.waits
    assert timeline.headline == (
        "app and proxy start together: none waits for another. At the end all are told to stop at once."
    )


@given(specs())
def test_nobody_starts_before_the_one_before_lets_it_nor_stops_before_those_after_it(spec: Json) -> None:
    timeline = planned_timeline(spec, "any")
    before = [each for each in timeline.lanes if each.kind is not Kind.APPLICATION]
    after = [each for each in timeline.lanes if each.kind is Kind.APPLICATION]
    starts = [began(each) for each in timeline.lanes]
    assert starts == sorted(starts)
    assert len({began(each) for each in after}) == 1
    assert len({*map(began, before)}) == len(before)
    sidecars = [each for each in before if each.kind is Kind.SIDECAR]
    for earlier, later in pairwise(sidecars):
        assert told(earlier) >= gone(later)
    assert all(told(each) >= gone(app) for each in sidecars for app in after)
    assert max(map(gone, timeline.lanes)) <= timeline.end


@given(specs())
def test_every_plan_can_be_drawn_and_says_itself_in_words(spec: Json) -> None:
    timeline = planned_timeline(spec, "<any>")
    drawn = plan_svg(timeline, "one")
    assert drawn.count('class="arrow"') == len(timeline.waits)
    assert "&lt;any&gt;" in drawn
    assert all(f">{each.name}</text>" in drawn for each in timeline.lanes)
