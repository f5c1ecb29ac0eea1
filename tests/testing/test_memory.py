"""The network in memory is a Trio stream for a test, and a socket for the server."""

from __future__ import annotations

import errno
from operator import index

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from stario_trio.server.transport import Arrived
from stario_trio.testing import MemoryStream
from stario_trio.testing.listener import MemoryListener
from stario_trio.testing.memory import WINDOW, Alone, MemoryTransport


class ServerEnd(trio.abc.HalfCloseableStream):
    """The server's end as a Trio stream, to be checked as one."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._ended = False
        self._sending = Alone("send")
        self._receiving = Alone("receive")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        with self._sending:
            while True:
                await self._wait_writable()
                try:
                    rest = rest[self._transport.send(rest) :]
                except OSError as exc:
                    raise trio.BrokenResourceError from exc
                if not rest:
                    return

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await self._wait_writable()

    async def _wait_writable(self) -> None:
        if self._ended:
            raise trio.ClosedResourceError
        await self._transport.wait_writable()

    async def send_eof(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._ended = True
            self._transport.end_sending()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            await self._transport.wait_readable()
            return self._transport.recv(max_bytes or WINDOW)

    async def aclose(self) -> None:
        self._transport.close()
        await trio.lowlevel.checkpoint()


async def test_what_is_sent_arrives_both_ways_and_in_pieces() -> None:
    stream = MemoryStream()
    server = stream.transport
    with pytest.raises(BlockingIOError):
        server.recv(10)
    await stream.send_all(b"hello")
    assert server.peek() is Arrived.BYTES
    assert (server.recv(2), server.recv(100)) == (b"he", b"llo")
    assert server.peek() is Arrived.NOTHING

    assert server.send(b"goodbye") == 7
    assert await stream.receive_some(4) == b"good"
    assert await stream.receive_some() == b"bye"


async def test_a_sender_waits_for_a_server_that_does_not_read() -> None:
    stream = MemoryStream()
    sent = trio.Event()

    async def upload() -> None:
        await stream.send_all(bytes(WINDOW + 10))
        sent.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await wait_all_tasks_blocked()
        assert not sent.is_set()
        assert sum(map(len, stream.arrived)) == WINDOW
        assert len(stream.transport.recv(100)) == 100
        await sent.wait()
    assert sum(map(len, stream.arrived)) == WINDOW - 90


async def test_what_is_not_received_holds_the_server_up() -> None:
    stream = MemoryStream(window=4)
    server = stream.transport
    assert server.send(b"abcdef") == 4
    with pytest.raises(BlockingIOError):
        server.send(b"ef")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.wait_writable)
        await wait_all_tasks_blocked()
        assert await stream.receive_some(3) == b"abc"
    assert server.send(b"efghij") == 3
    stream.take(1)
    assert server.send(b"hij") == 1
    assert stream.received == b"defgh"


async def test_it_keeps_the_contract_of_a_trio_stream() -> None:
    async def make_streams() -> tuple[MemoryStream, ServerEnd]:
        stream = MemoryStream()
        return stream, ServerEnd(stream.transport)

    async def make_full_streams() -> tuple[MemoryStream, ServerEnd]:
        stream = MemoryStream(window=10)
        stream.transport.send(bytes(10))
        stream.send(bytes(WINDOW))
        return stream, ServerEnd(stream.transport)

    with trio.fail_after(60):
        await check_half_closeable_stream(make_streams, make_full_streams)


async def test_the_end_of_each_side() -> None:
    stream = MemoryStream()
    server = stream.transport
    await stream.send_all(b"last")
    await stream.send_eof()
    assert (stream.closed, stream.left) == (True, False)
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"more")
    with pytest.raises(trio.ClosedResourceError):
        stream.send(b"more")
    assert (server.recv(100), server.recv(100)) == (b"last", b"")
    assert server.peek() is Arrived.END

    server.send(b"answer")
    server.end_sending()
    assert await stream.receive_some() == b"answer"
    assert await stream.receive_some() == b""
    assert stream.over
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with pytest.raises(BrokenPipeError):
        server.send(b"too late")


async def test_closing_wakes_who_receives_at_the_same_end() -> None:
    stream = MemoryStream()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        await wait_all_tasks_blocked()
        stream.leave()


async def test_a_reset_by_this_end_loses_what_the_server_has_not_read() -> None:
    stream = MemoryStream()
    server = stream.transport
    told: list[str] = []
    server.watch(None, lambda: told.append("left"))  # type: ignore[arg-type]
    await stream.send_all(b"lost")
    stream.abort()
    assert told == ["left"]
    assert server.peek() is Arrived.END
    with pytest.raises(ConnectionResetError):
        server.recv(100)
    with pytest.raises(BrokenPipeError):
        server.send(b"x")


async def test_a_reset_by_the_server_comes_after_what_was_sent_before() -> None:
    stream = MemoryStream()
    stream.transport.send(b"before")
    stream.transport.abort()
    stream.transport.abort()
    assert await stream.receive_some() == b"before"
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


async def test_a_server_that_closes_on_unread_bytes_resets() -> None:
    stream = MemoryStream()
    await stream.send_all(b"unread")
    stream.transport.close()
    assert (stream.ended, stream.reset) == (True, True)
    with pytest.raises(OSError, match="closed") as caught:
        stream.transport.recv(1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="closed"):
        stream.transport.send(b"x")


async def test_sending_to_a_closed_server_is_answered_with_a_reset() -> None:
    stream = MemoryStream()
    stream.transport.close()
    assert not stream.reset
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"anybody?")
    assert stream.reset


async def test_read_until_says_what_came_instead() -> None:
    stream = MemoryStream()
    stream.transport.send(b"abc")
    assert await stream.read_until(b"b") == b"abc"
    stream.transport.close()
    with pytest.raises(EOFError, match=r"without b'x', after b'abc'"):
        await stream.read_until(b"x")
    assert await stream.read_to_end() == b"abc"
    assert stream.left


async def test_a_watch_tells_once_and_can_be_ended() -> None:
    stream = MemoryStream()
    told: list[str] = []
    end = stream.transport.watch(None, lambda: told.append("first"))  # type: ignore[arg-type]
    end()
    end()
    stream.transport.watch(None, lambda: told.append("second"))  # type: ignore[arg-type]
    stream.end()
    stream.leave()
    assert told == ["second"]
    stream.transport.watch(None, lambda: told.append("too late to wait"))  # type: ignore[arg-type]
    assert told == ["second", "too late to wait"]
    assert stream.transport.untaken() == 0


async def test_a_listener_refuses_and_resets_when_it_is_closed() -> None:
    listener = MemoryListener()
    waiting = listener.connect()
    listener.fail(OSError(errno.EMFILE, "too many"))
    assert listener.accept() is waiting.transport
    with pytest.raises(OSError, match="too many"):
        listener.accept()
    with pytest.raises(BlockingIOError):
        listener.accept()
    waiting = listener.connect()
    listener.fail(OSError(errno.EMFILE, "too many"))
    listener.refuse()
    listener.shut()
    assert waiting.reset
    with pytest.raises(ConnectionRefusedError, match="accepts no connections any more"):
        listener.connect()
    with pytest.raises(trio.ClosedResourceError):
        listener.accept()
    with pytest.raises(trio.ClosedResourceError):
        await listener.wait_acceptable()


async def test_who_waits_for_a_peer_hears_of_the_close() -> None:
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def accept() -> None:
            await listener.wait_acceptable()
            listener.accept()
            with pytest.raises(trio.ClosedResourceError):
                await listener.wait_acceptable()

        await wait_all_tasks_blocked()
        listener.connect()
        await wait_all_tasks_blocked()
        listener.close()
