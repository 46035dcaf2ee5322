"""One kind as the API server has it: LIST, then WATCH from there, for ever, into a sink.

It is client-go's reflector without its store. The rules:

- A LIST is the truth. What it does not have is gone (no watch may ever have told so). Where the sink sees that history
  went backwards (etcd was restored) there is another one at once, of which the versions count though they are lower.
- The watch goes on from the last version seen, bookmarks included. Where that is too old (410) there is another LIST.
  So there is after an outage, that is where reconnecting failed too: what comes back then may be older data, and a
  watch from a version that does not exist yet would be silent without an error.
- A kind that is not served is waited for, at the start as well as later (its CRD went away): that is a problem to be
  told, never an empty collection. Only an *optional* kind counts as empty while it is not served, and one that *may be
  forbidden* while it may not be read and never could: what was read once stays, should the right go.
- Where all that is asked is that nothing is older than the question (a new term), the version of now is asked for, and
  the watch, begun anew where it stood, is to come to it. That moves no objects: for 50,000 of them a LIST takes longer
  than the Lease of a dead leader. Where the watch does not come to it at once, has not been heard of lately, has ever
  broken since the last LIST (the server that it goes on with may have another history), or is only of a part, there is
  a LIST.
- Errors back off (1 s … 30 s, with jitter) and are told once each until all is well again. Where many share a right
  that is wanting, one asks for it (see `rights`).

It never holds up the loop for long: putting away thousands of objects it lets others run after every few. It measures
time by the loop only, so it runs in virtual time as well.

Not in it: what a change means, and how often to LIST without need (`refresh` is for that).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from sidecarpolicy.engine.port import Api, ApiError, Json, NotFound, Resource, Transient
from sidecarpolicy.engine.resources import (
    CLUSTER_SCOPED,
    LABEL_SELECTORS,
    MAY_BE_FORBIDDEN,
    OPTIONAL,
    POLICIES,
    REVISIONS,
    SERVICE_ACCOUNTS,
)
from sidecarpolicy.engine.rights import Right
from sidecarpolicy.engine.watched import WATCHED

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0  # seconds after the first failure; doubled after each
LONGEST_PAUSE: Final = 30.0
LIVED: Final = 1.0  # seconds; a watch that ended sooner, having told nothing, counts as a failure
FORBIDDEN: Final = 403
CONFIRMING: Final = 3  # seconds; a watch that ends so soon has a bookmark after one (see `HttpApi.watch`)
CONFIRMED: Final = 5.0  # seconds, within which it is to come
HEARD: Final = 75.0  # seconds; a watch has a bookmark every minute
SLICE: Final = 32  # objects after which others may run: some milliseconds (a loop's clock may stand still meanwhile)


class Sink(Protocol):
    """Where what is listed and watched goes. All synchronous; never raises."""

    def begin(self, resource: Resource, namespace: str) -> None:
        """A LIST begins, of one namespace or (empty) of all."""
        ...

    def put(self, resource: Resource, body: Json) -> None:
        """An object of a LIST, or one that was added or modified."""
        ...

    def drop(self, resource: Resource, body: Json) -> None:
        """An object that was deleted, as it was last; also during a LIST."""
        ...

    def end(self, resource: Resource, version: str, namespace: str) -> bool:
        """The LIST is complete at this resourceVersion: what it did not have is gone. Return whether it stands."""
        ...


class Reflector:
    """Keeps *sink* up to date with all objects of *resource*. `run` it as a task; use it in one loop only.

    *namespace*: keep to those of that one; of every namespace if empty.
    *optional*: while the API server does not serve the kind, there are none of it. *may_be_forbidden*: nor as long as
    it may not be read. *right*: that to read it, where others wait for it too. *jitter* gives numbers in [0, 1).
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        sink: Sink,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        optional: bool = False,
        may_be_forbidden: bool = False,
        right: Right | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api, self.resource, self._sink = api, resource, sink
        self._optional, self._jitter = optional, jitter
        self.namespace = namespace
        self._selectors = {"label_selector": label_selector}
        if namespace:
            self._selectors["namespace"] = namespace
        if field_selector:
            self._selectors["field_selector"] = field_selector
        self._may_be_forbidden, self._forbidden, self._was_read = may_be_forbidden, False, False
        self._right, self._may_not_watch = right, False
        self.what = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        self.what += f" in namespace {namespace}" if namespace else ""
        self.synced = asyncio.Event()
        """Set once the first LIST is in the sink."""
        self.begun_at = -math.inf
        """When the LIST began that the present state rests on, by the loop's clock (seconds)."""
        self.problem = ""
        """What keeps the state from being current, for people; empty if nothing does."""
        self.on_problem: Callable[[str, bool], None] | None = None
        """Told what the problem is, and whether it is the right to read; nothing (empty) when it is over."""
        self._needed: asyncio.Event | None = None
        self._after: Sequence[Reflector] = ()
        self._version = ""  # where the next watch begins
        self._heard_at = -math.inf  # when that was known
        self._has_broken = False  # since the last LIST
        self._failures = 0  # in a row
        self._told: set[str] = set()  # errors that were logged and are not over
        self._asked = asyncio.Event()  # somebody waits …
        self._must_list = False  # … for a LIST and nothing less
        # Of what a selector leaves out a watch tells nothing, not even a bookmark of the same version.
        self._is_whole = not (namespace or label_selector or field_selector)
        self._waiting: list[asyncio.Future[None]] = []
        self._stream: asyncio.Timeout | None = None  # the watch under way; refresh interrupts it
        self._opened_at = math.inf  # when it told its first event, bookmarks included …
        self._heard = False  # … and whether it told of a change

    def postpone(self, needed: asyncio.Event, after: Sequence[Reflector]) -> None:
        """Do not begin before somebody has *needed* it.

        Where nobody has by the time that those in *after* have their first LIST, that counts as an empty one.
        """
        self._needed, self._after = needed, after

    async def refresh(self, *, may_confirm: bool = False) -> None:
        """Return when a LIST that began after this call is in the sink; calls that wait together share one.

        *may_confirm*: it is enough that the watch has come to where the server was after this call.
        """
        if self._needed is not None and not self._needed.is_set():
            return
        self._must_list = self._must_list or not may_confirm
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append(done)
        if not self._asked.is_set():
            self._asked.set()
            if self._stream is not None:
                self._stream.reschedule(loop.time())
        await done

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await self._wait_until_needed()
            while True:
                if await self._list():
                    while await self._watch() or await self._confirm():
                        pass
        finally:
            for waiting in self._waiting:
                waiting.cancel()

    async def _wait_until_needed(self) -> None:
        if self._needed is None:
            return
        for each in self._after:
            await each.synced.wait()
        if not self._needed.is_set():
            self.synced.set()
            await self._needed.wait()

    async def _list(self) -> bool:
        """LIST into the sink; return whether there is now something to watch, after a pause if not."""
        serving, self._waiting = self._waiting, []
        self._asked.clear()
        self._must_list = False
        began = asyncio.get_running_loop().time()
        served = True
        try:
            self._sink.begin(self.resource, self.namespace)
            self._version = await self._put_away()
            self._heard_at, self._has_broken = asyncio.get_running_loop().time(), False
        except ApiError as error:
            served = False
            if not self._stands_for_none(error):
                self._waiting[:0] = serving
                self._fail(error)
                await self._pause(error)
                return False
            self._version = ""
            self._sink.begin(self.resource, self.namespace)
        except asyncio.CancelledError:
            self._waiting[:0] = serving
            raise
        if not self._sink.end(self.resource, self._version, self.namespace):
            log.warning("%s: versions went backwards, as when etcd is restored; reading everything again", self.what)
            self._waiting[:0] = serving
            return False
        if served and self._forbidden and not self._was_read:
            log.info("%s: may be read now", self.what)
        self._was_read = self._was_read or served
        if served and self._right is not None and not self._may_not_watch:
            self._right.give()
        self._recover(served=served)
        self.synced.set()
        self._serve(serving, began)
        if not served and self._right is not None:
            await self._right.wait(self._asked)
        elif not served:
            await self._sleep(LONGEST_PAUSE)
        return served

    async def _confirm(self) -> bool:
        """Watch as far as the server is now, where that is all that is asked; return whether it came so far.

        Versions of one kind are numbers that grow (API concepts, "Resource versions"), unless etcd was restored: then
        there is a LIST.
        """
        loop = asyncio.get_running_loop()
        is_heard = loop.time() - self._heard_at < HEARD and not (self._failures or self.problem or self._has_broken)
        if not self._asked.is_set() or self._must_list or not (self._is_whole and is_heard):
            return False
        serving, self._waiting = self._waiting, []
        self._asked.clear()
        began, reached = loop.time(), False
        self._opened_at = math.inf
        try:
            async with asyncio.timeout(CONFIRMED):
                goal, before = int(await self._api.version(self.resource, **self._selectors)), int(self._version)
                if goal >= before:
                    await self._follow(goal)
                    reached = int(self._version) >= goal
        except (TimeoutError, ApiError) as error:
            log.debug("%s: not confirmed, listing again: %s", self.what, error)
        finally:
            if not reached:
                self._waiting[:0] = serving
                self._asked.set()
        if reached:
            self._serve(serving, began)
        return reached

    def _serve(self, waiting: Iterable[asyncio.Future[None]], began: float) -> None:
        """Tell those who wait that the sink has what there was when that *began*."""
        self.begun_at = began
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def _stands_for_none(self, error: ApiError) -> bool:
        """Whether a LIST that fails so means that there are none."""
        if error.status != FORBIDDEN or not self._may_be_forbidden:
            return self._optional and isinstance(error, NotFound)
        if self._was_read:
            return False
        if not self._forbidden:
            log.warning("%s; going on without %s", error, self.what)
        self._forbidden = True
        return True

    async def _put_away(self) -> str:
        """Put every object of a LIST into the sink, page by page; return the collection's version."""
        version, number = "", 0
        async for page in self._api.list(self.resource, **self._selectors):
            version = page.resource_version
            for body in page.items:
                self._sink.put(self.resource, body)
                number += 1
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            for body in page.gone:
                self._sink.drop(self.resource, body)
        return version

    async def _watch(self) -> bool:
        """Watch from the last version until the stream ends; return whether to go on from there, or else to LIST.

        Pauses first where that is due.
        """
        loop = asyncio.get_running_loop()
        began, self._opened_at, self._heard = loop.time(), math.inf, False
        error: ApiError | None = None
        try:
            async with asyncio.timeout(0.0 if self._asked.is_set() else None) as self._stream:
                await self._follow()
        except TimeoutError:
            return False  # somebody asked for a LIST
        except ApiError as problem:
            error, self._has_broken = problem, True
        finally:
            self._stream = None
        self._note_right_to_watch(error)
        lived = loop.time() - (self._opened_at if error else began) >= LIVED
        if self._heard or lived:
            self._failures = 0
        elif error is None:
            self._failures += 1
        if error is None:
            await self._pause()
            return True
        if error.status == 410 or isinstance(error, NotFound):
            log.debug("%s: %s; listing again", self.what, error)
            await self._pause()
            self._failures += 1
            return False
        again = self._failures == 0
        self._fail(error, quietly=again)
        await self._pause(error)
        return again

    async def _follow(self, goal: int | None = None) -> None:
        """Put away what one watch tells, until the server ends it, or until it has come to the *goal*."""
        loop, number = asyncio.get_running_loop(), 0
        seconds = CONFIRMING if goal is not None else None
        stream = self._api.watch(self.resource, **self._selectors, resource_version=self._version, seconds=seconds)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                if self._opened_at == math.inf:
                    self._opened_at = loop.time()
                    self._note_right_to_watch(None)
                    self._recover()
                if event.type == "DELETED":
                    self._sink.drop(self.resource, event.object)
                elif event.type != "BOOKMARK":
                    self._sink.put(self.resource, event.object)
                self._heard = self._heard or event.type != "BOOKMARK"
                self._version, self._heard_at = event.object["metadata"]["resourceVersion"], loop.time()
                if goal is not None and int(self._version) >= goal:
                    return
                number += 1
                if number % SLICE == 0:
                    await asyncio.sleep(0)

    def _note_right_to_watch(self, error: ApiError | None) -> None:
        """Take in how a watch went: who may LIST may still not be allowed to watch, and does not have the right."""
        may_not = error is not None and error.status == FORBIDDEN
        if self._right is not None and self._may_not_watch and error is None:
            self._right.give()
        self._may_not_watch = may_not or (self._may_not_watch and error is not None)

    def _fail(self, error: ApiError, *, quietly: bool = False) -> None:
        """Count a failure and say what the problem is, in the log once until all is well again."""
        self._failures += 1
        self.problem = f"the API server does not serve {self.what}" if isinstance(error, NotFound) else str(error)
        forbidden = error.status == FORBIDDEN
        if self.on_problem is not None and (forbidden or not quietly):
            self.on_problem(self.problem, forbidden)
        kind = f"{type(error).__name__} {error.status}"
        level = logging.DEBUG if quietly or kind in self._told else logging.WARNING
        if level == logging.WARNING:
            self._told.add(kind)
        log.log(level, "%s; trying until it works", self.problem)

    def _recover(self, *, served: bool = True) -> None:
        if self.problem and served and self.on_problem is not None:
            self.on_problem("", False)
        self.problem = ""
        if self._told:
            self._told.clear()
            log.info("%s: listed and watched again", self.what)

    async def _pause(self, error: ApiError | None = None) -> None:
        """Wait as many failures in a row and the server want it; not at all where nothing has failed."""
        if not self._failures:
            return
        if error is not None and error.status == FORBIDDEN and self._right is not None:
            await self._right.wait(self._asked)
            return
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10)) * (0.75 + self._jitter() / 2)
        wish = error.retry_after if isinstance(error, Transient) else None
        await self._sleep(max(seconds, wish or 0.0))

    async def _sleep(self, seconds: float) -> None:
        """Sleep until somebody asks for a LIST, *seconds* at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()


def reflectors_of_everything(
    api: Api, sink: Sink, accounts_needed: asyncio.Event, namespaces: Iterable[str] = ()
) -> Sequence[Reflector]:
    """Return one for each kind that a process keeps in its cache, in the order in which they are listed.

    *accounts_needed*: set once a policy or a stored revision needs ServiceAccounts; they are not listed before.
    *namespaces*: one for each of these, and none for what is in no namespace; without any, one for all.
    """
    places = sorted(namespaces)
    found = [
        Reflector(
            api,
            resource,
            sink,
            namespace=place,
            label_selector=LABEL_SELECTORS.get(resource, ""),
            optional=resource in OPTIONAL,
            may_be_forbidden=resource in MAY_BE_FORBIDDEN,
        )
        for resource in WATCHED
        if not (places and resource in CLUSTER_SCOPED)
        for place in places or [""]
    ]
    first = [each for each in found if each.resource in (*POLICIES.values(), REVISIONS)]
    for each in found:
        if each.resource == SERVICE_ACCOUNTS:
            each.postpone(accounts_needed, first)
    return found


def problems_of(reflectors: Iterable[Reflector]) -> list[str]:
    """Return why it is not known what is there, for people; empty where it is."""
    found = list(reflectors)
    unsynced = [each.what for each in found if not (each.synced.is_set() or each.problem)]
    return [
        *([f"initial list not finished: {', '.join(unsynced)}"] if unsynced else []),
        *dict.fromkeys(each.problem for each in found if each.problem),
    ]
