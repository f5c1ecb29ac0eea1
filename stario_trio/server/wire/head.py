"""The head of a request: everything before its content (RFC 9112 sections 3, 5 and 6).

h11 is the law for what a head is. Around it stand the checks that it leaves to the server, and those where
the RFC allows more strictness than h11 has: line ends, obs-fold, control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import h11

from stario_trio.http.headers import Headers
from stario_trio.server.wire.errors import WireError
from stario_trio.server.wire.target import is_host, read_target

if TYPE_CHECKING:
    from stario_trio.server.config import Limits

__all__ = ["METHOD_BYTES", "Head", "parse_head", "persists"]

#: Bytes of a method; more is 501, as section 3 asks for a method longer than any we implement. The longest
#: one that is registered (UPDATEREDIRECTREF) has 17.
METHOD_BYTES = 32

# What a head may contain between its CRLFs: HTAB, visible ASCII, space and obs-text (RFC 9110 section 5.5).
_TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

# More digits than h11 reads (20), which is no syntax error.
_HUGE_LENGTH = re.compile(rb"\ncontent-length:[ \t]*0*[1-9][0-9]{20,}[ \t]*\r", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Head:
    """The request line and fields of one request."""

    method: str
    """As sent: methods are case-sensitive (RFC 9110 section 9.1)."""
    path: str
    """Percent-decoded as UTF-8, with U+FFFD for what is none; without the query. `"*"` for `OPTIONS *`."""
    query: bytes
    """Raw: what stands after the first `?`."""
    version: Literal["1.0", "1.1"]
    headers: Headers
    keep_alive: bool
    """Whether the request lets the connection persist (RFC 9112 section 9.3)."""
    content_length: int | None
    """Bytes of content: as declared, 0 if there is none, None if it is chunked."""
    expects_continue: bool
    """The peer may be waiting for `100 Continue` before it sends content (RFC 9110 section 10.1.1)."""


def parse_head(block: bytes, limits: Limits) -> Head:
    """Read a complete head.

    Args:
        block: the bytes from the request line to the blank line, with it. Its size has been checked.
        limits: for the target, the number of fields, and the declared size of the content.

    Raises:
        WireError: 400, 413, 414, 431, 501 or 505.
    """
    _check_lines(block, limits)
    request = _parse(block)

    version = request.http_version
    if version != b"1.1" and version != b"1.0":
        raise WireError(505, "Only HTTP/1.1 and HTTP/1.0 are supported")
    method = request.method.decode("ascii")
    if len(method) > METHOD_BYTES:
        raise WireError(501, "Unknown method")
    if method == "CONNECT":  # and with it authority-form, section 3.2.3
        raise WireError(501, "CONNECT is not supported")
    if len(request.target) > limits.target_bytes:
        raise WireError(414, "Request target too long")
    path, query, authority = read_target(method, request.target)

    headers = Headers.from_pairs(list(request.headers))
    if not is_host(headers.rget(b"host", b"")):  # section 3.2; h11 has counted it
        raise WireError(400, "Invalid Host")
    if authority is not None:  # section 3.2.2: it replaces the Host that was received
        headers.rset(b"host", authority)

    current = version == b"1.1"
    content_length = _content_length(headers, limits, chunked_allowed=current)
    return Head(
        method,
        path,
        query,
        "1.1" if current else "1.0",
        headers,
        persists(headers, current=current),
        content_length,
        # RFC 9110 section 10.1.1: not from HTTP/1.0, and not without content. Any other expectation may get a
        # 417; it is ignored, because no other is defined and the usual response says more.
        current and content_length != 0 and b"100-continue" in _options(headers, b"expect"),
    )


def persists(headers: Headers, *, current: bool) -> bool:
    """Say whether a request lets the connection persist (RFC 9112 section 9.3).

    Args:
        headers: its fields.
        current: it is of HTTP/1.1.
    """
    if headers.rget(b"connection") is None:
        return current
    options = _options(headers, b"connection")
    return b"close" not in options and (current or b"keep-alive" in options)


def _check_lines(block: bytes, limits: Limits) -> None:
    """Refuse what RFC 9112 lets us refuse and h11 accepts.

    A recipient may take a bare LF for a line end (section 2.2) and may unfold obs-fold (section 5.2). Two
    recipients that choose differently disagree about where a request ends, so we do neither. Of the control
    characters in a field value it may keep all but CR, LF and NUL (RFC 9110 section 5.5); we keep only HTAB.
    """
    controls = block.translate(None, _TEXT)
    if block.count(b"\r\n") * len(b"\r\n") != len(controls):  # then one is no part of a CRLF
        raise WireError(400, "Control character or bare line end in request head")
    if b"\r\n " in block or b"\r\n\t" in block:
        raise WireError(400, "Folded header field")
    fields = len(controls) // len(b"\r\n") - 2  # without the request line and the blank line
    if fields > limits.header_fields:
        raise WireError(431, "Too many header fields")


def _parse(block: bytes) -> h11.Request:
    # A new Connection per request costs less than walking one through a fake response to use it again.
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(block)
    try:
        # The block ends with a blank line and does not begin with one, so h11 has what it needs.
        return cast("h11.Request", connection.next_event())
    except h11.RemoteProtocolError as error:
        # The texts of h11 quote the request, so they are not for the peer.
        if error.error_status_hint == 501:
            raise WireError(501, "Transfer coding not supported") from error
        if _HUGE_LENGTH.search(block):
            raise WireError(413, "Request body too large") from error
        raise WireError(400, "Invalid HTTP request") from error


def _options(headers: Headers, name: bytes) -> list[bytes]:
    """List the members of a comma-separated field, in lower case."""
    return [option.strip(b" \t") for value in headers.rgetlist(name) for option in value.lower().split(b",")]


def _content_length(headers: Headers, limits: Limits, *, chunked_allowed: bool) -> int | None:
    """Find out how the content is framed (section 6.3). h11 has checked each of the two fields alone."""
    declared = headers.rget(b"content-length")
    if headers.rget(b"transfer-encoding") is not None:
        if not chunked_allowed:  # section 6.1: its framing is faulty
            raise WireError(400, "Transfer-Encoding in HTTP/1.0")
        if declared is not None:  # section 6.3: it ought to be handled as an error
            raise WireError(400, "Both Content-Length and Transfer-Encoding")
        return None
    length = int(declared or b"0")
    if length > limits.body_bytes:
        raise WireError(413, "Request body too large")
    return length
