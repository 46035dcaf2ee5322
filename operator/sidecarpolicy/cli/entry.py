"""Where the program begins: so early that an interruption while everything is imported ends it without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Run `sidecarpolicy`. Ctrl-C during the imports is the signal's own end: a shell sees 130."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sidecarpolicy.cli.main import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    command(prog_name="sidecarpolicy")
