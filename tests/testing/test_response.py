"""Whoever leaves a response early leaves nothing open: Trio would warn, which is an error here."""

from __future__ import annotations

import gc
import zlib
from contextlib import aclosing
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import httpx2
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stario_trio.testing import TestClient
from tests.support.live import app_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stario_trio import Context, Writer


async def stream(c: Context, w: Writer) -> None:
    async with w.alive():
        while True:
            for n in range(3):  # several in one read: the parser holds more than the loop has taken
                w.sync({"n": n})
            await trio.sleep(1)
    left.append(c.req.path)


async def page(_c: Context, w: Writer) -> None:
    w.text("one\ntwo\nthree")


P = ParamSpec("P")
left: list[str] = []
APP = app_of(("/", stream), ("/page", page))


def leaves_nothing_open(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """Look for what a test has left while Trio still runs: at its end it closes the rest without a word."""

    @wraps(test)
    async def run(*args: P.args, **options: P.kwargs) -> None:
        left.clear()
        await test(*args, **options)
        gc.collect()

    return run


WAYS = ["aiter_raw", "aiter_bytes", "aiter_text", "aiter_lines"]


@pytest.mark.parametrize("way", WAYS)
@leaves_nothing_open
async def test_a_stream_left_by_break(way: str, autojump_clock: object) -> None:
    async with TestClient(APP) as client:
        async with client.stream("GET", "/") as response:
            assert isinstance(response, httpx2.Response)
            n = 0
            async for _ in getattr(response, way)():
                n += 1
                if n == 5:
                    break
            assert left == []
        await wait_all_tasks_blocked()
        assert left == ["/"]
        assert response.elapsed.total_seconds() < 60
        assert (await client.get("/page")).text.startswith("one"), "the client goes on"


@pytest.mark.parametrize("way", WAYS)
@leaves_nothing_open
async def test_a_loop_that_is_closed_by_hand(way: str) -> None:
    async with TestClient(APP) as client, client.stream("GET", "/") as response:
        async with aclosing(getattr(response, way)()) as pieces:
            assert await anext(pieces)
        await response.aclose()
        await wait_all_tasks_blocked()
        assert left == ["/"]


@leaves_nothing_open
async def test_events_left_by_break(autojump_clock: object) -> None:
    async with TestClient(APP) as client:
        async with client.sse("/", max_event_size=1000) as events:
            assert isinstance(events, httpx2.EventSource)
            async for event in events:
                assert event.data == 'signals {"n":0}'
                break
        await wait_all_tasks_blocked()
        assert left == ["/"]


@leaves_nothing_open
async def test_a_loop_left_by_an_exception_or_a_cancel(autojump_clock: object) -> None:
    async with TestClient(APP) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.sse("/") as events:
                async for _ in events:
                    1 / 0  # noqa: B018
        with trio.move_on_after(3) as scope:
            async with client.stream("GET", "/") as response:
                async for _ in response.aiter_lines():
                    pass
        assert scope.cancelled_caught
        with trio.move_on_after(3) as scope:
            async with client.stream("GET", "/") as response:
                async for _ in response.aiter_lines():
                    await trio.sleep(2)
        assert scope.cancelled_caught


@leaves_nothing_open
async def test_the_connection_of_a_response_left_early_is_not_used_again() -> None:
    async with TestClient(APP) as client:
        for _ in range(3):
            async with client.stream("GET", "/page") as response:
                async for _ in response.aiter_lines():
                    break
            assert (await client.get("/page")).text == "one\ntwo\nthree"


@leaves_nothing_open
async def test_two_loops_one_after_the_other() -> None:
    async with TestClient(APP) as client, client.stream("GET", "/") as response:
        async for _ in response.aiter_lines():
            break
        with pytest.raises(httpx2.StreamConsumed):
            async for _ in response.aiter_lines():
                pass


@leaves_nothing_open
async def test_a_loop_that_never_began() -> None:
    async with TestClient(APP) as client:
        async with client.stream("GET", "/page") as response:
            response.aiter_raw()
            await response.aclose()
        async with client.stream("GET", "/page") as response:
            await response.aiter_raw().aclose()
            assert await response.aread()


@leaves_nothing_open
async def test_a_response_that_nobody_closes_is_closed_with_the_client(autojump_clock: object) -> None:
    async with TestClient(APP) as client:
        response = await client.send(client.build_request("GET", "/"), stream=True)
        async for _ in response.aiter_lines():
            break
        assert not response.is_closed
    assert response.is_closed
    assert trio.current_time() < 1000


@leaves_nothing_open
async def test_a_response_that_is_read_already() -> None:
    async with TestClient(APP) as client:
        response = await client.get("/page")
        async for line in response.aiter_lines():
            assert line == "one"
            break
        assert [line async for line in response.aiter_lines()] == ["one", "two", "three"]
        assert len(client.server.worker.connections) == 1, "the connection is kept"
    del response


@leaves_nothing_open
async def test_the_end_of_a_body_keeps_the_connection() -> None:
    async with TestClient(APP) as client:
        for way in WAYS:
            async with client.stream("GET", "/page") as response:
                assert [piece async for piece in getattr(response, way)()]
        async with client.stream("GET", "/page") as response:
            async for line in response.aiter_lines():
                if line == "three":  # it ends with the body
                    break
        assert len(client.server.worker.connections) == 1


@leaves_nothing_open
async def test_a_body_that_cannot_be_decoded(autojump_clock: object) -> None:
    async def broken(_c: Context, w: Writer) -> None:
        w.headers.set("content-encoding", "gzip")
        w.write(zlib.compress(b"this is no gzip"))
        await trio.sleep_forever()

    async with TestClient(app_of(("/", broken))) as client:
        with pytest.raises(httpx2.DecodingError):
            await client.get("/")


@leaves_nothing_open
async def test_a_response_closed_by_another_task(autojump_clock: object) -> None:
    async with TestClient(APP) as client, client.stream("GET", "/") as response, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(httpx2.ReadError, match="closed"):
                async for _ in response.aiter_lines():
                    pass

        await trio.sleep(2.5)
        await response.aclose()


@leaves_nothing_open
async def test_what_a_handler_fails_with_comes_through_the_loops() -> None:
    async def broken(_c: Context, w: Writer) -> None:
        w.sync({"n": 0})
        await trio.lowlevel.checkpoint()
        raise ValueError("broken")

    told: list[Any] = []
    async with TestClient(app_of(("/", broken))) as client:
        with pytest.raises(ValueError, match="broken"):
            async with client.sse("/") as events:
                async for event in events:
                    told.append(event.data)
    assert told == ['signals {"n":0}']
