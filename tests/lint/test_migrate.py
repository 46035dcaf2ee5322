"""Migrate makes native sidecars of old-school ones where that is certain, and touches nothing else.

A folder of `migrations/` holds a file before and after, and what is said about it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from sidecarpolicy.cli.main import main
from sidecarpolicy.lint import Roles, lint, pods
from sidecarpolicy.lint.asking import quit_call
from sidecarpolicy.lint.shell import parse as parse_shell
from sidecarpolicy.manifests import parse
from sidecarpolicy.migrate import migrate
from sidecarpolicy.migrate.scripts import without
from tests.lint.fixtures import MANIFESTS, all_manifests

CASES = sorted(each for each in (Path(__file__).parent / "migrations").iterdir() if each.is_dir())
BEFORE = sorted([*all_manifests(), *(each / "before.yaml" for each in CASES)])
A_CASE = Path(__file__).parent / "migrations" / "gate-from-readiness"
DOCS = Path(__file__).parents[2] / "docs" / "migrate.md"
CHANGES_NEEDED = 3


def run(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["migrate", *arguments], input=text, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def workloads(text: str) -> list[dict[str, Any]]:
    return [each.value for each in parse(text, "x").objects()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_becomes_what_is_beside_it(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    code, out, err = run("before.yaml")
    assert (code, out) == (0, (case / "after.yaml").read_text())
    assert err == (case / "report.txt").read_text()


@pytest.mark.parametrize("file", BEFORE, ids=name_of)
def test_migrating_twice_changes_nothing_more(file: Path) -> None:
    _, once, _ = run(str(file))
    assert run("-", text=once)[:2] == (0, once)


@pytest.mark.parametrize("file", BEFORE, ids=name_of)
def test_lint_finds_nothing_after_it_that_it_did_not_find_before(file: Path) -> None:
    _, after, _ = run(str(file))
    for old, new in zip(workloads(file.read_text()), workloads(after), strict=True):
        assert {each.code for each in lint(new)} <= {each.code for each in lint(old)}


@pytest.mark.parametrize("file", BEFORE, ids=name_of)
def test_no_container_is_lost_and_only_certain_sidecars_move(file: Path) -> None:
    for body in workloads(file.read_text()):
        migration = migrate(body)
        if migration is None:
            continue
        before, after = pods(migration.before), pods(migration.after)
        assert before is not None
        assert after is not None
        assert sorted(each.name for each in before.containers) == sorted(each.name for each in after.containers)
        moved = {each.name for each in before.regular} - {each.name for each in after.regular}
        roles = Roles(before)
        assert moved == {each.name for each in migration.moves}
        assert all(roles.is_certain(each) for each in before.regular if each.name in moved)
        assert after.regular


@pytest.mark.parametrize("file", BEFORE, ids=name_of)
def test_an_application_keeps_its_image_its_ports_and_its_own_hooks(file: Path) -> None:
    for body in workloads(file.read_text()):
        if (migration := migrate(body)) is None:
            continue
        before, after = pods(migration.before), pods(migration.after)
        assert before is not None
        assert after is not None
        old = {each.name: each.body for each in before.containers}
        for container in after.regular:
            kept = {key: value for key, value in container.body.items() if key not in {"command", "args", "lifecycle"}}
            assert kept == {key: old[container.name][key] for key in kept}


def test_what_has_no_old_school_sidecar_stays_byte_for_byte() -> None:
    text = "# x\nkind:   Service\napiVersion: v1\nmetadata: {name: 'a'}   # y\n---\nanything: [1,  2]"
    assert run("-", text=text)[:2] == (0, text)


@pytest.mark.parametrize("name", ["named-after-a-sidecar", "parts-of-one-application"])
def test_an_application_stays_where_it_is_though_others_have_its_image_as_a_sidecar(name: str) -> None:
    assert run("--check", str(MANIFESTS / "near-misses" / f"{name}.yaml"))[:2] == (0, "")


def test_a_proxy_that_waits_for_its_own_known_port_gets_a_probe_of_it() -> None:
    _, out, _ = run(str(MANIFESTS / "first-container-hold" / "known-port-in-no-manifest.yaml"))
    (body,) = workloads(out)
    (envoy,) = body["spec"]["template"]["spec"]["initContainers"]
    assert envoy["startupProbe"]["exec"]["command"] == ["sh", "-c", "curl -fs localhost:9901/ready"]
    assert "lifecycle" not in envoy


def test_line_ends_and_a_missing_last_line_break_stay() -> None:
    text = (A_CASE / "before.yaml").read_text().rstrip("\n").replace("\n", "\r\n")
    result = CliRunner().invoke(main, ["migrate", "-"], input=text.encode(), catch_exceptions=False)
    wanted = (A_CASE / "after.yaml").read_text().rstrip("\n").replace("\n", "\r\n")
    assert result.stdout_bytes == wanted.encode()


def test_json_stays_json() -> None:
    body = yaml.safe_load((CASES[0] / "before.yaml").read_text())
    code, out, _ = run("-", text=json.dumps(body, indent=2))
    assert code == 0
    assert json.loads(out) == yaml.safe_load((CASES[0] / "after.yaml").read_text())


def test_check_says_by_its_exit_code_whether_changes_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text((A_CASE / "before.yaml").read_text())
    assert run("--check", str(file))[:2] == (CHANGES_NEEDED, "")
    assert run("--in-place", str(file))[:2] == (0, "")
    assert run("--check", str(file))[:2] == (0, "")


def test_files_are_written_in_place_with_their_mode_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    file, other = tmp_path / "app.yaml", tmp_path / "other.yaml"
    file.write_text((A_CASE / "before.yaml").read_text())
    file.chmod(0o640)
    other.write_text("a: b\n")
    unchanged = other.stat().st_ino
    assert run("-i", str(tmp_path))[0] == 0
    assert file.read_text() == (A_CASE / "after.yaml").read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert (sorted(tmp_path.iterdir()), other.stat().st_ino) == ([file, other], unchanged)


def test_with_one_bad_file_none_is_written(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.yaml", tmp_path / "b.yaml"
    good.write_text((A_CASE / "before.yaml").read_text())
    bad.write_text("a: [")
    code, out, err = run("-i", str(tmp_path))
    assert (code, out) == (1, "")
    assert "b.yaml, line" in err
    assert good.read_text() == (A_CASE / "before.yaml").read_text()


def test_a_diff_shows_both_sides() -> None:
    code, out, _ = run("--diff", str(A_CASE / "before.yaml"))
    assert code == 0
    assert "-                    until curl -fs http://localhost:9901/ready; do\n" in out
    assert "+                restartPolicy: Always\n" in out


def test_standard_input_cannot_be_written_in_place() -> None:
    assert run("-i", "-", text="a: b")[0] == 2
    assert run("--check", "--diff", "-", text="a: b")[0] == 2


def test_json_has_the_documented_fields() -> None:
    _, out, _ = run("-o", "json", str(A_CASE.parent / "sentinel-file" / "before.yaml"))
    (workload,) = json.loads(out)["workloads"]
    documented = {line.split("`")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `workloads[].")}
    found = {f"workloads[].{each}" for each in workload}
    found |= {f"workloads[].{each}[].{key}" for each in ("done", "notes") for key in workload[each][0]}
    assert documented == found - {"workloads[].done", "workloads[].notes"}


QUIT = "curl -X POST localhost:15020/quitquitquit"


@pytest.mark.parametrize(
    ("script", "left"),
    [
        (f"/app; {QUIT}", "/app"),
        (f"/app && {QUIT}", "/app"),
        (f"/app; {QUIT} || true", "/app"),
        (f"/app\n{QUIT}\nexit 3\n", "/app\nexit 3\n"),
        (f"/app\n  {QUIT}   # done\n", "/app\n"),
        (f"trap '{QUIT}' EXIT; /app", "/app"),
        (f"f() {{ {QUIT}; }}\ntrap f EXIT\n/app\n", "/app\n"),
        (f"{QUIT}", ""),
        (f"if /app; then {QUIT}; fi", None),
        (f"/app || {QUIT}", None),
        (f"/app & {QUIT}", "/app &"),
        (f"x=$({QUIT}); /app", None),
        (f'echo "{QUIT}"; /app', None),
        (f"/app; ({QUIT}", None),
    ],
)
def test_a_call_leaves_a_script_with_what_ties_it_to_the_rest_or_stays(script: str, left: str | None) -> None:
    assert without(parse_shell(script), lambda each: quit_call(each) is not None) == left
