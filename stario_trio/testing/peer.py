"""The other end of one exchange, made up: a `Peer` that writes down what it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["DATE", "PeerScope", "RecordingPeer"]

#: RFC 9110 section 5.6.7: the time of its examples.
DATE: Final = "Sun, 06 Nov 1994 08:49:37 GMT"


class PeerScope:
    """What `RecordingPeer.alive` gives: one cancel scope.

    Ends when: the body is done.
    Cancelled by: the peer leaving, or hearing of a shutdown.
    """

    def __init__(self, peer: RecordingPeer) -> None:
        self._peer = peer
        self._scope = trio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._peer.open_scopes.append(self)
        if self._peer.disconnected or self._peer.shutting_down:
            self.end()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        self._peer.open_scopes.remove(self)
        return self._scope.__exit__(exc_type, exc, tb)

    def end(self) -> None:
        """Cancel the body."""
        self._scope.cancel(reason="the peer has left, or the server stops, so a test says")


class RecordingPeer:
    """Takes every byte; leaves, or hears of a shutdown, when told to.

    Args:
        body: the pieces of the request body that are still to come.
    """

    def __init__(self, *body: bytes) -> None:
        self.sent: bytearray = bytearray()
        """What the writer has sent."""
        self.aborted: bool = False
        """Whether the writer has cut the connection."""
        self.full: Exception | None = None
        """Raised by `send`, while set."""
        self.room: trio.Event = trio.Event()
        """`drain` waits for it."""
        self.room.set()
        self.body: list[bytes] = list(body)
        self.disconnect: trio.Event = trio.Event()
        """Set when the peer has left."""
        self.shutdown: trio.Event = trio.Event()
        """Set when the server wants to stop."""
        self.open_scopes: list[PeerScope] = []

    # What a test does

    def leave(self) -> None:
        """Leave: every `alive` block ends."""
        self.disconnect.set()
        self._end_scopes()

    def shut_down(self) -> None:
        """Let the server stop: every `alive` block ends."""
        self.shutdown.set()
        self._end_scopes()

    def _end_scopes(self) -> None:
        for scope in self.open_scopes:
            scope.end()

    # The Peer

    @property
    def disconnected(self) -> bool:
        """See `Peer.disconnected`."""
        return self.disconnect.is_set()

    @property
    def shutting_down(self) -> bool:
        """See `Peer.shutting_down`."""
        return self.shutdown.is_set()

    @property
    def closing(self) -> bool:
        """See `Peer.closing`."""
        return self.shutting_down

    @property
    def date(self) -> bytes:
        """See `Peer.date`."""
        return f"date: {DATE}\r\n".encode("ascii")

    def send(self, data: bytes, *, last: bool = False) -> None:
        """See `Peer.send`."""
        assert isinstance(data, bytes)
        assert not self.aborted, "sent after the cut"
        if self.full is not None and not last:
            raise self.full
        self.sent += data

    def abort(self) -> None:
        """See `Peer.abort`."""
        self.aborted = True

    async def drain(self) -> bool:
        """See `Peer.drain`."""
        await trio.lowlevel.checkpoint()
        await self.room.wait()
        return not self.disconnect.is_set()

    def alive(self) -> PeerScope:
        """See `Peer.alive`."""
        return PeerScope(self)

    async def receive(self) -> bytes:
        """See `Peer.receive`."""
        await trio.lowlevel.checkpoint()
        return self.body.pop(0) if self.body else b""
