"""What the verbs make of what a cluster or a file holds: who carries what, differences, the operator, the schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from sidecarpolicy import names
from sidecarpolicy.cli.findings import hint_lines
from sidecarpolicy.cli.list import carried_by, table_of
from sidecarpolicy.cli.main import main
from sidecarpolicy.cli.operator_seen import Lease, OperatorSeen, lease_of
from sidecarpolicy.cli.revisions import difference
from sidecarpolicy.cli.text import Table, age, hanging, wrapped
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.emergency_switch import reason_of
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.nodes import version_of
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import INIT_CONTAINERS, Entry, ItemKey, Note, Record, text_of
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.acceptance import in_the_authors_words
from tests.builders import a_cluster_policy, a_deployment, a_policy, a_sidecar

WEB = PolicyId(kind=names.POLICY, namespace="shop", name="web")
MESH = PolicyId(kind=names.CLUSTER_POLICY, namespace="", name="mesh")

# Who carries what


def carrying(*sidecars: str, orphaned: tuple[str, ...] = (), **entries: Entry) -> Json:
    """A Deployment with these native sidecars, and a record of what `web` and `mesh` have on it."""
    policies = {"web": WEB, "mesh": MESH}
    record = Record(
        entries={policies[name]: entry for name, entry in entries.items()},
        orphaned=frozenset(ItemKey(INIT_CONTAINERS, name) for name in orphaned),
    )
    pod = {"initContainers": [{"name": each, "image": f"example.test/{each}:1"} for each in sidecars]}
    return a_deployment(annotations={names.RECORD: text_of(record)}, pod=pod)


def an_entry(revision: str, *sidecars: str, **changes: Any) -> Entry:
    return Entry(revision=revision, items=frozenset(ItemKey(INIT_CONTAINERS, each) for each in sidecars), **changes)


def test_each_policy_has_a_row_with_what_it_has_in_the_order_of_the_start() -> None:
    body = carrying(
        "proxy",
        "own",
        "logger",
        "monitor",
        web=an_entry("web-1", "monitor", "logger"),
        mesh=an_entry("mesh-2", "proxy"),
    )
    first, second = carried_by(body)
    assert (first.policy, first.revision, list(first.images)) == (MESH, "mesh-2", ["proxy"])
    assert (second.policy, second.revision, list(second.images)) == (WEB, "web-1", ["logger", "monitor"])
    lines = list(table_of([first, second], wide=False, namespaced=None).lines(None))
    assert [line.split() for line in lines] == [
        ["DEPLOYMENT", "POLICY", "REVISION", "SIDECARS"],
        ["cart", "cluster/mesh", "mesh-2", "proxy"],
        ["cart", "web", "web-1", "logger,", "monitor"],
    ]
    wide = list(table_of([first, second], wide=True, namespaced=True).lines(None))
    assert wide[0].startswith("NAMESPACE")
    assert wide[1].endswith("proxy=example.test/proxy:1")


def test_what_only_left_a_note_or_nothing_is_not_carried() -> None:
    assert list(carried_by(a_deployment())) == []
    assert list(carried_by(carrying("own", web=Entry(revision="", note=Note(failed="web-1#1"))))) == []


def test_what_was_handed_over_is_the_owners_and_a_record_that_cannot_be_read_is_said() -> None:
    (left,) = carried_by(carrying("proxy", orphaned=("proxy",)))
    assert (left.policy, list(left.images)) == (None, ["proxy"])
    (mangled,) = carried_by(a_deployment(annotations={names.RECORD: "{"}))
    assert "cannot read its record" in mangled.problem


# Differences


def test_a_difference_shows_what_an_author_changed_and_nothing_else() -> None:
    before = {"sidecars": [a_sidecar(container={"image": "envoy:1"})], "priority": 1}
    after = {"priority": 1, "sidecars": [a_sidecar(container={"image": "envoy:2"})]}
    lines = list(difference(before, after, ("web-1", "web-2")))
    assert lines[:2] == ["--- web-1", "+++ web-2"]
    changed = [line.split(":", 1)[1].strip() for line in lines[2:] if line[0] in "+-"]
    assert changed == ["envoy:1", "envoy:2"]
    assert list(difference(before, dict(reversed(before.items())), ("a", "b"))) == []


# The operator


def test_a_lease_says_since_when_nothing_was_heard() -> None:
    spec = {"holderIdentity": "pod-1", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}
    renewed = 1767225600.0
    assert lease_of({"spec": spec}, renewed + 10).is_kept
    assert not lease_of({"spec": spec}, renewed + 40).is_kept
    assert not lease_of({"spec": spec | {"holderIdentity": ""}}, renewed).is_kept


def seen(**changes: Any) -> OperatorSeen:
    kept = Lease(holder="pod-1", silent=1.0, duration=15.0)
    well = OperatorSeen(namespace="sidecarpolicy-system", lease=kept, lease_unknown=False, stop="")
    return replace(well, **changes)


def test_nothing_stands_above_an_answer_where_all_is_well_or_may_not_be_seen() -> None:
    assert seen().banners == []
    assert seen(lease=None, lease_unknown=True, stop=None).banners == []


def test_a_silent_operator_and_the_emergency_switch_stand_above_every_answer() -> None:
    silent = seen(lease=Lease(holder="pod-1", silent=40.0, duration=15.0))
    assert "the Lease sidecarpolicy-system/sidecarpolicy was last renewed 40s ago by pod-1" in silent.banners[0]
    assert "no operator has run in namespace sidecarpolicy-system" in seen(lease=None).banners[0]
    stopped = seen(stop="incident 7", namespace="ops")
    assert stopped.banners[0].startswith("STOPPED (incident 7): no workload is changed, because namespace ops")
    assert stopped.banners[0].endswith("sidecarpolicy start --operator-namespace ops")
    assert stopped.json()["stopReason"] == "incident 7"


@pytest.mark.parametrize(("value", "stop"), [(None, ""), ("false", ""), ("true", "true"), ("why", "why"), ("", "true")])
def test_the_switch_is_on_with_every_value_but_false(value: str | None, stop: str) -> None:
    annotations = {} if value is None else {names.STOP: value}
    assert reason_of({"annotations": annotations}) == stop


@pytest.mark.parametrize(
    ("text", "version"),
    [("v1.37.2", (1, 37)), ("v1.29.1-eks-abc", (1, 29)), ("1.30+", (1, 30)), ("0.2.0", (0, 2)), ("", (0, 0))],
)
def test_versions_are_read_as_vendors_write_them(text: str, version: tuple[int, int]) -> None:
    assert version_of(text) == version


# Lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (40, "40s"), (125, "2m5s"), (600, "10m"), (3 * 3600 + 720, "3h12m"), (9 * 3600, "9h"), (250000, "2d")],
)
def test_ages_are_those_of_kubectl(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_line_breaks_between_words_and_never_inside_one() -> None:
    text = "spec.sidecars[0].container.image: must be a text that is longer than the line"
    assert wrapped(text, 30)[0] == "spec.sidecars[0].container.image:"
    assert " ".join(wrapped(text, 30)) == text
    assert wrapped(text, None, 2) == [f"  {text}"]


def test_what_goes_on_below_a_line_stands_further_in_than_it_does() -> None:
    line = "  1. proxy  sidecar; the next one starts when its startup probe has succeeded"
    assert hanging(line, None) == hanging(line, len(line)) == [line]
    first, *rest = hanging(line, 40)
    assert first.startswith("  1. proxy  sidecar;")
    assert rest
    assert all(each.startswith("      ") and each[6] != " " and len(each) <= 40 for each in rest)
    assert " ".join([first.strip(), *(each.strip() for each in rest)]) == line.strip()


def test_a_command_in_a_hint_is_never_broken() -> None:
    command = "kubectl logs -n sidecarpolicy-system -l app.kubernetes.io/name=sidecarpolicy"
    hint = f"the operator writes it; {command}"
    assert list(hint_lines(hint, None)) == list(hint_lines(hint, 200)) == [f"    hint: {hint}"]
    assert list(hint_lines(hint, 80)) == ["    hint: the operator writes it", f"      {command}"]
    assert list(hint_lines(command, 60)) == [f"    hint: {command}"]


def test_a_message_moves_below_its_row_where_its_column_is_narrow() -> None:
    table = Table(["NAME", "MESSAGE"])
    table.add("a" * 30, "something to say that takes more than is left of the line")
    lines = list(table.lines(50))
    assert lines[0] == "NAME"
    assert lines[2].startswith("   something")
    assert len(list(table.lines(200))) == 2


# The schema


def validated(tmp_path: Path, *policies: Json, flags: tuple[str, ...] = ()) -> Result:
    file = tmp_path / "policies.yaml"
    file.write_text(yaml.safe_dump_all(policies))
    return CliRunner().invoke(main, ["validate", str(file), *flags])


@pytest.mark.parametrize(
    ("container", "says"),
    [
        (
            {"env": [{"name": "PORT", "value": 5432}]},
            "spec.sidecars[0].container.env[0].value: must be a string, not a number (5432)",
        ),
        (
            {"resources": {"requests": {"cpu": 0.1}}},
            "requests.cpu: must be a string or a whole number, not a number (0.1): put it in quotes ('0.1')",
        ),
        ({"resources": {"requests": {"cpu": "100mm"}}}, "must be a quantity (100m, 0.5, 64Mi), not '100mm'"),
        (
            {"imagee": "x"},
            "spec.sidecars[0].container.imagee: must not be given: there is no such field; did you mean image?",
        ),
        ({"ports": {"containerPort": 80}}, "spec.sidecars[0].container.ports: must be a list, not a mapping"),
        ({"ports": [{}]}, "spec.sidecars[0].container.ports[0].containerPort: must be given"),
        ({"stdin": "yes"}, "spec.sidecars[0].container.stdin: must be true or false, not a string ('yes')"),
    ],
)
def test_what_an_api_server_would_refuse_is_found_without_one(tmp_path: Path, container: Json, says: str) -> None:
    result = validated(tmp_path, a_policy(sidecars=[a_sidecar(container=container)]))
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.endswith("in 1 policy\n")


def test_what_belongs_into_the_container_is_said_to(tmp_path: Path) -> None:
    policy = a_policy(sidecars=[a_sidecar(image="envoy:1")])
    assert (
        "spec.sidecars[0].image: must not stand here: it belongs under container\n"
        in validated(tmp_path, policy).stderr
    )
    with pytest.raises(InvalidInput, match=r"spec\.sidecars\[0\]\.image: belongs under container"):
        decode_policy(policy)


def test_what_no_schema_can_say_is_found_too_and_a_namespaced_policy_has_no_namespace_selector(tmp_path: Path) -> None:
    circle = [a_sidecar("a", startAfter=["b"]), a_sidecar("b", startAfter=["a"])]
    assert "must not start after each other: a after b after a" in validated(tmp_path, a_policy(sidecars=circle)).stderr
    assert (
        "spec.namespaceSelector: must not be given: only a ClusterSidecarPolicy selects namespaces"
        in validated(tmp_path, a_policy(namespaceSelector={})).stderr
    )
    assert validated(tmp_path, a_cluster_policy(namespaceSelector={})).exit_code == 0


def test_warnings_fail_only_where_that_is_asked_for(tmp_path: Path) -> None:
    policy = a_policy(sidecars=[a_sidecar(role="Proxy")])
    lenient, strict = validated(tmp_path, policy), validated(tmp_path, policy, flags=("--strict",))
    assert (lenient.exit_code, strict.exit_code) == (0, 1)
    assert "warning: SidecarPolicy shop/web: NoStartupGate: " in lenient.stderr
    answer = json.loads(validated(tmp_path, policy, flags=("-o", "json")).stdout)
    assert (answer["valid"], answer["policies"], len(answer["warnings"])) == (True, 1, 1)


def test_a_file_without_a_policy_is_no_valid_one(tmp_path: Path) -> None:
    result = validated(tmp_path, a_deployment())
    assert result.exit_code == 1
    assert "must hold a SidecarPolicy or a ClusterSidecarPolicy" in result.stderr


def test_null_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    policy = a_policy() | {"spec": {"selector": {}, "sidecars": None, "rollout": None}}
    result = validated(tmp_path, policy)
    assert "sidecars" in result.stderr
    assert "rollout" not in result.stderr


# In the author's words


def test_a_probe_that_the_author_never_wrote_is_said_to_be_made() -> None:
    said = 'PodTemplate "x" is invalid: template.spec.initContainers[0].startupProbe.httpGet.port: Invalid value: 0'
    probe = {"httpGet": {"path": "/", "port": 0}}
    derived = decode_policy(a_policy(sidecars=[a_sidecar(role="Proxy", container={"readinessProbe": probe})]))
    own = decode_policy(a_policy(sidecars=[a_sidecar(role="Proxy", container={"startupProbe": probe})]))
    path = "spec.sidecars[0].container.startupProbe.httpGet.port"
    made = "(made from its readinessProbe, because startup is WaitUntilReady)"
    assert in_the_authors_words(said, derived) == f"{path} {made}: Invalid value: 0"
    assert in_the_authors_words(said, own) == f"{path}: Invalid value: 0"
