"""The content of a request, piece by piece (RFC 9112 sections 6 and 7).

A body is a generator: it yields a piece (never empty), or None when the buffer has nothing more for it, and
returns at the end of the body. Read from top to bottom, each generator is the grammar it reads.

The chunked reader is our own, not h11's: h11 0.16 ends a trailer section at a bare LF, which is a way to
smuggle a request past a proxy that does not, and it bounds neither the sum of the chunk extensions nor a line
that arrives in one go. Ours is the stricter one: what it accepts, h11 accepts with the same content (a test
keeps it so).
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TYPE_CHECKING, TypeAlias

from stario_trio.server.wire.errors import WireError

if TYPE_CHECKING:
    from stario_trio.server.config import Limits
    from stario_trio.server.wire.buffer import Buffer

__all__ = ["Pieces", "chunked_body", "length_body"]

Pieces: TypeAlias = Generator[bytes | None, None, None]

# Enough for 2**64 - 1 bytes.
_SIZE_DIGITS = 16
# Section 7.1. Whitespace beside the size, which a recipient may tolerate, is refused, as llhttp does.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})(|;[\t\x20-\x7e\x80-\xff]*)\r\n" % _SIZE_DIGITS)
# Section 5, without obs-fold.
_FIELD_LINE = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")

_EXTENSIONS_TOO_LONG = (400, "Chunk extensions too long")
_TRAILERS_TOO_LARGE = (431, "Trailer fields too large")


def length_body(buffer: Buffer, length: int) -> Pieces:
    """Read `length` bytes (section 6.2)."""
    while length:
        piece = buffer.take(length)
        length -= len(piece)
        yield piece or None


def chunked_body(buffer: Buffer, limits: Limits) -> Pieces:
    """Read chunks until the empty one, then the trailer section (section 7.1).

    A piece is at most one chunk, and the shortest is one byte.

    Raises:
        WireError: 400 for bad framing or too many bytes of chunk extensions, 413 for too large a body, 431
            for too large a trailer section.
    """
    room = limits.body_bytes
    # Section 7.1.1: the total length of the extensions ought to be limited. Nothing here uses one.
    spare = limits.header_bytes
    while True:
        line = yield from _line(buffer, spare + _SIZE_DIGITS + len(b"\r\n"), _EXTENSIONS_TOO_LONG)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise WireError(400, "Invalid chunk size")
        spare -= len(match[2])
        if spare < 0:
            raise WireError(*_EXTENSIONS_TOO_LONG)
        size = int(match[1], 16)
        if size == 0:
            break
        if size > room:
            raise WireError(413, "Request body too large")
        room -= size
        yield from length_body(buffer, size)
        while len(buffer) < len(b"\r\n"):
            yield None
        if buffer.take(len(b"\r\n")) != b"\r\n":
            raise WireError(400, "Chunk longer than its size")
    yield from _trailers(buffer, limits)


def _trailers(buffer: Buffer, limits: Limits) -> Pieces:
    """Read the trailer section, within the limits of a head, and drop it, as section 7.1.2 allows."""
    spare = limits.header_bytes
    fields = 0
    while True:
        line = yield from _line(buffer, spare, _TRAILERS_TOO_LARGE)
        if line == b"\r\n":
            return
        spare -= len(line)
        fields += 1
        if fields > limits.header_fields:
            raise WireError(*_TRAILERS_TOO_LARGE)
        if _FIELD_LINE.fullmatch(line) is None:
            raise WireError(400, "Invalid trailer field")


def _line(buffer: Buffer, most: int, too_long: tuple[int, str]) -> Generator[None, None, bytes]:
    """Read a line of at most this many bytes."""
    while (line := buffer.take_line(most)) is None:
        if len(buffer) >= most:
            raise WireError(*too_long)
        yield None
    return line
