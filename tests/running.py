"""The operator as its users run it: a process of its own, under its own ServiceAccount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.polling import poll

STOP_SECONDS = 40.0


class Operator:
    """One `sidecarpolicy run`. *arguments* are added to its command line."""

    running: ClassVar[list[Operator]] = []
    """Those that were started and not stopped."""

    def __init__(self, kubeconfig: Path, *arguments: str) -> None:
        self._command = [
            str(Path(sys.executable).with_name("sidecarpolicy")),
            "run",
            f"--kubeconfig={kubeconfig}",
            "--health-probe-bind-address=0",
            "--metrics-bind-address=0",
            "--lease-seconds=6",
            *arguments,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(tempfile.mkstemp(prefix="operator-", suffix=".log")[1])

    @classmethod
    def stop_all(cls) -> None:
        """Stop those of other tests; whoever needs that of the session starts it again."""
        for each in list(cls.running):
            each.stop()

    @property
    def log(self) -> str:
        """Everything it has printed since its last start."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it and wait until it leads and has looked at what is there."""
        self.spawn()
        poll(self._leads, timeout=150)

    def spawn(self, *arguments: str) -> None:
        """Start it and wait for nothing. *arguments* are added to its command line this time."""
        Operator.running.append(self)
        with self._log.open("wb") as log:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("SIDECARPOLICY_RUN")}
            self._process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def _leads(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the operator has ended with {self._process.returncode}:\n{self.log}")
        return "leading: looking at" in self.log

    @property
    def started(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self._process is None:
            return 0
        Operator.running.remove(self)
        self._process.send_signal(how)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._process = None
        return code

    def restart(self) -> None:
        """Stop it, orderly, and start it again."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.forget()

    def forget(self) -> None:
        """Remove its log."""
        self._log.unlink(missing_ok=True)
