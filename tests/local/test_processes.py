"""Who a process is, and that it ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import pytest

from localcluster import processes
from localcluster.processes import MARKER, Process


def spawn(folder: Path, script: str) -> Process:
    command = [sys.executable, "-c", script]
    environment = {MARKER: str(folder)}
    return processes.spawn(command, log=folder / "log", environment=environment, folder=folder)


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    return spawn(tmp_path, "import time; time.sleep(60)")


def test_a_recycled_process_id_is_another_process() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    assert me.alive
    assert not dataclasses.replace(me, started=me.started - 1).alive
    assert not dataclasses.replace(me, boot="another").alive


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    process = spawn(tmp_path, "pass")
    assert processes.until(lambda: not process.alive, 10)
    processes.reap([process])
    assert not Path("/proc", str(process.pid)).exists()


def test_what_ignores_term_is_killed(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    process = spawn(tmp_path, script)
    assert processes.until(lambda: (tmp_path / "log").read_text() != "", 10)
    assert processes.stop([process], grace=0.1) == []
    assert not process.alive
    processes.reap([process])


def test_what_is_paused_hears_that_it_should_end(sleeper: Process) -> None:
    sleeper.signal(signal.SIGSTOP)
    assert processes.stop([sleeper], grace=5) == []
    processes.reap([sleeper])


def test_the_mark_finds_the_children_too(tmp_path: Path) -> None:
    parent = spawn(
        tmp_path, "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    assert processes.until(lambda: len(processes.marked(tmp_path)) == 2, 10)
    family = processes.marked(tmp_path)
    assert parent in family
    assert processes.stop(family, grace=1) == []
    processes.reap(family)
    assert processes.marked(tmp_path) == []
