"""A quick reader for plain heads, which nearly all heads are.

It knows only the simplest of everything: HTTP/1.1, a usual method, origin-form, one line a field, each name once,
content of a declared size. Such a head has one reading, and h11 reads it so too, at six times the cost. Whatever else
comes is none of its business, and goes untouched to `head.parse_head`, which is the law: so this reader can only be
right or of no use. A test compares the two on any bytes.

Nothing is remembered from one head to the next: neither a lock nor a bound is needed, and a peer cannot fill it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from stario_trio.http.headers import Headers
from stario_trio.server.wire.head import Head, persists
from stario_trio.server.wire.target import is_host, read_target

if TYPE_CHECKING:
    from stario_trio.server.config import Limits

__all__ = ["read_plain"]

# All repeats are possessive (the second `+`): what they have taken they never give back, so the work is linear on any
# bytes.
_REQUEST_LINE: Final = re.compile(rb"(GET|POST|HEAD|PUT|DELETE|PATCH|OPTIONS) (/[!-~]*+) HTTP/1\.1\r\n")

# One whole line, from the byte after an LF to the next LF. A value that ends in whitespace is left to h11.
_FIELD_LINE: Final = re.compile(
    rb"^([-!#$%&'*+.^_`|~0-9A-Za-z]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)(?<![ \t])\r\n", re.MULTILINE
)

# Fields that change what a request is, or how it goes on.
_NOT_PLAIN: Final = frozenset((b"transfer-encoding", b"expect", b"upgrade"))

# What h11 takes for a size at most; and `int` is quadratic in the digits.
_LENGTH_DIGITS: Final = 20


def read_plain(block: bytes, limits: Limits) -> Head | None:
    """Read a complete head, if it is a plain one.

    Args:
        block: the bytes from the request line to the blank line, with it.
        limits: as for `parse_head`.

    Returns:
        What `parse_head` would return, or None if that is the one to ask: the head is not plain, or not good, or
        beyond a limit.
    """
    line = _REQUEST_LINE.match(block)
    if line is None or not block.endswith(b"\r\n\r\n"):
        return None
    method, target = line.groups()
    if len(target) > limits.target_bytes:
        return None

    # Each match is a line, and the last line is blank. So if there are as many matches as other lines, then all of
    # them are good, and no byte is left that nobody has looked at.
    start = line.end()
    pairs: list[tuple[bytes, bytes]] = _FIELD_LINE.findall(block, start)
    if len(pairs) != block.count(b"\n", start) - 1 or len(pairs) > limits.header_fields:
        return None
    fields = {name.lower(): value for name, value in pairs}
    if len(fields) != len(pairs) or not _NOT_PLAIN.isdisjoint(fields):
        return None
    host = fields.get(b"host")
    if host is None or not is_host(host):
        return None
    length = fields.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > _LENGTH_DIGITS or int(length) > limits.body_bytes:
        return None

    verb = method.decode("ascii")
    path, query, _authority = read_target(verb, target)
    headers = Headers(cast("dict[bytes, bytes | list[bytes]]", fields))  # nobody else holds it
    return Head(verb, path, query, "1.1", headers, persists(headers, current=True), int(length), False)
