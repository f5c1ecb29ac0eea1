"""A response that ends with its block: loops over it that were left with `break` are closed with it.

Python does not tell an async generator that its loop was left, and Trio warns of those that the garbage collector finds
open. What httpx2 and httpx give to a loop is a stack of them, down to the parser of httpcore.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from typing import Self

    from httpx2 import AsyncClient, EventSource, Response

    from stario_trio.testing.network import Asked
else:
    # The bases are those of the library that was chosen; see `Transport` and `make_client`.
    AsyncClient = EventSource = Response = object

__all__ = ["ClosingEvents", "ClosingResponse", "Loop", "RawLoop", "SseClient"]

T = TypeVar("T")


class Loop(Generic[T]):
    """An async generator of somebody else, which is known until it has ended.

    Args:
        pieces: the generator.
        forget: called with this when it has ended.
    """

    def __init__(self, pieces: Any, forget: Callable[[Loop[Any]], object] = lambda _loop: None) -> None:
        self._pieces = pieces
        self._forget = forget
        self.open: bool = False
        """Whether it has begun and not ended."""
        self.running: bool = False
        """Whether it is asked for an item right now."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self.open = self.running = True
        try:
            item: T = await self._pieces.__anext__()
        except BaseException:
            self.open = False
            self._forget(self)
            raise
        finally:
            self.running = False
        return item

    async def aclose(self) -> None:
        """Close the generator, but for one that runs: it is about to end, or its task hears of the close."""
        if self.running:
            return
        self.open = False
        self._forget(self)
        await self._pieces.aclose()


class RawLoop(Loop[bytes]):
    """The innermost loop of a response. It ends from inside, so that it takes the generators below with it.

    A generator that is closed from outside leaves those it loops over behind. An error of the network goes through all
    of them, so closing means to leave the connection, and to go on until that is noticed.

    Args:
        pieces: the generator.
        forget: called with this when it has ended.
        asked: the request.
        failures: what reading from a connection that one has left raises.
    """

    def __init__(
        self, pieces: Any, forget: Callable[[Loop[Any]], object], asked: Asked, failures: type[Exception]
    ) -> None:
        super().__init__(pieces, forget)
        self._asked = asked
        self._failures = failures

    async def aclose(self) -> None:
        """Leave the connection, and end."""
        if self.open and not self.running:
            self._asked.give_up()
            with suppress(self._failures):
                async for _ in self:  # what the parser holds already
                    pass
        await super().aclose()


class ClosingResponse(Response):
    """A `Response` of httpx2 or httpx."""

    asked: Asked
    """The request it answers."""
    failures: type[Exception]
    """The `TransportError` of the library."""
    loops: dict[Loop[Any], None]
    """Those over it that are open, outermost first."""
    unclosed: dict[ClosingResponse, None]
    """Where it stands while it has such."""

    def watch(self, pieces: AsyncIterator[T]) -> Loop[T]:
        """Close this generator too, when the response is closed."""
        return self._add(Loop(pieces, self._forget))

    def _add(self, loop: Loop[T]) -> Loop[T]:
        self.loops[loop] = None
        self.unclosed[self] = None
        return loop

    def _forget(self, loop: Loop[Any]) -> None:
        self.loops.pop(loop, None)
        if not self.loops:
            self.unclosed.pop(self, None)

    def aiter_raw(self, chunk_size: int | None = None) -> Any:
        """See `httpx2.Response.aiter_raw`."""
        return self._add(RawLoop(super().aiter_raw(chunk_size), self._forget, self.asked, self.failures))

    def aiter_bytes(self, chunk_size: int | None = None) -> Any:
        """See `httpx2.Response.aiter_bytes`."""
        return self.watch(super().aiter_bytes(chunk_size))

    def aiter_text(self, chunk_size: int | None = None) -> Any:
        """See `httpx2.Response.aiter_text`."""
        return self.watch(super().aiter_text(chunk_size))

    def aiter_lines(self) -> Any:
        """See `httpx2.Response.aiter_lines`."""
        return self.watch(super().aiter_lines())

    async def aclose(self) -> None:
        """See `httpx2.Response.aclose`."""
        try:
            for loop in list(self.loops):
                await loop.aclose()
        finally:
            await super().aclose()  # noqa: ASYNC102  (httpcore shields it)


class ClosingEvents(EventSource):
    """The `EventSource` of httpx2, over a `ClosingResponse`."""

    def __aiter__(self) -> Any:
        assert isinstance(self.response, ClosingResponse), "of our transport"
        return self.response.watch(super().__aiter__())


class SseClient(AsyncClient):
    """The `sse` of an `httpx2.AsyncClient`; httpx has none."""

    events: type[ClosingEvents]
    """What it gives, with the `EventSource` of the library under it."""

    @asynccontextmanager
    async def sse(self, *args: Any, **options: Any) -> AsyncGenerator[EventSource]:
        """See `httpx2.AsyncClient.sse`."""
        async with super().sse(*args, **options) as events:
            events.__class__ = self.events
            yield events
