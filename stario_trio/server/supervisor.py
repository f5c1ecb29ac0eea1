"""One run of a server, from the first bind to the last release.

[S] holds the services and the workers. The order of release is the order of the blocks here, read from the inside:
listeners with their Unix file, workers, services, spans; the signal handlers, last, are the caller's (SD-20).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from stario_trio.exceptions import sole_leaf
from stario_trio.server.date import Date
from stario_trio.server.sockets import bind, close
from stario_trio.server.spans import ServerSpans
from stario_trio.server.threads import FromThread, WorkerThread
from stario_trio.server.tree import task_tree
from stario_trio.server.worker import Worker, run_worker
from stario_trio.telemetry.failures import only_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from stario_trio.http.request import Request
    from stario_trio.http.writer import Writer
    from stario_trio.server.config import Config
    from stario_trio.server.phases import Phase
    from stario_trio.server.report import Abandoned, Report
    from stario_trio.server.sockets import Address, SocketListener
    from stario_trio.telemetry import Span

__all__ = ["Supervisor"]


class Supervisor:
    """Runs the workers of one `Server`, and tells about them.

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
        self._date = Date()
        self._crew: Sequence[Worker | WorkerThread] = ()
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
        for worker in self._crew:
            worker.ask_to_stop(why, now=now)

    async def run(self, listening: Callable[[list[Address]], None]) -> None:
        """Bind, serve, stop, release.

        Args:
            listening: told the bound addresses when connections are accepted; none if a stop came first (ST-05).

        Ends when: every worker has ended.
        Cancelled by: an outer cancel (SD-17).
        """
        with self._report_of_the_end():
            bound: list[list[SocketListener]] = []
            try:
                with self._spans.startup() as startup:
                    with self._starting:
                        bound = await bind(self._config)  # ST-03: however long it takes. ST-01: nobody accepts before
                    if self._stop_asked:
                        close(bound)
                        bound = []
                    elif self._config.unix_socket is None:
                        startup["server.port"] = bound[0][0].port  # the real one
                    workers = self._hire(bound)
                listening([listener.address for listener in bound[0]] if bound else [])  # ST-04
            except BaseException:
                close(bound)  # ST-02: from here on they belong to the workers
                raise
            if workers:
                await self._supervise(workers)

    def _hire(self, bound: list[list[SocketListener]]) -> list[Worker]:
        observer = self if len(bound) == 1 else FromThread(self)
        workers = [
            Worker(number, listeners, self._handle_request, self._config, self._date, observer=observer)
            for number, listeners in enumerate(bound)
        ]
        self._report.workers.extend(worker.report for worker in workers)
        return workers

    async def _supervise(self, workers: list[Worker]) -> None:
        """Run the workers among the services that outlive their handlers.

        Ends when: the workers have ended; the services end after them (SD-19).
        Cancelled by: an outer cancel (SD-17).
        """
        async with trio.open_nursery() as services:  # [S]
            services.start_soon(self._date.run, name="date")
            if len(workers) == 1:
                self._crew = workers
                await run_worker(workers[0])
            else:
                await self._supervise_threads(workers)
            services.cancel_scope.cancel(reason="the last handler has ended")  # SD-19

    async def _supervise_threads(self, workers: list[Worker]) -> None:
        """Run each worker in a thread of its own.

        Raises:
            BaseException: what ended the first worker that died; the others have been stopped in order (SD-21).

        Ends when: every thread has ended, or was left behind (SD-14).
        Cancelled by: an outer cancel (SD-17).
        """
        threads = [WorkerThread(worker) for worker in workers]
        self._crew = threads
        died: list[BaseException] = []
        try:
            async with trio.open_nursery() as crew:  # [N]
                for thread in threads:
                    crew.start_soon(self._tend, thread, died, name=f"tend {thread.name}")
        finally:
            if died:  # an outer cancel that came meanwhile does not hide it
                raise died[0]

    async def tree(self) -> str:
        """The nurseries and tasks of this run, and of each worker's."""
        pictures = [task_tree()]
        for worker in self._crew:
            if isinstance(worker, WorkerThread):
                picture = await worker.look(task_tree)
                pictures.append(f"{worker.name}\n{picture or 'has ended'}")
        return "\n\n".join(pictures)

    async def _tend(self, thread: WorkerThread, died: list[BaseException]) -> None:
        try:
            await thread.tend()
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001  (it comes out when the others have stopped)
            died.append(exc)
            self.ask_to_stop(repr(sole_leaf(exc)), now=False)
        finally:
            if thread.left_behind:
                self._report.left_behind.append("\n".join([thread.name, *thread.stack()]))

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
            self._crew = ()  # whoever keeps the server for its report keeps no connections with it
            self._spans.stopped()

    # The Observer of the workers. A thread that was left behind may tell more when all is told.

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        """See `Observer.phase_came`."""
        if not self._ended:
            self._spans.phase_came(worker.report.id, phase)

    def abandoned(self, handler: Abandoned) -> None:
        """See `Observer.abandoned`."""
        if not self._ended:
            self._spans.abandoned(handler)

    def trouble(self, words: str) -> None:
        """See `Observer.trouble`."""
        # A shortage repeats itself ten times a second.
        if not self._ended and words not in self._report.errors:
            self._report.errors.append(words)
            self._spans.trouble(words)
