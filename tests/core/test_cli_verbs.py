"""What the verbs decide before and after they ask a cluster: names, lists, verdicts, which revision, who keeps it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import __version__, cli, names
from sidecarpolicy.cli.asking import duration
from sidecarpolicy.cli.cluster import explanation
from sidecarpolicy.cli.gitops import git_manager
from sidecarpolicy.cli.history import HistoryEntry, before, live_name, named, with_words
from sidecarpolicy.cli.main import COMMANDS, ELSEWHERE, SECTIONS, behind_the_verb, main
from sidecarpolicy.cli.policy_names import policy_named
from sidecarpolicy.cli.standing import EXIT_CODES, awaited_by, json_of, standing_of, worst
from sidecarpolicy.cli.status_view import detail, overview
from sidecarpolicy.cli.targets import STATES
from sidecarpolicy.core.decode import author_words, decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of, with_entries, with_pin
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import (
    Halt,
    StoredRevision,
    object_name,
    revision_name,
    to_controller_revision,
    words_of,
)
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.port import ApiError, Conflict, NotFound, Rejected, Transient
from tests.builders import a_cluster_policy, a_policy, a_sidecar
from tests.core import strategies
from tests.core.objects import WEB


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("web", names.POLICY),
        ("sidecarpolicy/web", names.POLICY),
        ("sidecarpolicies/web", names.POLICY),
        ("sidepol/web", names.POLICY),
        ("sidecarpolicy.sidecars.dev/web", names.POLICY),
        ("SidecarPolicy/shop/web", names.POLICY),
        ("cluster/web", names.CLUSTER_POLICY),
        ("ClusterSidecarPolicy//web", names.CLUSTER_POLICY),
        ("csidepol/web", names.CLUSTER_POLICY),
        ("ClusterSidecarPolicy/web", names.CLUSTER_POLICY),
        ("clustersidecarpolicies.sidecars.dev/web", names.CLUSTER_POLICY),
    ],
)
def test_a_policy_is_named_as_for_kubectl(text: str, kind: str) -> None:
    namespace = "" if kind == names.CLUSTER_POLICY else "shop"
    assert policy_named(text, lambda: "shop") == PolicyId(kind=kind, namespace=namespace, name="web")


def test_a_policy_is_named_as_it_is_shown_among_several_namespaces() -> None:
    assert policy_named("other/web", lambda: "shop") == PolicyId(kind=names.POLICY, namespace="other", name="web")


@pytest.mark.parametrize("text", ["", "/web", "deployment/web", "web/", "po/web", "cluster/shop/web", "sidepol//web"])
def test_what_names_no_policy_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.UsageError, match="must be NAME, NAMESPACE/NAME, sidecarpolicy/NAME, "):
        policy_named(text, lambda: "shop")


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400)])
def test_durations_are_those_of_kubectl(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 m", "m5", "-1s"])
def test_what_is_no_duration_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90s, 5m or 1h30m"):
        _seconds(text)


def _seconds(text: str) -> float:
    context = click.Context(main)
    return duration(context, click.Option(["--timeout"]), text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "deployment/web"],
        ["status", "web", "-A"],
        ["status", "web", "--timeout=5s"],
        ["approve", "web", "everything"],
        ["pin", "web", "cart", "--to=abc", "--remove"],
        ["targets"],
        ["targets", "web", "--state=done"],
    ],
)
def test_wrong_usage_exits_with_2_before_any_cluster_is_looked_for(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, [*arguments, "--kubeconfig=/does/not/exist"]).exit_code == 2


def test_a_kubeconfig_that_is_not_there_is_said_so() -> None:
    result = CliRunner().invoke(main, ["status", "web", "--kubeconfig=/does/not/exist"])
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: kubeconfig /does/not/exist: there is no such file; name one with --kubeconfig or KUBECONFIG, or run in "
        "a Pod with a service account\n"
    )


# Starting


# What no verb needs that answers at once: with any of these a person waits for it.
SLOW = {"aiohttp", "kopf", "kubernetes", "prometheus_client", "pykube", "requests", "rich", "urllib3"}
# What is not needed to ask a cluster and print a status, either.
NOT_FOR_STATUS = {"asyncio", "concurrent.futures.thread", "difflib", "urllib.request", "sidecarpolicy.engine.cache"}


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after *statement*."""
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_no_verb_but_the_operator_itself_imports_what_takes_long() -> None:
    modules = {module for verb, (module, _) in COMMANDS.items() if verb not in ("run", "timeline", "webhook")}
    found = imported_by(f"import sidecarpolicy.cli.entry, {', '.join(sorted(modules))}")
    assert found & SLOW == set()
    assert "sidecarpolicy.cli.status" in found


