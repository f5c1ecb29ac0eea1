"""The timeouts of waiting connections: exact to the clock, and free until they are due.

A connection only stores the time at which it would give up (`deadline`), which costs an assignment. The heap here may
hold an older, earlier time for it; when that one comes, the current one is looked up and the entry goes back with it.
So nothing is updated per request (moving a scope's deadline twice per request costs 2.7 us), and nothing ticks.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from itertools import count
from typing import Protocol
from weakref import ref

import trio

__all__ = ["Timed", "Timers"]


class Timed(Protocol):
    """Something that may wait too long."""

    deadline: float
    """The Trio time at which it has waited too long; `math.inf` while it does not wait."""
    closed: bool
    """Whether it can be forgotten."""

    def expire(self) -> None:
        """End it: it has waited too long."""
        ...


class Timers:
    """Ends each `Timed` at its deadline. Holds none of them: one that is closed goes at once.

    Args:
        horizon: the shortest timeout anybody sets, in seconds. A deadline set at some time lies at least this far in
            the future, so looking again after this long never comes too late.
    """

    def __init__(self, horizon: float) -> None:
        self._horizon = horizon
        self._heap: list[tuple[float, int, ref[Timed]]] = []
        self._order = count()
        self._nap = trio.CancelScope()

    def add(self, timed: Timed) -> None:
        """Watch this deadline until `timed` is closed."""
        self._push(timed, trio.current_time())

    def _push(self, timed: Timed, now: float) -> None:
        at = min(timed.deadline, now + self._horizon)
        if at < math.inf:
            heappush(self._heap, (at, next(self._order), ref(timed)))
            self._nap.deadline = min(self._nap.deadline, at)

    async def run(self) -> None:
        """Sleep until the first deadline, end what is due, and so on.

        Ends when: never by itself.
        Cancelled by: the services nursery of `run_worker`, after the last handler.
        """
        while True:
            self._nap = trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf)
            with self._nap:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                _, _, waiting = heappop(self._heap)
                timed = waiting()
                if timed is None or timed.closed:
                    continue
                if timed.deadline <= now:
                    timed.expire()
                else:
                    self._push(timed, now)
