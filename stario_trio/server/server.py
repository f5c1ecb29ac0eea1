"""`Server`: the settings of one run, its start, its stop and its report."""

from __future__ import annotations

import contextlib
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from stario_trio.exceptions import StarioError, without_groups, without_own_group
from stario_trio.server.config import DEFAULT_HOST, DEFAULT_PORT, Config, Limits
from stario_trio.server.report import Report
from stario_trio.server.signals import stop_signals
from stario_trio.server.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stario_trio.http.app import Stario
    from stario_trio.server.sockets import Address

__all__ = ["Server"]


@dataclass(eq=False)
class Server:
    """Serves one application, once.

    `await server.run()` returns when a signal, `stop()` or a cancel has ended it, or raises what went wrong. The
    settings are those of `Stario.serve`, and are checked when the server is made.

    Raises:
        StarioError: a bad setting.
    """

    app: Stario
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    workers: int = 1
    graceful_timeout: float = 5.0
    backlog: int = 2048
    unix_socket: str | None = None
    _: KW_ONLY
    cleanup_timeout: float = 5.0
    limits: Limits = field(default_factory=Limits)
    addresses: list[Address] = field(default_factory=list["Address"], init=False, repr=False)
    """Where it listens: `(host, port)` or the path; empty before the start."""
    report: Report = field(default_factory=Report, init=False, repr=False)
    """What happened; complete when `run` has returned (SD-23)."""

    def __post_init__(self) -> None:
        self._config = Config(
            host=self.host,
            port=self.port,
            unix_socket=self.unix_socket,
            workers=self.workers,
            graceful_timeout=self.graceful_timeout,
            backlog=self.backlog,
            cleanup_timeout=self.cleanup_timeout,
            limits=self.limits,
        )
        self._supervisor = Supervisor(self.app.handle_request, self.app.tracer, self._config, self.report)
        self._token: trio.lowlevel.TrioToken | None = None
        self._asked: tuple[str, bool] | None = None
        self._ran = False

    async def run(self, *, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped: in the Trio run that calls it, or from asyncio, with Trio in a thread of its own.

        Args:
            task_status: gets the bound addresses when the server listens.

        Raises:
            StarioError: it has been run before (ST-06), or under neither Trio nor asyncio.
            OSError: the address cannot be bound.
            BaseException: what ended a worker, as itself and not in a group (SD-21).

        Ends when: the workers have stopped and everything is released.
        Cancelled by: an outer cancel, which ends connections and handlers at once (SD-17).
        """
        if self._ran:
            raise StarioError(
                "Server already running", help_text="A Server runs once. Make another one for another run."
            )
        self._ran = True
        if trio.lowlevel.in_trio_run():
            with stop_signals(self._ask_to_stop):
                await self._run(task_status)
        else:
            from stario_trio.server.asyncio_facade import serve_from_asyncio  # a Trio program need not import asyncio

            await serve_from_asyncio(partial(self._run, task_status), self._ask_to_stop)

    async def _run(self, task_status: trio.TaskStatus[list[Address]]) -> None:
        """Serve in this Trio run.

        Ends when: the workers have stopped and everything is released.
        Cancelled by: an outer cancel (SD-17).
        """

        def listening(addresses: list[Address]) -> None:
            self.addresses = addresses
            task_status.started(addresses)

        self._token = trio.lowlevel.current_trio_token()
        if self._asked is not None:
            self._supervisor.ask_to_stop(*self._asked)
        with without_groups():
            await self._supervisor.run(listening)

    def stop(self, *, now: bool = False) -> None:
        """Ask for a graceful stop, from any thread or signal handler; harmless before the start and after the end.

        Args:
            now: leave out the grace: close what is left at once (SD-16).
        """
        self._ask_to_stop("stop()", now)

    def _ask_to_stop(self, why: str, now: bool) -> None:
        first, hurried = (why, now) if self._asked is None else self._asked
        self._asked = (first, now or hurried)  # for a run that has not begun. SD-16: no request makes a stop later
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._supervisor.ask_to_stop, why, now)

    async def tree(self) -> str:
        """The picture of the running server: its nurseries and tasks, looked at in the run of each worker."""
        return await self._supervisor.tree()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Server]:
        """Serve around a block, and stop gracefully after it (see `Stario.serving`).

        Ends when: the block is done and the server has stopped.
        Cancelled by: an exception in the block, or the end of the server: a signal stops it, and the block with it.
        """

        async def run_around(task_status: trio.TaskStatus[list[Address]]) -> None:
            await self.run(task_status=task_status)
            nursery.cancel_scope.cancel(reason="the server has stopped")

        with without_own_group():  # what the block raises stays as it is, a group too
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                await nursery.start(run_around)
                yield self
                self.stop()
