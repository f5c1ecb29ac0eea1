"""How a response body is delimited on the wire (RFC 9112 section 6): one small machine for one response.

The writer says what it wants to send; a `Framing` says with which bytes, and refuses what the head has not promised.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from stario_trio.exceptions import StarioError

__all__ = ["Framing", "bodiless", "chunked", "counted", "status_line", "until_close"]

_PHRASES: Final[dict[int, str]] = {status.value: status.phrase for status in HTTPStatus if status.value >= 200} | {
    # RFC 9110's names, which Python has since 3.13.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

_STATUS_LINES: Final[dict[int, bytes]] = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, phrase.encode("ascii")) for status, phrase in _PHRASES.items()
}


def status_line(status: int) -> bytes:
    """The status line, CRLF included (RFC 9112 section 4).

    Raises:
        StarioError: not a final status.
    """
    try:
        return _STATUS_LINES[status]
    except KeyError:
        if type(status) is not int or not 200 <= status <= 599:
            raise StarioError(
                "Invalid status",
                context={"status": status},
                help_text="Answer with a final status, a whole number from 200 to 599 (RFC 9110 section 15).",
            ) from None
        return b"HTTP/1.1 %d \r\n" % status


class Framing:
    """The body of one response.

    Attributes:
        remaining: bytes still promised by Content-Length; None where nothing was promised.
        chunked: every piece is a chunk, and an empty chunk ends the body.
        silent: the body is left out (HEAD, 204, 304), whatever is written.
        until_close: the end of the connection is the end of the body.
    """

    __slots__ = ("chunked", "remaining", "silent", "until_close")

    def __init__(
        self,
        *,
        remaining: int | None = None,
        chunked: bool = False,
        silent: bool = False,
        until_close: bool = False,
    ) -> None:
        self.remaining: int | None = remaining
        self.chunked: bool = chunked
        self.silent: bool = silent
        self.until_close: bool = until_close

    def piece(self, data: bytes) -> bytes:
        """The bytes that carry one piece of the body.

        Raises:
            RuntimeError: more than Content-Length promised. Nothing of the piece is sent.
        """
        if self.silent or not data:  # an empty chunk would end the body
            return b""
        if self.chunked:
            return b"%x\r\n%s\r\n" % (len(data), data)
        if self.remaining is not None:
            if len(data) > self.remaining:
                raise RuntimeError(
                    f"Too much body: content-length leaves {self.remaining} bytes, {len(data)} were written. "
                    "Set content-length to the size of the whole body, or leave it out."
                )
            self.remaining -= len(data)
        return data

    def end(self) -> bytes | None:
        """The bytes that end the body; None if it cannot end here, because less was written than promised."""
        if self.silent:
            return b""
        if self.chunked:
            return b"0\r\n\r\n"
        return None if self.remaining else b""


def bodiless() -> Framing:
    """No body at all: the answer to HEAD, and 204 and 304 (RFC 9112 section 6.3, rule 1)."""
    return Framing(silent=True)


def counted(size: int) -> Framing:
    """Exactly `size` bytes, as Content-Length said (rule 6)."""
    return Framing(remaining=size)


def chunked() -> Framing:
    """Chunks (rule 4; section 7.1)."""
    return Framing(chunked=True)


def until_close() -> Framing:
    """Everything until the connection closes: a body of unknown size for an HTTP/1.0 peer (rule 8)."""
    return Framing(until_close=True)
