"""A line in the terminal while an API server takes its time, so that nobody takes the program for dead."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 20.0  # seconds for one answer
AFTER = 1.0  # seconds without an answer
CLEAR = "\r\x1b[K"


class Notice:
    """Shown on standard error, where that is a terminal, while requests are under way; gone with their answers."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._under_way = 0
        self._timer: threading.Timer | None = None
        self._shown = False
        self._lock = threading.Lock()

    @contextmanager
    def while_waiting(self) -> Iterator[None]:
        """Show the line where what is inside takes longer than a second."""
        if not sys.stderr.isatty():
            yield
            return
        self._begin()
        try:
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            self._under_way += 1
            if self._timer is None:
                self._timer = threading.Timer(AFTER, self._show)
                self._timer.daemon = True
                self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._under_way and not self._shown:
                self._shown = True
                sys.stderr.write(self._text)
                sys.stderr.flush()

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._under_way:
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._shown:
                self._shown = False
                sys.stderr.write(CLEAR)
                sys.stderr.flush()
