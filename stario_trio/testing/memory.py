"""A network in memory: what a worker needs of sockets, on any clock, in one Trio run, without a descriptor.

`MemoryStream` is the peer's end of a connection, for a test to hold; `MemoryTransport` is the server's end of it.
"""

from __future__ import annotations

import errno
from collections import deque
from operator import index
from typing import TYPE_CHECKING, Final

import trio

from stario_trio.server.transport import Arrived

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.server.peerwatch import PeerWatch

__all__ = ["WINDOW", "Alone", "MemoryStream", "MemoryTransport"]

#: Bytes on the way in each direction before a sender waits. A kernel holds from 16 KiB to some MiB.
WINDOW: Final = 64 * 1024


class MemoryStream(trio.abc.HalfCloseableStream):
    """The peer's end of a connection to a server in memory.

    It is a Trio stream: `send_all` waits for a server that does not read, and what is not received holds the server
    up. The methods that are not async do at once, and without such limits, what a peer can do to a server.

    Args:
        window: bytes the server may send before something is received; `math.inf` for no limit, 0 for a peer that
            takes nothing.
    """

    def __init__(self, *, window: float = WINDOW) -> None:
        self.transport: MemoryTransport = MemoryTransport(self)
        """The server's end."""
        self.window: float = window
        """Bytes this end still takes; receiving opens it again."""
        self.received: bytearray = bytearray()
        """What the server has sent, and nobody has taken with `receive_some`."""
        self.ended: bool = False
        """The server has ended its side (FIN)."""
        self.reset: bool = False
        """The server has reset the connection (RST)."""
        self.arrived: deque[bytes] = deque()
        """What this end has sent, and the server has not read."""
        self.closed: bool = False
        """This end sends no more."""
        self.left: bool = False
        """This end is gone: sending to it fails."""
        self.aborted: bool = False
        """This end has reset the connection."""
        self._news = trio.lowlevel.ParkingLot()
        self._sending = Alone("send on this stream")
        self._receiving = Alone("receive from this stream")

    # What the peer does, at once

    def send(self, data: bytes) -> None:
        """Send bytes, however many wait already.

        Raises:
            trio.ClosedResourceError: this end sends no more.
        """
        if self.closed:
            raise trio.ClosedResourceError("this end of the connection sends no more")
        if not data:
            return
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
        """Close for good. Idempotent."""
        self.left = True
        self.end()
        self.news()

    def abort(self) -> None:
        """Reset the connection: what the server has not read is lost, and reading more is an error for it."""
        self.aborted = True
        self.arrived.clear()
        self.leave()

    def take(self, more: float) -> None:
        """Open the window, by so many bytes."""
        self.window += more
        self.transport.wake()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is asked whenever something happens on the connection."""
        while not condition():
            await self._news.park()

    async def read_until(self, marker: bytes) -> bytes:
        """Return what has been received when `marker` is in it; it stays there.

        Raises:
            EOFError: the server has ended without it.
        """
        await self.wait_for(lambda: marker in self.received or self.over)
        if marker not in self.received:
            raise EOFError(f"The server ended the connection without {marker!r}, after {bytes(self.received)!r}.")
        return bytes(self.received)

    async def read_to_end(self) -> bytes:
        """Everything until the server ends or resets; then closes this end too, as a good client does."""
        await self.wait_for(lambda: self.over)
        self.leave()
        return bytes(self.received)

    @property
    def over(self) -> bool:
        """Whether the server sends no more."""
        return self.ended or self.reset

    # The Trio stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits while `WINDOW` bytes are unread.

        Raises:
            trio.ClosedResourceError: this end sends no more.
            trio.BrokenResourceError: the server has closed the connection.
            trio.BusyResourceError: another task sends.
        """
        rest = bytes(data)
        with self._sending:
            while True:
                await self._wait_for_room()
                room = WINDOW - self._unread()
                self.send(rest[:room])
                if self.reset:
                    raise trio.BrokenResourceError("the server has closed the connection")
                rest = rest[room:]
                if not rest:
                    return

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the server has read enough of what was sent, or will read no more; raises as `send_all`."""
        with self._sending:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        await trio.lowlevel.checkpoint()
        await self.wait_for(lambda: self._unread() < WINDOW or self.closed or self.transport.closed_by_server)
        if self.closed:
            raise trio.ClosedResourceError("this end of the connection sends no more")

    def _unread(self) -> int:
        return sum(map(len, self.arrived))

    async def send_eof(self) -> None:
        """See `end`."""
        with self._sending:
            self.end()
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Take bytes as soon as there are some; `b""` when the server has ended its side.

        Raises:
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the server has reset the connection.
            trio.BusyResourceError: another task receives.
        """
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            await trio.lowlevel.checkpoint()
            await self.wait_for(lambda: bool(self.received) or self.over or self.left)
        if self.left:
            raise trio.ClosedResourceError("this end of the connection is closed")
        data = bytes(self.received[:max_bytes])
        if data:
            del self.received[: len(data)]
            self.take(len(data))
        elif self.reset:
            raise trio.BrokenResourceError("the server has reset the connection")
        return data

    async def aclose(self) -> None:
        """See `leave`."""
        self.leave()
        await trio.lowlevel.checkpoint()

    # What the server's end tells

    def news(self) -> None:
        """Wake who waits for something to happen."""
        self._news.unpark_all()


