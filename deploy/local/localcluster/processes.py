"""Processes of the operating system: who they are, whether they live, how they end.

A process id alone is no identity: it is used again. Here a process is its id, the tick it started
at, and the boot it belongs to, so that nothing is ever signalled that a cluster did not start.

Every process of a cluster carries the cluster's folder in its environment (``MARKER``) and hands it
to its children. That finds what a crashed starter did not get to write down, and containerd's shims,
which outlive containerd on purpose.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARKER = "SIDECARPOLICY_LOCAL_CLUSTER"
"""The environment variable that every process of a cluster carries; its value is the cluster's folder."""

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process, this one and no later one with the same id."""

    pid: int
    started: int
    """Clock ticks between boot and the start of the process."""
    boot: str
    """The kernel's id of the boot it runs in."""

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not, unless threads of it are still ending: they hold its ports."""
        stat = _stat(self.pid)
        if stat is None or stat[1] != self.started or self.boot != boot():
            return False
        return stat[0] not in "ZX" or _threads(self.pid) > 1

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if the process is alive; otherwise do nothing."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def boot() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> Process | None:
    """Return the living process that has this id now, if there is one."""
    stat = _stat(pid)
    if stat is None or stat[0] in "ZX":
        return None
    return Process(pid=pid, started=stat[1], boot=boot())


def spawn(command: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path) -> Process:
    """Start *command* in a session of its own, with nothing to read and its output appended to *log*.

    :raises OSError: if it cannot be started.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    child.returncode = 0  # nobody waits for it here: reap() does
    stat = _stat(child.pid)  # a child that died at once is a zombie, and has one too
    return Process(pid=child.pid, started=stat[1] if stat else -1, boot=boot())


def marked(folder: Path) -> list[Process]:
    """Return the living processes that belong to the cluster in *folder*, by their environment."""
    wanted = f"{MARKER}={folder}".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # gone meanwhile, or somebody else's
            continue
        if wanted in environment.split(b"\0") and (process := identify(int(entry.name))):
            found.append(process)
    return found


def stop(processes: Iterable[Process], *, grace: float) -> list[Process]:
    """End *processes*: TERM, then KILL after *grace* seconds. Return those that live even then."""
    processes = list(processes)
    for process in processes:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)  # one that is paused would not hear it
    if not until(lambda: not _living(processes), grace):
        for process in processes:
            process.signal(signal.SIGKILL)
        until(lambda: not _living(processes), 10)
    return _living(processes)


def until(happened: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """Ask *happened* again and again for at most *seconds*; return its last answer."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()) and time.monotonic() < deadline:
        time.sleep(every)
    return answer


def reap(processes: Iterable[Process]) -> None:
    """Take the exit code of every one of *processes* that is a dead child of this process."""
    for process in processes:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _living(processes: Iterable[Process]) -> list[Process]:
    return [process for process in processes if process.alive]


def _threads(pid: int) -> int:
    """Return how many threads a process id has, a dead first one included."""
    try:
        return sum(1 for _ in (_PROC / str(pid) / "task").iterdir())
    except OSError:
        return 0


def _stat(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the start tick of a process id."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return fields[0], int(fields[19])
