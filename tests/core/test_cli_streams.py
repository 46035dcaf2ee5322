"""What a program meets in a shell: closed and full streams, pipes that end early, Ctrl-C, a server that is silent."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import yaml

from tests.builders import a_deployment, a_policy

PROGRAM = str(Path(sys.executable).with_name("sidecarpolicy"))
INTERRUPTED = 130
BROKEN_PIPE = 141
SOON = 8  # seconds: much less than an answer is waited for


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The arguments of a verb that take a policy and a Deployment."""
    for name, body in (("policy", a_policy()), ("app", a_deployment())):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
    return ["-p", str(tmp_path / "policy.yaml"), str(tmp_path / "app.yaml")]


def shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sidecarpolicy` as a shell does with such a redirection."""
    command = ["sh", "-c", f'exec "$0" "$@" {redirection}', PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


# Closed and full


@pytest.mark.parametrize("verb", ["eject", "lint", "migrate", "validate"])
def test_a_closed_standard_input_is_said_so(verb: str) -> None:
    done = shell("<&-", verb, "-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("standard input: must be open, and is closed: pipe manifests into it, or name a FILE")


@pytest.mark.parametrize("verb", ["eject", "fn"])
def test_where_no_manifest_is_named_a_closed_standard_input_is_wrong_usage(verb: str) -> None:
    done = shell("<&-", verb)
    assert done.returncode == 2
    assert "standard input" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_goes_nowhere(files: list[str], closed: str) -> None:
    done = shell(closed, "diff", *files)
    assert done.returncode == 1  # something would change
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["inject"]])
def test_a_full_disk_is_no_traceback_and_no_success(files: list[str], arguments: list[str]) -> None:
    done = shell(">/dev/full", *arguments, *(files if arguments == ["inject"] else []))
    assert done.returncode == 1
    assert done.stderr == "Error: standard output cannot be written: No space left on device\n"


# A pipe that ends early


@pytest.mark.parametrize("arguments", [["inject", "-o", "json"], ["inject"], ["diff"]])
def test_a_pipe_that_ends_early_ends_it_quietly(files: list[str], arguments: list[str]) -> None:
    carts = (yaml.safe_dump(a_deployment(f"cart-{number}")) for number in range(200))
    Path(files[-1]).write_text("---\n".join(carts))  # more than a pipe holds
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [PROGRAM, *arguments, *files], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=buffered
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (BROKEN_PIPE, "")


# Ctrl-C


def interrupted(running: subprocess.Popen[str]) -> tuple[int, str]:
    """Send SIGINT; return how it ended, and what it said."""
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=SOON)
    return running.returncode, said


def opened(path: Path) -> IO[str]:
    """Open a named pipe for writing: that succeeds when somebody reads it."""
    return path.open("w")


@pytest.mark.parametrize("verb", ["eject", "lint", "validate"])
def test_ctrl_c_while_input_is_read_is_130_without_a_traceback(tmp_path: Path, verb: str) -> None:
    pipe = tmp_path / "app.yaml"
    os.mkfifo(pipe)
    with subprocess.Popen([PROGRAM, verb, str(pipe)], stderr=subprocess.PIPE, text=True) as running, opened(pipe):
        assert interrupted(running) == (INTERRUPTED, "\n")


def test_ctrl_c_during_the_imports_is_the_end_without_a_word(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "click.py").write_text(f"open({str(pipe)!r}).read()\n")  # imported first, and it takes its time
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    with (
        subprocess.Popen([PROGRAM, "status"], stderr=subprocess.PIPE, text=True, env=environ) as running,
        opened(pipe),
    ):
        assert interrupted(running) == (-signal.SIGINT, "")


# A server that does not answer


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """A kubeconfig for a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        path = tmp_path / "config"
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{listening.getsockname()[1]}"}}],
        }
        path.write_text(json.dumps(config))
        yield str(path)


@pytest.mark.parametrize(
    "arguments", [["status"], ["list"], ["check"], ["explain", "cart"], ["orphans"], ["release", "web"]]
)
def test_ctrl_c_waits_for_no_answer_and_a_terminal_is_told_what_is_waited_for(
    silent: str, arguments: list[str]
) -> None:
    terminal, behind = pty.openpty()
    command = [PROGRAM, *arguments, f"--kubeconfig={silent}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=behind, text=True) as running:
        os.close(behind)
        assert "waiting for http://127.0.0.1:" in read_until(terminal, "…")
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=SOON) == INTERRUPTED
    assert "Traceback" not in read_until(terminal, "")
    os.close(terminal)


def read_until(terminal: int, word: str) -> str:
    """What is shown on a terminal, up to *word*; empty: to the end."""
    shown, deadline = "", time.monotonic() + 20
    while (not word or word not in shown) and time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        try:
            data = os.read(terminal, 4096).decode() if ready else ""
        except OSError:  # nobody has its other end any more
            break
        if not word and not data:
            break
        shown += data
    return shown


def test_a_server_that_does_not_answer_in_time_is_named_with_what_to_look_at(silent: str) -> None:
    done = shell("", "status", f"--kubeconfig={silent}", "--request-timeout=1s")
    assert done.returncode == 1
    assert "no answer from the API server at http://127.0.0.1:" in done.stderr
    assert "no answer within 1 s; is it up, and is this the cluster that was meant" in done.stderr
