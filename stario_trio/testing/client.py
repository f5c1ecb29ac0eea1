"""An HTTP client whose network is a server in memory: httpx2 or httpx, with their own HTTP/1.1 and connection pool.

Neither library is imported before a client is made. What we need of each is the same, down to the names of their
exceptions: an `AsyncClient` over our transport, and in that the pool of httpcore2 or httpcore over our network.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from stario_trio.exceptions import StarioError
from stario_trio.testing.request import not_a_test
from stario_trio.testing.response import ClosingEvents, SseClient
from stario_trio.testing.server import MemoryServer, serving_in_memory
from stario_trio.testing.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import ModuleType

    from httpx2 import AsyncClient

    from stario_trio.http.app import Stario
    from stario_trio.server.config import Limits
else:
    # The base is the `AsyncClient` of the library that was chosen; see `make_client`.
    AsyncClient = object

__all__ = ["Client", "TestClient", "make_client"]

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
        BaseException: see `serving_in_memory`.

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
    for name in ("proxy", "mounts"):
        if options.get(name):
            raise StarioError(
                f"TestClient takes no {name}",
                context={name: options[name]},
                help_text="Requests would leave for a real network. Without it every host leads to the app; to test "
                "what a proxy adds, send its fields: `headers={'x-forwarded-for': '192.0.2.1'}`.",
            )
    # Of the shape of an AsyncBaseTransport; no type checker knows that of two libraries at once.
    transport = Transport(server, httpx, import_module(_LIBRARIES[httpx.__name__]))
    settings: dict[str, Any] = {"base_url": "http://test", "timeout": None, "trust_env": False, **options}
    bases: tuple[type, ...] = (Client, httpx.AsyncClient)
    names: dict[str, Any] = {"__test__": False}
    if hasattr(httpx, "EventSource"):
        bases = (SseClient, *bases)
        names["events"] = type("EventSource", (ClosingEvents, httpx.EventSource), {})
    client: Client = type("TestClient", bases, names)(transport=cast("Any", transport), **settings)
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
