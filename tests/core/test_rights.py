"""Who asks for a right that many wait for, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sidecarpolicy.engine.rights import Right
from tests.simulation.loop import VirtualLoop

Asked = list[tuple[int, float]]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """One in virtual time."""
    found = VirtualLoop()
    yield found
    for task in asyncio.all_tasks(found):
        task.cancel()
    found.run_to(found.now)
    found.close()


class Names:
    """Three that share a right: each asks at once, and whenever it is told to. *given*: it is there."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop, self.right, self.given = loop, Right(), False
        self.asked: Asked = []
        self.tasks = [loop.create_task(self._wants(number)) for number in range(3)]

    async def _wants(self, number: int) -> None:
        event = asyncio.Event()
        while True:
            event.clear()
            self.asked.append((number, round(self.loop.now)))
            if self.given:
                self.right.give()
                return
            await self.right.wait(event)


def test_they_ask_in_turn_and_ever_more_rarely(loop: VirtualLoop) -> None:
    found = Names(loop)
    loop.run_to(3600)
    begun, turns = found.asked[:3], found.asked[3:]
    assert begun == [(0, 0), (1, 0), (2, 0)]
    assert [number for number, _ in turns] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2][: len(turns)]
    assert [at for _, at in turns][:8] == [5, 15, 35, 75, 155, 315, 635, 1235]
    assert len(turns) == 11, "every ten minutes in the end"


def test_all_ask_when_one_has_it(loop: VirtualLoop) -> None:
    found = Names(loop)
    loop.run_to(40)
    found.given, before = True, len(found.asked)
    loop.run_to(100)
    assert sorted(found.asked[before:]) == [(0, 75), (1, 75), (2, 75)]
    assert all(task.done() for task in found.tasks)


def test_the_next_one_asks_where_the_first_waits_no_more(loop: VirtualLoop) -> None:
    found = Names(loop)
    loop.run_to(1)
    found.tasks[0].cancel()
    loop.run_to(10)
    assert found.asked[3:] == [(1, 6)]
