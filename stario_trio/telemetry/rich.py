"""Spans for people: a live view in a terminal, plain lines anywhere else."""

from __future__ import annotations

import atexit
import sys
from contextlib import suppress
from io import TextIOBase
from threading import Event as Flag
from threading import RLock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TextIO, cast
from weakref import WeakSet

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from stario_trio.telemetry.backlog import KNOWN, Backlog
from stario_trio.telemetry.core import Span
from stario_trio.telemetry.failures import text
from stario_trio.telemetry.forks import follow
from stario_trio.telemetry.lines import attribute_lines, below, clean, colour, heading, inline
from stario_trio.telemetry.outlet import EXIT_TIMEOUT, Outlet
from stario_trio.telemetry.sinks import complain, encoding_of, sink_of
from stario_trio.telemetry.tree import MAX_NODES, SHOWN, Node

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["RichTracer"]

#: Seconds between two looks at what has happened. Ten times a second looks alive and costs nothing.
REFRESH: Final = 0.1

#: Spans that may wait to be sorted into the tree, started and ended. Beyond that new ones are not shown, so that memory
#: stays bounded: one takes longer to show than to make.
MAX_WAITING: Final = 10_000

#: Seconds of `EXIT_TIMEOUT` that showing the rest leaves to the output.
OUTPUT_TIME: Final = EXIT_TIMEOUT / 4

#: Open roots in the live view, the newest ones. A server with a thousand streams open has no screen for them.
MAX_OPEN: Final = 8

#: The name of the thread, and of who complains.
NAME: Final = "stario RichTracer"

#: What writing may raise. Rich answers a closed pipe with SystemExit, and that is not for us to pass on.
BROKEN: Final = (Exception, SystemExit)


