"""An output that never keeps anybody waiting: a bounded backlog of lines, and a thread that writes them.

A handler ends its span, and must not wait for whoever reads the log: a pipe that nobody reads would stop the whole
server, and its stop as well.
"""

from __future__ import annotations

import atexit
import math
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from stario_trio.telemetry.failures import text
from stario_trio.telemetry.forks import follow
from stario_trio.telemetry.sinks import complain

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.telemetry.sinks import Sink

__all__ = ["EXIT_TIMEOUT", "MAX_BACKLOG", "Outlet"]

#: Bytes that wait for a slow output at most: some seconds of a busy server, and little beside its other memory.
MAX_BACKLOG: Final = 8 * 1024 * 1024

#: What a waiting line costs beside its bytes.
OVERHEAD: Final = 64

#: Seconds between two looks at the backlog while there is something to write. The first line is written at once; those
#: that come in this time share one wake of the thread, which costs more than writing them.
PAUSE: Final = 0.01

#: Seconds that the end waits for an output that does not take its lines.
EXIT_TIMEOUT: Final = 2.0

#: Nanoseconds until a note of lost lines is written between the others while an output stays too slow.
NOTE_AFTER: Final = 1_000_000_000

_outlets: WeakSet[Outlet] = WeakSet()


@dataclass(eq=False)
class Run:
    """One life of the thread."""

    bell: threading.Lock = field(default_factory=threading.Lock)
    """Held while there is nothing to wake the thread for. Releasing a lock is safe in a signal handler."""
    thread: threading.Thread | None = None
    idle: bool = False
    """The thread waits for the bell for as long as it takes."""
    stopping: bool = False
    """It ends when the backlog is empty."""
    until: float = math.inf
    """When it is no longer worth waiting for the output, by `time.monotonic`."""
    in_hand: int = 0
    """How many lines it is writing."""
    last_try: bool = False
    """It has begun its end, and tries once more to write a note."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Waited for in place of the thread: before Python 3.13 a `join` that Ctrl+C interrupts takes it for ended."""

    def __post_init__(self) -> None:
        self.bell.acquire()

    def ring(self) -> None:
        """Wake the thread."""
        with suppress(RuntimeError):  # it rings already
            self.bell.release()

    def go_on(self) -> bool:
        """Whether it is worth waiting for the output."""
        return monotonic() < self.until


