"""The other end of one exchange, made up: a `Peer` that writes down what it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import h11
import trio

from stario_trio.http.headers import Headers
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.writer import Writer

if TYPE_CHECKING:
    from types import TracebackType

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


class FakeScope:
    """What `FakePeer.alive` gives: one cancel scope."""

    def __init__(self, peer: FakePeer) -> None:
        self._peer = peer
        self._scope = trio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._peer.open_scopes.append(self)
        if self._peer.disconnected or self._peer.shutting_down:
            self.end()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        self._peer.open_scopes.remove(self)
        return self._scope.__exit__(exc_type, exc, tb)

    @property
    def cut(self) -> bool:
        return self._scope.cancelled_caught

    def end(self) -> None:
        self._scope.cancel(reason="the fake peer says so")


class FakePeer:
    """Takes every byte; leaves, or hears of a shutdown, when told to.

    Attributes:
        sent: what the writer has sent.
        aborted: whether the writer has cut the connection.
        full: raised by `send`, while set.
        room: `drain` waits for it.
        body: the pieces of the request body that are still to come.
    """

    def __init__(self, *body: bytes) -> None:
        self.sent = bytearray()
        self.aborted = False
        self.full: Exception | None = None
        self.room = trio.Event()
        self.room.set()
        self.body = list(body)
        self.disconnected = False
        self.shutting_down = False
        self.closing = False
        self.open_scopes: list[FakeScope] = []

    # What the test does

    def leave(self) -> None:
        self.disconnected = True
        self._end_scopes()

    def shut_down(self) -> None:
        self.shutting_down = self.closing = True
        self._end_scopes()

    def _end_scopes(self) -> None:
        for scope in self.open_scopes:
            scope.end()

    def writer(self, method: str = "GET", version: str = "1.1", *, keep_alive: bool = True) -> Writer:
        return Writer(self, method=method, version=version, keep_alive=keep_alive)

    def request(self, method: str = "GET", path: str = "/", *fields: tuple[str, str]) -> Request:
        headers = Headers()
        for name, value in fields:
            headers.add(name, value)
        return Request(method=method, path=path, headers=headers, body=BodyReader(self.receive))

    # The Peer

    @property
    def date(self) -> bytes:
        return f"date: {DATE}\r\n".encode()

    def send(self, data: bytes, *, last: bool = False) -> None:
        assert isinstance(data, bytes)
        assert not self.aborted, "sent after the cut"
        if self.full is not None and not last:
            raise self.full
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        await self.room.wait()

    def alive(self) -> FakeScope:
        return FakeScope(self)

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.body.pop(0) if self.body else b""


class Response:
    """A response as a client reads it: by h11, so that no test believes our own framing.

    Attributes:
        complete: whether the body has ended by the rules of its framing.
        rest: bytes behind the end.
    """

    def __init__(self, sent: bytes | bytearray, *, method: str = "GET", closed: bool = False) -> None:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        client.send(h11.EndOfMessage())
        client.receive_data(bytes(sent))
        if closed:
            client.receive_data(b"")
        self.status = 0
        self.reason = b""
        self.fields: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []
        self.complete = False
        while not self.complete:
            try:
                event = client.next_event()
            except h11.RemoteProtocolError:
                if not closed:
                    raise  # not cut short: wrong
                break
            if isinstance(event, h11.Response):
                self.status, self.reason = event.status_code, event.reason
                self.fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            elif isinstance(event, h11.Data):
                if event.chunk_start or not self.pieces:
                    self.pieces.append(b"")
                self.pieces[-1] += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
            else:
                break
        self.rest = client.trailing_data[0] if self.complete else b""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def headers(self) -> dict[str, str]:
        """The fields by name; each may stand there once."""
        found = dict(self.fields)
        assert len(found) == len(self.fields), self.fields
        return found

    @property
    def text(self) -> str:
        return self.body.decode()
