"""What an HTTP client sends its requests through: the pool of httpcore2 or httpcore, over a network in memory."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, TypeVar

from stario_trio.testing.network import ASKED, Asked, Network
from stario_trio.testing.response import ClosingResponse, Loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable
    from types import TracebackType
    from typing import Self

    from stario_trio.testing.server import MemoryServer

__all__ = ["Body", "Transport"]

T = TypeVar("T")


class Transport:
    """The `AsyncBaseTransport` of a client.

    Args:
        server: at the other end.
        httpx: the module `httpx2` or `httpx`.
        httpcore: what that library is built on.
    """

    def __init__(self, server: MemoryServer, httpx: Any, httpcore: Any) -> None:
        self._server = server
        self._httpx = httpx
        self._httpcore = httpcore
        self._failures: tuple[type[Exception], ...] = (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            httpcore.UnsupportedProtocol,
        )
        self._body_type = type("Body", (Body, httpx.AsyncByteStream), {})
        self._response_type: Any = type(
            "Response", (ClosingResponse, httpx.Response), {"failures": httpx.TransportError}
        )
        self._unclosed: dict[ClosingResponse, None] = {}
        self._pool = httpcore.AsyncConnectionPool(
            # Loading the system's certificates takes 20 ms, and nobody here has one.
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_connections=None,
            # It would count in real time. The server's own limit counts on the clock of the test.
            keepalive_expiry=None,
            network_backend=Network(server, httpcore),
        )

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return the response as soon as its head is there.

        Raises:
            httpx2.TransportError: what would go wrong over a socket.
            BaseException: what the handler has raised, if errors are to be raised.
        """
        url = request.url
        upload = Loop[bytes](request.stream.__aiter__())  # httpcore leaves it open if the server takes no more
        sent = self._httpcore.Request(
            method=request.method,
            url=self._httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=upload,
            extensions=request.extensions,
        )
        asked = Asked()
        token = ASKED.set(asked)
        try:
            received = await self.attempt(asked, self._pool.handle_async_request(sent))
        finally:
            ASKED.reset(token)
            await upload.aclose()  # noqa: ASYNC102  (a generator knows itself what its close may wait for)
        if received.status == 500 and (error := self.error_of(asked)) is not None:
            await received.aclose()
            raise error
        response = self._response_type(
            status_code=received.status,
            headers=received.headers,
            stream=self._body_type(received.stream, self, asked),
            extensions=received.extensions,
        )
        response.asked, response.loops, response.unclosed = asked, {}, self._unclosed
        return response

    async def attempt(self, asked: Asked, step: Awaitable[T]) -> T:
        """Wait, and tell of what fails: the handler, if errors are to be raised, or the network, as httpx says it."""
        try:
            return await step
        except self._failures as exc:
            failure = exc
        # Outside of `except`: the handler's error has a context of its own. A timeout is the client's.
        error = None if isinstance(failure, self._httpcore.TimeoutException) else self.error_of(asked)
        if error is not None:
            raise error
        raise getattr(self._httpx, type(failure).__name__)(str(failure)) from failure

    def error_of(self, asked: Asked) -> BaseException | None:
        """What the handler of this request has raised, if errors are to be raised; it is then seen."""
        if asked.stream is None or asked.given_up:
            return None
        return self._server.take_error(asked.stream.transport, asked.number)

    async def aclose(self) -> None:
        """Close all responses and connections."""
        for response in list(self._unclosed):
            await response.aclose()
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        tb: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class Body:
    """The body of a response as it comes, an `AsyncByteStream`; closing it early closes the connection.

    Args:
        stream: that of httpcore.
        transport: its client's.
        asked: the request.
    """

    def __init__(self, stream: Any, transport: Transport, asked: Asked) -> None:
        self._stream = stream
        self._transport = transport
        self._asked = asked
        self._pieces: AsyncGenerator[bytes] = stream.__aiter__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._transport.attempt(self._asked, self._pieces.__anext__())
        except StopAsyncIteration:
            error = self._transport.error_of(self._asked)  # a handler may fail after it has answered
            if error is None:
                raise
        raise error

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()
