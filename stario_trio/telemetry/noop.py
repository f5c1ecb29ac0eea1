"""The tracer that forgets, and the span to use where there is no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stario_trio.telemetry.core import Event, Link, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from stario_trio.telemetry.core import Attributes

__all__ = ["NOOP_SPAN", "NoopTracer", "start_span"]


class NoopTracer:
    """Does nothing and costs nothing: all its spans are one span that never changes."""

    wants_changes = False

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:  # noqa: ARG002
        """Return the span that ignores everything."""
        return NOOP_SPAN

    def notify(self, span: Span) -> None:
        """Ignore the span."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class NoopSpan(Span):
    """A span on which everything works and nothing is kept.

    It is its own child, it never ends, and its id is the same for the life of the process. Its lists and
    dicts are made afresh at each use: kept, they would be shared by everybody and grow for ever.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """Always `noop`."""
        return "noop"

    @name.setter
    def name(self, name: str) -> None: ...

    @property
    def error(self) -> None:
        """Always None."""
        return

    @error.setter
    def error(self, error: str | None) -> None: ...

    @property
    def attributes(self) -> dict[str, Any]:
        """A dict of the caller's own."""
        return {}

    @property
    def events(self) -> list[Event]:
        """A list of the caller's own."""
        return []

    @property
    def links(self) -> list[Link]:
        """A list of the caller's own."""
        return []

    def __setitem__(self, key: str, value: Any) -> None: ...

    def __delitem__(self, key: str) -> None: ...

    def step(self, name: str, attributes: Attributes = None) -> Self:  # noqa: ARG002
        """Return this span."""
        return self

    def root(self, name: str, attributes: Attributes = None) -> Self:  # noqa: ARG002
        """Return this span."""
        return self

    def end(self) -> None:
        """Go on: others use this span too."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


NOOP_SPAN: Final[Span] = NoopSpan(NoopTracer(), "noop")


def start_span(tracer: Callable[[str], Span], name: str, attributes: Mapping[str, Any] | None = None) -> Span:
    """Start a span of a tracer that nobody vouches for.

    Returns:
        The span, or one that ignores everything where the tracer raises or returns something else (SD-22).
    """
    try:
        span = tracer(name)
        if isinstance(span, Span):  # pyright: ignore[reportUnnecessaryIsInstance]  (a promise, not a fact)
            for key, value in (attributes or {}).items():
                span[key] = value
            return span
    except Exception:  # noqa: BLE001, S110  # SD-22
        pass
    return NOOP_SPAN
