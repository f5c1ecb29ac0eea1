"""An HTTP client whose network is a server in memory: httpx2 or httpx, with their own HTTP/1.1 and connection pool.

Neither library is imported before a client is made. What we need of each is the same, down to the names of their
exceptions: an `AsyncClient` over our transport, and in that the pool of httpcore2 or httpcore over our network.
"""

from __future__ import annotations

import math
import ssl
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from stario_trio.exceptions import StarioError
from stario_trio.testing.memory import WINDOW
from stario_trio.testing.request import not_a_test
from stario_trio.testing.server import MemoryServer, serving_in_memory

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Generator
    from types import ModuleType, TracebackType
    from typing import Self

    from httpx2 import AsyncClient

    from stario_trio.http.app import Stario
    from stario_trio.server.config import Limits
    from stario_trio.testing.memory import MemoryStream
else:
    # The base is the `AsyncClient` of the library that was chosen; see `make_client`.
    AsyncClient = object

__all__ = ["Client", "TestClient", "make_client"]

T = TypeVar("T")

_LIBRARIES = {"httpx2": "httpcore2", "httpx": "httpcore"}


class Client(AsyncClient):
    """An `httpx2.AsyncClient` (or one of httpx) of a server in memory."""

    server: MemoryServer
    """What it talks to: `client.server.stop()`, `.connect()`, `.errors`."""


@not_a_test
@asynccontextmanager
async def TestClient(  # noqa: N802  (a name beside TestRequest)
    app: Stario,
    *,
    graceful_timeout: float = 5.0,
    cleanup_timeout: float = 5.0,
    limits: Limits | None = None,
    raise_handler_errors: bool = True,
    library: ModuleType | None = None,
    **options: Any,
) -> AsyncGenerator[Client]:
    """Serve an app in memory around a block, to an HTTP client.

    `async with TestClient(app) as client: response = await client.get("/")`. The client takes any host for this
    server, has no timeouts and does not look at the environment, unless `options` say otherwise.

    Args:
        app: what is served.
        graceful_timeout: see `Stario.serve`.
        cleanup_timeout: see `Stario.serve`.
        limits: see `Stario.serve`.
        raise_handler_errors: see `serving_in_memory`.
        library: the module `httpx2` or `httpx`; if None, the first of them that is installed.
        options: of its `AsyncClient`, such as `base_url`, `headers`, `cookies`, `timeout`, `follow_redirects`.

    Raises:
        StarioError: a bad setting, or neither library is installed.
        BaseException: what handlers have raised, the first of it.

    Ends when: the block is done, the client is closed and the server has stopped.
    Cancelled by: an exception in the block, or one that ends the server, such as `SystemExit` in a handler.
    """
    async with (
        serving_in_memory(
            app,
            graceful_timeout=graceful_timeout,
            cleanup_timeout=cleanup_timeout,
            limits=limits,
            raise_handler_errors=raise_handler_errors,
        ) as server,
        server.client(library=library, **options) as client,
    ):
        yield client


def make_client(server: MemoryServer, library: ModuleType | None, options: dict[str, Any]) -> Client:
    """See `MemoryServer.client`."""
    httpx = _find_library() if library is None else library
    if httpx.__name__ not in _LIBRARIES:
        raise StarioError(
            "Unknown HTTP client library",
            context={"library": library},
            help_text="Give the module httpx2 or httpx, or nothing: then it is the first that is installed.",
        )
    # Of the shape of an AsyncBaseTransport; no type checker knows that of two libraries at once.
    transport = _Transport(server, httpx, import_module(_LIBRARIES[httpx.__name__]))
    settings: dict[str, Any] = {"base_url": "http://test", "timeout": None, "trust_env": False, **options}
    kind = type("TestClient", (Client, httpx.AsyncClient), {"__test__": False})
    client: Client = kind(transport=cast("Any", transport), **settings)
    client.server = server
    return client


def _find_library() -> ModuleType:
    for name in _LIBRARIES:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise StarioError(
        "TestClient needs httpx2 or httpx, and neither is installed",
        help_text="Install one of them (`pip install httpx2`), or speak bytes: `serving_in_memory(app)` and its "
        "`connect()` need no library.",
    )


