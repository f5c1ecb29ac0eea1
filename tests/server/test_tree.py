"""The picture of the running tree."""

from __future__ import annotations

import pytest
import trio

from stario_trio import Context, NoopTracer, Stario, Writer
from stario_trio.server.tree import task_tree


async def test_the_tree_is_the_one_of_the_architecture() -> None:
    inside = trio.Event()
    pictures: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="part of a handler")
            await trio.testing.wait_all_tasks_blocked()
            pictures.append(task_tree())
            inside.set()
            nursery.cancel_scope.cancel()
        w.empty()

    app = Stario(NoopTracer())
    app.get("/", handler)
    async with app.serving(port=0) as server:
        [address] = server.addresses
        assert not isinstance(address, str)
        client = await trio.open_tcp_stream(*address)
        await client.send_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        await inside.wait()
        await client.aclose()
    (picture,) = pictures
    order = [
        "[Supervisor._supervise]",
        "date",
        "[run_worker]",
        "peer watch",
        "timers",
        "[Worker.run]",
        "close_down",
        "[Worker._serve_connections]",
        "accept",
        "Connection.run",
        "part of a handler",
    ]
    places = [picture.index(name) for name in order]
    assert places == sorted(places), picture


async def test_a_tree_may_begin_anywhere() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="leaf")
        await trio.testing.wait_all_tasks_blocked()
        (leaf,) = nursery.child_tasks
        assert task_tree(leaf) == "leaf"
        here = task_tree(trio.lowlevel.current_task())
        assert here.splitlines()[-1].endswith("├─ leaf")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("workers", [1, 3])
async def test_the_tree_of_a_server_shows_every_worker(workers: int) -> None:
    with trio.fail_after(30):
        async with Stario(NoopTracer()).serving(port=0, workers=workers) as server:
            picture = await server.tree()
            while picture.count("accept") < workers:  # a thread that has just begun has no tree yet
                picture = await server.tree()
    assert picture.count("[Worker._serve_connections]") == workers
    assert picture.count("close_down") == workers
    for number in range(workers) if workers > 1 else ():
        assert f"\nstario-worker-{number}\n" in picture
