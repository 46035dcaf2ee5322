"""What a local cluster tells the person in front of it.

One line per step on standard error, so that standard output stays free for what a command prints.
"""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print one line of narration at once."""
    print(text, file=sys.stderr, flush=True)
