"""One run of a server, from the first bind to the last release.

[S] holds the services and the workers. The order of release is the order of the blocks here, read from the inside:
listeners, Unix file, worker, services, spans, signal handlers (SD-20).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from stario_trio.exceptions import sole_leaf
from stario_trio.server.date import Date
from stario_trio.server.signals import stop_signals
from stario_trio.server.sockets import bind
from stario_trio.server.spans import ServerSpans
from stario_trio.server.worker import Worker, run_worker
from stario_trio.telemetry.failures import only_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from stario_trio.http.request import Request
    from stario_trio.http.writer import Writer
    from stario_trio.server.config import Config
    from stario_trio.server.phases import Phase
    from stario_trio.server.report import Abandoned, Report
    from stario_trio.server.sockets import Address, SocketListener
    from stario_trio.telemetry import Span

__all__ = ["Supervisor"]


class Supervisor:
    """Runs the worker of one `Server`, and tells about it.

    Args:
        handle_request: the application.
        tracer: its tracer.
        config: the settings.
        report: filled in on the way.
    """

    def __init__(
        self,
        handle_request: Callable[[Request, Writer], Awaitable[None]],
        tracer: Callable[[str], Span],
        config: Config,
        report: Report,
    ) -> None:
        self._handle_request = handle_request
        self._config = config
        self._report = report
        self._spans = ServerSpans(tracer, config, report)
        self._workers: list[Worker] = []
        self._starting = trio.CancelScope()
        self._stop_asked = False
        self._ended = False

    def ask_to_stop(self, why: str, now: bool) -> None:
        """Ask every worker to stop, each directly (SD-01). To be called in the supervisor's own run.

        Args:
            why: who asks.
            now: leave out the grace (SD-16).
        """
        if self._ended:
            return
        if not self._stop_asked:
            self._stop_asked = True
            self._report.reason = why
        self._report.urgent = self._report.urgent or now
        self._starting.cancel(reason=why)  # ST-05: a name that takes long to resolve delays no stop
        for worker in self._workers:
            worker.ask_to_stop(why, now=now)

    async def run(self, listening: Callable[[list[Address]], None]) -> None:
        """Bind, serve, stop, release.

        Args:
            listening: told the bound addresses when connections are accepted; none if a stop came first (ST-05).

        Ends when: the worker has ended.
        Cancelled by: an outer cancel (SD-17).
        """
        with stop_signals(self.ask_to_stop), self._report_of_the_end():
            with self._spans.startup() as startup:
                listeners: list[SocketListener] = []
                with self._starting:
                    listeners = await bind(self._config)  # ST-03: however long it takes. ST-01: nobody accepts before
                if self._stop_asked:
                    _close(listeners)
                    listeners = []
                elif self._config.unix_socket is None:
                    startup["server.port"] = listeners[0].port  # the real one
            listening([listener.address for listener in listeners])  # ST-04
            if listeners:
                await self._supervise(listeners)

    async def _supervise(self, listeners: list[SocketListener]) -> None:
        """Run the worker among the services that outlive its handlers.

        Ends when: the worker has ended; the services end after it (SD-19).
        Cancelled by: an outer cancel (SD-17).
        """
        date = Date()
        worker = Worker(0, listeners, self._handle_request, self._config, date, observer=self)
        self._workers.append(worker)
        self._report.workers.append(worker.report)
        try:
            async with trio.open_nursery() as services:  # [S]
                services.start_soon(date.run, name="date")
                await run_worker(worker)
                services.cancel_scope.cancel(reason="the last handler has ended")  # SD-19
        finally:
            _close(listeners)  # a worker that died could not (SD-21)

    @contextmanager
    def _report_of_the_end(self) -> Generator[None]:
        """Complete the report and its span, however the run ends."""
        try:
            yield
        except BaseException as exc:
            if not self._stop_asked:
                self._report.reason = "cancelled" if only_cancelled(exc) else repr(sole_leaf(exc))
            raise
        finally:
            self._ended = True
            self._spans.stopped()

    # The Observer of the workers

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        """See `Observer.phase_came`."""
        self._spans.phase_came(worker.report.id, phase)

    def abandoned(self, handler: Abandoned) -> None:
        """See `Observer.abandoned`."""
        self._spans.abandoned(handler)

    def trouble(self, words: str) -> None:
        """See `Observer.trouble`."""
        if words not in self._report.errors:  # a shortage repeats itself ten times a second
            self._report.errors.append(words)
            self._spans.trouble(words)


def _close(listeners: list[SocketListener]) -> None:
    for listener in listeners:
        listener.close()
