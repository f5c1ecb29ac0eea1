"""Accepting connections in memory."""

from __future__ import annotations

import errno
from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

from stario_trio.server.listener import BURST
from stario_trio.testing.memory import MemoryStream

if TYPE_CHECKING:
    from stario_trio.testing.memory import MemoryTransport

__all__ = ["MemoryListener"]


class MemoryListener:
    """A listener whose backlog is a queue: `stario_trio.server.listener.Listener`."""

    burst: int = BURST

    def __init__(self) -> None:
        self.backlog: deque[MemoryStream | OSError] = deque()
        """Who waits to be accepted, or what accepting will raise."""
        self.closed: bool = False
        """Whether it lets nobody in any more."""
        self._news = trio.lowlevel.ParkingLot()

    def connect(self, *, window: float = inf) -> MemoryStream:
        """Connect to the server, as its peer.

        Raises:
            ConnectionRefusedError: it lets nobody in any more.
        """
        if self.closed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the server in memory accepts no connections any more")
        client = MemoryStream(window=window)
        self.backlog.append(client)
        self._news.unpark_all()
        return client

    def fail(self, error: OSError) -> None:
        """Let the next accept raise."""
        self.backlog.append(error)
        self._news.unpark_all()

    def accept(self) -> MemoryTransport:
        """See `Listener.accept`."""
        if self.closed:
            raise trio.ClosedResourceError
        if not self.backlog:
            raise BlockingIOError
        first = self.backlog.popleft()
        if isinstance(first, OSError):
            raise first
        return first.transport

    def shut(self) -> None:
        """See `Listener.shut`."""
        self.close()

    def refuse(self) -> None:
        """As TCP: who comes before the close is in."""

    async def wait_acceptable(self) -> None:
        """See `Listener.wait_acceptable`."""
        await trio.lowlevel.checkpoint()
        while not (self.backlog or self.closed):
            await self._news.park()
        if self.closed:
            raise trio.ClosedResourceError

    def close(self) -> None:
        """See `Listener.close`."""
        self.closed = True
        for waiting in self.backlog:
            if isinstance(waiting, MemoryStream):
                waiting.reset = True
                waiting.news()
        self._news.unpark_all()
