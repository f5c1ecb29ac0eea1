"""Spans, and the tracer they report to.

A span is one piece of work: a name, a start, an end, attributes, events and perhaps an error. It tells its
tracer about every change, and the tracer does with it what it likes.

There is no lock in here: a handler would wait for it, and a forked child would inherit it held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from stario_trio.telemetry.failures import error_text, only_cancelled, text, unfold
from stario_trio.telemetry.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self
    from uuid import UUID

__all__ = ["STACKTRACE", "Event", "Link", "Span", "Tracer"]

Attributes: TypeAlias = "Mapping[str, Any] | None"

#: The attribute of an `exception` event that holds the exception itself; the tracer renders its traceback.
STACKTRACE: Final = "exc.stacktrace"


@dataclass(slots=True)
class Event:
    """Something that happened during a span. `time_ns` is nanoseconds since the Unix epoch."""

    time_ns: int
    name: str
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to a span that is neither parent nor child."""

    span_id: UUID
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


class Tracer(Protocol):
    """Makes spans and is told about them.

    A tracer with a class attribute `wants_changes = False` is told once, when a span ends; any other is told
    when a span starts and after each of its changes. `notify` runs in the thread that changed the span, so it
    should be quick; an exception it raises is dropped.
    """

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        """Start a span that has no parent."""
        ...

    def notify(self, span: Span) -> None:
        """Take note of a span that has started, changed or ended."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class Span:
    """One piece of work.

    `span[key] = value` describes it, `span("saved", {...})` records an event, `with span.step("query"):`
    times a part of it. Nothing a span does raises because of its tracer.

    The start is read from the wall clock; all later times add a monotonic clock to it, so a wall clock that
    is set back makes no negative duration.

    Args:
        tracer: is told about the span.
        name: what kind of work this is.
        attributes: copied.
        parent_id: the id of the span this one is a part of.
    """

    __slots__ = (
        "_attributes",
        "_clock",
        "_elapsed",
        "_error",
        "_events",
        "_ids",
        "_links",
        "_live",
        "_name",
        "_tracer",
        "mark",
        "parent_id",
        "start_ns",
    )

    parent_id: UUID | None
    start_ns: int
    """Nanoseconds since the Unix epoch."""
    mark: object
    """Belongs to the tracer: what it remembers about a span lives and dies with the span. At first None."""

    def __init__(self, tracer: Tracer, name: str, attributes: Attributes = None, parent_id: UUID | None = None) -> None:
        self._tracer = tracer
        self._name = name
        self._attributes: dict[str, Any] = dict(attributes) if attributes else {}
        self.parent_id = parent_id
        self._ids: dict[str, UUID] = {}
        self._events: list[Event] = []
        self._links: list[Link] = []
        self._error: str | None = None
        self._elapsed: int | None = None
        self.mark = None
        self.start_ns = time_ns()
        self._clock = perf_counter_ns()
        self._live: bool = getattr(tracer, "wants_changes", True)
        if self._live:
            self._tell()

    def _tell(self) -> None:
        try:
            self._tracer.notify(self)
        except Exception:  # noqa: BLE001, S110  # SD-22: a tracer that raises harms nobody
            pass

    @property
    def id(self) -> UUID:
        """The span's UUIDv7."""
        try:
            return self._ids["own"]
        except KeyError:
            # An id costs as much as the rest of a span, and some tracers never look at it. Two threads may ask for it
            # at once (`to_thread` in a handler): the first to set it wins, and both get that one.
            return self._ids.setdefault("own", uuid7())

    @property
    def name(self) -> str:
        """What kind of work this is, e.g. the method of a request."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self._live:
            self._tell()

    @property
    def attributes(self) -> dict[str, Any]:
        """The live mapping behind `span[key]`. A change made in it directly is not told to the tracer."""
        return self._attributes

    def __setitem__(self, key: str, value: Any) -> None:
        self._attributes[key] = value
        if self._live:
            self._tell()

    def __getitem__(self, key: str) -> Any:
        return self._attributes.get(key)  # None where absent: telemetry raises no KeyError

    def __delitem__(self, key: str) -> None:
        del self._attributes[key]
        if self._live:
            self._tell()

    def __contains__(self, key: object) -> bool:
        return key in self._attributes

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute, or `default` where it is absent."""
        return self._attributes.get(key, default)

    def __call__(self, name_or_exc: str | BaseException, attributes: Attributes = None) -> Event:
        """Record an event, or an exception as an event named `exception`. The status stays as it is.

        Returns:
            The event. That of an exception has `exc.type`, `exc.message` and `exc.stacktrace` beside
            `attributes`.
        """
        recorded = Event(self._now_ns(), "exception", dict(attributes or {}))
        if isinstance(name_or_exc, BaseException):
            exc = name_or_exc
            recorded.attributes.update({"exc.type": type(exc).__name__, "exc.message": text(exc), STACKTRACE: exc})
        else:
            recorded.name = name_or_exc
        self.events.append(recorded)
        if self._live:
            self._tell()
        return recorded

    @property
    def events(self) -> list[Event]:
        """The live list of events, oldest first."""
        return self._events

    def link(self, span_or_id: Span | UUID, attributes: Attributes = None) -> Link:
        """Refer to another span, given itself or by its id."""
        link = Link(span_or_id.id if isinstance(span_or_id, Span) else span_or_id, dict(attributes or {}))
        self.links.append(link)
        if self._live:
            self._tell()
        return link

    @property
    def links(self) -> list[Link]:
        """The live list of links."""
        return self._links

    def step(self, name: str, attributes: Attributes = None) -> Span:
        """Start a span that is a part of this one: `with span.step("query"): ...`."""
        return Span(self._tracer, name, attributes, self.id)

    def root(self, name: str, attributes: Attributes = None) -> Span:
        """Start a span without a parent, for work that outlives this one."""
        return Span(self._tracer, name, attributes)

    @property
    def error(self) -> str | None:
        """Why the work failed, or None."""
        return self._error

    @error.setter
    def error(self, error: str | None) -> None:
        self._error = error
        if self._live:
            self._tell()

    @property
    def failed(self) -> bool:
        """Whether there is an error, even one with an empty text."""
        return self._error is not None

    @property
    def ok(self) -> bool:
        """Whether there is no error (so far)."""
        return self._error is None

    def fail(self, exc: BaseException) -> None:
        """Record `exc` as an event, and as the error unless there is one already or it is a cancellation.

        A peer that leaves and a server that stops cancel handlers every day: no error, but an event with the reason.
        """
        if only_cancelled(exc):
            *_, cancelled = unfold(exc)  # the last one is a `Cancelled`, never the group around it
            self("cancelled", {"reason": text(cancelled)})
            return
        self(exc)
        if self._error is None:
            self.error = error_text(exc)

    def _now_ns(self) -> int:
        return self.start_ns + perf_counter_ns() - self._clock

    @property
    def duration_ns(self) -> int | None:
        """How long the work took in nanoseconds, or None while it goes on."""
        return self._elapsed

    @property
    def end_ns(self) -> int | None:
        """`start_ns` + `duration_ns`, or None while the work goes on."""
        return None if self._elapsed is None else self.start_ns + self._elapsed

    @property
    def finished(self) -> bool:
        """Whether the span has ended."""
        return self._elapsed is not None

    @property
    def in_progress(self) -> bool:
        """Whether the span has not ended."""
        return self._elapsed is None

    def end(self) -> None:
        """End the work. Later calls change nothing."""
        if self._elapsed is None:
            self._elapsed = perf_counter_ns() - self._clock
            self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """End the work with the block, also where `end` was called before; an exception passes through."""
        ended_before = self._elapsed is not None
        try:
            if exc is not None:
                self.fail(exc)
        finally:
            self._elapsed = perf_counter_ns() - self._clock
            if self._live or not ended_before:
                self._tell()
