"""A server in memory: the real worker, connections, wire and writer, without a socket or a thread."""

from __future__ import annotations

import sys
import traceback
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from stario_trio.exceptions import StarioError, without_own_group
from stario_trio.server.config import Config, Limits
from stario_trio.server.date import Date
from stario_trio.server.report import Abandoned
from stario_trio.server.worker import Worker, run_worker
from stario_trio.telemetry.failures import only_cancelled, unfold
from stario_trio.testing.listener import MemoryListener
from stario_trio.testing.memory import MemoryTransport
from stario_trio.testing.shields import take_shields_away

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import ModuleType

    from stario_trio.http.app import Stario
    from stario_trio.http.request import Request
    from stario_trio.http.writer import Writer
    from stario_trio.server.phases import Phase
    from stario_trio.server.report import WorkerReport
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
        self.worker: Worker = Worker(0, [self.listener], self._handle, config, Date(), observer=self)
        self._stubborn: list[StarioError] = []
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
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_for_a_cancelled_stop)
                try:
                    await run_worker(self.worker)
                finally:
                    self._stopped.set()
                nursery.cancel_scope.cancel(reason="the server in memory has stopped")
        except BaseException as exc:
            errors = (error for error in unfold(exc) if not isinstance(error, _NO_CAUSES))
            self.died = next(errors, None)
            raise

    async def _wait_for_a_cancelled_stop(self) -> None:
        """Tell of handlers that a failed test waits for: its cancel ends `close_down`, which tells of them otherwise.

        Ends when: the server has stopped, or `cleanup_timeout` is over.
        Cancelled by: nothing, once it counts.
        """
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(self.config.cleanup_timeout, shield=True):
                await self._stopped.wait()
            for connection in [each for each in self.worker.connections if each.handling]:
                self.abandoned(Abandoned(self.report.id, connection.route, connection.await_stack()))

    # Errors of handlers

    async def _handle(self, req: Request, w: Writer) -> None:
        """Answer a request; what nobody handles is kept with its connection and number, for the client that sent it."""
        transport = self._transport_of(trio.lowlevel.current_task())
        transport.requests += 1
        number = transport.requests

        def failed(error: BaseException) -> None:
            transport.failures[number] = error
            self.errors.append(error)

        await self.app.handle_request(req, w, on_failure=failed)

    def _transport_of(self, task: trio.lowlevel.Task) -> MemoryTransport:
        transport = next(each.transport for each in self.worker.connections if each.task is task)
        assert isinstance(transport, MemoryTransport), "from our listener"
        return transport

    def take_error(self, transport: MemoryTransport, number: int) -> BaseException | None:
        """The error of that request, which is then seen; None if there is none, or errors are not to be raised."""
        error = transport.failures.get(number)
        for index, each in enumerate(self.errors):
            if each is error and self.raise_handler_errors:
                del self.errors[index]
                return error
        return None

    def unseen(self) -> BaseException | None:
        """What is to come out at the end of the block, or be told with what comes out: several things in a group."""
        if not self.raise_handler_errors:
            return None
        unseen = [*self.errors, *self._stubborn]
        if len(unseen) > 1:
            return BaseExceptionGroup("handlers have failed, and no client of this server was there to see it", unseen)
        return unseen[0] if unseen else None

    # The Observer of the worker

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        """See `Observer.phase_came`."""

    def abandoned(self, handler: Abandoned) -> None:
        """See `Observer.abandoned`: the end of the block hangs from now on, so it says in what.

        If errors are to be raised, the handler loses its shields and this becomes one.
        """
        words = f"A cancelled handler does not end: {handler.route}"
        stack = "\n  ".join(["It waits in:", *handler.stack])
        print(words, stack, sep="\n", file=sys.__stderr__, flush=True)
        if self.raise_handler_errors:
            error = StarioError(
                words,
                context={"cleanup_timeout": self.config.cleanup_timeout},
                help_text="Bound what it shields: `with trio.move_on_after(1, shield=True):`. If it is right to take "
                "so long, give the test a longer cleanup_timeout, or raise_handler_errors=False to wait for it.",
            )
            error.add_note(stack)
            self._stubborn.append(error)
            for task in [each.task for each in self.worker.connections if each.task is not None]:
                take_shields_away(task)

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
        raise_handler_errors: let an unhandled error of a handler come out in the test: of its request, if a client of
            this server has sent it and still reads, or else at the end of the block. If False, clients see what they
            would see in production, and `server.errors` holds the errors.

    Raises:
        StarioError: a bad setting; or a cancelled handler that did not end within `cleanup_timeout`.
        BaseException: what a handler has raised and no client has seen; several of them in a group. What the block
            itself raises goes first, with a note of that.

    Ends when: the block is done and the server has stopped.
    Cancelled by: an exception in the block, or one that ends the server, such as `SystemExit` in a handler.
    """
    config = Config(graceful_timeout=graceful_timeout, cleanup_timeout=cleanup_timeout, limits=limits or Limits())
    server = MemoryServer(app, config, raise_handler_errors=raise_handler_errors)
    try:
        with without_own_group():
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(server.run, name="server in memory")  # noqa: ASYNC113  (who connects first waits)
                yield server
                server.stop()
    except BaseException as exc:
        unseen = server.unseen()
        if unseen is not None and not only_cancelled(exc):
            _tell(exc, unseen)
        raise
    finally:
        if server.died is not None:  # whatever that has done to its clients
            raise server.died
    unseen = server.unseen()
    if unseen is not None:
        raise unseen


def _tell(exc: BaseException, unseen: BaseException) -> None:
    """Let what a test has failed with say what may be the reason."""
    words = "".join(traceback.format_exception(unseen))
    with suppress(TypeError):  # of an exception that keeps something else where the notes go
        exc.add_note(f"Meanwhile a handler has failed, and no client of this server was there to see it:\n{words}")
