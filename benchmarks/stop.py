"""How long a stop takes, and what it does to the clients, side by side with other servers.

    python benchmarks/stop.py [--markdown] [--limit 15] [--only thread]

Each case starts a server process on the loopback interface, builds up some clients, sends SIGTERM and takes the time
until the process has exited. One that has not exited after the limit is killed, and "hangs". What became of each client
stands behind the time:

* complete: it has the whole response; "close" if the response says that the connection ends with it;
* cut: the response has begun and its end never came;
* closed: the connection ended without a byte of a response;
* reset: the same, with a connection reset instead of an end;
* refused: it could not connect any more.

"Cleaned up" is a cancelled handler that came to its end before the process did; "reported" is one of which the server
says that it did not end in time.

A server that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

GRACE = 2  # seconds, for every server that takes such a setting
CLEANUP = 1  # seconds; stario_trio's own second budget, for handlers that have been cancelled
THREAD = 6  # seconds in a thread: longer than grace and cleanup together
PENDING = bytes(10_000_000)
TICK = 0.1  # seconds between two events of a stream
PATIENCE = 30  # seconds for anything that is no stop; only a broken server takes as long


def say(*words: object) -> None:
    print(*words, flush=True)


# The servers. Each prints its port, and "started" when a handler that does not answer at once has begun.


def serve_stario_trio() -> None:
    import trio

    from stario_trio import Context, NoopTracer, Server, Stario, Writer

    async def hello(_c: Context, w: Writer) -> None:
        w.text("hello")

    async def events(_c: Context, w: Writer) -> None:
        async for _ in w.alive():
            w.write(b"data: tick\n\n")
            await trio.sleep(TICK)

    async def endless(_c: Context, w: Writer) -> None:
        while True:
            w.write(b"data: tick\n\n")
            await trio.sleep(TICK)

    async def slow(_c: Context, w: Writer) -> None:
        say("started")
        await trio.sleep(1)
        w.text("hello")

    async def reluctant(_c: Context, _w: Writer) -> None:
        say("started")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            say("cleaned up")

    async def thread(_c: Context, w: Writer) -> None:
        say("started")
        await trio.to_thread.run_sync(time.sleep, THREAD)
        w.text("hello")

    async def big(_c: Context, w: Writer) -> None:
        w.respond(PENDING, b"application/octet-stream")
        say("started")

    class Listening:
        def started(self, addresses: Any = None) -> None:
            say(addresses[0][1])

    async def main() -> None:
        app = Stario(NoopTracer())
        for handler in (hello, events, endless, slow, reluctant, thread, big):
            app.get(f"/{handler.__name__}", handler)
        server = Server(app, port=0, graceful_timeout=GRACE, cleanup_timeout=CLEANUP)
        await server.run(task_status=Listening())
        for left in server.report.abandoned:
            say("abandoned", left.route)

    trio.run(main)


class Library(Protocol):
    """What the application needs of asyncio or Trio."""

    async def sleep(self, seconds: float) -> None: ...

    async def in_thread(self, seconds: float) -> None: ...

    async def reluctant(self) -> None: ...


class Asgi:
    """The same handlers for the servers that speak ASGI, which has no word for `w.alive()`."""

    def __init__(self, library: Library) -> None:
        self.library = library

    async def __call__(self, scope: Any, _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        async def respond(body: bytes) -> None:
            fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": body})

        match scope["path"]:
            case "/events" | "/endless":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
                    await self.library.sleep(TICK)
            case "/slow":
                say("started")
                await self.library.sleep(1)
            case "/reluctant":
                say("started")
                await self.library.reluctant()
            case "/thread":
                say("started")
                await self.library.in_thread(THREAD)
            case "/big":
                say("started")
                await respond(PENDING)
                return
        await respond(b"hello")


def serve_uvicorn(**settings: Any) -> None:
    import asyncio

    import uvicorn

    class OnAsyncio:
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

        async def in_thread(self, seconds: float) -> None:
            await asyncio.to_thread(time.sleep, seconds)

        async def reluctant(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.5)  # noqa: ASYNC102  (asyncio has no shield with a timeout)
                say("cleaned up")

    application: Any = Asgi(OnAsyncio())
    config = uvicorn.Config(application, lifespan="off", log_level="critical", **settings)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    say(listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


def serve_uvicorn_with_limit() -> None:
    serve_uvicorn(timeout_graceful_shutdown=GRACE)


def serve_hypercorn() -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    class OnTrio:
        async def sleep(self, seconds: float) -> None:
            await trio.sleep(seconds)

        async def in_thread(self, seconds: float) -> None:
            await trio.to_thread.run_sync(time.sleep, seconds)

        async def reluctant(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)
                say("cleaned up")

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.errorlog = None
        config.graceful_timeout = GRACE
        stopped = trio.Event()
        # As its manual shows for a program that handles signals itself: every signal sets one event.
        token = trio.lowlevel.current_trio_token()
        signal.signal(signal.SIGTERM, lambda *_: token.run_sync_soon(stopped.set))
        say(listener.getsockname()[1])
        application: Any = Asgi(OnTrio())
        await serve(application, config, shutdown_trigger=stopped.wait)

    trio.run(main)


# name -> the module it needs, and what serves
SERVERS: dict[str, tuple[str, Callable[[], None]]] = {
    "stario_trio": ("stario_trio", serve_stario_trio),
    "uvicorn": ("uvicorn", serve_uvicorn),
    "uvicorn, limit 2 s": ("uvicorn", serve_uvicorn_with_limit),
    "hypercorn on trio": ("hypercorn", serve_hypercorn),
}


# The clients


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def became_of(received: bytes, error: OSError | None) -> str:
    """What a client got, in the words of the table."""
    head, separator, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    sizes = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
    if separator and (len(body) == sizes[0] if sizes else body.endswith(b"0\r\n\r\n")):
        return "complete, close" if b"connection: close" in lines else "complete"
    if received:
        return "cut"
    return "closed" if error is None else "reset"


class Client:
    """A connection with a thread that reads to its end, and then closes it."""

    def __init__(self, port: int, sends: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.sock.sendall(sends)
        self.received = bytearray()
        self._error: OSError | None = None
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with closing(self.sock):
            while not self._ended:
                data, error = b"", None
                try:
                    data = self.sock.recv(65536)
                except OSError as exc:
                    error = exc
                with self._news:
                    self.received += data
                    self._error = error
                    self._ended = not data
                    self._news.notify_all()

    def gets(self, marker: bytes) -> None:
        """Wait for these bytes."""
        with self._news:
            self._news.wait_for(lambda: marker in self.received or self._ended, PATIENCE)
        if marker not in self.received:
            raise RuntimeError(f"the server did not send {marker!r}: {bytes(self.received)!r}")

    def became(self) -> str:
        """Wait for the end. Returns what became of it."""
        self._reader.join(PATIENCE)
        return became_of(bytes(self.received), self._error)


def count(words: list[str]) -> str:
    """Equal words as a number: `2 cut, 1 complete`; a single one as it is."""
    return words[0] if len(words) == 1 else "; ".join(f"{number} {word}" for word, number in Counter(words).items())


# The cases: each builds up its clients, yields for the stop, and returns what became of them.


def nobody(_server: Running) -> Generator[None, None, str]:
    yield
    return ""


def idle(server: Running) -> Generator[None, None, str]:
    clients = [Client(server.port, request("/hello")) for _ in range(100)]
    for client in clients:
        client.gets(b"hello")
        client.received.clear()
    yield
    return count([client.became() for client in clients])


def stream(server: Running, path: str, number: int) -> Generator[None, None, str]:
    clients = [Client(server.port, request(path)) for _ in range(number)]
    for client in clients:
        client.gets(b"tick")
    yield
    return count([client.became() for client in clients])


def events(server: Running) -> Generator[None, None, str]:
    return stream(server, "/events", 20)


def endless(server: Running) -> Generator[None, None, str]:
    return stream(server, "/endless", 1)


def ask(server: Running, path: str) -> Generator[None, None, str]:
    client = Client(server.port, request(path))
    server.hears("started")
    yield
    return client.became()


def slow(server: Running) -> Generator[None, None, str]:
    return ask(server, "/slow")


def reluctant(server: Running) -> Generator[None, None, str]:
    return ask(server, "/reluctant")


def thread(server: Running) -> Generator[None, None, str]:
    return ask(server, "/thread")


def reads_nothing(server: Running) -> Generator[None, None, str]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # else the kernel reads for it
        client.connect(("127.0.0.1", server.port))
        client.sendall(request("/big"))
        server.hears("started")
        yield
    return ""


def half_a_head(server: Running) -> Generator[None, None, str]:
    client = Client(server.port, b"GET /hello HTTP/1.1\r\nHost:")
    # Accepted later and answered: so the first one has been accepted and read.
    other = Client(server.port, request("/hello"))
    other.gets(b"hello")
    yield
    return client.became()


def flood(server: Running) -> Generator[None, None, str]:
    """Four threads connect as fast as they can, 2,000 times together; the stop comes in the middle."""
    words: list[str] = []
    middle = threading.Event()

    def connect() -> None:
        waiting: list[socket.socket] = []
        for turn in range(500):
            if turn == 150:
                middle.set()
            try:
                client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            except OSError:
                words.append("refused")
                continue
            waiting.append(client)
            try:
                client.sendall(request("/hello"))
            except OSError:
                pass  # reading tells what it was
        for client in waiting:
            with client:
                words.append(read_one(client))

    threads = [threading.Thread(target=connect, daemon=True) for _ in range(4)]
    for each in threads:
        each.start()
    middle.wait(PATIENCE)
    yield
    for each in threads:
        each.join(PATIENCE)
    return count(sorted(word.removesuffix(", close") for word in words))


def read_one(client: socket.socket) -> str:
    """Read one short response, or to the end."""
    received = b""
    try:
        while data := client.recv(65536):
            received += data
            if received.endswith(b"hello"):
                break
    except OSError as exc:
        return became_of(received, exc)
    return became_of(received, None)


CASES: dict[str, tuple[str, Callable[[Running], Generator[None, None, str]], int]] = {
    # name -> what it is, what builds it up, how many SIGTERMs
    "nobody": ("no connection", nobody, 1),
    "idle": ("100 idle keep-alive connections", idle, 1),
    "events": ("20 event streams", events, 1),
    "endless": ("an endless stream that asks nobody", endless, 1),
    "twice": ("the same, and a second SIGTERM after 0.3 s", endless, 2),
    "slow": ("a request that needs 1 s more", slow, 1),
    "reluctant": ("a handler that takes 0.5 s after its cancellation", reluctant, 1),
    "thread": (f"a handler that waits for a thread for {THREAD} s", thread, 1),
    "big": ("a peer that does not read its 10 MB", reads_nothing, 1),
    "half": ("half a request head", half_a_head, 1),
    "flood": ("2,000 connections in the moment of the stop", flood, 1),
}


# Measuring


class Running:
    """A server process that listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the server has ended; start it alone to see why (--serve)")
        self.lines.append(line.strip())
        return self.lines[-1]

    def hears(self, line: str) -> None:
        while self._line() != line:
            pass

    def rest(self) -> str:
        """What an ended server has said last."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def stop(self, signals: int, limit: float) -> float | None:
        """Send SIGTERM and wait for the exit. Returns the seconds, or None for one that had to be killed."""
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            self.process.kill()

        timers = [threading.Timer(limit, kill)]
        timers += [threading.Timer(0.3 * number, self.process.terminate) for number in range(1, signals)]
        start = time.perf_counter()
        self.process.terminate()
        for timer in timers:
            timer.start()
        self.process.wait()  # with a timeout, it would look only twenty times a second
        took = time.perf_counter() - start
        for timer in timers:
            timer.cancel()
        return None if killed.is_set() else took


@contextmanager
def running(name: str) -> Iterator[Running]:
    command = [sys.executable, __file__, "--serve", name]
    # Their words about cancelled handlers are no part of the table.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            server = Running(process)
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
                client.sendall(request("/hello"))
                if read_one(client) != "complete":  # now it serves, and has installed what catches signals
                    raise RuntimeError("the server does not answer")
            yield server
        finally:
            process.kill()


def measure(name: str, case: str, limit: float) -> str:
    """One cell of the table."""
    _, build, signals = CASES[case]
    with running(name) as server:
        script = build(server)
        next(script)
        took = server.stop(signals, limit)
        became = ""
        try:
            next(script)
        except StopIteration as end:
            became = end.value
        if took is None:
            return "hangs"
        said = server.rest()
        became += "; cleaned up" * ("cleaned up" in said) + "; reported" * ("abandoned" in said)
        return f"{took:.2f} s" + (f" ({became})" if became else "")


def as_text(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_markdown(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)


def versions() -> str:
    names = ["trio", "h11", *dict.fromkeys(module for module, _ in SERVERS.values())]
    found = [f"{name} {importlib.metadata.version(name)}" for name in names if importlib.util.find_spec(name)]
    return ", ".join([f"Python {platform.python_version()}", *found, platform.system()])


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a stop takes, side by side with other servers.")
    parser.add_argument("--limit", type=float, default=15, help="seconds after which a server hangs, and is killed")
    parser.add_argument("--only", choices=CASES, action="append", help="this case; may be given several times")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve][1]()
        return

    names: list[str] = []
    for name, (module, _) in SERVERS.items():
        if importlib.util.find_spec(module):
            names.append(name)
        else:
            print(f"left out: {name} ({module} is not installed)", file=sys.stderr)
    rows = [["SIGTERM comes with", *names]]
    for case in options.only or CASES:
        rows.append([CASES[case][0]])
        for name in names:
            rows[-1].append(measure(name, case, options.limit))
            print(f"{name}, {rows[-1][0]}: {rows[-1][-1]}", file=sys.stderr, flush=True)
    print(as_markdown(rows) if options.markdown else as_text(rows))
    print(f"\n{versions()}")


if __name__ == "__main__":
    main()
