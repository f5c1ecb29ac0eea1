"""SIGINT and SIGTERM: the first asks for a stop, the second for haste, the third is none of ours (SD-16).

Trio's own `open_signal_receiver` merges equal signals and hands an unread one to the previous handler, so it cannot
count. A plain handler counts, and tells the run through its `TrioToken`, which is safe from a signal handler.
"""

from __future__ import annotations

import contextlib
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

__all__ = ["stop_signals"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals(ask_to_stop: Callable[[str, bool], None]) -> Generator[None]:
    """Catch the stop signals around a block; the handlers from before are back after it (SD-20).

    Off the main thread, where Python allows no handler, nothing is caught.

    Args:
        ask_to_stop: called in the signal handler, with the signal's name and whether it is the second one.
    """
    receiver = _Receiver(ask_to_stop)
    try:
        receiver.install()
        yield
    finally:
        receiver.restore()


class _Receiver:
    """The handler of both signals for one server."""

    def __init__(self, ask_to_stop: Callable[[str, bool], None]) -> None:
        self._ask_to_stop = ask_to_stop
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._received = 0
        self._restored = False

    def install(self) -> None:
        for number in _SIGNALS:
            before = signal.getsignal(number)
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, self)
                self._before[number] = before

    def restore(self) -> None:
        self._restored = True
        for number in self._before:
            before = self._handler_before(number)
            if signal.getsignal(number) is self:  # somebody who installed another one keeps it
                signal.signal(number, signal.SIG_DFL if before is None else before)

    def _handler_before(self, number: int) -> Callable[[int, FrameType | None], object] | int | None:
        """The handler from before, without those of servers that have ended in the meantime."""
        before = self._before[number]
        while isinstance(before, _Receiver) and before._restored:
            before = before._before[number]
        return before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        haste = self._received > 1
        before = self._handler_before(number)
        if haste:
            self.restore()  # the third one gets the handler that was there before
        self._ask_to_stop(signal.Signals(number).name, haste)
        if isinstance(before, _Receiver):  # an earlier server in this process wants to know as well
            before(number, frame)
