"""The facade: the same server from asyncio and uvloop, and the way back for handlers."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio
import trio.testing

from stario_trio import Context, NoopTracer, Server, Span, Stario, StarioError, Writer, to_asyncio
from stario_trio.server import asyncio_facade
from stario_trio.server.phases import Phase
from stario_trio.server.worker import Worker
from stario_trio.testing import RecordingTracer as Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

PATIENCE = 30


def run_on_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def run_on_uvloop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    uvloop.run(asyncio.wait_for(main(), PATIENCE))


each_loop = pytest.mark.parametrize("run", [run_on_asyncio, run_on_uvloop], ids=["asyncio", "uvloop"])


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stario")]


async def listening(server: Server) -> None:
    while not server.addresses:  # noqa: ASYNC110  (a server has no event of asyncio)
        await asyncio.sleep(0.001)


async def get(server: Server, path: str = "/") -> httpx2.Response:
    [address] = server.addresses
    if isinstance(address, str):
        transport, base = httpx2.AsyncHTTPTransport(uds=address), "http://test"
    else:
        transport, base = httpx2.AsyncHTTPTransport(), f"http://{address[0]}:{address[1]}"
    async with httpx2.AsyncClient(transport=transport, base_url=base, timeout=PATIENCE) as client:
        return await client.get(path)


async def where(c: Context, w: Writer) -> None:
    assert trio.lowlevel.in_trio_run()
    w.text(threading.current_thread().name)


def app_of(**handlers: Any) -> Stario:
    app = Stario(NoopTracer())
    for name, handler in handlers.items():
        app.get(f"/{name}", handler)
    return app


@each_loop
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_it_serves_from_a_running_loop(run: Any, workers: int, kind: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0} if kind == "tcp" else {"unix_socket": str(tmp_path / "socket")}
    server = Server(app_of(where=where), workers=workers, **settings)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        answer = await get(server, "/where")
        assert answer.text in (["stario-server"] if workers == 1 else [f"stario-worker-{n}" for n in range(workers)])
        server.stop()
        await serving

    run(main)
    assert server.report.reason == "stop()"
    assert [Phase.DRAINING in worker.durations for worker in server.report.workers] == [True] * workers
    assert all(worker.balanced for worker in server.report.workers)
    assert threads() == []
    assert not (tmp_path / "socket").exists()


def test_it_serves_from_a_loop_in_another_thread() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = Server(app_of(where=where), port=0)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        assert (await get(server, "/where")).status_code == 200
        server.stop()
        await serving

    thread = threading.Thread(target=run_on_asyncio, args=(main,))
    thread.start()
    thread.join(PATIENCE)
    assert server.report.reason == "stop()"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@each_loop
@pytest.mark.spec("SD-17")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cancels", [1, 3])
def test_cancelling_the_waiting_task_is_an_outer_cancel(run: Any, workers: int, cancels: int) -> None:
    cleaned: list[str] = []
    server = Server(Stario(NoopTracer()), port=0, workers=workers, graceful_timeout=600)
    entered = threading.Event()

    async def waits(c: Context, w: Writer) -> None:
        try:
            entered.set()
            await trio.sleep_forever()
        finally:
            cleaned.append(threading.current_thread().name)

    server.app.get("/", waits)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        request = asyncio.create_task(get(server))
        await asyncio.to_thread(entered.wait)
        for _ in range(cancels):
            serving.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await serving
        # Everything was released before the cancellation went on.
        assert len(cleaned) == 1
        assert threads() == []
        with pytest.raises(httpx2.HTTPError):
            await request
        with pytest.raises(httpx2.ConnectError):
            await get(server)

    run(main)
    assert server.report.reason == "cancelled"


def test_a_timeout_around_it_is_a_timeout() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await app_of().serve(port=0)

    run_on_asyncio(main)
    assert threads() == []


@pytest.mark.spec("ST-02")
def test_an_error_of_the_start_comes_out_as_itself() -> None:
    async def main() -> None:
        server = Server(app_of(), port=0)
        serving = asyncio.create_task(server.run())
        await listening(server)
        [(host, port)] = [address for address in server.addresses if not isinstance(address, str)]
        with pytest.raises(OSError, match="cannot listen") as raised:
            await app_of().serve(host, port)
        assert raised.value.__cause__ is not None
        server.stop()
        await serving

    run_on_asyncio(main)


@pytest.mark.spec("SD-21")
def test_an_error_of_a_worker_comes_out_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(self: Worker) -> None:
        raise LookupError("ours")

    monkeypatch.setattr(Worker, "_serve_connections", dies)

    async def main() -> None:
        with pytest.raises(LookupError, match="ours"):
            await app_of().serve(port=0, workers=2)

    run_on_asyncio(main)
    assert threads() == []


@pytest.mark.spec("ST-06")
def test_a_server_runs_once_here_too() -> None:
    async def main() -> None:
        server = Server(app_of(), port=0)
        server.stop()
        await server.run()
        with pytest.raises(StarioError, match="already running"):
            await server.run()

    run_on_asyncio(main)


def test_under_no_loop_at_all_it_says_what_to_do() -> None:
    coroutine = app_of().serve(port=0)
    with pytest.raises(StarioError, match="under Trio or asyncio"):
        coroutine.send(None)


def test_many_starts_and_stops_leave_nothing_behind() -> None:
    async def main() -> None:
        for _ in range(50):
            server = Server(app_of(), port=0, workers=2)
            serving = asyncio.create_task(server.run())
            await listening(server)
            server.stop()
            await serving
        assert threads() == []  # of ours: other tests may still have threads of an executor

    run_on_asyncio(main)


@each_loop
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("end", ["stop", "cancel"])
def test_other_tasks_of_the_loop_are_neither_touched_nor_held_up(run: Any, workers: int, end: str) -> None:
    """In its start, under load and in its end, the server's threads stand still until the loop has turned often."""
    turned = threading.Event()
    stood_still: list[tuple[str, bool]] = []
    waits = threading.Event()

    def until_the_loop_has_turned(when: str) -> None:
        for _ in range(100):
            turned.clear()
            if not turned.wait(PATIENCE / 3):
                stood_still.append((when, False))
                return
        stood_still.append((when, True))

    class Blocking(NoopTracer):
        def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
            if name.startswith("server."):
                until_the_loop_has_turned(name)
            return super().__call__(name, attributes)

    async def busy(c: Context, w: Writer) -> None:
        until_the_loop_has_turned("load")

    async def open_page(c: Context, w: Writer) -> None:
        try:
            waits.set()
            async with w.alive():
                await trio.sleep_forever()
        finally:
            until_the_loop_has_turned("end")

    async def tick() -> None:
        while True:
            turned.set()
            await asyncio.sleep(0)

    app = Stario(Blocking())
    app.get("/busy", busy)
    app.get("/open", open_page)
    server = Server(app, port=0, workers=workers)

    async def main() -> None:
        others = [asyncio.create_task(tick()), asyncio.create_task(asyncio.Event().wait())]
        tasks = asyncio.all_tasks()
        serving = asyncio.create_task(server.run())
        await listening(server)
        page = asyncio.create_task(get(server, "/open"))
        await asyncio.to_thread(waits.wait)
        await asyncio.gather(*[get(server, "/busy") for _ in range(8)])
        server.stop() if end == "stop" else serving.cancel()
        await asyncio.wait([serving, page])
        assert isinstance(page.exception(), httpx2.HTTPError if end == "cancel" else type(None))
        assert asyncio.all_tasks() == tasks
        assert not any(task.cancelling() or task.done() for task in others)
        for task in others:
            task.cancel()

    run(main)
    told = ["server.startup", *["load"] * 8, "end", "server.shutdown"]
    assert sorted(stood_still) == sorted((when, True) for when in told)


