"""The parts that need no cluster: each can tell right from wrong."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import Record, text_of
from sidecarpolicy.core.rendering import offline
from tests.audit import Request
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.chaos.fuzz.__main__ import failure_of, write
from tests.chaos.fuzz.mangling import mangled, smallest, smallest_text
from tests.chaos.fuzz.targets import TARGETS, Target
from tests.chaos.onlooker import Claim, Moment, Seen
from tests.chaos.proxy import Faults, is_guarded
from tests.chaos.stage import owners_part
from tests.chaos.trend import plot, trend
from tests.chaos.verdict import written_without_lease, wrong

INPUTS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_no_mangled_input_makes_a_traceback(name: str) -> None:
    inputs = INPUTS // 6 if name == "cli" else INPUTS
    failures = {failure_of(TARGETS[name], TARGETS[name].input(seed)): seed for seed in range(inputs)}
    failures.pop("", None)
    assert failures == {}


@pytest.mark.parametrize("name", TARGETS)
def test_valid_input_is_right(name: str) -> None:
    assert [failure_of(TARGETS[name], each) for each in TARGETS[name].corpus] == [""] * len(TARGETS[name].corpus)


def test_a_failing_input_is_made_small_and_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(value: Any) -> None:
        assert "b" not in value.get("a", {}), "b is there"

    target = Target(corpus=({},), change=lambda value, _: value, check=check)
    monkeypatch.setattr("tests.chaos.fuzz.__main__.TARGETS", {"broken": target})
    big = {"a": {"b": [1, 2], "c": 3}, "d": {"e": 4}}
    file = write(tmp_path, "broken", 7, big, failure_of(target, big))
    case = json.loads(file.read_text())
    assert case["input"] == {"a": {"b": []}}
    assert failure_of(target, case["input"]) == case["failure"]


def test_equal_chances_make_equal_changes() -> None:
    value = {"a": [{"b": 1}, {"c": "x"}], "d": None}
    assert repr([mangled(value, random.Random(7)) for _ in range(3)]) == repr([mangled(value, random.Random(7))] * 3)
    assert value == {"a": [{"b": 1}, {"c": "x"}], "d": None}


def test_what_fails_gets_as_small_as_it_can() -> None:
    assert smallest({"a": [1, 2, 3], "b": {"c": 1}}, lambda value: 2 in value.get("a", [])) == {"a": [2]}
    assert smallest_text("a\nb\nc\nd\n", lambda text: "c" in text) == "c\n"


def test_a_precondition_is_a_uid_a_version_or_a_test() -> None:
    assert is_guarded("POST", b"{}")
    assert is_guarded("PATCH", b'[{"op":"test","path":"/a","value":1},{"op":"add","path":"/b","value":2}]')
    assert is_guarded("PATCH", b'{"metadata":{"resourceVersion":"7"}}')
    assert is_guarded("DELETE", b'{"preconditions":{"uid":"7"}}')
    assert not is_guarded("PATCH", b'[{"op":"add","path":"/b","value":2}]')
    assert not is_guarded("PATCH", b'{"metadata":{"annotations":{"a":"b"}}}')
    assert not is_guarded("DELETE", b"")


def test_cleared_faults_are_none() -> None:
    faults = Faults(delay=1, errors=0.5, silent=True)
    faults.clear()
    assert faults == Faults()


def test_every_way_in_which_a_deployment_can_be_wrong_is_seen() -> None:
    revision = offline(decode_policy(a_policy(sidecars=[a_sidecar(), a_sidecar("logger")])))
    owners = a_deployment()
    template, record = inject(owners["spec"]["template"], [revision], Record())
    right = injected(owners, template, text_of(record))
    assert list(wrong(right, revision)) == []
    assert owners_part(right) == owners_part(owners)
    fewer = template | {"spec": template["spec"] | {"initContainers": template["spec"]["initContainers"][:1]}}
    older = replace(revision, name="web-older")
    for seen in (
        owners,
        injected(owners, template, "{"),
        injected(owners, owners["spec"]["template"], text_of(record)),
        injected(owners, fewer, text_of(record)),
        injected(owners, template, text_of(inject(owners["spec"]["template"], [older], Record())[1])),
    ):
        assert list(wrong(seen, revision)) != []
    assert owners_part(injected(owners, template | {"metadata": {}}, text_of(record))) != owners_part(owners)


def injected(deployment: Manifest, template: Manifest, record: str) -> Manifest:
    """*deployment* with another template and record."""
    annotations = deployment["metadata"]["annotations"] | {names.RECORD: record}
    metadata = deployment["metadata"] | {"annotations": annotations}
    return deployment | {"metadata": metadata, "spec": deployment["spec"] | {"template": template}}


def test_who_writes_after_another_has_taken_the_lease_is_seen() -> None:
    def request(at: float, who: str, resource: str, code: int = 200) -> Request:
        return Request(
            verb="patch",
            group="apps",
            resource=resource,
            subresource="",
            namespace="shop",
            name="cart",
            code=code,
            dry_run=False,
            allowed=True,
            at=at,
            credential=who,
        )

    who = {"1": "a", "2": "b", "3": "b"}
    history = [
        request(1, "1", "leases"),
        request(2, "1", "deployments"),
        request(3, "2", "leases", code=409),
        request(4, "1", "deployments"),
        request(5, "2", "leases"),
        request(6, "3", "deployments"),
        request(7, "1", "deployments", code=409),
    ]
    assert written_without_lease(history, who) == (1, [])
    late = [*history, request(5.5, "1", "deployments")]
    assert written_without_lease(late, who) == (1, ["a wrote deployments cart while b held it"])


def test_a_claim_counts_as_true_where_it_was_so_shortly_before() -> None:
    def moment(at: float, complete: int) -> Moment:
        return Moment(at=at, matched=2, carried=Counter(new=2), complete=Counter(new=complete))

    seen = Seen(moments=[moment(10, 1), moment(20, 2), moment(30, 1)])
    for at, true in ((15, False), (20.1, True), (25, True), (31, True), (40, False)):
        seen.claims = [Claim(at=at, revision="new", matched=2)]
        assert (seen.untrue(owners_roll=False) == []) is true, at
    assert seen.untrue(owners_roll=True) == []


def test_a_trend_rises_where_the_end_is_above_the_noise() -> None:
    flat = [(float(moment), 100.0 + moment % 3) for moment in range(100)]
    leak = [(float(moment), 100.0 + moment / 2) for moment in range(100)]
    warm = [(float(moment), min(100.0, 10.0 * moment)) for moment in range(100)]
    assert [trend(each).rises for each in (flat, leak, warm)] == [False, True, False]
    assert not trend(leak, allowed=100).rises
    assert plot({"memory": leak}, title="a leak").count("<polyline") == 1
