"""Several workers at the worst moment: crowded backlogs and floods at the door."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import Server
from stario_trio.server.sockets import SocketListener
from tests.attacks.test_stops import ASK, answered, completed
from tests.support.crew import WORKERS, one_each, who
from tests.support.live import PATIENCE, app_of, live

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from stario_trio import Context, Writer
    from stario_trio.server.transport import SocketTransport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts on the backlog of Linux")
on_both = pytest.mark.parametrize("kind", ["tcp", "unix"])


def where(kind: str, tmp_path: Path) -> dict[str, Any]:
    return {"unix_socket": str(tmp_path / "server.sock")} if kind == "unix" else {"port": 0}


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


ROUTES = (("/", hello), ("/who", who))


@on_both
@pytest.mark.spec("SD-02")
async def test_nobody_in_the_backlogs_of_all_workers_is_reset(kind: str, tmp_path: Path) -> None:
    """The stop finds every worker blocked, and a crowd behind each."""
    release, home = threading.Event(), trio.lowlevel.current_trio_token()
    blocked = trio.Semaphore(0)

    async def block(c: Context, w: Writer) -> None:
        home.run_sync_soon(blocked.release)
        assert release.wait(PATIENCE)
        w.text("hello")

    routes, settings = (*ROUTES, ("/block", block)), where(kind, tmp_path)
    async with live(*routes, workers=WORKERS, graceful_timeout=600, **settings) as server, one_each(server) as clients:
        try:
            for client in clients:
                await client.get("/block")
            for _ in clients:
                await blocked.acquire()
            crowd = completed(server.addresses[0], 60)
            assert len(crowd) == 60
            for each in crowd:
                each.send(ASK)
            server.stop()
            await trio.testing.wait_all_tasks_blocked()
        finally:
            release.set()
        assert [await answered(each) for each in crowd] == [True] * 60
    assert server.report.errors == []
    assert all(books.balanced for books in server.report.workers)


@on_both
@pytest.mark.spec("SD-02")
@pytest.mark.parametrize("again", range(5))
async def test_a_flood_at_the_door(kind: str, again: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For each connection that a worker takes in the stop, another one tries to get in, at whichever worker."""
    let_in: deque[socket.socket] = deque()
    flooding = threading.Event()
    real = SocketListener.accept

    def accept(self: SocketListener) -> SocketTransport:
        transport = real(self)
        if flooding.is_set():
            come(1)
        return transport

    def come(most: int) -> None:
        for client in completed(server.addresses[0], most):
            client.send(ASK)
            let_in.append(client)

    async def expect_answers() -> None:
        while let_in:
            assert await answered(let_in.popleft())

    monkeypatch.setattr(SocketListener, "accept", accept)
    server = Server(app_of(*ROUTES), workers=WORKERS, backlog=64, graceful_timeout=600, **where(kind, tmp_path))
    ended = trio.Event()

    async def run(task_status: trio.TaskStatus[Any]) -> None:
        await server.run(task_status=task_status)
        ended.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            flooding.set()
            come(40)
            assert len(let_in) >= 40
            server.stop()
            while not ended.is_set():  # noqa: ASYNC110  (nothing tells of a connection)
                await expect_answers()
                await trio.testing.wait_all_tasks_blocked(0.001)
        await expect_answers()
    assert server.report.errors == []
    assert all(books.balanced for books in server.report.workers)
