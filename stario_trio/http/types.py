"""`Context`, the `c` of every handler, and the shapes of handlers, middlewares and error handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar, overload

from stario_trio.datastar.parse import parse_signals, signals_object
from stario_trio.datastar.signals import read_signals

# Imported for real, so that `typing.get_type_hints` finds them; only `Stario` would be a cycle.
from stario_trio.http.request import Request  # noqa: TC001
from stario_trio.http.writer import Writer
from stario_trio.telemetry.core import Event, Span  # noqa: TC001
from stario_trio.telemetry.noop import NOOP_SPAN

if TYPE_CHECKING:
    from stario_trio.http.app import Stario

__all__ = ["Context", "ErrorHandler", "Handler", "Middleware"]

T = TypeVar("T")


# `init=False`: a dataclass's own with a default factory costs three times as much, for every request.
@dataclass(slots=True, init=False, eq=False)
class Context:
    """One request: what came in, where it belongs, and how it is traced.

    Attributes:
        app: the application that serves the request.
        req: the request.
        span: the root span of the request.
        state: free space for middlewares and handlers, a fresh dict for each request.

    `c("cache miss", {"key": k})` records an event and `c["user.id"] = 7` an attribute, on the current step.
    """

    app: Stario
    req: Request
    span: Span
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    # What `c[key] = value` has set while the span keeps nothing: a handler may count on reading it back, and a tracer
    # must not change what a program does.
    _unspanned: dict[str, Any] | None = field(init=False, repr=False)

    def __init__(self, app: Stario, req: Request, span: Span, state: dict[str, Any] | None = None) -> None:
        self.app = app
        self.req = req
        self.span = span
        self.state = {} if state is None else state
        self._unspanned = None

    @property
    def current(self) -> Span:
        """The innermost open step of this task, or the span of the request outside of any step."""
        step = _innermost.get()
        while step is not None:
            if step.root is self.span and step.open:
                return step.span
            step = step.outer
        return self.span

    def __call__(self, name_or_exc: str | BaseException, attributes: Mapping[str, Any] | None = None) -> Event:
        """Record an event or an exception on the current step, and leave its status as it is."""
        return self.current(name_or_exc, attributes)

    @contextmanager
    def step(self, name: str, attributes: Mapping[str, Any] | None = None) -> Generator[Span]:
        """Time a part of the work: `with c.step("load user") as span: ...`.

        The step is a child of the current one and is current inside the block. It belongs to the task that
        entered it and to tasks started in the block (nurseries, threads): their own steps nest below it and
        are unseen by others. An exception that leaves the block is recorded on the step.
        """
        with self.current.step(name, attributes) as span:
            step = _Step(self.span, span, _innermost.get())
            _innermost.set(step)
            try:
                yield span
            finally:
                step.open = False
                _innermost.set(_nearest_open(_innermost.get()))

    @overload
    async def signals(self) -> dict[str, Any]: ...
    @overload
    async def signals(self, schema: type[T]) -> T: ...
    async def signals(self, schema: type[T] | None = None) -> T | dict[str, Any]:
        """The Datastar signals that the page sent with the request; again and again, as a body is kept.

        GET, HEAD and DELETE carry them in the query, as the parameter `datastar`; other methods, and a DELETE
        without it, in the body. A request that carries none has an empty dict of them.

        Args:
            schema: a dataclass, TypedDict, pydantic model or msgspec struct to make of them, see `parse_signals`.

        Returns:
            The signals by name, or an instance of the schema.

        Raises:
            HttpException: 400, no JSON object, or not what the schema needs; 408 and 413 as `c.req.body()`.
            ClientDisconnected: the peer left before the end of the body.
            StarioError: `schema` cannot be used as one.
        """
        value = await read_signals(self.req)
        return signals_object(value) if schema is None else parse_signals(value, schema)

    def _attributes(self) -> Span | dict[str, Any]:
        span = self.current
        if span is not NOOP_SPAN:
            return span
        if self._unspanned is None:
            self._unspanned = {}
        return self._unspanned

    def __setitem__(self, key: str, value: Any) -> None:
        self._attributes()[key] = value

    def __getitem__(self, key: str) -> Any:
        """The attribute of the current step, None if it has none of that name."""
        return self._attributes().get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._attributes()

    # Without this, iteration would fall back to c[0], c[1], ... which never ends.
    __iter__: ClassVar[None] = None


class _Step:
    """A link of the chain of steps that a task is in.

    Tasks share links, so a step that ended is closed rather than cut out: a task that outlives the step it
    was started in then falls back to the next step around it, and steps may end in any order.
    """

    __slots__ = ("open", "outer", "root", "span")

    def __init__(self, root: Span, span: Span, outer: _Step | None) -> None:
        self.root = root  # of its request; not the context, of which `dataclasses.replace` makes more
        self.span = span
        self.outer = outer
        self.open = True


# One variable for all requests: context variables live for ever, so they must not be made per request.
_innermost: ContextVar[_Step | None] = ContextVar("stario_trio.step", default=None)


def _nearest_open(step: _Step | None) -> _Step | None:
    while step is not None and not step.open:
        step = step.outer
    return step


E = TypeVar("E", bound=Exception)

#: `async def handler(c, w)`: answers one request through the writer `w`.
Handler: TypeAlias = Callable[[Context, Writer], Awaitable[None]]
#: Takes a handler and returns the one to use in its place. A plain function, called once, at registration.
Middleware: TypeAlias = Callable[[Handler], Handler]
#: `def on_error(c, w, exc)`, async or not: answers a request whose handler raised.
ErrorHandler: TypeAlias = Callable[[Context, Writer, E], Awaitable[None] | None]
