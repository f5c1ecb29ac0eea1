"""`w.alive()`: work for as long as the peer is there and the server does not stop.

Three forms, one rule: when the peer leaves or the server starts to drain, the waiting ends without an exception, and
the code after the block runs (SD-08, AL-01 to AL-05).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from stario_trio.http.peer import AliveScope, Peer

__all__ = ["Alive"]

T = TypeVar("T")


class Alive(Generic[T]):
    """What `w.alive(source)` returns: an async iterator and an async context manager.

    * `async with w.alive():` cancels its body.
    * `async for item in w.alive(source):` covers the waiting for each item; a running body ends its round (AL-02).
    * `async for _ in w.alive():` ends between rounds (AL-03). A body that waits long delays the end: Python gives an
      iterator no way into the body of its loop, so use `async with` around a body that must be interrupted.

    Each round first waits until the connection's unsent bytes are below the high-water mark, so a slow reader slows
    its own handler. The source is closed when the loop ends. One that is left with `break` or an exception, which
    nobody tells an iterator, is closed when the handler ends; one that closes itself (a relay subscription), at once.
    """

    __slots__ = ("_ended", "_endless", "_items", "_peer", "_scope")

    def __init__(
        self, peer: Peer, source: AsyncIterable[T] | None, at_end: Callable[[Callable[[], Awaitable[None]]], object]
    ) -> None:
        self._peer = peer
        self._items: AsyncIterator[T] | None = None if source is None else _items_of(source)
        self._scope: AliveScope | None = None
        self._endless = source is None
        self._ended = False
        # One that closes itself does so when the last reference to it is gone, so nobody must hold another. (An async
        # generator has `__del__` too, but it can only be closed by awaiting.)
        if source is not None and not (hasattr(self._items, "close") and hasattr(self._items, "__del__")):
            at_end(self.close_source)

    async def __aenter__(self) -> Alive[T]:
        """Open the block.

        Ends when: the body is done.
        Cancelled by: DRAINING, or the peer leaving. Outer cancels pass through.
        """
        if self._scope is not None:
            raise StarioError(
                "This alive() block is entered already",
                help_text="Call w.alive() again for another block: each one is entered once.",
            )
        self._scope = self._peer.alive()
        self._scope.__enter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        assert self._scope is not None, "entered"
        try:
            return self._scope.__exit__(exc_type, exc, tb)
        finally:
            await self.close_source()  # noqa: ASYNC102  (a source knows itself what its close may wait for)

    def __aiter__(self) -> Alive[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for room, then for the next item.

        Ends when: an item is there.
        Cancelled by: DRAINING, or the peer leaving: then the loop ends. Outer cancels pass through.
        """
        peer = self._peer
        try:
            if not self._ended:
                with peer.alive():  # AL-05: entered too late, it ends at its first wait
                    await peer.drain()  # AL-04
                    if self._endless:
                        return cast("T", None)
                    if self._items is not None:  # or another task has come to the end while this one waited
                        return await self._items.__anext__()
        except BaseException:  # also the source's own StopAsyncIteration
            await self.close_source()  # noqa: ASYNC102  (the same)
            raise
        await self.close_source()
        raise StopAsyncIteration

    async def close_source(self) -> None:
        """End the loop, and close its source if nobody has."""
        self._ended = True
        items, self._items = self._items, None
        close = getattr(items, "aclose", None) or getattr(items, "close", None)
        if close is not None:
            closing = close()
            if inspect.isawaitable(closing):
                await closing


def _items_of(source: AsyncIterable[T]) -> AsyncIterator[T]:
    try:
        return source.__aiter__()
    except AttributeError:
        if hasattr(source, "__aiter__"):
            raise
    called = callable(source)
    raise StarioError(
        "w.alive() needs an async iterable",
        context={"source": source},
        help_text="It is a function: call it." if called else "For an ordinary iterable, write `for` in the block.",
        example=(
            "async for item in w.alive(items()):\n    ..."
            if called
            else "async with w.alive():\n    for item in items:\n        ..."
        ),
    )
