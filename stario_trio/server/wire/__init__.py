"""Bytes to requests: reading HTTP/1.1 (RFC 9112) without I/O, and without Trio.

Begin with `reader.RequestReader`, which the connection drives. It cuts the head off a `buffer.Buffer`, lets
`head.parse_head` make a `Head` of it (h11 parses, `target` reads the request target), and reads the content
with one of the two generators in `body`. Whatever the peer does wrong ends in one `errors.WireError`. Heads of
the usual kind are read by `plain.read_plain`, to the same result at a sixth of the cost.
"""

from __future__ import annotations

from stario_trio.server.wire.errors import WireError
from stario_trio.server.wire.head import Head
from stario_trio.server.wire.reader import RequestReader

__all__ = ["Head", "RequestReader", "WireError"]
