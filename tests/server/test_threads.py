"""Workers in threads: real threads and real sockets. What counts is the order of things, never their times."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import stat
import sys
import threading
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import NoopTracer, Relay, Server, Span, StarioError
from stario_trio.server import signals, sockets
from stario_trio.server.date import Date
from stario_trio.server.listener import accept_loop
from stario_trio.server.peerwatch import peer_watch
from stario_trio.server.phases import Phase
from stario_trio.server.sockets import SocketListener, UnixFile
from stario_trio.server.threads import FromThread, TrioThread, WorkerThread
from stario_trio.server.worker import Worker
from stario_trio.telemetry.failures import unfold
from stario_trio.testing import RecordingTracer as Recorder
from tests.support.crew import (
    NAMES,
    WORKERS,
    Log,
    connect,
    delay_all_words,
    descriptors,
    here,
    join_threads,
    one_each,
    signal_handlers,
    who,
)
from tests.support.crew import threads as worker_threads
from tests.support.live import PATIENCE, app_of, live, peer
from tests.support.stage import request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from stario_trio import Context, Writer
    from stario_trio.server.report import Abandoned
    from tests.support.live import Peer

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can shut the door of a Unix socket")
on_both = pytest.mark.parametrize("kind", ["tcp", "unix"])


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    assert worker_threads() == []


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What blocked handlers wait for; set at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()
    join_threads()


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    """The clock of the supervisor's run, which can be set forward; the workers have real ones."""
    mock_clock.rate = 1.0
    return mock_clock


def where(kind: str, tmp_path: Path) -> dict[str, Any]:
    """The address of a server, as settings."""
    return {"unix_socket": str(tmp_path / "server.sock")} if kind == "unix" else {"port": 0}


async def only_left(*names: str) -> None:
    """Wait until no other worker has a thread."""
    while worker_threads() != list(names):  # noqa: ASYNC110  (nothing tells)
        await trio.testing.wait_all_tasks_blocked(0.001)


async def streaming(c: Context, w: Writer) -> None:
    """Ends with the drain."""
    w.write(b"started")
    async with w.alive():
        await trio.sleep_forever()
    w.end(b"bye")


async def stuck(c: Context, w: Writer) -> None:
    """Ends when it is cancelled."""
    w.write(b"started")
    await trio.sleep_forever()


async def die(c: Context, w: Writer) -> None:
    raise SystemExit(7)


ROUTES = (("/who", who), ("/streaming", streaming), ("/stuck", stuck), ("/die", die))


class Blocked:
    """A handler that waits in synchronous code."""

    def __init__(self, log: Log, release: threading.Event) -> None:
        self.log = log
        self.release = release

    async def __call__(self, c: Context, w: Writer) -> None:
        self.log(f"{here()} blocks")
        assert self.release.wait(PATIENCE)
        self.log(f"{here()} goes on")
        w.text("late")


class Stubborn:
    """A handler that no cancel ends; the test lets it go."""

    def __init__(self) -> None:
        self.log: Log | None = None
        self.waiting: list[tuple[trio.lowlevel.TrioToken, trio.Event]] = []

    async def __call__(self, c: Context, w: Writer) -> None:
        let_go = trio.Event()
        self.waiting.append((trio.lowlevel.current_trio_token(), let_go))
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            assert self.log is not None
            self.log(f"{here()} is stubborn")
            await let_go.wait()

    def let_go(self) -> None:
        for token, let_go in self.waiting:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(let_go.set)
        join_threads()


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    handler = Stubborn()
    yield handler
    handler.let_go()


# Start


@on_both
@pytest.mark.spec("ST-01", "ST-04", "SK-01", "SK-03")
async def test_n_named_threads_serve_one_address(kind: str, tmp_path: Path) -> None:
    async with live(*ROUTES, workers=WORKERS, **where(kind, tmp_path)) as server:
        assert len(server.addresses) == 1
        async with one_each(server):
            assert worker_threads() == NAMES
    assert [books.id for books in server.report.workers] == [0, 1, 2]
    assert all(books.balanced for books in server.report.workers)


