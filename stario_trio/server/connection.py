"""One accepted connection: one task, from its first byte to its close.

The task reads a request, lets the application answer it right here, and reads the next one. It has one cancel scope
for its whole life, which moves from ring to ring with the connection's state; its `finally` closes the socket.
"""

from __future__ import annotations

import contextvars
import math
from enum import Enum
from typing import TYPE_CHECKING, Final

import trio

from stario_trio.http.request import HIGH_WATER_MARK
from stario_trio.server.exchange import Exchange, refusal
from stario_trio.server.lifecycle import BrokenScopesError
from stario_trio.server.linger import linger
from stario_trio.server.outbox import Outbox
from stario_trio.server.phases import Phase
from stario_trio.server.transport import Arrived
from stario_trio.server.wire import RequestReader, WireError
from stario_trio.telemetry.failures import unfold

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.server.lifecycle import Ring
    from stario_trio.server.transport import Transport
    from stario_trio.server.wire import Head
    from stario_trio.server.worker import Worker

__all__ = ["Connection", "State"]

# Requests answered from one read before others get their turn: at 16 a lone client waits 0.4 ms beside one that
# pipelines without end, instead of 24 ms.
_BURST: Final = 16
# What ends a scope or a generator and means nothing outside of it, by itself or in a group.
_STRAY: Final = (trio.Cancelled, GeneratorExit, BaseExceptionGroup)
# SD-05: what a connection without a byte gets when the drain begins; a browser's pre-connect must not hold a stop.
_NEW_GRACE: Final = 1.0


class State(Enum):
    """What the server waits for on a connection."""

    NEW = "the first byte of the first request"
    READING = "the rest of a request head"
    ACTIVE = "a handler, or the peer to take its response"
    IDLE = "the first byte of another request"


