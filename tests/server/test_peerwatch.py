"""Noticing that a peer has left: the same promises from both watches, on real sockets."""

from __future__ import annotations

import os
import select
import socket
import struct
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.server.peerwatch import EpollPeerWatch, PeerWatch, TaskPeerWatch, peer_watch
from stario_trio.server.transport import SocketTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

epoll_only = pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's")
both = pytest.mark.parametrize("kind", [pytest.param(EpollPeerWatch, marks=epoll_only), TaskPeerWatch])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: ours and the peer's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as theirs,
    ):
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            yield ours, theirs


@asynccontextmanager
async def running(watch: PeerWatch) -> AsyncGenerator[None]:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_the_best_watch_of_this_platform() -> None:
    assert isinstance(peer_watch(), EpollPeerWatch if hasattr(select, "epoll") else TaskPeerWatch)


def test_where_there_is_no_epoll_tasks_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    assert isinstance(peer_watch(), TaskPeerWatch)


@both
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_a_peer_that_leaves_is_noticed_once(
    kind: type[PeerWatch], how: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    watch = kind()
    left = trio.Event()
    calls: list[str] = []
    async with running(watch):
        end = watch.add(ours, lambda: (calls.append("left"), left.set())[0])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not calls
        if how == "reset":
            reset(theirs)
        elif how == "close":
            theirs.close()
        else:
            theirs.shutdown(socket.SHUT_WR)
        await left.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert calls == ["left"]
        end()


@both
async def test_a_peer_that_sends_has_not_left(kind: type[PeerWatch], pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watch = kind()
    calls: list[str] = []
    async with running(watch):
        end = watch.add(ours, lambda: calls.append("left"))
        theirs.sendall(b"pipelined")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not calls
        assert ours.recv(100) == b"pipelined"  # it only looked
        end()


@epoll_only
async def test_epoll_sees_the_end_behind_unread_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watch = EpollPeerWatch()
    left = trio.Event()
    async with running(watch):
        end = watch.add(ours, left.set)
        theirs.sendall(b"pipelined")
        theirs.close()
        await left.wait()
        end()
        assert ours.recv(100) == b"pipelined"


@both
async def test_after_its_end_a_watch_is_silent_and_holds_no_descriptor(
    kind: type[PeerWatch], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    watch = kind()
    calls: list[str] = []
    async with running(watch):
        end = watch.add(ours, lambda: calls.append("left"))
        await trio.testing.wait_all_tasks_blocked()
        end()
        await trio.testing.wait_all_tasks_blocked()
        ours.close()
        assert theirs.recv(1) == b""  # a forgotten twin would keep the connection open
        theirs.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not calls


@both
async def test_a_watch_can_be_had_again(kind: type[PeerWatch], pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watch = kind()
    left = trio.Event()
    async with running(watch):
        watch.add(ours, left.set)()
        end = watch.add(ours, left.set)
        theirs.close()
        await left.wait()
        end()


@both
async def test_many_peers_are_told_apart(kind: type[PeerWatch]) -> None:
    watch = kind()
    pairs = [socket.socketpair() for _ in range(50)]
    left: set[int] = set()
    async with running(watch):
        ends = [watch.add(ours, partial(left.add, n)) for n, (ours, _) in enumerate(pairs)]
        await trio.testing.wait_all_tasks_blocked()
        for n in range(0, 50, 3):
            pairs[n][1].close()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert left == set(range(0, 50, 3))
        for end in ends:
            end()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


@both
@pytest.mark.spec("SD-17")
async def test_a_watch_that_was_cancelled_still_lets_go(
    kind: type[PeerWatch], pair: tuple[socket.socket, socket.socket]
) -> None:
    """An outer cancel ends everything in one instant: the watch may be gone before the connections are."""
    ours, _theirs = pair
    watch = kind()
    async with running(watch):
        end = watch.add(ours, lambda: None)
    end()
    watch.add(ours, lambda: None)()


@both
async def test_closing_a_transport_ends_its_watch(kind: type[PeerWatch]) -> None:
    """A closed descriptor's number belongs to the next connection: it must not be unregistered as the old one."""
    watch = kind()
    first, first_peer = socket.socketpair()
    number = first.fileno()
    left = trio.Event()
    async with running(watch):
        transport = SocketTransport(first)
        end = transport.watch(watch, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        transport.close()
        await trio.testing.wait_all_tasks_blocked()
        second, second_peer = socket.socketpair()
        if second.fileno() != number:
            os.dup2(second.fileno(), number)
            second.detach()
            second = socket.socket(fileno=number)
        unwatch = SocketTransport(second).watch(watch, left.set)
        end()
        second_peer.close()
        await left.wait()
        unwatch()
    second.close()
    first_peer.close()


@both
async def test_cancelling_the_watch_closes_what_it_holds(
    kind: type[PeerWatch], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, _ = pair
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    watch = kind()
    async with running(watch):
        watch.add(ours, lambda: None)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
