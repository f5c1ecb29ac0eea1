"""Stops at the worst moment: haste in the last turn, a full backlog, a start that hangs."""

from __future__ import annotations

import select
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import Limits, Server
from stario_trio.server.sockets import SocketListener
from tests.support.live import PATIENCE, app_of, live, peer

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio import Context, Writer
    from stario_trio.server.transport import SocketTransport

ASK = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="counts on the backlog of Linux")


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


@pytest.mark.spec("SD-10", "SD-16")
async def test_haste_in_the_turn_in_which_the_last_connection_ends() -> None:
    """Two wake-ups in one turn come in either order, so that both orders are met in this many rounds."""

    async def last(c: Context, w: Writer) -> None:
        w.write(b"first")
        async with w.alive():
            await trio.sleep_forever()
        while not w.disconnected:  # noqa: ASYNC110  (a reset wakes nobody outside of alive)
            await trio.lowlevel.checkpoint()
        server.stop(now=True)  # comes with the next turn, as does the end of this connection

    for _ in range(20):
        with trio.fail_after(PATIENCE):
            async with live(("/", last), graceful_timeout=600) as server, peer(server) as client:
                await client.get("/")
                await client.until(b"first\r\n")
                server.stop()
                client.reset()
        assert server.report.workers[0].balanced


def completed(address: Any, most: int) -> list[socket.socket]:
    """Connect until the kernel lets nobody in any more, or `most` are in."""
    clients: list[socket.socket] = []
    while len(clients) < most:
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        client.setblocking(False)
        error = client.connect_ex(address)
        waiting = select.poll()
        waiting.register(client, select.POLLOUT)
        # Loopback completes a handshake within the call; whoever is not let in now never is.
        if (isinstance(address, str) and error) or not waiting.poll(0):
            client.close()
            break
        clients.append(client)
    return clients


async def answered(client: socket.socket) -> bool:
    """Whether the server answers until it closes; a reset is none."""
    with trio.fail_after(PATIENCE):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
        try:
            return (b"".join([piece async for piece in stream])).endswith(b"hello")
        except trio.BrokenResourceError:
            return False
        finally:
            await trio.aclose_forcefully(stream)


@needs_linux
@pytest.mark.spec("SD-02")
@pytest.mark.parametrize("unix", [False, True])
async def test_nobody_in_a_full_backlog_is_reset(unix: bool, tmp_path: Path) -> None:
    async def slow(c: Context, w: Writer) -> None:
        w.write(b"first")
        async with w.alive():
            await trio.sleep_forever()

    settings: dict[str, Any] = {"backlog": 5, "limits": Limits(connections=1), "graceful_timeout": 600}
    if unix:
        settings["unix_socket"] = str(tmp_path / "server.sock")
    async with live(("/", hello), ("/slow", slow), **settings) as server, peer(server) as first:
        await first.get("/slow")
        await first.until(b"first\r\n")
        clients = completed(server.addresses[0], 20)
        assert len(clients) == 6  # one more than asked for: Linux
        for client in clients:
            client.send(ASK)
        server.stop()
        assert [await answered(client) for client in clients] == [True] * 6


@needs_linux
@pytest.mark.spec("SD-02")
async def test_a_flood_at_the_door_of_a_unix_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For each connection that is taken in the stop, another one tries to get in."""
    path = str(tmp_path / "server.sock")
    let_in: list[socket.socket] = []
    real = SocketListener.accept
    stopping = False

    def accept(self: SocketListener) -> SocketTransport:
        transport = real(self)
        if stopping:
            let_in.extend(completed(path, 1))
        return transport

    monkeypatch.setattr(SocketListener, "accept", accept)

    async def stop(c: Context, w: Writer) -> None:
        nonlocal stopping
        let_in.extend(completed(path, 100))
        assert let_in
        stopping = True
        server.stop()
        w.text("hello")

    async with live(("/", hello), ("/stop", stop), unix_socket=path, backlog=8, graceful_timeout=600) as server:
        async with peer(server) as client:
            assert (await client.ask("/stop")).body == b"hello"
        with trio.fail_after(PATIENCE):
            for each in let_in:
                try:
                    each.send(ASK)
                except BrokenPipeError:
                    each.close()
                    pytest.fail("let in, and closed unserved")
            assert [await answered(each) for each in let_in] == [True] * len(let_in)


@pytest.mark.spec("ST-05", "SD-15")
async def test_a_stop_while_a_name_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = trio.Event()

    async def hang(*args: object, **more: object) -> None:
        asked.set()
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", hang)
    server = Server(app_of(("/", hello)), host="nowhere.test", graceful_timeout=0, cleanup_timeout=0)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            await asked.wait()
            server.stop()
    assert server.addresses == []
    assert server.report.reason == "stop()"


@pytest.mark.spec("SK-05", "SD-20")
async def test_a_program_that_changes_its_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with live(("/", hello), unix_socket="server.sock") as server:
        assert (tmp_path / "server.sock").is_socket()
        async with peer(server) as client:
            assert (await client.ask()).body == b"hello"
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert not (tmp_path / "server.sock").exists()
