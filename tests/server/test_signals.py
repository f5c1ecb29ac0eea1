"""Real signals to real processes, and the rules of `stop_signals` around them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.server.signals import stop_signals
from tests.support.process import Program, program

if TYPE_CHECKING:
    from collections.abc import Iterator

both = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


async def ended_well(it: Program, reason: str) -> None:
    report = await it.report()
    assert await it.ends() == 0, it.output.decode()
    assert report["reason"] == reason
    assert report["balanced"]
    assert report["handlers_are_back"]
    assert b"Traceback" not in it.output


@both
@pytest.mark.spec("SD-01", "SD-08", "SD-20", "SD-23")
async def test_a_signal_stops_gracefully(number: signal.Signals) -> None:
    async with program() as it:
        client = await it.get("/stream")
        await it.says("stream started")
        it.signal(number)
        answer = await client.answer()
        assert answer.body == b"startedbye"
        await client.stream.aclose()
        await ended_well(it, number.name)
        assert not (await it.report())["urgent"]


@both
@pytest.mark.spec("SD-01", "SD-10")
async def test_a_signal_without_connections_stops_at_once(number: signal.Signals) -> None:
    async with program() as it:
        it.signal(number)
        await ended_well(it, number.name)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@both
@pytest.mark.spec("SD-16")
async def test_a_second_signal_leaves_out_the_grace(number: signal.Signals, second: signal.Signals) -> None:
    async with program() as it:
        told = await it.get("/stream")
        client = await it.get("/stuck")
        await it.says("stuck started")
        await it.says("stream started")
        it.signal(number)
        await it.says("stream ended")  # so the first one has come
        it.signal(second)
        await it.says("stuck cancelled")
        assert b"0\r\n\r\n" not in await client.rest()
        await client.stream.aclose()
        await told.stream.aclose()
        await ended_well(it, number.name)
        report = await it.report()
        assert report["urgent"]
        assert report["force_closed"] >= 1  # the other one may still linger
        assert report["cancelled"] == 1


@both
@pytest.mark.spec("SD-16")
async def test_the_third_signal_gets_the_handler_from_before(number: signal.Signals) -> None:
    async with program() as it:
        told = await it.get("/stream")
        client = await it.get("/stubborn")
        await it.says("stubborn started")
        await it.says("stream started")
        it.signal(number)
        await it.says("stream ended")
        it.signal(number)
        await it.says("stubborn cancelled")
        it.signal(number)
        if number is signal.SIGTERM:
            assert await it.ends() == -signal.SIGTERM
        else:
            # KeyboardInterrupt: Trio cancels everything, and a shielded handler is still waited for. The fourth
            # one is ours no more either; what matters is that the interrupt is on its way.
            it.process.kill()
            await it.ends()
            assert b"report" not in it.output
        await client.stream.aclose()
        await told.stream.aclose()


@pytest.mark.spec("SD-15", "SD-11", "SD-12")
async def test_a_stuck_handler_has_only_the_grace() -> None:
    async with program("--graceful-timeout", "0.1") as it:
        client = await it.get("/stuck")
        await it.says("stuck started")
        it.signal(signal.SIGTERM)
        await it.says("stuck cancelled")
        assert b"0\r\n\r\n" not in await client.rest()
        await client.stream.aclose()
        await ended_well(it, "SIGTERM")


@pytest.mark.spec("SD-21")
async def test_an_exit_in_a_handler_is_the_exit_of_the_program() -> None:
    async with program() as it:
        other = await it.get("/stuck")
        await it.says("stuck started")
        client = await it.get("/die")
        assert await it.ends() == 7
        assert b"started" in await other.rest()  # closed, not left open
        await client.stream.aclose()
        await other.stream.aclose()


@pytest.mark.spec("SD-16")
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pty")
async def test_ctrl_c_in_a_terminal() -> None:
    """The terminal sends SIGINT to its whole foreground process group."""
    ours, theirs = os.openpty()
    try:
        async with program(stdin=theirs, start_new_session=True, preexec_fn=lambda: _take_terminal(theirs)) as it:
            client = await it.get("/stream")
            await it.says("stream started")
            os.write(ours, b"\x03")
            assert (await client.answer()).body == b"startedbye"
            await client.stream.aclose()
            await ended_well(it, "SIGINT")
    finally:
        os.close(ours)
        os.close(theirs)


def _take_terminal(fd: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


# In this process


@pytest.fixture
def handlers() -> Iterator[list[int]]:
    """Handlers from before that count, so that a signal meant for them kills nobody."""
    got: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _frame: got.append(number)) for number in numbers]
    yield got
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def current() -> list[object]:
    return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


@both
@pytest.mark.spec("SD-16", "SD-20")
async def test_one_two_three(number: signal.Signals, handlers: list[int]) -> None:
    before = current()
    asked: list[tuple[str, bool]] = []
    with stop_signals(lambda why, now: asked.append((why, now))):
        assert current() != before
        signal.raise_signal(number)
        await trio.testing.wait_all_tasks_blocked()
        assert asked == [(number.name, False)]
        signal.raise_signal(number)
        await trio.testing.wait_all_tasks_blocked()
        assert asked == [(number.name, False), (number.name, True)]
        assert current() == before
        signal.raise_signal(number)
        assert handlers == [number]
    assert current() == before
    assert len(asked) == 2


@pytest.mark.spec("SD-16")
async def test_two_at_once_are_two(handlers: list[int]) -> None:
    """Trio's own receiver would merge them."""
    asked: list[tuple[str, bool]] = []
    with stop_signals(lambda why, now: asked.append((why, now))):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked()
    assert asked == [("SIGTERM", False), ("SIGTERM", True)]


