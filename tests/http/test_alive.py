"""`w.alive()` in its three forms: what ends it, what passes through, and that the source is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import pytest
import trio

from stario_trio.exceptions import StarioError
from stario_trio.relay import Relay
from tests.support.peer import FakePeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from trio.testing import MockClock

    from stario_trio.http.alive import Alive


class Items:
    """A source: gives 0, 1, 2, ... one each second, or fewer, and counts how often it is closed."""

    def __init__(self, *, last: int | None = None, fail: Exception | None = None) -> None:
        self.last = last
        self.fail = fail
        self.given = 0
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[int]:
        raise NotImplementedError

    async def next_item(self) -> int:
        await trio.sleep(1)
        if self.given == self.last:
            if self.fail is not None:
                raise self.fail
            raise StopAsyncIteration
        self.given += 1
        return self.given - 1


class Iterating(Items):
    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        return await self.next_item()


class WithAclose(Iterating):
    async def aclose(self) -> None:
        self.closed += 1
        await trio.lowlevel.checkpoint()


class WithBoth(WithAclose):
    """As a Trio channel: both ways to close, and nothing happens by itself."""

    def close(self) -> None:
        self.closed += 1


class WithClose(Iterating):
    def close(self) -> None:
        self.closed += 1


class Generating(Items):
    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            while True:
                try:
                    item = await self.next_item()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.closed += 1


SourceType: TypeAlias = "type[Items]"
SOURCES: Sequence[SourceType] = (WithAclose, WithBoth, WithClose, Generating)
any_source = pytest.mark.parametrize("make", SOURCES)


def leave(peer: FakePeer) -> None:
    peer.leave()


def shut_down(peer: FakePeer) -> None:
    peer.shut_down()


ENDINGS: Sequence[Callable[[FakePeer], None]] = (leave, shut_down)
either_ending = pytest.mark.parametrize("ending", ENDINGS)


async def later(seconds: float, what: Callable[[FakePeer], None], peer: FakePeer) -> None:
    await trio.sleep(seconds)
    what(peer)


class Handler:
    """Runs a body as a handler: what it opened is closed behind it."""

    def __init__(self) -> None:
        self.peer = FakePeer()
        self.w = self.peer.writer()
        self.rounds: list[object] = []
        self.start = trio.current_time()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.w.sources is not None:
            await self.w.sources.aclose()  # as `Stario.handle_request` does
        assert not self.peer.open_scopes

    @property
    def now(self) -> float:
        return round(trio.current_time() - self.start, 6)


# async with


@pytest.mark.spec("AL-01", "SD-08")
@either_ending
async def test_a_block_is_cancelled_and_the_code_after_it_runs(
    ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:
        nursery.start_soon(later, 2.5, ending, it.peer)
        async with it.w.alive() as alive:
            assert hasattr(alive, "__anext__")
            await trio.sleep_forever()
        assert it.now == 2.5
        await trio.sleep(1)  # nothing is cancelled any more
        it.w.text("bye")
        assert it.peer.sent.endswith(b"bye")


@pytest.mark.upstream_bug(43)
@pytest.mark.spec("AL-01")
async def test_a_block_that_is_done_ends_by_itself(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        async with it.w.alive():
            await trio.sleep(1)
        assert it.now == 1
        it.peer.leave()
        await trio.lowlevel.checkpoint()  # bug 43: nothing is left over of it


@pytest.mark.spec("AL-01")
async def test_a_block_lets_exceptions_through(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        with pytest.raises(LookupError):
            async with it.w.alive():
                raise LookupError


@pytest.mark.upstream_bug(42)
@pytest.mark.spec("AL-01")
async def test_bug_42_an_outer_cancel_passes_through_a_block(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        after = False
        with trio.CancelScope() as outer:
            async with it.w.alive():
                outer.cancel()
                await trio.sleep_forever()
            after = True
        assert outer.cancelled_caught
        assert not after


@pytest.mark.upstream_bug(42)
@pytest.mark.spec("AL-01")
async def test_bug_42_a_timeout_around_a_block_passes_through(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        with pytest.raises(trio.TooSlowError), trio.fail_after(3):
            async with it.w.alive():
                await trio.sleep_forever()
        assert it.now == 3


@pytest.mark.upstream_bug(42)
@pytest.mark.spec("AL-01")
async def test_bug_42_a_timeout_in_a_block_is_the_blocks_own(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        async with it.w.alive():
            with trio.move_on_after(1) as timeout:
                await trio.sleep_forever()
            assert timeout.cancelled_caught
            with pytest.raises(trio.TooSlowError), trio.fail_after(1):
                await trio.sleep_forever()
            it.rounds.append("went on")
        assert (it.rounds, it.now) == (["went on"], 2)


@pytest.mark.spec("AL-01")
async def test_a_failing_sibling_passes_through_a_block(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise LookupError

    async with Handler() as it:
        with pytest.RaisesGroup(LookupError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                async with it.w.alive():
                    await trio.sleep_forever()
        with pytest.RaisesGroup(LookupError):
            async with it.w.alive(), trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                await trio.sleep_forever()


@pytest.mark.spec("AL-01")
async def test_an_error_beside_the_cancel_of_the_block_passes_through(autojump_clock: MockClock) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError

    async with Handler() as it:
        source = WithAclose()
        with pytest.RaisesGroup(LookupError):
            async with it.w.alive(source), trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                await trio.testing.wait_all_tasks_blocked()
                it.peer.leave()
        assert source.closed == 1


@pytest.mark.upstream_bug(44)
@pytest.mark.spec("AL-05")
@either_ending
async def test_bug_44_a_block_that_is_entered_too_late_ends_at_once(
    ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it:
        ending(it.peer)
        async with it.w.alive():
            it.rounds.append("until the first checkpoint")
            await trio.lowlevel.checkpoint()
            it.rounds.append("not reached")
        assert it.rounds == ["until the first checkpoint"]


# async for, with a source


@pytest.mark.spec("AL-02")
@any_source
async def test_a_loop_gives_the_items_and_ends_with_the_source(make: SourceType, autojump_clock: MockClock) -> None:
    async with Handler() as it:
        source = make(last=3)
        async for item in it.w.alive(source):
            it.rounds.append(item)
        assert it.rounds == [0, 1, 2]
        assert source.closed == 1
        assert it.now == 4
    assert source.closed == 1


@pytest.mark.upstream_bug(41)
@pytest.mark.spec("AL-02", "SD-08")
@any_source
@either_ending
async def test_a_loop_that_waits_ends_at_once_and_the_code_after_it_runs(
    make: SourceType, ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:
        source = make()
        nursery.start_soon(later, 2.5, ending, it.peer)
        async for item in it.w.alive(source):
            it.rounds.append(item)
        assert (it.rounds, it.now) == ([0, 1], 2.5)
        assert source.closed == 1
        await trio.sleep(1)
        it.w.remove("#bye")
        assert it.peer.sent


@pytest.mark.upstream_bug(41)
@pytest.mark.spec("AL-02")
@any_source
@either_ending
async def test_bug_41_a_body_that_runs_finishes_its_round(
    make: SourceType, ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:
        source = make()
        nursery.start_soon(later, 1.5, ending, it.peer)
        async for item in it.w.alive(source):
            await trio.sleep(10)
            it.rounds.append(item)
        assert (it.rounds, it.now) == ([0], 11)
        assert (source.closed, source.given) == (1, 1)


@pytest.mark.spec("AL-02")
@any_source
async def test_a_source_is_closed_after_break(make: SourceType, autojump_clock: MockClock) -> None:
    source = make()
    async with Handler() as it:
        async for _ in it.w.alive(source):
            break
    assert source.closed == 1


@pytest.mark.spec("AL-02")
@any_source
async def test_a_source_is_closed_after_an_exception_in_the_body(make: SourceType, autojump_clock: MockClock) -> None:
    source = make()
    with pytest.raises(LookupError):
        async with Handler() as it:
            async for _ in it.w.alive(source):
                raise LookupError
    assert source.closed == 1


@pytest.mark.spec("AL-02")
@any_source
async def test_a_source_is_closed_after_return(make: SourceType, autojump_clock: MockClock) -> None:
    source = make()

    async def handler(it: Handler) -> None:
        async for _ in it.w.alive(source):
            return

    async with Handler() as it:
        await handler(it)
    assert source.closed == 1


@pytest.mark.spec("AL-02")
@any_source
@pytest.mark.parametrize("busy", [0, 10])
async def test_a_source_is_closed_after_an_outer_cancel(make: SourceType, busy: int, autojump_clock: MockClock) -> None:
    source = make()
    async with Handler() as it:
        with trio.move_on_after(1.5) as outer:
            async for item in it.w.alive(source):
                it.rounds.append(item)
                await trio.sleep(busy)
        assert outer.cancelled_caught
        assert it.rounds == [0]
    assert source.closed == 1


@pytest.mark.spec("AL-02")
@any_source
async def test_an_error_of_the_source_comes_out_and_closes_it(make: SourceType, autojump_clock: MockClock) -> None:
    async with Handler() as it:
        source = make(last=1, fail=LookupError("source"))
        with pytest.raises(LookupError, match="source"):
            async for item in it.w.alive(source):
                it.rounds.append(item)
        assert (it.rounds, source.closed) == ([0], 1)


@pytest.mark.spec("AL-02")
@any_source
async def test_a_source_that_was_never_asked_is_closed(make: SourceType, autojump_clock: MockClock) -> None:
    source = make()
    async with Handler() as it:
        it.w.alive(source)
    assert source.closed == (0 if make is Generating else 1)  # a generator that has not begun has nothing to close


async def generate() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("source", "help_text"),
    [([1, 2], "write `for` in the block"), (5, "write `for`"), (generate, "It is a function: call it")],
)
async def test_what_is_no_source_is_refused_at_once(source: Any, help_text: str) -> None:
    with pytest.raises(StarioError, match="needs an async iterable") as caught:
        FakePeer().writer().alive(source)
    assert help_text in str(caught.value)


async def test_an_error_of_the_sources_own_is_not_taken_for_none() -> None:
    class Broken:
        def __aiter__(self) -> AsyncIterator[int]:
            raise AttributeError("its own")

    with pytest.raises(AttributeError, match="its own"):
        FakePeer().writer().alive(Broken())


@pytest.mark.spec("AL-02")
async def test_a_source_needs_no_way_to_be_closed(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        async for item in it.w.alive(Iterating(last=2)):
            it.rounds.append(item)
        assert it.rounds == [0, 1]


@pytest.mark.spec("AL-02")
async def test_a_source_may_take_its_time_to_close(autojump_clock: MockClock) -> None:
    closed: list[float] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 0
            await trio.sleep_forever()
        finally:
            await trio.sleep(5)
            closed.append(it.now)

    async with Handler() as it, trio.open_nursery() as nursery:
        nursery.start_soon(later, 1, leave, it.peer)
        items = source()
        async for item in it.w.alive(items):
            await trio.sleep(2)  # the peer leaves while the body runs
            it.rounds.append(item)
        assert (it.rounds, closed) == ([0], [7])


@pytest.mark.spec("AL-02")
async def test_a_loop_that_has_ended_stays_ended(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        alive = it.w.alive(WithAclose(last=1))
        assert [item async for item in alive] == [0]
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(alive)


async def test_a_channel_is_closed_on_the_way_out(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[int](1)
    async with Handler() as it:
        await send.send(7)
        async for item in it.w.alive(receive):
            it.rounds.append(item)
            break
    assert it.rounds == [7]
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(8)


@pytest.mark.spec("AL-02")
async def test_a_subscription_is_closed_in_the_instant_it_is_left(autojump_clock: MockClock) -> None:
    relay: Relay[int] = Relay()
    async with Handler() as it:
        subscription = relay.subscribe("news")
        relay.publish("news", 7)
        alive = it.w.alive(subscription)
        del subscription
        async for subject, item in alive:
            it.rounds.append((subject, item))
            assert relay._subs == {"news": 1}
            break
        del alive
        assert it.rounds == [("news", 7)]
        assert relay._subs == {}  # the handler goes on, and receives nothing


class ClosesItself(WithBoth):
    """As a subscription: dropping it is enough."""

    dropped: ClassVar[list[int]] = []

    def __del__(self) -> None:
        self.dropped.append(self.given)


async def test_a_source_that_closes_itself_is_dropped_with_the_loop(autojump_clock: MockClock) -> None:
    ClosesItself.dropped.clear()
    async with Handler() as it:
        async for _ in it.w.alive(ClosesItself()):
            break
        await trio.lowlevel.checkpoint()  # until then Trio itself holds the end of the source's last timeout
        assert ClosesItself.dropped == [1]


class ClosesAsync(Iterating):
    """`close` is the asynchronous one here."""

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


async def test_a_close_that_must_be_awaited_is_awaited(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        source = ClosesAsync(last=1)
        async for item in it.w.alive(source):
            it.rounds.append(item)
        assert (it.rounds, source.closed) == ([0], 1)


# Both at once: async with around async for


@pytest.mark.spec("AL-01", "AL-02")
@any_source
async def test_a_block_with_a_source_closes_it_at_its_end(make: SourceType, autojump_clock: MockClock) -> None:
    async with Handler() as it:
        source = make()
        async with it.w.alive(source) as items:
            async for item in items:
                it.rounds.append(item)
                break
        assert (it.rounds, source.closed) == ([0], 1)


@pytest.mark.spec("AL-01", "AL-02")
@any_source
@either_ending
async def test_a_block_with_a_source_interrupts_the_body(
    make: SourceType, ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:
        source = make()
        nursery.start_soon(later, 1.5, ending, it.peer)
        async with it.w.alive(source) as items:
            async for item in items:
                it.rounds.append(item)
                await trio.sleep(10)
        assert (it.rounds, it.now, source.closed) == ([0], 1.5, 1)


@pytest.mark.upstream_bug(43)
async def test_bug_43_blocks_can_be_nested_and_follow_each_other(autojump_clock: MockClock) -> None:
    source = WithAclose()
    async with Handler() as it, trio.open_nursery() as nursery:
        nursery.start_soon(later, 1.5, leave, it.peer)
        async with it.w.alive():
            async for _ in it.w.alive(source):
                async with it.w.alive():
                    await trio.sleep_forever()
                await trio.lowlevel.checkpoint()
                it.rounds.append("not reached: the outer block has ended too")
        assert it.now == 1.5
        async for _ in it.w.alive():
            it.rounds.append("not reached")
        assert it.rounds == []
        await trio.sleep(1)
    assert source.closed == 1


# async for, without a source


@pytest.mark.spec("AL-03")
@either_ending
async def test_a_loop_without_a_source_ends_between_rounds(
    ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:
        nursery.start_soon(later, 2.5, ending, it.peer)
        async for nothing in it.w.alive():
            assert nothing is None
            await trio.sleep(1)
            it.rounds.append(it.now)
        assert it.rounds == [1, 2, 3]
        await trio.sleep(1)


@pytest.mark.upstream_bug(44)
@pytest.mark.spec("AL-03")
async def test_bug_44_a_body_without_a_wait_ends_too_and_lets_others_run(autojump_clock: MockClock) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:

        async def leave_soon() -> None:
            it.peer.leave()

        nursery.start_soon(leave_soon)
        async for _ in it.w.alive():
            it.rounds.append(None)
            assert len(it.rounds) < 1000
        assert it.now == 0


@pytest.mark.upstream_bug(42)
@pytest.mark.spec("AL-01", "AL-03")
async def test_bug_42_a_timeout_around_a_loop_passes_through(autojump_clock: MockClock) -> None:
    async with Handler() as it:
        with pytest.raises(trio.TooSlowError), trio.fail_after(3):
            async for _ in it.w.alive():
                await trio.sleep(2)
        with pytest.raises(trio.TooSlowError), trio.fail_after(3):
            async for _ in it.w.alive(WithAclose()):
                pass


@pytest.mark.spec("AL-05")
@either_ending
@pytest.mark.parametrize("make", [None, *SOURCES])
async def test_a_loop_that_is_begun_too_late_has_no_round(
    make: SourceType | None, ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it:
        ending(it.peer)
        source = make() if make is not None else None
        alive: Alive[Any] = it.w.alive() if source is None else it.w.alive(source)
        async for _ in alive:
            it.rounds.append("not reached")
        assert (it.rounds, it.now) == ([], 0)
        if source is not None:
            assert (source.given, source.closed) == (0, 0 if make is Generating else 1)


# A slow reader


@pytest.mark.spec("AL-04")
@pytest.mark.parametrize("make", [None, WithAclose])
async def test_a_round_begins_when_the_peer_has_taken_enough(
    make: SourceType | None, autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:

        def make_room(peer: FakePeer) -> None:
            peer.room.set()

        it.peer.room = trio.Event()
        nursery.start_soon(later, 5, make_room, it.peer)
        source = make() if make is not None else None
        alive: Alive[Any] = it.w.alive() if source is None else it.w.alive(source)
        async for _ in alive:
            it.rounds.append(it.now)
            break
        assert it.rounds == [5 if source is None else 6]


@pytest.mark.spec("AL-04")
@either_ending
async def test_a_peer_that_takes_nothing_does_not_hold_the_loop(
    ending: Callable[[FakePeer], None], autojump_clock: MockClock
) -> None:
    async with Handler() as it, trio.open_nursery() as nursery:
        it.peer.room = trio.Event()
        nursery.start_soon(later, 5, ending, it.peer)
        source = WithAclose()
        async for _ in it.w.alive(source):
            it.rounds.append("not reached")
        assert (it.rounds, it.now, source.given, source.closed) == ([], 5, 0, 1)
