"""One connection on a virtual clock: what its states, timeouts and ends look like from outside."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.exceptions import ClientDisconnected
from tests.support.answers import answers
from tests.support.stage import request, stage

if TYPE_CHECKING:
    from trio.testing import MockClock

    from stario_trio import Context, Writer


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


async def test_the_end_of_a_response_is_taken_however_much_waits(autojump_clock: MockClock) -> None:
    """One write may be larger than the limit; the chunk that ends it must not be the one too many."""

    async def huge(c: Context, w: Writer) -> None:
        w.write(b"x" * 10_000)

    async with stage(("/", huge), limits={"high_water": 1000, "max_unsent": 2000}) as s:
        client = s.follow("slow", s.get("/", window=500))
        await trio.sleep(1)
        client.take(float("inf"))
        await trio.sleep(1)
    assert s.ends == {"slow": "2.000 200"}


async def test_no_continue_after_the_response_has_begun(autojump_clock: MockClock) -> None:
    """`100 Continue` is an interim response: behind a final head it would be read as its body."""
    bodies: list[bytes] = []

    async def early(c: Context, w: Writer) -> None:
        w.write_headers(200)
        bodies.append(await c.req.body())

    async with stage(("/", early)) as s:
        client = s.follow("it", s.connect(request("/", "Content-Length: 4", "Expect: 100-continue", method="POST")))
        await trio.sleep(1)
        client.send(b"body")
        await trio.sleep(1)
    assert bodies == [b"body"]
    assert s.ends == {"it": "1.000 200 close"}
    assert b"100" not in client.received


@pytest.mark.spec("SD-11")
async def test_reading_a_body_ends_when_the_socket_is_closed_by_force(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    async def reads(c: Context, w: Writer) -> None:
        with trio.CancelScope(shield=True):  # noqa: ASYNC101
            try:
                await c.req.body()
            except ClientDisconnected as exc:
                seen.append(f"{s.now} {exc}")

    async with stage(("/", reads), graceful_timeout=2) as s:
        s.connect(request("/", "Content-Length: 4", method="POST"))
        await trio.sleep(1)
    assert seen == ["3.0 the connection was closed by the server"]


@pytest.mark.parametrize("rest", [b"not a chunk size\r\n", b"5\r\nwhole\r\n0\r\n\r\n", b"5\r\nhal"])
async def test_what_a_handler_left_of_the_body(rest: bytes, autojump_clock: MockClock) -> None:
    """Read to the end, the connection goes on; anything else closes it, after the complete response."""
    async with stage(("/", hello)) as s:
        client = s.connect(request("/", "Transfer-Encoding: chunked", method="POST") + rest)
        await trio.testing.wait_all_tasks_blocked()
        assert answers(bytes(client.received)) == ["200"]
        assert client.ended is (b"0\r\n\r\n" not in rest)
        client.leave()
        await trio.sleep(1)
    assert not client.reset


async def test_a_reset_while_lingering_is_the_end(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(("/", hello)) as s:
        client = s.connect(request("/", "Connection: close"))
        await client.wait_for(lambda: client.ended)
        (connection,) = s.worker.connections

        def reset(_max_bytes: int) -> bytes:
            raise ConnectionResetError(errno.ECONNRESET, "reset")

        monkeypatch.setattr(client.transport, "recv", reset)
        client.transport.wake()
        client.send(b"more")
        await trio.testing.wait_all_tasks_blocked()
        assert connection.closed
        assert s.now == 0.0


async def test_a_connection_says_where_it_is(autojump_clock: MockClock) -> None:
    async def waits(c: Context, w: Writer) -> None:
        await trio.sleep(1)
        w.empty()

    async with stage(("/here", waits)) as s:
        s.get("/here")
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = s.worker.connections
        assert connection.route == "GET /here"
        assert any("waits" in line for line in connection.await_stack())
        await trio.sleep(2)


@pytest.mark.spec("SD-24", "SD-17")
async def test_a_handler_that_swallows_an_outer_cancel_is_in_the_books(autojump_clock: MockClock) -> None:
    async def swallows(c: Context, w: Writer) -> None:
        with trio.move_on_after(10):
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                with trio.CancelScope(deadline=trio.current_time() + 2, shield=True):
                    await trio.sleep_forever()
                raise

    async with stage(("/", swallows)) as s:
        s.follow("it", s.get("/"))
        await trio.sleep(1)
        s.outer.cancel()
        await trio.sleep(3)
    assert s.ends == {"it": "1.000 nothing"}
    assert s.trace == ["1.000 AWAITING", "3.000 STOPPED"]
    assert (s.worker.report.force_closed, s.worker.report.handlers_cancelled) == (1, 1)


async def test_a_window_that_ends_between_two_pieces(autojump_clock: MockClock) -> None:
    """What waits is sent piece by piece, and the first one that does not fit ends the round."""

    async def two(c: Context, w: Writer) -> None:
        w.headers.set("content-length", "1000")
        w.write(b"a" * 500)
        w.write(b"b" * 500)

    async with stage(("/", two)) as s:
        client = s.follow("it", s.get("/", window=0))
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = s.worker.connections
        client.take(connection.outbox.unsent - 500)
        await trio.testing.wait_all_tasks_blocked()
        assert bytes(client.received).endswith(b"a" * 500)
        client.take(500)
        await trio.sleep(1)
    assert s.ends == {"it": "1.000 200"}
