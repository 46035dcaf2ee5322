"""One Pod's life out of what Kubernetes records: recorded Pods of a real kubelet (tests/pages/recorded), and laws."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.cli.main import main
from sidecarpolicy.cli.timeline_input import from_files
from sidecarpolicy.core.timeline import BadWitness, Lane, Phase, State, Timeline, When, pod_timeline, read_witness
from sidecarpolicy.core.timeline.moments import length, offset, seconds
from sidecarpolicy.core.timeline.scale import scale_of, ticks
from sidecarpolicy.core.tree import Json

RECORDED = Path(__file__).parents[1] / "pages" / "recorded"
GOLDEN = Path(__file__).parents[1] / "pages" / "expected"
PODS = sorted(path.stem for path in RECORDED.glob("*.yaml"))
UPDATE = "UPDATE_GOLDEN"


@cache
def recorded(name: str) -> Timeline:
    """The timeline of a recorded Pod."""
    subject = from_files([RECORDED / f"{name}.yaml"], "", "")
    return pod_timeline(subject.states, subject.events)


def lane(timeline: Timeline, name: str) -> Lane:
    """One container's lane."""
    return next(each for each in timeline.lanes if each.name == name)


def phase(timeline: Timeline, name: str, state: State) -> Phase:
    """The first phase of a container in that state."""
    return next(each for each in lane(timeline, name).phases if each.state is state)


def after_creation(timeline: Timeline, when: When | None) -> tuple[float, float] | None:
    """A moment in seconds since the Pod was created."""
    return (when.earliest - timeline.zero, when.latest - timeline.zero) if when else None


def the_witnessed_pod(*, with_record: bool) -> Timeline:
    """A Pod whose containers wrote down what happened to them, on a real kubelet."""
    subject = from_files([RECORDED / "witnessed.yaml"], "", "")
    witness = read_witness((RECORDED / "witnessed.record").read_text())
    return pod_timeline(subject.states, subject.events, witness=witness if with_record else None)


def timeline_command(*arguments: str, stdin: str | None = None) -> Result:
    """Run `sidecarpolicy timeline`."""
    environment = {"COLUMNS": "100", "NO_COLOR": "1"}
    return CliRunner().invoke(main, ["timeline", *arguments], input=stdin, env=environment, catch_exceptions=False)


class TestWhyTheApplicationStartedWhenItDid:
    """The headline: the answer without a manual."""

    @pytest.mark.parametrize(
        ("pod", "words"),
        [
            (
                "cart",
                "started 4 s after the Pod was created: it waited 2…3 s for proxy's startupProbe GET :15000/ready",
            ),
            ("cart-gone", "it waited 2…3 s for proxy's startupProbe GET :15000/ready to succeed"),
            ("job", "it waited 2 s for prepare to end with exit code 0"),
            ("plain", "it waited for no other container"),
            ("crash", "nothing that it waited for took 2 s"),
            ("slow-stop", "app started within a second of the Pod's creation"),
            ("stuck", "app has not started: since +0 s it waits for proxy's startupProbe GET :15000/ready to succeed."),
            ("stuck", "startupProbe failed: connection refused (20 times, last at +20 s)"),
            ("bad-image", "proxy waits for the image to be pulled: sidecarpolicy.local/missing:1 (ImagePullBackOff"),
            ("unschedulable", "it waits for a node to run on (0/1 nodes are available"),
        ],
    )
    def test_the_headline_says_it(self, pod: str, words: str) -> None:
        assert words in recorded(pod).headline

    def test_the_steps_are_in_the_order_of_the_kubelet(self) -> None:
        assert [step.on for step in recorded("cart").steps if step.on] == ["proxy", "logger", "migrate", "monitor"]