def test_status_imports_no_more_than_it_needs() -> None:
    assert imported_by("import sidecarpolicy.cli.status") & (SLOW | NOT_FOR_STATUS) == set()


# What a verb may import beside the standard library, click and what every verb has; a kubeconfig takes yaml besides.
ON_A_CLUSTER = {"orjson"}
ON_FILES = {"orjson", "yaml", "_yaml", "cython_runtime"}
# Who decides what is injected is asked by none of those that only tell what is there.
DECIDING = {f"sidecarpolicy.core.{each}" for each in ("decode", "revision", "ordering", "skips", "injection", "plan")}
NEVER = {"sidecarpolicy.engine.cache", "sidecarpolicy.handlers", "sidecarpolicy.admission"}
# What only a request takes, a file that is written, or a terminal.
LATER = {"http.client", "ssl", "email", "subprocess", "tempfile", "shutil", "urllib.request", "sidecarpolicy.kube"}
# What knows how Deployments are rolled out, and what a record on one means.
OF_WORKLOADS = {"sidecarpolicy.core.kinds", "sidecarpolicy.core.workload", "sidecarpolicy.core.record"}


@pytest.mark.parametrize(
    ("verb", "packages", "never"),
    [
        ("status", ON_A_CLUSTER, DECIDING | LATER | OF_WORKLOADS),
        ("stop", ON_A_CLUSTER, DECIDING | LATER | OF_WORKLOADS),
        ("pause", ON_A_CLUSTER, DECIDING | LATER | OF_WORKLOADS),
        ("list", ON_A_CLUSTER, DECIDING | LATER | {"sidecarpolicy.core.kinds", "sidecarpolicy.core.workload"}),
        ("inject", ON_FILES, LATER | {"sidecarpolicy.engine"}),
        ("validate", ON_FILES, {"sidecarpolicy.kube", "sidecarpolicy.engine", "ssl", "http.client"}),
        ("lint", ON_FILES, DECIDING | {"sidecarpolicy.kube", "sidecarpolicy.engine", "ssl", "http.client"}),
    ],
)
def test_a_verb_imports_what_it_says_here_and_no_more(verb: str, packages: set[str], never: set[str]) -> None:
    bare = {each.partition(".")[0] for each in imported_by("import click, sidecarpolicy.cli.main")}
    found = imported_by(f"import {COMMANDS[verb][0]}")
    foreign = {each.partition(".")[0] for each in found if not each.startswith("_cython")}
    foreign -= bare | sys.stdlib_module_names
    assert foreign <= packages
    assert found & (never | NEVER) == set()


def test_help_imports_no_verb() -> None:
    found = imported_by("from sidecarpolicy.cli.main import main; main(['--help'], standalone_mode=False)")
    assert {each for each in found if each.startswith("sidecarpolicy.")} <= {
        *("sidecarpolicy.cli", "sidecarpolicy.cli.main"),
    }


def test_every_verb_stands_in_one_section_of_the_help() -> None:
    assert sorted(verb for verbs in SECTIONS.values() for verb in verbs) == sorted(COMMANDS)


# Flags before the verb, words that are almost verbs


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("-n shop status web", "status -n shop web"),
        ("-nshop --context=c status", "status -nshop --context=c"),
        ("-A status -w", "status -A -w"),
        ("--as eve --as-group=dev list", "list --as eve --as-group=dev"),
        ("status -n shop", "status -n shop"),
        ("--help", "--help"),
        ("--version", "--version"),
        ("", ""),
    ],
)
def test_the_flags_of_every_verb_may_stand_before_it(typed: str, understood: str) -> None:
    assert behind_the_verb(typed.split()) == understood.split()


