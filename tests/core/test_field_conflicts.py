"""Never a patch war: how often what another writer undoes is put back, who it is, and where the target stands."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.cli.run import run
from sidecarpolicy.core.drift import culprit, drifted, mends
from sidecarpolicy.core.field_conflicts import (
    MOST_PAUSE,
    NOT_UNDONE,
    FieldConflict,
    Limits,
    PutBack,
    Undone,
    Wait,
    conflict,
    decide,
    remembered,
)
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.plan import RolloutState, plan, steps
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State, Target, in_conflict
from sidecarpolicy.core.record import Entry, ItemKey, Mangled, Note, Record, parse, text_of
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.names import Strategy
from tests.core.fleets import Everything, a_fleet
from tests.core.objects import START, WEB, a_revision, a_sidecar, a_workload, at_second

LIMITS = Limits()
PROXY = ItemKey(list="initContainers", name="proxy")
LOGGER = ItemKey(list="initContainers", name="logger")
ENV = ItemKey(list="env", name="PROXY", container="app")
GAPS = st.floats(min_value=0, max_value=5000, allow_nan=False)
LIMITS_AT_ALL = st.builds(Limits, window=st.floats(min_value=1, max_value=7200), threshold=st.integers(2, 8))
UNDONES = st.builds(Undone, count=st.integers(0, 2000), last=st.floats(min_value=0, max_value=START * 3))


def put_back(times: list[float], limits: Limits = LIMITS) -> list[float]:
    """When things are put back, by an operator that finds them undone at all of *times*."""
    undone, done = NOT_UNDONE, []
    for now in times:
        match decide(undone, now, limits):
            case PutBack(undone=undone):
                done.append(now)
            case Wait(until=until):
                assert until > now
    return done


def moments(gaps: list[float]) -> list[float]:
    """The times that lie so far apart, from START on."""
    return [START + sum(gaps[: number + 1]) for number in range(len(gaps))]


def test_a_writer_that_undoes_at_once_is_answered_twice_and_then_ever_more_rarely() -> None:
    every_second = [START + second for second in range(6 * 3600)]
    assert [done - START for done in put_back(every_second)] == [0, 1, 601, 1801, 4201, 7801, 11401, 15001, 18601]


def test_the_threshold_is_a_setting() -> None:
    every_second = [START + second for second in range(600)]
    assert len(put_back(every_second, Limits(threshold=2))) == 1
    assert len(put_back(every_second, Limits(threshold=6))) == 5


def test_the_window_is_a_setting() -> None:
    every_minute = [START + 60 * minute for minute in range(10)]
    assert len(put_back(every_minute, Limits(window=59))) == 10
    assert len(put_back(every_minute, Limits(window=60))) == 2


@given(st.lists(GAPS, max_size=40))
def test_within_a_window_no_more_is_put_back_than_the_threshold(gaps: list[float]) -> None:
    done = put_back(moments(gaps))
    for first in done:
        assert sum(first <= each < first + LIMITS.window for each in done) < LIMITS.threshold


@given(UNDONES, st.floats(min_value=0, max_value=START * 2), LIMITS_AT_ALL)
def test_whoever_waits_for_it_gets_his_turn(undone: Undone, now: float, limits: Limits) -> None:
    match decide(undone, now, limits):
        case Wait(until=until):
            assert now < until <= now + limits.window + MOST_PAUSE
            assert decide(undone, until, limits) == PutBack(undone=Undone(count=undone.count + 1, last=until))
        case PutBack(undone=then):
            assert then.last in (now, max(now, undone.last))  # a clock was set back
            assert then.count in (1, undone.count + 1)


def test_a_revert_long_after_the_last_begins_the_count_again() -> None:
    fought = Undone(count=9, last=START)
    assert decide(fought, START + MOST_PAUSE + LIMITS.window, LIMITS) == PutBack(
        undone=Undone(count=10, last=START + MOST_PAUSE + LIMITS.window)
    )
    later = START + MOST_PAUSE + LIMITS.window + 1
    assert decide(fought, later, LIMITS) == PutBack(undone=Undone(count=1, last=later))


def test_a_time_far_ahead_is_not_believed() -> None:
    assert decide(Undone(count=9, last=START + 86400), START, LIMITS) == PutBack(undone=Undone(count=1, last=START))


def test_what_needs_no_pause_does_not_wait_for_a_clock_that_was_set_back() -> None:
    once = Undone(count=1, last=START + 160)
    assert decide(once, START, LIMITS) == PutBack(undone=Undone(count=2, last=START + 160))
    twice = Undone(count=2, last=START + 160)
    assert decide(twice, START, LIMITS) == Wait(until=START + 160 + 600), "what does is no patch war"


def test_what_has_lasted_for_the_window_is_forgotten() -> None:
    fought = Undone(count=2, last=START)
    assert remembered(fought, START + LIMITS.window, LIMITS) == fought
    assert remembered(fought, START + LIMITS.window + 1, LIMITS) == NOT_UNDONE


# The conflict that people are told of.


def told(undone: Undone, second: float, *what: str) -> str:
    """What is said *second* seconds after START."""
    found = conflict(undone, START + second, LIMITS, by="'helm'", what=what)
    return found.message if found else ""


def test_a_conflict_says_who_undoes_what_how_often_and_when_it_is_tried_again() -> None:
    twice = Undone(count=2, last=START)
    assert told(NOT_UNDONE, 0, "init container 'proxy'") == ""
    assert told(Undone(count=1, last=START), 5, "init container 'proxy'") == ""
    assert told(twice, 5, "init container 'proxy'") == (
        "'helm' keeps undoing init container 'proxy', 3 times so far; next attempt at 2026-01-01T00:10:00Z"
    )
    assert told(twice, 600, "init container 'proxy'") == "'helm' keeps undoing init container 'proxy', 3 times so far"


def test_a_conflict_ends_when_what_was_put_back_has_lasted() -> None:
    thrice = Undone(count=3, last=START)
    assert told(thrice, 5) == (
        "'helm' kept undoing what is injected, 3 times so far; it is there again, and done if it lasts until "
        "2026-01-01T00:10:00Z"
    )
    assert told(thrice, 601) == ""
    assert told(Undone(count=2, last=START), 5) == ""


@given(st.lists(GAPS, min_size=1, max_size=30), LIMITS_AT_ALL)
def test_a_conflict_lasts_from_the_first_wait_until_nothing_was_undone_for_the_window(
    gaps: list[float], limits: Limits
) -> None:
    undone = NOT_UNDONE
    for now in moments(gaps):
        found = conflict(undone, now, limits, by="x", what=["y"])
        match decide(undone, now, limits):
            case Wait(until=until):
                assert found is not None
                assert (found.waits, found.until) == (True, until)
            case PutBack(undone=undone):
                assert (found is not None) == (undone.count >= limits.threshold)
                after = conflict(undone, now, limits, by="x", what=[])
                assert (after is not None) == (undone.count >= limits.threshold)


# In the record.


@given(st.integers(1, 10**9), st.integers(0, 2**33))
def test_the_record_keeps_it_to_the_second(count: int, last: int) -> None:
    note = Note(undone=Undone(count=count, last=float(last)))
    record = Record(entries={WEB: Entry(revision="web-a", items=frozenset({PROXY}), note=note)})
    assert parse(text_of(record)) == record


@pytest.mark.parametrize(
    "undone",
    [
        "3",
        "[]",
        '{"count": 3}',
        '{"last": "2026-01-01T00:00:00Z"}',
        '{"count": 0, "last": "2026-01-01T00:00:00Z"}',
        '{"count": true, "last": "2026-01-01T00:00:00Z"}',
        '{"count": 2.5, "last": "2026-01-01T00:00:00Z"}',
        '{"count": 3, "last": 1767225600}',
        '{"count": 3, "last": "2026-01-01"}',
        '{"count": 3, "last": "2026-01-01T00:00:00"}',
        '{"count": 3, "last": "2026-01-01T00:00:00.5Z"}',
        '{"count": 3, "last": "yesterday"}',
    ],
)
def test_what_we_never_write_is_mangled(undone: str) -> None:
    with pytest.raises(Mangled):
        parse(f'{{"policies": {{"SidecarPolicy/shop/web": {{"revision": "web-a", "undone": {undone}}}}}}}')


# What has drifted.

POLICY = a_revision(a_sidecar("proxy"), a_sidecar("logger"), application={"env": [{"name": "PROXY", "value": "on"}]})
PLAIN: Json = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
INJECTED, RECORD = inject(PLAIN, [POLICY], Record())


def changed(**spec: Any) -> Json:
    """The injected template with other fields in its Pod's spec."""
    return {**INJECTED, "spec": INJECTED["spec"] | spec}