class TestWhatIsKnownAndWhatIsNot:
    """Ranges, never guesses."""

    def test_a_sidecar_started_between_its_last_failed_probe_and_the_next_container(self) -> None:
        cart = recorded("cart-running")
        assert after_creation(cart, phase(cart, "proxy", State.STARTING).until) == (2, 3)

    def test_several_states_tell_when_a_container_was_ready(self) -> None:
        one, several = recorded("cart-running"), recorded("cart")
        assert after_creation(one, phase(one, "proxy", State.READY).since) == (2, 5)
        assert after_creation(several, phase(several, "proxy", State.READY).since) == (3, 3)

    def test_the_only_one_that_was_not_ready_made_the_pod_ready(self) -> None:
        plain = recorded("plain")
        assert after_creation(plain, phase(plain, "app", State.READY).since) == (4, 4)

    def test_a_stopped_pod_does_not_say_when_it_was_ready(self) -> None:
        gone = recorded("cart-gone")
        assert "not recorded any more" in phase(gone, "app", State.RUNNING).why
        assert any("no longer says when its containers were ready" in note for note in gone.notes)

    def test_deletion_is_when_it_was_asked_for_and_not_when_the_grace_ends(self) -> None:
        for name, moment in (("cart", 21), ("slow-stop", 20), ("cart-gone", 21)):
            timeline = recorded(name)
            (deleted,) = (each.when for each in timeline.moments if each.name == "Pod deleted")
            assert after_creation(timeline, deleted) == (moment, moment)

    def test_a_sidecar_is_told_to_stop_when_those_that_need_it_are_gone(self) -> None:
        slow = recorded("slow-stop")
        assert after_creation(slow, phase(slow, "logger", State.STOPPING).since) == (24, 25)
        assert after_creation(slow, phase(slow, "proxy", State.STOPPING).since) == (30, 31)
        assert [(each.waiter, each.on) for each in slow.waits if each.stopping] == [
            ("proxy", "logger"),
            ("logger", "app"),
        ]

    def test_a_prestop_hook_hides_when_the_application_was_told(self) -> None:
        slow = recorded("slow-stop")
        assert after_creation(slow, phase(slow, "app", State.STOPPING).since) == (20, 24)

    def test_the_sidecars_of_a_job_stop_after_its_work(self) -> None:
        job = recorded("job")
        assert after_creation(job, phase(job, "logger", State.STOPPING).since) == (7, 8)

    def test_a_restart_is_a_wait_between_two_runs(self) -> None:
        crash = lane(recorded("crash"), "proxy")
        assert [each.state for each in crash.phases[-3:]] == [State.READY, State.WAITING, State.READY]
        assert "exit 3" in crash.phases[-2].why

    def test_without_events_it_says_so(self) -> None:
        subject = from_files([RECORDED / "cart.yaml"], "", "")
        timeline = pod_timeline(subject.states, [])
        assert any("There are no Events" in note for note in timeline.notes)
        assert after_creation(timeline, phase(timeline, "proxy", State.STARTING).until) == (0, 3)


