"""Bytes on their way to one peer: in order, bounded, and given up in time."""

from __future__ import annotations

import errno
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stario_trio import Limits, StarioError
from stario_trio.server.outbox import Outbox
from stario_trio.server.transport import SocketTransport
from stario_trio.testing.memory import MemoryStream as Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


class Sender:
    """An outbox to a client in memory."""

    def __init__(self, nursery: trio.Nursery, client: Client, **limits: float) -> None:
        self.client = client
        self.lost: list[str] = []
        self.flushes = 0
        self._nursery = nursery
        self.outbox = Outbox(client.transport, Limits(**limits), self._start, self.lost.append)  # type: ignore[arg-type]

    def _start(self, flush: Callable[[], Awaitable[None]]) -> None:
        self.flushes += 1
        self._nursery.start_soon(flush)


@asynccontextmanager
async def sender(*, window: float = float("inf"), **limits: float) -> AsyncGenerator[Sender]:
    # On a virtual clock a test that would wait for ever fails at once.
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            yield Sender(nursery, Client(window=window), **limits)
            nursery.cancel_scope.cancel()


async def test_what_the_kernel_takes_is_sent_at_once_and_needs_no_task() -> None:
    async with sender() as it:
        it.outbox.send(b"hello ")
        it.outbox.send(b"")
        it.outbox.send(b"world")
        assert it.client.received == b"hello world"
        assert it.outbox.unsent == 0
        assert it.flushes == 0


async def test_what_it_does_not_take_keeps_its_order(autojump_clock: object) -> None:
    async with sender(window=3) as it:
        it.outbox.send(b"abcde")
        it.outbox.send(b"fgh")
        it.client.take(100)  # the window is open again, but what waits goes first
        it.outbox.send(b"ij")
        assert it.client.received == b"abc"
        assert it.outbox.unsent == 7
        await it.outbox.wait_below(1)
        assert it.client.received == b"abcdefghij"
        assert it.outbox.unsent == 0
        assert it.flushes == 1


@pytest.mark.parametrize("window", [0, 3])
async def test_a_thread_that_writes_too_much_is_told(window: int, autojump_clock: object) -> None:
    """It cannot start the task that would send the rest, and without it the connection would wait for ever."""
    async with sender(window=window) as it:
        with ThreadPoolExecutor() as thread, pytest.raises(StarioError, match=r"(?s)thread.*from_thread"):
            thread.submit(it.outbox.send, b"abcdef").result()  # not `to_thread`: the clock would run on
        assert it.outbox.lost == (window > 0)  # the peer has a part that cannot be taken back
        it.client.take(100)
        it.outbox.send(b"next")
        await it.outbox.wait_below(1)
        assert bytes(it.client.received) == (b"abc" if window else b"next")


async def test_one_task_at_a_time_flushes(autojump_clock: object) -> None:
    async with sender(window=0) as it:
        for round_ in range(1, 4):
            it.outbox.send(b"ab")
            it.outbox.send(b"cd")
            await trio.testing.wait_all_tasks_blocked()
            it.outbox.send(b"ef")
            assert it.flushes == round_
            it.client.take(6)
            await it.outbox.wait_below(1)
        assert it.client.received == b"abcdef" * 3


async def test_waiting_is_a_checkpoint_and_ends_at_its_mark(autojump_clock: object) -> None:
    async with sender(window=0) as it:
        with trio.testing.assert_checkpoints():
            await it.outbox.wait_below(1)
        it.outbox.send(bytes(100))
        done: list[int] = []

        async def wait(limit: int) -> None:
            await it.outbox.wait_below(limit)
            done.append(limit)

        async with trio.open_nursery() as waiters:
            for limit in (1, 50, 100, 101):
                waiters.start_soon(wait, limit)
            for taken, expected in (
                (0, [101]),
                (1, [101, 100]),
                (50, [101, 100, 50]),
                (48, None),
                (1, [101, 100, 50, 1]),
            ):
                it.client.take(taken)
                await trio.testing.wait_all_tasks_blocked()
                assert expected is None or done == expected


@given(
    pieces=st.lists(st.binary(max_size=40), max_size=20),
    windows=st.lists(st.integers(1, 30), max_size=20),
)
def test_any_peer_gets_every_byte_in_order(pieces: list[bytes], windows: list[int]) -> None:
    async def main() -> None:
        async with sender(window=windows[0] if windows else 0) as it:
            for n, piece in enumerate(pieces):
                it.outbox.send(piece)
                it.client.take(windows[n] if n < len(windows) else 0)
                if n % 3:
                    await trio.testing.wait_all_tasks_blocked()
            total = b"".join(pieces)
            assert len(it.client.received) + it.outbox.unsent == len(total)
            it.client.take(len(total))
            await it.outbox.wait_below(1)
            assert it.client.received == total

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_unsent_bytes_have_a_limit(autojump_clock: object) -> None:
    async with sender(window=0, max_unsent=1000, high_water=10) as it:
        it.outbox.send(bytes(1000))
        it.outbox.send(b"x")  # at the limit, not above
        with pytest.raises(StarioError, match="does not keep up") as info:
            it.outbox.send(b"never")
        assert info.value.context == {"unsent": 1001, "max_unsent": 1000}
        assert it.outbox.unsent == 1001
        it.client.take(2000)
        await it.outbox.wait_below(1)
        it.outbox.send(b"y")  # the peer has caught up
        assert it.client.received == bytes(1000) + b"xy"


