"""`kubectl get sidecarpolicies --watch`, shown as one line per change."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.markup import escape

from deploy.demo.screen import Screen

HEADER = ("NAME", "READY", "STATUS", "MATCHED", "UPDATED", "AVAILABLE", "FAILED", "SKIPPED")
_WIDTHS = (6, 9, 18, 9, 9, 11, 8, 8)
_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}
_SETTLE = 5.0
"""Seconds for which the last row may be on its way when something else already knows of the change."""


@dataclass(frozen=True, slots=True)
class Row:
    """What kubectl printed for a policy at one moment, without its age."""

    cells: tuple[str, ...]

    def __getitem__(self, column: str) -> str:
        return self.cells[HEADER.index(column)]


class Columns:
    """Follows the columns while the block lasts; *rows* holds every row that differed from the one before.

    The columns of a policy that the operator has not looked at yet are empty: they are shown when they say something.
    """

    def __init__(self, watch: subprocess.Popen[str], screen: Screen) -> None:
        self.rows: list[Row] = []
        self._watch = watch
        self._screen = screen
        self._begun = time.monotonic()
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._screen.markup(f"[dim]{'':9}{_aligned(HEADER)}[/]")
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.terminate()
        self._watch.wait()
        self._reader.join()

    def settle(self, until: Callable[[Row], bool]) -> Row | None:
        """Return the last row as soon as *until* likes it, or when it should have come long ago."""
        with self._arrived:
            self._arrived.wait_for(lambda: bool(self.rows) and until(self.rows[-1]), _SETTLE)
            return self.rows[-1] if self.rows else None

    def _read(self) -> None:
        assert self._watch.stdout is not None
        for line in self._watch.stdout:
            row = Row(tuple(line.split()[: len(HEADER)]))
            if len(line.split()) <= len(HEADER) or row.cells == HEADER:
                continue
            with self._arrived:
                if self.rows and self.rows[-1] == row:
                    continue
                self.rows.append(row)
                self._show(row)
                self._arrived.notify_all()

    def _show(self, row: Row) -> None:
        colour = _COLOURS.get(row["READY"], "default")
        since = f"+{time.monotonic() - self._begun:.1f} s"
        self._screen.markup(f"[dim]{since:9}[/][{colour}]{escape(_aligned(row.cells))}[/]")


def _aligned(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()
