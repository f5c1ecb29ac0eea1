"""RequestReader: bytes in, heads and pieces of content out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stario_trio.server.wire.body import Pieces, chunked_body, length_body
from stario_trio.server.wire.buffer import Buffer
from stario_trio.server.wire.errors import WireError
from stario_trio.server.wire.head import METHOD_BYTES, Head, parse_head
from stario_trio.server.wire.plain import read_plain

if TYPE_CHECKING:
    from stario_trio.server.config import Limits

__all__ = ["RequestReader"]


class RequestReader:
    """The requests of one connection, one after the other.

    The life of each request::

        next_head() -> Head                 until then None: feed() and ask again
        next_body() -> bytes, bytes, b""    until b"" (or `body_done`); None: feed() and ask again
        next_cycle()                        then next_head() for the next request

    **Feed only when asked.** Whoever feeds once for each None never has more in memory than one head, or one
    line of chunked framing, and what was fed last. Bytes of the next request that came along are kept in
    order.

    What the reader returns and refuses does not depend on how the bytes were cut. After a `WireError` it is
    of no more use: nobody knows where the next request begins, and it raises the same error again.

    Args:
        limits: of these, `header_bytes`, `header_fields`, `target_bytes` and `body_bytes`.
    """

    def __init__(self, limits: Limits) -> None:
        self.eof: bool = False
        """The peer has sent its last byte."""
        self.body_done: bool = True
        """`next_body()` has returned `b""`, or the current request has no content; True before the first one."""
        self._limits = limits
        # The longest line with a target within its limit: if a line is longer, blame the target.
        self._line_bytes = min(
            METHOD_BYTES + len(" ") + limits.target_bytes + len(" HTTP/1.1\r\n"), limits.header_bytes
        )
        self._buffer = Buffer()
        self._error: WireError | None = None
        self._body: Pieces | None = None
        self._begin_head()

    def _begin_head(self) -> None:
        self._head_read = False
        self._empty_line_skipped = False
        self._line_complete = False

    @property
    def pending(self) -> bool:
        """Bytes of the next request have come, if only a few: the connection is READING, not IDLE."""
        return self.body_done and len(self._buffer) > 0

    def feed(self, data: bytes) -> None:
        """Add what the peer has sent. Call it when `next_head()` or `next_body()` has returned None."""
        self._buffer += data

    def feed_eof(self) -> None:
        """Note that nothing more will come. What has been fed can still be read."""
        self.eof = True

    def next_head(self) -> Head | None:
        """Read the head of the next request.

        Returns:
            None if it is not complete. With `eof` that is final: the peer has ended between two requests.

        Raises:
            WireError: 400, 413 (declared), 414, 431, 501 or 505. The end of the peer's bytes within a head is
                a 400 with `disconnected`.
            RuntimeError: the current request has not been finished with `next_cycle()`.
        """
        if self._error is not None:
            raise self._error
        if self._head_read:
            raise RuntimeError("next_head() was called within a request: call next_cycle() first")
        try:
            block = self._take_head()
            if block is None:
                if self.eof and self._buffer:
                    raise WireError(400, "Request ended within its head", disconnected=True)
                return None
            head = read_plain(block, self._limits) or parse_head(block, self._limits)
        except WireError as error:
            self._error = error
            raise
        self._head_read = True
        if head.content_length != 0:
            self.body_done = False
            self._body = (
                chunked_body(self._buffer, self._limits)
                if head.content_length is None
                else length_body(self._buffer, head.content_length)
            )
        return head

    def _take_head(self) -> bytes | None:
        """Cut a complete head off the buffer, with its limits checked on the way."""
        buffer = self._buffer
        # Section 2.2: at least one empty line before a request line should be ignored. One is.
        if not self._empty_line_skipped and buffer.startswith(b"\r"):
            if len(buffer) < len(b"\r\n"):
                return None
            if buffer.startswith(b"\r\n"):
                buffer.take(len(b"\r\n"))
                self._empty_line_skipped = True
        # No method begins with a control character, but a TLS handshake does: do not wait for its end.
        if buffer and buffer[0] <= 0x20:
            raise WireError(400, "Invalid HTTP request")

        if not self._line_complete:
            self._line_complete = buffer.find_line(self._line_bytes) > 0
            if not self._line_complete:
                if len(buffer) >= self._line_bytes:
                    raise WireError(414, "Request target too long")
                return None
        block = buffer.take_head(self._limits.header_bytes)
        if block is None and len(buffer) >= self._limits.header_bytes:
            raise WireError(431, "Header fields too large")
        return block

    def next_body(self) -> bytes | None:
        """Read the next piece of the current request's content.

        Returns:
            A piece, `b""` at the end and ever after, or None if nothing has come.

        Raises:
            WireError: 400, 413 (chunked) or 431 (trailer fields). The end of the peer's bytes within the
                content is a 400 with `disconnected`.
        """
        if self._error is not None:
            raise self._error
        if self._body is None:
            return b""
        try:
            piece = next(self._body, b"")
            if piece is None and self.eof:
                raise WireError(400, "Request ended within its content", disconnected=True)
        except WireError as error:
            self._error = error
            raise
        if piece == b"":
            self.body_done = True
            self._body = None
        return piece

    def next_cycle(self) -> None:
        """Forget the finished request and get ready for the next one.

        Raises:
            RuntimeError: not all of the current request's content has been read.
        """
        if not self.body_done:
            raise RuntimeError("next_cycle() was called within a request: first read its body to the end")
        self._begin_head()
