"""Free ports on the loopback address, for as many control planes as fit.

Ports come from below the kernel's ephemeral range, so that no outgoing connection takes one between
finding it free and listening on it. Ports that another cluster has been given but not yet opened are
passed in as *taken*; the caller holds a lock while choosing (see cluster.py).
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

from localcluster.errors import UnsupportedError

FIRST, LAST = 16000, 29999


def choose(count: int, taken: Collection[int], *, first: int = FIRST, last: int = LAST) -> list[int]:
    """Return *count* different ports that are free on 127.0.0.1 and not among *taken*.

    :raises UnsupportedError: if there are not as many.
    """
    chosen: list[int] = []
    candidates = [port for port in range(first, last + 1) if port not in taken]
    random.shuffle(candidates)
    for port in candidates:
        if len(chosen) == count:
            break
        if is_free(port):
            chosen.append(port)
    if len(chosen) < count:
        raise UnsupportedError(
            f"Only {len(chosen)} of {count} ports between {first} and {last} are free on 127.0.0.1. "
            "`make cluster-status` lists the clusters that run here."
        )
    return chosen


def is_free(port: int) -> bool:
    """Return whether a listener could be opened on 127.0.0.1:*port* now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
