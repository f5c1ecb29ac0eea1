"""The stop as an operator sees it: processes, signals, clients of every kind. benchmarks/stop.py measures the same."""

from __future__ import annotations

import signal
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.support.flood import flood
from tests.support.process import Program, program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.live import Answer, Peer

both = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
DRAINING = "span stop_accepting"  # this step has ended
END_OF_CHUNKS = b"0\r\n\r\n"


async def ended_well(it: Program, reason: str = "SIGTERM") -> dict[str, Any]:
    """Wait for the end. Returns the report."""
    report = await it.report()
    assert await it.ends() == 0, it.output.decode()
    assert report["reason"] == reason
    assert report["balanced"]
    assert report["handlers_are_back"]
    assert b"Traceback" not in it.output
    return report


@both
@pytest.mark.spec("SD-01", "SD-04", "SD-24")
async def test_idle_connections(number: signal.Signals) -> None:
    async with program() as it:
        clients = [await it.connect() for _ in range(100)]
        for client in clients:
            assert (await client.ask("/hello")).body == b"hello"
        it.signal(number)
        for client in clients:
            assert await client.ended()
        report = await ended_well(it, number.name)
    assert (report["closed_idle"], report["force_closed"]) == (100, 0)


@both
@pytest.mark.spec("SD-01", "SD-08", "AL-03")
async def test_streams_that_ask(number: signal.Signals) -> None:
    async with program() as it:
        clients = [await it.get("/events") for _ in range(20)]
        for client in clients:
            await client.until(b"tick")
        it.signal(number)
        for client in clients:
            assert (await client.rest()).endswith(END_OF_CHUNKS)
            await client.stream.aclose()
        report = await ended_well(it, number.name)
    assert (report["finished"], report["cancelled"]) == (20, 0)


@pytest.mark.spec("SD-09", "SD-11", "SD-12", "SD-15")
async def test_a_stream_that_asks_nobody() -> None:
    async with program("--graceful-timeout", "0.1") as it:
        client = await it.get("/endless")
        await client.until(b"tick")
        it.signal(signal.SIGTERM)
        assert not (await client.rest()).endswith(END_OF_CHUNKS)
        report = await ended_well(it)
    assert (report["force_closed"], report["cancelled"], report["abandoned"]) == (1, 1, 0)


@pytest.mark.spec("SD-11", "SD-12", "SD-16")
async def test_a_second_signal_for_a_stream_that_asks_nobody() -> None:
    async with program() as it:
        client = await it.get("/endless")
        it.signal(signal.SIGTERM)
        await it.says(DRAINING)
        await client.until(b"tick")  # it goes on
        it.signal(signal.SIGTERM)
        assert not (await client.rest()).endswith(END_OF_CHUNKS)
        report = await ended_well(it)
    assert report["urgent"]
    assert (report["force_closed"], report["cancelled"]) == (1, 1)


async def post_half(it: Program) -> Peer:
    """A request that lasts until the client sends the other half."""
    client = await it.connect()
    await client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst")
    await it.says("echo started")
    return client


@both
@pytest.mark.spec("SD-07", "SD-10", "SD-18")
async def test_a_request_under_way(number: signal.Signals) -> None:
    async with program() as it:
        client = await post_half(it)
        it.signal(number)
        await it.says(DRAINING)
        await client.send(b"later")
        answer = await client.answer()
        assert await client.ended()
        await client.stream.aclose()
        report = await ended_well(it, number.name)
    assert answer.body == b"firstlater"
    assert answer.fields["connection"] == "close"
    assert (report["finished"], report["force_closed"]) == (1, 0)


@pytest.mark.spec("SD-13", "SD-15")
async def test_a_handler_that_takes_its_time_after_its_cancellation() -> None:
    async with program("--graceful-timeout", "0") as it:
        client = await it.get("/reluctant")
        await it.says("reluctant started")
        it.signal(signal.SIGTERM)
        assert await client.ended()
        await it.says("reluctant cleaned up")
        report = await ended_well(it)
    assert (report["cancelled"], report["abandoned"]) == (1, 0)


@pytest.mark.spec("SD-14")
async def test_a_handler_that_hangs_in_a_thread_is_reported_and_waited_for() -> None:
    async with program("--graceful-timeout", "0", "--cleanup-timeout", "0") as it:
        client = await it.get("/blocked")
        await it.says("blocked started")
        it.signal(signal.SIGTERM)
        assert await client.ended()
        await it.says("span handler abandoned")
        assert b"report" not in it.output
        it.signal(signal.SIGUSR1)
        await it.says("blocked ended")
        report = await ended_well(it)
    assert (report["cancelled"], report["abandoned"], report["force_closed"]) == (1, 1, 1)


@pytest.mark.spec("SD-11", "SD-15")
async def test_a_peer_that_does_not_read() -> None:
    async with program("--graceful-timeout", "0.1") as it:
        client = await it.connect(receive_buffer=65536)
        await client.get("/big")
        await it.says("big ended")
        it.signal(signal.SIGTERM)
        report = await ended_well(it)
        answer = await client.answer()
    assert not answer.complete
    assert report["force_closed"] == 1


@pytest.mark.spec("SD-06", "SD-07")
async def test_half_a_head_that_is_finished() -> None:
    async with program() as it:
        client, _ = await half_a_head(it)
        it.signal(signal.SIGTERM)
        await it.says(DRAINING)
        await client.send(b" test\r\n\r\n")
        answer = await client.answer()
        await client.stream.aclose()
        report = await ended_well(it)
    assert answer.body == b"hello"
    assert answer.fields["connection"] == "close"
    assert (report["finished"], report["closed_idle"]) == (1, 1)


@pytest.mark.spec("SD-06", "SD-11", "SD-15")
async def test_half_a_head_that_stays_so() -> None:
    async with program("--graceful-timeout", "0.1") as it:
        client, _ = await half_a_head(it)
        it.signal(signal.SIGTERM)
        assert await client.ended()
        report = await ended_well(it)
    assert (report["force_closed"], report["closed_idle"]) == (1, 1)


async def half_a_head(it: Program) -> tuple[Peer, Answer]:
    """Half a request that the server has read: it has answered somebody who came later."""
    client = await it.connect()
    await client.send(b"GET /hello HTTP/1.1\r\nHost:")
    other = await it.connect()
    return client, await other.ask("/hello")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.spec("SD-02", "SD-05", "SD-24")
async def test_nobody_is_reset_who_connects_in_the_moment_of_the_stop(kind: str, tmp_path: Path) -> None:
    """Three clients connect without a pause: some always come between the last accept and the close."""
    path = str(tmp_path / "server.sock")
    async with program(*(["--unix-socket", path] if kind == "unix" else [])) as it:
        address = ("127.0.0.1", it.port) if kind == "tcp" else path
        became: Counter[str] = Counter()
        fast = trio.Event()

        def connected(number: int) -> None:
            if number == 200:
                trio.from_thread.run_sync(fast.set)

        async def client() -> None:
            became.update(await trio.to_thread.run_sync(partial(flood, address, 1_000, connected)))

        async with trio.open_nursery() as clients:
            for _ in range(3):
                clients.start_soon(client)
            await fast.wait()
            it.signal(signal.SIGTERM)
        report = await ended_well(it)
    assert set(became) <= {"answered", "end"}, became
    assert became["answered"] >= 200
    assert report["force_closed"] == 0
