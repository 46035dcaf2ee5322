"""What an onlooker sees during a scenario: who is in flight, and what the policy's status claims.

One watch of the Deployments and one of the policies, straight from the API server, begun anew whenever they break.
Nothing is asked of the operator.

A Deployment is *in flight* from the moment that the operator changed which revision is on it until its rollout is
complete. The operator sees each change later than the API server makes it, so at no moment may more be in flight than
its budget allows.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pykube
import requests
from pykube.objects import APIObject

from tests.api.sampling import is_complete, revision_on
from tests.builders import Manifest
from tests.chaos.patience import AWAY
from tests.kube import SidecarPolicy

SILENCE = 20.0
"""Seconds after which a silent watch is begun anew."""
WITHIN = 2.0
"""Seconds before a status within which it must have been true."""
TOLERANCE = 0.5
"""Seconds by which the two watches may be apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How many Deployments there were, how many of them carried which revision, and how many were complete with it."""

    at: float
    matched: int
    carried: Counter[str]
    complete: Counter[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A status with Ready True, seen at *at*."""

    at: float
    revision: str
    matched: int


@dataclass(slots=True)
class Seen:
    """Everything that was seen."""

    moments: list[Moment] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    most_in_flight: int = 0
    statuses: int = 0
    breaks: int = 0

    def untrue(self, *, owners_roll: bool) -> list[Claim]:
        """The claims that no moment close to them bears out. *owners_roll*: owners roll Deployments out meanwhile."""
        return [each for each in self.claims if not any(self._bears_out(each, owners_roll))]

    def _bears_out(self, claim: Claim, owners_roll: bool) -> list[bool]:
        before = [each for each in self.moments if each.at <= claim.at - WITHIN][-1:]
        near = [each for each in self.moments if claim.at - WITHIN < each.at <= claim.at + TOLERANCE]
        return [
            each.matched == (each.carried if owners_roll else each.complete)[claim.revision]
            for each in [*before, *near]
        ]


class Witness:
    """Watches *namespace* until the block ends. *key*: how a record names the policy."""

    def __init__(self, api: pykube.HTTPClient, namespace: str, key: str) -> None:
        self._config, self._namespace, self._key = api.config, namespace, key
        self.seen = Seen()
        self.budget = 0
        self._deployments: dict[str, tuple[str | None, bool]] = {}
        self._in_flight: set[str] = set()
        self._over = threading.Event()
        self._listed = [threading.Event(), threading.Event()]

    def __enter__(self) -> Self:
        for listed, (kind, take) in zip(
            self._listed,
            ((pykube.Deployment, self._take_deployment), (SidecarPolicy, self._take_policy)),
            strict=True,
        ):
            threading.Thread(target=self._follow, args=(kind, take, listed), daemon=True).start()
        for listed in self._listed:
            assert listed.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _follow(self, kind: type[APIObject], take: Callable[[str, Manifest], None], listed: threading.Event) -> None:
        while not self._over.is_set():
            try:
                self._watch(pykube.HTTPClient(self._config), kind, take, listed)
            except AWAY:
                self._over.wait(0.2)
            self.seen.breaks += 1

    def _watch(
        self,
        api: pykube.HTTPClient,
        kind: type[APIObject],
        take: Callable[[str, Manifest], None],
        listed: threading.Event,
    ) -> None:
        """LIST, then watch until that ends."""
        there = {"version": kind.version, "namespace": self._namespace, "url": kind.endpoint}
        answer = api.get(**there)
        api.raise_for_status(answer)
        state = answer.json()
        if kind is pykube.Deployment:
            self._take_all(state["items"])
        else:
            for each in state["items"]:
                take("MODIFIED", each)
        listed.set()
        version = state["metadata"]["resourceVersion"]
        while not self._over.is_set():
            query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
            answer = api.get(**there, params=query, stream=True, timeout=SILENCE)
            api.raise_for_status(answer)
            try:
                for line in answer.iter_lines(chunk_size=None):
                    event: dict[str, Any] = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        take(event["type"], event["object"])
                    if self._over.is_set():
                        return
            except requests.exceptions.ConnectionError as error:
                if "timed out" not in str(error):
                    raise

    def _take_all(self, things: list[Manifest]) -> None:
        """Take a LIST in as one moment: etcd may have been restored meanwhile."""
        for gone in self._deployments.keys() - {each["metadata"]["name"] for each in things}:
            self._put("DELETED", {"metadata": {"name": gone}})
        for each in things:
            self._put("MODIFIED", each)
        self._note()

    def _take_deployment(self, what: str, thing: Manifest) -> None:
        if self._put(what, thing):
            self._note()

    def _put(self, what: str, thing: Manifest) -> bool:
        """Return whether that is new."""
        name = thing["metadata"]["name"]
        before = self._deployments.get(name)
        if what == "DELETED":
            self._deployments.pop(name, None)
            self._in_flight.discard(name)
        else:
            revision, complete = revision_on(thing, self._key), is_complete(thing)
            if before is not None and before[0] != revision:
                self._in_flight.add(name)
            if complete:
                self._in_flight.discard(name)
            self._deployments[name] = revision, complete
        return self._deployments.get(name) != before

    def _note(self) -> None:
        seen = self.seen
        seen.most_in_flight = max(seen.most_in_flight, len(self._in_flight))
        seen.moments.append(
            Moment(
                at=time.time(),
                matched=len(self._deployments),
                carried=Counter(revision for revision, _ in self._deployments.values() if revision),
                complete=Counter(
                    revision for revision, complete in self._deployments.values() if revision and complete
                ),
            )
        )

    def _take_policy(self, what: str, thing: Manifest) -> None:
        status = thing.get("status", {})
        if what == "DELETED" or status.get("observedGeneration") != thing["metadata"]["generation"]:
            return
        self.seen.statuses += 1
        ready: Manifest = next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})
        if ready.get("status") == "True":
            claim = Claim(
                at=time.time(),
                revision=status.get("updateRevision", ""),
                matched=status.get("targets", {}).get("matched", 0),
            )
            self.seen.claims.append(claim)
