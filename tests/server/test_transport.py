"""Bytes of one connection, on real sockets."""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.server.transport import Arrived, SocketTransport

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["tcp", "unix"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[SocketTransport, socket.socket]]:
    """Our end as a transport, and the peer's as a plain socket."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    theirs.settimeout(10)
    with ours, theirs:
        yield SocketTransport(ours), theirs


Ends = tuple[SocketTransport, socket.socket]


def test_reading_and_writing_never_wait(ends: Ends) -> None:
    ours, theirs = ends
    with pytest.raises(BlockingIOError):
        ours.recv(10)
    assert ours.send(b"hello") == 5
    assert theirs.recv(10) == b"hello"
    taken = 0
    with pytest.raises(BlockingIOError):
        while True:
            taken += ours.send(memoryview(bytes(100_000)))
    while taken:
        taken -= len(theirs.recv(taken))


async def test_peek_tells_and_leaves(ends: Ends) -> None:
    ours, theirs = ends
    assert ours.peek() is Arrived.NOTHING
    theirs.sendall(b"ab")
    await ours.wait_readable()
    assert ours.peek() is Arrived.BYTES
    theirs.close()
    assert ours.peek() is Arrived.BYTES  # the end is behind them
    assert ours.recv(1) == b"a"
    assert ours.recv(10) == b"b"
    await ours.wait_readable()
    assert ours.peek() is Arrived.END
    assert ours.recv(10) == b""


async def test_a_reset_is_an_end(ends: Ends) -> None:
    ours, theirs = ends
    ours.send(b"unread")  # closing with unread bytes resets
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    await ours.wait_readable()
    assert ours.peek() is Arrived.END
    ours.end_sending()  # harmless
    ours.close()


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("direction", ["readable", "writable"])
async def test_closing_wakes_who_waits(ends: Ends, how: str, direction: str) -> None:
    ours, _theirs = ends
    wait = ours.wait_readable if direction == "readable" else ours.wait_writable
    if direction == "writable":
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(100_000))
    woken = trio.Event()

    async def waiter() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await wait()
        woken.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            getattr(ours, how)()
            await woken.wait()
            with pytest.raises(trio.ClosedResourceError):
                await wait()


def test_half_close_ends_one_direction(ends: Ends) -> None:
    ours, theirs = ends
    ours.send(b"last")
    ours.end_sending()
    assert theirs.recv(10) == b"last"
    assert theirs.recv(10) == b""
    theirs.sendall(b"still heard")
    assert ours.recv(100) == b"still heard"


async def test_close_delivers_what_the_kernel_has(ends: Ends) -> None:
    ours, theirs = ends
    ours.send(b"all of it")
    ours.close()
    ours.close()
    ours.abort()
    assert theirs.recv(100) == b"all of it"
    assert theirs.recv(100) == b""


async def test_abort_is_seen_as_an_error() -> None:
    """TCP only: a Unix socket has no reset without unread input."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        theirs.settimeout(10)
        sock, _ = listener.accept()
        ours = SocketTransport(sock)
        ours.send(b"a part")
        ours.abort()
        ours.abort()
        ours.close()
        with pytest.raises(ConnectionResetError):
            while theirs.recv(100):
                pass


async def test_a_closed_transport_says_so(ends: Ends) -> None:
    ours, _theirs = ends
    ours.close()
    assert ours.peek() is Arrived.END
    with pytest.raises(OSError, match="Bad file descriptor"):
        ours.recv(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        ours.send(b"x")
    ours.end_sending()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_what_the_peer_has_not_taken(ends: Ends, platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform == "linux" and sys.platform != "linux":
        pytest.skip("only Linux can tell")
    monkeypatch.setattr(sys, "platform", platform)
    ours, theirs = ends
    assert ours.untaken() == 0
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(bytes(100_000))
    full = ours.untaken()
    assert (full > 0) is (platform == "linux")
    theirs.close()


async def test_of_a_closed_transport_nothing_is_untaken(ends: Ends) -> None:
    ours, _theirs = ends
    ours.close()
    assert ours.untaken() == 0