@pytest.mark.spec("SD-20")
async def test_somebody_elses_newer_handler_stays(handlers: list[int]) -> None:
    def newer(number: int, frame: object) -> None: ...

    with stop_signals(lambda why, now: None):
        signal.signal(signal.SIGINT, newer)
    assert signal.getsignal(signal.SIGINT) is newer


@pytest.mark.upstream_bug(15)
@pytest.mark.spec("SD-20")
async def test_the_handlers_are_back_after_an_exception(handlers: list[int]) -> None:
    before = current()
    with pytest.raises(ZeroDivisionError), stop_signals(lambda why, now: None):
        _ = 1 / 0
    assert current() == before


@pytest.mark.spec("SD-20")
async def test_a_handler_python_does_not_know_becomes_the_default(
    handlers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One installed by a C library: `getsignal` says None, and `signal` cannot put it back."""
    real = signal.getsignal
    first = True

    def unknown(number: int) -> object:
        nonlocal first
        if first and number == signal.SIGTERM:
            first = False
            return None
        return real(number)

    monkeypatch.setattr(signal, "getsignal", unknown)
    with stop_signals(lambda why, now: None):
        pass
    assert real(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.upstream_bug(10)
@pytest.mark.spec("SD-20")
async def test_off_the_main_thread_nothing_is_installed() -> None:
    before = current()
    inside: list[list[object]] = []

    async def main() -> None:
        with stop_signals(lambda why, now: None):
            inside.append(current())

    def thread() -> None:
        trio.run(main)

    await trio.to_thread.run_sync(thread)
    assert inside == [before]
    assert current() == before
    assert threading.current_thread() is threading.main_thread()


@pytest.mark.upstream_bug(15)
@pytest.mark.spec("SD-16")
def test_a_signal_after_the_end_of_the_run_is_harmless(handlers: list[int]) -> None:
    """The run may end between the arrival of a signal and its handler."""
    kept: list[object] = []

    async def main() -> None:
        with stop_signals(lambda why, now: None):
            kept.append(signal.getsignal(signal.SIGTERM))

    trio.run(main)
    (caught,) = kept
    assert callable(caught)
    caught(signal.SIGTERM, None)


TWO_SERVERS = """
import signal, sys, trio, trio.testing
from stario_trio import NoopTracer, Server, Stario

async def main(order):
    servers = {name: Server(Stario(NoopTracer()), port=0) for name in ("older", "newer")}
    async with trio.open_nursery() as older, trio.open_nursery() as newer:
        await older.start(servers["older"].run)
        await newer.start(servers["newer"].run)
        if order == "older first":
            servers["older"].stop()
            await trio.testing.wait_all_tasks_blocked()
        print("ready", flush=True)
    print({name: server.report.reason for name, server in servers.items()}, flush=True)
    signal.raise_signal(signal.SIGINT)

try:
    trio.run(main, sys.argv[1])
except KeyboardInterrupt:
    print("interrupt", flush=True)
"""


@pytest.mark.spec("SD-16", "SD-20")
@pytest.mark.parametrize(("order", "older"), [("together", "SIGTERM"), ("older first", "stop()")])
def test_two_servers_in_one_run_share_the_signals(order: str, older: str) -> None:
    with subprocess.Popen([sys.executable, "-c", TWO_SERVERS, order], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert rest.splitlines() == [str({"older": older, "newer": "SIGTERM"}), "interrupt"]
