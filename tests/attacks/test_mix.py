"""Everything at once, by dice: whoever comes and whatever stops the server, its books are right and nothing is left."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import Limits, Server
from tests.support.live import PATIENCE, app_of, peer

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio import Context, Handler, Writer

ROUNDS = 6
PEERS = 12
POST = b"POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def handlers(dice: random.Random) -> list[tuple[str, Handler]]:
    """Handlers that do everything a handler should and should not."""

    async def hello(c: Context, w: Writer) -> None:
        w.text("hello")

    async def slow(c: Context, w: Writer) -> None:
        await trio.sleep(dice.random() * 0.05)
        w.text("slow")

    async def endless(c: Context, w: Writer) -> None:
        w.write(b"first")
        await trio.sleep_forever()

    async def alive(c: Context, w: Writer) -> None:
        w.write(b"first")
        async with w.alive():
            await trio.sleep_forever()
        w.write(b"last")

    async def rounds(c: Context, w: Writer) -> None:
        async for _ in w.alive():
            w.write(b"r" * dice.randrange(1, 50_000))

    async def big(c: Context, w: Writer) -> None:
        w.write(b"z" * dice.randrange(1, 8_000_000))

    async def deaf(c: Context, w: Writer) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + dice.random() * 0.1):
            await trio.sleep_forever()

    async def thread(c: Context, w: Writer) -> None:
        await trio.to_thread.run_sync(time.sleep, dice.random() * 0.05)
        w.text("thread")

    async def body(c: Context, w: Writer) -> None:
        w.text(str(len(await c.req.body())))

    async def failing(c: Context, w: Writer) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the cleanup")

    async def children(c: Context, w: Writer) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.sleep, dice.random() * 0.1)
        w.text("children")

    all_of_them = [hello, slow, endless, alive, rounds, big, deaf, thread, body, failing, children]
    return [(f"/{handler.__name__}", handler) for handler in all_of_them]


async def customer(server: Server, paths: list[str], dice: random.Random) -> None:
    """Ask in one of many ways, read or do not, and leave in one of many ways."""
    with contextlib.suppress(OSError, trio.BrokenResourceError):
        async with peer(server) as client:
            kind = dice.randrange(6)
            if kind == 0:
                await client.send(b"GET / HTTP/1.1\r\nHo")
            elif kind == 1:
                await client.send(POST + b"b" * dice.randrange(120))
            elif kind == 2:
                for _ in range(dice.randrange(1, 20)):
                    await client.get(dice.choice(paths))
            elif kind > 2:
                await client.get(dice.choice(paths), version=dice.choice(["1.0", "1.1"]))
            if dice.random() < 0.2:
                client.finish()
            await trio.sleep(dice.random() * 0.1)
            with trio.move_on_after(dice.random() * 0.3):
                await client.rest()
            if dice.random() < 0.3:
                client.reset()


async def serve_and_stop(dice: random.Random, where: dict[str, Any]) -> Server:
    routes = handlers(dice)
    limits = Limits(
        connections=dice.choice([math.inf, 3]), keep_alive=dice.choice([0.05, 5]), body_timeout=dice.choice([0.05, 5])
    )
    server = Server(
        app_of(*routes),
        graceful_timeout=dice.choice([0, 0.05, 0.2]),
        cleanup_timeout=math.inf,
        backlog=dice.choice([16, 2048]),
        limits=limits,
        **where,
    )
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as customers, trio.open_nursery() as nursery:
            await nursery.start(server.run)
            for _ in range(PEERS):
                customers.start_soon(customer, server, [path for path, _ in routes], dice)
                if dice.random() < 0.3:
                    await trio.sleep(dice.random() * 0.01)
            for stop in dice.choice([["polite"], ["now"], ["cancel"], ["polite", "now"], ["polite", "cancel"]]):
                if stop == "cancel":
                    nursery.cancel_scope.cancel()
                else:
                    server.stop(now=stop == "now")
                with trio.CancelScope(shield=True, deadline=trio.current_time() + dice.random() * 0.1):
                    await trio.sleep_forever()
    return server


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.spec("SD-20", "SD-24")
@pytest.mark.parametrize("seed", range(4))
async def test_the_books_are_right_and_nothing_is_left(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    before, tasks = descriptors(), trio.lowlevel.current_statistics().tasks_living
    for _ in range(ROUNDS):
        path = tmp_path / "server.sock"
        server = await serve_and_stop(dice, dice.choice([{"port": 0}, {"unix_socket": str(path)}]))
        (books,) = server.report.workers
        assert books.balanced, server.report
        assert server.report.abandoned == []
        assert server.report.errors == []
        assert not path.exists()
    assert descriptors() == before
    assert trio.lowlevel.current_statistics().tasks_living == tasks
