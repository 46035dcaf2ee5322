"""Lint finds every old-school trick where it stands, and nothing where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from click.testing import CliRunner

from sidecarpolicy.cli.lint_input import linted
from sidecarpolicy.cli.main import main
from sidecarpolicy.lint.findings import CODES, path_text
from sidecarpolicy.manifests import parse
from tests.lint.fixtures import MANIFESTS, Expected, all_manifests, expected

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "lint.md"
A_LOOP = MANIFESTS / "wait-loop" / "until-curl-one-line.yaml"


def found_in(file: Path) -> list[Expected]:
    return sorted(
        Expected(line=each.line, code=each.finding.code, sure=each.finding.sure, path=path_text(each.finding.path))
        for workload in linted(parse(file.read_text(), file.name))
        for each in workload.findings
    )


@pytest.mark.parametrize("file", all_manifests(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_manifest_has_the_findings_that_it_says_by_code_line_and_path_and_no_other(file: Path) -> None:
    found, wanted = found_in(file), expected(file)
    assert [(each.line, each.code, each.sure) for each in found] == [
        (each.line, each.code, each.sure) for each in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        assert one.path.endswith(other.path)


def test_every_code_has_manifests_in_which_it_is_found() -> None:
    assert {each.code for file in all_manifests() for each in expected(file)} == set(CODES)


def test_nothing_is_expected_in_a_near_miss() -> None:
    assert not [file for file in (MANIFESTS / "near-misses").iterdir() if expected(file)]


def test_every_code_has_a_section_in_the_docs_and_none_is_there_for_a_code_that_is_not() -> None:
    headings = {line.removeprefix("### ") for line in DOCS.read_text().splitlines() if line.startswith("### ")}
    assert headings == set(CODES)


def run(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["lint", *arguments], input=text, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_a_finding_is_told_in_the_way_of_compilers_and_the_exit_code_is_1() -> None:
    code, out, err = run(str(A_LOOP))
    assert code == 1
    assert out.startswith(f"{A_LOOP}:13: wait-loop: Deployment shop/cart: container cart waits for Istio's proxy")
    assert err == "1 workload: 1 finding in 1\n"


def test_nothing_found_is_exit_code_0() -> None:
    assert run(str(MANIFESTS / "near-misses")) == (0, "", "24 workloads: nothing found\n")


def test_standard_input_may_be_json() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {
            "containers": [
                {"name": "x", "image": "x:1", "command": ["sh", "-c", "until nc -z localhost 15021; do :; done; x"]}
            ]
        },
    }
    code, out, _ = run("-", text=json.dumps(body, indent=2))
    assert code == 1
    assert out.startswith("standard input:15: wait-loop: Pod x: container x waits for Istio's proxy at localhost:15021")


def test_what_is_not_sure_can_be_left_out_and_so_can_a_code() -> None:
    file = str(MANIFESTS / "sidecar-prestop-sleep" / "exec-sleep.yaml")
    assert run(file)[2] == "1 workload: 2 findings (1 not sure) in 1\n"
    assert run(file, "--sure")[2] == "1 workload: 1 finding in 1\n"
    assert run(file, "--sure", "--ignore", "sidecar-prestop-sleep")[0] == 0


def test_input_that_is_no_yaml_is_refused_with_the_line_and_nothing_is_printed() -> None:
    code, out, err = run("-", text="a: b\nc: [")
    assert (code, out) == (1, "")
    assert "standard input, line 3" in err


def test_a_code_that_is_none_is_wrong_usage() -> None:
    assert run(str(A_LOOP), "--ignore", "waitloop")[0] == 2


def test_json_has_the_documented_fields() -> None:
    code, out, _ = run(str(A_LOOP), "-o", "json")
    (finding,) = json.loads(out)["findings"]
    assert code == 1
    assert (finding["code"], finding["line"], finding["sure"]) == ("wait-loop", 13, True)
    assert finding["path"] == "spec.template.spec.containers[0].command[2]"
    assert finding["object"] == {"kind": "Deployment", "namespace": "shop", "name": "cart"}
    documented = {
        line.split("`")[1].removeprefix("findings[].")
        for line in DOCS.read_text().splitlines()
        if line.startswith("| `findings[].")
    }
    assert set(finding) == documented


def test_sarif_points_to_rules_and_lines() -> None:
    _, out, _ = run(str(MANIFESTS), "-R", "-o", "sarif")
    (report,) = json.loads(out)["runs"]
    rules = report["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == list(CODES)
    for result in report["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (place,) = result["locations"]
        assert place["physicalLocation"]["region"]["startLine"] >= 1
        assert Path(place["physicalLocation"]["artifactLocation"]["uri"]).exists()


def test_junit_counts_the_workloads_in_which_something_is_found() -> None:
    _, out, _ = run(str(MANIFESTS), "-R", "-o", "junit")
    suites = Xml.fromstring(out)
    for suite in suites:
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
    assert len(suites.findall(".//failure")) == sum(bool(expected(file)) for file in all_manifests())


def test_help_does_not_import_the_parser() -> None:
    program = (
        "import sys\nfrom sidecarpolicy.cli.main import main\n"
        "try:\n    main(['lint', '--help'])\nexcept SystemExit:\n    pass\n"
        "bad = {'tree_sitter', 'tree_sitter_bash', 'kopf', 'kubernetes', 'aiohttp', 'rich'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