def drift_of(template: Json) -> set[ItemKey]:
    """What a repair of *template* would mend."""
    wanted, _ = inject(template, [POLICY], RECORD)
    found = drifted(template, RECORD, wanted)
    assert set(found) <= {WEB}
    return set(found.get(WEB, ()))


def test_nothing_has_drifted_right_after_injecting() -> None:
    assert drift_of(INJECTED) == set()


def test_what_is_gone_or_edited_has_drifted() -> None:
    proxy, logger = INJECTED["spec"]["initContainers"]
    assert drift_of(changed(initContainers=[logger])) == {PROXY}
    assert drift_of(changed(initContainers=[proxy | {"image": "other:1"}, logger])) == {PROXY}
    assert drift_of(changed(initContainers=[])) == {PROXY, LOGGER}
    assert drift_of(changed(containers=PLAIN["spec"]["containers"])) == {ENV}


def test_only_the_order_may_have_drifted() -> None:
    proxy, logger = INJECTED["spec"]["initContainers"]
    assert drift_of(changed(initContainers=[logger, proxy])) == {PROXY, LOGGER}


def test_a_field_that_somebody_adds_is_no_drift() -> None:
    proxy, logger = INJECTED["spec"]["initContainers"]
    assert drift_of(changed(initContainers=[proxy | {"workingDir": "/"}, logger])) == set()


