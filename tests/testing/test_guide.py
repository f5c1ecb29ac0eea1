"""The programs of docs/how-to/testing.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio import Context, Relay, Stario, Writer
from stario_trio.testing import (
    RecordingTracer,
    ResponseRecorder,
    TestClient,
    TestContext,
    TestRequest,
    serving_in_memory,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stario_trio.testing import Client


async def greet(c: Context, w: Writer) -> None:
    name = c.req.query.get("name", "you")
    c["name"] = name
    w.cookie("greeted", "yes").text(f"Hello, {name}!")


async def news(c: Context, w: Writer) -> None:
    async for item in w.alive(c.state["news"]):
        w.sync({"news": item})
        if item == "the end":
            break


async def clock(_c: Context, w: Writer) -> None:
    async with w.alive():
        while True:
            w.sync({"time": trio.current_time()})
            await trio.sleep(1)


def write_report() -> str:
    return "All is well."


def make_app() -> Stario:
    room = Relay[str]()

    async def say(c: Context, w: Writer) -> None:
        room.publish("said", (await c.req.body()).decode())
        w.empty()

    async def listen(_c: Context, w: Writer) -> None:
        said = room.subscribe("said")
        w.sync({"online": True})
        async for _subject, words in w.alive(said):
            w.sync({"said": words})
        w.sync({"online": False})

    async def slow(_c: Context, w: Writer) -> None:
        await trio.sleep(60)
        w.text("done")

    async def report(_c: Context, w: Writer) -> None:
        w.text(await trio.to_thread.run_sync(write_report))

    app = Stario(RecordingTracer())
    app.post("/say", say)
    app.get("/listen", listen)
    app.get("/slow", slow)
    app.get("/report", report)
    return app


async def test_a_handler() -> None:
    c, w = TestContext(TestRequest(query={"name": "Ada"})), ResponseRecorder()
    await greet(c, w)
    w.assert_status(200)
    assert w.text_body() == "Hello, Ada!"
    assert w.headers["content-type"].startswith("text/plain")
    assert w.headers.getlist("set-cookie") == ["greeted=yes; Path=/; SameSite=lax"]
    assert c["name"] == "Ada"


async def test_a_handler_that_leaves_a_loop() -> None:
    async def items() -> AsyncIterator[str]:
        for item in ("a beginning", "the end", "an epilogue"):
            yield item

    async with ResponseRecorder() as w:
        await news(TestContext(state={"news": items()}), w)
    assert [event["data"]["news"] for event in w.datastar_events] == ["a beginning", "the end"]
    assert w.completed


async def test_a_handler_whose_peer_leaves(autojump_clock: trio.testing.MockClock) -> None:
    w = ResponseRecorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock, TestContext(), w)
        await trio.sleep(2.5)
        w.disconnect.set()
    assert [event["type"] for event in w.datastar_events] == ["sync", "sync", "sync"]


async def test_the_app() -> None:
    async with TestClient(make_app()) as client:
        response = await client.post("/say", content="hello")
        assert response.status_code == 204
        assert (await client.get("/nowhere")).status_code == 404


async def test_a_stream_and_a_stop() -> None:
    async with TestClient(make_app()) as client, client.sse("/listen") as events:
        await client.post("/say", content="hello")
        client.server.stop()
        told = [event.data async for event in events]
    assert told == ['signals {"online":true}', 'signals {"said":"hello"}', 'signals {"online":false}']


async def test_leaving_a_stream() -> None:
    async with TestClient(make_app()) as client:
        async with client.sse("/listen") as events:
            async for event in events:
                assert event.data == 'signals {"online":true}'
                break
        assert (await client.post("/say", content="is anybody there?")).status_code == 204


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(make_app(), graceful_timeout=10.0) as client:
        yield client


async def test_the_time_of_a_stop(autojump_clock: trio.testing.MockClock, client: Client) -> None:
    async with client.server.client() as patient, trio.open_nursery() as nursery:
        nursery.start_soon(patient.get, "/slow")
        await trio.sleep(55)
        client.server.stop()
        await client.server.wait_stopped()
    assert trio.current_time() == 60
    assert client.server.report.handlers_cancelled == 0


async def test_a_thread_on_a_virtual_clock(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with TestClient(make_app()) as client:
        assert (await client.get("/report")).text == "All is well."


async def test_a_peer_that_speaks_bytes(autojump_clock: trio.testing.MockClock) -> None:
    app = make_app()
    async with serving_in_memory(app) as server:
        peer = server.connect(b"GET /listen HTTP/1.1\r\nHost: test\r\n\r\n")
        await peer.read_until(b'"online":true')
        peer.abort()

        half = server.connect(b"GET /listen HTTP/1.1\r\nHo")
        assert b"408" in await half.read_to_end()
    assert isinstance(app.tracer, RecordingTracer)
    assert app.tracer.named("GET").ok
