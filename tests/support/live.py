"""A server on real sockets, and a peer that speaks to it in raw bytes. Everything here has a bound."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from stario_trio import NoopTracer, Stario

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from stario_trio import Handler, Server, Span

PATIENCE = 30
"""Seconds for a whole test; only a broken server takes as long."""


def app_of(*routes: tuple[str, Handler], tracer: Callable[[str], Span] | None = None) -> Stario:
    """An app that answers GET, HEAD and POST at each path."""
    app = Stario(tracer or NoopTracer())
    for path, handler in routes:
        for method in ("GET", "HEAD", "POST"):
            app.handle(method, path, handler)
    return app


@asynccontextmanager
async def live(*routes: tuple[str, Handler], **settings: Any) -> AsyncGenerator[Server]:
    """Serve on loopback around a block."""
    if "unix_socket" not in settings:
        settings.setdefault("port", 0)
    with trio.fail_after(PATIENCE):
        async with app_of(*routes).serving(**settings) as server:
            yield server


@dataclass
class Answer:
    """One response, read as RFC 9112 section 6 says."""

    status: int
    fields: dict[str, str]
    body: bytes = b""
    complete: bool = True
    """Whether the end of the body was there."""
    pieces: list[bytes] = field(default_factory=list[bytes])
    """The chunks of a chunked body."""


class Peer:
    """A client that sends and reads exactly what a test says."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._unread = bytearray()

    @property
    def sock(self) -> trio.socket.SocketType:
        return self.stream.socket

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def get(self, path: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> None:
        """Send one request without a body."""
        await self.send("\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *lines, "", ""]).encode())

    async def ask(self, path: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> Answer:
        """Send one request without a body, and read the answer to it."""
        await self.get(path, *lines, method=method, version=version)
        return await self.answer(head=method == "HEAD")

    async def _more(self) -> bool:
        data = await self.stream.receive_some(256 * 1024)
        self._unread += data
        return bool(data)

    async def until(self, marker: bytes) -> bytes:
        """What has come up to and with `marker`."""
        searched = 0
        while (at := self._unread.find(marker, searched)) < 0:
            searched = max(0, len(self._unread) - len(marker))
            assert await self._more(), f"the server ended before {marker!r}: {bytes(self._unread[-500:])!r}"
        return self._take(at + len(marker))

    def _take(self, size: int) -> bytes:
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    async def exactly(self, size: int) -> bytes:
        """The next bytes, fewer if the server ends before."""
        while len(self._unread) < size and await self._more():
            pass
        return self._take(size)

    async def rest(self) -> bytes:
        """Everything until the server ends its side."""
        while await self._more():
            pass
        return self._take(len(self._unread))

    async def ended(self) -> bool:
        """Wait for the end: whether nothing more came before it."""
        return await self.rest() == b""

    async def answer(self, *, head: bool = False) -> Answer:
        """Read one response; `head` if it answers a HEAD."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        fields: dict[str, str] = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            assert name == name.lower()
            assert name not in fields, f"{name} twice"
            fields[name] = value
        answer = Answer(int(status), fields)
        if head or answer.status in (204, 304):
            return answer
        if "content-length" in fields:
            assert "transfer-encoding" not in fields
            answer.body = await self.exactly(int(fields["content-length"]))
            answer.complete = len(answer.body) == int(fields["content-length"])
        elif fields.get("transfer-encoding") == "chunked":
            await self._chunks(answer)
        else:
            assert fields["connection"] == "close"
            answer.body = await self.rest()
        return answer

    async def _chunks(self, answer: Answer) -> None:
        while size := int((await self.until(b"\r\n"))[:-2], 16):
            answer.pieces.append(await self.exactly(size))
            assert await self.exactly(2) == b"\r\n"
        assert await self.exactly(2) == b"\r\n"
        answer.body = b"".join(answer.pieces)

    def finish(self) -> None:
        """Half-close: nothing more is sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the server sees a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@asynccontextmanager
async def peer(server: Server, *, receive_buffer: int | None = None) -> AsyncGenerator[Peer]:
    """Connect to where the server listens first. A small `receive_buffer` makes a slow peer quick to fill."""
    with trio.fail_after(PATIENCE):
        address = server.addresses[0]
        if isinstance(address, str):
            sock = trio.socket.socket(socket.AF_UNIX)
        else:
            sock = trio.socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        stream = trio.SocketStream(sock)
        try:
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await sock.connect(address)
            yield Peer(stream)
        finally:
            await trio.aclose_forcefully(stream)
