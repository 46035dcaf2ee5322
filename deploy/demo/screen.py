"""What a person sees: steps, commands, and what came of them. Without a terminal, or with NO_COLOR, plain text."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from deploy.demo.promises import BrokenPromise, Promises

INDENT = "   "
MOST_COLUMNS = 110


class Screen:
    """Prints the demo's output, each line as it is (no wrapping: what a person may copy stays in one piece)."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._begun = time.monotonic()
        self._step = 0

    def _print(self, markup: str = "") -> None:
        self._console.print(markup, soft_wrap=True)

    def step(self, title: str, why: str) -> None:
        """Begin a step: what happens, and why it matters."""
        self._step += 1
        self._print()
        self._print(f"[bold cyan]{self._step}. {escape(title)}[/]")
        width = min(self._console.width, MOST_COLUMNS) - len(INDENT)
        for line in textwrap.wrap(why, width):
            self._print(f"{INDENT}{escape(line)}")

    def command(self, *commands: str) -> None:
        """Show what one would type."""
        self._print()
        for command in commands:
            self._print(f"   [bold]$ {escape(command)}[/]")

    def text(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.rstrip().splitlines():
            self._print(f"     {escape(line)}")

    def markup(self, line: str) -> None:
        """Show one line that holds markup."""
        self._print(f"     {line}")

    def note(self, text: str) -> None:
        """Say something about what is to be seen above."""
        self._print(f"   [dim]{escape(text)}[/]")

    def held(self, text: str) -> None:
        """Say that a promise held."""
        self._print(f"   [green]✓[/] {escape(text)}")

    def warn(self, text: str) -> None:
        """Say what cannot be shown here."""
        self._print(f"   [bold yellow]NOT SHOWN[/] [yellow]{escape(text)}[/]")

    def summary(self, promises: Promises) -> None:
        """List what held and what could not be shown, and say how long it took."""
        self._print()
        self._print("[bold cyan]What held[/]")
        for each in promises.held:
            self._print(
                f"   [green]✓[/] {escape(each.promise)}" + (f" [dim]({escape(each.detail)})[/]" * bool(each.detail))
            )
        for each in promises.not_shown:
            self._print(f"   [bold yellow]–[/] [yellow]not shown: {escape(each.promise)} ({escape(each.detail)})[/]")
        self._print()
        count = len(promises.held)
        rest = f", {len(promises.not_shown)} not shown" if promises.not_shown else ""
        self._print(f"[bold green]{count} of {count} promises held[/]{rest}, in {self.seconds:.0f} s.")

    def broken(self, error: BrokenPromise, operator_log: Iterable[str]) -> None:
        """Say which promise failed, what was seen, and what the operator said last."""
        self._print()
        self._print(f"[bold red]✗ {escape(error.promise)}[/]")
        self._print("   seen:")
        self.text(error.seen)
        self._print("   the operator's last lines:")
        self.text("\n".join(line[:240] for line in operator_log) or "(none)")
        self._print("   KEEP=1 make demo leaves everything as it is then, to be looked at.")

    def problem(self, text: str) -> None:
        """Say why something cannot be done."""
        self._print(f"[bold yellow]{escape(text)}[/]")

    def how_to_use(self, lines: Iterable[str]) -> None:
        """Say what can be done with what is left running."""
        self._print()
        self._print("[bold cyan]Left running[/] (KEEP=1)")
        for line in lines:
            self._print(f"   {escape(line)}")

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._begun