class Outlet:
    """Writes lines to a sink in the order of their `put`, in a thread that begins with the first.

    What does not fit is dropped and counted; the count is written as soon as there is room.

    Any thread may use it, and so may a signal handler or a finaliser in the middle of itself: its one lock is reentrant
    and is never held while something waits. A forked child begins with an empty backlog, for the lines in it are its
    parent's.

    Args:
        sink: takes the lines.
        name: of the thread, and in complaints.
        note: makes a line of how many lines were lost, and since when (nanoseconds since the Unix epoch).
    """

    def __init__(self, sink: Sink, name: str, note: Callable[[int, int], bytes]) -> None:
        self._sink = sink
        self._name = name
        self._note = note
        self._exit_by = math.inf
        self.reset()
        _outlets.add(self)
        follow(self)

    def reset(self) -> None:
        """Forget everything, as after a fork."""
        self._lock = threading.RLock()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._told = 0  # of the lost ones, on standard error
        self._lost_since = 0
        self._noted = 0
        self._failing = False
        self._run: Run | None = None

    @property
    def behind(self) -> bool:
        """Whether something waits to be written."""
        run = self._run
        return bool(self._lines or (run is not None and run.in_hand))

    def put(self, line: bytes) -> None:
        """Add a line to the backlog, or drop it where there is no room. Never waits."""
        size = len(line) + OVERHEAD
        with self._lock:
            if self._size + size > MAX_BACKLOG:
                self._count_lost(1)
                return
            self._size += size
            self._lines.append(line)  # after it, for this is where Ctrl+C may come
            run = self._run
            if run is not None and run.idle:
                run.idle = False
                run.ring()
        if run is None:
            # Not with the lock held: this waits for the new thread, and a finaliser in there may put a line.
            self._begin()

    def _begin(self) -> None:
        run = Run()
        try:
            # A signal handler, or another thread, may have been faster while the run was made.
            with self._lock:
                if self._run is not None:
                    return
                self._run = run
            self._start(run)
        except BaseException:  # Ctrl+C, and nobody knows whether the thread has started: if so, it ends
            with self._lock:
                if self._run is run:
                    self._run = None
            run.ring()
            raise

    def _count_lost(self, lines: int) -> None:
        if not self._lost:
            self._lost_since = time_ns()
        self._lost += lines

    def _start(self, run: Run) -> None:
        if self._exit_by < math.inf:  # nobody would wait for a thread
            self._work_here(run, self._exit_by)
            return
        with suppress(Exception):  # closed already: `write` will say so
            self._sink.open()
        thread = threading.Thread(target=self._work, args=(run,), name=self._name, daemon=True)
        try:
            thread.start()
            run.thread = thread
        except RuntimeError:  # the system has no thread left, or the interpreter starts none any more
            self._work_here(run, monotonic())

    def _work_here(self, run: Run, until: float) -> None:
        run.stopping, run.until = True, until
        self._work(run)

    def _work(self, run: Run) -> None:
        try:
            self._write_all(run)
        finally:
            run.ended.set()

    def _write_all(self, run: Run) -> None:
        wrote = False
        while True:
            with self._lock:
                if self._run is not run:
                    return  # given up, and another has its place
                lines = self._take(run)
                run.in_hand = len(lines)
                if not lines and run.stopping:
                    self._run = None
                    self._sink.close()
                    return
                run.idle = not lines and not wrote
            if lines:
                self._write(lines, run)
            else:
                run.bell.acquire(timeout=PAUSE if wrote else -1)
            wrote = bool(lines)

    def _take(self, run: Run) -> list[bytes]:
        """Remove lines from the backlog: as many as make a chunk, or one that is longer. A note may go with them."""
        lines: list[bytes] = []
        room = self._sink.chunk
        while self._lines and (not lines or len(self._lines[0]) <= room):
            line = self._lines.popleft()
            size = len(line)
            self._size -= size + OVERHEAD
            room -= size
            lines.append(line)
        # To an output that fails, a note is no reason to try again; another line is, and so is the end.
        ending = run.stopping and not lines and not run.last_try
        run.last_try |= ending
        useful = lines or ending or not self._failing
        if self._lost and useful and (not self._lines or time_ns() - self._lost_since >= NOTE_AFTER):
            lines.append(self._note(self._lost, self._lost_since))
            self._noted, self._lost = self._lost, 0
        return lines

    def _write(self, lines: list[bytes], run: Run) -> None:
        try:
            self._sink.write(b"".join(lines), run.go_on)
            with self._lock:
                self._told = max(0, self._told - self._noted)
                self._noted = 0
                self._failing = False
        except Exception as exc:  # noqa: BLE001  (an output may be any object)
            with self._lock:
                # Of a note, which is one of these, the lines it tells of are lost again.
                self._count_lost(len(lines) + max(0, self._noted - 1))
                self._noted = 0
                first, self._failing = not self._failing, True
            if first:
                complain(f"{self._name}: {text(exc)}; its output is lost until this is over\n")

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Wait until everything is written and the thread has ended, `timeout` seconds at most.

        A later `put` begins anew. What the output has not taken by then is given up, which is said on standard error.
        """
        if self._lines and self._run is None:
            self._begin()  # Ctrl+C came before the thread
        run = self._run
        if run is None:
            return
        run.stopping = True
        run.ring()
        thread = run.thread
        if thread is None or thread is threading.current_thread():
            return  # it only begins, and ends when it has written what there is
        try:
            ended = run.ended.wait(timeout)
        except BaseException:  # Ctrl+C: whoever waits has had enough of it
            self._give_up(run)
            raise
        if ended:
            thread.join()
        else:
            self._give_up(run)

    def _give_up(self, run: Run) -> None:
        with self._lock:
            if self._run is not run:
                return  # it has come to its end after all
            run.until = 0
            self._run = None
            self._count_lost(len(self._lines))
            self._lines.clear()
            self._size = 0
            lost = self._lost + run.in_hand + max(0, self._noted - 1) - self._told
            self._told += lost
            self._failing = True  # said below, and once is enough
        complain(f"{self._name}: {lost:,} lines are lost, for they were not taken in time\n")

    def retire(self) -> None:
        """Let the thread end when it has written everything, and do not wait for it."""
        run = self._run
        if run is not None:
            run.stopping = True
            run.ring()

    def exit(self, by: float) -> None:
        """Close for ever, until `by` on the monotonic clock: a line that comes later is written by who brings it."""
        self._exit_by = by
        self.close(max(0.0, by - monotonic()))


def _exit() -> None:
    by = monotonic() + EXIT_TIMEOUT  # for all of them together
    for outlet in list(_outlets):
        outlet.exit(by)


# Registered before whatever a program registers, so it comes after: spans that end at the exit are still taken.
atexit.register(_exit)
