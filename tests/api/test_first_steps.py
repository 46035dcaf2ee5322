"""The first policy of README.md, command by command as they stand there, and the answers that it shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fleet import Fleet, traces

README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.long


def steps() -> Iterator[tuple[str, str]]:
    """Language and text of each block of `A first policy`, in their order."""
    section = README.read_text().partition("\n## A first policy\n")[2].partition("\n## ")[0]
    yield from re.findall(r"^```(\w*)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def kubectl(fleet: Fleet, text: str) -> None:
    """Run each line of *text*, in the test's namespace and in *fleet*'s cluster."""
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "kubectl"
        fleet.kubectl(*arguments)


def test_the_first_policy_of_the_readme_goes_as_it_says(fleet: Fleet, tmp_path: Path) -> None:
    (_, create), (_, manifest), (_, apply), (_, table), (_, delete) = steps()
    kubectl(fleet, create)
    hello = fleet.wait_for(lambda each: each.get("status", {}).get("availableReplicas") == 2, "hello")
    policy = yaml.safe_load(manifest)
    policy["metadata"]["namespace"] = fleet.namespace
    (tmp_path / "statsd.yaml").write_text(yaml.safe_dump(policy))
    first, watch = apply.splitlines()
    kubectl(fleet, first.replace("statsd.yaml", str(tmp_path / "statsd.yaml")))
    fleet.wait("RolloutComplete", "statsd")
    seen = fleet.kubectl(*shlex.split(watch.removesuffix(" --watch"))[1:]).stdout.splitlines()
    header, *rows = table.splitlines()
    assert seen[0].split() == header.split()
    assert seen[1].split()[:-1] == rows[-1].split()[:-1]  # but for the age
    injected = fleet.deployment("hello")["spec"]["template"]["spec"]["initContainers"]
    assert [(each["name"], each["restartPolicy"]) for each in injected] == [("statsd", "Always")]
    kubectl(fleet, delete)
    after = fleet.deployment("hello")
    assert after["spec"]["template"] == hello["spec"]["template"]
    assert traces([after]) == []
