"""The shutdown as data: its phases, what can cause a change, and the one table of changes.

This module imports nothing of Trio. `lifecycle.Lifecycle` runs the table in one Trio run; the diagram in the docs is
drawn from it.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

__all__ = ["TRANSITIONS", "Cause", "Phase"]


class Phase(IntEnum):
    """Where a worker stands between its first accept and its end. Only ever forwards."""

    SERVING = 0
    """Accepting connections and answering requests."""
    STOP_ACCEPTING = 1
    """Taking what the kernel has already completed, then closing the listener (SD-02)."""
    DRAINING = 2
    """Idle connections are closed, the rest may finish, handlers are told (SD-03 to SD-10)."""
    FORCE_CLOSING = 3
    """Every socket that is left is closed, which alone wakes shielded I/O (SD-11)."""
    CANCELLING = 4
    """Every handler that is left is cancelled (SD-12)."""
    AWAITING = 5
    """Cancelled handlers run their cleanup (SD-13, SD-14)."""
    STOPPED = 6
    """Nothing is left."""


class Cause(Enum):
    """Why a phase ends."""

    STOP = "a stop was asked for"
    URGENT = "a stop without grace was asked for"
    LISTENER_CLOSED = "the listener is closed"
    DRAINED = "the last connection has ended"
    DEADLINE = "the grace is over"
    SOCKETS_CLOSED = "every socket is closed"
    HANDLERS_CANCELLED = "every handler is cancelled"
    HANDLERS_ENDED = "the last handler has ended"
    OUTER_CANCEL = "the run was cancelled from outside"


_SERVING, _STOP_ACCEPTING, _DRAINING, _FORCE_CLOSING, _CANCELLING, _AWAITING, _STOPPED = Phase

#: `(phase, cause) -> next phase`. A pair that is not here cannot happen, and is an error of ours when it does.
#: A pair that leads to its own phase is a cause that comes too late to change anything.
TRANSITIONS: Final[dict[tuple[Phase, Cause], Phase]] = {
    (_SERVING, Cause.STOP): _STOP_ACCEPTING,
    # Even without grace the listener is closed first: FORCE_CLOSING follows in the same instant.
    (_SERVING, Cause.URGENT): _STOP_ACCEPTING,
    # Everything is cancelled already, from outside: what is left is to wait for it (SD-17).
    (_SERVING, Cause.OUTER_CANCEL): _AWAITING,
    #
    (_STOP_ACCEPTING, Cause.LISTENER_CLOSED): _DRAINING,
    (_STOP_ACCEPTING, Cause.STOP): _STOP_ACCEPTING,
    (_STOP_ACCEPTING, Cause.URGENT): _STOP_ACCEPTING,
    (_STOP_ACCEPTING, Cause.OUTER_CANCEL): _AWAITING,
    #
    (_DRAINING, Cause.DRAINED): _FORCE_CLOSING,
    (_DRAINING, Cause.DEADLINE): _FORCE_CLOSING,
    (_DRAINING, Cause.URGENT): _FORCE_CLOSING,
    (_DRAINING, Cause.STOP): _DRAINING,
    (_DRAINING, Cause.OUTER_CANCEL): _AWAITING,
    #
    (_FORCE_CLOSING, Cause.SOCKETS_CLOSED): _CANCELLING,
    # The last connection may end in the very turn in which haste is asked for.
    (_FORCE_CLOSING, Cause.DRAINED): _FORCE_CLOSING,
    (_FORCE_CLOSING, Cause.DEADLINE): _FORCE_CLOSING,
    (_FORCE_CLOSING, Cause.STOP): _FORCE_CLOSING,
    (_FORCE_CLOSING, Cause.URGENT): _FORCE_CLOSING,
    (_FORCE_CLOSING, Cause.OUTER_CANCEL): _AWAITING,
    #
    (_CANCELLING, Cause.HANDLERS_CANCELLED): _AWAITING,
    #
    (_AWAITING, Cause.HANDLERS_ENDED): _STOPPED,
    # The script of the shutdown goes on to its end when an outer cancel, or a worker that dies, has overtaken it.
    (_AWAITING, Cause.LISTENER_CLOSED): _AWAITING,
    (_AWAITING, Cause.DRAINED): _AWAITING,
    (_AWAITING, Cause.DEADLINE): _AWAITING,
    (_AWAITING, Cause.SOCKETS_CLOSED): _AWAITING,
    (_AWAITING, Cause.HANDLERS_CANCELLED): _AWAITING,
    (_AWAITING, Cause.STOP): _AWAITING,
    (_AWAITING, Cause.URGENT): _AWAITING,
    (_AWAITING, Cause.OUTER_CANCEL): _AWAITING,
    #
    (_STOPPED, Cause.STOP): _STOPPED,
    (_STOPPED, Cause.URGENT): _STOPPED,
    (_STOPPED, Cause.OUTER_CANCEL): _STOPPED,
}
