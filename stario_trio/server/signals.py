"""SIGINT and SIGTERM: the first asks for a stop, the second for haste, the third is none of ours (SD-16).

Trio's own `open_signal_receiver` merges equal signals and hands an unread one to the previous handler, so it cannot
count. A plain handler counts, and tells the run through its `TrioToken`, which is safe from a signal handler.
"""

from __future__ import annotations

import contextlib
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

__all__ = ["stop_signals"]


@contextmanager
def stop_signals(ask_to_stop: Callable[[str, bool], None]) -> Generator[None]:
    """Catch the stop signals around a block; the handlers from before are back after it (SD-20).

    Off the main thread, where Python allows no handler, nothing is caught.

    Args:
        ask_to_stop: called in this Trio run with the signal's name, and whether it is the second one.
    """
    token = trio.lowlevel.current_trio_token()
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    received = 0

    def caught(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received >= 2:
            restore()  # the third one gets the handler that was there before
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(ask_to_stop, signal.Signals(number).name, received > 1)

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is caught:  # somebody who installed another one keeps it
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.getsignal(number)
                signal.signal(number, caught)
        yield
    finally:
        restore()
