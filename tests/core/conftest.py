"""Property tests are kept small here, so that the whole directory runs in seconds.

HYPOTHESIS_PROFILE=long looks harder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings

from sidecarpolicy.cli.main import main
from tests.core.command_line import Command, WriteFile

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("core", max_examples=50, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("long", max_examples=500, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "core"))


@pytest.fixture
def command() -> Command:
    """Runs `sidecarpolicy` with arguments; an unexpected exception fails the test."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes manifests into a file, as YAML unless its name says otherwise, and returns its path."""

    def to_file(name: str, *bodies: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        as_text = json.dumps if name.endswith(".json") else (lambda body: yaml.safe_dump(body, sort_keys=False))
        path.write_text("---\n".join(as_text(body) for body in bodies))
        return str(path)

    return to_file
