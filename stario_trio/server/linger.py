"""Closing so that a complete response survives (SD-18; RFC 9112 section 9.6).

Closing a socket with unread input makes the kernel reset the connection, and a reset may overtake the response: the
peer loses what it has not read yet. So the server ends its own side, reads what still comes for a while, and closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from stario_trio.server.transport import Transport

__all__ = ["linger"]

# nginx waits 5 s between pieces and 30 s in all; a stop is not to wait that long for a peer that ignores its answer.
_SECONDS: Final = 1.0
_BYTES: Final = 64 * 1024


async def linger(transport: Transport) -> None:
    """End this side, and read what the peer still sends until it ends its own.

    Ends when: the peer has ended its side.
    Cancelled by: its deadline of 1 s, CANCELLING, an outer cancel.
    """
    transport.end_sending()
    unread = _BYTES
    with trio.move_on_after(_SECONDS):  # noqa: ASYNC912  (a loop without a wait has a bound of its own)
        while unread > 0:
            try:
                data = transport.recv(_BYTES)
            except BlockingIOError:
                await transport.wait_readable()
                continue
            except OSError:
                return
            if not data:
                return
            unread -= len(data)
        # Not read any further, the peer stops sending and finds its answer; closed now, it would find a reset.
        await trio.sleep_forever()
