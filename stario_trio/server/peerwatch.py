"""Who notices that a peer has left while nobody reads from it.

A handler in `w.alive()` only writes, so somebody else must see the peer's FIN or reset. On Linux one nested epoll per
worker does it for all connections at no cost per stream (a task per stream would cost 3.5 KiB each), and it sees the
FIN even behind unread pipelined bytes. Elsewhere a task per watched connection waits for something to read.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EpollPeerWatch", "PeerWatch", "TaskPeerWatch", "peer_watch"]


class PeerWatch(Protocol):
    """Tells a connection once that its peer will send no more (a half-closed peer counts as gone)."""

    def add(self, sock: socket.socket, peer_left: Callable[[], None]) -> Callable[[], None]:
        """Watch one socket, or nobody once `run` has ended.

        Returns:
            The function that ends the watching, to be called once and before the socket closes.
        """
        ...

    async def run(self) -> None:
        """Serve until cancelled."""
        ...


def peer_watch() -> PeerWatch:
    """The best watch of this platform."""
    return EpollPeerWatch() if hasattr(select, "epoll") else TaskPeerWatch()


class EpollPeerWatch:
    """One nested epoll for all connections of a worker (Linux)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._peers: dict[int, Callable[[], None]] = {}

    def add(self, sock: socket.socket, peer_left: Callable[[], None]) -> Callable[[], None]:
        """See `PeerWatch.add`."""
        if self._epoll.closed:  # an outer cancel: only the cleanup of handlers is left
            return _nobody
        fd = sock.fileno()
        self._peers[fd] = peer_left
        # Without EPOLLIN: arriving bytes wake nobody. EPOLLHUP and EPOLLERR are always reported.
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

        def end() -> None:
            del self._peers[fd]
            if not self._epoll.closed:
                self._epoll.unregister(fd)

        return end

    async def run(self) -> None:
        """Wait for the epoll itself to become readable, and tell everybody it names.

        Ends when: never by itself.
        Cancelled by: the services nursery of `run_worker`, after the last handler.
        """
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, _events in self._epoll.poll(0):
                    self._peers[fd]()
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()


class TaskPeerWatch:
    """One task per watched connection, for platforms without epoll.

    It cannot see a FIN behind unread bytes: such a peer is noticed when a send fails.
    """

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    def add(self, sock: socket.socket, peer_left: Callable[[], None]) -> Callable[[], None]:
        """See `PeerWatch.add`."""
        if self._nursery is None:  # an outer cancel: only the cleanup of handlers is left
            return _nobody
        # A descriptor of its own: the handler may wait for its request body on the original one.
        twin = socket.socket(fileno=os.dup(sock.fileno()))
        scope = trio.CancelScope()
        self._nursery.start_soon(self._watch, twin, scope, peer_left, name="peer watch")
        return lambda: scope.cancel(reason="nobody watches this peer any more")

    async def _watch(self, sock: socket.socket, scope: trio.CancelScope, peer_left: Callable[[], None]) -> None:
        """Wait for the first thing to read, and look whether it is the end.

        Ends when: there is something to read.
        Cancelled by: the end of the watching, and the services nursery of `run_worker`.
        """
        with sock, scope:
            await trio.lowlevel.wait_readable(sock)
            try:
                if sock.recv(1, socket.MSG_PEEK):
                    return
            except OSError:
                pass  # a reset
            peer_left()

    async def run(self) -> None:
        """Hold the watching tasks.

        Ends when: never by itself.
        Cancelled by: the services nursery of `run_worker`, after the last handler.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None


def _nobody() -> None:
    """End the watching of nobody."""
