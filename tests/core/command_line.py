"""Running `sidecarpolicy` over files in tests, as pipelines do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from click.testing import Result

from tests.builders import Manifest

Command = Callable[..., Result]
WriteFile = Callable[..., str]

A_CONFIG_MAP: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c"},
    "data": {"y": "on", "n": "1.10"},
}


def documents(result: Result) -> list[Any]:
    """The manifests that a command printed."""
    assert result.exit_code == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def assert_refused(result: Result, *problems: str, exit_code: int = 1) -> None:
    assert (result.exit_code, result.stdout) == (exit_code, "")
    for problem in problems:
        assert problem in result.stderr
    assert "nothing was printed" in result.stderr
