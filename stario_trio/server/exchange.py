"""One request and its response on a connection: the server's side of `stario_trio.http.peer.Peer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from stario_trio.exceptions import ClientDisconnected, HttpException
from stario_trio.http.framing import status_line
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.writer import Writer
from stario_trio.server.phases import Phase
from stario_trio.server.wire import WireError

if TYPE_CHECKING:
    from stario_trio.server.connection import Connection
    from stario_trio.server.lifecycle import Ring
    from stario_trio.server.wire import Head, RequestReader

__all__ = ["Exchange", "refusal"]

# Pieces of a body given to a handler before others get their turn: one read may hold 10,000 chunks of one byte.
_BURST = 64

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """What a handler's writer and request know of their connection.

    Args:
        connection: carries it.
        reader: has read `head` and will read the body.
        head: of the request.
    """

    __slots__ = ("_broken", "_connection", "_continue_due", "_over", "_pieces", "_reader", "_wait", "request", "writer")

    def __init__(self, connection: Connection, reader: RequestReader, head: Head) -> None:
        self._connection = connection
        self._reader = reader
        self._continue_due = head.expects_continue
        self._broken = False
        self._over = False
        self._pieces = 0
        self._wait: trio.CancelScope | None = None
        self.request: Request = Request(
            method=head.method,
            path=head.path,
            query_bytes=head.query,
            protocol_version=head.version,
            keep_alive=head.keep_alive,
            headers=head.headers,
            body=BodyReader(self.receive),
        )
        self.writer: Writer = Writer(self, method=head.method, version=head.version, keep_alive=head.keep_alive)

    async def run(self) -> None:
        """Let the application answer.

        Raises:
            trio.Cancelled: the handler's time is over.
        """
        try:
            await self._connection.worker.handle_request(self.request, self.writer)
        finally:
            self._over = True
            if self._wait is not None:  # a task that outlives the handler: the socket is the connection's again
                self._wait.cancel(reason="the request is over")

    # The Peer

    @property
    def disconnected(self) -> bool:
        """See `Peer.disconnected`."""
        return self._connection.peer_has_left()

    @property
    def shutting_down(self) -> bool:
        """See `Peer.shutting_down`."""
        return self._connection.worker.lifecycle.phase >= Phase.DRAINING

    @property
    def closing(self) -> bool:
        """See `Peer.closing`: SD-07, a broken body, or a body the peer was never told to send."""
        return self._broken or self._continue_due or self.shutting_down

    @property
    def date(self) -> bytes:
        """See `Peer.date`."""
        return self._connection.worker.date.line

    def send(self, data: bytes, *, last: bool = False) -> None:
        """See `Peer.send`."""
        self._connection.outbox.send(data, last=last)

    def abort(self) -> None:
        """See `Peer.abort`."""
        self._connection.cut()

    async def drain(self) -> bool:
        """See `Peer.drain`."""
        connection = self._connection
        await connection.outbox.wait_below(connection.worker.limits.high_water)
        return not connection.outbox.lost

    def alive(self) -> Ring:
        """See `Peer.alive`."""
        return self._connection.until_peer_leaves()

    async def receive(self) -> bytes:
        """See `Peer.receive`."""
        if self._over:
            raise _is_over()
        self._pieces += 1
        if self._pieces % _BURST == 0:
            await trio.lowlevel.checkpoint()
        try:
            while (piece := self._reader.next_body()) is None:
                await self._receive_more()
        except WireError as error:
            self._broken = True
            if error.disconnected:
                raise ClientDisconnected("the peer left in the middle of its request body") from error
            raise HttpException(error.status, error.detail) from error
        if self._reader.body_done:
            self._continue_due = False  # all of it has come unasked
        return piece

    async def _receive_more(self) -> None:
        """Wait for the peer's next bytes.

        Ends when: bytes or the peer's end have come.
        Cancelled by: `Limits.body_timeout`, which becomes a 408.
        """
        connection = self._connection
        if self._continue_due:  # RFC 9110 section 10.1.1: only now, when a handler wants the body
            self._continue_due = False
            if not self.writer.started:
                self.send(_CONTINUE)
        with trio.move_on_after(connection.worker.limits.body_timeout) as wait:
            self._wait = wait
            try:
                await connection.transport.wait_readable()
            except trio.ClosedResourceError as exc:  # FORCE_CLOSING
                raise ClientDisconnected("the connection was closed by the server") from exc
            finally:
                self._wait = None
        if self._over:
            raise _is_over()
        if wait.cancelled_caught:
            raise WireError(408, "Request timeout: the body stopped coming")
        connection.receive_into(self._reader)


def _is_over() -> RuntimeError:
    return RuntimeError("The request is over: its body is read in its handler, or by tasks that end before it does.")


def refusal(error: WireError, date: bytes) -> bytes:
    """The whole response to a request that never became one; it says that the connection closes after it."""
    body = error.detail.encode()
    fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return b"".join((status_line(error.status), date, fields, body))