class Alone:
    """A block for one task at a time; another one fails, as with every Trio stream.

    Args:
        what: the task is about to do.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise trio.BusyResourceError(f"another task is about to {self._what}")
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


class MemoryTransport:
    """The server's end: `stario_trio.server.transport.Transport`."""

    def __init__(self, client: MemoryStream) -> None:
        self._client = client
        self.closed_by_server: bool = False
        """Whether the server has closed it."""
        self.requests: int = 0
        """How many of its requests have come to the application."""
        self.failures: dict[int, BaseException] = {}
        """By the number of a request, from 1: what its handler has raised and nobody has handled."""
        self._sending_ended = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self._watchers: list[Callable[[], None]] = []

    def wake(self) -> None:
        """Wake who waits here, and tell who watches whether the peer has left."""
        self._readers.unpark_all()
        self._writers.unpark_all()
        if self._client.closed:
            for peer_left in list(self._watchers):
                self._watchers.remove(peer_left)
                peer_left()

    def recv(self, max_bytes: int) -> bytes:
        """See `Transport.recv`."""
        if self.closed_by_server:
            raise OSError(errno.EBADF, "closed")
        if self._client.aborted:
            raise ConnectionResetError(errno.ECONNRESET, "reset by the peer")
        arrived = self._client.arrived
        if arrived:
            data = arrived.popleft()
            if len(data) > max_bytes:
                arrived.appendleft(data[max_bytes:])
            self._client.news()
            return data[:max_bytes]
        if self._client.closed:
            return b""
        raise BlockingIOError

    def peek(self) -> Arrived:
        """See `Transport.peek`."""
        if self._client.arrived and not self.closed_by_server:
            return Arrived.BYTES
        return Arrived.END if self._client.closed or self.closed_by_server else Arrived.NOTHING

    def send(self, data: bytes | memoryview) -> int:
        """See `Transport.send`."""
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
        """See `Transport.untaken`: what was sent is with the peer."""
        return 0

    async def wait_readable(self) -> None:
        """See `Transport.wait_readable`."""
        await trio.lowlevel.checkpoint()
        while not (self.closed_by_server or self._client.arrived or self._client.closed):
            await self._readers.park()
        self._check_open()

    async def wait_writable(self) -> None:
        """See `Transport.wait_writable`."""
        await trio.lowlevel.checkpoint()
        while not (self.closed_by_server or self._client.window > 0 or self._client.left):
            await self._writers.park()
        self._check_open()

    def _check_open(self) -> None:
        if self.closed_by_server:
            raise trio.ClosedResourceError

    def watch(self, hub: PeerWatch, peer_left: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """See `Transport.watch`; it needs no hub, as the peer tells itself."""

        def end() -> None:
            if peer_left in self._watchers:
                self._watchers.remove(peer_left)

        self._watchers.append(peer_left)
        if self._client.closed:
            self.wake()
        return end

    def end_sending(self) -> None:
        """See `Transport.end_sending`."""
        self._sending_ended = True
        self._client.ended = True
        self._client.news()

    def close(self) -> None:
        """See `Transport.close`."""
        if not self.closed_by_server:
            self.closed_by_server = True
            if self._client.arrived and not self._client.left:
                self._client.reset = True  # closing with unread input, as a kernel does (RFC 9112 section 9.6)
            self._client.ended = True
            self._client.news()
            self.wake()

    def abort(self) -> None:
        """See `Transport.abort`."""
        if not self.closed_by_server:
            self._client.reset = True
            self.close()
