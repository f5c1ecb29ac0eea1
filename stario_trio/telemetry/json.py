"""Spans as lines of JSON, for whatever collects a program's output."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import partial
from json import JSONEncoder
from math import isfinite
from threading import RLock
from time import time_ns
from traceback import format_tb
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar, cast

from stario_trio.telemetry.core import STACKTRACE, Event, Link, Span
from stario_trio.telemetry.failures import error_text, text, unfold
from stario_trio.telemetry.forks import follow
from stario_trio.telemetry.ids import uuid7
from stario_trio.telemetry.outlet import Outlet
from stario_trio.telemetry.sinks import complain, encoding_of, sink_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["JsonTracer"]

_T = TypeVar("_T")

#: Deeper containers are written as text. Far more than a log reader shows, far less than a JSON reader takes.
MAX_DEPTH: Final = 64

#: Longer integers are written as text: Python itself refuses to print or read very long ones in decimal, and
#: the lowest limit it can be given is 640 digits (`sys.set_int_max_str_digits`), a little over 2,048 bits.
MAX_INT_BITS: Final = 2048

#: The mark of a span that has its line.
WRITTEN: Final = "written"

#: The name of the thread, and of who complains.
THREAD: Final = "stario-json-tracer"

# What JSON lets stand in a string, though `str.splitlines` ends a line there, or a terminal obeys it. It may be escaped
# (RFC 8259 section 7).
_CONTROLS = re.compile("[\x80-\x9f\u2028\u2029]")

_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def plain(value: object, path: tuple[int, ...] = ()) -> Any:
    """Return `value` as something that JSON can say; what it cannot say becomes text.

    Args:
        value: anything.
        path: the ids of the containers around it, to notice one that contains itself.
    """
    try:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= MAX_INT_BITS else hex(value)
        if isinstance(value, float):
            return value if isfinite(value) else str(value)
        if len(path) < MAX_DEPTH and id(value) not in path:
            inside = (*path, id(value))
            if isinstance(value, dict):
                # A copy, because a handler may change its dict in this very moment.
                items = cast("dict[object, object]", value).copy().items()
                return {text(key): plain(item, inside) for key, item in items}
            if isinstance(value, (list, tuple)):
                return [plain(item, inside) for item in cast("list[object]", value)]
    except Exception:  # noqa: BLE001, S110  (a subclass may do anything; its text is the next best)
        pass
    return text(value)  # pyright: ignore[reportUnknownArgumentType]  (`dict[Unknown, Unknown]` to pyright)


def frames(exc: object) -> list[str]:
    """Return the frames of a traceback, one string each; members of a group follow, each with a headline."""
    if not isinstance(exc, BaseException):
        return [text(exc)]
    found: list[str] = []
    for each in unfold(exc):
        if each is not exc:
            found.append(f"{type(each).__name__}: {error_text(each)}")
        found.extend(frame.rstrip() for frame in format_tb(each.__traceback__))
    return found


def event_record(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object."""
    attributes = plain({key: value for key, value in event.attributes.copy().items() if key != STACKTRACE})
    if STACKTRACE in event.attributes:
        attributes[STACKTRACE] = frames(event.attributes[STACKTRACE])
    return {"time_ns": plain(event.time_ns), "name": plain(event.name), "attributes": attributes}


def link_record(link: Link) -> dict[str, Any]:
    """Return a link as a JSON object."""
    return {"span_id": text(link.span_id), "attributes": plain(link.attributes)}


def records(make: Callable[[_T], dict[str, Any]], things: list[_T]) -> list[dict[str, Any]]:
    """Return the records of a live list. That it holds what does not belong there is no reason to lose the span."""
    made: list[dict[str, Any]] = []
    for thing in things.copy():
        try:
            made.append(make(thing))
        except Exception:  # noqa: BLE001
            made.append({"name": text(thing), "attributes": {}})
    return made


