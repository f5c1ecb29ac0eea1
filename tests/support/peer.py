"""The other end of one exchange, made up, and what a client makes of what it was sent."""

from __future__ import annotations

import h11

from stario_trio.http.headers import Headers
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.writer import Writer
from stario_trio.testing.peer import DATE, RecordingPeer
from stario_trio.testing.reader import ResponseReader

__all__ = ["DATE", "FakePeer", "Response"]


class FakePeer(RecordingPeer):
    """Takes every byte; leaves, or hears of a shutdown, when told to."""

    def writer(self, method: str = "GET", version: str = "1.1", *, keep_alive: bool = True) -> Writer:
        return Writer(self, method=method, version=version, keep_alive=keep_alive)

    def request(self, method: str = "GET", path: str = "/", *fields: tuple[str, str]) -> Request:
        headers = Headers()
        for name, value in fields:
            headers.add(name, value)
        return Request(method=method, path=path, headers=headers, body=BodyReader(self.receive))


class Response:
    """A whole response, read by h11, so that no test believes our own framing.

    `closed` says that the connection has ended behind it, or in its middle. `complete` says whether the body has ended
    by the rules of its framing, and `rest` is what stands behind its end.
    """

    def __init__(self, sent: bytes | bytearray, *, method: str = "GET", closed: bool = False) -> None:
        reader = ResponseReader(method)
        try:
            reader.feed(sent)
            if closed:
                reader.close()
        except h11.RemoteProtocolError:
            if not closed:
                raise  # not cut short: wrong
        self.status, self.reason, self.fields = reader.status, reader.reason, reader.fields
        self.pieces, self.body = reader.pieces, bytes(reader.body)
        self.complete, self.rest = reader.complete, reader.rest

    @property
    def headers(self) -> dict[str, str]:
        """The fields by name; each may stand there once."""
        found = dict(self.fields)
        assert len(found) == len(self.fields), self.fields
        return found

    @property
    def text(self) -> str:
        return self.body.decode()
