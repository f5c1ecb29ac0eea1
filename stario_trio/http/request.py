"""One request as a handler sees it, and its body, read when asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from stario_trio.exceptions import ClientDisconnected, HttpException
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
#: most ready on loopback, and h11's own limit for a head. A streamed body of up to as many can be read again.
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

    `read` keeps what it gets, also when a timeout ends it, and the next one goes on from there. Streams keep no more
    than `HIGH_WATER_MARK` bytes: enough for the JSON of a page, nothing of an upload. As long as all that has come is
    kept, each stream begins at the beginning, and `read` gives the whole.

    Args:
        receive: returns the next piece, `b""` at the end; raises what `Peer.receive` raises. If it is cancelled, it
            has taken nothing. None if nothing comes.
    """

    __slots__ = ("_failure", "_kept", "_receive", "_received", "_waiting")

    def __init__(self, receive: Callable[[], Awaitable[bytes]] | None) -> None:
        self._receive = receive  # None, too, when the body has come to its end
        self._received = 0
        # All that was received, None if it is not kept. One piece stays as it came, more of them grow in a bytearray:
        # a peer may send single bytes.
        self._kept: bytes | bytearray | None = b""
        self._waiting = False
        self._failure: Exception | None = None

    @classmethod
    def of(cls, body: bytes) -> BodyReader:
        """A body that is already there."""
        reader = cls(None)
        reader._keep(body, math.inf)
        return reader

    def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive; see `Request.stream`."""
        return _Pieces(self)

    async def read(self, max_size: float | None = None) -> bytes:
        """The whole body; again and again.

        Args:
            max_size: bytes this caller accepts, below the server's own limit.

        Raises:
            HttpException: 413, more than `max_size`; and what `Peer.receive` raises.
            RuntimeError: what was streamed is not kept, or another task waits for the body.
        """
        limit = math.inf if max_size is None else max_size
        while True:
            if self._received > limit:
                raise HttpException(413, "Request body too large")
            if self._kept is None:
                raise self._failure or _not_kept()
            if self._receive is None:
                return bytes(self._kept)
            await self._wait_for_more(self._receive, math.inf)

    async def piece_at(self, start: int) -> bytes:
        """What follows the first `start` bytes, `b""` at the end (for `stream`); raises as `read` does."""
        if start < self._received:
            if self._kept is None:
                raise self._failure or _not_kept()
            return bytes(self._kept[start:])
        if self._receive is None:
            return b""
        return await self._wait_for_more(self._receive, HIGH_WATER_MARK)

    async def _wait_for_more(self, receive: Callable[[], Awaitable[bytes]], room: float) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self._waiting:
            raise RuntimeError("Body already streaming: another task waits for it. Read it in one task.")
        self._waiting = True
        try:
            piece = await receive()
        except (HttpException, ClientDisconnected) as exc:
            self._failure = exc  # who asks again must not wait again
            self._kept = None
            raise
        finally:
            self._waiting = False
        self._keep(piece, room)
        return piece

    def _keep(self, piece: bytes, room: float) -> None:
        self._received += len(piece)
        if not piece:
            self._receive = None
            if isinstance(self._kept, bytearray):
                self._kept = bytes(self._kept)  # to be given away again and again
        elif self._kept is None or self._received > room:
            self._kept = None
        elif not self._kept:
            self._kept = piece
        elif isinstance(self._kept, bytearray):
            self._kept += piece
        else:
            self._kept = bytearray(self._kept) + piece


def _not_kept() -> RuntimeError:
    return RuntimeError(
        f"The beginning of the body is gone: of a body that is streamed, no more than {HIGH_WATER_MARK} bytes are "
        "kept. To read a larger one again, get the whole with `await c.req.body()` first; `c.req.stream()`, "
        "`c.req.json()` and `c.signals()` then use that."
    )


class _Pieces:
    """The iterator of `BodyReader.stream`: safe to abandon, since it holds nothing open."""

    __slots__ = ("_at", "_reader", "_started")

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._at = 0
        self._started = False

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._reader.piece_at(self._at)
        if not piece and self._started:
            raise StopAsyncIteration
        self._started = True
        self._at += len(piece)
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
            RuntimeError: more than 64 KiB of it have been streamed before, or another task waits for it.
        """
        return await self._body.read()

    def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive, so that one of any size needs no memory; raises as `body` does.

        A stream may be left early. It can be begun again, or followed by `body`, `json` or `c.signals()`, and gives the
        whole: up to 64 KiB (`HIGH_WATER_MARK`) of what was streamed are kept for that. To read a larger body more than
        once, begin with `body`. A request without a body gives one empty piece.
        """
        return self._body.stream()

    async def json(self) -> Any:
        """The body as JSON, whatever its content type.

        Raises:
            HttpException: 400, the body is not JSON in UTF-8; and what `body` raises.
        """
        return read_json(await self.body())
