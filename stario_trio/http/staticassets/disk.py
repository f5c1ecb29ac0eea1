"""A large file on its way from the disk to one peer.

A disk may hang: a network file system whose server is gone, say. So everything that touches it runs in a thread, and a
cancelled handler leaves the thread behind instead of waiting for it; a stop stays as bounded as it is without files.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import trio

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio.http.writer import Writer

__all__ = ["DiskFile", "Identity", "identity_of"]

#: One read: large beside the 30 to 60 microseconds of a thread's turn, small beside `Limits.high_water`.
PIECE: Final = 64 * 1024

#: What tells a file from a later one at the same path. Not the device: a network file system that is mounted again
#: (by an automounter) gets another number.
Identity: TypeAlias = tuple[int, int, int]


def identity_of(fd: int) -> Identity:
    """Inode, size in bytes, and modification time in nanoseconds."""
    stat = os.fstat(fd)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class DiskFile:
    """A file that is still the one of the scan, open for one response: `with DiskFile(...) as file: ...`.

    Whatever uses the descriptor takes it out of `_idle` and has it alone. So it is not closed under a read, which might
    then read from somebody else's, and after the block the last user closes it: nobody waits for a thread that hangs.

    Args:
        path: of the file.
        identity: as the scan found it.
    """

    __slots__ = ("_first", "_identity", "_idle", "_over", "_path")

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._identity = identity
        self._idle: list[io.FileIO] = []
        self._over = False
        self._first = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        # In a thread, as closing is one more thing that may hang.
        trio.lowlevel.start_thread_soon(self._close, _ignore)

    async def open(self, start: int, size: int) -> None:
        """Open the file to send `size` bytes of it from `start` on; 0 only looks whether that could be done.

        Cancelled by: the handler's scopes; the thread is left behind.

        Raises:
            FileNotFoundError, NotADirectoryError: it is gone.
            StarioError: it has changed.
            OSError: it cannot be opened or read.
        """
        self._first = await trio.to_thread.run_sync(self._open, start, min(size, PIECE), abandon_on_cancel=True)

    async def send(self, w: Writer, size: int) -> None:
        """Write the `size` bytes it was opened for, as fast as the peer takes them, and end the response.

        Ends when: all are written, or no more can be.
        Cancelled by: the handler's scopes; the thread is left behind.

        Raises:
            StarioError: the file has changed.
            OSError: it cannot be read.
        """
        piece, self._first = self._first, b""
        while True:
            w.write(piece)
            size -= len(piece)
            if not size:
                w.end()
                return
            if not await w.drain():
                w.abort()
                return
            piece = await trio.to_thread.run_sync(self._read, min(size, PIECE), abandon_on_cancel=True)

    # In threads

    def _open(self, start: int, first: int) -> bytes:
        """Open the file, and read what is sent first with the same turn of the thread."""
        self._put_back(io.FileIO(self._path, opener=_without_waiting))
        return self._read(first, start)

    def _read(self, size: int, start: int | None = None) -> bytes:
        file = self._idle.pop()
        try:
            if start is not None:
                self._check(file)
                file.seek(start)
            data = file.read(size)
            self._check(file)  # afterwards, so that no byte of another version goes out
            if size and not data:
                raise OSError(f"{self._path} ended {size} bytes early")
            return data
        finally:
            self._put_back(file)

    def _check(self, file: io.FileIO) -> None:
        if identity_of(file.fileno()) != self._identity:
            raise StarioError(
                "Static file has changed since the start",
                context={"path": str(self._path)},
                help_text="Its name holds a hash of the old content. Restart the server after changing static files.",
            )

    def _put_back(self, file: io.FileIO) -> None:
        self._idle.append(file)
        if self._over:
            self._close()

    def _close(self) -> None:
        try:
            file = self._idle.pop()
        except IndexError:
            return  # somebody still uses it, and closes it afterwards
        file.close()


def _without_waiting(path: str, flags: int) -> int:
    """The opener of a file that may be a pipe by now, whose writer nobody knows."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _ignore(_outcome: object) -> None:
    """A file that was only read has nothing to lose when it is closed."""
