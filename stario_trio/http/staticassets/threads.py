"""The threads that touch the files of one directory: few, and no one else's."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    import io

__all__ = ["THREADS", "DiskThreads"]

#: In one worker. Enough that a disk has always something to do, and that a few files on a part of the directory that
#: hangs do not hold up the others. More would only wait for the GIL: 40 downloads of what is in memory were not faster
#: with 16 or 40, and the threads of handlers had to wait twice as long (8 ms instead of 4).
THREADS: Final = 8


class DiskThreads:
    """Bounds the threads of one directory.

    A disk may hang: a network file system whose server is gone, say. Each thread that waits for it is lost until it
    goes on. So they are not taken from Trio's default limiter, where handlers and `getaddrinfo` would starve with them.
    """

    __slots__ = ("_closers", "_closing", "_limiter")

    def __init__(self) -> None:
        # A limiter wakes tasks of its own run only, and each worker is a run. It goes with its run.
        self._limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("threads of static files")
        self._closing: deque[io.FileIO] = deque()
        self._closers = threading.Semaphore(THREADS)

    @property
    def limiter(self) -> trio.CapacityLimiter:
        """Of this Trio run."""
        try:
            return self._limiter.get()
        except LookupError:
            limiter = trio.CapacityLimiter(THREADS)
            self._limiter.set(limiter)
            return limiter

    def close_soon(self, file: io.FileIO) -> None:
        """Close a file that nobody uses, without waiting: closing is one more thing that may hang.

        Not with the limiter, whose threads may all hang while this one would not. One that finds as many closing as
        there may be leaves its file to them.
        """
        self._closing.append(file)
        try:
            trio.lowlevel.start_thread_soon(self._close_all, _ignore)
        except RuntimeError:  # no thread can be started
            self._close_all()

    def _close_all(self) -> None:
        # Looked at again after each release: who came just before it has left a file here.
        while self._closing and self._closers.acquire(blocking=False):
            try:
                with suppress(IndexError):
                    while True:
                        close(self._closing.popleft())
            finally:
                self._closers.release()


def close(file: io.FileIO) -> None:
    """Close a file that was only read, and so has nothing to lose."""
    with suppress(OSError):
        file.close()


def _ignore(_outcome: object) -> None:
    """Nobody waits for it."""
