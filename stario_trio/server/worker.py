"""One worker: its accept loops, its connections, and the script of its shutdown.

The nesting is the shutdown order. [W] holds `close_down`, which outlives [C], the nursery of connections; in [C] run
the accept loops and one task a connection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import trio

from stario_trio.server.connection import Connection
from stario_trio.server.lifecycle import Lifecycle
from stario_trio.server.listener import accept_loop, accept_now
from stario_trio.server.peerwatch import peer_watch
from stario_trio.server.phases import Cause, Phase
from stario_trio.server.report import Abandoned, WorkerReport
from stario_trio.server.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stario_trio.http.request import Request
    from stario_trio.http.writer import Writer
    from stario_trio.server.config import Config, Limits
    from stario_trio.server.date import Date
    from stario_trio.server.listener import Listener
    from stario_trio.server.peerwatch import PeerWatch
    from stario_trio.server.transport import Transport

__all__ = ["Observer", "Worker", "run_worker"]


class Observer(Protocol):
    """Somebody who is told of the worker's fate. Its methods must not raise."""

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        """The shutdown has reached a new phase; its rings are ended already."""
        ...

    def abandoned(self, handler: Abandoned) -> None:
        """A handler is still there after its time for cleanup (SD-14)."""
        ...

    def trouble(self, words: str) -> None:
        """Something hampers the worker, beside its requests."""
        ...


