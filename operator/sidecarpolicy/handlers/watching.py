"""Kopf watches; what it sees goes to the engine.

Only `on.event` handlers, on policies too: every other kind of handler writes annotations or finalizers to the object.
They do no I/O and return nothing. The storages are no-ops, so that even a handler of another kind, added by mistake,
could persist nothing; and they save half of Kopf's own cost per event.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Self

import kopf

from sidecarpolicy import names
from sidecarpolicy.engine.resources import LABEL_SELECTORS


class Memo:
    """Kopf copies the memo for every object; there is nothing to copy."""

    def __copy__(self) -> Self:
        return self


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-handled configuration: on.event handlers have no use for it."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Keep nothing of the body."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """There is nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Write nothing."""


class NoProgress(kopf.ProgressStorage):
    """Keeps no handler progress: the engine's queue has its own."""

    def fetch(self, *, key: Any, body: kopf.Body) -> Any:
        """There is nothing."""
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Write nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Write nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Write nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Leave it as it is."""
        return essence


def settings() -> kopf.OperatorSettings:
    """Kopf's settings for watching tens of thousands of objects without writing to one."""
    result = kopf.OperatorSettings()
    result.persistence.diffbase_storage = NoDiffBase()
    result.persistence.progress_storage = NoProgress()
    result.persistence.consistency_timeout = 0
    # Kopf takes a finalizer of this name off wherever no handler of its own asks for it: it must not be ours.
    result.persistence.finalizer = f"{names.GROUP}/not-used"
    result.peering.standalone = True
    result.scanning.disabled = True
    result.posting.enabled = False
    result.watching.chunk_size = 500
    result.watching.reconnect_backoff = 1.0
    result.watching.server_timeout = 600
    for resource, selector in LABEL_SELECTORS.items():
        result.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    result.queueing.idle_timeout = 1.0
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 5
    result.networking.enforce_retry_after = True
    # One line per event otherwise.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return result