def span_record(span: Span) -> dict[str, Any]:
    """Return a finished span as a JSON object, with what is empty left out."""
    record: dict[str, Any] = {
        "span_id": str(span.id),
        "name": plain(span.name),
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "duration_ns": span.duration_ns,
        "status": "error" if span.failed else "ok",
    }
    if span.parent_id is not None:
        record["parent_id"] = text(span.parent_id)
    if span.error is not None:
        record["error"] = plain(span.error)
    if span.attributes:
        record["attributes"] = plain(span.attributes)
    if span.events:
        record["events"] = records(event_record, span.events)
    if span.links:
        record["links"] = records(link_record, span.links)
    return record


def line_of(record: dict[str, Any], encoding: str) -> bytes:
    """Return a record as a line."""
    try:
        line = _encode(record)
        if not line.isascii():
            line = _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
        return (line + "\n").encode(encoding)
    except UnicodeEncodeError:  # a lone surrogate, or an output that is not UTF-8
        return (_encode_ascii(record) + "\n").encode(encoding)


def note(encoding: str, lost: int, since_ns: int) -> bytes:
    """Return the line that tells how many others are lost, and since when."""
    now = time_ns()
    record = {
        "span_id": str(uuid7()),
        "name": "telemetry.dropped",
        "start_ns": since_ns,
        "end_ns": now,
        "duration_ns": now - since_ns,
        "status": "error",
        "error": f"{lost:,} spans are not here: nobody took them in time",
        "attributes": {"telemetry.dropped": lost},
    }
    return line_of(record, encoding)


class JsonTracer:
    """Writes one line of JSON per finished span; its steps are lines of their own, usually before it.

    A span has its line once and for all: later changes are ignored, and a span that never ends is never
    written. An output that is closed or broken loses lines, never a request.

    A line is made where the span ends, and written by a thread (`stario-json-tracer`) within some milliseconds, so
    that a reader who is slow, or has stopped, keeps no handler waiting. When 8 MiB wait, further lines are dropped; a
    span named `telemetry.dropped` tells how many as soon as there is room. The end of a `with` block, or of the
    interpreter, waits until everything is written, two seconds at most. An output in memory, such as `io.StringIO`, is
    written at once and without a thread.

    Args:
        output: where the lines go; `sys.stdout` as it is now.
        flush_each: whether each line to an output in memory is flushed at once. All others always are.
    """

    wants_changes = False

    def __init__(self, output: TextIO | None = None, *, flush_each: bool = True) -> None:
        self._output = sys.stdout if output is None else output
        self._flush_each = flush_each
        self._encoding = encoding_of(self._output)
        sink = sink_of(self._output)
        self._outlet = None if sink is None else Outlet(sink, THREAD, partial(note, self._encoding))
        # Nobody has to hear that there is no standard output, as with `pythonw`.
        self._failing = self._output is None  # pyright: ignore[reportUnnecessaryComparison]  (see `sys.stdout`)
        self.reset()
        follow(self)

    def __del__(self) -> None:
        """End the thread of a tracer that nobody has any more, nor any span of it."""
        outlet: Outlet | None = getattr(self, "_outlet", None)  # without one, if `__init__` has raised
        if outlet is not None:
            outlet.retire()

    def reset(self) -> None:
        """Begin anew, as after a fork."""
        # Reentrant: a signal handler or a finaliser may end a span while a line is being written.
        self._lock = RLock()

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        """Start a span that has no parent."""
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        """Write the line of a span that has ended, unless it has one."""
        if span.in_progress:
            return
        with self._lock:
            if span.mark is WRITTEN:
                return
            span.mark = WRITTEN
        line = self._line(span_record(span))
        if self._outlet is not None:
            self._outlet.put(line)
            return
        with self._lock:
            try:
                self._output.write(line.decode(self._encoding))
                if self._flush_each:
                    self._output.flush()
                self._failing = False
            except Exception as exc:  # noqa: BLE001  (an output may be any object)
                first, self._failing = not self._failing, True
                if first:
                    complain(f"{THREAD}: {text(exc)}; its output is lost until this is over\n")

    def _line(self, record: dict[str, Any]) -> bytes:
        return line_of(record, self._encoding)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Wait until the output has everything, two seconds at most, and end the thread. The output stays open."""
        if self._outlet is not None:
            self._outlet.close()
            return
        with self._lock, suppress(Exception):
            self._output.flush()
