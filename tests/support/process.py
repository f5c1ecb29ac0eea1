"""Programs in processes of their own: started, listened to, and never left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.support.live import PATIENCE, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

VICTIM = Path(__file__).with_name("victim.py")


class Program:
    """A running `victim.py`."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = bytearray()
        self.port = 0
        self.peers: list[Peer] = []

    async def _more(self) -> bool:
        assert self.process.stdout is not None
        data = await self.process.stdout.receive_some()
        self.output += data
        return bool(data)

    async def says(self, line: str) -> str:
        """Wait until it prints a line that begins so. Returns the rest of the line."""
        start = f"{line}".encode()
        while True:
            for printed in self.output.splitlines(keepends=True):
                if printed.startswith(start) and printed.endswith(b"\n"):
                    return printed[len(start) :].decode().strip()
            assert await self._more(), f"it ended before it said {line!r}:\n{self.output.decode()}"

    async def ends(self) -> int:
        """Wait for its end. Returns the exit code, or minus the signal it died of."""
        while await self._more():
            pass
        return await self.process.wait()

    async def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(await self.says("report "))
        return report

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def connect(self, *, receive_buffer: int | None = None) -> Peer:
        """Connect. What is left open is closed with the program. See `live.peer` for `receive_buffer`."""
        sock = trio.socket.socket()
        peer = Peer(trio.SocketStream(sock))
        self.peers.append(peer)
        if receive_buffer is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        return peer

    async def get(self, path: str) -> Peer:
        """Connect and ask. The caller reads, or does not."""
        peer = await self.connect()
        await peer.get(path)
        return peer


@asynccontextmanager
async def program(*args: str, **popen: Any) -> AsyncGenerator[Program]:
    """Start `victim.py`, wait until it listens, and kill it should it be left."""
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(
            [sys.executable, str(VICTIM), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **popen
        )
        it = Program(process)
        try:
            it.port = int(await it.says("listening"))
            yield it
        finally:
            for peer in it.peers:
                await trio.aclose_forcefully(peer.stream)
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await process.wait()
            assert process.stdout is not None
            await trio.aclose_forcefully(process.stdout)