@each_loop
@pytest.mark.parametrize("workers", [1, 2])
def test_a_handler_runs_a_coroutine_on_the_loop(run: Any, workers: int) -> None:
    loops: list[object] = []

    async def double(number: int, *, plus: int = 0) -> int:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return 2 * number + plus

    async def fails() -> None:
        raise LookupError("on the loop")

    async def works(c: Context, w: Writer) -> None:
        try:
            await to_asyncio(fails)
        except LookupError as exc:
            w.text(f"{await to_asyncio(double, 20, plus=2)} {exc}")

    server = Server(app_of(works=works), port=0, workers=workers)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        assert (await get(server, "/works")).text == "42 on the loop"
        assert loops == [asyncio.get_running_loop()]
        server.stop()
        await serving

    run(main)


def test_cancellation_goes_both_ways() -> None:
    seen: list[str] = []

    async def patient() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("task ended")

    async def gives_up() -> None:
        raise asyncio.CancelledError

    async def handler(c: Context, w: Writer) -> None:
        with trio.move_on_after(0.01) as scope:
            await to_asyncio(patient)
        seen.append(f"cancelled {scope.cancelled_caught}")
        try:
            await to_asyncio(gives_up)
        except StarioError as exc:
            w.text(exc.message)

    server = Server(app_of(it=handler), port=0)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        assert (await get(server, "/it")).text == "The asyncio task was cancelled, and not by this handler"
        server.stop()
        await serving

    run_on_asyncio(main)
    assert seen == ["task ended", "cancelled True"]