async def test_a_peer_that_takes_nothing_is_given_up_after_write_timeout(autojump_clock: object) -> None:
    async with sender(window=0, write_timeout=30) as it:
        start = trio.current_time()
        it.outbox.send(b"abc")
        await it.outbox.wait_below(1)
        assert trio.current_time() - start == 30
        assert it.lost == ["the peer took nothing for 30 s"]
        assert it.client.reset
        assert it.outbox.unsent == 0
        it.outbox.send(b"dropped")
        await it.outbox.wait_below(1)
        assert it.client.received == b""


async def test_a_peer_that_takes_a_byte_in_time_is_kept(autojump_clock: object) -> None:
    async with sender(window=0, write_timeout=30) as it:
        it.outbox.send(b"abc")
        for _ in range(3):
            await trio.sleep(29)
            it.client.take(1)
        await it.outbox.wait_below(1)
        assert it.client.received == b"abc"
        assert it.lost == []


@pytest.mark.parametrize("busy", [False, True])
async def test_a_lost_peer_is_told_once(busy: bool, autojump_clock: object) -> None:
    async with sender(window=0 if busy else 100) as it:
        if busy:
            it.outbox.send(b"waits")
            await trio.testing.wait_all_tasks_blocked()
        it.client.leave()
        it.outbox.send(b"x")
        await it.outbox.wait_below(1)
        it.outbox.send(b"y")
        it.outbox.lose("again")
        assert len(it.lost) == 1
        assert "sending failed" in it.lost[0]
        assert it.outbox.lost


async def test_closing_the_socket_wakes_the_flush_and_who_waits(autojump_clock: object) -> None:
    async with sender(window=0) as it:
        it.outbox.send(b"waits")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.outbox.wait_below, 1)
            await trio.testing.wait_all_tasks_blocked()
            it.client.transport.close()
        assert it.outbox.lost
        assert it.outbox.unsent == 0


async def test_sending_that_fails_while_flushing(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sender(window=0) as it:
        it.outbox.send(b"waits")

        def fail(data: bytes | memoryview) -> int:
            raise ConnectionResetError(errno.ECONNRESET, "reset")

        monkeypatch.setattr(it.client.transport, "send", fail, raising=False)
        it.client.take(1)
        await it.outbox.wait_below(1)
        assert it.lost == ["sending failed: [Errno 104] reset"]


async def test_a_window_that_closes_again_is_waited_for(autojump_clock: object) -> None:
    """The kernel may say writable and take nothing."""
    async with sender(window=0) as it:
        it.outbox.send(b"waits")
        await trio.testing.wait_all_tasks_blocked()
        it.client.transport.wake()
        it.client.take(1)
        it.client.window = 0  # gone before the task had its turn
        await trio.testing.wait_all_tasks_blocked()
        assert it.outbox.unsent == 5
        it.client.take(5)
        await it.outbox.wait_below(1)
        assert it.client.received == b"waits"


async def test_a_real_peer_that_never_reads(autojump_clock: object) -> None:
    """The same on a real socket: the kernel takes some, the outbox holds the rest, then gives up."""
    ours, theirs = socket.socketpair()
    lost: list[str] = []
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            outbox = Outbox(SocketTransport(ours), Limits(write_timeout=30), nursery.start_soon, lost.append)
            outbox.send(bytes(2_000_000))
            assert 0 < outbox.unsent < 2_000_000
            start = trio.current_time()
            await outbox.wait_below(1)
            assert trio.current_time() - start == pytest.approx(30)
        assert lost == ["the peer took nothing for 30 s"]
        assert ours.fileno() == -1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much the peer has taken")
async def test_a_peer_that_reads_slowly_is_kept_though_the_kernel_wants_no_more(autojump_clock: object) -> None:
    """A socket becomes writable only when a good part of its buffer is free; until then the peer may read for long."""
    ours, theirs = socket.socketpair()
    lost: list[float] = []
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            start = trio.current_time()
            transport = SocketTransport(ours)
            outbox = Outbox(
                transport,
                Limits(write_timeout=30),
                nursery.start_soon,
                lambda why: lost.append(trio.current_time() - start),
            )
            outbox.send(bytes(2_000_000))
            unsent, untaken = outbox.unsent, transport.untaken()
            await trio.sleep(29)
            theirs.recv(50_000)
            await trio.sleep(2)
            assert not lost
            assert outbox.unsent == unsent  # the kernel has taken nothing more
            assert transport.untaken() < untaken
        assert lost == [pytest.approx(60)]
