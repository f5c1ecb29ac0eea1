"""A network in memory: what a worker needs of sockets, on any clock, in one run, without a descriptor."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

import trio

from stario_trio.server.listener import BURST
from stario_trio.server.transport import Arrived

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.server.peerwatch import PeerWatch


class Client:
    """The peer's side of a connection: what it sends, and what it takes."""

    def __init__(self, *, window: float = float("inf")) -> None:
        self.transport = MemoryTransport(self)
        self.window = window
        """Bytes the peer's kernel still takes."""
        self.received = bytearray()
        self.ended = False
        """The server has ended its side (FIN)."""
        self.reset = False
        """The server has reset the connection (RST)."""
        self.arrived: deque[bytes] = deque()
        self.closed = False
        """This side sends no more."""
        self.left = False
        """This side is gone: sending to it fails."""
        self._news = trio.lowlevel.ParkingLot()

    # What the peer does

    def send(self, data: bytes) -> None:
        assert not self.closed
        if self.transport.closed_by_server:  # nobody is there any more: the kernel answers with a reset
            self.reset = True
            self.news()
            return
        self.arrived.append(data)
        self.transport.wake()

    def end(self) -> None:
        """Half-close: no more bytes from here."""
        self.closed = True
        self.transport.wake()

    def leave(self) -> None:
        """Close for good."""
        self.left = True
        self.end()

    def take(self, more: float) -> None:
        """Open the window."""
        self.window += more
        self.transport.wake()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._news.park()

    async def read_until(self, marker: bytes) -> bytes:
        await self.wait_for(lambda: marker in self.received or self.over)
        assert marker in self.received, bytes(self.received)
        return bytes(self.received)

    async def read_to_end(self) -> bytes:
        """Everything until the server ends or resets; then closes this side too, as a good client does."""
        await self.wait_for(lambda: self.over)
        self.leave()
        return bytes(self.received)

    @property
    def over(self) -> bool:
        return self.ended or self.reset

    # What the server's side tells

    def news(self) -> None:
        self._news.unpark_all()


class MemoryTransport:
    """The server's side: `stario_trio.server.transport.Transport`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.closed_by_server = False
        self._sending_ended = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self._watchers: list[Callable[[], None]] = []

    def wake(self) -> None:
        self._readers.unpark_all()
        self._writers.unpark_all()
        if self._client.closed:
            for peer_left in list(self._watchers):
                self._watchers.remove(peer_left)
                peer_left()

    def recv(self, max_bytes: int) -> bytes:
        if self.closed_by_server:
            raise OSError(errno.EBADF, "closed")
        arrived = self._client.arrived
        if arrived:
            data = arrived.popleft()
            if len(data) > max_bytes:
                arrived.appendleft(data[max_bytes:])
            return data[:max_bytes]
        if self._client.closed:
            return b""
        raise BlockingIOError

    def peek(self) -> Arrived:
        if self._client.arrived and not self.closed_by_server:
            return Arrived.BYTES
        return Arrived.END if self._client.closed or self.closed_by_server else Arrived.NOTHING

    def send(self, data: bytes | memoryview) -> int:
        if self.closed_by_server:
            raise OSError(errno.EBADF, "closed")
        if self._client.left:
            raise BrokenPipeError(errno.EPIPE, "gone")
        assert not self._sending_ended, "sent after the end"
        taken = int(min(len(data), self._client.window))
        if data and not taken:
            raise BlockingIOError
        self._client.window -= taken
        self._client.received += bytes(data[:taken])
        self._client.news()
        return taken

    def untaken(self) -> int:
        return 0

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self.closed_by_server or self._client.arrived or self._client.closed):
            await self._readers.park()
        self._check_open()

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self.closed_by_server or self._client.window > 0 or self._client.left):
            await self._writers.park()
        self._check_open()

    def _check_open(self) -> None:
        if self.closed_by_server:
            raise trio.ClosedResourceError

    def watch(self, hub: PeerWatch, peer_left: Callable[[], None]) -> Callable[[], None]:
        def end() -> None:
            if peer_left in self._watchers:
                self._watchers.remove(peer_left)

        self._watchers.append(peer_left)
        if self._client.closed:
            self.wake()
        return end

    def end_sending(self) -> None:
        self._sending_ended = True
        self._client.ended = True
        self._client.news()

    def close(self) -> None:
        if not self.closed_by_server:
            self.closed_by_server = True
            if self._client.arrived and not self._client.left:
                self._client.reset = True  # closing with unread input, as a kernel does (facts: F2)
            self._client.ended = True
            self._client.news()
            self.wake()

    def abort(self) -> None:
        if not self.closed_by_server:
            self._client.reset = True
            self.close()


class MemoryListener:
    """A listener whose backlog is a queue: `stario_trio.server.listener.Listener`."""

    burst = BURST

    def __init__(self) -> None:
        self.backlog: deque[Client | OSError] = deque()
        self.closed = False
        self._news = trio.lowlevel.ParkingLot()

    def connect(self, *, window: float = float("inf")) -> Client:
        if self.closed:
            raise ConnectionRefusedError
        client = Client(window=window)
        self.backlog.append(client)
        self._news.unpark_all()
        return client

    def fail(self, error: OSError) -> None:
        """Let the next accept raise."""
        self.backlog.append(error)
        self._news.unpark_all()

    def accept(self) -> MemoryTransport:
        if self.closed:
            raise trio.ClosedResourceError
        if not self.backlog:
            raise BlockingIOError
        first = self.backlog.popleft()
        if isinstance(first, OSError):
            raise first
        return first.transport

    def shut(self) -> None:
        self.close()

    def refuse(self) -> None:
        """As TCP: who comes before the close is in."""

    async def wait_acceptable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self.backlog or self.closed):
            await self._news.park()
        if self.closed:
            raise trio.ClosedResourceError

    def close(self) -> None:
        self.closed = True
        for waiting in self.backlog:
            if isinstance(waiting, Client):
                waiting.reset = True
                waiting.news()
        self._news.unpark_all()
