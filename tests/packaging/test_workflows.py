"""The workflows for CI and releases, checked with actionlint, since nothing here can run them.

It is built once into the cache, like the programs of a local cluster. It does not ask shellcheck and pyflakes: whether
a machine has those must not decide.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localcluster import binaries
from tests.packaging.rendering import ROOT

MODULE = "github.com/rhysd/actionlint"
ACTIONLINT = binaries.Source(
    name="actionlint",
    module=MODULE,
    packages={"actionlint": f"{MODULE}/cmd/actionlint"},
    place=Path(__file__).parent / "actionlint",
)
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def said_of(*workflows: Path) -> list[str]:
    """What actionlint finds, one line each."""
    program = binaries.require(["actionlint"], [ACTIONLINT])["actionlint"]
    command = [str(program), "-oneline", "-no-color", "-shellcheck=", "-pyflakes=", *map(str, workflows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_nothing_is_wrong_with_the_workflows() -> None:
    assert WORKFLOWS
    assert said_of(*WORKFLOWS) == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("github.event_name", "github.evnt_name", 'property "evnt_name" is not defined'),
        ("runs-on: ubuntu-latest", "runs_on: ubuntu-latest", 'unexpected key "runs_on"'),
        ("persist-credentials", "persist-credential", 'input "persist-credential" is not defined'),
    ],
)
def test_a_mistake_in_a_workflow_is_found(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    assert right in text
    copy = tmp_path / "ci.yml"
    copy.write_text(text.replace(right, wrong, 1))
    assert any(told in line for line in said_of(copy))
