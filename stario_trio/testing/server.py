"""A server in memory: the real worker, connections, wire and writer, without a socket or a thread."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from stario_trio.exceptions import without_groups
from stario_trio.server.config import Config, Limits
from stario_trio.server.date import Date
from stario_trio.server.worker import Worker, run_worker
from stario_trio.telemetry.failures import unfold
from stario_trio.testing.listener import MemoryListener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import ModuleType

    from stario_trio.http.app import Stario
    from stario_trio.server.phases import Phase
    from stario_trio.server.report import Abandoned, WorkerReport
    from stario_trio.testing.client import Client
    from stario_trio.testing.memory import MemoryStream

__all__ = ["MemoryServer", "serving_in_memory"]

_NO_CAUSES = (trio.Cancelled, BaseExceptionGroup)


class MemoryServer:
    """Serves one application to peers in memory; made by `serving_in_memory`.

    Args:
        app: what is served.
        config: the settings; those of addresses and threads mean nothing here.
        raise_handler_errors: whether an unhandled error of a handler comes out in the test too.
    """

    def __init__(self, app: Stario, config: Config, *, raise_handler_errors: bool = True) -> None:
        self.app: Stario = app
        self.config: Config = config
        self.raise_handler_errors: bool = raise_handler_errors
        self.errors: list[BaseException] = []
        """What handlers have raised and nobody has handled, but for those that came out in the test already."""
        self.troubles: list[str] = []
        """What went wrong beside the requests, in words."""
        self.died: BaseException | None = None
        """What has ended the server, if no stop has."""
        self.listener: MemoryListener = MemoryListener()
        # Nobody renews the date: a clock that ticks every second would keep a virtual one from ever being idle.
        handle = partial(app.handle_request, on_failure=self.errors.append)
        self.worker: Worker = Worker(0, [self.listener], handle, config, Date(), observer=self)
        self._stopped = trio.Event()

    @property
    def report(self) -> WorkerReport:
        """What the stop has done to the connections; complete after it."""
        return self.worker.report

    def connect(self, first: bytes = b"", *, window: float = inf) -> MemoryStream:
        """Connect as a peer that speaks bytes: half a request, a reset, a peer that reads nothing.

        Args:
            first: sent at once.
            window: bytes the server may send before something is received.

        Raises:
            ConnectionRefusedError: the server stops, or has stopped.
        """
        stream = self.listener.connect(window=window)
        if first:
            stream.send(first)
        return stream

    def client(self, *, library: ModuleType | None = None, **options: Any) -> Client:
        """One more HTTP client of this server, with cookies of its own: `async with server.client() as bob:`.

        Args:
            library: the module `httpx2` or `httpx`; if None, the first of them that is installed.
            options: of its `AsyncClient`.

        Raises:
            StarioError: neither is installed, or `library` is something else.
        """
        from stario_trio.testing.client import make_client  # httpx is wanted by those who use it only

        return make_client(self, library, options)

    def stop(self, *, now: bool = False) -> None:
        """Ask for a graceful stop, as `Server.stop`; harmless after the end.

        Args:
            now: leave out the grace.
        """
        self.worker.ask_to_stop("stop()", now=now)

    async def wait_stopped(self) -> None:
        """Return when the stop is over: within `graceful_timeout + cleanup_timeout`, unless a handler does not end."""
        await self._stopped.wait()

    async def run(self) -> None:
        """Serve until stopped.

        Ends when: the last connection and handler have ended after `stop`.
        Cancelled by: an outer cancel, which ends them at once.
        """
        try:
            await run_worker(self.worker)
        except BaseException as exc:
            errors = (error for error in unfold(exc) if not isinstance(error, _NO_CAUSES))
            self.died = next(errors, None)
            raise
        finally:
            self._stopped.set()

    def take_error(self) -> BaseException | None:
        """The oldest of `errors`, which is then seen; None if there is none, or errors are not to be raised."""
        return self.errors.pop(0) if self.raise_handler_errors and self.errors else None

    # The Observer of the worker

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        """See `Observer.phase_came`."""

    def abandoned(self, handler: Abandoned) -> None:
        """See `Observer.abandoned`: the test hangs from now on, so it says in what."""
        words = f"A cancelled handler does not end: {handler.route}"
        sys.stderr.write("\n  ".join([words, *handler.stack]) + "\n")

    def trouble(self, words: str) -> None:
        """See `Observer.trouble`."""
        self.troubles.append(words)


@asynccontextmanager
async def serving_in_memory(
    app: Stario,
    *,
    graceful_timeout: float = 5.0,
    cleanup_timeout: float = 5.0,
    limits: Limits | None = None,
    raise_handler_errors: bool = True,
) -> AsyncGenerator[MemoryServer]:
    """Serve an app around a block, to peers in memory; works on any clock, a virtual one too.

    Leaving the block asks for a graceful stop and waits for it; an exception that leaves the block cancels everything
    at once. The Date header stays what it was at the start.

    Args:
        app: what is served.
        graceful_timeout: see `Stario.serve`.
        cleanup_timeout: see `Stario.serve`.
        limits: see `Stario.serve`.
        raise_handler_errors: let an unhandled error of a handler come out in the test: of the request that got its
            500, if a client of this server has sent it, or else at the end of the block. If False, clients see what
            they would see in production, and `server.errors` holds the errors.

    Raises:
        StarioError: a bad setting.
        BaseException: what handlers have raised, the first of it.

    Ends when: the block is done and the server has stopped.
    Cancelled by: an exception in the block, or one that ends the server, such as `SystemExit` in a handler.
    """
    config = Config(graceful_timeout=graceful_timeout, cleanup_timeout=cleanup_timeout, limits=limits or Limits())
    server = MemoryServer(app, config, raise_handler_errors=raise_handler_errors)
    try:
        with without_groups():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run, name="server in memory")  # noqa: ASYNC113  (who connects first waits)
                yield server
                server.stop()
    finally:
        if server.died is not None:  # whatever that has done to its clients
            raise server.died
    error = server.take_error()
    if error is not None:
        raise error
