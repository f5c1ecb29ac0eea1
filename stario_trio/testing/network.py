"""The network under an HTTP client of a server in memory, in the shape that httpcore2 and httpcore want."""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import trio

from stario_trio.testing.memory import WINDOW

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Self

    from stario_trio.testing.memory import MemoryStream
    from stario_trio.testing.server import MemoryServer

__all__ = ["ASKED", "Asked", "Network", "NetworkStream"]


class Asked:
    """One request of a client, and where it has gone: a connection carries many, one after the other."""

    def __init__(self) -> None:
        self.stream: MemoryStream | None = None
        """The connection; None before the request has one."""
        self.number: int = 0
        """Its number on the connection, from 1."""
        self.given_up: bool = False
        """Whether the client has left in the middle of the response."""

    def give_up(self) -> None:
        """Leave the connection, as closing the tab does."""
        assert self.stream is not None, "sent"
        self.given_up = True
        self.stream.leave()


#: The request that this task sends. The pool chooses the connection, and writes to it in the task that sends.
ASKED: Final[ContextVar[Asked | None]] = ContextVar("ASKED", default=None)


class Network:
    """The `AsyncNetworkBackend` of a pool: every name leads to the server in memory.

    Args:
        server: at the other end.
        httpcore: the module `httpcore2` or `httpcore`.
    """

    def __init__(self, server: MemoryServer, httpcore: Any) -> None:
        self._server = server
        self._httpcore = httpcore

    async def connect_tcp(self, host: str, port: int, **_options: Any) -> NetworkStream:  # noqa: ARG002
        """Connect.

        Raises:
            httpcore2.ConnectError: the server stops.
        """
        await trio.lowlevel.checkpoint()
        try:
            stream = self._server.connect(window=WINDOW)
        except ConnectionRefusedError as exc:
            raise self._httpcore.ConnectError(str(exc)) from exc
        return NetworkStream(stream, self._httpcore)


class NetworkStream:
    """The `AsyncNetworkStream` of one connection."""

    def __init__(self, stream: MemoryStream, httpcore: Any) -> None:
        self._stream = stream
        self._httpcore = httpcore
        self._asked: Asked | None = None
        self._requests = 0

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
        self._count(ASKED.get())
        with self._failures(timeout, self._httpcore.WriteTimeout, self._httpcore.WriteError):
            await self._stream.send_all(buffer)

    def _count(self, asked: Asked | None) -> None:
        if asked is not None and asked is not self._asked:  # its first bytes
            self._asked = asked
            self._requests += 1
            asked.stream, asked.number = self._stream, self._requests

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
        return self._stream.over or self._stream.left if info == "is_readable" else None

    async def aclose(self) -> None:
        """Leave: the handler's `alive` ends."""
        await self._stream.aclose()
