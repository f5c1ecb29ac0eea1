"""`w.alive` of a recorder, and the peer whose leaving is an event that anybody may set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import trio

from stario_trio.testing.peer import PeerScope, RecordingPeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from types import TracebackType
    from typing import Self

    from stario_trio.http.alive import Alive

__all__ = ["CallableAlive", "WatchfulPeer"]

T = TypeVar("T")


class CallableAlive:
    """`w.alive()` and `w.alive(source)` as a `Writer` has it, and bare: `async with w.alive:`.

    Args:
        alive: the writer's method.
    """

    def __init__(self, alive: Callable[..., Alive[Any]]) -> None:
        self._alive = alive
        self._block: Alive[None] | None = None

    @overload
    def __call__(self) -> Alive[None]: ...
    @overload
    def __call__(self, source: AsyncIterable[T]) -> Alive[T]: ...
    def __call__(self, source: AsyncIterable[Any] | None = None) -> Alive[Any]:
        """See `Writer.alive`."""
        return self._alive(source)

    def __aiter__(self) -> Alive[None]:
        return self._alive()

    async def __aenter__(self) -> Alive[None]:
        """See `Alive.__aenter__`."""
        self._block = self._alive()
        return await self._block.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        assert self._block is not None, "entered"
        return await self._block.__aexit__(exc_type, exc, tb)  # noqa: ASYNC102  (see there)


class WatchfulPeer(RecordingPeer):
    """A `RecordingPeer` that leaves when its event `disconnect` is set, and hears of a stop when `shutdown` is.

    Args:
        tell: gets what is sent.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        super().__init__()
        self._tell = tell

    def send(self, data: bytes, *, last: bool = False) -> None:
        """See `Peer.send`."""
        super().send(data, last=last)
        self._tell(data)

    def alive(self) -> PeerScope:
        """See `Peer.alive`."""
        return _WatchfulScope(self)


class _WatchfulScope(PeerScope):
    """A scope with a task beside it, since an event can only be waited for.

    It is a task of the Trio run, as a block has no nursery and the event may be set anywhere. It ends with the block.
    """

    def __init__(self, peer: WatchfulPeer) -> None:
        super().__init__(peer)
        self._watch = trio.CancelScope()

    def __enter__(self) -> Self:
        super().__enter__()
        trio.lowlevel.spawn_system_task(self._watch_events, name="watch the recorder's events")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        self._watch.cancel(reason="the block has ended")
        return super().__exit__(exc_type, exc, tb)

    async def _watch_events(self) -> None:
        """Let the peer leave when an event is set.

        Ends when: never by itself.
        Cancelled by: the end of the block.
        """
        with self._watch:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._when, self._peer.disconnect, self._peer.leave)
                nursery.start_soon(self._when, self._peer.shutdown, self._peer.shut_down)

    @staticmethod
    async def _when(event: trio.Event, happens: Callable[[], None]) -> None:
        await event.wait()
        happens()