@pytest.mark.parametrize("name", PODS)
class TestEveryTimeline:
    """What holds for whatever was recorded."""

    def test_phases_follow_each_other_without_a_gap(self, name: str) -> None:
        for each in recorded(name).lanes:
            for before, after in zip(each.phases, each.phases[1:], strict=False):
                assert before.until == after.since or before.until is not None
                assert before.since.earliest <= after.since.latest

    def test_nothing_happens_before_the_pod_or_after_the_data(self, name: str) -> None:
        timeline = recorded(name)
        for each in timeline.lanes:
            for moment in (edge for step in each.phases for edge in (step.since, step.until) if edge):
                assert timeline.zero <= moment.earliest <= moment.latest <= timeline.end

    def test_fewer_states_never_contradict_more(self, name: str) -> None:
        """What one state says and what all say have a moment in common: ranges only narrow."""
        subject = from_files([RECORDED / f"{name}.yaml"], "", "")
        one, all_ = pod_timeline(subject.states[-1:], subject.events), recorded(name)
        for mine, theirs in zip(one.steps, all_.steps, strict=True):
            if mine.until and theirs.until:
                assert mine.until.earliest <= theirs.until.latest
                assert theirs.until.earliest <= mine.until.latest

    def test_it_fits_every_terminal(self, name: str) -> None:
        from sidecarpolicy.cli.timeline_text import lines

        for width in (80, 100, 137, 200):
            for plain in (False, True):
                for line in lines(recorded(name), width=width, plain=plain):
                    assert len(line.plain) <= width, line.plain

    def test_the_scale_goes_on(self, name: str) -> None:
        timeline = recorded(name)
        scale = scale_of(timeline)
        moments = ticks(scale, timeline.zero, 12)
        assert [scale(each) for each in moments] == sorted(scale(each) for each in moments)
        assert scale(timeline.zero) == 0
        assert scale(max(timeline.end, timeline.zero + 1)) == pytest.approx(1)

    def test_the_terminal_shows_what_it_showed(self, name: str) -> None:
        shown = timeline_command("-f", str(RECORDED / f"{name}.yaml"))
        assert shown.exit_code == 0
        path = GOLDEN / f"{name}.txt"
        if os.environ.get(UPDATE) == "1":
            path.parent.mkdir(exist_ok=True)
            path.write_text(shown.output, encoding="utf-8")
        assert shown.output == path.read_text(encoding="utf-8"), f"if that is right: {UPDATE}=1 pytest {__file__}"

    def test_json_has_a_time_for_everything_in_seconds_since_the_creation(self, name: str) -> None:
        body: Json = json.loads(timeline_command("-f", str(RECORDED / f"{name}.yaml"), "-o", "json").output)
        assert body["zero"]["time"].endswith("Z")
        for each in body["lanes"]:
            for step in each["phases"]:
                assert 0 <= step["since"]["earliest"] <= step["since"]["latest"] <= body["end"]

    @pytest.mark.parametrize("output", ["svg", "html"])
    def test_pictures_need_nothing_from_elsewhere(self, name: str, output: str) -> None:
        text = timeline_command("-f", str(RECORDED / f"{name}.yaml"), "-o", output).output
        assert "<title" in text
        assert "prefers-color-scheme: dark" in text
        for elsewhere in ("href=", "src=", "@import", "url(http", "<script"):
            assert elsewhere not in text


A_RECORD = """
1000000000 proxy start
3400000000 proxy listening 15000
1500000000 app/preStart start
{"container": "app", "event": "start", "ns": 4100000000, "unknown": 1}
4150000000 app call-failed connection refused
4200000000 app call-ok
4250000000 app call-ok
6000000000 app TERM
7000000000 app exit 0
{"container": "proxy", "event": "TERM", "ns": 7010000000}
{"container": "proxy", "event": "exit", "ns": 7300000000, "code": 137}
"""


