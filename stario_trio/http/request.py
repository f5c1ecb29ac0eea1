"""One request as a handler sees it, and its body, read when asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from stario_trio.exceptions import HttpException
from stario_trio.http.cookies import parse_cookies
from stario_trio.http.query import QueryParams
from stario_trio.text import read_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from stario_trio.http.headers import Headers

__all__ = [
    "DEFAULT_BODY_TIMEOUT",
    "DEFAULT_MAX_BODY_SIZE",
    "HIGH_WATER_MARK",
    "LOW_WATER_MARK",
    "BodyReader",
    "Request",
]

#: The bytes of one read, and so the most that is read of a body ahead of its handler. It is what the kernel has at
#: most ready on loopback, and h11's own limit for a head.
HIGH_WATER_MARK: Final = 64 * 1024
#: Where a server that reads ahead goes on reading. This one reads when its handler asks; the name is Stario's.
LOW_WATER_MARK: Final = 16 * 1024
#: `Limits.body_bytes` of a server that sets none: room for a photograph, and 100 of them at once in a small machine.
DEFAULT_MAX_BODY_SIZE: Final = 10 * 1024 * 1024
#: `Limits.body_timeout`, in seconds between two pieces: phones lose their network for as long and come back.
DEFAULT_BODY_TIMEOUT: Final = 30.0


class BodyReader:
    """The body of one request, pulled from the connection piece by piece.

    Nothing is read before a handler asks, so a handler that reads slowly slows its peer and holds no memory.

    Args:
        receive: returns the next piece, `b""` at the end; raises what `Peer.receive` raises.
    """

    __slots__ = ("_body", "_receive", "_streaming")

    def __init__(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        self._receive = receive
        self._streaming = False
        self._body: bytes | None = None

    @classmethod
    def of(cls, body: bytes) -> BodyReader:
        """A body that is already there."""
        reader = cls(_nothing)
        reader._body = body
        return reader

    def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive; once, unless it has been read whole before or there is none.

        A request without a body gives one empty piece, as in Stario.

        Raises:
            RuntimeError: somebody streams it already.
        """
        return _Pieces(self)

    async def read(self, max_size: float | None = None) -> bytes:
        """The whole body; again and again.

        Args:
            max_size: bytes this caller accepts, below the server's own limit.

        Raises:
            HttpException: 413, more than `max_size`; and what `Peer.receive` raises.
        """
        limit = math.inf if max_size is None else max_size
        if self._body is None:
            body = bytearray()  # not a list of pieces: a peer may send them as single bytes
            async for piece in self.stream():
                body += piece
                if len(body) > limit:
                    raise HttpException(413, "Request body too large")
            self._body = bytes(body)
        if len(self._body) > limit:
            raise HttpException(413, "Request body too large")
        return self._body

    async def first_piece(self) -> tuple[bytes, bool]:
        """Begin a stream (for `stream`).

        Returns:
            The first piece, and whether it is all there is: a body that has been read before, or none.
        """
        if self._body is not None:
            return self._body, True
        if self._streaming:
            raise RuntimeError(
                "Body already streaming. It can be streamed once: use `await req.body()` to read it repeatedly."
            )
        self._streaming = True
        piece = await self._receive()
        if not piece:
            self._body = piece
        return piece, not piece

    async def next_piece(self) -> bytes:
        """The next piece, `b""` at the end (for `stream`)."""
        return await self._receive()


async def _nothing() -> bytes:
    return b""


class _Pieces:
    """The iterator of `BodyReader.stream`: safe to abandon, since it holds nothing open."""

    __slots__ = ("_done", "_reader", "_started")

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._started = False
        self._done = False

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._done:
            raise StopAsyncIteration
        if not self._started:
            self._started = True
            piece, self._done = await self._reader.first_piece()
            return piece
        piece = await self._reader.next_piece()
        if not piece:
            self._done = True
            raise StopAsyncIteration
        return piece


class Request:
    """One HTTP request.

    Attributes:
        method: as sent, usually upper-case.
        path: percent-decoded, without the query.
        query_bytes: the raw query, without the question mark.
        tail: what a catch-all route matched behind its prefix.
        subhost: what a wildcard host matched.
        headers: the request's fields.
        protocol_version: `"1.1"` or `"1.0"`.
        keep_alive: whether the peer wants to use the connection again (RFC 9112 section 9.3).
    """

    __slots__ = (
        "_body",
        "_cookies",
        "_host",
        "_query",
        "headers",
        "keep_alive",
        "method",
        "path",
        "protocol_version",
        "query_bytes",
        "subhost",
        "tail",
    )

    def __init__(
        self,
        *,
        method: str = "GET",
        path: str = "/",
        query_bytes: bytes = b"",
        protocol_version: str = "1.1",
        keep_alive: bool = True,
        headers: Headers,
        body: BodyReader,
    ) -> None:
        self.method: str = method
        self.path: str = path
        self.query_bytes: bytes = query_bytes
        self.protocol_version: str = protocol_version
        self.keep_alive: bool = keep_alive
        self.headers: Headers = headers
        self.tail: str = ""
        self.subhost: str = ""
        self._body = body
        self._host: str | None = None
        self._query: QueryParams | None = None
        self._cookies: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    @property
    def host(self) -> str:
        """The host the peer asked for: lower-case, without a port, `""` if it named none."""
        if self._host is None:
            authority = (self.headers.get("host") or "").lower()
            name, colon, port = authority.rpartition(":")
            self._host = name if colon and (not port or port.isdigit()) else authority
        return self._host

    @property
    def query(self) -> QueryParams:
        """The query, parsed once."""
        if self._query is None:
            self._query = QueryParams(self.query_bytes)
        return self._query

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name (RFC 6265 section 5.4), parsed once."""
        if self._cookies is None:
            self._cookies = parse_cookies(self.headers.getlist("cookie"))
        return self._cookies

    async def body(self) -> bytes:
        """The whole body, `b""` if there is none; again and again.

        Raises:
            HttpException: 400, 408 or 413, when the body breaks the rules.
            ClientDisconnected: the peer left before its end.
        """
        return await self._body.read()

    def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive; raises as `body` does."""
        return self._body.stream()

    async def json(self) -> Any:
        """The body as JSON, whatever its content type.

        Raises:
            HttpException: 400, the body is not JSON in UTF-8; and what `body` raises.
        """
        return read_json(await self.body())