class _Transport:
    """The `AsyncBaseTransport` of a client.

    Args:
        server: at the other end.
        httpx: `httpx2` or `httpx`.
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
        self._body_type = type("Body", (_Body, httpx.AsyncByteStream), {})
        self._pool = httpcore.AsyncConnectionPool(
            # Loading the system's certificates takes 20 ms, and nobody here has one.
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_connections=None,
            # It would count in real time. The server's own limit counts on the clock of the test.
            keepalive_expiry=None,
            network_backend=_Network(server, httpcore),
        )

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return the response as soon as its head is there.

        Raises:
            httpx2.TransportError: what would go wrong over a socket.
            BaseException: what the handler has raised, if errors are to be raised.
        """
        url = request.url
        sent = self._httpcore.Request(
            method=request.method,
            url=self._httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        response = await self.attempt(self._pool.handle_async_request(sent))
        if response.status == 500 and (error := self._server.take_error()) is not None:
            await response.aclose()
            raise error
        return self._httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=self._body_type(response.stream, self),
            extensions=response.extensions,
        )

    async def attempt(self, step: Awaitable[T]) -> T:
        """Wait, and tell of what fails: the handler, if errors are to be raised, or the network, as httpx says it."""
        try:
            return await step
        except self._failures as exc:
            failure = exc
        # Outside of `except`: the handler's error has a context of its own.
        error = self._server.take_error()
        if error is not None:
            raise error
        raise getattr(self._httpx, type(failure).__name__)(str(failure)) from failure

    async def aclose(self) -> None:
        """Close all connections."""
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


class _Body:
    """The body of a response as it comes, an `AsyncByteStream`; closing it early closes the connection."""

    def __init__(self, stream: Any, transport: _Transport) -> None:
        self._stream = stream
        self._transport = transport
        self._pieces: AsyncGenerator[bytes] = stream.__aiter__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await self._transport.attempt(self._pieces.__anext__())

    async def aclose(self) -> None:
        await self._pieces.aclose()
        await self._stream.aclose()


class _Network:
    """The `AsyncNetworkBackend` under the pool: every name leads to the server in memory."""

    def __init__(self, server: MemoryServer, httpcore: Any) -> None:
        self._server = server
        self._httpcore = httpcore

    async def connect_tcp(self, host: str, port: int, **_options: Any) -> _NetworkStream:  # noqa: ARG002
        """Connect.

        Raises:
            httpcore2.ConnectError: the server stops.
        """
        await trio.lowlevel.checkpoint()
        try:
            stream = self._server.connect(window=WINDOW)
        except ConnectionRefusedError as exc:
            raise self._httpcore.ConnectError(str(exc)) from exc
        return _NetworkStream(stream, self._httpcore)


class _NetworkStream:
    """The `AsyncNetworkStream` of one connection."""

    def __init__(self, stream: MemoryStream, httpcore: Any) -> None:
        self._stream = stream
        self._httpcore = httpcore

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  (httpcore's name)
        """Take what the server has sent; `b""` is its end.

        Raises:
            httpcore2.ReadTimeout, httpcore2.ReadError: nothing came in time, or the connection is reset.
        """
        with self._failures(timeout, self._httpcore.ReadTimeout, self._httpcore.ReadError):
            return await self._stream.receive_some(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  (the same)
        """Send bytes.

        Raises:
            httpcore2.WriteTimeout, httpcore2.WriteError: the server reads nothing, or has closed the connection.
        """
        with self._failures(timeout, self._httpcore.WriteTimeout, self._httpcore.WriteError):
            await self._stream.send_all(buffer)

    @contextmanager
    def _failures(self, timeout: float | None, too_slow: Any, broken: Any) -> Generator[None]:
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                yield
        except trio.TooSlowError as exc:
            raise too_slow("the server in memory took too long") from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise broken(str(exc)) from exc

    async def start_tls(self, *_args: Any, **_options: Any) -> Self:
        """Pretend: an app behind a proxy that ends TLS sees no difference, and cookies may be `secure`."""
        await trio.lowlevel.checkpoint()
        return self

    def get_extra_info(self, info: str) -> Any:
        """Tell the pool whether an idle connection is over."""
        return self._stream.over if info == "is_readable" else None

    async def aclose(self) -> None:
        """Leave: the handler's `alive` ends."""
        await self._stream.aclose()
