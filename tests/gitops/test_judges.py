"""All judges on the same objects: what a policy's status means to Flux and Helm, to Argo CD and to kubectl."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.names import Reason
from tests.core import golden
from tests.gitops import argo, page
from tests.gitops.argo import HEALTHS, KINDS, health_of
from tests.gitops.conditions import complaints
from tests.gitops.flux import kstatus_of
from tests.gitops.kubectl import wait_ends
from tests.gitops.situations import EXAMPLES, GENERATION, Example

UNSEEN = ("created", "edited")
SEEN = [each for each in EXAMPLES if each.name not in UNSEEN]


def named(examples: list[Example] | tuple[Example, ...]) -> list[str]:
    """Names for pytest."""
    return [each.name for each in examples]


@pytest.fixture(scope="session")
def verdicts() -> dict[str, str]:
    """The kstatus of every example of both kinds, by kind and name."""
    asked = [(kind, each) for kind in KINDS for each in EXAMPLES]
    answers = kstatus_of([each.policy(kind) for kind, each in asked])
    return {f"{kind}/{each.name}": answer for (kind, each), answer in zip(asked, answers, strict=True)}


# The table.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("example", EXAMPLES, ids=named(tuple(EXAMPLES)))
def test_every_judge_says_what_the_table_says(example: Example, kind: str, verdicts: dict[str, str]) -> None:
    policy = example.policy(kind)
    by_type = {each["type"]: each for each in items(policy["status"], "conditions")}
    ready = by_type.get("Ready", {"status": "", "reason": ""})
    abnormal = [each for each in ("Reconciling", "Stalled") if each in by_type]
    said = {
        "Ready": f"{ready['status']} {ready['reason']}".strip(),
        "abnormal": "".join(abnormal),
        "kstatus": verdicts[f"{kind}/{example.name}"],
        "Argo CD": health_of(policy).status,
        "kubectl wait": wait_ends(policy),
    }
    assert said == {
        "Ready": f"{example.ready} {example.reason}".strip(),
        "abnormal": example.abnormal,
        "kstatus": example.kstatus,
        "Argo CD": example.argo,
        "kubectl wait": example.kubectl,
    }


def test_the_page_has_the_table() -> None:
    golden.check(page.PAGE, page.page())


def test_every_reason_of_ready_is_in_the_table() -> None:
    told = {each.reason for each in EXAMPLES}
    assert {each.value for each in Reason} - told == {Reason.ACCEPTED.value}


# Judges that agree.


@pytest.mark.parametrize("example", EXAMPLES, ids=named(tuple(EXAMPLES)))
def test_judges_never_contradict_each_other(example: Example) -> None:
    finished = [example.kstatus == "Current", example.argo == "Healthy", example.kubectl]
    assert len(set(finished)) == 1
    assert (example.kstatus == "Failed") == (example.argo == "Degraded")


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.name in UNSEEN], ids=lambda each: each.name)
def test_what_the_operator_has_not_seen_is_finished_to_nobody(example: Example) -> None:
    assert (example.kstatus, example.argo, example.kubectl) == ("InProgress", "Progressing", False)


@pytest.mark.parametrize("example", EXAMPLES, ids=named(tuple(EXAMPLES)))
def test_every_status_of_an_older_generation_is_under_way(example: Example) -> None:
    policy = example.policy()
    policy["metadata"] = policy["metadata"] | {"generation": GENERATION + 1}
    deleting = "deletionTimestamp" in policy["metadata"]
    assert kstatus_of([policy]) == ["Terminating" if deleting else "InProgress"]
    assert health_of(policy).status == "Progressing"
    assert not wait_ends(policy)


def test_the_order_of_conditions_means_nothing() -> None:
    shuffled = [dict(each.policy()) for each in EXAMPLES]
    for policy in shuffled:
        policy["status"] = {**policy["status"], "conditions": items(policy["status"], "conditions")[::-1]}
    assert kstatus_of(shuffled) == [each.kstatus for each in EXAMPLES]
    assert [health_of(each).status for each in shuffled] == [each.argo for each in EXAMPLES]


@pytest.mark.parametrize("example", [each for each in SEEN if each.abnormal == "Stalled"], ids=lambda each: each.name)
def test_a_wait_for_stalled_ends_with_every_failure(example: Example) -> None:
    assert wait_ends(example.policy(), "Stalled")


# Conditions.


@pytest.mark.parametrize("example", SEEN, ids=named(SEEN))
def test_conditions_keep_the_rules(example: Example) -> None:
    assert complaints(example.policy()) == []


def test_the_rules_notice_what_is_wrong() -> None:
    example = next(each for each in EXAMPLES if each.name == "rolling-out")
    accepted, ready, reconciling = items(example.status, "conditions")
    stalled = {**reconciling, "type": "Stalled"}
    wrong: dict[str, list[Json]] = {
        "Ready is missing": [accepted, reconciling],
        "types are Ready, Accepted": [ready, accepted],
        "1 of them twice": [accepted, ready, ready],
        "Reconciling is False": [accepted, ready, {**reconciling, "status": "False"}],
        "Reconciling and Stalled are both there": [accepted, ready, reconciling, stalled],
        "Ready is Unknown with Stalled": [accepted, ready, stalled],
        "Ready is False without Stalled": [accepted, {**ready, "status": "False"}],
        "Ready is False while Reconciling": [accepted, {**ready, "status": "False"}, reconciling],
        "Ready is True beside something abnormal": [accepted, {**ready, "status": "True"}, reconciling],
        "Ready with 83 to be changed": [accepted, {**ready, "status": "True"}],
        "not Accepted, and not Stalled": [{**accepted, "status": "False"}, ready],
        "Reconciling has another message than Ready": [accepted, ready, {**reconciling, "message": "other"}],
        "Ready is about generation 1, the status about 2": [accepted, {**ready, "observedGeneration": 1}],
        "Ready: reason 'rolling out' is not CamelCase": [accepted, {**ready, "reason": "rolling out"}],
        "Ready: a message of 0 characters": [accepted, {**ready, "message": ""}],
        "Ready: a message of 1025 characters": [accepted, {**ready, "message": "x" * 1025}],
        "Ready is 'Yes'": [accepted, {**ready, "status": "Yes"}],
        "Ready: lastTransitionTime is '2026'": [accepted, {**ready, "lastTransitionTime": "2026"}],
    }
    for complaint, conditions in wrong.items():
        broken = dataclasses.replace(example, status={**example.status, "conditions": conditions})
        assert complaint in complaints(broken.policy())


# Argo CD.


@pytest.mark.parametrize("path", argo.files(), ids=lambda path: str(path.relative_to(argo.FOLDER)))
def test_the_files_for_argo_cd_are_current(path: Path) -> None:
    golden.check(path, argo.files()[path])


def test_nothing_else_is_among_the_files_for_argo_cd() -> None:
    there = {path for path in argo.FOLDER.rglob("*") if path.is_file()}
    assert there == {*argo.files(), argo.SCRIPT}


def test_the_script_in_the_config_map_is_the_script() -> None:
    data = yaml.safe_load((argo.FOLDER / "argocd-cm.yaml").read_text())["data"]
    assert data == {f"resource.customizations.health.{names.GROUP}_{kind}": argo.SCRIPT.read_text() for kind in KINDS}


def test_every_health_has_its_words() -> None:
    for example in EXAMPLES:
        health = health_of(example.policy())
        assert health.status in HEALTHS
        assert health.message
        if example.name not in UNSEEN:
            assert health.message.startswith(f"{example.reason}: ")


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": GENERATION}, {"conditions": []}])
def test_a_bare_policy_is_under_way(status: Json | None) -> None:
    policy = EXAMPLES[0].policy() | {"status": status}
    assert health_of(policy).status == "Progressing"
    del policy["status"]
    assert health_of(policy).status == "Progressing"


def test_a_deletion_that_nobody_has_seen_names_its_finalizers() -> None:
    policy = EXAMPLES[0].policy()
    policy["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b", names.FINALIZER]}
    assert health_of(policy).message == f"Pending deletion; blocked by finalizers: a/b, {names.FINALIZER}"
