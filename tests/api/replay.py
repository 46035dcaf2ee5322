"""A collection as a LIST would have returned it at any moment: one LIST, and the events of a watch after it.

No state is too short to be seen, and looking costs the cluster next to nothing: LIST after LIST of a fleet slows down
what is looked at, and misses what lasts for less than a LIST.
"""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_right
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import pykube
import requests
from pykube.objects import APIObject

from tests.builders import Manifest
from tests.polling import poll

SILENCE = 60.0
"""Seconds after which a silent watch is begun anew."""

State = tuple[Manifest, ...]


class Replay:
    """The objects of one kind in one namespace (None: of a kind that has none), for as long as the block lasts."""

    def __init__(self, api: pykube.HTTPClient, kind: type[APIObject], namespace: str | None) -> None:
        self._config, self._kind, self._namespace = api.config, kind, namespace
        self._ending = threading.Event()
        self._errors: list[Exception] = []
        self._objects: dict[str, Manifest] = {}
        self.history: list[tuple[float, State]] = []
        """Every state, oldest first, with the time (seconds since the epoch) since when it has been so."""

    def at(self, moment: float) -> State:
        """The collection at *moment*, in seconds since the epoch; empty before the block."""
        number = bisect_right(self.history, moment, key=lambda entry: entry[0])
        return self.history[number - 1][1] if number else ()

    def __enter__(self) -> Self:
        listed = self._list(pykube.HTTPClient(self._config))
        self._objects = {each["metadata"]["name"]: each for each in listed["items"]}
        self.history.append((time.time(), tuple(self._objects.values())))
        version = listed["metadata"]["resourceVersion"]
        threading.Thread(target=self._follow, args=(version,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                api = pykube.HTTPClient(self._config)
                poll(lambda: self._errors or _versions(self._list(api)["items"]) == _versions(self.history[-1][1]))
        finally:
            self._ending.set()
        assert self._errors == []

    def _follow(self, version: str) -> None:
        api = pykube.HTTPClient(self._config)
        while not self._ending.is_set():
            query = {"watch": "true", "resourceVersion": version}
            try:
                for line in self._get(api, params=query, stream=True, timeout=SILENCE).iter_lines(chunk_size=None):
                    moment = time.time()
                    if self._ending.is_set():
                        return
                    version = self._take(json.loads(line), moment)
            except requests.RequestException:
                self._ending.wait(0.2)  # it was silent, or the server is away; what is missing is noticed at the end
            except Exception as error:
                self._errors.append(error)
                raise

    def _take(self, event: Manifest, moment: float) -> str:
        """Apply one event of the watch; return its resourceVersion."""
        thing = event["object"]
        assert event["type"] in {"ADDED", "MODIFIED", "DELETED"}, event
        if event["type"] == "DELETED":
            del self._objects[thing["metadata"]["name"]]
        else:
            self._objects[thing["metadata"]["name"]] = thing
        self.history.append((moment, tuple(self._objects.values())))
        version: str = thing["metadata"]["resourceVersion"]
        return version

    def _list(self, api: pykube.HTTPClient) -> Manifest:
        found: Manifest = self._get(api).json()
        return found

    def _get(self, api: pykube.HTTPClient, **options: Any) -> Any:
        answer = api.get(version=self._kind.version, namespace=self._namespace, url=self._kind.endpoint, **options)
        api.raise_for_status(answer)
        return answer


def _versions(objects: Iterable[Manifest]) -> dict[str, str]:
    """Which version of each object it is."""
    return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in objects}
