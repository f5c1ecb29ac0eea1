"""Servers with several workers: a connection to each, a log that all threads write, delays for what they say."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import trio

from tests.support.live import PATIENCE, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import pytest

    from stario_trio import Context, Server, Writer

WORKERS = 3
NAMES = [f"stario-worker-{number}" for number in range(WORKERS)]


def here() -> str:
    """The worker this is called in."""
    return threading.current_thread().name


async def who(c: Context, w: Writer) -> None:
    """A handler that names its worker."""
    w.text(here())


def threads() -> list[str]:
    """The worker threads there are, with those that were left behind."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("stario-worker-"))


def join_threads() -> None:
    """Wait for the threads of a server that has ended, after what they hang in was let go."""
    for thread in threading.enumerate():
        if thread.name.startswith("stario-worker-"):
            thread.join(PATIENCE)
            assert not thread.is_alive(), thread.name


def descriptors() -> int:
    """How many file descriptors are open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def signal_handlers() -> list[object]:
    """Who gets the signals that stop a server."""
    return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


class Log:
    """What happened, in its order, whichever thread it happened in. One test waits for its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._home = trio.lowlevel.current_trio_token()
        self._lot = trio.lowlevel.ParkingLot()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        with suppress(trio.RunFinishedError):
            self._home.run_sync_soon(self._lot.unpark_all)

    async def until(self, *lines: str) -> None:
        """Wait until all of these stand in it."""
        while not set(lines) <= set(self.lines):
            await self._lot.park()

    async def more(self) -> None:
        """Wait for another line."""
        await self._lot.park()

    def order(self, *lines: str) -> list[int]:
        """Where these stand, each of them once."""
        assert [self.lines.count(line) for line in lines] == [1] * len(lines), self.lines
        return [self.lines.index(line) for line in lines]


@asynccontextmanager
async def one_each(server: Server, workers: int = WORKERS) -> AsyncGenerator[list[Peer]]:
    """A connection to each worker, in their order, which has asked `/who` already.

    The kernel, or whichever thread is first, chooses the worker of a connection: so there are as many as it takes. When
    this begins, the server has forgotten the others.
    """
    found: dict[str, Peer] = {}
    others: list[Peer] = []
    with trio.fail_after(PATIENCE):
        try:
            while len(found) < workers:
                client = await connect(server)
                others.append(client)
                name = (await client.ask("/who")).body.decode()
                if name not in found:
                    found[name] = others.pop()
            clients = [found[f"stario-worker-{number}"] for number in range(workers)]
            for client in others:
                client.sock.close()
            for client in clients * 2:  # the second request comes in a later turn than the ends of the others
                await client.ask("/who")
            yield clients
        finally:
            for client in [*found.values(), *others]:
                client.sock.close()


async def connect(server: Server) -> Peer:
    """A connection to some worker, for the caller to close."""
    [address] = server.addresses
    sock = trio.socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try:
        await sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return Peer(trio.SocketStream(sock))


def delay_all_words(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Let every word that is handed to a Trio run arrive some of its turns later; those to one run stay in order."""
    real = trio.lowlevel.TrioToken.run_sync_soon
    chance = random.Random(seed)
    under_way: dict[trio.lowlevel.TrioToken, deque[Callable[[], object]]] = {}
    lock = threading.Lock()

    def later(self: trio.lowlevel.TrioToken, word: Callable[..., object], *args: Any, idempotent: bool = False) -> None:
        with lock:  # the order of arrival is that of sending, as without delays
            words = under_way.setdefault(self, deque())
            words.append(lambda: word(*args))
            turns = chance.randrange(8)
            real(self, hop, self, turns)

    def hop(token: trio.lowlevel.TrioToken, turns: int) -> None:
        if turns:
            real(token, hop, token, turns - 1)
        else:
            under_way[token].popleft()()

    monkeypatch.setattr(trio.lowlevel.TrioToken, "run_sync_soon", later)
