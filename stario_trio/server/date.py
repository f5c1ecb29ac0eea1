"""The Date header: one value for the whole server, made once a second (RFC 9110 section 6.6.1)."""

from __future__ import annotations

import time
from email.utils import formatdate

import trio

__all__ = ["Date"]


class Date:
    """The current Date field line; `line` is read by every response and written by one service."""

    __slots__ = ("line",)

    def __init__(self) -> None:
        self.line: bytes = self._now()

    @staticmethod
    def _now() -> bytes:
        return b"date: %s\r\n" % formatdate(usegmt=True).encode("ascii")

    async def run(self) -> None:
        """Renew the value at the start of each second.

        Ends when: never by itself.
        Cancelled by: the services nursery of the supervisor, after the last handler (SD-19).
        """
        while True:
            await trio.sleep(1 - time.time() % 1)
            self.line = self._now()
