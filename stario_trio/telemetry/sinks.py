"""Where finished text goes in the end: a descriptor, or a file object that nobody can look into.

What is written here may wait for as long as the other side likes. `outlet` calls it in a thread of its own.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from errno import EMFILE, ENFILE
from io import BufferedWriter, FileIO, TextIOWrapper
from stat import S_ISREG
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DescriptorSink", "Sink", "TextSink", "complain", "encoding_of", "never", "sink_of"]

#: Bytes that a pipe takes whole or not at all (POSIX `write`), so that the lines of processes which share one do not
#: mix, and the last line of one that is killed is not cut. Not every system has the constant; Linux says 4,096.
PIPE_BUF: Final[int] = getattr(select, "PIPE_BUF", 4096)

#: Bytes for one write to a file, which takes any number.
FILE_BUF: Final = 65_536

#: Bytes that a character takes at most, in any encoding that is common.
BYTES_PER_CHARACTER: Final = 4

#: Milliseconds between two looks whether it is still worth waiting for an output that is full.
LOOK: Final = 100


class Sink(Protocol):
    """Takes bytes.

    Attributes:
        chunk: how many bytes to hand over at once, unless a single line is longer.
    """

    chunk: int

    def open(self) -> None:
        """Take hold of the output, so that what the program closes now still gets what is written soon."""
        ...

    def write(self, data: bytes, go_on: Callable[[], bool]) -> None:
        """Write all of `data`, and wait for the output while `go_on()` says so.

        Raises:
            OSError: the output is broken, or (`TimeoutError`) full and `go_on()` said no.
            ValueError: the output is closed.
        """
        ...

    def close(self) -> None:
        """Let go of the output, which stays as it is."""
        ...


def chunk_for(below: os.stat_result) -> int:
    """Return how many bytes to write at once to what a descriptor stands for."""
    return FILE_BUF if S_ISREG(below.st_mode) else PIPE_BUF


def never() -> bool:
    """As `go_on`: write what can be written at once."""
    return False


def encoding_of(output: TextIO) -> str:
    """Return the encoding of the lines for an output: its own, if that is one in which lines can be joined.

    UTF-8 where it names none, or one with a preamble (UTF-16): then the output is given text.
    """
    encoding: object = getattr(output, "encoding", None)
    with suppress(LookupError):
        if isinstance(encoding, str) and "\n".encode(encoding) == b"\n":
            return encoding
    return "utf-8"


class DescriptorSink:
    """Writes to the descriptor below a text file.

    Not through the file object: a thread that waits in there holds a lock of the file. Then nobody can print, and the
    interpreter aborts when it wants to flush standard output at its end.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._kept: int | None = None
        self._torn = False
        # A regular file is kept open until the last line is in it, whenever the program closes it. Not a pipe: its
        # reader waits for the end.
        self._below = os.fstat(output.fileno())
        self.chunk: int = chunk_for(self._below)

    def open(self) -> None:
        """See `Sink.open`."""
        self._follow()
        if self._kept is None:
            self._keep()

    def _keep(self) -> None:
        if S_ISREG(self._below.st_mode):
            with suppress(OSError):  # no descriptor is free, or it is closed: `write` will see
                self._kept = os.dup(self._output.fileno())

    def _follow(self) -> None:
        """Notice that the descriptor is another file now, as after `os.dup2(log, 1)`."""
        try:
            below = os.fstat(self._output.fileno())
        except (OSError, ValueError):  # closed
            return
        if not os.path.samestat(below, self._below):
            kept = self._kept is not None
            self.close()
            self._below, self.chunk = below, chunk_for(below)
            if kept:
                self._keep()

    def write(self, data: bytes, go_on: Callable[[], bool]) -> None:
        """See `Sink.write`."""
        self._follow()
        original = self._output.fileno() if self._kept is None else self._kept
        # A duplicate cannot become the descriptor of something else while this waits, as the original can when the
        # program closes the output in another thread. Where no descriptor is free, the original is better than none.
        try:
            descriptor = os.dup(original)
        except OSError as exc:
            if exc.errno not in (EMFILE, ENFILE):
                raise
            descriptor = original
        try:
            self._write(descriptor, b"\n" + data if self._torn else data, go_on)
        finally:
            if descriptor != original:
                os.close(descriptor)

    def _write(self, descriptor: int, data: bytes, go_on: Callable[[], bool]) -> None:
        rest = memoryview(data)
        while rest:
            if not writable(descriptor, go_on):
                raise TimeoutError("it takes nothing")
            if len(rest) == len(data):
                with suppress(ValueError):  # closed, and a regular file is kept open
                    self._output.flush()  # first what the program has printed before
            # Somebody may have made the descriptor non-blocking, and somebody else may have been faster.
            with suppress(BlockingIOError):
                rest = rest[os.write(descriptor, rest) :]
                self._torn = len(rest) > 0

    def close(self) -> None:
        """See `Sink.close`."""
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None


class TextSink:
    """Writes to a file object, for what lies below it may be something else: compressed, or with a preamble.

    A thread that waits in there holds a lock of the file (see `DescriptorSink`), so it first looks whether the
    descriptor takes something, and then writes no more than a pipe takes at once.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._encoding = encoding_of(output)
        self.chunk: int = chunk_for(os.fstat(output.fileno()))

    def open(self) -> None:
        """See `Sink.open`."""

    def write(self, data: bytes, go_on: Callable[[], bool]) -> None:
        """See `Sink.write`."""
        rest = data.decode(self._encoding)
        step = self.chunk // BYTES_PER_CHARACTER
        while rest:
            if not writable(self._output.fileno(), go_on):
                raise TimeoutError("it takes nothing")
            self._output.write(rest[:step])
            self._output.flush()
            rest = rest[step:]

    def close(self) -> None:
        """See `Sink.close`."""


def writable(descriptor: int, go_on: Callable[[], bool]) -> bool:
    """Wait until a descriptor takes something, or has an error to tell, while `go_on()` says so."""
    if not hasattr(select, "poll"):  # Windows: there it is the write that waits
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while not poll.poll(0):
        if not go_on():
            return False
        poll.poll(LOOK)
    return True


def sink_of(output: TextIO) -> Sink | None:
    """Return how to write to an output that may keep its writer waiting, None for one in memory."""
    try:
        os.fstat(output.fileno())
    except Exception:  # noqa: BLE001  (in memory, closed, or no file at all)
        return None
    return DescriptorSink(output) if is_thin(output) else TextSink(output)


def is_thin(output: TextIO) -> bool:
    """Whether a file object does nothing but encode and buffer, so that its descriptor may be given the bytes."""
    if type(output) is not TextIOWrapper:  # the `write` of a subclass may do more
        return False
    below: object = getattr(output, "buffer", None)
    raw: object = getattr(below, "raw", None) if type(below) is BufferedWriter else below  # `FileIO` with `python -u`
    return type(raw) is FileIO and output.encoding == encoding_of(output)


def complain(words: str) -> None:
    """Say something on standard error, if that takes it at once: it may be the same pipe that nobody reads."""
    # The original, for Rich puts its console in front of the other.
    stderr = sys.__stderr__
    with suppress(Exception):
        if stderr is not None and (sink := sink_of(stderr)) is not None:
            sink.write(words.encode(encoding_of(stderr), "backslashreplace"), never)
