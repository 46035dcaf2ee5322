"""Which of several operators may write: client-go's leader election over a `coordination.k8s.io/v1` Lease.

The leader renews the record every *retry_period*; a candidate, which looks twice as often, takes it over when it has
seen it unchanged for the holder's *lease_duration*, on the candidate's own monotonic clock. Times in the record are for
people: wall clocks are never compared. The leader in turn stops *renew_deadline* after it sent the last
renewal that succeeded, so its time is over before anybody else's can begin. `leading` is computed on access:
it is false in time even when the event loop was blocked, or the machine suspended, and nothing could run
that would have set it so.

A term ends when the Lease was, or may have been, another's. Where renewals only came too late and the record is still
the one that the term began with, nobody else has led: the term was interrupted, and goes on. An API server (or a
machine) with too much to do answers late again and again; if each time all were read anew, nothing would ever be done.
After an interruption of more than a *lease_duration* everything is read anew all the same: who was frozen for so long
cannot tell what has happened meanwhile. So it is where the record is ours and not as this process left it: etcd was
restored from a backup then, and everything that was read before is of a history that is undone.

A record is ours by the name *and* the time at which it was acquired: where two processes have one name (an identity
that is set for both replicas alike), the Lease of the other is waited for like anybody's.

A candidate is told when a term of its own is due: the leader has stopped by its own rules, *renew_deadline* after the
last renewal that was seen. It may get ready for that; it may not write, for the leader may come back in time.

What an election cannot do: call back a request that is on its way when leadership ends. Every write of this
operator therefore carries its own precondition (generation, uid or resourceVersion).

Why not `kubernetes.aio.leaderelection` (kubernetes 37): it does not release the Lease on shutdown, so every
upgrade costs a lease_duration without a leader; it compares wall clocks; it ends for good after one loss;
and importing it costs 50 MB and most of a second. client-go has none of these.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from sidecarpolicy.engine.port import Api, ApiError, Conflict, Json, NotFound, Rejected, Resource

log = logging.getLogger(__name__)

LEASES: Final = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")

# CLOCK_MONOTONIC stands still while a machine is suspended; the other candidates do not.
_clock: Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


def default_identity() -> str:
    """Return `<hostname>_<uuid>`: another one for every process, like client-go's."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class Election:
    """One candidate. `run` it as a task, ask `leading` before every write, `release` after the last one.

    *lease_duration*, *renew_deadline* and *retry_period* are seconds. *on_gained* and *on_lost* are called in the event
    loop when `leading` changes, also where a term is only interrupted, at most once per change and always in turn; they
    must not block or raise. *on_seen* is told the Lease's metadata whenever it was read or written. *annotations* are
    written by whoever takes the Lease; None takes one off. Give it an *api* of its own: renewals must not queue for a
    connection behind the workers' requests. *clock* must go on while the machine is suspended.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str = "",
        lease_duration: int = 15,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        on_gained: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
        on_seen: Callable[[Json], None] = lambda metadata: None,
        annotations: Mapping[str, str | None] = MappingProxyType({}),
        clock: Callable[[], float] = _clock,
    ) -> None:
        if not lease_duration > renew_deadline > retry_period > 0:
            raise ValueError("it takes lease_duration > renew_deadline > retry_period > 0")
        self.identity = identity or default_identity()
        self.namespace, self.name = namespace, name
        self._api = api
        self._clock = clock
        self._lease_duration = lease_duration
        self._renew_deadline, self._retry_period = renew_deadline, retry_period
        self._on_gained, self._on_lost, self._on_seen = on_gained, on_lost, on_seen
        self._annotations = dict(annotations)
        self.term = 0
        """How many terms there have been."""
        self._looked, self._leads, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._due = asyncio.Event()
        self._in_term = False
        self._acquired: tuple[Any, Any] = (None, None)  # what marks the record that the term rests on
        self._taken: set[Any] = set()  # the acquireTimes that this process has written, with or without an answer
        self._leads_until = self._held_until = -math.inf
        self._lapse: asyncio.TimerHandle | None = None
        self._released = False
        self._writing = asyncio.Lock()
        self._seen: Json = {}  # the record as last seen …
        self._seen_at = 0.0  # … since when …
        self._version = ""  # … and its resourceVersion; empty: look before writing
        self._renewed: list[str] = []  # the renewTimes that may stand there, of renewals without an answer too
        self._complaint = ""
        self._has_namesake = False

    @property
    def leading(self) -> bool:
        """True while the Lease is held and has not run out on this process's own clock."""
        return self._leads.is_set() and self._clock() < self._leads_until

    @property
    def problem(self) -> str:
        """What keeps the Lease from being read or renewed; empty if nothing does."""
        return f"{self._what}: {self._complaint}" if self._complaint else ""

    @property
    def holder(self) -> str:
        """Who held the Lease when last seen; empty if nobody."""
        return str(self._seen.get("holderIdentity") or "")

    @property
    def _is_ours(self) -> bool:
        """Whether this process has written the record as last seen; its name alone may be another's too."""
        return self.holder == self.identity and self._seen.get("acquireTime") in self._taken

    @property
    def transitions(self) -> int:
        """How often the Lease has changed hands, when last seen."""
        return int(self._seen.get("leaseTransitions") or 0)

    async def wait_until_known(self) -> None:
        """Return once the Lease was looked at for the first time, or could not be."""
        await self._looked.wait()

    async def wait_until_leading(self) -> None:
        """Return once this process leads."""
        while not self.leading:
            if self._leads.is_set():
                self._interrupt()
            await self._leads.wait()

    async def wait_until_due(self) -> None:
        """Return once this process leads, or may within the rest of the Lease unless the leader is heard of."""
        await self._due.wait()

    async def wait_until_over(self) -> None:
        """Return once the term that is now or due has ended or is put off, even where the next one begins at once."""
        if self._due.is_set():
            await self._over.wait()

    async def run(self) -> None:
        """Stand for election until released or cancelled; a failed request is logged and tried again.

        Cancelled without `release`, it leaves the Lease to run out: `leading` is false, nobody else leads
        yet.
        """
        try:
            while not self._released:
                await self._try()
                self._note_due()
                self._looked.set()
                await asyncio.sleep(self._retry_period if self._leads.is_set() else self._until_next_look())
        finally:
            self._lose("the election has ended")

    def _until_next_look(self) -> float:
        """For how many seconds a candidate leaves the Lease alone: no longer than until it is due or has run out."""
        pause = self._retry_period / 2 * random.uniform(1.0, 1.2)  # what is seen late is waited for longer
        silence = self._clock() - self._seen_at if self.holder else math.inf
        moments = [each - silence for each in (self._renew_deadline, self._promised) if each > silence]
        return min([pause, *(each + random.uniform(0.0, 0.1) for each in moments)])

    def _note_due(self) -> None:
        """Take in whether a term is to be expected."""
        silence = self._clock() - self._seen_at
        if self._in_term or (self.holder and not self._is_ours and silence >= self._renew_deadline):
            self._expect()
        elif self._due.is_set():
            self._due.clear()
            self._over.set()

    def _expect(self) -> None:
        if not self._due.is_set():
            self._due.set()
            self._over.clear()

    async def release(self) -> None:
        """Stop leading and give the Lease up, so that the next one leads at its next look.

        Call it when the last write has been answered. Never raises ApiError: what cannot be given up runs
        out.
        """
        self._released = True
        self._lose("it is released")
        if not self._taken:  # nor has an answer got lost
            return
        try:
            async with self._writing, asyncio.timeout(self._renew_deadline / 2):
                if not self._version:  # the last answer got lost
                    self._observe(await self._api.get(LEASES, self.namespace, self.name))
                if self._is_ours:
                    await self._patch({"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()})
        except (ApiError, TimeoutError) as error:
            log.warning("%s: not released, it runs out in %d s: %s", self._what, self._lease_duration, error)

    @property
    def _what(self) -> str:
        return f"lease {self.namespace}/{self.name}"

    async def _try(self) -> None:
        """Take, renew or watch the record once, and log what hinders."""
        try:
            async with self._writing, asyncio.timeout(self._renew_deadline / 2):
                await self._take_or_look()
        except TimeoutError:
            self._version = ""
            self._complain(f"no answer within {self._renew_deadline / 2:g} s")
        except asyncio.CancelledError:  # it may have been taken by now: who releases it looks
            self._version = ""
            raise
        except Conflict:  # somebody else was first, or an answer got lost: the next look tells
            self._version = ""
        except ApiError as error:
            self._version = ""
            self._complain(str(error), alarming=isinstance(error, Rejected))
        else:
            self._complaint = ""

    def _complain(self, complaint: str, *, alarming: bool = False) -> None:
        level = logging.ERROR if alarming else logging.WARNING
        log.log(
            logging.DEBUG if complaint == self._complaint else level,
            "%s: %s; trying again every %g s",
            self._what,
            complaint,
            self._retry_period,
        )
        self._complaint = complaint

    async def _take_or_look(self) -> None:
        """Renew what is ours; otherwise look, and take what is free. Raise ApiError."""
        if not (self._version and self._is_ours):
            try:
                self._observe(await self._api.get(LEASES, self.namespace, self.name))
            except NotFound:
                self._lose("somebody deleted it")
                await self._take(None)
                return
            if not self._is_ours:
                self._lose(f"{self.holder or 'nobody'} holds it")
                self._note_namesake()
                if self.holder and self._clock() < self._seen_at + self._promised:
                    return
            elif self._in_term and self._seen.get("renewTime") not in self._renewed:
                self._lose("it is not as it was left, as when etcd is restored")
        await self._take(self._seen)

    def _note_namesake(self) -> None:
        """Tell once that somebody of the same name holds the Lease."""
        if self.holder == self.identity and not self._has_namesake:
            log.warning(
                "%s: a process with the same identity, %s, holds it (another replica, or this one before it was "
                "restarted); waiting until it runs out. Each replica should have an identity of its own",
                self._what,
                self.identity,
            )
        self._has_namesake = self.holder == self.identity

    @property
    def _promised(self) -> float:
        """For how many seconds the holder may believe that it leads, from when its last renewal was seen."""
        return float(self._seen.get("leaseDurationSeconds") or self._lease_duration)

    async def _take(self, before: Json | None) -> None:
        """Write ourselves into the record that was *before*, or into a new one if there was none."""
        sent, now = self._clock(), _now()
        self._renewed.append(now)
        record: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._lease_duration,
            "renewTime": now,
        }
        if before is None:
            self._taken.add(now)
            record |= {"acquireTime": now, "leaseTransitions": 0}
            metadata: Json = {"name": self.name, "namespace": self.namespace}
            if annotations := {key: value for key, value in self._annotations.items() if value is not None}:
                metadata["annotations"] = annotations
            body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": record}
            self._observe(await self._api.create(LEASES, self.namespace, body))
        else:
            takes = not self._is_ours
            if takes:
                self._taken.add(now)
                record |= {"acquireTime": now, "leaseTransitions": self.transitions + 1}
            await self._patch(record, self._annotations if takes else {})
        if not self._released:
            self._hold_until(sent + self._renew_deadline)

    async def _patch(self, record: Json, annotations: Mapping[str, str | None] = MappingProxyType({})) -> None:
        """Write *record* over the one last seen; Conflict if that has changed."""
        metadata: Json = {"resourceVersion": self._version}
        if annotations:
            metadata["annotations"] = dict(annotations)
        body = {"metadata": metadata, "spec": record}
        self._observe(await self._api.merge_patch(LEASES, self.namespace, self.name, body))

    def _observe(self, lease: Json) -> None:
        self._on_seen(lease["metadata"])
        record: Json = lease.get("spec") or {}
        self._version = lease["metadata"]["resourceVersion"]
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        if (renewed := record.get("renewTime")) in self._renewed:
            del self._renewed[: self._renewed.index(renewed)]  # those before it will not stand there again

    def _hold_until(self, until: float) -> None:
        acquired = self._seen.get("acquireTime"), self._seen.get("leaseTransitions")
        if self._in_term and acquired != self._acquired:
            self._lose("somebody else has written the record")
        elif self._in_term and self._clock() > self._held_until + self._lease_duration:
            self._lose("it was not renewed for too long")
        if self._leads.is_set() and not self.leading:
            self._interrupt()
        if self._clock() >= until:
            return  # the answer came too late to be of use
        self._leads_until = self._held_until = until
        if self._lapse is not None:
            self._lapse.cancel()
        self._lapse = asyncio.get_running_loop().call_later(until - self._clock(), self._check)
        if self._leads.is_set():
            return
        if self._in_term:
            log.info("%s: %s goes on; nobody else has led", self._what, self.identity)
        else:
            log.info("%s: %s leads", self._what, self.identity)
            self.term += 1
            self._in_term, self._acquired = True, acquired
            self._expect()
        self._leads.set()
        self._on_gained()

    def _check(self) -> None:
        """Notice that time ran out; the loop's timers go by another clock and may be early."""
        if self.leading:
            self._lapse = asyncio.get_running_loop().call_later(0.01, self._check)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        """Stop leading until the Lease is renewed, or another's."""
        if self._stop_leading():
            log.warning("%s: not renewed in time: nothing is written until it is", self._what)

    def _lose(self, why: str) -> None:
        """End the term."""
        self._stop_leading()
        if self._in_term:
            level = logging.INFO if self._released else logging.WARNING
            log.log(level, "%s: %s does not lead any more: %s", self._what, self.identity, why)
            self._in_term = False
            self._due.clear()
            self._over.set()

    def _stop_leading(self) -> bool:
        """Have `leading` be false from now on; return whether it may have been true until now."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        self._leads_until = -math.inf
        if not self._leads.is_set():
            return False
        self._leads.clear()
        self._on_lost()
        return True


def _now() -> str:
    """Return the wall clock's time as a MicroTime; for people."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