class Run:
    """One life of the thread."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog: Backlog = backlog
        self.stopping: Flag = Flag()
        # Waited for in place of the thread: before Python 3.13 a `join` that Ctrl+C interrupts takes it for ended.
        self.ended: Flag = Flag()
        self.thread: Thread | None = None


class OutletFile(TextIOBase):
    """What a console prints to while the output may keep its writer waiting."""

    def __init__(self, outlet: Outlet, original: TextIO) -> None:
        super().__init__()
        self._outlet = outlet
        self._original = original
        self._encoding = encoding_of(original)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the output."""
        return self._encoding

    def isatty(self) -> bool:
        """Whether the output is a terminal."""
        return self._original.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the output."""
        return self._original.fileno()

    def write(self, text: str, /) -> int:
        """Hand over. Never waits."""
        self._outlet.put(text.encode(self._encoding, "backslashreplace"))
        return len(text)


class RichTracer:
    """Shows each root span, with its steps and events, once it has ended.

    In a terminal finished roots are panels, and open ones are shown live below them. Elsewhere (a pipe, a
    file, a CI log) a root is one line with indented lines below it, without colours or boxes.

    A span only leaves a note of itself; a daemon thread of the tracer's own does the rendering, from the first
    span or `with` on until the block ends. A span after the block, or without one, begins anew, and what is left then
    is shown when the interpreter exits. Another thread writes, so that a terminal that is stopped (Ctrl+S) or slow
    keeps nobody waiting: the view stands still until it has caught up. Once 10,000 spans wait, or 20,000 are open, new
    ones are left out, and a line says how many. What cannot be shown within two seconds at the end is counted on
    standard error.

    A process forked from this one begins with no spans, and shows its own as plain lines.

    Args:
        console: where to print; standard output unless given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console: Console = console or Console()
        self._file = cast("TextIO", self.console.file)
        sink = sink_of(self._file)
        self._outlet = None if sink is None else Outlet(sink, "stario RichTracer output", _lost)
        self._lively = (
            self.console.is_terminal and not self.console.is_dumb_terminal and self.console.encoding.startswith("utf")
        )
        self._failing = False
        self.reset(forked=False)
        follow(self)
        _tracers.add(self)

    def reset(self, *, forked: bool = True) -> None:
        """Begin anew, as after a fork."""
        if forked:
            # Its parent draws there, and a lock of the console may be held for ever.
            self._lively = False
            for name in ("stdout", "stderr"):
                original = getattr(getattr(sys, name), "rich_proxied_file", None)  # behind which `Live` has put it
                if original is not None:
                    setattr(sys, name, original)
        self._backlog = Backlog()
        self._run: Run | None = None
        self._starting = RLock()
        self._left_out = 0
        self._counting = RLock()  # reentrant: a signal handler may start a span anywhere

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        """Start a span that has no parent."""
        if self._run is None:
            self._start()
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        """Take note of a span that has started or ended. Never waits for the terminal."""
        if span.mark is None:
            backlog = self._backlog
            # Most are there twice: once started, once ended.
            if len(backlog.arrivals) < 2 * MAX_WAITING and len(backlog.tree) < MAX_NODES:
                span.mark = KNOWN
                backlog.arrivals.append(span)
            else:
                span.mark = SHOWN
                with self._counting:
                    self._left_out += 1
        elif span.finished and span.mark is KNOWN:
            self._backlog.arrivals.append(span)

    def flush(self) -> None:
        """Print every root that has ended before this call and is not printed yet.

        Does not wait for the output: what has a descriptor gets it a moment later. Neither does it wait for another
        thread that is just printing: that prints these roots too.
        """
        self._show(self._backlog)

    def _show(self, backlog: Backlog) -> None:
        """Print the roots that have ended, or leave it to whoever is just printing."""
        backlog.asked = True
        while backlog.asked and backlog.printing.acquire(blocking=False):
            try:
                backlog.asked = False
                backlog.sort()
                backlog.ended.extend(backlog.tree.take_finished())
                self._print_ended(backlog)
            finally:
                backlog.printing.release()

    def _show_all(self, backlog: Backlog, timeout: float = -1) -> bool:
        """Print all roots, also those that are open; returns False where another thread goes on printing."""
        if not backlog.printing.acquire(timeout=timeout):
            return False
        try:
            backlog.sort()
            backlog.ended.extend(backlog.tree.take_all())
            self._print_ended(backlog)
        finally:
            backlog.printing.release()
        return True

    def _print_ended(self, backlog: Backlog) -> None:
        self._tell_left_out()
        while backlog.ended and not backlog.given_up:
            self._print(backlog.ended[0])
            backlog.ended.popleft()

    def _tell_left_out(self) -> None:
        with self._counting:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            self._write(f"… {left_out:,} spans are not shown: more came than could be shown in time\n")

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Print what is left, also what is still open, and end the thread."""
        self._stop(monotonic() + EXIT_TIMEOUT)

    def _start(self) -> None:
        with self._starting:
            if self._run is not None:
                return
            self._run = run = Run(self._backlog)
            if self._outlet is not None:
                self.console.file = cast("TextIO", OutletFile(self._outlet, self._file))
            thread = Thread(target=self._work, args=(run,), name=NAME, daemon=True)
            try:
                thread.start()
                run.thread = thread
            except RuntimeError:  # the system has no thread left, or the interpreter starts none any more
                run.ended.set()  # `_stop` shows everything
            except BaseException:  # Ctrl+C, and nobody knows whether the thread has started: if so, it ends
                self._run = None
                run.stopping.set()
                raise

    def _stop(self, by: float) -> None:
        with self._starting:
            run, self._run = self._run, None
        done = False
        try:
            done = self._finish(run, by - OUTPUT_TIME)
        finally:
            if not done:  # also with Ctrl+C: whoever waits has had enough of it
                self._give_up()
            if self._outlet is not None:
                self._outlet.close(max(0.0, by - monotonic()))
                self.console.file = self._file

    def _finish(self, run: Run | None, by: float) -> bool:
        """Show everything; returns whether there was time for it."""
        if run is not None:
            run.stopping.set()
            if not run.ended.wait(max(0.0, by - monotonic())):
                return False
            if run.thread is not None:
                run.thread.join()
        backlog = self._backlog  # here is what came when there was no thread
        return not len(backlog) or self._show_all(backlog, max(0.0, by - monotonic()))

    def _give_up(self) -> None:
        backlog, self._backlog = self._backlog, Backlog()
        backlog.given_up = True
        if left := len(backlog):
            complain(f"{NAME}: {left:,} spans are not shown, for there was no time\n")

    def _work(self, run: Run) -> None:
        # The thread prints the end of the story too, so that `_stop` can give up waiting for it.
        try:
            live = Live(console=self.console, auto_refresh=False, transient=True) if self._lively else None
            if live is not None:
                with suppress(*BROKEN):
                    live.start()
            while not run.stopping.wait(REFRESH):
                self._look(run.backlog, live)
            if live is not None:
                with suppress(*BROKEN):
                    live.stop()
            self._show_all(run.backlog)
        finally:
            run.ended.set()

    def _look(self, backlog: Backlog, live: Live | None) -> None:
        if self._outlet is not None and self._outlet.behind:
            return
        self._show(backlog)
        if live is not None:
            with suppress(*BROKEN):
                live.update(self._open_roots(), refresh=True)

    def _open_roots(self) -> Group:
        backlog = self._backlog
        with backlog.printing:
            nodes = list(backlog.tree.roots.values())
        more = len(nodes) - MAX_OPEN
        shown = [_panel(node) for node in nodes[-MAX_OPEN:]]
        return Group(Text(f"… {more:,} more open", "dim"), *shown) if more > 0 else Group(*shown)

    def _print(self, node: Node) -> None:
        try:
            if self._lively:
                self.console.print(_panel(node))
            else:
                first = heading(node.span).append_text(inline(node.span.attributes))
                self._write("".join(f"{line.plain}\n" for line in (first, *below(node, "  "))))
        except BROKEN as exc:  # a span whose live lists hold what is no event, say: it must not end the thread
            self._write(f"{heading(node.span).plain}  ({clean(type(exc).__name__)} while it was to be shown)\n")

    def _write(self, lines: str) -> None:
        encoding = self.console.encoding
        try:
            self.console.file.write(lines.encode(encoding, "backslashreplace").decode(encoding))
            self.console.file.flush()
            self._failing = False
        except BROKEN as exc:
            first, self._failing = not self._failing, True
            if first:
                complain(f"{NAME}: {text(exc)}; its output is lost until this is over\n")


_tracers: WeakSet[RichTracer] = WeakSet()


def _exit() -> None:
    by = monotonic() + EXIT_TIMEOUT  # for all of them together
    for tracer in list(_tracers):
        tracer._stop(by)  # pyright: ignore[reportPrivateUsage]


# Registered before what a program registers after the import, so it comes after that, and before the exit of outlets.
atexit.register(_exit)


def _lost(pieces: int, _since_ns: int) -> bytes:
    return b"... %d pieces of this output are lost\n" % pieces


def _panel(node: Node) -> Panel:
    lines = [*attribute_lines(node.span), *below(node)]
    return Panel(Group(*lines), title=heading(node.span), title_align="left", border_style=colour(node.span))
