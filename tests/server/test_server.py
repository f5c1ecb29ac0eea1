"""`Server` and its two doors, `serve` and `serving`: start, stop, embedding and release, on real sockets."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import NoopTracer, Server, Span, Stario, StarioError
from stario_trio.server.date import Date
from stario_trio.server.phases import Phase
from stario_trio.testing import RecordingTracer as Recorder
from tests.support.live import PATIENCE, app_of, live, peer

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio import Context, Writer


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


def handlers() -> list[object]:
    return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


# Start


@pytest.mark.spec("ST-01", "ST-04")
@pytest.mark.parametrize("door", ["serve", "run"])
async def test_start_returns_when_the_server_listens(door: str) -> None:
    app = app_of(("/", hello))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            if door == "serve":
                [(host, port)] = await nursery.start(app.serve, "127.0.0.1", 0)
            else:
                [(host, port)] = await nursery.start(Server(app, port=0).run)
            assert port > 0
            stream = await trio.open_tcp_stream(host, port)  # accepted by the kernel already
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"hello" in await stream.receive_some()
            await stream.aclose()
            nursery.cancel_scope.cancel()


@pytest.mark.spec("ST-01")
async def test_nothing_is_accepted_before_every_address_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[object] = []
    real = socket.socket.accept
    with socket.create_server(("127.0.0.2", 0)) as busy:
        port = busy.getsockname()[1]

        async def two(_host: object, port: int, **_: object) -> list[Any]:
            kinds = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kinds, ("127.0.0.1", port)), (*kinds, ("127.0.0.2", port))]

        def spy(sock: socket.socket) -> Any:
            accepted.append(sock)
            return real(sock)

        monkeypatch.setattr(trio.socket, "getaddrinfo", two)
        monkeypatch.setattr(socket.socket, "accept", spy)
        with pytest.raises(OSError, match="cannot listen"):
            await Server(app_of(), host="two.test", port=port).run()
    assert accepted == []


@pytest.mark.upstream_bug(11)
@needs_proc
@pytest.mark.spec("ST-02")
@pytest.mark.parametrize(
    "door",
    [
        "run",
        "start",
        "serving",
    ],
)
async def test_a_failing_start_is_its_own_error_and_leaves_nothing(door: str) -> None:
    before, open_before = handlers(), descriptors()
    tracer = Recorder()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        app = Stario(tracer)
        port = busy.getsockname()[1]
        if door == "run":
            with pytest.raises(OSError, match="cannot listen") as info:
                await Server(app, port=port).run()
        elif door == "serving":
            with pytest.raises(OSError, match="cannot listen") as info:
                async with app.serving(port=port):
                    pytest.fail("not started")
        else:
            async with trio.open_nursery() as nursery:
                with pytest.raises(OSError, match="cannot listen") as info:
                    await nursery.start(app.serve, "127.0.0.1", port)
    assert type(info.value) is OSError
    assert isinstance(info.value.__cause__, OSError)  # what the kernel said
    span = tracer.named("server.startup")
    assert span.failed
    assert span.finished
    assert [span.name for span in tracer.spans] == ["server.startup"]
    assert handlers() == before
    assert descriptors() == open_before


@pytest.mark.spec("ST-05")
@pytest.mark.parametrize("now", [False, True])
async def test_a_stop_before_the_start(now: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "server.sock")
    server = Server(app_of(("/", hello)), unix_socket=path)
    server.stop(now=now)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            assert await nursery.start(server.run) == []
    assert not os.path.lexists(path)
    assert server.report.reason == "stop()"
    assert server.report.urgent is now
    assert server.report.workers == []


@pytest.mark.spec("ST-05")
async def test_a_stop_while_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trio.socket.getaddrinfo
    tracer = Recorder()
    server = Server(Stario(tracer), port=0)

    async def slow(*args: Any, **more: Any) -> Any:
        server.stop()
        await trio.testing.wait_all_tasks_blocked()
        return await real(*args, **more)

    monkeypatch.setattr(trio.socket, "getaddrinfo", slow)
    with trio.fail_after(PATIENCE):
        await server.run()
    assert server.addresses == []
    assert tracer.named("server.startup").ok


@pytest.mark.upstream_bug(12)
@pytest.mark.spec("ST-03")
async def test_a_slow_start_is_waited_for(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*args: Any, **more: Any) -> Any:
        await trio.sleep(3)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", slow)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(app_of(), port=0).run)
        assert trio.current_time() == start + 3
        nursery.cancel_scope.cancel()


@pytest.mark.spec("ST-06")
async def test_a_server_runs_once() -> None:
    server = Server(app_of(), port=0)
    with trio.fail_after(PATIENCE):
        async with server.running():
            with pytest.raises(StarioError, match="already running"):
                await server.run()
        with pytest.raises(StarioError, match="already running"):
            await server.run()


def test_without_trio_it_says_how_to_start() -> None:
    coroutine = Server(app_of()).run()
    with pytest.raises(StarioError, match=r"trio.run\(app.serve\)"):
        coroutine.send(None)


async def test_settings_are_checked_before_anything_happens() -> None:
    with pytest.raises(StarioError, match="workers"):
        await app_of().serve(workers=0)
    with pytest.raises(StarioError, match="port"):
        async with app_of().serving(port=70000):
            pytest.fail("not started")


@pytest.mark.spec("ST-04")
async def test_the_startup_span(tmp_path: Path) -> None:
    tracer = Recorder()
    with trio.fail_after(PATIENCE):
        async with Stario(tracer).serving(port=0) as server:
            span = tracer.named("server.startup")
            assert span.finished
            assert span.ok
            assert span.attributes == {
                "server.host": "127.0.0.1",
                "server.port": server.addresses[0][1],
                "server.workers": 1,
            }
        tracer = Recorder()
        path = str(tmp_path / "s")
        async with Stario(tracer).serving(unix_socket=path):
            assert tracer.named("server.startup").attributes == {"server.unix_socket": path, "server.workers": 1}


# Stop


@pytest.mark.spec("SD-01")
async def test_stop_from_another_thread() -> None:
    server = Server(app_of(("/", hello)), port=0)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            thread = threading.Thread(target=server.stop)
            thread.start()
    thread.join(PATIENCE)
    assert server.report.reason == "stop()"


@pytest.mark.spec("SD-01")
async def test_stop_after_the_end_is_harmless() -> None:
    async with live() as server:
        pass
    server.stop()
    server.stop(now=True)
    await trio.testing.wait_all_tasks_blocked()
    assert not server.report.urgent  # the report is complete


@pytest.mark.spec("SD-01")
def test_stop_after_the_end_of_the_whole_run_is_harmless() -> None:
    server = Server(app_of(), port=0)

    async def main() -> None:
        async with server.running():
            pass

    trio.run(main)
    server.stop()


@pytest.mark.spec("SD-17")
async def test_stop_after_an_outer_cancel_is_harmless() -> None:
    server = Server(app_of(), port=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        nursery.cancel_scope.cancel()
    server.stop()
    server.stop(now=True)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.spec("SD-17")
async def test_stop_while_an_outer_cancel_waits_for_cleanup() -> None:
    cleaning, go_on = trio.Event(), trio.Event()

    async def handler(c: Context, w: Writer) -> None:
        w.write(b"started")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                cleaning.set()
                await go_on.wait()

    server = Server(app_of(("/", handler)), port=0)
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        await nursery.start(server.run)
        client_there = trio.Event()

        async def client() -> None:
            async with peer(server) as it:
                await it.get("/")
                await it.until(b"started")
                client_there.set()

        outer.start_soon(client)
        await client_there.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await cleaning.wait()
            server.stop(now=True)  # somebody is impatient
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()


@pytest.mark.spec("SD-16")
async def test_stop_now_leaves_out_the_grace() -> None:
    cancelled = trio.Event()

    async def handler(c: Context, w: Writer) -> None:
        w.write(b"started")
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with live(("/", handler), graceful_timeout=600) as server, peer(server) as client:
        await client.get("/")
        await client.until(b"started\r\n")
        server.stop()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not cancelled.is_set()
        server.stop(now=True)
        await cancelled.wait()
        assert await client.rest() == b""
    assert server.report.urgent


@pytest.mark.upstream_bug(13)
@pytest.mark.spec("SD-17")
@pytest.mark.parametrize("kind", ["with", "for", "plain", "reading", "idle"])
async def test_an_outer_cancel_releases_everything(kind: str) -> None:
    """Each kind waits in another place, and all of them meet in one instant."""
    started = trio.Event()

    async def never() -> Any:
        await trio.sleep_forever()
        yield None

    async def handler(c: Context, w: Writer) -> None:
        w.write(b"started")
        if kind == "with":
            async with w.alive():
                await trio.sleep_forever()
        elif kind == "for":
            async for _ in w.alive(never()):
                pass
        elif kind == "reading":
            await c.req.body()
        elif kind == "plain":
            await trio.sleep_forever()
        w.end()

    server = Server(app_of(("/", handler)), port=0, graceful_timeout=600, cleanup_timeout=600)
    before = handlers()
    for_others = []
    with trio.fail_after(PATIENCE):
        with trio.CancelScope() as outer:
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)

                async def client() -> None:
                    async with peer(server) as it:
                        await it.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
                        await it.until(b"0\r\n\r\n" if kind == "idle" else b"started\r\n")
                        for_others.append(1)
                        if len(for_others) == 5:
                            started.set()
                        await trio.sleep_forever()

                for _ in range(5):
                    nursery.start_soon(client)
                await started.wait()
                outer.cancel()
        assert outer.cancelled_caught
    assert handlers() == before
    assert server.report.reason == "cancelled"
    assert server.report.workers[0].balanced
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.addresses[0])  # type: ignore[arg-type]


@pytest.mark.upstream_bug(15)
@pytest.mark.spec("SD-20")
async def test_the_release_is_complete_when_run_returns(tmp_path: Path) -> None:
    path = str(tmp_path / "server.sock")
    tracer = Recorder()
    before = handlers()
    with trio.fail_after(PATIENCE):
        async with Stario(tracer).serving(unix_socket=path):
            assert handlers() != before
    assert not os.path.lexists(path)
    assert all(span.finished for span in tracer.spans)
    assert handlers() == before


@pytest.mark.upstream_bug(10)
@pytest.mark.spec("SD-20")
def test_off_the_main_thread_everything_works_but_signals() -> None:
    before = handlers()
    seen: list[object] = []

    async def main() -> None:
        async with live(("/", hello)) as server, peer(server) as client:
            seen.append((await client.ask("/")).body)
            seen.append(handlers())

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    thread.join(PATIENCE)
    assert seen == [b"hello", before]
    assert handlers() == before


@needs_proc
@pytest.mark.spec("SD-20")
async def test_fifty_runs_leave_no_descriptor() -> None:
    async def once(*, cancel: bool) -> None:
        async with trio.open_nursery() as nursery:
            server = Server(app_of(("/", hello)), port=0)
            await nursery.start(server.run)
            async with peer(server) as client, peer(server):
                assert (await client.ask("/")).body == b"hello"
                if cancel:
                    nursery.cancel_scope.cancel()
                else:
                    server.stop()

    await once(cancel=False)
    before = descriptors()
    for n in range(50):
        await once(cancel=n % 5 == 4)
    assert descriptors() == before


# Failures


@needs_proc
@pytest.mark.spec("SD-21")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_a_worker_that_dies_comes_out_as_itself(error: type[BaseException], tmp_path: Path) -> None:
    class Own(error):  # type: ignore[valid-type, misc]
        pass

    async def die(c: Context, w: Writer) -> None:
        raise Own(7)

    async def stay(c: Context, w: Writer) -> None:
        w.write(b"started")
        await trio.sleep_forever()

    path = str(tmp_path / "server.sock")
    before, open_before = handlers(), descriptors()
    server = Server(app_of(("/die", die), ("/stay", stay)), unix_socket=path, graceful_timeout=600)
    with trio.fail_after(PATIENCE), pytest.raises(Own) as info:
        async with server.running(), peer(server) as other, peer(server) as client, peer(server):
            await other.get("/stay")
            await other.until(b"started\r\n")
            await client.get("/die")
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                assert await other.rest() == b""  # closed, and not as if it were complete
                assert await client.rest() == b""
            await trio.sleep_forever()
    assert info.value.args == (7,)
    assert not os.path.lexists(path)
    assert handlers() == before
    assert "Own" in server.report.reason
    assert server.report.workers[0].balanced
    del info
    assert descriptors() == open_before


@pytest.mark.spec("SD-21")
async def test_the_body_is_cancelled_when_the_server_dies() -> None:
    async def die(c: Context, w: Writer) -> None:
        raise SystemExit(7)

    cancelled = False
    with pytest.raises(SystemExit):
        async with live(("/", die)) as server, peer(server) as client:
            await client.get("/")
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                cancelled = True
                raise
    assert cancelled


# `async with app.serving()`


@pytest.mark.spec("SD-20")
async def test_leaving_the_block_is_a_graceful_stop() -> None:
    asked, answered = trio.Event(), trio.Event()

    async def handler(c: Context, w: Writer) -> None:
        asked.set()
        while not w.shutting_down:
            await trio.testing.wait_all_tasks_blocked(0.001)
        w.text("finished")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            async with app_of(("/", handler)).serving(port=0) as server:

                async def client() -> None:
                    async with peer(server) as it:
                        answer = await it.ask("/")
                        assert (answer.body, answer.fields["connection"]) == (b"finished", "close")
                        answered.set()

                nursery.start_soon(client)
                await asked.wait()
            assert answered.is_set() or server.report.workers[0].finished == 1
    assert server.report.reason == "stop()"


@pytest.mark.spec("SD-17")
async def test_an_exception_in_the_block_comes_out_as_itself() -> None:
    cause = KeyError("why")
    with trio.fail_after(PATIENCE), pytest.raises(ZeroDivisionError) as info:
        async with app_of().serving(port=0, graceful_timeout=600):
            raise ZeroDivisionError from cause
    assert info.value.__cause__ is cause
    assert info.value.__suppress_context__


async def test_a_cancel_of_the_block_passes() -> None:
    with trio.CancelScope() as scope:
        async with app_of().serving(port=0, graceful_timeout=600) as server:
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert server.report.reason == "cancelled"


async def test_a_server_that_stops_by_itself_lets_the_block_finish() -> None:
    with trio.fail_after(PATIENCE):
        async with app_of().serving(port=0) as server:
            server.stop()
            while not server.report.workers[0].durations.get(Phase.AWAITING, None) is not None:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await trio.testing.wait_all_tasks_blocked()
    assert server.report.reason == "stop()"


# Report and telemetry


@pytest.mark.spec("SD-23", "SD-24")
async def test_the_report_and_the_shutdown_span() -> None:
    tracer = Recorder()
    app = Stario(tracer)

    async def stuck(c: Context, w: Writer) -> None:
        w.write(b"started")
        await trio.sleep_forever()

    app.get("/", stuck)
    app.get("/hello", hello)
    with trio.fail_after(PATIENCE):
        async with app.serving(port=0, graceful_timeout=0.05) as server, peer(server) as one, peer(server) as idle:
            await one.get("/")
            await one.until(b"started\r\n")
            await idle.ask("/hello")
            server.stop()
            assert await idle.ended()
            assert await one.rest() == b""
    (books,) = server.report.workers
    assert (books.connections_at_shutdown, books.closed_idle, books.force_closed) == (2, 1, 1)
    assert (books.handlers_cancelled, len(books.abandoned)) == (1, 0)
    assert books.balanced
    assert list(books.durations) == list(Phase)[1:6]
    assert books.durations[Phase.DRAINING] == pytest.approx(0.05, abs=0.05)
    span = tracer.named("server.shutdown")
    assert span.attributes == {
        "server.graceful_timeout": 0.05,
        "server.cleanup_timeout": 5.0,
        "server.workers": 1,
        "server.shutdown.reason": "stop()",
        "server.shutdown.urgent": False,
        "server.worker.0.connections_at_shutdown": 2,
        "server.worker.0.connections_accepted_late": 0,
        "server.worker.0.connections_closed_idle": 1,
        "server.worker.0.connections_force_closed": 1,
        "server.worker.0.handler_tasks_cancelled": 1,
        "server.worker.0.handlers_abandoned": 0,
    }
    assert span.finished
    steps = [step for step in tracer.spans if step.parent_id == span.id]
    assert [step.name for step in steps] == [phase.name.lower() for phase in list(Phase)[1:6]]
    assert all(step.finished for step in steps)


class Raising(NoopTracer):
    """Makes spans and raises at everything."""

    wants_changes = True

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        raise ZeroDivisionError


def no_tracer(name: str) -> Span:
    raise ZeroDivisionError


def not_a_span(name: str) -> Span:
    return "nonsense"  # type: ignore[return-value]


@pytest.mark.spec("SD-22")
@pytest.mark.parametrize("tracer", [Raising(), no_tracer, not_a_span], ids=["notify", "call", "no span"])
async def test_a_tracer_that_raises_changes_nothing(tracer: Any) -> None:
    app = Stario(tracer)
    app.get("/", hello)

    async def stream(c: Context, w: Writer) -> None:
        w.write(b"started")
        async with w.alive():
            await trio.sleep_forever()
        w.end(b"bye")

    app.get("/stream", stream)
    with trio.fail_after(PATIENCE):
        async with app.serving(port=0, graceful_timeout=600) as server:  # noqa: SIM117  (three in one are hard to read)
            async with peer(server) as client, peer(server) as other:
                assert (await client.ask("/")).body == b"hello"
                await other.get("/stream")
                await other.until(b"started\r\n")
                server.stop()
                assert await client.ended()
                assert b"bye" in await other.rest()
    assert server.report.reason == "stop()"
    assert server.report.workers[0].balanced


@pytest.mark.spec("SD-19")
async def test_services_outlive_the_last_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Date of a response in the last moment of the stop is still renewed."""
    order: list[str] = []
    run = Date.run

    async def noted(self: Date) -> None:
        try:
            await run(self)
        finally:
            order.append("date ended")

    monkeypatch.setattr(Date, "run", noted)

    async def last(c: Context, w: Writer) -> None:
        entered.set()
        async with w.alive():
            await trio.sleep_forever()
        w.headers.set("x-date-service", "ended" if order else "runs")
        w.text("bye")
        order.append("handler ended")

    entered = trio.Event()
    with trio.fail_after(PATIENCE):
        server = Server(app_of(("/", last)), port=0)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with peer(server) as client:
                await client.get("/")
                await entered.wait()
                server.stop()
                answer = await client.answer()
    assert answer.fields["x-date-service"] == "runs"
    assert order == ["handler ended", "date ended"]


async def test_a_server_that_stops_ends_the_block_it_serves_around() -> None:
    after: list[bool] = []
    with trio.fail_after(PATIENCE):
        async with app_of().serving(port=0) as server:
            server.stop()
            await trio.sleep_forever()
        after.append(server.report.workers[0].balanced)
    assert after == [True]


@pytest.mark.spec("SD-16", "ST-05")
async def test_haste_before_the_start_is_not_taken_back() -> None:
    server = Server(app_of(), port=0)
    server.stop(now=True)
    server.stop()
    await server.run()
    assert (server.report.reason, server.report.urgent) == ("stop()", True)
