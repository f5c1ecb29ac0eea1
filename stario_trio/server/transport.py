"""One accepted connection as bytes: the only place that reads from and writes to its socket.

Reading and writing never wait; waiting is separate (`wait_readable`, `wait_writable`). So the server decides where a
task may be stopped, and a test can put a pair of memory queues in the place of a socket.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import trio

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.server.peerwatch import PeerWatch

__all__ = ["Arrived", "SocketTransport", "Transport"]

# close() with this option discards what is unsent and resets the connection (SO_LINGER on, 0 seconds).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Arrived(Enum):
    """What a look at the receiving side found."""

    NOTHING = "nothing yet"
    BYTES = "unread bytes"
    END = "the end of what the peer sends, or an error"


class Transport(Protocol):
    """What a connection needs of the other side.

    Non-blocking calls raise `BlockingIOError` where they would wait and another `OSError` when the connection is
    lost. After `close`, waiting raises `trio.ClosedResourceError`, also for a task that waits already.
    """

    def recv(self, max_bytes: int) -> bytes:
        """Take what has arrived; `b""` is the end."""
        ...

    def peek(self) -> Arrived:
        """Say what has arrived, and leave it there."""
        ...

    def send(self, data: bytes | memoryview) -> int:
        """Give bytes to the kernel. Returns how many it took."""
        ...

    def untaken(self) -> int:
        """Bytes the kernel has and the peer does not, where it can be told: fewer and fewer while a peer reads."""
        ...

    async def wait_readable(self) -> None:
        """Return when `recv` would not block."""
        ...

    async def wait_writable(self) -> None:
        """Return when `send` would not block."""
        ...

    def watch(self, hub: PeerWatch, peer_left: Callable[[], None]) -> Callable[[], None]:
        """Call `peer_left` once when the peer will send no more; one watch at a time.

        Returns:
            The function that ends the watching. Closing ends it too, and ending it again is harmless.
        """
        ...

    def end_sending(self) -> None:
        """Tell the peer that nothing more comes (half-close)."""
        ...

    def close(self) -> None:
        """Close; what the kernel has is still delivered. Idempotent."""
        ...

    def abort(self) -> None:
        """Close so that the peer sees an error, not an end. Idempotent."""
        ...


class SocketTransport:
    """A TCP or Unix stream socket."""

    __slots__ = ("_sock", "_unwatch")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._unwatch: Callable[[], None] | None = None

    def recv(self, max_bytes: int) -> bytes:
        """See `Transport.recv`."""
        return self._sock.recv(max_bytes)

    def peek(self) -> Arrived:
        """See `Transport.peek`."""
        try:
            return Arrived.BYTES if self._sock.recv(1, socket.MSG_PEEK) else Arrived.END
        except BlockingIOError:
            return Arrived.NOTHING
        except OSError:
            return Arrived.END

    def send(self, data: bytes | memoryview) -> int:
        """See `Transport.send`."""
        return self._sock.send(data)

    def untaken(self) -> int:
        """See `Transport.untaken`."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError, ValueError):  # it is closed
                return int.from_bytes(ioctl(self._sock, TIOCOUTQ, bytes(4)), sys.byteorder)
        return 0

    async def wait_readable(self) -> None:
        """See `Transport.wait_readable`."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("this connection is closed")
        await trio.lowlevel.wait_readable(self._sock)

    async def wait_writable(self) -> None:
        """See `Transport.wait_writable`."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("this connection is closed")
        await trio.lowlevel.wait_writable(self._sock)

    def watch(self, hub: PeerWatch, peer_left: Callable[[], None]) -> Callable[[], None]:
        """See `Transport.watch`."""
        self._unwatch = hub.add(self._sock, peer_left)
        return self._end_watching

    def _end_watching(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    def end_sending(self) -> None:
        """See `Transport.end_sending`."""
        with contextlib.suppress(OSError):  # the peer has reset it: then it knows
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Transport.close`."""
        if self._sock.fileno() >= 0:
            self._end_watching()  # the number of a closed descriptor is soon somebody else's
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def abort(self) -> None:
        """See `Transport.abort`."""
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()
