"""httpx talks to the server. Every other test uses httpx2, its maintained continuation."""

from __future__ import annotations

import gc
import sys
from contextlib import aclosing
from typing import Any

import pytest
import trio

from stario_trio import Context, NoopTracer, Stario, Writer
from stario_trio.testing import TestClient

httpx: Any = pytest.importorskip("httpx", reason="httpx is installed by `nox -s compat` only")


async def test_a_page_a_body_and_a_stream_on_one_connection() -> None:
    async def page(_c: Context, w: Writer) -> None:
        w.text("hello")

    async def echo(c: Context, w: Writer) -> None:
        w.json(await c.req.json())

    async def stream(_c: Context, w: Writer) -> None:
        for n in range(3):
            w.sync({"n": n})

    app = Stario(NoopTracer())
    app.get("/", page)
    app.post("/echo", echo)
    app.get("/stream", stream)
    with trio.fail_after(30):
        async with app.serving(port=0) as server:
            [address] = server.addresses
            assert not isinstance(address, str)
            host, port = address
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as client:
                assert (await client.get("/")).text == "hello"
                assert (await client.post("/echo", json={"a": [1, 2]})).json() == {"a": [1, 2]}
                async with client.stream("GET", "/stream") as response:
                    lines = [line async for line in response.aiter_lines() if line.startswith("data:")]
                assert lines == [f'data: signals {{"n":{n}}}' for n in range(3)]


async def test_a_client_of_an_app_in_memory(autojump_clock: object) -> None:
    async def page(_c: Context, w: Writer) -> None:
        w.text("hello")

    async def broken(_c: Context, w: Writer) -> None:
        w.write(b"begun")
        raise ValueError("broken")

    async def deaf(_c: Context, _w: Writer) -> None:
        await trio.sleep(60)

    async def stream(_c: Context, w: Writer) -> None:
        async with w.alive():
            for n in range(100):
                w.sync({"n": n})
                await trio.sleep(1)
        left.append(trio.current_time() - start)

    left: list[float] = []
    app = Stario(NoopTracer())
    for path, handler in (("/", page), ("/broken", broken), ("/deaf", deaf), ("/stream", stream)):
        app.get(path, handler)
        app.post(path, handler)
    async with TestClient(app, library=httpx) as client:
        assert isinstance(client, httpx.AsyncClient)
        assert (await client.get("https://other.example/")).text == "hello"
        with pytest.raises(ValueError, match="broken"):
            await client.get("/broken")
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/deaf", timeout=1)
        with pytest.raises(httpx.WriteTimeout):
            await client.post("/deaf", content=bytes(1_000_000), timeout=1)
        start = trio.current_time()
        async with client.stream("GET", "/stream") as response:
            lines: list[str] = []
            async for line in response.aiter_lines():
                lines += [line] if line.startswith("data:") else []
                if len(lines) == 3:
                    break
        assert lines == [f'data: signals {{"n":{n}}}' for n in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        assert left == [2]
        client.server.stop()
        await client.server.wait_stopped()
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
    async with TestClient(app, library=httpx, raise_handler_errors=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/broken")


@pytest.mark.parametrize("way", ["aiter_raw", "aiter_bytes", "aiter_text", "aiter_lines"])
async def test_a_response_left_early_leaves_nothing_open(way: str) -> None:
    async def stream(_c: Context, w: Writer) -> None:
        async with w.alive():
            w.write(b"one\ntwo\n")
            await trio.sleep_forever()
        left.set()

    left = trio.Event()
    app = Stario(NoopTracer())
    app.get("/", stream)
    with trio.fail_after(30):
        async with TestClient(app, library=httpx) as client:
            async with client.stream("GET", "/") as response:
                async for _ in getattr(response, way)():
                    break
            await left.wait()
            async with client.stream("GET", "/") as response, aclosing(getattr(response, way)()) as pieces:
                await anext(pieces)
            assert not hasattr(client, "sse")
    del response, pieces
    gc.collect()  # Trio would warn of a generator that is found open


async def test_without_httpx2_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    async with TestClient(Stario(NoopTracer())) as client:
        assert isinstance(client, httpx.AsyncClient)
        assert (await client.get("/")).status_code == 404
