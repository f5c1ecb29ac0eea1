"""Deadlines of waiting connections: exact, on a virtual clock."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import ref

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.server.timers import Timers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Waiting:
    def __init__(self, timeout: float) -> None:
        self.deadline = trio.current_time() + timeout
        self.closed = False
        self.expired: list[float] = []

    def wait(self, timeout: float) -> None:
        self.deadline = trio.current_time() + timeout

    def expire(self) -> None:
        self.expired.append(trio.current_time())


@asynccontextmanager
async def running(horizon: float) -> AsyncGenerator[Timers]:
    async with trio.open_nursery() as nursery:
        timers = Timers(horizon)
        nursery.start_soon(timers.run)
        await trio.testing.wait_all_tasks_blocked()
        yield timers
        nursery.cancel_scope.cancel()


async def test_the_end_comes_exactly_at_the_deadline_and_once(autojump_clock: object) -> None:
    async with running(5) as timers:
        it = Waiting(5)
        start = trio.current_time()
        timers.add(it)
        await trio.sleep(100)
        assert it.expired == [start + 5]


async def test_an_earlier_one_may_be_added_later(autojump_clock: object) -> None:
    async with running(2) as timers:
        start = trio.current_time()
        long, short = Waiting(10), Waiting(2)
        timers.add(long)
        await trio.testing.wait_all_tasks_blocked()
        timers.add(short)
        await trio.sleep(100)
        assert short.expired == [start + 2]
        assert long.expired == [start + 10]


async def test_a_deadline_that_moves_costs_nothing_and_counts(autojump_clock: object) -> None:
    async with running(5) as timers:
        it = Waiting(5)
        timers.add(it)
        for _ in range(10):
            await trio.sleep(4)
            it.wait(5)
        moved = trio.current_time()
        it.wait(7)
        await trio.sleep(100)
        assert it.expired == [moved + 7]


async def test_who_does_not_wait_never_expires_and_may_wait_again(autojump_clock: object) -> None:
    async with running(5) as timers:
        it = Waiting(5)
        timers.add(it)
        await trio.sleep(1)
        it.deadline = math.inf
        await trio.sleep(1000)
        assert it.expired == []
        again = trio.current_time()
        it.wait(5)
        await trio.sleep(100)
        assert it.expired == [again + 5]


async def test_who_is_closed_is_forgotten(autojump_clock: object) -> None:
    async with running(5) as timers:
        it = Waiting(5)
        timers.add(it)
        it.closed = True
        await trio.sleep(100)
        assert it.expired == []
        assert timers._heap == []


async def test_without_any_timeout_nobody_is_remembered(autojump_clock: object) -> None:
    async with running(math.inf) as timers:
        timers.add(Waiting(math.inf))
        assert timers._heap == []


async def test_equal_deadlines_end_in_the_order_of_their_coming(autojump_clock: object) -> None:
    order: list[int] = []

    class Named(Waiting):
        def __init__(self, number: int) -> None:
            super().__init__(5)
            self.number = number

        def expire(self) -> None:
            order.append(self.number)

    async with running(5) as timers:
        waiting = [Named(number) for number in range(5)]  # the timers hold nobody
        for each in waiting:
            timers.add(each)
        await trio.sleep(5.1)
        assert order == [0, 1, 2, 3, 4]


async def test_who_has_gone_is_not_held(autojump_clock: object) -> None:
    async with running(5) as timers:
        gone = Waiting(5)
        timers.add(gone)
        reference = ref(gone)
        del gone
        assert reference() is None
        await trio.sleep(6)


@given(
    horizon=st.sampled_from([0.5, 1, 2]),
    starts=st.lists(st.tuples(st.floats(0, 20), st.floats(2, 30), st.floats(0, 25), st.floats(2, 30)), max_size=8),
)
def test_any_mix_ends_at_its_deadlines(horizon: float, starts: list[tuple[float, float, float, float]]) -> None:
    """Each waits from `start` for `first` seconds, but is moved `after` seconds later to wait for `second` more."""

    async def one(timers: Timers, start: float, first: float, after: float, second: float) -> None:
        await trio.sleep(start)
        it = Waiting(first)
        timers.add(it)
        await trio.sleep(min(after, first / 2))
        it.wait(second)
        expected = it.deadline
        await trio.sleep(100)
        assert it.expired == [pytest.approx(expected)]

    async def main() -> None:
        async with running(horizon) as timers, trio.open_nursery() as nursery:
            for case in starts:
                nursery.start_soon(one, timers, *case)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
