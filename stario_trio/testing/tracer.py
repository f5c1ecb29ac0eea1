"""A tracer that keeps what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stario_trio.telemetry import Span

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["RecordingTracer"]


class RecordingTracer:
    """A tracer that keeps its spans, in the order of their start, for a test to look at.

    `Stario(RecordingTracer())`; the span of a request has its method as name, such as `GET`.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        """All spans, children too, open or ended."""

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        """Start a span that has no parent."""
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        """Keep the span."""
        if span.mark is None:  # the first that is heard of it
            span.mark = self
            self.spans.append(span)

    def all(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def named(self, name: str) -> Span:
        """The one span of that name.

        Raises:
            LookupError: there is none, or several; says which there are.
        """
        found = self.all(name)
        if len(found) != 1:
            raise LookupError(f"{len(found)} spans are named {name!r}, of {[span.name for span in self.spans]}")
        return found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...