@pytest.mark.spec("SD-08")
def test_a_handler_reaches_the_loop_while_the_server_drains() -> None:
    entered = threading.Event()

    async def last_words() -> str:
        return "saved"

    async def handler(c: Context, w: Writer) -> None:
        entered.set()
        async with w.alive():
            await trio.sleep_forever()
        w.text(await to_asyncio(last_words))

    server = Server(app_of(it=handler), port=0)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        request = asyncio.create_task(get(server, "/it"))
        await asyncio.to_thread(entered.wait)
        server.stop()
        await serving
        assert (await request).text == "saved"

    run_on_asyncio(main)


async def test_without_an_embedding_loop_it_says_so() -> None:
    async def anything() -> None: ...

    with pytest.raises(StarioError, match="No asyncio loop embeds this server"):
        await to_asyncio(anything)


def test_a_closed_loop_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.new_event_loop()
    closed.close()

    async def anything() -> None: ...

    async def handler() -> None:
        asyncio_facade._embedding_loop.set(closed)
        with pytest.raises(StarioError, match="is closed"):
            await to_asyncio(anything)

    trio.run(handler)


def test_a_wrong_call_comes_out_of_it() -> None:
    """Also what is wrong before there is a coroutine: nobody would ever wake the handler."""

    async def one(a: int) -> int:
        return a

    def no_coroutine() -> None: ...

    told: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        for wrong in (one, no_coroutine):
            try:
                await to_asyncio(wrong)  # type: ignore[arg-type]
            except TypeError as exc:
                told.append(str(exc))
        w.empty()

    server = Server(app_of(it=handler), port=0)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        assert (await get(server, "/it")).status_code == 204
        server.stop()
        await serving

    run_on_asyncio(main)
    assert len(told) == 2
    assert "missing 1 required positional argument" in told[0]


@pytest.mark.spec("SD-11")
@pytest.mark.parametrize("ended", [False, True], ids=["task still waits", "task has just ended"])
async def test_a_loop_that_closes_while_a_handler_waits_for_it(ended: bool) -> None:
    """The cancel must come through: there is nobody left who could wake the handler, or nobody who still may."""
    loop = asyncio.new_event_loop()
    tasks: list[asyncio.Task[Any]] = []

    async def patient() -> None:
        tasks.extend(asyncio.all_tasks())
        if not ended:
            await asyncio.sleep(3600)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            asyncio_facade._embedding_loop.set(loop)
            nursery.start_soon(to_asyncio, patient)
            await trio.testing.wait_all_tasks_blocked()
            # This run stands still meanwhile, so a wake that is under way comes after the cancel.
            while not tasks or (ended and not tasks[0].done()):
                loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert scope.cancelled_caught
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_loop_that_is_closed_over_the_server_does_not_break_its_end() -> None:
    async def main() -> None:
        server = Server(app_of(), port=0)
        serving = asyncio.ensure_future(server.run())
        await listening(server)
        left.extend([server, serving])

    left: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    server, serving = left
    serving._log_destroy_pending = False  # nobody will wait for it: that is the mistake of this program
    loop.close()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "stario-server"]
    server.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert server.report.reason == "stop()"
    before = signal.getsignal(signal.SIGTERM)
    serving.get_coro().close()  # what the garbage collector would do, some time
    assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.set_wakeup_fd(-1) == -1