def test_a_verb_that_is_not_there_is_answered_with_those_that_may_be_meant() -> None:
    for arguments in (["statsu"], ["-n", "shop", "statsu"], ["help", "statsu"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert "there is no verb 'statsu'; did you mean status" in result.stderr


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_other_programs_call_it_is_answered_with_a_verb(name: str) -> None:
    assert name not in COMMANDS
    meant = ELSEWHERE[name]
    assert CliRunner().invoke(main, [name, "web"]).stderr.endswith(f"did you mean {', '.join(meant)}?\n")
    for each in meant:  # and there is such a verb, with such a flag
        verb, _, flag = each.partition(" ")
        assert flag in CliRunner().invoke(main, ["help", verb]).stdout


def test_help_and_version_are_verbs_too() -> None:
    assert CliRunner().invoke(main, ["version"]).stdout == f"sidecarpolicy {__version__}\n"
    assert json.loads(CliRunner().invoke(main, ["version", "-o", "json"]).stdout) == {"version": __version__}
    assert "Act on a rollout:" in CliRunner().invoke(main, ["help"]).stdout
    assert CliRunner().invoke(main, ["help", "pause"]).stdout == CliRunner().invoke(main, ["pause", "--help"]).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_completion(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_SIDECARPOLICY_COMPLETE" in result.stdout


def test_a_verb_is_completed_and_where_no_cluster_answers_nothing_is_said() -> None:
    def completed(words: str, at: int) -> list[str]:
        environ = {"_SIDECARPOLICY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        program = [str(Path(sys.executable).with_name("sidecarpolicy"))]
        environ |= {"PATH": "/usr/bin:/bin", "KUBECONFIG": "/does/not/exist"}
        done = subprocess.run(program, env=environ, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.stdout.split()

    assert completed("sidecarpolicy sta", 1) == ["plain,status", "plain,start"]
    assert completed("sidecarpolicy status w", 2) == []


# Comma lists


def test_what_is_approved_already_stays_as_it_is() -> None:
    assert with_entries("", ["removal@3"]) == "removal@3"
    assert with_entries("removal@3, canary/eu@web-1", ["canary/us@web-1", "removal@3"]) == (
        "removal@3,canary/eu@web-1,canary/us@web-1"
    )
    assert entries_of(" a ,, b") == ["a", "b"]


def test_a_pin_replaces_that_of_its_own_policy_only() -> None:
    assert with_pin("", "web", "web@abc") == "web@abc"
    assert with_pin("web@1,cluster/web@2", "web", "web@3") == "cluster/web@2,web@3"
    assert with_pin("web@1,cluster/web@2", "cluster/web", None) == "web@1"
    assert with_pin("web@1", "web", None) == ""


# What a status asks to have approved


def waiting(*awaiting: str, generation: int = 3) -> Json:
    ready = {"type": "Ready", "status": "Unknown", "reason": "RemovalHeld", "message": "m", "observedGeneration": 3}
    status = {"observedGeneration": 3, "conditions": [ready], "awaiting": [*awaiting]}
    return {**a_policy(), "metadata": {"name": "web", "namespace": "shop", "generation": generation}, "status": status}


def test_what_waits_is_a_field_of_a_status_that_is_not_older_than_the_policy() -> None:
    asked = ("canary/eu@web-7d21c0a9e1", "removal@3")
    assert awaited_by(waiting(*asked)) == [*asked]
    assert awaited_by(waiting(*asked, generation=4)) == []
    assert awaited_by(a_policy() | {"metadata": {"name": "web", "generation": 1}}) == []


READS = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "splitlines"}
READS |= {"find", "index", "search", "match", "fullmatch", "findall", "finditer"}


def _is_a_message(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(slice=ast.Constant(value="message")):
            return True
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value="message"), *_]):
            return True
    return False


def _reads(node: ast.AST) -> bool:
    """Whether an expression looks into a message of the status."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) if name in READS:
            return any(map(_is_a_message, ast.walk(node)))
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[place]):
            return any(map(_is_a_message, ast.walk(place)))
    return False


def test_no_message_is_read_by_a_program() -> None:
    sources = sorted(Path(cli.__file__).parent.glob("*.py"))
    assert len(sources) > 20
    found = [
        f"{path.name}:{node.lineno}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.expr) and _reads(node)
    ]
    assert found == []


# Verdicts


def stands(**conditions: tuple[str, str]) -> Json:
    """A policy of generation 2, seen, with these conditions: status and reason."""
    found = [{"type": kind, "status": each[0], "reason": each[1], "message": "m"} for kind, each in conditions.items()]
    return {
        **a_policy(),
        "metadata": {"name": "web", "namespace": "shop", "generation": 2},
        "status": {"observedGeneration": 2, "conditions": found},
    }


@pytest.mark.parametrize(
    ("body", "exit_code"),
    [
        (stands(Ready=("True", "RolloutComplete")), 0),
        (stands(Ready=("True", "NoTargets")), 0),
        (stands(Ready=("False", "RolledBack"), Stalled=("True", "RolledBack")), 1),
        (stands(Ready=("Unknown", "RollingOut"), Reconciling=("True", "RollingOut")), 3),
        (stands(Ready=("Unknown", "Paused")), 3),
        (stands(), 3),
        (stands(Ready=("True", "RolloutComplete")) | {"status": {"observedGeneration": -1}}, 3),
    ],
)
def test_the_exit_code_is_the_verdict(body: Json, exit_code: int) -> None:
    assert EXIT_CODES[standing_of(body).verdict] == exit_code


def test_an_answer_about_an_older_generation_is_none() -> None:
    body = stands(Ready=("True", "RolloutComplete"))
    body["metadata"]["generation"] = 3
    standing = standing_of(body)
    assert (standing.verdict.value, standing.reason) == ("InProgress", "")
    assert "has not looked at generation 3 yet; it has seen generation 2" in standing.message


def test_a_halt_that_was_resumed_is_no_failure_any_more() -> None:
    body = stands(Ready=("False", "RolledBack"), Stalled=("True", "RolledBack"))
    body["status"]["halt"] = {"id": "web-1#1", "since": "2026-01-01T00:00:00Z"}
    for resumed, verdict in (("web-1#0", "Failed"), ("web-1#1", "InProgress")):
        body["metadata"]["annotations"] = {names.RESUME: resumed}
        assert standing_of(body).verdict.value == verdict


def test_a_restart_that_the_operator_has_not_begun_is_in_progress() -> None:
    body = stands(Ready=("True", "RolloutComplete"), Accepted=("True", "Accepted")) | {"spec": a_policy()["spec"]}
    body["status"]["updateRevision"] = live_name(WEB, body)
    assert standing_of(body).verdict.value == "Ready"
    body["metadata"]["annotations"] = {names.RESTARTED_AT: "2026-01-02T00:00:00Z"}
    standing = standing_of(body)
    assert (standing.verdict.value, standing.reason) == ("InProgress", "")
    assert "has not begun the restart yet" in standing.message
    body["status"]["updateRevision"] = live_name(WEB, body)
    assert standing_of(body).verdict.value == "Ready"


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ({"halt": {"id": "web-1#1"}}, "sidecarpolicy resume web -n shop  # tries the same again"),
        ({"awaiting": ["removal@2"]}, "sidecarpolicy approve web -n shop"),
        ({"targets": {"failed": 1, "skipped": 2}}, "sidecarpolicy targets web -n shop --state=failed"),
        ({"targets": {"skipped": 2}}, "sidecarpolicy targets web -n shop --state=skipped"),
        ({}, ""),
        ({"observedGeneration": 1, "halt": {"id": "web-1#1"}}, ""),
    ],
)
def test_a_status_ends_with_the_command_that_goes_on(status: Json, command: str) -> None:
    body = stands(Ready=("False", "RolledBack"))
    body["status"] |= status
    lines = list(detail(standing_of(body), bar=False))
    assert (lines[-1] == f"next: {command}") == bool(command)
    assert any("next:" in line for line in lines) == bool(command)


@pytest.mark.parametrize(
    ("before", "labels", "undone"),
    [
        ("web-0", {}, True),
        ("web-1", {}, False),
        ("", {}, False),
        ("web-0", {"helm.toolkit.fluxcd.io/name": "x"}, False),
    ],
)
def test_after_a_halt_the_way_back_is_named_where_there_is_one(before: str, labels: Json, undone: bool) -> None:
    body = stands(Ready=("False", "RolledBack"))
    body["metadata"]["labels"] = labels
    body["status"] |= {"halt": {"id": "web-1#1"}, "currentRevision": before, "updateRevision": "web-1"}
    lines = standing_of(body).next_lines
    assert lines[-1] == "sidecarpolicy resume web -n shop  # tries the same again"
    assert lines[:-1] == (["sidecarpolicy undo web -n shop  # back to web-0"] if undone else [])


def test_a_policy_that_is_ready_says_that_it_is_paused() -> None:
    body = stands(Ready=("True", "RolloutComplete")) | {"spec": {"rollout": {"paused": True}}}
    told = "paused: no edit reaches what is there before sidecarpolicy resume web -n shop"
    assert told in list(detail(standing_of(body), bar=False))
    body["spec"]["rollout"]["paused"] = False
    assert told not in list(detail(standing_of(body), bar=False))


def test_the_command_that_goes_on_names_a_cluster_policy_as_one() -> None:
    body = stands(Ready=("Unknown", "Paused"))
    assert standing_of(body).next_command == "sidecarpolicy resume web -n shop"
    body = body | {"kind": names.CLUSTER_POLICY, "metadata": {"name": "mesh", "generation": 2}}
    assert standing_of(body).next_command == "sidecarpolicy resume cluster/mesh"


@pytest.mark.parametrize("width", [30, 60, 80, 100, 200])
def test_a_table_in_a_terminal_of_any_width_cuts_no_name(width: int) -> None:
    lines = list(overview([standing_of(A_BODY)]).lines(width))
    assert "web" in lines[1]
    assert "RollingOut" in lines[1]
    assert " ".join(" ".join(lines).split()).endswith("34 of [117] workloads :eyes: run")
    assert (len(lines) == 2) == (width >= 100)
    assert all(len(line) <= width for line in lines)


def test_a_narrow_terminal_loses_columns_before_any_head_breaks() -> None:
    def heads(width: int | None) -> list[str]:
        return next(overview([standing_of(A_BODY)], wide=True).lines(width)).split()

    everything = ["POLICY", "VERDICT", "STATUS", "UPDATED", "FAILED", "SKIPPED", "REVISION", "AGE"]
    assert heads(None) == heads(200) == [*everything, "MESSAGE"]
    assert heads(80) == [each for each in everything if each != "AGE"]
    assert heads(40) == ["POLICY", "STATUS", "UPDATED"]


def test_the_namespace_is_a_column_where_there_are_several() -> None:
    other = {**A_BODY, "metadata": {**A_BODY["metadata"], "namespace": "billing"}}
    one, two = standing_of(A_BODY), standing_of(other)
    assert next(overview([one]).lines(None)).startswith("POLICY")
    assert next(overview([one, two]).lines(None)).startswith("NAMESPACE")
    assert next(overview([one], namespaced=True).lines(None)).startswith("NAMESPACE")


def test_the_worst_of_several_policies_is_the_answer() -> None:
    done, failed = standing_of(stands(Ready=("True", "NoTargets"))), standing_of(stands(Ready=("False", "AllSkipped")))
    assert (worst([]).value, worst([done]).value, worst([done, failed]).value) == ("Ready", "Ready", "Failed")
    assert json_of([done, failed])["verdict"] == "Failed"


A_BODY: Json = {
    **a_policy(),
    "metadata": {"name": "web", "namespace": "shop", "generation": 2},
    "status": {
        "observedGeneration": 2,
        "conditions": [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "RollingOut",
                "message": "34 of [117] workloads :eyes: run",
            }
        ],
        "targets": {"matched": 120, "skipped": 3, "pending": 80, "progressing": 3, "updated": 34, "failed": 0},
        "updateRevision": "web-7d21c0a9e1",
        "currentRevision": "web-6f9c11d2ab",
        "failures": [
            {
                "namespace": "shop",
                "name": "cart",
                "revision": "web-7d21c0a9e1",
                "reason": "ImagePullBackOff",
                "message": "proxy: ImagePullBackOff",
                "since": "2026-01-01T00:00:00Z",
            }
        ],
        "skipped": [{"reason": "OptedOut", "count": 2, "examples": ["shop/a", "shop/b"], "message": "shop/a: label"}],
        "warnings": [{"reason": "NoStartupGate", "count": 1, "message": "spec.sidecars[0]: nothing to wait for"}],
    },
}


def test_a_status_says_everything_in_plain_words() -> None:
    assert "".join(f"{line}\n" for line in detail(standing_of(A_BODY), bar=False)) == (
        "SidecarPolicy shop/web  InProgress  RollingOut\n"
        "34 of [117] workloads :eyes: run\n"
        "revision web-7d21c0a9e1 (rolled out completely before: web-6f9c11d2ab)\n"
        "failed:\n"
        "  shop/cart at web-7d21c0a9e1 since 2026-01-01T00:00:00Z: proxy: ImagePullBackOff\n"
        "skipped:\n"
        "  OptedOut (2): shop/a: label (also shop/b)\n"
        "warnings:\n"
        "  NoStartupGate (1): spec.sidecars[0]: nothing to wait for\n"
    )


def test_a_table_in_a_pipe_is_one_line_per_policy_without_colours_or_padding() -> None:
    cluster_wide = {**a_cluster_policy("mesh"), "metadata": {"name": "mesh", "generation": 1}}
    lines = list(overview([standing_of(A_BODY), standing_of(cluster_wide)]).lines(None))
    first, second, third = lines
    assert first.split() == ["NAMESPACE", "POLICY", "VERDICT", "STATUS", "UPDATED", "FAILED", "SKIPPED", "MESSAGE"]
    assert second.split()[:7] == ["shop", "web", "InProgress", "RollingOut", "34/117", "0", "3"]
    assert second.endswith(":eyes: run")
    assert third.split()[:4] == ["-", "cluster/mesh", "InProgress", "-"]
    assert "\x1b" not in "".join(lines)


# Going back


@given(spec=strategies.specs())
def test_putting_the_words_back_makes_the_same_revision(spec: Json) -> None:
    manifest = a_policy() | {"spec": spec}
    words = decode_policy(manifest).words
    other = a_policy(sidecars=[a_sidecar("other")], priority=7, volumes=[{"name": "x", "emptyDir": {}}])["spec"]
    restored = with_words(other | {"rollout": {"maxConcurrent": 3}}, words)
    assert live_name(WEB, {"spec": restored}) == revision_name(WEB, words)
    assert author_words(restored) == words
    assert (restored["selector"], restored["rollout"]) == (other["selector"], {"maxConcurrent": 3})


def a_past(
    tag: str, since: int, *, completed: bool = True, with_its_words: bool = True, restarted: str = ""
) -> HistoryEntry:
    manifest = a_policy(sidecars=[a_sidecar(container={"image": f"example.test/proxy:{tag}"})])
    manifest["metadata"]["annotations"] = {names.RESTARTED_AT: restarted}
    policy = decode_policy(manifest)
    revision = offline(policy)
    stored = StoredRevision(
        revision=revision,
        object_name=object_name(WEB, revision.name),
        number=since,
        since=f"2026-01-01T00:00:0{since}Z",
        completed=f"2026-01-01T00:00:0{since}Z" if completed else "",
        completion=since if completed else 0,
    )
    body = to_controller_revision(stored, policy=policy, namespace="shop")
    if not with_its_words:
        del body["data"]["words"]
    return HistoryEntry(stored=stored, words=words_of(body))


def test_a_stored_revision_keeps_its_authors_words() -> None:
    past = a_past("1", 1)
    assert past.words is not None
    assert revision_name(WEB, past.words) == past.name
    assert a_past("1", 1, with_its_words=False).words is None


def test_words_that_are_not_those_of_the_revision_are_none() -> None:
    policy = decode_policy(a_policy())
    stored = StoredRevision(revision=offline(policy), object_name="x", number=1, since="")
    body = to_controller_revision(stored, policy=policy, namespace="shop")
    assert words_of(body) == policy.words
    body["data"]["words"] = policy.words | {"priority": 9}
    assert words_of(body) is None


def test_the_default_is_what_was_rolled_out_completely_last() -> None:
    first, second, third = a_past("1", 1), a_past("2", 2), a_past("3", 3, completed=False)
    assert before([third, second, first], live=third.name) == second
    assert before([second, first], live=second.name) == first
    assert before([second, first], live="web-refused") == second
    assert before([first], live=first.name) is None


def test_undo_goes_past_a_restart_that_is_everywhere_and_takes_one_back_that_is_not() -> None:
    time = "2026-01-02T00:00:00Z"
    first, second, restarted = a_past("1", 1), a_past("2", 2), a_past("2", 3, restarted=time)
    assert before([restarted, second, first], live=restarted.name) == first
    assert before([restarted, second], live=restarted.name) is None
    half_way = a_past("2", 3, restarted=time, completed=False)
    assert before([half_way, second, first], live=half_way.name) == second
    assert restarted.words is not None and second.words is not None
    assert with_words({}, restarted.words) == with_words({}, second.words) == second.words


def test_undo_never_goes_to_what_was_halted_or_not_completed() -> None:
    first, second = a_past("1", 1), a_past("2", 2, completed=False)
    assert before([second, first], live=second.name) == first
    assert before([second, first], live=first.name) is None, "undo twice would bring back what has just failed"
    halt = Halt(id=f"{second.name}#2", reason="", since="2026-01-01T00:00:00Z")
    again = replace(second, stored=replace(second.stored, completed="2026-01-01T00:00:00Z", completion=2, halt=halt))
    assert before([again, first], live=first.name) is None


def test_a_revision_is_named_by_its_name_its_hash_or_its_object() -> None:
    past = [a_past("2", 2), a_past("1", 1)]
    wanted = past[1]
    for name in (wanted.name, wanted.name.removeprefix("web-"), f"sidepol-{wanted.name}"):
        assert named(past, WEB, name) is wanted
    with pytest.raises(click.ClickException, match=f"no revision 'nothing'; there is {past[0].name}, {wanted.name}"):
        named(past, WEB, "nothing")


@pytest.mark.parametrize(
    ("metadata", "who"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "web:sidecars.dev/SidecarPolicy:shop/web"}}, "Argo CD"),
        ({"labels": {"argocd.argoproj.io/instance": "web"}}, "Argo CD application web"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "the Flux Kustomization apps"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "apps"}}, "the Flux HelmRelease apps"),
        ({"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD"),
    ],
)
def test_who_brings_it_from_git_is_recognised(metadata: Json, who: str) -> None:
    assert who in (git_manager({"metadata": metadata}) or "")


def test_a_policy_of_a_person_or_of_helm_alone_is_not_taken_for_one_from_git() -> None:
    labels = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "web"}
    assert git_manager({"metadata": {"labels": labels, "managedFields": [{"manager": "helm"}]}}) is None


# Errors


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            NotFound(
                verb="list", what="sidecarpolicies.sidecars.dev shop/", message="404 Not Found: 404 page not found"
            ),
            "does not know sidecarpolicies.sidecars.dev: install the kinds first",
        ),
        (
            Rejected(
                verb="patch",
                what="sidecarpolicies.sidecars.dev shop/web",
                message='User "eve" cannot patch resource',
                status=403,
                reason="Forbidden",
            ),
            "forbidden to patch sidecarpolicies.sidecars.dev shop/web: ",
        ),
        (
            Rejected(
                verb="list",
                what="deployments.apps",
                message='User "eve" cannot list resource "deployments" in API group "apps" at the cluster scope',
                status=403,
                reason="Forbidden",
            ),
            "(kubectl auth can-i list deployments.apps -A)",
        ),
        (
            Transient(verb="get", what="x", message="Connection refused"),
            "no answer from the API server at https://server",
        ),
        (Transient(verb="get", what="x", message="Unauthorized", status=401), "log in again"),
        (Transient(verb="get", what="x", message="etcd", status=503), "is in trouble, try again"),
        (Conflict(verb="patch", what="x", message="changed", status=409), "try again"),
    ],
)
def test_an_error_says_what_where_and_what_to_do(error: ApiError, says: str) -> None:
    assert says in explanation(error, "https://server")


READING = ("status", "targets", "list", "history", "explain", "check")
VERBS = (*READING, "pause", "resume", "approve", "undo", "restart", "pin", "stop", "start", "release")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_those_that_write_a_dry_run(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert "--kubeconfig" in result.stdout
    assert ("--dry-run" in result.stdout) == (verb not in READING)
    assert COMMANDS[verb][1].endswith(".")


@given(value=st.text(alphabet="ab@/, ", max_size=12), added=st.lists(st.sampled_from(["a@1", "b@2"]), max_size=2))
def test_adding_to_a_list_twice_is_adding_once(value: str, added: list[str]) -> None:
    once = with_entries(value, added)
    assert with_entries(once, added) == once
    assert entries_of(once) == list(dict.fromkeys([*entries_of(value), *added]))


def test_the_page_names_every_verb_option_and_field() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    for verb in VERBS:
        assert re.search(rf"\| `{verb}[ `]", page), verb
        command = main.get_command(click.Context(main), verb)
        assert command is not None
        for option in (each for each in command.params if isinstance(each, click.Option)):
            assert any(spelt in page for spelt in option.opts), option.opts
    for standing in json_of([standing_of(A_BODY)])["policies"]:
        assert [field for field in standing if f"`policies[].{field}`" not in page and f"`.{field}`" not in page] == []
    assert [state for state in STATES if f"| {state} |" not in page] == []
