"""Accepting connections from one bound socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from stario_trio.server.transport import Transport

__all__ = ["BURST", "Listener", "accept_loop", "accept_now"]

# SK-07: out of descriptors or memory, the process may have some again soon. As long as Trio's serve_listeners waits.
_PAUSE: Final = 0.1
# Connections accepted before others get their turn.
BURST: Final = 64


class Listener(Protocol):
    """A bound socket that listens."""

    burst: int
    """How many connections to accept before those that were accepted get their turn."""

    def accept(self) -> Transport:
        """Take one completed connection.

        Raises:
            BlockingIOError: there is none.
            ConnectionError: this one was lost.
            OSError: the process is out of something (EMFILE, ENFILE, ENOBUFS, ENOMEM).
            trio.ClosedResourceError: the listener is closed.
        """
        ...

    async def wait_acceptable(self) -> None:
        """Return when `accept` has something to take."""
        ...

    def refuse(self) -> None:
        """Let nobody new in, where that is possible; who is in already can still be accepted."""
        ...

    def shut(self) -> None:
        """Let nobody in any more; may be called in any thread."""
        ...

    def close(self) -> None:
        """Stop listening, and release the address. Idempotent."""
        ...


async def accept_loop(
    listener: Listener,
    admit: Callable[[Transport], None],
    wait_for_room: Callable[[], Awaitable[None]],
    on_trouble: Callable[[str], None],
) -> None:
    """Accept until cancelled or closed; a failing accept makes a pause, and never an end (SK-07)."""
    while True:  # noqa: ASYNC913  (each round waits for the listener)
        try:
            await listener.wait_acceptable()
            for _ in range(listener.burst):
                await wait_for_room()
                admit(listener.accept())
        except BlockingIOError:
            continue
        except trio.ClosedResourceError:
            return  # STOP_ACCEPTING closed it just before this task had its turn
        except ConnectionError:
            continue  # the peer left before it was accepted
        except OSError as exc:
            on_trouble(f"accepting pauses for {_PAUSE:g} s: {exc}")
            await trio.sleep(_PAUSE)


def accept_now(listener: Listener, most: int, on_trouble: Callable[[str], None]) -> Iterator[Transport]:
    """Take the connections the kernel has already completed, at most `most` (SD-02)."""
    for _ in range(most):
        try:
            yield listener.accept()
        except BlockingIOError:
            return
        except ConnectionError:
            continue
        except OSError as exc:
            on_trouble(f"completed connections are lost in the stop: {exc}")
            return
