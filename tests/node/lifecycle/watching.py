"""Pods as a watcher sees them: every state that the API server told of, with the moment at which it arrived here."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from tests import kube
from tests.builders import Manifest
from tests.node.pods import is_ready
from tests.polling import poll

_HEARTBEAT = 30.0
"""Seconds after which a silent watch is begun anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One state of a Pod."""

    at: int
    """When it arrived: nanoseconds of CLOCK_MONOTONIC, the witness' clock."""
    pod: Manifest
    gone: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether the Pod was ready."""
        return is_ready(self.pod)


class PodWatch:
    """A watch of the Pods of one namespace, in a thread of its own; it survives a restart of the API server."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._kubeconfig, self._namespace = kubeconfig, namespace
        self._sights: dict[str, list[Sight]] = defaultdict(list)
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()

    def history(self, name: str) -> list[Sight]:
        """Every state of a Pod so far, oldest first; empty if it was never seen."""
        return list(self._sights.get(name, []))

    def names(self, prefix: str = "") -> list[str]:
        """The Pods that were ever seen and whose names begin like that."""
        return sorted(name for name in list(self._sights) if name.startswith(prefix))

    def now(self, name: str) -> Manifest:
        """A Pod as it was seen last; empty if it was never seen."""
        history = self.history(name)
        return history[-1].pod if history else {}

    def is_gone(self, name: str) -> bool:
        """Whether a Pod was there and is no more."""
        history = self.history(name)
        return bool(history) and history[-1].gone

    def wait(self, name: str, until: Callable[[Manifest], object], *, timeout: float) -> Manifest:
        """Wait until a Pod is as *until* says; return it."""
        return poll(lambda: self.now(name), until=lambda pod: pod and until(pod), timeout=timeout)

    def _follow(self) -> None:
        api = kube.client(self._kubeconfig)
        while not self._ending.is_set():
            try:
                watch = api.get(
                    version="v1",
                    namespace=self._namespace,
                    url="pods",
                    params={"watch": "true"},
                    stream=True,
                    timeout=_HEARTBEAT,
                )
                for line in watch.iter_lines(chunk_size=None):
                    if self._ending.is_set():
                        return
                    self._see(json.loads(line))
            except (requests.RequestException, ValueError):
                self._ending.wait(0.2)  # the server is away, or was silent: begin again

    def _see(self, event: Manifest) -> None:
        if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
            sight = Sight(at=time.monotonic_ns(), pod=event["object"], gone=event["type"] == "DELETED")
            self._sights[event["object"]["metadata"]["name"]].append(sight)