async def no_current_loop() -> None:
    """What `asyncio.get_event_loop` says in a thread that has none."""
    raise RuntimeError("There is no current event loop in thread 'stario-worker-0'.")


@pytest.mark.parametrize(
    "call",
    [
        lambda: asyncio.sleep(0),
        lambda: asyncio.sleep(1),
        no_current_loop,
        lambda: asyncio.Event().wait(),
        lambda: asyncio.to_thread(len, ""),
    ],
    ids=["sleep(0)", "sleep(1)", "no current loop", "Event", "to_thread"],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore:There is no current event loop")
async def test_an_asyncio_call_in_a_handler_names_the_two_ways_out(call: Callable[[], Awaitable[object]]) -> None:
    tracer = Recorder()
    app = Stario(tracer)

    async def mistaken(c: Context, w: Writer) -> None:
        await call()

    app.get("/", mistaken)
    async with app.serving(port=0) as server:
        [address] = server.addresses
        assert not isinstance(address, str)
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:
            assert (await client.get(f"http://{address[0]}:{address[1]}/")).status_code == 500
    error = tracer.named("GET").error
    assert error is not None
    assert "trio.sleep" in error
    assert "to_asyncio" in error


PROGRAM = """
import asyncio, signal, sys, trio
from stario_trio import Context, NoopTracer, Server, Span, Stario, Writer

async def stuck(c: Context, w: Writer) -> None:
    print("entered", flush=True)
    await trio.sleep_forever()

async def main() -> None:
    app = Stario(NoopTracer())
    app.get("/", stuck)
    server = Server(app, port=0, workers=int(sys.argv[1]), graceful_timeout=600)
    serving = asyncio.create_task(server.run())
    while not server.addresses:
        await asyncio.sleep(0.001)
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    writer.write(b"GET / HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    await serving
    print(server.report.reason, server.report.urgent, flush=True)
    writer.close()

asyncio.run(main())
print("restored", signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
"""


@each_loop
@pytest.mark.spec("SD-16")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_that_another_thread_gets_wakes_the_loop(run: Any, workers: int) -> None:
    """The system may give a signal to any thread; the second of two in a row mostly goes to another one."""

    async def quits(c: Context, w: Writer) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while run is run_on_asyncio and sys._current_frames()[main].f_code.co_name != "select":
            await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGTERM)  # this thread gets it, while the one of the loop sleeps
        await trio.sleep_forever()

    server = Server(app_of(quits=quits), port=0, workers=workers, graceful_timeout=0)

    async def main() -> None:
        serving = asyncio.create_task(server.run())
        await listening(server)
        [address] = server.addresses
        assert not isinstance(address, str)
        with socket.create_connection(address) as client:  # not on the loop: an answer would wake it
            client.sendall(b"GET /quits HTTP/1.1\r\nHost: test\r\n\r\n")
            await serving

    before = signal.set_wakeup_fd(-1)
    run(main)
    assert server.report.reason == "SIGTERM"
    assert signal.set_wakeup_fd(before) == -1


def test_a_wakeup_fd_of_somebody_else_stays() -> None:
    server = Server(app_of(where=where), port=0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(server.run())
        await listening(server)
        loop.add_signal_handler(signal.SIGUSR1, print)
        theirs = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(theirs)
        server.stop()
        await serving
        now = signal.set_wakeup_fd(theirs)
        loop.remove_signal_handler(signal.SIGUSR1)
        assert now == theirs != -1

    run_on_asyncio(main)


@pytest.mark.spec("SD-16", "SD-20")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_signals_on_the_loop(number: signal.Signals, workers: str) -> None:
    """The first one is a graceful stop although `asyncio.run` has its own idea of SIGINT; the second is haste."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, workers], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "entered\n"
            process.send_signal(number)
            process.send_signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    reason, urgent = rest.splitlines()[0].split()
    assert reason in ("SIGINT", "SIGTERM")
    assert urgent == "True"
    assert rest.splitlines()[1] == "restored True"
    assert process.returncode == 0
