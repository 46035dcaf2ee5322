"""The laws of the work queue, on a clock that jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import selectors
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.engine.queue import ShutDown, WorkQueue

T = TypeVar("T")


class _LeapingSelector(selectors.SelectSelector):
    """Skips the time that the loop wanted to sleep for."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.now += timeout
        elif timeout is None:
            raise AssertionError("the loop would sleep for ever: somebody waits for what cannot happen")
        return super().select(0)


class _LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


def run(story: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_LeapingLoop) as runner:
        return runner.run(story)


async def take(queue: WorkQueue[str], count: int) -> list[str]:
    taken = []
    for _ in range(count):
        taken.append(await queue.get())
        queue.done(taken[-1])
    return taken


async def is_idle(queue: WorkQueue[str], seconds: float) -> bool:
    try:
        await asyncio.wait_for(queue.get(), seconds)
    except TimeoutError:
        return True
    return False


def test_a_key_added_often_is_handed_out_once() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        for key in "abaab":
            queue.add(key)
        assert await take(queue, 2) == ["a", "b"]
        assert await is_idle(queue, 1000)

    run(story())


def test_urgent_goes_before_bulk_and_lifts_what_waits() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        for key in "abc":
            queue.add(key)
        queue.add("d", urgent=True)
        queue.add("c", urgent=True)
        queue.add("c")  # a later bulk wish does not lower it
        assert queue.sizes().urgent == 2
        assert queue.sizes().bulk == 2
        assert await take(queue, 4) == ["d", "c", "a", "b"]

    run(story())


def test_a_key_added_while_processing_comes_back_after_done_and_not_before() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("a")
        await queue.get()
        queue.add("a", urgent=True)
        queue.add("a")
        assert await is_idle(queue, 10)
        queue.add("b")
        queue.done("a")
        assert await take(queue, 2) == ["a", "b"]  # it is still urgent
        assert len(queue) == 0

    run(story())


@pytest.mark.parametrize("wishes", [(5.0, 2.0, 9.0), (2.0, 5.0), (9.0, 2.0)])
def test_of_delayed_adds_the_earliest_wins(wishes: tuple[float, ...]) -> None:
    async def story() -> None:
        queue, loop = WorkQueue[str](), asyncio.get_running_loop()
        for seconds in wishes:
            queue.add_after("a", seconds)
        assert queue.sizes().delayed == 1
        await take(queue, 1)
        assert loop.time() == pytest.approx(2.0)
        assert await is_idle(queue, 1000)

    run(story())


def test_retries_back_off_up_to_the_cap_and_forget_starts_again() -> None:
    async def story() -> None:
        queue = WorkQueue[str](base=1, cap=5)
        assert [queue.retry("a") for _ in range(5)] == [1, 2, 4, 5, 5]
        assert queue.retry("a", after=17) == 17
        assert queue.sizes().failing == 1
        queue.forget("a")
        assert queue.retry("a") == 1
        assert queue.retry("b", after=0) == 0
        assert await take(queue, 2) == ["b", "a"]
        for _ in range(2000):  # the power of two must not overflow
            queue.retry("c")

    run(story())


def test_shutdown_wakes_every_waiting_worker_and_ends_the_timers() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("held")
        held = await queue.get()
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        queue.add_after("later", 5)
        await asyncio.sleep(1)
        queue.add(held)
        queue.shut_down()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, ShutDown) for outcome in outcomes)
        queue.done(held)
        queue.add("a")
        queue.add_after("a", 1)
        assert (len(queue), queue.sizes().delayed) == (0, 0)
        with pytest.raises(ShutDown):
            await queue.get()

    run(story())


def test_done_without_get_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        run(_done_without_get())


async def _done_without_get() -> None:
    WorkQueue[str]().done("a")


def test_a_cancelled_worker_takes_no_key_with_it() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        workers = [asyncio.create_task(queue.get()) for _ in range(4)]
        await asyncio.sleep(1)
        queue.add("a")
        for worker in workers:  # the one that the key was meant for among them
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        assert await take(queue, 1) == ["a"]

    run(story())


KEYS = st.sampled_from("abcd")
SECONDS = st.floats(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.booleans()),
        st.tuples(st.just("add_after"), KEYS, SECONDS),
        st.tuples(st.just("sleep"), SECONDS),
        st.tuples(st.just("cancel a worker")),
    ),
    max_size=40,
)


@given(steps=STEPS, lasting=st.lists(SECONDS, min_size=1), failing=st.lists(st.booleans(), min_size=1))
def test_no_key_is_with_two_workers_and_none_is_lost(
    steps: list[tuple[Any, ...]], lasting: list[float], failing: list[bool]
) -> None:
    """Whatever is added, and whenever: the last add of every key is followed by a pass begun after it."""
    run(_check(steps, lasting, failing))


async def _check(steps: list[tuple[Any, ...]], lasting: list[float], failing: list[bool]) -> None:
    queue = WorkQueue[str](base=0.5, cap=4)
    moments = itertools.count()
    at_work: Counter[str] = Counter()
    wanted: dict[str, int] = {}  # key → no look before this moment is enough
    looked: dict[str, int] = {}
    passes = 0

    async def worker() -> None:
        nonlocal passes
        with contextlib.suppress(ShutDown):
            while True:
                key = await queue.get()
                at_work[key] += 1
                assert at_work[key] == 1
                passes += 1
                began = next(moments)
                failed = passes <= len(failing) and failing[passes - 1]
                try:
                    await asyncio.sleep(lasting[passes % len(lasting)])
                except asyncio.CancelledError:
                    failed = True
                    raise
                finally:  # a worker that fails or ends owes a retry, as in the engine
                    if failed:
                        queue.retry(key)
                    else:
                        queue.forget(key)
                        looked[key] = began
                    at_work[key] -= 1
                    queue.done(key)

    workers = [asyncio.create_task(worker()) for _ in range(3)]
    for step in steps:
        match step:
            case ("add", key, urgent):
                wanted[key] = next(moments)
                queue.add(key, urgent=urgent)
            case ("add_after", key, seconds):
                wanted[key] = next(moments)
                queue.add_after(key, seconds)
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case _:
                workers.pop(0).cancel()
                workers.append(asyncio.create_task(worker()))
    await asyncio.sleep(10_000)
    assert queue.sizes().processing == queue.sizes().delayed == len(queue) == 0
    assert [key for key, since in wanted.items() if looked.get(key, -1) < since] == []
    queue.shut_down()
    await asyncio.gather(*workers)
