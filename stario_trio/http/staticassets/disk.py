"""A large file on its way from the disk to one peer.

A disk may hang: a network file system whose server is gone, say. So everything that touches it runs in a thread, and a
cancelled handler leaves the thread behind instead of waiting for it; a stop stays as bounded as it is without files.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import trio

from stario_trio.exceptions import StarioError
from stario_trio.http.staticassets.identity import digest_of, identity_of
from stario_trio.http.staticassets.threads import close

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio.http.staticassets.files import CachedFile
    from stario_trio.http.staticassets.identity import Identity
    from stario_trio.http.staticassets.threads import DiskThreads
    from stario_trio.http.writer import Writer

__all__ = ["DiskFile"]

#: One read: large beside the 30 to 60 microseconds of a thread's turn, small beside `Limits.high_water`.
PIECE: Final = 64 * 1024

#: How many files at one path, of the same content, may be on their way to peers without being hashed again and again.
_VERSIONS: Final = 4


class DiskFile:
    """A file that is still the one of the scan, open for one response: `with DiskFile(...) as file: ...`.

    Whatever uses the descriptor takes it out of `_idle` and has it alone. So it is not closed under a read, which might
    then read from somebody else's, and after the block the last user closes it: nobody waits for a thread that hangs.

    Args:
        file: as the scan found it, one with a path.
        threads: of its directory.
    """

    __slots__ = ("_file", "_first", "_idle", "_over", "_path", "_threads")

    def __init__(self, file: CachedFile, threads: DiskThreads) -> None:
        assert file.path is not None, "a large file"
        self._file = file
        self._path: Path = file.path
        self._threads = threads
        self._idle: list[io.FileIO] = []
        self._over = False
        self._first = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        try:
            file = self._idle.pop()
        except IndexError:
            return  # closed by the thread that has read the last byte, or to be closed by the one that still reads
        self._threads.close_soon(file)

    async def open(self, start: int, size: int) -> None:
        """Open the file to send `size` bytes of it from `start` on; 0 only looks whether that could be done.

        Cancelled by: the handler's scopes; the thread is left behind.

        Raises:
            FileNotFoundError, NotADirectoryError: it is gone.
            StarioError: it has changed.
            OSError: it cannot be opened or read.
        """
        self._first = await self._in_thread(size, start)

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
            piece = await self._in_thread(size)

    async def _in_thread(self, left: int, start: int | None = None) -> bytes:
        return await trio.to_thread.run_sync(
            self._read, left, start, abandon_on_cancel=True, limiter=self._threads.limiter
        )

    # In threads

    def _read(self, left: int, start: int | None = None) -> bytes:
        """Read the next piece of the `left` bytes; with `start`, open the file first, to save a turn of the thread."""
        file = self._idle.pop() if start is None else io.FileIO(self._path, opener=_without_waiting)
        more = False
        try:
            if start is not None:
                self._check(file)
                file.seek(start)
            data = file.read(min(left, PIECE))
            self._check(file)  # afterwards, so that no byte of another version goes out
            if left and not data:
                raise OSError(f"{self._path} ended {left} bytes early")
            more = len(data) < left
            return data
        finally:
            if more:
                self._put_back(file)
            else:
                close(file)

    def _check(self, file: io.FileIO) -> None:
        found = identity_of(file.fileno())
        if found not in self._file.known and not self._is_known_again(file, found):
            raise StarioError(
                "Static file has changed since the start",
                context={"path": str(self._path)},
                help_text="Its name holds a hash of the old content. Restart the server after changing static files.",
            )

    def _is_known_again(self, file: io.FileIO, found: Identity) -> bool:
        """Whether the content is the same, and only its mode has changed, or it was copied again. Hashed once."""
        if found.size != self._file.size or found == self._file.refused:
            return False
        position = file.tell()
        file.seek(0)
        same = digest_of(file).encode() == self._file.etag.strip(b'"')
        file.seek(position)
        if identity_of(file.fileno()) != found:
            return False  # it is being changed right now
        # For all responses. If two threads find something at once, one more hash is all it costs.
        if same:
            self._file.known = (found, *self._file.known[: _VERSIONS - 1])
        else:
            self._file.refused = found
        return same

    def _put_back(self, file: io.FileIO) -> None:
        self._idle.append(file)
        if self._over:
            with suppress(IndexError):  # the handler was faster
                close(self._idle.pop())


def _without_waiting(path: str, flags: int) -> int:
    """The opener of a file that may be a pipe by now, whose writer nobody knows."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
