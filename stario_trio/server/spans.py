"""What a server tells its tracer: a span for the start, one for the stop, with the seed's names.

Nothing here changes a timing or an outcome: a tracer that raises is ignored (SD-22).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stario_trio.server.phases import Phase
from stario_trio.telemetry.noop import start_span

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stario_trio.server.config import Config
    from stario_trio.server.report import Abandoned, Report
    from stario_trio.telemetry import Span

__all__ = ["ServerSpans"]


class ServerSpans:
    """The spans of one run.

    Args:
        tracer: the application's.
        config: the settings they show.
        report: the books they show.
    """

    def __init__(self, tracer: Callable[[str], Span], config: Config, report: Report) -> None:
        self._tracer = tracer
        self._config = config
        self._report = report
        self._shutdown: Span | None = None
        self._steps: dict[int, Span] = {}

    @contextmanager
    def startup(self) -> Generator[Span]:
        """`server.startup`, around the start; failed if the start fails (ST-02)."""
        span = start_span(self._tracer, "server.startup")
        if self._config.unix_socket is None:
            span["server.host"] = self._config.host
            span["server.port"] = self._config.port
        else:
            span["server.unix_socket"] = self._config.unix_socket
        span["server.workers"] = self._config.workers
        with span:
            yield span

    def phase_came(self, worker: int, phase: Phase) -> None:
        """`server.shutdown` begins with the first phase; each phase is a step of it: together they are a bar chart."""
        shutdown = self._shutdown or self._begin_shutdown()
        if worker in self._steps:
            self._steps.pop(worker).end()
        if phase is not Phase.STOPPED:
            self._steps[worker] = shutdown.step(phase.name.lower(), {"server.worker": worker})

    def _begin_shutdown(self) -> Span:
        self._shutdown = span = start_span(self._tracer, "server.shutdown")
        span["server.graceful_timeout"] = self._config.graceful_timeout
        span["server.cleanup_timeout"] = self._config.cleanup_timeout
        span["server.workers"] = self._config.workers
        return span

    def abandoned(self, handler: Abandoned) -> None:
        """A finished step of its own, so that it is told while the handler still hangs (SD-14)."""
        assert self._shutdown is not None, "the stop has begun"
        about = {"server.worker": handler.worker, "route": handler.route, "stack": "\n".join(handler.stack)}
        self._shutdown.step("handler abandoned", about).end()

    def trouble(self, words: str) -> None:
        """`server.trouble`: at once, and failed."""
        span = start_span(self._tracer, "server.trouble")
        span.error = words
        span.end()

    def stopped(self) -> None:
        """End `server.shutdown` with the books of every worker."""
        span, report = self._shutdown, self._report
        if span is None:
            if not report.left_behind:
                return
            span = self._begin_shutdown()  # not one worker has come to its first phase
        for step in self._steps.values():
            step.end()  # of a worker that was left behind
        for books in report.workers:
            worker = f"server.worker.{books.id}"
            span[f"{worker}.connections_at_shutdown"] = books.connections_at_shutdown
            span[f"{worker}.connections_accepted_late"] = books.accepted_late
            span[f"{worker}.connections_closed_idle"] = books.closed_idle
            span[f"{worker}.connections_force_closed"] = books.force_closed
            span[f"{worker}.handler_tasks_cancelled"] = books.handlers_cancelled
            span[f"{worker}.handlers_abandoned"] = len(books.abandoned)
        for thread in report.left_behind:
            span("thread left behind", {"stack": thread})
        span["server.shutdown.reason"] = report.reason
        span["server.shutdown.urgent"] = report.urgent
        span.end()