def test_an_owner_who_renames_or_adds_a_container_undoes_nothing() -> None:
    assert drift_of(changed(containers=[{"name": "renamed", "image": "app:1"}])) == set()
    assert drift_of(changed(containers=[*INJECTED["spec"]["containers"], {"name": "b", "image": "b:1"}])) == set()


def test_a_trial_that_brings_something_back_mends() -> None:
    proxy, logger = INJECTED["spec"]["initContainers"]
    live = changed(initContainers=[logger])
    undone = drifted(live, RECORD, INJECTED)
    assert mends(live, INJECTED, INJECTED, undone)
    assert mends(live, INJECTED, changed(initContainers=[proxy | {"image": "mirror/proxy:1"}, logger]), undone)


def test_a_trial_that_a_webhook_undoes_mends_nothing_whatever_else_it_changes() -> None:
    live = changed(initContainers=INJECTED["spec"]["initContainers"][1:])
    undone = drifted(live, RECORD, INJECTED)
    assert not mends(live, INJECTED, live, undone)
    assert not mends(live, INJECTED, {**live, "metadata": {"annotations": {"at": "now"}}}, undone)


def test_a_trial_that_brings_back_the_order_mends() -> None:
    live = changed(initContainers=INJECTED["spec"]["initContainers"][::-1])
    undone = drifted(live, RECORD, INJECTED)
    assert mends(live, INJECTED, INJECTED, undone)
    assert not mends(live, INJECTED, live, undone)


# Who it was.


def managed(manager: str, second: float, fields: Json, **entry: Any) -> Json:
    """An entry of managedFields, of *second* seconds after START."""
    return {"manager": manager, "operation": "Update", "time": at_second(second), "fieldsV1": fields, **entry}


TEMPLATE: Json = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {"f:image": {}}}}}}}
METADATA: Json = {"f:metadata": {"f:annotations": {"f:synced": {}}}}
EDIT: Json = {"f:spec": {"f:template": {"f:spec": {"f:initContainers": {'k:{"name":"proxy"}': {"f:image": {}}}}}}}


def written_by(*entries: Json) -> Workload:
    """A Deployment with these managedFields."""
    return a_workload(metadata={"managedFields": list(entries)})


