"""w.alive(): AL-01 to AL-05, in the order of the specification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio

from tests.spec.handlers import takes
from tests.support.stage import stage

if TYPE_CHECKING:
    from stario_trio import Context, Writer


class Ticks:
    """A source that counts seconds, and knows whether it was closed."""

    def __init__(self) -> None:
        self.n = 0
        self.closed = False

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> int:
        await trio.sleep(1)
        self.n += 1
        return self.n

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.spec("AL-01", "SD-08")
@pytest.mark.parametrize("cause", ["drain", "peer"])
async def test_the_block_is_cancelled_and_the_code_after_it_runs(cause: str) -> None:
    after: list[tuple[float, bool, bool]] = []

    async def handler(c: Context, w: Writer) -> None:
        async with w.alive():
            await trio.sleep_forever()
        after.append((s.now, w.disconnected, w.shutting_down))

    async with stage(("/", handler), graceful_timeout=5) as s:
        client = s.get("/")
        await trio.sleep(2)
        if cause == "peer":
            client.leave()
            await trio.sleep(1)
    assert after == [(2.0, cause == "peer", cause == "drain")]


@pytest.mark.upstream_bug(42)
@pytest.mark.spec("AL-01")
async def test_the_block_swallows_only_its_own_cancellation() -> None:
    seen: list[str] = []

    async def inner_timeout(c: Context, w: Writer) -> None:
        async with w.alive():
            with trio.move_on_after(1):
                await trio.sleep_forever()
            seen.append(f"inner {s.now}")
        w.empty()

    async def outer_timeout(c: Context, w: Writer) -> None:
        with trio.move_on_after(2):
            async with w.alive():
                await trio.sleep_forever()
            seen.append("not reached")
        seen.append(f"outer {s.now}")
        w.empty()

    async def sibling_failure(c: Context, w: Writer) -> None:
        async def fails() -> None:
            await trio.sleep(3)
            raise ValueError("sibling")

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails)
                async with w.alive():
                    await trio.sleep_forever()
                seen.append("not reached")
        except* ValueError:
            seen.append(f"sibling {s.now}")
        w.empty()

    async def own_error(c: Context, w: Writer) -> None:
        try:
            async with w.alive():
                await trio.sleep(4)
                raise LookupError
        except LookupError:
            seen.append(f"error {s.now}")
        w.empty()

    handlers = {"/i": inner_timeout, "/o": outer_timeout, "/s": sibling_failure, "/e": own_error}
    async with stage(*handlers.items(), graceful_timeout=50) as s:
        for path in handlers:
            s.get(path)
        await trio.sleep(5)
    assert seen == ["inner 1.0", "outer 2.0", "sibling 3.0", "error 4.0"]


@pytest.mark.upstream_bug(41)
@pytest.mark.spec("AL-02")
async def test_a_running_body_finishes_its_round() -> None:
    rounds: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        async for n in w.alive(Ticks()):
            rounds.append(f"{s.now} begins {n}")
            await trio.sleep(3)
            rounds.append(f"{s.now} ends {n}")
        rounds.append(f"{s.now} after")

    async with stage(("/", handler), graceful_timeout=50) as s:
        s.get("/")
        await trio.sleep(2)
    assert rounds == ["1.0 begins 1", "4.0 ends 1", "4.0 after"]


@pytest.mark.spec("AL-02")
@pytest.mark.parametrize("way", ["drain", "peer", "end", "error", "break", "return", "cancel"])
async def test_the_source_is_closed_on_every_way_out(way: str) -> None:
    source = Ticks()

    async def handler(c: Context, w: Writer) -> None:
        async for n in w.alive(source):
            if n == 2 and way == "error":
                raise LookupError
            if n == 2 and way == "break":
                break
            if n == 2 and way == "return":
                return

    async def ended(self: Ticks) -> int:
        raise StopAsyncIteration

    if way == "end":
        source.__class__ = type("Ended", (Ticks,), {"__anext__": ended})
    async with stage(("/", handler), graceful_timeout=0 if way == "cancel" else 50) as s:
        client = s.get("/")
        await trio.sleep(2.5)
        if way == "peer":
            client.leave()
            await trio.lowlevel.checkpoint()
        if way not in ("drain", "cancel", "peer"):
            assert source.closed
    assert source.closed


@pytest.mark.spec("AL-02")
async def test_no_item_is_lost_when_the_end_comes_with_it() -> None:
    """An item that has been taken out of its source is given to the body, whatever happens in the same instant."""
    send, receive = trio.open_memory_channel[int](math.inf)
    got: list[int] = []

    async def handler(c: Context, w: Writer) -> None:
        async for n in w.alive(receive):
            got.append(n)

    async with stage(("/", handler), graceful_timeout=5) as s:
        s.get("/")
        await trio.sleep(1)
        send.send_nowait(1)
        s.stop()
        await trio.testing.wait_all_tasks_blocked()
        left = send.statistics().current_buffer_used
    assert len(got) + left == 1


@pytest.mark.spec("AL-03")
async def test_without_a_source_the_loop_ends_between_rounds() -> None:
    rounds: list[float] = []

    async def handler(c: Context, w: Writer) -> None:
        async for _ in w.alive():
            rounds.append(s.now)
            await trio.sleep(1)
        rounds.append(s.now)

    async with stage(("/", handler), graceful_timeout=5) as s:
        s.get("/")
        await trio.sleep(2.5)
    assert rounds == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.upstream_bug(28)
@pytest.mark.spec("AL-04")
async def test_a_slow_reader_slows_its_own_handler_and_costs_bounded_memory() -> None:
    rounds: list[float] = []
    most = 0

    async def handler(c: Context, w: Writer) -> None:
        nonlocal most
        async for _ in w.alive():
            w.write(b"x" * 400)
            (connection,) = s.worker.connections
            most = max(most, connection.outbox.unsent)
            rounds.append(s.now)

    async with stage(("/", handler), graceful_timeout=0, limits={"high_water": 1000, "max_unsent": 5000}) as s:
        client = s.get("/", window=0)
        await trio.sleep(1)
        assert len(rounds) == 3  # 0, 400 and 800 were below the mark
        client.take(1000)
        await trio.sleep(1)
        assert set(rounds[3:]) == {1.0}
        assert len(rounds) <= 6
    assert most < 1000 + 2 * 400 + 500


@pytest.mark.spec("AL-05")
@pytest.mark.parametrize("cause", ["drain", "peer"])
async def test_entering_too_late_ends_at_once(cause: str) -> None:
    seen: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        await trio.sleep(2)
        async for _ in w.alive():
            seen.append("round")
        async for _ in w.alive(Ticks()):
            seen.append("item")
        async with w.alive():
            await trio.sleep_forever()
            seen.append("body")
        seen.append(f"after {s.now}")

    async with stage(("/", handler), graceful_timeout=10) as s:
        client = s.get("/")
        await trio.sleep(1)
        if cause == "peer":
            client.leave()
            await trio.sleep(2)
    assert seen == ["after 2.0"]


@pytest.mark.spec("AL-01")
async def test_blocks_may_be_nested() -> None:
    seen: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        async with w.alive():
            async with w.alive():
                await trio.sleep_forever()
            seen.append("between")
            await trio.sleep_forever()
        seen.append("after")

    async with stage(("/", handler), ("/slow", takes(1)), graceful_timeout=5) as s:
        s.get("/")
        await trio.sleep(1)
    assert seen in (["between", "after"], ["after"])


@pytest.mark.spec("AL-01")
async def test_one_block_of_many_tasks_of_a_handler() -> None:
    ended: list[float] = []

    async def handler(c: Context, w: Writer) -> None:
        async def part() -> None:
            async with w.alive():
                await trio.sleep_forever()
            ended.append(s.now)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(part)

    async with stage(("/", handler), graceful_timeout=5) as s:
        client = s.get("/")
        await trio.sleep(1)
        client.leave()
        await trio.sleep(1)
    assert ended == [1.0] * 3