class Connection:
    """An accepted connection.

    Args:
        worker: serves it.
        transport: its bytes.
    """

    __slots__ = (
        "__weakref__",
        "_alive_rings",
        "_keep",
        "_left",
        "_unwatch",
        "closed",
        "deadline",
        "exchange",
        "expired",
        "forced",
        "handling",
        "outbox",
        "ring",
        "state",
        "task",
        "transport",
        "worker",
    )

    def __init__(self, worker: Worker, transport: Transport) -> None:
        self.worker: Worker = worker
        self.transport: Transport = transport
        self.outbox: Outbox = Outbox(transport, worker.limits, worker.start, self._peer_left)
        self.state: State = State.NEW
        self.exchange: Exchange | None = None
        """The request that is being answered, until the peer has taken the response."""
        self.handling: bool = False
        """Whether its handler still runs."""
        self.deadline: float = trio.current_time() + worker.limits.keep_alive
        self.expired: bool = False
        self.forced: bool = False
        self.closed: bool = False
        self.task: trio.lowlevel.Task | None = None
        self._keep = True
        self._left = False
        self._alive_rings: dict[Ring, None] = {}
        self._unwatch: Callable[[], None] | None = None
        self.ring: Ring = worker.lifecycle.until(Phase.DRAINING, "connection", late=_NEW_GRACE)

    async def run(self) -> None:
        """Serve the connection from its first byte to its close.

        Ends when: the peer leaves, a response says `Connection: close`, or the peer waits too long.
        Cancelled by: DRAINING while idle (SD-04, SD-05), CANCELLING while a handler runs (SD-12), an outer cancel.
        """
        self.task = trio.lowlevel.current_task()
        try:
            try:
                with self.ring:
                    await self._serve()
            except WireError as error:
                await self._refuse(error)
            else:
                if self.expired and self.state is State.READING:
                    await self._refuse(WireError(408, "Request timeout"))
        except trio.ClosedResourceError:
            pass  # FORCE_CLOSING has closed the socket under us
        except BrokenScopesError as exc:  # the handler's mistake, and not to be the end of its neighbours
            self.worker.trouble(f"a handler has broken the order of its cancel scopes: {exc}")
        finally:
            self.closed = True
            self.cut()
            self.worker.ended(self)

    # Requests, one after the other

    async def _serve(self) -> None:
        """Answer requests for as long as the connection lasts.

        Raises:
            WireError: the peer sent what is no request.
        """
        reader = RequestReader(self.worker.limits)
        context = contextvars.copy_context()
        burst = 0
        while True:
            head = reader.next_head()
            if head is None:
                if reader.eof:
                    return
                await self._wait_for_bytes(reader)
                burst = 0
                continue
            burst += 1
            if burst == _BURST:
                burst = 0
                await trio.lowlevel.checkpoint()
            await self._answer(reader, head)
            if not self._keep:
                return
            reader.next_cycle()
            if contextvars.copy_context() != context:
                # What a handler has set is for its own request: behind a proxy the next one is somebody else's. Trio
                # takes up a task's context when it goes on with the task.
                trio.lowlevel.current_task().context = context.copy()
                await trio.lowlevel.checkpoint()
            del head  # its headers need not wait with the connection

    async def _wait_for_bytes(self, reader: RequestReader) -> None:
        """Wait for the next bytes of a head, in the ring of the state this is."""
        worker = self.worker
        if reader.pending:
            if self.state is not State.READING:
                self._enter(State.READING, worker.limits.header_timeout)
        elif self.state is State.ACTIVE:
            self._enter(State.IDLE, worker.limits.keep_alive)
        await self.transport.wait_readable()
        # Bytes and the end of the wait may come together. Then the end counts, before a handler begins in its scope.
        await trio.lowlevel.checkpoint_if_cancelled()
        self.receive_into(reader)

    def receive_into(self, reader: RequestReader) -> None:
        """Give the reader what has arrived, or the end. A reset is an end: the peer will send no more."""
        try:
            data = self.transport.recv(HIGH_WATER_MARK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            reader.feed(data)
        else:
            self._peer_left()
            reader.feed_eof()

    def _enter(self, state: State, timeout: float) -> None:
        self.state = state
        self.deadline = trio.current_time() + timeout
        # SD-04: idle ends with the drain. SD-06: a head that has begun may finish. SD-09: a handler notices nothing.
        self.ring.move(Phase.DRAINING if state is State.IDLE else Phase.CANCELLING)

    async def _answer(self, reader: RequestReader, head: Head) -> None:
        """Run one exchange, and find out whether the connection can carry another."""
        self._enter(State.ACTIVE, math.inf)
        self.exchange = exchange = Exchange(self, reader, head)
        self.handling = True
        try:
            await exchange.run()
        except BaseException as exc:
            if trio.current_effective_deadline() == -math.inf:
                if not self.ring.ended:
                    self.worker.note_outer_cancel()
            elif all(isinstance(each, _STRAY) for each in unfold(exc)):
                # Nobody has cancelled it here: the handler has kept this one from a scope, or a generator, that is
                # gone. Further out it would end the nursery of all connections, without a word.
                self.worker.trouble(f"a handler raised a cancellation that was not for it: {type(exc).__name__}")
                self._keep = False
                return  # noqa: ASYNC104  (it belongs to no scope that is open)
            raise
        finally:
            self.handling = False
            self._stop_watching()
        if self.outbox.unsent:
            await self.outbox.wait_below(1)
        self.exchange = None
        self._keep = (
            exchange.writer.keep_alive
            and not self.outbox.lost
            and not exchange.closing  # SD-07: what is pipelined behind it is not started
            and self._body_is_read(reader)
        )
        if not self._keep and not self.outbox.lost:
            await linger(self.transport)

    def _body_is_read(self, reader: RequestReader) -> bool:
        """Skip what the handler left of the body, as far as it is here already; waiting for more is not worth it."""
        try:
            for _ in range(2):
                while (piece := reader.next_body()) is not None:
                    if not piece:
                        return True
                self.receive_into(reader)
        except WireError:
            pass
        return False

    # The end

    async def _refuse(self, error: WireError) -> None:
        """Answer what is no request, and close."""
        self.state = State.ACTIVE
        self.deadline = math.inf
        self.outbox.send(refusal(error, self.worker.date.line))
        await self.outbox.wait_below(1)
        await linger(self.transport)

    def expire(self) -> None:
        """Nothing came in time: 408 if a request had begun, a silent close otherwise (called by `Timers`)."""
        self.expired = True
        self.ring.end("the peer has sent nothing for too long")

    def cut(self) -> None:
        """Close the socket under whatever is going on, so that the peer can tell (SD-11).

        Chunks and a declared size show by themselves that something is missing. A response that ends where the
        connection ends does not: then the close is a reset.
        """
        self._stop_watching()
        if self.exchange is not None and self.exchange.writer.ends_by_close:
            self.transport.abort()
        else:
            self.transport.close()
        self.outbox.lose("the server closed the connection")

    def force_close(self) -> None:
        """FORCE_CLOSING: whatever is under way, close the socket."""
        self.forced = True
        self.cut()

    @property
    def route(self) -> str:
        """Method and path of the request that is being answered."""
        assert self.exchange is not None, "answering"
        return f"{self.exchange.request.method} {self.exchange.request.path}"

    def await_stack(self) -> list[str]:
        """Where the connection's task waits: a line a frame, outermost first."""
        assert self.task is not None, "running"
        return [
            f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}"
            for frame, line in self.task.iter_await_frames()
        ]

    @property
    def idle(self) -> bool:
        """Whether no byte of a request is under way."""
        return self.state in (State.NEW, State.IDLE)

    # The peer

    def note_arrived(self) -> None:
        """Before the drain: what the kernel holds counts as arrived, so an idle connection with bytes is READING."""
        if self.idle and self.transport.peek() is Arrived.BYTES:
            self._enter(State.READING, self.worker.limits.header_timeout)

    def peer_has_left(self) -> bool:
        """Whether the peer is gone or will send no more; looks, unless somebody watches already."""
        if not self._left and self._unwatch is None and self.transport.peek() is Arrived.END:
            self._peer_left()
        return self._left

    def until_peer_leaves(self) -> Ring:
        """The ring of `w.alive()`: ended by DRAINING, or by the peer leaving (AL-01)."""
        if self._unwatch is None and not self.peer_has_left():  # AL-05: a look, since the watch tells a turn later
            self._unwatch = self.transport.watch(self.worker.peers, self._peer_left)
        ring = self.worker.lifecycle.until(Phase.DRAINING, "alive", group=self._alive_rings)
        if self._left:
            ring.end("the peer has left")
        return ring

    def _stop_watching(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def _peer_left(self, why: str = "the peer has left") -> None:
        self._left = True
        for ring in list(self._alive_rings):
            ring.end(why)