class TestAWitness:
    """The record that containers write themselves."""

    def test_alone_it_says_what_happened_when(self, tmp_path: Path) -> None:
        (tmp_path / "record").write_text(A_RECORD)
        shown = timeline_command("--witness", str(tmp_path / "record"), "-o", "json")
        body: Json = json.loads(shown.output)
        assert body["headline"].startswith(
            "app began 3.1 s after the first line of the record, 0.7 s after proxy: listening"
        )
        assert "its first call failed (connection refused)" in body["headline"]
        by_name: dict[str, Any] = {each["name"]: each for each in body["lanes"]}
        assert [each["state"] for each in by_name["proxy"]["phases"]] == [
            "waiting", "running", "ready", "stopping", "exited",
        ][-len(by_name["proxy"]["phases"]) :]  # fmt: skip
        assert by_name["proxy"]["phases"][-1]["why"] == "exit 137"
        assert body["zero"]["time"] is None

    def test_with_the_pod_its_times_take_the_place_of_whole_seconds(self) -> None:
        both = the_witnessed_pod(with_record=True)
        assert "then 0.78 s for migrate to end with exit code 0" in both.headline
        app = lane(both, "app")
        assert [each.state for each in app.phases[-3:]] == [State.READY, State.STOPPING, State.EXITED]
        assert app.phases[-1].since.earliest - app.phases[-2].since.earliest == pytest.approx(1.0018, abs=1e-3)
        assert "listening 15000" in [mark.text for mark in lane(both, "proxy").marks]
        assert any("placed in the calendar to 0.41 s" in note for note in both.notes)

    def test_it_bears_out_what_is_derived_from_kubernetes_alone(self) -> None:
        """What the containers saw lies within the ranges that the Pod and its Events leave, give or take the fit."""
        alone, both = the_witnessed_pod(with_record=False), the_witnessed_pod(with_record=True)
        for mine, theirs in zip(alone.lanes, both.lanes, strict=True):
            for state in (State.READY, State.STOPPING, State.EXITED):
                derived = [each.since for each in mine.phases if each.state is state]
                witnessed = [each.since for each in theirs.phases if each.state is state]
                for one, other in zip(derived, witnessed, strict=False):
                    assert one.earliest - 0.5 <= other.latest, (mine.name, state)
                    assert other.earliest <= one.latest + 1.5, (mine.name, state)

    @pytest.mark.parametrize(
        "line", ["no record", '{"container": "app"}', '{"container": "app", "event": "start", "ns": "1"}', "{"]
    )
    def test_a_line_that_is_none_is_named(self, line: str) -> None:
        with pytest.raises(BadWitness, match="line 2: must"):
            read_witness(f"1 app start\n{line}")

    def test_unknown_events_and_empty_lines_do_no_harm(self) -> None:
        assert [line.event for line in read_witness("\n1 app start\n\n2 app something new\n").lines] == [
            "start",
            "something",
        ]


class TestWhatTheCommandSaysWhenItCannot:
    """Every skip names what was found and what to do."""

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: a}\n", "must hold a Pod (kubectl get pod,events"),
            ("", "it holds nothing"),
            ("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}\n", "was never created"),
            ("kind: Pod\nmetadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z'}\n", "spec.containers: must be"),
        ],
    )
    def test_a_file_without_a_life(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "file.yaml"
        path.write_text(content)
        shown = timeline_command("-f", str(path))
        assert shown.exit_code == 1
        assert words in shown.output

    def test_it_asks_which_of_several_pods(self) -> None:
        files = ["-f", str(RECORDED / "plain.yaml"), "-f", str(RECORDED / "stuck.yaml")]
        assert "holds 2 Pods; name one: plain, stuck" in timeline_command(*files).output
        assert "did you mean plain?" in timeline_command("plan", *files).output
        assert timeline_command("plain", *files).exit_code == 0
        assert timeline_command("pod/plain", *files).exit_code == 0

    def test_it_needs_a_pod_or_a_file(self) -> None:
        assert timeline_command().exit_code == 2

    def test_a_pod_that_has_just_been_created(self, tmp_path: Path) -> None:
        path = tmp_path / "new.yaml"
        path.write_text(
            "kind: Pod\nmetadata: {name: new, creationTimestamp: '2026-01-01T00:00:00Z'}\n"
            "spec: {containers: [{name: app, image: a}]}\nstatus: {phase: Pending}\n"
        )
        shown = timeline_command("-f", str(path))
        assert shown.exit_code == 0
        assert "app has not started: since +0 s it waits for a node to run on." in shown.output


@given(st.floats(0, 1e6))
def test_lengths_of_time_read_as_people_write_them(value: float) -> None:
    words = seconds(value)
    assert words.split()[1] in ("s", "min", "h", "d")
    assert length(When.at(0), When.at(value)) == words


def test_a_range_is_written_as_one() -> None:
    assert offset(When(2, 4), 0) == "+2…4 s"
    assert offset(When(2, 2), 0) == "+2 s"
    assert offset(When(58, 125), 0) == "+58 s…2 min 5 s"


def test_the_picture_in_the_docs_is_of_today() -> None:
    path = Path(__file__).parents[2] / "docs" / "timeline.svg"
    drawn = timeline_command("-f", str(RECORDED / "cart.yaml"), "-o", "svg").output
    if os.environ.get(UPDATE) == "1":
        path.write_text(drawn, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == drawn, f"if that is right: {UPDATE}=1 pytest {__file__}"
