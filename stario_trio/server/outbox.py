"""Bytes on their way to one peer: in order, at once when the kernel takes them, otherwise by a task.

This is the sink under the synchronous writer. `send` never waits; waiting is `wait_below`, where a handler waits
anyway. What is unsent has a limit, and a peer that takes nothing for `write_timeout` is given up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stario_trio.server.config import Limits
    from stario_trio.server.transport import Transport

__all__ = ["Outbox"]


class Outbox:
    """The sending side of a connection.

    Args:
        transport: takes the bytes.
        limits: `max_unsent` and `write_timeout` count here.
        start: starts the flushing task in the worker's nursery of connections.
        on_lost: told once, in words, when nothing can be sent any more.
    """

    __slots__ = (
        "_flushing",
        "_limits",
        "_on_lost",
        "_queue",
        "_start",
        "_transport",
        "_waiters",
        "lost",
        "unsent",
    )

    def __init__(
        self,
        transport: Transport,
        limits: Limits,
        start: Callable[[Callable[[], Awaitable[None]]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._start = start
        self._on_lost = on_lost
        self._queue: deque[bytes | memoryview] = deque()
        self._flushing = False
        self._waiters = trio.lowlevel.ParkingLot()
        self.unsent: int = 0
        """Bytes the kernel has not taken yet."""
        self.lost: bool = False
        """Whether sending has failed for good; what is sent from now on is dropped."""

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Send in order; what the kernel does not take now is kept and sent by a task.

        Args:
            last: taken however many bytes wait already, since nothing follows.

        Raises:
            StarioError: more than `max_unsent` bytes wait already, and nothing of `data` is kept. Or bytes must wait
                and this is no thread of Trio's; if the peer has a part of them already, it is lost.
        """
        if self.lost or not data:
            return
        if self.unsent > self._limits.max_unsent and not last:
            raise StarioError(
                "The peer does not keep up with this response",
                context={"unsent": self.unsent, "max_unsent": self._limits.max_unsent},
                help_text="Wait between writes: `await w.drain()`, or write inside `async for ... in w.alive(...)`.",
            )
        rest: bytes | memoryview = data
        taken = 0
        if not self._queue:
            try:
                taken = self._transport.send(data)
            except BlockingIOError:
                pass
            except OSError as exc:
                self.lose(f"sending failed: {exc}")
                return
            if taken == len(data):
                return
            rest = memoryview(data)[taken:]
        if not trio.lowlevel.in_trio_run():  # the flushing task would never start, nor the connection ever end
            self.lost = taken > 0
            raise StarioError(
                "Written from a thread",
                help_text="Write in the handler, or `trio.from_thread.run_sync(w.write, data)` in the thread.",
            )
        self._queue.append(rest)
        self.unsent += len(rest)
        if not self._flushing:
            self._flushing = True
            self._start(self._flush)

    async def wait_below(self, limit: int) -> None:
        """Return when fewer than `limit` bytes are unsent, or none can be sent any more. Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while self.unsent >= limit and not self.lost:
            await self._waiters.park()

    async def _flush(self) -> None:
        """Send what waits, for as long as something waits.

        Ends when: everything is sent, the peer takes nothing for `write_timeout`, or the socket is closed.
        Cancelled by: the nursery of connections (an outer cancel).
        """
        try:
            while self._queue:
                untaken = self._transport.untaken()
                with trio.move_on_after(self._limits.write_timeout) as stall:
                    await self._transport.wait_writable()
                if stall.cancelled_caught:
                    # The kernel wants a good part of its buffer free before it says writable: megabytes, at times.
                    if self._transport.untaken() < untaken:
                        continue
                    self.lose(f"the peer took nothing for {self._limits.write_timeout:g} s")
                    self._transport.abort()
                    return
                self._send_queued()
                self._waiters.unpark_all()
        except (OSError, trio.ClosedResourceError) as exc:
            self.lose(f"sending failed: {exc}")
        finally:
            self._flushing = False

    def _send_queued(self) -> None:
        """Give the kernel what it takes now; at most one round of what waits, so that others get their turn."""
        for _ in range(len(self._queue)):
            head = self._queue[0]
            try:
                taken = self._transport.send(head)
            except BlockingIOError:
                return
            self.unsent -= taken
            if taken < len(head):
                self._queue[0] = memoryview(head)[taken:]
                return
            self._queue.popleft()

    def lose(self, why: str) -> None:
        """Give the peer up: drop what is unsent and wake who waits for it. Only the first call counts."""
        if not self.lost:
            self.lost = True
            self._queue.clear()
            self.unsent = 0
            self._waiters.unpark_all()
            self._on_lost(why)
