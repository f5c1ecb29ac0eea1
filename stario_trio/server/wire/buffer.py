"""Received bytes that nobody has read yet."""

from __future__ import annotations

import re

__all__ = ["Buffer"]

# Where h11 ends a head. A bare LF counts here, so that a peer which sends such line ends gets its 400 at once
# instead of waiting for a CRLF CRLF that never comes.
_BLANK_LINE = re.compile(rb"\n\r?\n")


class Buffer(bytearray):
    """Bytes to append to at the back and to take from at the front.

    It remembers how far it has looked for the end of a line or head. So the work is linear in the bytes
    received, also when they come one at a time.
    """

    __slots__ = ("_searched",)

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0

    def take(self, most: int) -> bytes:
        """Cut off at most this many bytes; `b""` if there are none."""
        self._searched = 0
        if most >= len(self):
            piece = bytes(self)
            self.clear()
        else:
            piece = bytes(self[:most])
            del self[:most]
        return piece

    def find_line(self, most: int) -> int:
        """Look for an LF among the first `most` bytes.

        Returns:
            The size of the line with its LF, or 0 if there is no LF yet.
        """
        size = self.find(b"\n", self._searched, most) + 1
        if not size:
            self._searched = min(len(self), most)
        return size

    def take_line(self, most: int) -> bytes | None:
        """Cut off a line with its LF, or return None if there is no LF among the first `most` bytes."""
        size = self.find_line(most)
        return self.take(size) if size else None

    def take_head(self, most: int) -> bytes | None:
        """Cut off all up to the first blank line, or return None if none ends in the first `most` bytes."""
        # The last two bytes of the part without a blank line could be the beginning of one.
        match = _BLANK_LINE.search(self, max(0, self._searched - 2), most)
        if match is None:
            self._searched = min(len(self), most)
            return None
        return self.take(match.end())
