"""CPU time per request of a short text response, side by side with other servers.

    python benchmarks/hello.py [--rounds 5] [--requests 10000] [--connections 64]

Each server is a process of its own on the loopback interface. A round measures every server once, one after
the other, so that a slow minute of the machine hits all of them; the median of the rounds is what counts. The
measure is the server's own CPU time, user and system: unlike requests per second it does not depend on the
client. A server that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stario_trio import Stario

BODY = b"Hello, world!"
REQUEST = b"GET %b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"
WARM_UP = 2_000  # requests before a measurement: imports made late and caches that fill


def announce(port: int) -> None:
    print(port, flush=True)


def cpu_ns() -> bytes:
    return b"%d" % time.process_time_ns()


# The servers. Each answers `/` with BODY and `/cpu` with its CPU time so far, and prints its port.


def stario_app() -> Stario:
    from stario_trio import Context, NoopTracer, Stario, Writer

    async def hello(_c: Context, w: Writer) -> None:
        w.respond(BODY, b"text/plain; charset=utf-8")

    async def cpu(_c: Context, w: Writer) -> None:
        w.respond(cpu_ns(), b"text/plain; charset=utf-8")

    app = Stario(NoopTracer())
    app.get("/", hello)
    app.get("/cpu", cpu)
    return app


def serve_stario_trio() -> None:
    import trio

    async def main() -> None:
        app = stario_app()
        async with trio.open_nursery() as nursery:
            [(_host, port)] = await nursery.start(app.serve, "127.0.0.1", 0)
            announce(port)

    trio.run(main)


async def asgi(scope: Any, _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """The same application for the servers that speak ASGI."""
    body = cpu_ns() if scope["path"] == "/cpu" else BODY
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve_uvicorn() -> None:
    import uvicorn

    config = uvicorn.Config(asgi, http="h11", loop="asyncio", lifespan="off", log_level="error", access_log=False)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    announce(listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


def serve_hypercorn() -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.errorlog = None
    announce(listener.getsockname()[1])
    application: Any = asgi  # hypercorn names each kind of message
    trio.run(serve, application, config)


# name -> the module it needs, and what serves
SERVERS: dict[str, tuple[str, Callable[[], None]]] = {
    "stario_trio": ("stario_trio", serve_stario_trio),
    "uvicorn with h11": ("uvicorn", serve_uvicorn),
    "hypercorn on trio": ("hypercorn", serve_hypercorn),
}


# The client


class Client:
    """Keep-alive connections that all have one request under way at a time."""

    def __init__(self, port: int, connections: int) -> None:
        self._close = ExitStack()
        self.sockets = [
            self._close.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(connections)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def get(self, path: bytes) -> tuple[int, bytes]:
        """One request: the size of the whole response, and its body."""
        self.sockets[0].sendall(REQUEST % path)
        received = b""
        while True:
            received += self._receive(self.sockets[0])
            head, separator, body = received.partition(b"\r\n\r\n")
            if separator:
                [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if len(body) == int(length.partition(b":")[2]):
                    return len(received), body

    def load(self, requests: int) -> int:
        """Ask for `/` about that many times; returns how often exactly."""
        size, body = self.get(b"/")
        if body != BODY:
            raise RuntimeError(f"unexpected answer: {body!r}")
        request = REQUEST % b"/"
        turns = requests // len(self.sockets)
        for _ in range(turns):
            for connection in self.sockets:
                connection.sendall(request)
            for connection in self.sockets:
                missing = size
                while missing:
                    missing -= len(self._receive(connection))
        return turns * len(self.sockets) + 1

    @staticmethod
    def _receive(connection: socket.socket) -> bytes:
        received = connection.recv(65536)
        if not received:
            raise RuntimeError("the server closed a connection that it should keep")
        return received


def measure(name: str, *, requests: int, connections: int) -> float:
    """Microseconds of CPU time per request."""
    command = [sys.executable, __file__, "--serve", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            # Where there are two processors, the client does not take turns with the server.
            if hasattr(os, "sched_setaffinity") and len(processors := sorted(os.sched_getaffinity(0))) > 1:
                os.sched_setaffinity(server.pid, {processors[-1]})
            assert server.stdout is not None
            port = int(server.stdout.readline())
            with Client(port, connections) as client:
                client.load(WARM_UP)
                _size, before = client.get(b"/cpu")
                answered = client.load(requests)
                _size, after = client.get(b"/cpu")
            return (int(after) - int(before)) / answered / 1000
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time per request, side by side with other servers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve][1]()
        return

    names = [name for name, (module, _) in SERVERS.items() if importlib.util.find_spec(module)]
    measured: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(1, options.rounds + 1):
        for name in names:
            cost = measure(name, requests=options.requests, connections=options.connections)
            measured[name].append(cost)
            print(f"round {round_number}  {name:20} {cost:7.1f} us/request", flush=True)
    print()
    for name, costs in measured.items():
        median, spread = statistics.median(costs), f"{min(costs):.1f} to {max(costs):.1f}"
        print(f"median   {name:20} {median:7.1f} us/request  ({spread})")


if __name__ == "__main__":
    main()
