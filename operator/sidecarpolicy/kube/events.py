"""Events for people, over events.k8s.io/v1, that can never hold up the work they tell of.

`emit` puts a note into a bounded queue and returns. One background task writes: a first note creates an
Event, an equal one (object, reason, message) within ten minutes raises `series.count` of that Event, by one
patch in thirty seconds at most. Each object has a bucket of writes like client-go's spam filter (25, one
more every five minutes), and all of them together have one (25, five more a second): the Events of a fan-out to
ten thousand Deployments must not take the API server from its patches, which cost it as much. Warnings go
first. What does not fit is dropped and counted, the oldest first and Warnings last: an Event is a courtesy,
conditions are the record.

**Callers emit on change only.** The recorder cannot tell a repeated event from a repeated pass: a caller
that emits on every pass over a standing situation would have it patch for ever, and with nothing to do this
operator writes nothing.

Why not Kopf's `kopf.event`: it writes core/v1 Events without series, for objects that Kopf has at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sidecarpolicy import names
from sidecarpolicy.engine.port import (
    NAMESPACE_TERMINATING,
    Api,
    ApiError,
    Conflict,
    Json,
    NotFound,
    ObjectRef,
    Resource,
    Transient,
)

log = logging.getLogger(__name__)

EVENTS: Final = Resource(group="events.k8s.io", version="v1", plural="events", kind="Event")

_WINDOW = 600.0  # seconds after its last note in which an equal one belongs to the same Event
_TRIES = 5  # for one write, while the server says Transient
_TRY_AGAIN = 5.0  # seconds, where the server wishes nothing else
_NOTE_LIMIT = 1024  # bytes, the API's
_FIELD_LIMIT = 128  # characters of action, reason and reportingInstance, the API's
_NAME_LIMIT = 253 - 17  # characters of the object's name in the Event's, before ".<16 hex>"
_REMEMBERED = 4096  # Events, and buckets, kept in mind; client-go's cache size


class _Key(NamedTuple):
    """What makes two notes equal."""

    uid: str
    reason: str
    message: str


@dataclass(slots=True, kw_only=True)
class _Told:
    """One Event: what it says, and how much of it the server knows."""

    regarding: ObjectRef
    key: _Key
    action: str
    warning: bool
    first: str
    last: str
    seen_at: float
    count: int = 1
    name: str = ""  # of the Event
    exists: bool = False
    written_count: int = 0
    written_at: float = 0.0
    queued: bool = False


class EventRecorder:
    """`engine.port.Events` over an API. `run` it as a task; `flush` before the end.

    *identity*: which of several operators reports. *capacity*: Events that may wait. *pace* (seconds):
    between two patches of one Event. *burst* and *refill* (seconds for one more): writes about one object.
    *rate*: writes a second over all objects, and *at_once* of them after a quiet time.
    """

    def __init__(
        self,
        api: Api,
        identity: str,
        *,
        capacity: int = 1_024,
        pace: float = 30.0,
        burst: int = 25,
        refill: float = 300.0,
        rate: float = 5.0,
        at_once: int = 25,
    ) -> None:
        self._api, self._identity = api, identity
        self._capacity, self._pace = capacity, pace
        self._burst, self._refill, self._rate, self._at_once = burst, refill, rate, at_once
        self._paid_until = 0.0  # then the bucket of all is full again
        self._told: OrderedDict[_Key, _Told] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # uid → writes left, and when
        self._warnings: deque[_Told] = deque()
        self._others: deque[_Told] = deque()
        self._timers: dict[_Key, tuple[asyncio.TimerHandle, _Told]] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._hurry = False
        self._warned = {NAMESPACE_TERMINATING}  # kinds of drops that need no more words
        self.dropped = 0
        """Notes that were never written; for metrics."""

    @property
    def waiting(self) -> int:
        """How many Events wait to be written."""
        return len(self._warnings) + len(self._others)

    def emit(self, regarding: ObjectRef, *, reason: str, message: str, warning: bool = False, action: str = "") -> None:
        """Post one Event, or raise the count of an equal one. On change only: see the module."""
        now, wall = time.monotonic(), _now()
        key = _Key(regarding.uid, reason, message)
        told = self._told.pop(key, None)
        if told is not None and now <= told.seen_at + _WINDOW:
            told.count, told.last, told.seen_at = told.count + 1, wall, now
        else:
            told = _Told(
                regarding=regarding,
                key=key,
                action=action or reason,
                warning=warning,
                first=wall,
                last=wall,
                seen_at=now,
            )
        self._told[key] = told  # the latest last
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        if (wait := self._paced(told)) > 0:
            self._later(told, wait)
        else:
            self._queue(told)

    async def run(self) -> None:
        """Write what is emitted until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write_all()

    async def flush(self, timeout: float = 5.0) -> None:
        """Write what still waits, for *timeout* seconds at most; the rest is dropped."""
        self._hurry = True
        for timer, told in self._timers.values():
            timer.cancel()
            self._queue(told)
        self._timers.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._write_all()
        self._hurry = False

    def _paced(self, told: _Told) -> float:
        """Return for how many seconds this Event must not be patched."""
        if self._hurry or not told.exists:
            return 0.0
        return told.written_at + self._pace - time.monotonic()

    def _later(self, told: _Told, seconds: float) -> None:
        if told.key not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[told.key] = (loop.call_later(seconds, self._due, told), told)

    def _due(self, told: _Told) -> None:
        del self._timers[told.key]
        self._queue(told)

    def _queue(self, told: _Told) -> None:
        if told.queued:
            return
        if self.waiting >= self._capacity:
            self._drop((self._others or self._warnings).popleft(), "overflow", f"more than {self._capacity} wait")
        told.queued = True
        (self._warnings if told.warning else self._others).append(told)
        self._wake.set()

    def _drop(self, told: _Told, kind: str, why: str) -> None:
        """Forget what was not written of an Event; say so loudly for the first of its *kind*."""
        told.queued = False
        if self._told.get(told.key) is told:
            del self._told[told.key]
        self.dropped += told.count - told.written_count
        log.log(
            logging.DEBUG if kind in self._warned else logging.WARNING,
            "dropped Event %s on %s %s/%s: %s; more of this kind are only counted",
            told.key.reason,
            told.regarding.kind,
            told.regarding.namespace,
            told.regarding.name,
            why,
        )
        self._warned.add(kind)

    async def _write_all(self) -> None:
        async with self._writing:
            while self.waiting:
                await self._wait_for_the_rate()
                told = (self._warnings or self._others).popleft()
                told.queued = False
                if told.count == told.written_count:
                    continue
                if (wait := self._paced(told)) > 0:
                    self._later(told, wait)
                elif (wait := self._spend(told.regarding.uid)) == 0:
                    await self._write(told)
                elif told.exists:
                    self._later(told, wait)
                else:
                    self._drop(told, "spam", f"{self._burst} were written about it in a short time")

    async def _wait_for_the_rate(self) -> None:
        """Wait until there may be another write, of whatever object."""
        wait = self._paid_until - time.monotonic() - self._at_once / self._rate
        if wait > 0 and not self._hurry:
            await asyncio.sleep(wait)

    def _pay(self) -> None:
        self._paid_until = max(self._paid_until, time.monotonic()) + 1.0 / self._rate

    def _spend(self, uid: str) -> float:
        """Take one write from the object's bucket and return 0, or in how many seconds there is one."""
        now = time.monotonic()
        left, since = self._buckets.pop(uid, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) / self._refill)
        self._buckets[uid] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) * self._refill

    async def _write(self, told: _Told) -> None:
        """Create or patch one Event, trying again while the server says Transient."""
        for _ in range(_TRIES):
            count = told.count
            self._pay()
            try:
                await self._write_once(told, count)
            except Transient as error:
                log.debug("%s", error)
                await asyncio.sleep(error.retry_after or _TRY_AGAIN)
            except NotFound as error:
                if not told.exists:
                    self._drop(told, NAMESPACE_TERMINATING, str(error))  # the namespace it is
                    return
                told.exists, told.name = False, ""  # it has outlived its hour: begin another one
            except Conflict:
                told.exists = True  # created by a try whose answer got lost: say how many, by patch
            except ApiError as error:
                self._drop(told, error.reason, str(error))
                return
            else:
                told.written_count, told.written_at = count, time.monotonic()
                return
        self._drop(told, "later", f"{_TRIES} tries failed")

    async def _write_once(self, told: _Told, count: int) -> None:
        namespace = told.regarding.namespace or "default"
        series = {"series": {"count": count, "lastObservedTime": told.last}}
        if told.exists:
            if count > 1:  # the API begins to count at two
                await self._api.merge_patch(EVENTS, namespace, told.name, series)
            return
        if not told.name:  # one name for all tries, so that none makes a second Event
            told.name = f"{told.regarding.name[:_NAME_LIMIT].rstrip('-.')}.{uuid.uuid4().hex[:16]}"
        body = self._body(told, namespace) | (series if count > 1 else {})
        await self._api.create(EVENTS, namespace, body)
        told.exists = True

    def _body(self, told: _Told, namespace: str) -> Json:
        about = told.regarding
        regarding = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "uid": about.uid,
        }
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": namespace, "name": told.name},
            "eventTime": told.first,
            "reportingController": names.CONTROLLER,
            "reportingInstance": self._identity[:_FIELD_LIMIT],
            "action": told.action[:_FIELD_LIMIT],
            "reason": told.key.reason[:_FIELD_LIMIT],
            "regarding": regarding | ({"namespace": about.namespace} if about.namespace else {}),
            "note": cut(told.key.message, _NOTE_LIMIT),
            "type": "Warning" if told.warning else "Normal",
        }


def cut(text: str, limit: int) -> str:
    """Return *text* in at most *limit* bytes of UTF-8, with … at its end if something was cut.

    What UTF-8 does not have is a question mark.
    """
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