class Worker:
    """Serves connections in one Trio run.

    Args:
        number: from 0; names the worker in spans and reports.
        listeners: bound sockets it accepts from, and closes.
        handle_request: the application.
        config: the settings.
        date: the shared Date header.
        observer: told what an operator may want to know.
    """

    def __init__(
        self,
        number: int,
        listeners: Sequence[Listener],
        handle_request: Callable[[Request, Writer], Awaitable[None]],
        config: Config,
        date: Date,
        *,
        observer: Observer,
    ) -> None:
        self.report: WorkerReport = WorkerReport(number)
        self.handle_request = handle_request
        self.config = config
        self.limits: Limits = config.limits
        self.date = date
        self.lifecycle: Lifecycle = Lifecycle(self._phase_came)
        self.timers: Timers = Timers(min(self.limits.keep_alive, self.limits.header_timeout))
        self.peers: PeerWatch = peer_watch()
        self.connections: dict[Connection, None] = {}
        self.listeners: Sequence[Listener] = listeners
        self._observer = observer
        self._nursery: trio.Nursery | None = None
        self._stopping = False
        self._change = trio.lowlevel.ParkingLot()

    def ask_to_stop(self, why: str, *, now: bool = False) -> None:
        """Begin the stop, or leave out the rest of its grace (SD-16). To be called in the worker's own run."""
        self.lifecycle.advance(Cause.URGENT if now else Cause.STOP, why)

    def _phase_came(self, phase: Phase) -> None:
        if not self._stopping:
            self._stopping = True
            self.report.connections_at_shutdown = len(self.connections)
        self._observer.phase_came(self, phase)

    async def run(self) -> None:
        """Serve until stopped.

        Ends when: `close_down` is through, which it is after the last connection.
        Cancelled by: an outer cancel (SD-17).
        """
        try:
            async with trio.open_nursery() as worker:  # [W]
                worker.start_soon(self.close_down, name="close_down")
                await self._serve_connections()
        finally:
            self._close_listeners()  # SD-21: a worker that dies could not close them in its script
            self.lifecycle.advance(Cause.OUTER_CANCEL, "an error of the worker")  # too late after any other end
            self.lifecycle.advance(Cause.HANDLERS_ENDED)
            self.report.durations = self.lifecycle.durations()

    async def _serve_connections(self) -> None:
        """Accept connections and hold their tasks.

        Ends when: the accept loops have ended and the last connection is closed.
        Cancelled by: an outer cancel (SD-17).
        """
        async with trio.open_nursery() as connections:  # [C]
            self._nursery = connections
            for listener in self.listeners:
                connections.start_soon(self._accept, listener, name="accept")
            # STOP_ACCEPTING still admits connections, after the accept loops may have ended.
            await self.lifecycle.wait_phase(Phase.DRAINING)

    async def _accept(self, listener: Listener) -> None:
        """Accept from one listener.

        Ends when: never by itself.
        Cancelled by: STOP_ACCEPTING, an outer cancel.
        """
        with self.lifecycle.until(Phase.STOP_ACCEPTING, "accept"):
            await accept_loop(listener, self.admit, self._wait_for_room, self.trouble)

    async def close_down(self) -> None:
        """The shutdown, one phase after the other. Its two deadlines are the bound of SD-15.

        Ends when: the last connection and handler have ended.
        Cancelled by: an outer cancel, which leaves out everything but the release (SD-17).
        """
        life = self.lifecycle
        try:
            await life.wait_phase(Phase.STOP_ACCEPTING)
            self._take_what_has_come()
            self._close_listeners()
            life.advance(Cause.LISTENER_CLOSED)  # DRAINING: tells the handlers (SD-03), ends what is idle (SD-04)

            with life.until(Phase.FORCE_CLOSING, "drain", deadline=self._grace_ends()):
                await self._wait_for_the_last()
                life.advance(Cause.DRAINED)
            life.advance(Cause.DEADLINE)
            self._force_close()
            self._count_cancelled()
            life.advance(Cause.SOCKETS_CLOSED)  # CANCELLING: cancels every handler that is left (SD-12)

            life.advance(Cause.HANDLERS_CANCELLED)
            with life.until(Phase.STOPPED, "await", deadline=trio.current_time() + self.config.cleanup_timeout):
                await self._wait_for_the_last()
            self._report_abandoned()
            await self._wait_for_the_last()  # SD-14: a nursery never loses a child
        except trio.Cancelled:
            self._release_at_once()
            raise

    # What close_down does, in its order

    def _take_what_has_come(self) -> None:
        """SD-02: nobody whom the kernel has let in is reset; what it has received of a request counts too."""
        if self.lifecycle.phase is not Phase.STOP_ACCEPTING:
            return  # overtaken by an outer cancel: nobody is served any more
        for listener in self.listeners:
            listener.refuse()
            # Linux holds one more than it was asked for.
            for transport in accept_now(listener, self.config.backlog + 1, self.trouble):
                self.admit(transport)
        for connection in self.connections:
            connection.note_arrived()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()

    def _grace_ends(self) -> float:
        life = self.lifecycle
        return life.since(Phase.STOP_ACCEPTING) + (0 if life.urgent else self.config.graceful_timeout)

    def _force_close(self) -> None:
        for connection in self.connections:
            if connection.idle and connection.ring.ended:
                continue  # ended in this very instant by the drain, and about to close by itself
            connection.force_close()

    def _count_cancelled(self) -> None:
        if self.lifecycle.phase < Phase.CANCELLING:  # or they have been counted
            self.report.handlers_cancelled += sum(connection.handling for connection in self.connections)

    def _report_abandoned(self) -> None:
        for connection in [each for each in self.connections if each.handling]:
            handler = Abandoned(self.report.id, connection.route, connection.await_stack())
            self.report.abandoned.append(handler)
            self._observer.abandoned(handler)

    def _release_at_once(self) -> None:
        """SD-17: the run is cancelled. Sockets close now, since a cancel alone wakes no shielded I/O."""
        self.note_outer_cancel()
        self._close_listeners()
        self._force_close()

    def note_outer_cancel(self) -> None:
        """SD-17: every task is cancelled at once, and whichever runs first takes the books."""
        self._count_cancelled()
        self.lifecycle.advance(Cause.OUTER_CANCEL, "cancelled")

    async def _wait_for_the_last(self) -> None:
        while self.connections:
            await self._change.park()

    # Connections

    def admit(self, transport: Transport) -> None:
        """Serve an accepted connection."""
        connection = Connection(self, transport)
        self.connections[connection] = None
        if self.lifecycle.phase > Phase.SERVING:
            self.report.accepted_late += 1
        self.timers.add(connection)
        self.start(connection.run)

    def start(self, run: Callable[[], Awaitable[None]]) -> None:
        """Start a task of a connection: its own, or the one that flushes what its peer has not taken."""
        assert self._nursery is not None, "serving"
        self._nursery.start_soon(run)

    def trouble(self, words: str) -> None:
        """Tell of what hampers the worker, beside its requests."""
        self._observer.trouble(words)

    def ended(self, connection: Connection) -> None:
        """Take an ended connection off the books."""
        cancelled = trio.current_effective_deadline() == -math.inf
        if cancelled:
            self.note_outer_cancel()
        del self.connections[connection]
        if self.lifecycle.phase > Phase.SERVING:
            if connection.idle and (cancelled or connection.ring.ended):
                self.report.closed_idle += 1
            elif cancelled or connection.forced:
                self.report.force_closed += 1
            else:
                self.report.finished += 1
        self._change.unpark_all()

    async def _wait_for_room(self) -> None:
        while len(self.connections) >= self.limits.connections:
            await self._change.park()


async def run_worker(worker: Worker) -> None:
    """Run a worker and the services its connections need.

    Ends when: the worker has ended; the services end after it (SD-19).
    Cancelled by: an outer cancel.
    """
    async with trio.open_nursery() as services:  # [T]
        services.start_soon(worker.timers.run, name="timers")
        services.start_soon(worker.peers.run, name="peer watch")
        await worker.run()
        services.cancel_scope.cancel(reason="the last handler has ended")
