"""Spans for people: a live view in a terminal, plain lines anywhere else."""

from __future__ import annotations

import atexit
from collections import deque
from contextlib import suppress
from io import TextIOBase
from threading import Event as Flag
from threading import RLock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from stario_trio.telemetry.core import Span
from stario_trio.telemetry.lines import attribute_lines, below, colour, heading, inline
from stario_trio.telemetry.outlet import EXIT_TIMEOUT, Outlet
from stario_trio.telemetry.sinks import encoding_of, sink_of
from stario_trio.telemetry.tree import SHOWN, Node, Tree

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["RichTracer"]

#: Seconds between two looks at what has happened. Ten times a second looks alive and costs nothing.
REFRESH: Final = 0.1

#: Spans that may wait for a slow terminal. Beyond that new ones are not shown, so that memory stays bounded.
MAX_WAITING: Final = 10_000

#: Open roots in the live view, the newest ones. A server with a thousand streams open has no screen for them.
MAX_OPEN: Final = 8

#: The mark of a span that the tracer's thread has, or will have, seen.
KNOWN: Final = "known"

#: What writing may raise. Rich answers a closed pipe with SystemExit, and that is not for us to pass on.
BROKEN: Final = (Exception, SystemExit)


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
    span or `with` on until the block ends. Without a block it shows what is left when the interpreter exits. Another
    thread writes, so that a terminal that is stopped (Ctrl+S) or slow keeps nobody waiting: the view stands still
    until it has caught up, and after 10,000 spans new ones are left out.

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
        self._arrivals: deque[Span] = deque()
        self._overflow = False
        self._tree = Tree()  # used with `_printing` held
        self._printing = RLock()  # reentrant: a signal handler may flush while its thread is printing
        self._starting = RLock()
        self._thread: Thread | None = None
        self._stopping = Flag()

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        """Start a span that has no parent."""
        if self._thread is None and not self._stopping.is_set():
            self._start()
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        """Take note of a span that has started or ended. Never waits for the terminal."""
        if span.mark is None:
            if len(self._arrivals) < MAX_WAITING:
                span.mark = KNOWN
                self._arrivals.append(span)
            else:
                span.mark = SHOWN
                self._overflow = True
        elif span.finished and span.mark is KNOWN:
            self._arrivals.append(span)

    def flush(self) -> None:
        """Print every root that has ended before this call and is not printed yet.

        Does not wait for the output: what has a descriptor gets it a moment later.
        """
        with self._printing:
            self._sort_arrivals()
            for node in self._tree.take_finished():
                self._print(node)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Print what is left, also what is still open, and end the thread."""
        self._stop()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._stopping = Flag()
                if self._outlet is not None:
                    self.console.file = cast("TextIO", OutletFile(self._outlet, self._file))
                self._thread = Thread(target=self._run, args=(self._stopping,), name="stario RichTracer", daemon=True)
                self._thread.start()
                atexit.register(self._stop)

    def _stop(self) -> None:
        with self._starting:
            thread, self._thread = self._thread, None
            self._stopping.set()
            atexit.unregister(self._stop)
        if thread is None:
            return
        give_up = monotonic() + EXIT_TIMEOUT
        thread.join(EXIT_TIMEOUT)
        if self._outlet is not None:
            self._outlet.close(max(0.0, give_up - monotonic()))
            self.console.file = self._file

    def _run(self, stopping: Flag) -> None:
        # The thread prints the end of the story too, so that `_stop` can give up waiting for it.
        live = Live(console=self.console, auto_refresh=False, transient=True) if self._lively else None
        if live is not None:
            with suppress(*BROKEN):
                live.start()
        while not stopping.wait(REFRESH):
            self._look(live)
        if live is not None:
            with suppress(*BROKEN):
                live.stop()
        self._finish()

    def _look(self, live: Live | None) -> None:
        if self._outlet is not None and self._outlet.behind:
            return
        self.flush()
        if live is not None:
            with suppress(*BROKEN):
                live.update(self._open_roots(), refresh=True)

    def _finish(self) -> None:
        with self._printing:
            self._sort_arrivals()
            for node in self._tree.take_all():
                self._print(node)

    def _sort_arrivals(self) -> None:
        while self._arrivals:
            self._tree.add(self._arrivals.popleft())
        if self._overflow:
            self._overflow = False
            self._write("… some spans are not shown: the output is too slow\n")

    def _open_roots(self) -> Group:
        with self._printing:
            nodes = list(self._tree.roots.values())
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
            self._write(f"{heading(node.span).plain}  ({type(exc).__name__} while it was to be shown)\n")

    def _write(self, lines: str) -> None:
        encoding = self.console.encoding
        with suppress(*BROKEN):
            self.console.file.write(lines.encode(encoding, "backslashreplace").decode(encoding))
            self.console.file.flush()


def _lost(pieces: int, _since_ns: int) -> bytes:
    return b"... %d pieces of this output are lost\n" % pieces


def _panel(node: Node) -> Panel:
    lines = [*attribute_lines(node.span), *below(node)]
    return Panel(Group(*lines), title=heading(node.span), title_align="left", border_style=colour(node.span))
