"""The other end of one exchange, as the application side sees it.

`Writer`, `Request` and `Alive` talk to a `Peer` and to nothing else, so they run the same over a socket, in memory and
in a test's recorder. The server's implementation is `stario_trio.server.exchange.Exchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["AliveScope", "Peer"]


class AliveScope(Protocol):
    """A block that is cancelled when the peer leaves or the server stops, and swallows only that."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> bool: ...


class Peer(Protocol):
    """What a response and a request body need of their connection."""

    @property
    def disconnected(self) -> bool:
        """The peer has left, or will send no more."""
        ...

    @property
    def shutting_down(self) -> bool:
        """The server wants to stop (SD-03)."""
        ...

    @property
    def closing(self) -> bool:
        """The connection ends after this response, so its head must say so."""
        ...

    @property
    def date(self) -> bytes:
        """The whole Date field line."""
        ...

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Send bytes in order, without waiting; nothing once the peer is gone.

        Args:
            last: these bytes end the response, and are taken however many wait already.

        Raises:
            StarioError: too many bytes wait already.
        """
        ...

    def abort(self) -> None:
        """Close the connection in the middle of the response, so that the peer can tell."""
        ...

    async def drain(self) -> bool:
        """Wait until the unsent bytes are below the high-water mark. Always a checkpoint.

        Returns:
            Whether more can be sent; not once sending has failed for good.
        """
        ...

    def alive(self) -> AliveScope:
        """A block that ends when the peer leaves or the server stops."""
        ...

    async def receive(self) -> bytes:
        """The next piece of the request body; `b""` at its end.

        Raises:
            HttpException: 400, 408 or 413, when the body breaks the rules.
            ClientDisconnected: the peer left before the end of its body.
        """
        ...