@pytest.mark.parametrize(
    ("who", "entries", "expected"),
    [
        ("nobody is known", [], "another writer"),
        (
            "whoever changed the item",
            [managed("kubectl-edit", 9, EDIT), managed("helm", 9, TEMPLATE)],
            "'kubectl-edit'",
        ),
        ("whoever wrote since", [managed("helm", 0, TEMPLATE), managed("sync", 5, METADATA)], "'sync'"),
        ("of two the one of the template", [managed("helm", 5, TEMPLATE), managed("sync", 9, METADATA)], "'helm'"),
        ("nobody wrote since", [managed("helm", 0, TEMPLATE)], "another writer (perhaps 'helm')"),
        ("nor ever the template", [managed("sync", 0, METADATA)], "another writer"),
        ("not we", [managed(names.FIELD_MANAGER, 9, TEMPLATE)], "another writer"),
        ("not who writes the status", [managed("kcm", 9, METADATA, subresource="status")], "another writer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_is_named(who: str, entries: list[Json], expected: str) -> None:
    assert culprit(written_by(*entries), frozenset({PROXY}), START + 5) == expected


# Where the target stands.

FOUGHT = FieldConflict(by="'helm'", what="init container 'proxy'", times=3, until=START + 600, waits=True)


def a_target(name: str, revision: str | None, state: State, **fields: Any) -> Target:
    """A target of the policy."""
    return Target(workload=WorkloadId(namespace="shop", name=name), state=state, revision=revision, **fields)


def a_state(**fields: Any) -> RolloutState:
    """A rollout of web-b that begins."""
    known: dict[str, Any] = {"policy": WEB, "update": "web-b", "rollout": Rollout(), "stored": Everything()}
    return RolloutState(**(known | fields))


def steps_for(*targets: Target, **fields: Any) -> list[str]:
    """The workloads that may change now."""
    return [step.workload.name for step in steps(a_state(**fields), a_fleet("web-b", targets), {})]


def test_a_target_in_conflict_has_failed_and_does_not_count() -> None:
    moving = a_target("cart", "web-b", State.PROGRESSING, holds_slot=True, under_way=True, failing=True, late_since=1.0)
    found = in_conflict(moving, FOUGHT)
    assert (found.state, found.reason, found.message) == (State.FAILED, "FieldConflict", FOUGHT.message)
    assert (found.counts, found.holds_slot, found.evidence, found.failing) == (False, False, False, False)
    assert found.looks_again == START + 600
    assert steps_for(found) == []
    assert not plan(a_state(), a_fleet("web-b", [found])).halts


@pytest.mark.parametrize("revision", [None, "web-a"])
def test_a_target_in_conflict_waits_and_nobody_waits_for_it(revision: str | None) -> None:
    fought = in_conflict(a_target("a", revision, State.PENDING), FOUGHT)
    other = a_target("b", None, State.PENDING)
    assert steps_for(fought, other) == ["b"]
    assert steps_for(fought, other, rollout=Rollout(strategy=Strategy.ALL_AT_ONCE)) == ["b"]
    assert steps_for(in_conflict(a_target("a", None, State.PENDING, new=True), FOUGHT), current="web-b") == []


def test_a_target_in_conflict_gets_its_turn_when_the_pause_is_over() -> None:
    due = FieldConflict(by="'helm'", what="init container 'proxy'", times=3)
    assert steps_for(in_conflict(a_target("a", None, State.PENDING), due)) == ["a"]


def test_what_is_skipped_or_still_moves_stays_what_it_is() -> None:
    again = FieldConflict(by="'helm'", what="", times=3, until=START + 600, put_back=True)
    assert in_conflict(a_target("a", "web-b", State.UPDATED), again).state is State.FAILED
    there = a_target("a", "web-b", State.UPDATED, available=True)
    assert (in_conflict(there, again).available, in_conflict(there, FOUGHT).available) == (True, False)
    assert in_conflict(a_target("a", "web-b", State.PROGRESSING, holds_slot=True), again).holds_slot


# Settings.


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--revert-window-seconds", "0", "0.0 is not in the range 1<=x<=86400"),
        ("--revert-window-seconds", "ten", "'ten' is not a valid float"),
        ("--revert-threshold", "1", "1 is not in the range x>=2"),
        ("--revert-threshold", "2.5", "'2.5' is not a valid integer"),
    ],
)
@pytest.mark.parametrize("how", ["flag", "variable"])
def test_ill_settings_are_refused(how: str, flag: str, value: str, said: str) -> None:
    variable = "SIDECARPOLICY_RUN_" + flag.removeprefix("--").replace("-", "_").upper()
    arguments, environment = ([f"{flag}={value}"], {}) if how == "flag" else ([], {variable: value})
    result = CliRunner().invoke(run, arguments, env=environment, auto_envvar_prefix="SIDECARPOLICY_RUN")
    assert result.exit_code == 2
    assert said in result.output
