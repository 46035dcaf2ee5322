"""Where the program begins: so early that an interruption while everything is imported ends it without a traceback.

And where it ends: an interruption waits for nobody. Requests that are under way in other threads would hold the
interpreter until they are answered.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Run `sidecarpolicy`. Ctrl-C during the imports is the signal's own end: a shell sees 130."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_what_is_closed()
    from sidecarpolicy.cli.main import main as command

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        command(prog_name="sidecarpolicy")
    except KeyboardInterrupt:
        _leave_at_once()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave_at_once()
        raise


def _open_what_is_closed() -> None:
    """Let output that somebody has closed (`>&-`) go nowhere: Python has no stream for it."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # open to the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _leave_at_once() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass
    os._exit(INTERRUPTED)
