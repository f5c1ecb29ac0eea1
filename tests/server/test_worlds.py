"""The same program in each world: trio.run, asyncio and uvloop; a smoke suite of the API and the lifecycle."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PATIENCE = 60

# What a user would write: routes, a relay, a stream with a farewell, and, on an asyncio loop, a task of its own.
PROGRAM = """
import asyncio, json, sys, threading, trio
from stario_trio import Context, HttpException, NoopTracer, Relay, Server, Stario, Writer

world, workers, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]
relay = Relay()

async def hello(c: Context, w: Writer) -> None:
    w.cookie("seen", "yes").json({"tail": c.req.tail, "who": c.req.query.get("who")})

async def echo(c: Context, w: Writer) -> None:
    async for piece in c.req.stream():
        w.write(piece)
        await w.drain()

async def say(c: Context, w: Writer) -> None:
    relay.publish("words.said", (await c.req.body()).decode())
    w.empty()

async def words(c: Context, w: Writer) -> None:
    subscription = relay.subscribe("words.*")
    w.patch("begins", selector="#words")
    async for _, word in w.alive(subscription):
        w.patch(word, selector="#words")
    w.patch("bye", selector="#words")

async def missing(c: Context, w: Writer) -> None:
    raise HttpException(404, "no such thing")

app = Stario(NoopTracer())
app.get("/hello/*", hello)
app.post("/echo", echo)
app.post("/say", say)
app.get("/words", words)
app.get("/missing", missing)
settings = {"unix_socket": where} if where else {"port": 0}
server = Server(app, workers=workers, graceful_timeout=600, **settings)
turns = 0

class Listening:
    def started(self, value=None):
        print(json.dumps(value), flush=True)

async def ticker():
    global turns
    while True:
        await asyncio.sleep(0)
        turns += 1

async def on_asyncio():
    background = asyncio.create_task(ticker())
    await server.run(task_status=Listening())
    assert not background.done()
    before = turns
    await asyncio.sleep(0.01)
    assert turns > before, "the task goes on after the server"
    background.cancel()

async def on_trio():
    await server.run(task_status=Listening())

if world == "trio":
    trio.run(on_trio)
elif world == "asyncio":
    asyncio.run(on_asyncio())
else:
    import uvloop
    uvloop.run(on_asyncio())
books = [worker.balanced for worker in server.report.workers]
print(json.dumps({"reason": server.report.reason, "balanced": books, "turns": turns,
                  "threads": [thread.name for thread in threading.enumerate()]}), flush=True)
"""

worlds = pytest.mark.parametrize(
    "world",
    [
        "trio",
        "asyncio",
        pytest.param(
            "uvloop",
            marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"),
        ),
    ],
)


class Running:
    def __init__(self, process: subprocess.Popen[str], client: httpx2.Client) -> None:
        self.process = process
        self.client = client

    def end(self, number: signal.Signals) -> dict[str, Any]:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        result: dict[str, Any] = json.loads(rest.splitlines()[-1])
        return result


@contextmanager
def program(world: str, workers: int, where: str) -> Generator[Running]:
    command = [sys.executable, "-c", PROGRAM, world, str(workers), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            [address] = json.loads(process.stdout.readline())
            transport = httpx2.HTTPTransport(uds=address if where else None)
            base = "http://test" if where else f"http://{address[0]}:{address[1]}"
            with httpx2.Client(transport=transport, base_url=base, timeout=PATIENCE) as client:
                yield Running(process, client)
        finally:
            process.kill()


@worlds
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_program_does_the_same_in_each_world(world: str, workers: int, kind: str, tmp_path: Path) -> None:
    where = str(tmp_path / "socket") if kind == "unix" else ""
    with program(world, workers, where) as it:
        hello = it.client.get("/hello/there", params={"who": "é"})
        assert hello.json() == {"tail": "there", "who": "é"}
        assert hello.cookies["seen"] == "yes"
        assert "date" in hello.headers
        blob = bytes(range(256)) * 2000
        assert it.client.post("/echo", content=blob).content == blob
        missing = it.client.get("/missing")
        assert (missing.status_code, missing.text) == (404, "no such thing")
        assert it.client.post("/missing").status_code == 405
        with it.client.stream("GET", "/words") as stream:
            lines = stream.iter_lines()
            while "begins" not in next(lines):
                pass
            # Load from other connections while the stream is open; its own words come in between, whoever is asked.
            others = [threading.Thread(target=lambda: [it.client.get("/hello/x") for _ in range(20)]) for _ in range(4)]
            for other in others:
                other.start()
            assert it.client.post("/say", content="a word").status_code == 204
            while "a word" not in next(lines):
                pass
            for other in others:
                other.join(PATIENCE)
            it.process.send_signal(signal.SIGTERM)
            rest = list(lines)  # to the end: the stream is complete, with the farewell after alive()
        assert any("bye" in line for line in rest)
        out, _ = it.process.communicate(timeout=PATIENCE)
        result = json.loads(out.splitlines()[-1])
    assert it.process.returncode == 0
    assert result["reason"] == "SIGTERM"
    assert result["balanced"] == [True] * workers
    assert result["threads"] == ["MainThread"]
    assert (result["turns"] > 0) is (world != "trio")
    assert not (tmp_path / "socket").exists()


@pytest.mark.spec("SD-16")
@worlds
def test_the_third_signal_is_none_of_ours(world: str) -> None:
    """Three at once: whatever the handler from before makes of it, the process ends, long before its 600 s of grace."""
    with program(world, 1, "") as it, it.client.stream("GET", "/words") as stream:
        lines = stream.iter_lines()
        while "begins" not in next(lines):
            pass
        for _ in range(3):
            it.process.send_signal(signal.SIGTERM)
        it.process.wait(PATIENCE)
    assert it.process.returncode in (0, -signal.SIGTERM)