def note_start(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log what is bound and who accepts."""
    bind, accept = sockets._bind_tcp, SocketListener.accept

    async def noted_bind(host: str, port: int, backlog: int, *, share: bool) -> list[SocketListener]:
        bound = await bind(host, port, backlog, share=share)
        log("bound")
        return bound

    def noted_accept(self: SocketListener) -> Any:
        log("accept")
        return accept(self)

    monkeypatch.setattr(sockets, "_bind_tcp", noted_bind)
    monkeypatch.setattr(SocketListener, "accept", noted_accept)


@pytest.mark.spec("ST-01", "ST-03")
async def test_nobody_accepts_before_all_have_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits at the first address while the second is long in coming."""
    log = Log()
    note_start(log, monkeypatch)
    resolve = trio.socket.getaddrinfo
    lookups = 0
    go_on = trio.Event()

    async def slow(host: object, port: int, **more: Any) -> Any:
        nonlocal lookups
        lookups += 1
        if lookups == 2:
            log(f"port {port}")
            await go_on.wait()
        return await resolve("127.0.0.1", port, **more)

    monkeypatch.setattr(trio.socket, "getaddrinfo", slow)
    server = Server(app_of(*ROUTES), port=0, workers=WORKERS)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            while lookups != 2:  # noqa: ASYNC110  (nothing tells)
                await trio.testing.wait_all_tasks_blocked()
            [port] = [int(line.split()[1]) for line in log.lines if line.startswith("port")]
            early = await trio.open_tcp_stream("127.0.0.1", port)
            await early.send_all(request("/who"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert worker_threads() == []
            go_on.set()
            assert b"stario-worker-0" in await early.receive_some()
            await early.aclose()
            server.stop()
    assert log.lines[:5] == ["bound", f"port {port}", "bound", "bound", "accept"]


@pytest.mark.upstream_bug(12)
@pytest.mark.spec("ST-03")
async def test_a_worker_that_needs_3_s_to_bind(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = 0

    async def slow(_host: object, port: int, **_: Any) -> Any:
        nonlocal lookups
        lookups += 1
        if lookups == 2:
            await trio.sleep(3)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", slow)
    start = trio.current_time()
    server = Server(app_of(*ROUTES), port=0, workers=WORKERS)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        assert trio.current_time() == start + 3
        autojump_clock.autojump_threshold = float("inf")  # the threads have clocks of their own
        autojump_clock.rate = 1.0
        async with one_each(server):
            server.stop()
    assert server.report.left_behind == []


@pytest.mark.spec("ST-04", "SK-01")
async def test_one_real_port_for_all() -> None:
    async with live(*ROUTES, workers=WORKERS) as server:
        [(host, port)] = server.addresses
        assert (host, port != 0) == ("127.0.0.1", True)
        async with one_each(server):
            pass


@pytest.mark.spec("SK-01")
async def test_every_worker_has_a_socket_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    accept = SocketListener.accept

    def spy(self: SocketListener) -> Any:
        shared = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        seen.append((here(), self._sock.fileno(), shared))
        return accept(self)

    monkeypatch.setattr(SocketListener, "accept", spy)
    async with live(*ROUTES, workers=WORKERS) as server, one_each(server):
        assert sorted({name for name, _, _ in seen}) == NAMES
        assert len({fd for _, fd, _ in seen}) == WORKERS
        assert {shared for _, _, shared in seen} == {1}


@pytest.mark.spec("SK-03", "SD-01")
async def test_who_takes_from_a_shared_socket_leaves_some_to_the_others(
    release: threading.Event, tmp_path: Path
) -> None:
    """Three blocked workers and a crowd at their one door; then one worker goes on, and is blocked again at once."""
    log = Log()
    first, rest = threading.Event(), threading.Event()

    async def block(c: Context, w: Writer) -> None:
        log(f"{here()} blocks")
        assert (first if here() == NAMES[0] else rest).wait(PATIENCE)
        w.text("")

    async def block_again(c: Context, w: Writer) -> None:
        log(f"{here()} again")
        assert release.wait(PATIENCE) if here() == NAMES[0] else True
        w.text(here())

    routes = (*ROUTES, ("/block", block), ("/again", block_again))
    settings = where("unix", tmp_path)
    async with live(*routes, workers=WORKERS, **settings) as server, one_each(server) as clients:
        crowd: list[Peer] = []
        try:
            for client in clients:
                await client.get("/block")
            await log.until(*(f"{name} blocks" for name in NAMES))
            for _ in range(30):
                crowd.append(await connect(server))
                await crowd[-1].get("/again")
            first.set()
            await log.until(f"{NAMES[0]} again")
            rest.set()
            while len(log.lines) < WORKERS + 25:  # it may have taken a few before it began to answer the first
                await log.more()
        finally:
            first.set()
            rest.set()
            release.set()
            for client in crowd:
                client.sock.close()


@pytest.mark.spec("SK-01")
async def test_connections_are_spread() -> None:
    """Beside 30 open connections there is no worker without one."""
    async with (
        live(*ROUTES, workers=WORKERS) as server,
        one_each(server),
        trio.open_nursery() as nursery,
    ):
        names: list[str] = []

        async def client() -> None:
            async with peer(server) as it:
                names.append((await it.ask("/who")).body.decode())
                await trio.sleep_forever()

        for _ in range(30 * WORKERS):
            nursery.start_soon(client)
        while len(names) < 30 * WORKERS:  # noqa: ASYNC110  (nothing tells)
            await trio.testing.wait_all_tasks_blocked(0.001)
        nursery.cancel_scope.cancel()
        assert sorted(set(names)) == NAMES


@pytest.mark.upstream_bug(18)
@pytest.mark.spec("SK-03", "SK-05")
async def test_one_unix_socket_is_made_once_and_removed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tmp_path / "server.sock")
    log = Log()
    bind, unlink, listen = socket.socket.bind, os.unlink, socket.socket.listen

    class Spy(socket.socket):
        def bind(self, address: Any, /) -> None:
            log("bind")
            bind(self, address)

        def listen(self, backlog: int = 0, /) -> None:
            log(f"listen {stat.S_IMODE(os.stat(path).st_mode):o}")
            listen(self, backlog)

    def noted_unlink(target: str) -> None:
        log("unlink")
        unlink(target)

    monkeypatch.setattr(socket, "socket", Spy)
    monkeypatch.setattr(os, "unlink", noted_unlink)
    async with live(*ROUTES, workers=WORKERS, unix_socket=path) as server:
        assert server.addresses == [path]
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        async with one_each(server):
            assert os.path.lexists(path)
    assert log.lines == ["bind", "listen 666", "unlink"]


@pytest.mark.spec("SK-05")
def test_two_threads_remove_a_file_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between the look and the removal of the second one, the file may have become another server's."""
    path = str(tmp_path / "server.sock")
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as other:
        sock.bind(path)
        file = UnixFile(path)
        unlink = os.unlink

        def slow(target: str) -> None:
            monkeypatch.setattr(os, "unlink", unlink)
            file.remove()  # another worker, at the worst moment
            unlink(target)
            other.bind(path)

        monkeypatch.setattr(os, "unlink", slow)
        file.remove()
        file.remove()
        assert os.path.lexists(path)


def fail_to_bind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[BaseException]:
    bind = sockets._bind_tcp

    async def second_fails(host: str, port: int, *args: Any, **more: Any) -> Any:
        if port:
            raise OSError(errno.EADDRINUSE, "cannot listen: the second one")
        return await bind(host, port, *args, **more)

    monkeypatch.setattr(sockets, "_bind_tcp", second_fails)
    return OSError


def fail_to_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[BaseException]:
    copies = 0
    dup = socket.socket.dup

    def second_fails(self: socket.socket) -> socket.socket:
        nonlocal copies
        copies += 1
        if copies == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return dup(self)

    monkeypatch.setattr(socket.socket, "dup", second_fails)
    return OSError


def fail_to_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[BaseException]:
    made = 0

    def second_fails() -> Any:
        nonlocal made
        made += 1
        if made == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return peer_watch()

    monkeypatch.setattr("stario_trio.server.worker.peer_watch", second_fails)
    return OSError


def find_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[BaseException]:
    (tmp_path / "server.sock").mkdir()
    return StarioError


def find_no_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[BaseException]:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "chmod", fail)
    return PermissionError


@pytest.mark.upstream_bug(11)
@needs_proc
@pytest.mark.spec("ST-02")
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("tcp", fail_to_bind),
        ("tcp", fail_to_watch),
        ("unix", fail_to_copy),
        ("unix", fail_to_watch),
        ("unix", find_a_directory),
        ("unix", find_no_permission),
    ],
)
async def test_a_failing_start_is_its_own_error_and_leaves_nothing(
    kind: str,
    fault: Callable[[pytest.MonkeyPatch, Path], type[BaseException]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    error = fault(monkeypatch, tmp_path)
    there = os.listdir(tmp_path)
    before, open_before = signal_handlers(), descriptors()
    tracer = Recorder()
    server = Server(app_of(tracer=tracer), workers=WORKERS, **where(kind, tmp_path))
    with trio.fail_after(PATIENCE), pytest.raises(error) as info:
        await server.run()
    assert type(info.value) is error
    assert worker_threads() == []
    assert signal_handlers() == before
    assert os.listdir(tmp_path) == there
    [span] = tracer.spans
    assert (span.name, span.failed, span.finished) == ("server.startup", True, True)
    assert server.report.reason == repr(info.value)
    del info
    assert descriptors() == open_before


@pytest.mark.spec("ST-02", "SK-01")
async def test_a_port_that_somebody_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        server = Server(app_of(), port=busy.getsockname()[1], workers=WORKERS)
        with pytest.raises(OSError, match="cannot listen"):
            await server.run()


@needs_proc
@pytest.mark.spec("ST-02", "SD-21")
@on_both
@pytest.mark.parametrize("number", range(WORKERS))
async def test_a_thread_that_does_not_start(
    kind: str, number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The system has no room for another thread. The other workers stop in order."""
    start = threading.Thread.start

    def fail(self: threading.Thread) -> None:
        if self.name == NAMES[number]:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", fail)
    before, open_before = signal_handlers(), descriptors()
    tracer = Recorder()
    server = Server(app_of(*ROUTES, tracer=tracer), workers=WORKERS, **where(kind, tmp_path))
    with trio.fail_after(PATIENCE), pytest.raises(RuntimeError, match="can't start new thread") as info:
        await server.run()
    assert worker_threads() == []
    assert signal_handlers() == before
    assert os.listdir(tmp_path) == []
    assert "can't start" in server.report.reason
    assert server.report.left_behind == []
    assert all(span.finished for span in tracer.spans)
    del info
    assert descriptors() == open_before


@needs_proc
@pytest.mark.spec("ST-02", "ST-04")
async def test_a_caller_who_fails_when_told_of_the_addresses(tmp_path: Path) -> None:
    class Listening:
        def started(self, addresses: Any = None) -> None:
            raise BrokenPipeError

    open_before = descriptors()
    with pytest.raises(BrokenPipeError):
        await Server(app_of(), workers=WORKERS, **where("unix", tmp_path)).run(task_status=Listening())
    assert os.listdir(tmp_path) == []
    assert descriptors() == open_before


class Gates:
    """Thread starts that wait for the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gates = {name: threading.Event() for name in NAMES}
        run = TrioThread._run

        def late(thread: TrioThread) -> None:
            assert self.gates[thread.name].wait(PATIENCE)
            run(thread)

        monkeypatch.setattr(TrioThread, "_run", late)

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[NAMES[number]].set()


@pytest.mark.spec("ST-01", "ST-03")
@pytest.mark.parametrize("first", range(WORKERS))
async def test_threads_that_start_late(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that run serve; nobody is lost who has connected to one that does not run yet."""
    gates = Gates(monkeypatch)
    async with live(*ROUTES, workers=WORKERS) as server, trio.open_nursery() as nursery:
        names: list[str] = []

        async def client() -> None:
            async with peer(server) as it:
                names.append((await it.ask("/who")).body.decode())

        for _ in range(30):
            nursery.start_soon(client)
        gates.open(first)
        while not names:  # noqa: ASYNC110  (nothing tells)
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert set(names) == {NAMES[first]}
        gates.open(*range(WORKERS))
    assert len(names) == 30


@pytest.mark.spec("ST-05")
@pytest.mark.parametrize("now", [False, True])
@on_both
async def test_a_stop_before_the_start(now: bool, kind: str, tmp_path: Path) -> None:
    server = Server(app_of(*ROUTES), workers=WORKERS, **where(kind, tmp_path))
    server.stop(now=now)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            assert await nursery.start(server.run) == []
    assert (server.report.reason, server.report.urgent, server.report.workers) == ("stop()", now, [])
    assert os.listdir(tmp_path) == []


@needs_proc
@pytest.mark.spec("ST-05")
@pytest.mark.parametrize("lookup", [1, 2, 3])
async def test_a_stop_while_the_nth_worker_binds(lookup: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = trio.socket.getaddrinfo
    lookups = 0

    async def slow(*args: Any, **more: Any) -> Any:
        nonlocal lookups
        lookups += 1
        if lookups == lookup:
            server.stop()
            await trio.sleep_forever()
        return await resolve(*args, **more)

    open_before = descriptors()
    tracer = Recorder()
    monkeypatch.setattr(trio.socket, "getaddrinfo", slow)
    server = Server(app_of(*ROUTES, tracer=tracer), port=0, workers=WORKERS)
    with trio.fail_after(PATIENCE):
        await server.run()
    assert server.addresses == []
    assert tracer.named("server.startup").ok
    assert descriptors() == open_before


@pytest.mark.spec("ST-05")
async def test_a_stop_when_the_addresses_are_told(tmp_path: Path) -> None:
    class Listening:
        def started(self, addresses: Any = None) -> None:
            server.stop()

    server = Server(app_of(*ROUTES), workers=WORKERS, **where("unix", tmp_path))
    with trio.fail_after(PATIENCE):
        await server.run(task_status=Listening())
    assert all(books.balanced for books in server.report.workers)
    assert os.listdir(tmp_path) == []


@pytest.mark.spec("ST-05")
@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("started", [[], [1], [2, 0]])
async def test_a_stop_while_threads_start(now: bool, started: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    gates = Gates(monkeypatch)
    server = Server(app_of(*ROUTES), port=0, workers=WORKERS)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            gates.open(*started)
            server.stop(now=now)
            await trio.testing.wait_all_tasks_blocked()
            gates.open(*range(WORKERS))
    assert [list(books.durations) for books in server.report.workers] == [list(Phase)[1:6]] * WORKERS
    assert server.report.left_behind == []


# Hand-overs that take long


@pytest.mark.spec("ST-01", "SD-01", "SD-15", "SD-24")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("end", ["stop", "now", "cancel", "die"])
async def test_words_between_the_runs_may_take_their_time(end: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    delay_all_words(monkeypatch, seed)
    server = Server(app_of(*ROUTES), port=0, workers=WORKERS, graceful_timeout=600)
    answers: list[bytes] = []
    errors: list[BaseException] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(hold, server, errors)
            async with one_each(server) as clients:
                for client in clients:
                    await client.get("/stuck" if end == "now" else "/streaming")
                    await client.until(b"started\r\n")
                if end == "cancel":
                    nursery.cancel_scope.cancel()
                elif end == "die":
                    async with peer(server) as victim:
                        await victim.get("/die")
                        await read_all(clients, answers)
                else:
                    server.stop(now=end == "now")
                    await read_all(clients, answers)
    if end == "stop":
        assert [b"bye\r\n0\r\n\r\n" in answer for answer in answers] == [True] * WORKERS
    assert worker_threads() == []
    assert server.report.left_behind == []
    assert all(books.balanced for books in server.report.workers)
    assert [max(books.durations) for books in server.report.workers] == [Phase.AWAITING] * WORKERS
    assert server.report.reason == {"cancel": "cancelled", "die": "SystemExit(7)"}.get(end, "stop()")


async def read_all(clients: list[Peer], answers: list[bytes]) -> None:
    for client in clients:
        answers.append(await client.rest())


async def hold(server: Server, errors: list[BaseException], task_status: trio.TaskStatus[Any]) -> None:
    """Run a server, and keep its error from those around, who still have to read."""
    try:
        await server.run(task_status=task_status)
    except trio.Cancelled:
        raise
    except BaseException as exc:
        errors.append(exc)


@pytest.mark.spec("SD-01", "SD-02")
@needs_linux
async def test_a_worker_whose_stop_comes_last_on_a_shared_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first one to stop shuts the Unix socket for all: it stays readable, and there is nobody to accept."""
    log = Log()
    held: list[Callable[[], None]] = []
    hand_over = TrioThread.hand_over

    def late(self: TrioThread, word: Callable[[], object]) -> None:
        if self.name == NAMES[2]:
            held.append(lambda: hand_over(self, word))
        else:
            hand_over(self, word)

    async def noted(*args: Any) -> None:
        try:
            await accept_loop(*args)
        finally:
            log(f"{here()} accepts no more")

    monkeypatch.setattr(TrioThread, "hand_over", late)
    monkeypatch.setattr("stario_trio.server.worker.accept_loop", noted)
    settings = where("unix", tmp_path)
    async with live(*ROUTES, workers=WORKERS, graceful_timeout=600, **settings) as server, one_each(server) as clients:
        await clients[2].get("/streaming")
        await clients[2].until(b"started\r\n")
        server.stop()
        assert await clients[0].ended()
        assert await clients[1].ended()
        await log.until(f"{NAMES[2]} accepts no more")  # quietly, and although its stop has not come
        [word] = held
        word()
        assert (await clients[2].rest()).endswith(b"3\r\nbye\r\n0\r\n\r\n")
    assert server.report.errors == []
    assert all(books.balanced for books in server.report.workers)


# Stop


@on_both
@pytest.mark.spec("SD-01", "SD-10")
async def test_a_blocked_worker_delays_no_other(kind: str, release: threading.Event, tmp_path: Path) -> None:
    log = Log()
    routes = (*ROUTES, ("/block", Blocked(log, release)))
    server = Server(app_of(*routes), workers=WORKERS, graceful_timeout=600, **where(kind, tmp_path))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with one_each(server) as clients:
                for client in clients[1:]:
                    await client.get("/streaming")
                    await client.until(b"started\r\n")
                await clients[0].get("/block")
                await log.until(f"{NAMES[0]} blocks")
                server.stop()
                for client in clients[1:]:
                    assert (await client.rest()).endswith(b"3\r\nbye\r\n0\r\n\r\n")
                    client.sock.close()
                await only_left(NAMES[0])
                assert log.lines == [f"{NAMES[0]} blocks"]
                release.set()
                answer = await clients[0].answer()
                assert answer.body == b"late"
                assert await clients[0].ended()
    assert server.report.left_behind == []
    # Its stop came behind the end of what it was blocked in.
    assert [(books.closed_idle, books.finished) for books in server.report.workers] == [(1, 0), (0, 1), (0, 1)]


@pytest.mark.spec("SD-10", "SD-11", "SD-24", "SD-23")
async def test_each_drains_with_its_own_deadline(release: threading.Event) -> None:
    """A worker that learns late of the stop has its whole grace from then on."""
    log = Log()
    tracer = Recorder()
    routes = (*ROUTES, ("/block", Blocked(log, release)))
    server = Server(app_of(*routes, tracer=tracer), port=0, workers=WORKERS, graceful_timeout=0.05)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with one_each(server) as clients, one_each(server) as others:
                for client in clients:
                    await client.get("/stuck")
                    await client.until(b"started\r\n")
                await others[1].get("/block")
                await log.until(f"{NAMES[1]} blocks")
                server.stop()
                for number in (0, 2):
                    assert await clients[number].rest() == b""
                    assert await others[number].ended()
                log("the others are through")
                release.set()
                assert b"late" in await others[1].rest()
                assert await clients[1].rest() == b""
    assert log.lines == [f"{NAMES[1]} blocks", "the others are through", f"{NAMES[1]} goes on"]
    span = tracer.named("server.shutdown")
    for books in server.report.workers:
        assert books.durations[Phase.STOP_ACCEPTING] + books.durations[Phase.DRAINING] >= 0.05
        assert (books.connections_at_shutdown, books.accepted_late) == (2, 0)
        assert (books.closed_idle, books.finished) == (1, 0)
        assert (books.force_closed, books.handlers_cancelled) == (1, 1)
        assert books.balanced
        prefix = f"server.worker.{books.id}"
        assert span[f"{prefix}.connections_at_shutdown"] == 2
        assert span[f"{prefix}.connections_closed_idle"] == 1
        assert span[f"{prefix}.connections_force_closed"] == 1
        assert span[f"{prefix}.handler_tasks_cancelled"] == 1
        assert span[f"{prefix}.handlers_abandoned"] == 0
    steps = [step for step in tracer.spans if step.parent_id == span.id]
    for number in range(WORKERS):
        its_own = [step.name for step in steps if step["server.worker"] == number]
        assert its_own == [phase.name.lower() for phase in list(Phase)[1:6]]
    assert all(step.finished for step in steps)


@on_both
@pytest.mark.spec("SD-14", "SD-15")
async def test_a_blocked_thread_is_left_behind(
    kind: str, release: threading.Event, clock: MockClock, tmp_path: Path
) -> None:
    log = Log()
    tracer = Recorder()
    routes = (*ROUTES, ("/block", Blocked(log, release)))
    server = Server(app_of(*routes, tracer=tracer), workers=WORKERS, **where(kind, tmp_path))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with one_each(server) as clients:
            await clients[1].get("/block")
            await log.until(f"{NAMES[1]} blocks")
            server.stop()
            assert await clients[0].ended()
            assert await clients[2].ended()
            await only_left(NAMES[1])
            clock.jump(5 + 5 + 1)
    [left] = server.report.left_behind
    assert left.splitlines()[0] == NAMES[1]
    assert "release.wait" in left
    assert worker_threads() == [NAMES[1]]
    span = tracer.named("server.shutdown")
    assert [event.attributes["stack"] for event in span.events] == [left]
    assert all(each.finished for each in tracer.spans if each.name != "GET")
    refused(server, tmp_path)
    # What the thread still tells changes nothing: all is told.
    told = len(tracer.all("server.shutdown")), len([each for each in tracer.spans if each.parent_id == span.id])
    release.set()
    join_threads()
    await trio.testing.wait_all_tasks_blocked()
    assert told == (1, len([each for each in tracer.spans if each.parent_id == span.id]))
    assert server.report.left_behind == [left]
    assert log.lines == [f"{NAMES[1]} blocks", f"{NAMES[1]} goes on"]


def refused(server: Server, folder: Path) -> None:
    """Nobody listens any more."""
    assert os.listdir(folder) == []
    if not isinstance(server.addresses[0], str):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.addresses[0])


@on_both
@pytest.mark.spec("SD-14", "SD-20", "SD-23", "SK-05")
async def test_all_threads_are_left_behind(
    kind: str, release: threading.Event, clock: MockClock, tmp_path: Path
) -> None:
    """Nobody is there to remove the Unix file, to turn away who waits at the door, or to come to a first phase."""
    log = Log()
    tracer = Recorder()
    routes = (*ROUTES, ("/block", Blocked(log, release)))
    server = Server(app_of(*routes, tracer=tracer), workers=WORKERS, **where(kind, tmp_path))
    before = signal_handlers()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with one_each(server) as clients:
            for client in clients:
                await client.get("/block")
            await log.until(*(f"{name} blocks" for name in NAMES))
            async with peer(server) as waiting:
                await waiting.get("/who")
                server.stop()
                await trio.testing.wait_all_tasks_blocked(0.01)
                clock.jump(5 + 5 + 1)
                with suppress(trio.BrokenResourceError):
                    assert await waiting.ended()
    assert sorted(left.splitlines()[0] for left in server.report.left_behind) == NAMES
    assert len(tracer.named("server.shutdown").events) == WORKERS
    assert tracer.named("server.shutdown").finished
    assert signal_handlers() == before
    refused(server, tmp_path)


@pytest.mark.upstream_bug(17)
@pytest.mark.spec("SD-14")
async def test_a_thread_with_an_abandoned_handler_is_left_behind(stubborn: Stubborn, clock: MockClock) -> None:
    log = Log()
    stubborn.log = log

    class Telling(Recorder):
        def notify(self, span: Span) -> None:
            super().notify(span)
            if span.finished and span.name == "handler abandoned":
                log("told")

    tracer = Telling()
    app = app_of(*ROUTES, ("/stubborn", stubborn), tracer=tracer)
    server = Server(app, port=0, workers=WORKERS, graceful_timeout=0, cleanup_timeout=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with one_each(server) as clients:
            await clients[2].get("/stubborn")
            await log.until(f"{NAMES[2]} is stubborn")
            server.stop()
            await log.until("told")  # while it is there: the supervisor's time is not over
            await only_left(NAMES[2])
            assert server.report.left_behind == []
            clock.jump(1)
    [left] = server.report.left_behind
    assert left.splitlines()[:2] == [NAMES[2], "GET /stubborn"]
    assert "Stubborn.__call__" in left
    [handler] = server.report.abandoned
    assert (handler.worker, handler.route) == (2, "GET /stubborn")
    assert tracer.named("server.shutdown")["server.worker.2.handlers_abandoned"] == 1
    stubborn.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert server.report.workers[2].balanced


@pytest.mark.spec("SD-14", "SD-23")
async def test_what_a_thread_tells_after_it_was_left_behind(
    release: threading.Event, stubborn: Stubborn, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back, goes through its stop, and abandons a handler: all is told already."""
    log = stubborn.log = Log()
    abandoned = FromThread.abandoned

    def noted(self: FromThread, handler: Abandoned) -> None:
        abandoned(self, handler)
        log("abandoned")

    monkeypatch.setattr(FromThread, "abandoned", noted)
    tracer = Recorder()
    app = app_of(*ROUTES, ("/block", Blocked(log, release)), ("/stubborn", stubborn), tracer=tracer)
    server = Server(app, port=0, workers=WORKERS, graceful_timeout=0, cleanup_timeout=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with one_each(server) as clients, one_each(server) as others:
            await clients[1].get("/stubborn")
            await log.until(f"{NAMES[1]} is stubborn")
            await others[1].get("/block")
            await log.until(f"{NAMES[1]} blocks")
            server.stop()
            await only_left(NAMES[1])
            clock.jump(1)
    told = [span for span in tracer.spans if span.name not in ("GET", "GET /stubborn")]
    errors = list(server.report.errors)
    release.set()
    await log.until("abandoned")
    await trio.testing.wait_all_tasks_blocked()
    assert [span for span in tracer.spans if span.name not in ("GET", "GET /stubborn")] == told
    assert server.report.errors == errors
    assert len(server.report.left_behind) == 1


@pytest.mark.spec("SD-14", "SD-20")
@pytest.mark.parametrize("how", ["time.sleep(600)", "await shielded()"])
async def test_a_program_with_a_thread_that_was_left_behind_can_exit(how: str) -> None:
    done = await trio.run_process(
        [sys.executable, "-c", LEFT_BEHIND.replace("HANG", how)],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout.decode().splitlines() == ["hangs", "left stario-worker"]


LEFT_BEHIND = """
import time, trio
from stario_trio import NoopTracer, Server, Stario
from stario_trio.server import threads

threads._SLACK = 0.05

async def shielded():
    with trio.CancelScope(shield=True):
        await trio.sleep(600)

async def hang(c, w):
    print("hangs", flush=True)
    home.run_sync_soon(hangs.set)
    HANG

async def main():
    global home, hangs
    home, hangs = trio.lowlevel.current_trio_token(), trio.Event()
    app = Stario(NoopTracer())
    app.get("/", hang)
    server = Server(app, port=0, workers=2, graceful_timeout=0, cleanup_timeout=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with await trio.open_tcp_stream(*server.addresses[0]) as client:
            await client.send_all(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            await hangs.wait()
            server.stop()
    # With so little slack, a busy machine may leave the other one behind too.
    print("left", *{left.splitlines()[0][:-2] for left in server.report.left_behind})

trio.run(main)
"""


@pytest.mark.spec("SD-16")
async def test_haste_reaches_every_worker() -> None:
    async with live(*ROUTES, workers=WORKERS, graceful_timeout=600) as server, one_each(server) as clients:
        for client in clients:
            await client.get("/stuck")
            await client.until(b"started\r\n")
        async with one_each(server) as idle:
            server.stop()
            for client in idle:
                assert await client.ended()
        server.stop(now=True)
        for client in clients:
            assert await client.rest() == b""
    assert server.report.urgent
    assert [books.force_closed for books in server.report.workers] == [1] * WORKERS


@pytest.mark.upstream_bug(13)
@needs_proc
@on_both
@pytest.mark.spec("SD-17", "SD-20")
async def test_an_outer_cancel_releases_everything(kind: str, tmp_path: Path) -> None:
    before, open_before = signal_handlers(), descriptors()
    tracer = Recorder()
    settings: dict[str, Any] = where(kind, tmp_path) | {"graceful_timeout": 600, "cleanup_timeout": 600}
    server = Server(app_of(*ROUTES, tracer=tracer), workers=WORKERS, **settings)
    outer = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[Any]) -> None:
        with outer:
            await server.run(task_status=task_status)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            async with one_each(server) as streams, one_each(server) as others, one_each(server) as idle:
                for path, clients in (("/streaming", streams), ("/stuck", others)):
                    for client in clients:
                        await client.get(path)
                        await client.until(b"started\r\n")
                outer.cancel()
                for client in [*streams, *others, *idle]:
                    assert await client.rest() == b""
    assert outer.cancelled_caught
    assert worker_threads() == []
    assert server.report.reason == "cancelled"
    assert server.report.left_behind == []
    assert all(books.balanced for books in server.report.workers)
    assert [books.handlers_cancelled for books in server.report.workers] == [2] * WORKERS
    assert tracer.named("server.shutdown").finished
    assert signal_handlers() == before
    refused(server, tmp_path)
    assert descriptors() == open_before


@pytest.mark.spec("SD-17", "SD-14")
@pytest.mark.parametrize("how", ["block", "stubborn"])
async def test_an_outer_cancel_while_a_thread_hangs(
    how: str, release: threading.Event, stubborn: Stubborn, clock: MockClock, tmp_path: Path
) -> None:
    log = Log()
    stubborn.log = log
    routes = (*ROUTES, ("/block", Blocked(log, release)), ("/stubborn", stubborn))
    server = Server(app_of(*routes), workers=WORKERS, **where("unix", tmp_path))

    async def wait_and_lose_patience() -> None:
        await log.until(f"{NAMES[0]} blocks" if how == "block" else f"{NAMES[0]} is stubborn")
        outer.cancel()
        await only_left(NAMES[0])
        assert os.path.lexists(tmp_path)
        clock.jump(5 + 1)

    async with trio.open_nursery() as others:
        with trio.CancelScope() as outer:
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                async with one_each(server) as clients:
                    await clients[0].get(f"/{how}")
                    others.start_soon(wait_and_lose_patience)
                    await trio.sleep_forever()
    assert outer.cancelled_caught
    assert [left.splitlines()[0] for left in server.report.left_behind] == NAMES[:1]
    assert os.listdir(tmp_path) == []
    release.set()


@pytest.mark.spec("SD-17", "SD-21")
async def test_an_outer_cancel_hides_no_error(release: threading.Event) -> None:
    """One worker has died, another is blocked, and now the caller loses patience."""
    log = Log()
    routes = (*ROUTES, ("/block", Blocked(log, release)))
    server = Server(app_of(*routes), port=0, workers=WORKERS, graceful_timeout=600)
    errors: list[BaseException] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(hold, server, errors)
            async with one_each(server) as clients:
                await clients[0].get("/block")
                await log.until(f"{NAMES[0]} blocks")
                await clients[1].get("/die")
                await only_left(NAMES[0])
                nursery.cancel_scope.cancel()
                release.set()
    assert exits(errors) == [7]


def exits(errors: list[BaseException]) -> list[object]:
    """The exit codes among errors; beside them there may be a `Cancelled` for a scope further out."""
    return [exc.code for error in errors for exc in unfold(error) if isinstance(exc, SystemExit)]


@pytest.mark.spec("SD-17", "SD-21")
async def test_an_error_in_the_cleanup_after_an_outer_cancel() -> None:
    async def clean_up_badly(c: Context, w: Writer) -> None:
        try:
            w.write(b"started")
            await trio.sleep_forever()
        finally:
            raise SystemExit(8)

    server = Server(app_of(*ROUTES, ("/bad", clean_up_badly)), port=0, workers=WORKERS)
    errors: list[BaseException] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(hold, server, errors)
            async with one_each(server) as clients:
                await clients[1].get("/bad")
                await clients[1].until(b"started\r\n")
                nursery.cancel_scope.cancel()
    assert exits(errors) == [8]


@pytest.mark.spec("SD-19")
async def test_services_outlive_the_last_handler_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    run = Date.run

    async def noted(self: Date) -> None:
        try:
            await run(self)
        finally:
            log("date ended")

    async def last(c: Context, w: Writer) -> None:
        w.write(b"started")
        async with w.alive():
            await trio.sleep_forever()
        w.end()
        log(f"{here()} has ended")

    monkeypatch.setattr(Date, "run", noted)
    server = Server(app_of(*ROUTES, ("/last", last)), port=0, workers=WORKERS, graceful_timeout=600)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with one_each(server) as clients:
                for client in clients:
                    await client.get("/last")
                    await client.until(b"started\r\n")
                server.stop()
                for client in clients:
                    await client.rest()
    assert sorted(log.lines[:-1]) == [f"{name} has ended" for name in NAMES]
    assert log.lines[-1] == "date ended"


@pytest.mark.spec("SD-20")
async def test_the_order_of_the_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = Log()
    close, unlink, restore = SocketListener.close, os.unlink, signals._Receiver.restore
    ended, run = WorkerThread._take_end, TrioThread._run

    def noted_close(self: SocketListener) -> None:
        if self._sock.fileno() >= 0:
            log(f"{here()} closes its listener")
        close(self)

    def noted_unlink(path: str) -> None:
        unlink(path)
        log("file")

    def noted_restore(self: signals._Receiver) -> None:
        restore(self)
        log("signals")

    def noted_run(self: TrioThread) -> None:
        run(self)
        log(f"{here()} ends")

    def noted_end(self: WorkerThread) -> None:
        ended(self)
        log(f"{self.name} is joined")

    class Telling(Recorder):
        def notify(self, span: Span) -> None:
            super().notify(span)
            if span.finished and span.name == "server.shutdown":
                log("span")

    monkeypatch.setattr(SocketListener, "close", noted_close)
    monkeypatch.setattr(os, "unlink", noted_unlink)
    monkeypatch.setattr(signals._Receiver, "restore", noted_restore)
    monkeypatch.setattr(TrioThread, "_run", noted_run)
    monkeypatch.setattr(WorkerThread, "_take_end", noted_end)
    with trio.fail_after(PATIENCE):
        async with app_of(tracer=Telling()).serving(workers=WORKERS, **where("unix", tmp_path)):
            pass
        log("returned")
    for name in NAMES:
        order = log.order(
            f"{name} closes its listener", f"{name} ends", f"{name} is joined", "span", "signals", "returned"
        )
        assert order == sorted(order)
    assert log.order("file")[0] < max(log.order(*(f"{name} ends" for name in NAMES)))


class Ours(Exception):
    """An error of ours."""


@needs_proc
@on_both
@pytest.mark.spec("SD-21")
@pytest.mark.parametrize("why", ["exit", "interrupt", "ours"])
async def test_a_worker_that_dies_stops_the_others(
    why: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = {"exit": SystemExit, "interrupt": KeyboardInterrupt, "ours": Ours}[why]
    wait = Worker._wait_for_room
    armed = False

    async def dies(c: Context, w: Writer) -> None:
        raise error(7)

    async def faulty(self: Worker) -> None:
        if armed and here() == NAMES[1]:
            raise Ours(7)
        await wait(self)

    monkeypatch.setattr(Worker, "_wait_for_room", faulty)
    before, open_before = signal_handlers(), descriptors()
    server = Server(app_of(*ROUTES, ("/dies", dies)), workers=WORKERS, graceful_timeout=600, **where(kind, tmp_path))
    errors: list[BaseException] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(hold, server, errors)
            async with one_each(server) as clients, one_each(server) as others:
                for client in clients:
                    await client.get("/streaming")
                    await client.until(b"started\r\n")
                armed = why == "ours"
                while armed and worker_threads() == NAMES:  # until the faulty one gets a connection
                    with suppress(OSError):
                        client = await connect(server)
                        await trio.testing.wait_all_tasks_blocked(0.001)
                        client.sock.close()
                if not armed:
                    await others[1].get("/dies")
                with suppress(trio.BrokenResourceError):
                    assert await others[1].rest() == b""
                with suppress(trio.BrokenResourceError):
                    assert not (await clients[1].rest()).endswith(b"0\r\n\r\n")  # cut
                for number in (0, 2):  # in order
                    assert (await clients[number].rest()).endswith(b"3\r\nbye\r\n0\r\n\r\n")
                    assert await others[number].ended()
    [died] = errors
    assert type(died) is error
    assert died.args == (7,)
    assert worker_threads() == []
    assert server.report.reason == repr(died)
    assert all(books.balanced for books in server.report.workers)
    assert signal_handlers() == before
    refused(server, tmp_path)
    del died, errors, nursery, clients, others, client
    assert descriptors() == open_before


class Raising(NoopTracer):
    """Makes spans and raises at everything."""

    wants_changes = True

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        raise ZeroDivisionError


def no_tracer(name: str) -> Span:
    raise ZeroDivisionError


@pytest.mark.spec("SD-22")
@pytest.mark.parametrize("tracer", [Raising(), no_tracer], ids=["notify", "call"])
async def test_a_tracer_that_raises_changes_nothing(tracer: Any) -> None:
    app = app_of(*ROUTES, tracer=tracer)
    with trio.fail_after(PATIENCE):
        async with app.serving(port=0, workers=WORKERS, graceful_timeout=600) as server, one_each(server) as clients:
            for client in clients:
                await client.get("/streaming")
                await client.until(b"started\r\n")
            server.stop()
            for client in clients:
                assert (await client.rest()).endswith(b"3\r\nbye\r\n0\r\n\r\n")
    assert server.report.reason == "stop()"
    assert all(books.balanced for books in server.report.workers)


# Who may ask for a stop


async def stop_in_a_thread(server: Server, client: Peer) -> None:
    await trio.to_thread.run_sync(server.stop)


async def stop_in_a_handler(server: Server, client: Peer) -> None:
    assert (await client.ask("/stop")).body == b"stopping"


async def stop_in_a_signal_handler(server: Server, client: Peer) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: server.stop())
    signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


async def stop_many_times(server: Server, client: Peer) -> None:
    callers = [threading.Thread(target=server.stop) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


async def raise_sigterm(server: Server, client: Peer) -> None:
    signal.raise_signal(signal.SIGTERM)


@on_both
@pytest.mark.spec("SD-01", "SD-03", "SD-08")
@pytest.mark.parametrize(
    "stop", [stop_in_a_thread, stop_in_a_handler, stop_in_a_signal_handler, stop_many_times, raise_sigterm]
)
async def test_a_stop_from_anywhere_reaches_every_worker(stop: Any, kind: str, tmp_path: Path) -> None:
    async def stopping(c: Context, w: Writer) -> None:
        server.stop()
        w.text("stopping")

    server = Server(
        app_of(*ROUTES, ("/stop", stopping)), workers=WORKERS, graceful_timeout=600, **where(kind, tmp_path)
    )
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with one_each(server) as clients, one_each(server) as others:
                for client in clients:
                    await client.get("/streaming")
                    await client.until(b"started\r\n")
                await stop(server, others[1])
                for client in clients:
                    assert (await client.rest()).endswith(b"3\r\nbye\r\n0\r\n\r\n")
                for client in others:
                    assert await client.ended()
    assert server.report.reason == ("SIGTERM" if stop is raise_sigterm else "stop()")
    assert not server.report.urgent
    server.stop()  # after the end
    server.stop(now=True)
    await trio.testing.wait_all_tasks_blocked()
    assert not server.report.urgent
    assert server._supervisor._crew == ()  # the report keeps no connections


PROGRAM = """
import os, signal, threading, trio
from stario_trio import NoopTracer, Server, Stario

async def streaming(c, w):
    w.write(threading.current_thread().name.encode())
    async with w.alive():
        await trio.sleep_forever()
    w.end(b"bye")

async def main():
    app = Stario(NoopTracer())
    app.get("/", streaming)
    server = Server(app, port=0, workers=4, graceful_timeout=600)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    names, bodies = set(), []
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        streams = []
        while len(names) < 4:
            stream = await trio.open_tcp_stream(*server.addresses[0])
            streams.append(stream)
            await stream.send_all(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            data = b""
            while b"stario-worker-" not in data:
                data += await stream.receive_some()
            names.add(data.split()[-1])
        os.kill(os.getpid(), SIGNAL)
        for stream in streams:
            bodies.append(b"".join([piece async for piece in stream]).endswith(b"0\\r\\n\\r\\n"))
            await stream.aclose()
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    print(server.report.reason, all(bodies), before == after, all(books.balanced for books in server.report.workers))

trio.run(main)
"""


@pytest.mark.spec("SD-01", "SD-08", "SD-20")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_signal_to_a_process_with_four_workers(name: str) -> None:
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [sys.executable, "-c", PROGRAM.replace("SIGNAL", f"signal.{name}")],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout.decode().strip() == f"{name} True True True"


# What the workers share


@pytest.mark.spec("SD-19")
async def test_one_date_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Date] = []
    run = Date.run

    async def noted(self: Date) -> None:
        made.append(self)
        await trio.sleep_forever()

    monkeypatch.setattr(Date, "run", noted)
    async with live(*ROUTES, workers=WORKERS) as server, one_each(server) as clients:
        [date] = made
        for words in ("the first", "the second"):
            date.line = f"date: {words}\r\n".encode()
            assert [(await client.ask("/who")).fields["date"] for client in clients] == [words] * WORKERS
    assert run is not Date.run


async def test_messages_between_workers() -> None:
    """What one worker, a plain thread or the supervisor's run publishes reaches the streams of all, in its order."""
    relay: Relay[str] = Relay()
    count = 50

    async def publish(c: Context, w: Writer) -> None:
        for number in range(count):
            relay.publish("room.1", f"{here()} {number}\n")
        w.text("published")

    async def subscribe(c: Context, w: Writer) -> None:
        async with relay.subscribe("room.*") as messages:
            w.write(b"started\n")
            async for _subject, words in w.alive(messages):
                w.write(words.encode())
        w.end(b"the end\n")

    routes = (*ROUTES, ("/publish", publish), ("/subscribe", subscribe))
    async with live(*routes, workers=WORKERS) as server:  # noqa: SIM117  (two in one are hard to read)
        async with one_each(server) as streams, one_each(server) as publishers, trio.open_nursery() as nursery:
            for client in streams:
                await client.get("/subscribe")
                await client.until(b"started\n\r\n")
            for client in publishers:
                nursery.start_soon(client.ask, "/publish")
            plain = threading.Thread(
                target=lambda: [relay.publish("room.2", f"plain {number}\n") for number in range(count)]
            )
            plain.start()
            for number in range(count):
                relay.publish("room.3", f"home {number}\n")
            for client in streams:
                got: dict[str, list[int]] = {}
                while sum(map(len, got.values())) < 5 * count:
                    line = (await client.until(b"\n")).decode()
                    if line.startswith(("stario", "plain", "home")):
                        name, number_text = line.split()
                        got.setdefault(name, []).append(int(number_text))
                assert got == {key: list(range(count)) for key in [*NAMES, "plain", "home"]}
            plain.join(PATIENCE)
            server.stop()
            for client in streams:
                assert b"the end" in await client.rest()
    assert relay._subs == {}
    relay.publish("room.1", "nobody")
    assert relay._table.hubs == ()


@needs_proc
@on_both
@pytest.mark.spec("SD-20")
def test_fifty_runs_leave_nothing(kind: str, tmp_path: Path) -> None:
    async def once(how: str) -> None:
        server = Server(app_of(*ROUTES), workers=WORKERS, **where(kind, tmp_path))
        async with trio.open_nursery() as nursery:
            errors: list[BaseException] = []
            await nursery.start(hold, server, errors)
            async with one_each(server) as clients:
                if how == "cancel":
                    nursery.cancel_scope.cancel()
                elif how == "die":
                    await clients[0].get("/die")
                else:
                    server.stop(now=how == "now")

    def count() -> tuple[int, int, int]:
        for _ in range(3):
            gc.collect()
        # Trio keeps idle threads of its own for ten seconds, after a host name was looked up.
        names = [thread.name for thread in threading.enumerate() if not thread.name.startswith("Trio thread")]
        kinds = ("stario_trio.", "trio.", "outcome.", "socket")
        return len(names), descriptors(), sum(str(type(each).__module__).startswith(kinds) for each in gc.get_objects())

    hows = ["stop", "now", "stop", "cancel", "die"]
    for how in hows:
        trio.run(once, how)  # runs of their own, since one remembers old deadlines for a while
    threads_before, open_before, objects_before = count()
    for number in range(50):
        trio.run(once, hows[number % len(hows)])
    threads_after, open_after, objects_after = count()
    assert (threads_after, open_after) == (threads_before, open_before)
    assert objects_after <= objects_before  # a free-threaded build may still have some from before


async def test_the_tree_of_all_workers_while_one_has_ended(release: threading.Event) -> None:
    """One worker is blocked in a stop, and the others have ended."""
    log = Log()
    server = Server(app_of(*ROUTES, ("/block", Blocked(log, release))), port=0, workers=WORKERS)
    pictures: list[str] = []

    async def look() -> None:
        pictures.append(await server.tree())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with one_each(server) as clients:
                assert [(await server.tree()).count(f"\n\n{name}\n") for name in NAMES] == [1] * WORKERS
                await clients[0].get("/block")
                await log.until(f"{NAMES[0]} blocks")
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked(0.001)
                server.stop()
                await only_left(NAMES[0])
                release.set()
    [picture] = pictures
    assert f"{NAMES[1]}\nhas ended" in picture
    assert f"{NAMES[2]}\nhas ended" in picture


async def test_the_tree_without_threads() -> None:
    async with live(*ROUTES) as server:
        assert NAMES[0] not in await server.tree()


async def test_a_look_at_a_worker_that_ends_meanwhile() -> None:
    async with live(*ROUTES, workers=WORKERS) as server, one_each(server):
        thread = server._supervisor._crew[0]
        assert isinstance(thread, WorkerThread)
        seen: list[object] = []

        async def look() -> None:
            seen.append(await thread.look(lambda: None))

        real = TrioThread.hand_over
        with pytest.MonkeyPatch.context() as patch:  # the word is lost, as when a run is just ending
            patch.setattr(TrioThread, "hand_over", lambda self, word: None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
                patch.setattr(TrioThread, "hand_over", real)
                server.stop()
        assert seen == [None]
        assert await thread.look(lambda: None) is None


async def test_pipelining_clients_do_not_starve_the_others_of_their_worker(release: threading.Event) -> None:
    """A worker comes back to three clients that have pipelined as much as one read takes, and to one who has not."""
    log = Log()
    served: list[str] = []

    async def count(c: Context, w: Writer) -> None:
        served.append(c.req.path)
        w.text("")

    routes = (*ROUTES, ("/block", Blocked(log, release)), ("/greedy", count), ("/lone", count))
    greedy = request("/greedy")
    many = 64 * 1024 // len(greedy)
    async with live(*routes, workers=WORKERS) as server, AsyncExitStack() as stack:
        clients = [(await stack.enter_async_context(one_each(server)))[1] for _ in range(5)]
        await clients[0].get("/block")
        await log.until(f"{NAMES[1]} blocks")
        for client in clients[1:4]:
            await client.send(greedy * many)
        await clients[4].get("/lone")
        release.set()
        await clients[4].answer()
        # A turn of each greedy one is 16 requests; the lone one has its answer within a few turns.
        assert served.index("/lone") < 16 * 3 * 4
