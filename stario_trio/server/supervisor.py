"""One run of a server, from the first bind to the last release.

[S] holds the services and the workers. The order of release is the order of the blocks here, read from the inside:
listeners, Unix file, worker, services, spans, signal handlers (SD-20).
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from stario_trio.exceptions import sole_leaf
from stario_trio.server.date import Date
from stario_trio.server.phases import Phase
from stario_trio.server.signals import stop_signals
from stario_trio.server.sockets import bind
from stario_trio.server.worker import Worker, run_worker
from stario_trio.telemetry.failures import only_cancelled
from stario_trio.telemetry.noop import start_span

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stario_trio.http.app import Stario
    from stario_trio.server.config import Config
    from stario_trio.server.report import Report
    from stario_trio.server.sockets import Address, SocketListener
    from stario_trio.telemetry import Span

__all__ = ["Supervisor"]


class Supervisor:
    """Runs the worker of one `Server`, and tells about it.

    Args:
        app: what is served, and whose tracer is told.
        config: the settings.
        report: filled in on the way.
    """

    def __init__(self, app: Stario, config: Config, report: Report) -> None:
        self._app = app
        self._config = config
        self._report = report
        self._workers: list[Worker] = []
        self._stop_asked: tuple[str, bool] | None = None
        self._ended = False
        self._shutdown: Span | None = None
        self._steps: dict[int, Span] = {}

    def ask_to_stop(self, why: str, now: bool) -> None:
        """Ask every worker to stop, each directly (SD-01). To be called in the supervisor's own run.

        Args:
            why: who asks.
            now: leave out the grace (SD-16).
        """
        if self._ended:
            return
        if self._stop_asked is None:
            self._report.reason = why
        self._stop_asked = (why, now)
        self._report.urgent = self._report.urgent or now
        for worker in self._workers:
            worker.ask_to_stop(why, now=now)

    async def run(self, listening: Callable[[list[Address]], None]) -> None:
        """Bind, serve, stop, release.

        Args:
            listening: told the bound addresses when connections are accepted; none if a stop came first (ST-05).

        Ends when: the worker has ended.
        Cancelled by: an outer cancel (SD-17).
        """
        with stop_signals(self.ask_to_stop), self._shutdown_span():
            with self._startup_span() as startup:
                listeners = await bind(self._config)
                if self._stop_asked is not None:
                    _close(listeners)
                    listeners = []
                if listeners and self._config.unix_socket is None:
                    startup["server.port"] = listeners[0].port
            listening([listener.address for listener in listeners])
            if listeners:
                await self._supervise(listeners)

    async def _supervise(self, listeners: list[SocketListener]) -> None:
        """Run the worker among the services that outlive its handlers.

        Ends when: the worker has ended; the services end after it (SD-19).
        Cancelled by: an outer cancel (SD-17).
        """
        date = Date()
        worker = Worker(
            0,
            listeners,
            self._app.handle_request,
            self._config,
            date,
            on_phase=self._phase_came,
            on_trouble=self._report.errors.append,
        )
        self._workers.append(worker)
        self._report.workers.append(worker.report)
        try:
            async with trio.open_nursery() as services:
                services.start_soon(date.run, name="date")
                await run_worker(worker)
                services.cancel_scope.cancel(reason="the last handler has ended")
        finally:
            _close(listeners)  # a worker that died could not (SD-21)
            self._report.abandoned.extend(worker.abandoned)

    # Telemetry. Nothing here may change a timing or an outcome (SD-22).

    @contextmanager
    def _startup_span(self) -> Generator[Span]:
        span = start_span(self._app.tracer, "server.startup")
        config = self._config
        if config.unix_socket is None:
            span["server.host"] = str(config.host)
            span["server.port"] = int(config.port)
        else:
            span["server.unix_socket"] = config.unix_socket
        span["server.workers"] = config.workers
        with span:
            yield span

    def _phase_came(self, worker: Worker, phase: Phase) -> None:
        """Tell of a worker's new phase: one child step a phase, so that a viewer shows the stop as a bar chart."""
        life = worker.lifecycle
        now = trio.current_time()
        if self._shutdown is None:
            self._shutdown = span = start_span(self._app.tracer, "server.shutdown")
            span["server.graceful_timeout"] = self._config.graceful_timeout
            span["server.workers"] = self._config.workers
        previous = Phase(phase - 1)
        if life.since(previous) < math.inf:
            worker.report.durations[previous] = now - life.since(previous)
        if worker.report.id in self._steps:
            self._steps.pop(worker.report.id).end()
        if phase is not Phase.STOPPED:
            self._steps[worker.report.id] = self._shutdown.step(phase.name.lower())

    @contextmanager
    def _shutdown_span(self) -> Generator[None]:
        """End the span of the stop with the books of every worker, however the run ends."""
        try:
            yield
        except BaseException as exc:
            if self._stop_asked is None:
                self._report.reason = "cancelled" if only_cancelled(exc) else repr(sole_leaf(exc))
            raise
        finally:
            self._ended = True
            if self._shutdown is not None:
                for step in self._steps.values():
                    step.end()
                for books in self._report.workers:
                    worker = f"server.worker.{books.id}"
                    self._shutdown[f"{worker}.connections_at_shutdown"] = books.connections_at_shutdown
                    self._shutdown[f"{worker}.connections_accepted_late"] = books.accepted_late
                    self._shutdown[f"{worker}.connections_closed_idle"] = books.closed_idle
                    self._shutdown[f"{worker}.connections_force_closed"] = books.force_closed
                    self._shutdown[f"{worker}.handler_tasks_cancelled"] = books.handlers_cancelled
                    self._shutdown[f"{worker}.handlers_abandoned"] = books.handlers_abandoned
                self._shutdown["server.shutdown.reason"] = self._report.reason
                self._shutdown["server.shutdown.urgent"] = self._report.urgent
                for handler in self._report.abandoned:
                    self._shutdown("handler abandoned", {"route": handler.route, "stack": "\n".join(handler.stack)})
                self._shutdown.end()


def _close(listeners: list[SocketListener]) -> None:
    for listener in listeners:
        listener.close()
