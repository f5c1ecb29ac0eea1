"""httpx talks to the server. Every other test uses httpx2, its maintained continuation."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from stario_trio import Context, NoopTracer, Stario, Writer

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
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
                assert (await client.get("/")).text == "hello"
                assert (await client.post("/echo", json={"a": [1, 2]})).json() == {"a": [1, 2]}
                async with client.stream("GET", "/stream") as response:
                    lines = [line async for line in response.aiter_lines() if line.startswith("data:")]
                assert lines == [f'data: signals {{"n":{n}}}' for n in range(3)]
