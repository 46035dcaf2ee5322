"""What a process costs, from /proc: CPU in seconds, memory in MiB. And the operator as a process that is measured."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.polling import poll

TICK = os.sysconf("SC_CLK_TCK")
READY = "leading: looking at"
QUIET_SECONDS = 1.0
QUIET_CPU = 0.03
"""A process that used no more than so many seconds of CPU within QUIET_SECONDS has settled."""
STOP_SECONDS = 30.0
PRIORITY = "BENCH_NICE"
"""Variable: the nice value of everything that takes part; below 0 needs root."""
PROGRAM = "BENCH_OPERATOR"
"""Variable: the `sidecarpolicy` of another checkout, to be measured by this one's benchmarks."""
PROFILE = "BENCH_PROFILE"
"""Variable: a folder into which py-spy writes what the operator did in the measured part of each round."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid: int, line: str = "VmRSS") -> float:
    """VmRSS (resident now) or VmHWM (the most there ever was) of a process, in MiB."""
    for each in Path(f"/proc/{pid}/status").read_text().splitlines():
        if each.startswith(f"{line}:"):
            return int(each.split()[1]) / 1024
    raise LookupError(f"no {line} for process {pid}")


def prefer(pid: int) -> None:
    """Let the process, and its session, have the priority that PRIORITY asks for; without it, nothing happens.

    On a machine that others keep busy. Linux weighs sessions first (autogroup), and then processes within each.
    """
    wanted = os.environ.get(PRIORITY)
    if not wanted:
        return
    os.setpriority(os.PRIO_PROCESS, pid, int(wanted))
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text(wanted)


def await_quiet(pid: int, *, timeout: float = 600.0) -> None:
    """Return when the process has settled."""
    deadline = time.monotonic() + timeout
    while True:
        before = cpu_seconds(pid)
        time.sleep(QUIET_SECONDS)
        if cpu_seconds(pid) - before <= QUIET_CPU:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} has not settled in {timeout:.0f} s")


@functools.cache
def _help() -> str:
    return subprocess.run([program(), "run", "--help"], capture_output=True, text=True, check=True).stdout


def known_switch(*spellings: str) -> str | None:
    """The first of *spellings* that `sidecarpolicy run` of this commit knows."""
    return next((each for each in spellings if f"{each} " in _help()), None)


def _switches() -> list[str]:
    """What switches off its listeners: one machine runs several of them. Spelt as this commit spells them."""
    listeners = [
        known_switch("--health", "--health-probe-bind-address"),
        known_switch("--metrics", "--metrics-bind-address"),
    ]
    return [f"{each}=" for each in listeners if each is not None]


def program() -> Path:
    """The `sidecarpolicy` that is measured: this checkout's, or that of PROGRAM."""
    return Path(os.environ.get(PROGRAM) or Path(sys.executable).with_name("sidecarpolicy"))


class Program:
    """A process of the operator or of what it is compared with; ended on exit."""

    def __init__(self, command: list[str], *, ready: str) -> None:
        self._command, self._ready = command, ready
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(tempfile.mkstemp(prefix="bench-", suffix=".log")[1])
        self.started_at = 0.0
        """Seconds since the epoch."""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything it has printed since its last start."""
        return self._log.read_text()

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return cpu_seconds(self.pid)

    def launch(self) -> Self:
        """Start it and return at once."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SIDECARPOLICY_RUN")}
        with self._log.open("wb") as log:
            self.started_at = time.time()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=kept
            )
        return self

    def start(self, *, timeout: float = 600.0) -> Self:
        """Start it and wait until its log says that it is ready."""
        self.launch()
        poll(self.is_ready, timeout=timeout)
        return self

    def is_ready(self) -> bool:
        """Whether its log says so; raises RuntimeError where it has ended."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self._command[0]} has ended:\n{self.log[-4000:]}")
        return self._ready in self.log

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; one that does not end in time is killed."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            self._log.unlink(missing_ok=True)


def operator(kubeconfig: Path, *arguments: str) -> Program:
    """The operator of this checkout, not started yet; *arguments* are added to its command line."""
    command = [str(program()), "run", f"--kubeconfig={kubeconfig}"]
    return Program([*command, *_switches(), *arguments], ready=READY)


class Profile:
    """Where PROFILE is set, py-spy beside the measured part of a round; otherwise nothing.

    It stops the process for a moment a hundred times a second, so the figures of such a run are not to be compared.
    """

    def __init__(self, pid: int, called: str) -> None:
        folder = os.environ.get(PROFILE)
        self._file = Path(folder) / f"{called}.stacks" if folder else None
        self._pid = pid
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            spy = str(Path(sys.executable).with_name("py-spy"))
            command = [spy, "record", "--pid", str(self._pid), "--format", "raw", "--output", str(self._file)]
            self._process = subprocess.Popen(
                [*command, "--duration", "unlimited"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._file is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_SECONDS)
            print(told(self._file.read_text()))
            print(f"all stacks: {self._file} (flamegraph.pl and speedscope read it)", flush=True)


_FRAMES = ("(click/", "(asyncio/", "(threading.py)", "(concurrent/futures/", "(sidecarpolicy)", "(sidecarpolicy/cli/")
"""Where every stack begins: they say nothing about what is done there."""


def told(stacks: str, *, lines: int = 25) -> str:
    """The functions of py-spy's raw stacks with the most samples: in them alone, and in all that they call."""
    alone: dict[str, int] = {}
    within: dict[str, int] = {}
    total = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        functions = [each.rpartition(":")[0] + ")" if ":" in each else each for each in stack.split(";")]
        total += int(count)
        alone[functions[-1]] = alone.get(functions[-1], 0) + int(count)
        for each in {each for each in functions if not any(frame in each for frame in _FRAMES)}:
            within[each] = within.get(each, 0) + int(count)
    return "\n".join(
        [*_ranked("in the function alone", alone, total, lines), *_ranked("with what it calls", within, total, lines)]
    )


def _ranked(title: str, counts: dict[str, int], total: int, lines: int) -> list[str]:
    by_count: Callable[[str], int] = lambda each: counts[each]  # noqa: E731
    first = sorted(counts, key=by_count, reverse=True)[:lines]
    return [f"-- {title}, {total} samples", *(f"{counts[each] / max(total, 1):6.1%}  {each}" for each in first)]
