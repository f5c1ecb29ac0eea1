"""Stop: SD-01 to SD-24 for one worker, in the order of the specification."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.server.phases import Phase
from tests.spec.handlers import endless, hello, stream, swallows, takes
from tests.support.answers import answers
from tests.support.stage import Stage, request, stage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stario_trio import Context, Writer


def stopped(at: float, force: float | None = None, end: float | None = None) -> list[str]:
    """The trace of a stop: when it was asked for, when the drain ended, when the last handler ended."""
    force = at if force is None else force
    end = force if end is None else end
    return [
        f"{at:.3f} STOP_ACCEPTING",
        f"{at:.3f} DRAINING",
        f"{force:.3f} FORCE_CLOSING",
        f"{force:.3f} CANCELLING",
        f"{force:.3f} AWAITING",
        f"{end:.3f} STOPPED",
    ]


@pytest.mark.spec("SD-01", "SD-10")
async def test_without_connections_a_stop_takes_no_time() -> None:
    async with stage(("/", hello)) as s:
        await trio.sleep(1)
    assert s.trace == stopped(1)


@pytest.mark.spec("SD-02", "SD-24")
async def test_what_the_kernel_has_completed_is_served_and_not_reset() -> None:
    async with stage(("/", hello), graceful_timeout=5) as s:
        # In the very instant of the stop, before the accept loop has its turn.
        late = [s.follow(f"late {n}", s.get("/")) for n in range(3)]
        s.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert s.listener.closed
    assert [s.ends[f"late {n}"] for n in range(3)] == ["0.000 200 close"] * 3
    assert s.worker.report.accepted_late + s.worker.report.connections_at_shutdown == 3
    assert not any(client.reset for client in late)


@pytest.mark.spec("SD-02")
async def test_late_connections_are_bounded_by_the_backlog() -> None:
    async with stage(("/", hello), graceful_timeout=5, backlog=2, limits={"connections": 1}) as s:
        s.follow("first", s.get("/"))
        await trio.testing.wait_all_tasks_blocked()
        late = [s.get("/") for _ in range(4)]  # no room for them: they wait in the backlog
        await trio.testing.wait_all_tasks_blocked()
        s.stop()
    # One more than the backlog, as many as Linux holds.
    assert [client.reset for client in late] == [False, False, False, True]
    assert s.worker.report.accepted_late == 3


@pytest.mark.spec("SD-03")
async def test_handlers_are_told_only_after_the_listener_is_closed() -> None:
    seen: list[tuple[bool, bool]] = []

    writers: list[Writer] = []

    async def watcher(c: Context, w: Writer) -> None:
        writers.append(w)
        async with w.alive():
            await trio.sleep_forever()
        seen.append((w.shutting_down, s.listener.closed))
        w.empty()

    async with stage(("/", watcher), graceful_timeout=5) as s:
        s.get("/")
        await trio.sleep(1)
        s.stop()
        assert s.phase is Phase.STOP_ACCEPTING  # asked for, and nobody was told yet
        assert not writers[0].shutting_down
        assert not seen
    assert seen == [(True, True)]


@pytest.mark.upstream_bug(16)
@pytest.mark.spec("SD-04")
async def test_idle_connections_close_at_once_without_a_response() -> None:
    async with stage(("/", hello), graceful_timeout=math.inf) as s:
        s.follow("idle", s.get("/"))
        await trio.sleep(1)
    assert s.trace == stopped(1)
    assert s.ends == {"idle": "1.000 200"}
    assert s.worker.report.closed_idle == 1


@pytest.mark.spec("SD-04", "SD-06")
async def test_a_request_that_has_arrived_on_an_idle_connection_is_served() -> None:
    """Its bytes are in the kernel when the stop comes: for its client it was sent before."""
    async with stage(("/", hello), ("/slow", takes(1)), graceful_timeout=5) as s:
        client = s.follow("busy", s.get("/"))
        await trio.sleep(1)
        client.send(request("/slow"))
        s.stop()
    assert s.ends == {"busy": "2.000 200, 200 close"}
    assert s.worker.report.finished == 1


@pytest.mark.spec("SD-05")
@pytest.mark.parametrize(("grace", "end"), [(5, 2.0), (1, 2.0), (0.5, 1.5), (math.inf, 2.0)])
async def test_a_new_connection_has_a_second_for_its_first_byte(grace: float, end: float) -> None:
    async with stage(("/", hello), graceful_timeout=grace) as s:
        s.follow("new", s.connect())
        await trio.sleep(1)
    assert s.ends == {"new": f"{end:.3f} nothing"}
    assert s.trace == stopped(1, force=end)


@pytest.mark.spec("SD-05", "SD-06")
async def test_a_new_connection_that_speaks_in_time_is_served() -> None:
    async with stage(("/", hello), graceful_timeout=5) as s:
        client = s.follow("new", s.connect())
        await trio.sleep(1)
        s.stop()
        await trio.sleep(0.9)
        client.send(b"GET / HTTP/1.1\r\n")
        await trio.sleep(2)
        client.send(b"Host: test\r\n\r\n")
    assert s.ends == {"new": "3.900 200 close"}
    assert s.trace == stopped(1, force=3.9)


@pytest.mark.spec("SD-06", "SD-11")
async def test_half_a_head_has_until_the_deadline() -> None:
    async with stage(("/", hello), graceful_timeout=3) as s:
        s.follow("slow", s.connect(b"GET / HTTP/1.1\r\n"))
        await trio.sleep(1)
    assert s.ends == {"slow": "4.000 nothing"}
    assert s.worker.report.force_closed == 1
    assert s.trace == stopped(1, force=4)


@pytest.mark.spec("SD-06")
async def test_half_a_head_is_still_bound_by_the_header_timeout() -> None:
    async with stage(("/", hello), graceful_timeout=math.inf, limits={"header_timeout": 3}) as s:
        s.follow("slow", s.connect(b"GET / HTTP/1.1\r\n"))
        await trio.sleep(1)
    assert s.ends == {"slow": "3.000 408 close"}
    assert s.trace == stopped(1, force=3)


@pytest.mark.spec("SD-07")
async def test_an_active_response_completes_and_says_close() -> None:
    async with stage(("/slow", takes(3)), ("/", hello), graceful_timeout=5) as s:
        s.follow("active", s.connect(request("/slow") + request("/")))
        await trio.sleep(1)
    assert s.ends == {"active": "3.000 200 close"}  # the pipelined request is not started
    assert s.trace == stopped(1, force=3)


@pytest.mark.spec("SD-07")
async def test_unsent_bytes_of_a_response_are_active() -> None:
    async def big(c: Context, w: Writer) -> None:
        w.respond(b"x" * 5000, b"text/plain")

    async with stage(("/", big), graceful_timeout=5) as s:
        client = s.follow("slow reader", s.get("/", window=1000))
        await trio.sleep(1)
        s.stop()
        await trio.sleep(1)
        client.take(math.inf)
    assert s.ends == {"slow reader": "2.000 200"}  # its head was sent before the stop, so it could not say close
    assert s.trace == stopped(1, force=2)


@pytest.mark.spec("SD-08")
async def test_alive_ends_with_the_drain_and_the_code_after_it_has_the_rest_of_the_grace() -> None:
    async def farewell(c: Context, w: Writer) -> None:
        async for _ in w.alive(ticks_forever()):
            w.patch("tick")
        await trio.sleep(2)
        w.patch("bye")

    async def ticks_forever() -> AsyncGenerator[None]:
        while True:
            yield
            await trio.sleep(0.7)

    async with stage(("/", farewell), graceful_timeout=5) as s:
        client = s.follow("stream", s.get("/"))
        await trio.sleep(1)
    assert s.ends == {"stream": "3.000 200"}
    assert bytes(client.received).count(b"tick") == 2
    assert bytes(client.received).endswith(b"0\r\n\r\n")
    assert b"bye" in client.received
    assert s.trace == stopped(1, force=3)


@pytest.mark.spec("SD-09")
async def test_outside_alive_a_handler_sees_nothing_before_the_deadline() -> None:
    seen: list[tuple[float, str]] = []

    async def unaware(c: Context, w: Writer) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append((s.now, s.phase.name))
            raise

    async with stage(("/", unaware), graceful_timeout=3) as s:
        s.get("/")
        await trio.sleep(1)
    assert seen == [(4.0, "AWAITING")]


@pytest.mark.spec("SD-10")
@pytest.mark.parametrize("grace", [0, 0.29, 0.05, 3])
async def test_the_drain_ends_exactly_at_its_deadline(grace: float) -> None:
    async with stage(("/", takes(100)), graceful_timeout=grace) as s:
        s.follow("slow", s.get("/"))
        await trio.sleep(1)
    assert s.trace == stopped(1, force=1 + grace)
    assert s.ends == {"slow": f"{1 + grace:.3f} nothing"}
    assert s.worker.report.handlers_cancelled == 1


@pytest.mark.spec("SD-10")
async def test_without_a_deadline_the_drain_waits_for_the_last() -> None:
    async with stage(("/", takes(100_000)), graceful_timeout=math.inf) as s:
        s.follow("slow", s.get("/"))
        await trio.sleep(1)
    assert s.trace == stopped(1, force=100_000)
    assert s.ends == {"slow": "100000.000 200 close"}


@pytest.mark.spec("SD-10")
async def test_the_drain_waits_for_a_handler_whose_client_has_left() -> None:
    done: list[float] = []

    async def thorough(c: Context, w: Writer) -> None:
        await trio.sleep(3)
        done.append(s.now)

    async with stage(("/", thorough), graceful_timeout=10) as s:
        s.get("/").leave()
        await trio.sleep(1)
    assert done == [3.0]
    assert s.trace == stopped(1, force=3)


@pytest.mark.spec("SD-11")
async def test_a_cut_response_never_looks_complete() -> None:
    async def counted(c: Context, w: Writer) -> None:
        w.headers.set("content-length", "100")
        w.write(b"some")
        await trio.sleep_forever()

    async with stage(("/chunked", endless), ("/counted", counted), graceful_timeout=2) as s:
        chunked = s.follow("chunked", s.get("/chunked"))
        s.follow("counted", s.get("/counted"))
        old = s.follow("until close", s.connect(request("/chunked", version="1.0")))
        await trio.sleep(1)
    assert s.ends == {
        "chunked": "3.000 200 cut",
        "counted": "3.000 200 cut",
        "until close": "3.000 200 close cut, reset",
    }
    assert not bytes(chunked.received).endswith(b"0\r\n\r\n")
    assert old.reset
    assert s.worker.report.force_closed == 3


@pytest.mark.spec("SD-11")
async def test_force_closing_wakes_shielded_writing() -> None:
    woken: list[float] = []

    async def stubborn(c: Context, w: Writer) -> None:
        w.write(b"x" * 2_000_000)
        with trio.CancelScope(shield=True):  # noqa: ASYNC101
            await w.drain()
        woken.append(s.now)

    async with stage(("/", stubborn), graceful_timeout=2) as s:
        s.get("/", window=1000)
        await trio.sleep(1)
    assert woken == [3.0]


@pytest.mark.spec("SD-12")
async def test_handlers_are_cancelled_in_the_same_instant_with_a_reason() -> None:
    reasons: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            reasons.append(str(exc))
            raise

    async with stage(("/", handler), graceful_timeout=2) as s:
        s.get("/")
        await trio.sleep(1)
    (reason,) = reasons
    assert "CANCELLING" in reason
    assert "test" in reason  # the cause
    assert s.worker.report.handlers_cancelled == 1


@pytest.mark.spec("SD-12")
async def test_tasks_the_server_did_not_start_are_never_touched() -> None:
    rounds: list[float] = []

    async def metronome() -> None:
        while True:
            rounds.append(trio.current_time())
            await trio.sleep(1)

    async with trio.open_nursery() as mine:
        mine.start_soon(metronome)
        async with stage(("/", takes(100)), graceful_timeout=2) as s:
            s.get("/")
            await trio.sleep(1)
        await trio.sleep(2)
        mine.cancel_scope.cancel()
    assert [b - a for a, b in pairwise(rounds)] == [1.0] * (len(rounds) - 1)
    assert len(rounds) >= 5


@pytest.mark.upstream_bug(17)
@pytest.mark.spec("SD-13", "SD-15")
@pytest.mark.parametrize("cleanup", [0.5, 4.9])
async def test_cancelled_handlers_have_time_for_their_cleanup(cleanup: float) -> None:
    async with stage(("/", swallows(cleanup)), graceful_timeout=2, cleanup_timeout=5) as s:
        s.get("/")
        await trio.sleep(1)
    assert s.trace == stopped(1, force=3, end=3 + cleanup)
    assert s.worker.report.abandoned == []


@pytest.mark.upstream_bug(17)
@pytest.mark.spec("SD-14")
async def test_a_handler_that_stays_is_reported_with_its_route_and_stack() -> None:
    async with stage(("/stuck", swallows(100)), graceful_timeout=2, cleanup_timeout=5) as s:
        s.get("/stuck")
        await trio.sleep(1)
        s.stop()
        await trio.sleep(6.9)
        assert s.worker.report.abandoned == []
        await trio.sleep(0.2)
        (stuck,) = s.worker.report.abandoned
    assert stuck.route == "GET /stuck"
    assert any("swallows" in frame for frame in stuck.stack)
    expected = stopped(1, force=3, end=103)  # in the caller's run it is waited for
    expected.insert(-1, "8.000 abandoned GET /stuck")
    assert s.trace == expected


@pytest.mark.spec("SD-16")
async def test_a_second_request_to_stop_jumps_to_force_closing() -> None:
    async with stage(("/", takes(100)), ("/s", stream), graceful_timeout=50) as s:
        s.follow("slow", s.get("/"))
        await trio.sleep(1)
        s.stop()
        await trio.sleep(2)
        s.stop(now=True)
    assert s.trace == stopped(1, force=3)
    assert s.ends == {"slow": "3.000 nothing"}
    assert s.worker.lifecycle.urgent


@pytest.mark.spec("SD-16", "SD-02")
async def test_a_stop_now_still_closes_the_listener_first() -> None:
    async with stage(("/", takes(100)), graceful_timeout=50) as s:
        s.follow("slow", s.get("/"))
        await trio.sleep(1)
        s.stop(now=True)
    assert s.trace == stopped(1)
    assert s.ends == {"slow": "1.000 nothing"}


@pytest.mark.spec("SD-16")
@pytest.mark.parametrize("second", [0.0, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("now", [False, True])
async def test_no_request_to_stop_makes_a_stop_later(second: float, now: bool) -> None:
    async with stage(("/", swallows(1)), graceful_timeout=2) as s:
        s.get("/")
        await trio.sleep(1)
        s.stop()
        await trio.sleep(second)
        s.stop(now=now)
    last = float(s.trace[-1].split()[0])
    assert last <= 4.0
    assert s.trace[-1].endswith("STOPPED")


@pytest.mark.spec("SD-17")
async def test_an_outer_cancel_is_no_drain() -> None:
    async def cleans_up(c: Context, w: Writer) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(s.now)

    cleaned: list[float] = []
    async with stage(("/", cleans_up), ("/hello", hello), ("/s", stream), graceful_timeout=50) as s:
        s.follow("handler", s.get("/"))
        s.follow("idle", s.get("/hello"))
        s.follow("stream", s.get("/s"))
        await trio.sleep(1)
        s.outer.cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert s.outer.cancelled_caught  # the cancellation went on to whoever asked for it
    assert cleaned == [1.0]
    assert s.ends == {"handler": "1.000 nothing", "idle": "1.000 200", "stream": "1.000 200 cut"}
    assert s.listener.closed
    assert s.trace == ["1.000 AWAITING", "1.000 STOPPED"]
    assert s.worker.report.connections_at_shutdown == 3
    assert (s.worker.report.closed_idle, s.worker.report.force_closed) == (1, 2)


@pytest.mark.spec("SD-17")
async def test_an_outer_cancel_wakes_shielded_writing() -> None:
    async def stubborn(c: Context, w: Writer) -> None:
        w.write(b"x" * 2_000_000)
        with trio.CancelScope(shield=True):  # noqa: ASYNC101
            await w.drain()

    async with stage(("/", stubborn), graceful_timeout=50) as s:
        s.follow("slow", s.get("/", window=1000))
        await trio.sleep(1)
        s.outer.cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert s.ends == {"slow": "1.000 200 cut"}
    assert s.now == 1.0


@pytest.mark.spec("SD-18")
async def test_a_complete_response_survives_unread_input() -> None:
    async def early(c: Context, w: Writer) -> None:
        w.text("no, thanks")

    upload = request("/", "Content-Length: 50000", method="POST")
    async with stage(("/", early)) as s:
        client = s.connect(upload + b"x" * 1000)
        await client.wait_for(lambda: client.over)
        client.send(b"x" * 20_000)  # was still on its way when the server ended its side
        await trio.testing.wait_all_tasks_blocked()
        client.leave()
    assert answers(bytes(client.received)) == ["200"]
    assert not client.reset


@pytest.mark.spec("SD-18")
async def test_the_linger_is_bounded_in_time_and_bytes() -> None:
    async def early(c: Context, w: Writer) -> None:
        w.text("no, thanks")

    upload = request("/", "Content-Length: 50000000", method="POST")
    async with stage(("/", early), graceful_timeout=50) as s:
        s.follow("silent", s.connect(upload), stubborn=True)
        flood = s.follow("flood", s.connect(upload), stubborn=True)
        await trio.testing.wait_all_tasks_blocked()
        assert len(s.worker.connections) == 2  # both ended their side, and wait for the client's end
        for _ in range(3):
            flood.send(b"x" * 65536)
        await trio.testing.wait_all_tasks_blocked()
        assert flood.arrived  # nobody reads any more of it, so its peer stops sending and finds its answer
        await trio.sleep(1.5)
        assert not s.worker.connections
        s.stop()
    assert s.trace == stopped(1.5)


@pytest.mark.spec("SD-24")
async def test_the_books_balance_for_a_mix() -> None:
    async with stage(
        ("/", hello), ("/slow", takes(2)), ("/never", swallows(1)), ("/s", stream), graceful_timeout=3
    ) as s:
        for n in range(3):
            s.follow(f"idle {n}", s.get("/"))
            s.follow(f"slow {n}", s.get("/slow"))
            s.follow(f"never {n}", s.get("/never"))
            s.follow(f"stream {n}", s.get("/s"))
            s.follow(f"new {n}", s.connect())
        await trio.sleep(1)
        s.follow("late", s.get("/"))
        s.stop()
    books = s.worker.report
    assert books.connections_at_shutdown + books.accepted_late == 16
    assert (books.closed_idle, books.finished, books.force_closed) == (6, 7, 3)
    assert books.handlers_cancelled == 3
    assert s.trace == stopped(1, force=4, end=5)


@pytest.mark.spec("ST-05")
async def test_a_stop_before_the_first_step_serves_nothing() -> None:
    async with trio.open_nursery() as nursery:
        s = Stage(nursery, graceful_timeout=5)
        s.stop()
        await trio.sleep(1)
        nursery.start_soon(s.run)
    assert s.listener.closed
    assert [line.split()[1] for line in s.trace] == [phase.name for phase in Phase if phase > Phase.SERVING]
