"""A response as a client reads it: by h11, so that nobody has to believe our own framing."""

from __future__ import annotations

from typing import Final

import h11

__all__ = ["ResponseReader"]

# A recorded head may be as large as a handler likes.
_MAX_HEAD: Final = 1024 * 1024


class ResponseReader:
    """Reads one response, as far as it has come.

    Args:
        method: of the request it answers.
    """

    def __init__(self, method: str = "GET") -> None:
        self._client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._client.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        self._client.send(h11.EndOfMessage())
        self.status: int = 0
        """The status; 0 until the head is there."""
        self.reason: bytes = b""
        self.fields: list[tuple[str, str]] = []
        """The fields of the head, with lower-case names."""
        self.body: bytearray = bytearray()
        self.pieces: list[bytes] = []
        """The body chunk by chunk, if each chunk was fed whole."""
        self.complete: bool = False
        """Whether the body has ended by the rules of its framing."""

    def feed(self, data: bytes | bytearray) -> None:
        """Read more of the response.

        Raises:
            h11.RemoteProtocolError: it is no response.
        """
        if data:  # h11 takes nothing for the end
            self._client.receive_data(bytes(data))
            self._read()

    def close(self) -> None:
        """The connection has ended.

        Raises:
            h11.RemoteProtocolError: in the middle of the response.
        """
        self._client.receive_data(b"")
        self._read()

    def _read(self) -> None:
        while not self.complete:
            event = self._client.next_event()
            if isinstance(event, h11.Response):
                self.status, self.reason = event.status_code, event.reason
                self.fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            elif isinstance(event, h11.Data):
                if event.chunk_start or not self.pieces:
                    self.pieces.append(b"")
                self.pieces[-1] += event.data
                self.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
            else:
                return

    @property
    def rest(self) -> bytes:
        """Bytes behind the end."""
        return self._client.trailing_data[0] if self.complete else b""
