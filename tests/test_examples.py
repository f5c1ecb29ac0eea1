"""Every example is a real program: it is started, used and stopped here the way a reader would do it."""

from __future__ import annotations

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx2
import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE = 30  # seconds for a whole example; only a broken one takes as long


class Running(NamedTuple):
    process: trio.Process
    url: str


@asynccontextmanager
async def running(example: str, *args: str) -> AsyncIterator[Running]:
    """Start an example, wait until it says where it listens, and kill it should the test leave it behind."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(EXAMPLES / example), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    printed = bytearray()
    try:
        with trio.fail_after(PATIENCE):
            while (found := re.search(rb"(http://\S+) in a browser", printed)) is None:
                chunk = await process.stdout.receive_some()
                assert chunk, f"{example} ended before it listened:\n{printed.decode()}"
                printed += chunk
            yield Running(process, found[1].decode())
            printed += b"".join([chunk async for chunk in process.stdout])
            assert await process.wait() == 0, printed.decode()
            assert b"Traceback" not in printed
    finally:
        if process.poll() is None:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await process.wait()
        await trio.aclose_forcefully(process.stdout)


@asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[int]:
    """A Redis server of this test's own, which keeps nothing; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, ["redis-server", *options], stdout=subprocess.PIPE, check=False)
        )
        assert process.stdout is not None
        printed = bytearray()
        with trio.fail_after(PATIENCE):
            while b"Ready to accept connections" not in printed:
                chunk = await process.stdout.receive_some()
                assert chunk, f"redis-server ended before it listened:\n{printed.decode()}"
                printed += chunk
        yield port
        nursery.cancel_scope.cancel()


async def patches(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The elements of each Datastar patch in a stream."""
    async for line in lines:
        if line.startswith("data: elements "):
            yield line.removeprefix("data: elements ")


async def test_hello() -> None:
    async with (
        running("hello.py", "--port", "0") as (process, url),
        httpx2.AsyncClient(base_url=url, timeout=30) as client,
    ):
        page = await client.get("/")
        assert page.status_code == 200
        assert "EventSource" in page.text

        async with client.stream("GET", "/events") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            arriving = patches(stream.aiter_lines())
            assert re.fullmatch(r'<p id="clock">\d\d:\d\d:\d\d</p>', await anext(arriving))
            assert await anext(arriving) == '<p id="counter">All tabs together: 0</p>'

            assert (await client.post("/click")).status_code == 204
            kinds = set[str]()
            while kinds != {"clock", "counter"}:
                element = await anext(arriving)
                kinds.add(element.split('"')[1])
                if "counter" in element:
                    assert element == '<p id="counter">All tabs together: 1</p>'

            # The open stream does not hold up the stop: its loop ends, and then the response does.
            process.send_signal(signal.SIGINT)
            rest = [element async for element in arriving]
            assert all("clock" in element for element in rest)


async def test_coffee() -> None:
    async with (
        running("coffee.py", "--port", "0") as (process, url),
        httpx2.AsyncClient(base_url=url, timeout=30) as client,
    ):
        page = await client.get("/")
        assert page.text.startswith("<!doctype html>")
        assert "{'headers':{'X-From':'the form'}}" in html.unescape(page.text)

        order = {"name": "Ada & Bo", "cups": "2", "milk": True}
        changed = await client.get("/summary", params={"datastar": json.dumps(order)})
        assert 'data: elements <p id="summary">Ada &amp; Bo gets 2 coffee with milk.</p>' in changed.text.splitlines()
        placed = await client.post("/order", json=order)
        assert [line for line in placed.text.splitlines() if line.startswith("data: ")] == [
            'data: signals {"name":"","cups":1,"milk":false}',
            'data: elements <p id="summary">Thank you, Ada &amp; Bo!</p>',
        ]
        refused = await client.post("/order", json={"cups": 2})
        assert (refused.status_code, refused.text) == (400, "Invalid signals: missing name")
        process.send_signal(signal.SIGINT)


async def test_static_files() -> None:
    async with (
        running("static_files.py", "--port", "0") as (process, url),
        httpx2.AsyncClient(base_url=url, timeout=30) as client,
    ):
        page = await client.get("/")
        [href] = re.findall(r'href="(/static/style\.[0-9a-f]{16}\.css)"', page.text)
        style = await client.get(href)
        assert style.content == (EXAMPLES / "static/style.css").read_bytes()
        assert "immutable" in style.headers["cache-control"]
        assert (await client.get(href, headers={"if-none-match": style.headers["etag"]})).status_code == 304
        process.send_signal(signal.SIGINT)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="the program redis-server is not installed")
@pytest.mark.skipif(find_spec("redis") is None, reason="the package redis is not installed")
async def test_asyncio_driver(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path) as redis_port,
        running("asyncio_driver.py", "--port", "0", "--redis-port", str(redis_port)) as (process, url),
        httpx2.AsyncClient(base_url=url, timeout=30) as client,
    ):
        for number in (1, 2, 3):
            assert (await client.get("/")).text == f"Visit {number} of /\n"
        assert (await client.get("/elsewhere")).text == "Visit 1 of /elsewhere\n"
        process.send_signal(signal.SIGTERM)
