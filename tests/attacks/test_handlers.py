"""One bad handler among good ones: its own request is lost, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio import StarioError
from tests.support.live import live, peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stario_trio import Context, Handler, Server, Writer


async def until_the_stop(c: Context, w: Writer) -> None:
    w.write(b"first")
    async with w.alive():
        await trio.sleep_forever()
    w.write(b"unharmed" if w.shutting_down else b"lost")


async def harms_nobody(bad: Handler) -> Server:
    """Run a bad handler beside a good one, which must come to its own end."""
    async with live(("/bad", bad), ("/good", until_the_stop), graceful_timeout=600) as server, peer(server) as good:
        await good.get("/good")
        await good.until(b"first\r\n")
        async with peer(server) as client:
            await client.get("/bad", "Connection: close")
            await client.rest()
        async with peer(server) as another:
            await another.get("/good")
            await another.until(b"first\r\n")
            server.stop()
            assert b"unharmed" in await good.rest()
            assert b"unharmed" in await another.rest()
    assert server.report.reason == "stop()"
    assert server.report.workers[0].balanced
    return server


@pytest.mark.spec("SD-12", "SD-21", "SD-23")
async def test_a_cancellation_kept_from_a_scope_that_is_gone() -> None:
    """As a cache does that keeps the outcome of a cancelled request, and raises it in others."""

    async def bad(c: Context, w: Writer) -> None:
        kept: BaseException | None = None
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:  # noqa: ASYNC103
                kept = exc
        assert kept is not None
        raise kept

    server = await harms_nobody(bad)
    (error,) = server.report.errors
    assert "not for it" in error


BROKEN_SCOPES = (
    "Connection.run lets the RuntimeError of its cancel scope into the nursery of all connections; "
    "`except Exception` there, with `worker.trouble`, would keep it to its own connection"
)


async def test_a_scope_left_open_by_a_generator() -> None:
    async def numbers() -> AsyncGenerator[int]:
        with trio.CancelScope():
            yield 1  # noqa: ASYNC101, ASYNC119  (the mistake)

    kept: list[object] = []

    async def bad(c: Context, w: Writer) -> None:
        source = numbers()
        kept.append(source)  # or its finalizer would close the scope, in time by luck
        async for _ in source:
            break
        w.text("hello")

    await harms_nobody(bad)


ENTERED_TWICE = (
    "Alive.__aenter__ overwrites the scope of the first entry, so that the outer block leaves a scope that is gone "
    "and the RuntimeError of a broken scope stack ends the server; a second entry should raise StarioError"
)


@pytest.mark.spec("AL-01")
async def test_one_alive_entered_twice_is_an_error_of_that_handler() -> None:
    seen: list[BaseException] = []

    async def bad(c: Context, w: Writer) -> None:
        block = w.alive()
        try:
            async with block, block:
                await trio.lowlevel.checkpoint()
        except StarioError as exc:
            seen.append(exc)
        w.text("hello")

    await harms_nobody(bad)
    assert len(seen) == 1


@pytest.mark.spec("AL-02")
async def test_tasks_that_share_one_loop_get_only_items() -> None:
    got: list[object] = []

    class Three:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> Three:
            return self

        async def __anext__(self) -> int:
            await trio.lowlevel.checkpoint()
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return self.left

    async def handler(c: Context, w: Writer) -> None:
        loop = w.alive(Three())

        async def work() -> None:
            async for item in loop:
                got.append(item)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(work)
        w.text("hello")

    async with live(("/", handler)) as server:
        for _ in range(20):
            async with peer(server) as client:
                assert (await client.ask("/")).body == b"hello"
    assert None not in got
    assert sorted(set(got), key=str) == [0, 1, 2]
