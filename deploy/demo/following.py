"""`kubectl logs --follow`, begun before a Pod is deleted: a log goes with its Pod."""

from __future__ import annotations

import subprocess
import threading

from deploy.demo.witness import Unwitnessed


class Log:
    """One container's log, read in the background until the container has ended."""

    def __init__(self, process: subprocess.Popen[str], what: str) -> None:
        self._process = process
        self._what = what
        self._lines: list[str] = []
        self._begun = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def begun(self, seconds: float) -> None:
        """Return when the log is being followed; raise Unwitnessed if it is not in time."""
        if not self._begun.wait(seconds) or not self._lines:
            raise Unwitnessed(f"{self._what}: no line in {seconds:.0f} s")

    def whole(self, seconds: float) -> str:
        """Return all of it when the container has ended; raise Unwitnessed if it does not in time."""
        self._reader.join(seconds)
        if self._reader.is_alive():
            raise Unwitnessed(f"{self._what} still writes {seconds:.0f} s later; its last line: {self._lines[-1:]}")
        return "".join(self._lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            self._begun.set()
        self._begun.set()
        self._process.wait()
