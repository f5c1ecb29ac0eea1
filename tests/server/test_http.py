"""HTTP over real sockets, as clients meet it; what depends on time runs on the virtual clock."""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from stario_trio import ClientDisconnected, HttpException, Limits, StarioError
from tests.support.live import PATIENCE, live, peer
from tests.support.stage import request, stage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from stario_trio import Context, Server, Writer


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


async def echo(c: Context, w: Writer) -> None:
    w.respond(await c.req.body(), b"application/octet-stream")


async def echo_pieces(c: Context, w: Writer) -> None:
    async for piece in c.req.stream():
        w.write(piece)
    w.end()


async def where(c: Context, w: Writer) -> None:
    w.text(f"{c.req.method} {c.req.path}?{c.req.query_bytes.decode()} {c.req.host} {c.req.protocol_version}")


async def pieces(c: Context, w: Writer) -> None:
    for word in ("one ", "two ", "three"):
        w.write(word.encode())
        await trio.lowlevel.checkpoint()
    w.end()


async def counted(c: Context, w: Writer) -> None:
    w.headers.set("content-length", "6")
    w.write_headers(200)
    w.write(b"abc")
    w.write(b"def")
    w.end()


ROUTES = [
    ("/", hello),
    ("/echo", echo),
    ("/echo-pieces", echo_pieces),
    ("/where", where),
    ("/pieces", pieces),
    ("/counted", counted),
]


def url(server: Server, path: str = "/") -> str:
    host, port = server.addresses[0]
    return f"http://{host}:{port}{path}"


def post(path: str, body: bytes, *fields: str) -> bytes:
    return request(path, *fields, method="POST", body=body)


# A client that knows nothing of us


async def test_httpx_reads_what_we_write() -> None:
    async with live(*ROUTES) as server, httpx2.AsyncClient(base_url=url(server), timeout=PATIENCE) as client:
        assert (await client.get("/")).text == "hello"
        answer = await client.get("/where", params={"a": "1 2"})
        assert answer.text == f"GET /where?a=1+2 {server.addresses[0][0]} 1.1"
        assert (await client.get("/pieces")).headers["transfer-encoding"] == "chunked"
        assert (await client.get("/pieces")).text == "one two three"
        assert (await client.get("/counted")).headers["content-length"] == "6"
        assert (await client.get("/missing")).status_code == 404
        assert (await client.put("/")).status_code == 405


@pytest.mark.parametrize("path", ["/echo", "/echo-pieces"])
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_of_every_size_both_ways(path: str, size: int, chunked: bool) -> None:
    body = hashlib.shake_128(b"seed").digest(size)

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, size, 50_000):
            yield body[at : at + 50_000]

    async with live(*ROUTES) as server, httpx2.AsyncClient(base_url=url(server), timeout=PATIENCE) as client:
        for _ in range(2):  # the connection is good for another one
            answer = await client.post(path, content=parts() if chunked else body)
            assert answer.content == body


# Persistence (RFC 9112 section 9)


async def test_a_connection_carries_many_requests() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        for _ in range(50):
            answer = await client.ask("/")
            assert (answer.status, answer.body) == (200, b"hello")
            assert "connection" not in answer.fields


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        data = b"".join(request(f"/where?{n}") if n % 3 else post("/echo", b"body %d" % n) for n in range(100))
        await client.send(data)
        for n in range(100):
            answer = await client.answer()
            assert answer.body == (b"GET /where?%d test 1.1" % n if n % 3 else b"body %d" % n)


async def test_pipelined_requests_cut_anywhere() -> None:
    data = request("/where?1") + post("/echo", b"abc") + request("/where?2")
    async with live(*ROUTES) as server, peer(server) as client:
        for at in range(1, len(data), 7):
            await client.send(data[:at])
            await trio.testing.wait_all_tasks_blocked()
            await client.send(data[at:])
            assert [(await client.answer()).body for _ in range(3)] == [
                b"GET /where?1 test 1.1",
                b"abc",
                b"GET /where?2 test 1.1",
            ]


async def test_close_asked_for_by_the_request() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(request("/", "Connection: close") + request("/where"))
        answer = await client.answer()
        assert (answer.body, answer.fields["connection"]) == (b"hello", "close")
        assert await client.ended()  # nothing behind it is answered


async def test_close_asked_for_by_the_handler() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.headers.set("connection", "close")
        w.text("bye")

    async with live(("/", handler)) as server, peer(server) as client:
        answer = await client.ask("/")
        assert (answer.body, answer.fields["connection"]) == (b"bye", "close")
        assert await client.ended()


async def test_http_1_0_closes_after_one_answer() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        answer = await client.ask("/where", version="1.0")
        assert answer.body == b"GET /where? test 1.0"
        assert answer.fields["connection"] == "close"
        assert await client.ended()


async def test_http_1_0_keeps_alive_when_asked_and_says_so() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        for _ in range(3):
            answer = await client.ask("/", "Connection: keep-alive", version="1.0")
            assert (answer.body, answer.fields["connection"]) == (b"hello", "keep-alive")
        answer = await client.ask("/", version="1.0")
        assert answer.fields["connection"] == "close"
        assert await client.ended()


@pytest.mark.upstream_bug(24)
async def test_http_1_0_gets_no_chunks() -> None:
    """BUG 24 of upstream."""
    async with live(*ROUTES) as server, peer(server) as client:
        answer = await client.ask("/pieces", "Connection: keep-alive", version="1.0")
        assert "transfer-encoding" not in answer.fields
        assert (answer.body, answer.fields["connection"]) == (b"one two three", "close")


# Framing


@pytest.mark.upstream_bug(14)
async def test_head_tells_the_size_and_sends_no_body() -> None:
    """BUG 14 of upstream."""
    async with live(*ROUTES) as server, peer(server) as client:
        answer = await client.ask("/", method="HEAD")
        assert answer.fields["content-length"] == "5"
        answer = await client.ask("/pieces", method="HEAD")
        assert answer.status == 200
        assert (await client.ask("/")).body == b"hello"  # so no stray byte was sent


@pytest.mark.upstream_bug(14)
@pytest.mark.parametrize("status", [204, 304])
async def test_204_and_304_have_no_body(status: int) -> None:
    """BUG 14 of upstream."""

    async def whole(c: Context, w: Writer) -> None:
        w.text("x", status)

    async def streamed(c: Context, w: Writer) -> None:
        w.write_headers(status)
        w.write(b"x")
        w.end()

    async with live(("/whole", whole), ("/streamed", streamed), ("/", hello)) as server, peer(server) as client:
        for path in ("/whole", "/streamed"):
            answer = await client.ask(path)
            assert answer.status == status
            assert "transfer-encoding" not in answer.fields
            if status == 204:
                assert "content-length" not in answer.fields
        assert (await client.ask("/")).body == b"hello"


async def test_every_answer_has_one_date() -> None:
    async with live(*ROUTES) as server:
        for lines in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /missing HTTP/1.1\r\nHost: a\r\n\r\n",
            b"BAD\r\n\r\n",
        ):
            async with peer(server) as client:
                await client.send(lines)
                answer = await client.answer()
                assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.fields["date"])
                assert parsedate_to_datetime(answer.fields["date"]).tzinfo is not None
                assert next(iter(answer.fields)) == "date"


# Expect: 100-continue (RFC 9110 section 10.1.1; BUG 25 of upstream)


@pytest.mark.upstream_bug(25)
async def test_continue_is_sent_when_a_handler_reads() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"abc")
        assert (await client.ask("/")).body == b"hello"


@pytest.mark.upstream_bug(25)
async def test_a_handler_that_does_not_read_answers_without_it() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.fields["connection"] == "close"  # the body may or may not follow
        assert await client.ended()


async def test_a_body_too_large_is_refused_before_it_is_sent() -> None:
    async with live(*ROUTES, limits=Limits(body_bytes=10)) as server, peer(server) as client:
        await client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        assert await client.ended()


# What is no good request


BAD = {
    "no http": (b"hello there\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "bare lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "both framings": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "too large a body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485761\r\n\r\n", 413),
    "too long a target": (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    # Within the limit and what is drained before the close (SD-18): beyond that, a reset may overtake the answer.
    "too large a head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
    "too many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "connect": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
    "another version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
}


@pytest.mark.parametrize(("data", "status"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("first", [b"", request("/")], ids=["alone", "after a good one"])
async def test_a_bad_request_is_answered_and_harms_nobody(first: bytes, data: bytes, status: int) -> None:
    async with live(*ROUTES) as server:
        async with peer(server) as client:
            await client.send(first + data)
            if first:
                assert (await client.answer()).body == b"hello"
            answer = await client.answer()
            assert answer.status == status
            assert answer.fields["connection"] == "close"
            assert answer.fields["content-type"] == "text/plain; charset=utf-8"
            assert answer.complete
            assert await client.ended()
        async with peer(server) as client:
            assert (await client.ask("/")).body == b"hello"


async def test_a_chunked_body_too_large_is_413() -> None:
    async with live(*ROUTES, limits=Limits(body_bytes=10)) as server, peer(server) as client:
        await client.send(
            request("/echo", "Transfer-Encoding: chunked", method="POST") + b"6\r\nabcdef\r\n6\r\nghijkl\r\n"
        )
        answer = await client.answer()
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        assert await client.ended()


async def test_bad_chunks_are_400() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(request("/echo", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n")
        answer = await client.answer()
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        assert await client.ended()


@pytest.mark.upstream_bug(26)
async def test_garbage_behind_a_request_waits_for_its_turn() -> None:
    """BUG 26 of upstream: the 400 was written into the middle of the response before it."""
    go_on = trio.Event()

    async def handler(c: Context, w: Writer) -> None:
        w.write(b"first half, ")
        await go_on.wait()
        w.write(b"second half")
        w.end()

    async with live(("/", handler)) as server, peer(server) as client:
        await client.send(request() + b"garbage\r\n\r\n")
        await client.until(b"first half, \r\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        go_on.set()
        assert b"second half" in await client.until(b"0\r\n\r\n")
        assert (await client.answer()).status == 400
        assert await client.ended()


async def test_an_upgrade_is_ignored() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        answer = await client.ask("/", "Connection: Upgrade", "Upgrade: websocket")
        assert (answer.status, answer.body) == (200, b"hello")


# Bodies nobody reads


@pytest.mark.upstream_bug(27)
async def test_a_small_body_nobody_reads_is_skipped() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(post("/", b"x" * 1000) + request("/where"))
        assert (await client.answer()).body == b"hello"
        assert (await client.answer()).body.startswith(b"GET /where")


@pytest.mark.upstream_bug(27)
async def test_a_large_body_nobody_reads_never_blocks_the_connection() -> None:
    """BUG 27 of upstream: the connection was never read again, and never seen as closed."""
    async with live(*ROUTES) as server, peer(server) as client, trio.open_nursery() as nursery:

        async def upload() -> None:
            try:
                await client.send(post("/", b"x" * 5_000_000))
            except trio.BrokenResourceError:
                pass  # the server has closed: it does not want it

        nursery.start_soon(upload)
        answer = await client.answer()
        assert answer.body == b"hello"
        await trio.testing.wait_all_tasks_blocked(0.01)
        try:
            await client.rest()
        except trio.BrokenResourceError:
            pass
    assert server.report.workers[0].force_closed == 0


@pytest.mark.spec("SD-18")
async def test_a_complete_response_survives_unread_input() -> None:
    """Closing with unread input makes the kernel send a reset, which overtakes the response: measured, 12 KB of 300."""

    async def big(c: Context, w: Writer) -> None:
        w.headers.set("connection", "close")
        w.respond(bytes(300_000), b"application/octet-stream")

    async with live(("/", big)) as server, peer(server, receive_buffer=4096) as client:
        await client.send(post("/", b"x" * 50_000) + b"more that nobody wants")
        await trio.testing.wait_all_tasks_blocked(0.02)  # the server has done what it can
        answer = await client.answer()
        assert (len(answer.body), answer.complete) == (300_000, True)
        assert await client.ended()  # an end, no reset


@pytest.mark.spec("SD-18")
async def test_a_refusal_survives_unread_input() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(b"BAD\r\n\r\n" + b"x" * 30_000)
        assert (await client.answer()).status == 400
        assert await client.ended()


# Peers that leave


async def test_a_half_closed_client_still_gets_its_answer() -> None:
    asked = trio.Event()
    go_on = trio.Event()
    seen: list[bool] = []

    async def handler(c: Context, w: Writer) -> None:
        asked.set()
        await go_on.wait()
        seen.append(w.disconnected)
        w.text("late, but here")

    async with live(("/", handler)) as server, peer(server) as client:
        await client.get("/")
        client.finish()
        await asked.wait()
        go_on.set()
        assert (await client.answer()).body == b"late, but here"
        assert await client.ended()
    assert seen == [True]


async def test_a_half_closed_client_gets_all_its_pipelined_answers() -> None:
    async with live(*ROUTES) as server, peer(server) as client:
        await client.send(request("/where?1") + request("/where?2") + post("/echo", b"abc"))
        client.finish()
        assert [(await client.answer()).body for _ in range(3)] == [
            b"GET /where?1 test 1.1",
            b"GET /where?2 test 1.1",
            b"abc",
        ]
        assert await client.ended()


@pytest.mark.parametrize("how", ["reset", "finish"])
@pytest.mark.parametrize(
    "sent",
    [b"", b"GE", b"GET / HTTP/1.1\r\n", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
async def test_a_client_that_leaves_in_the_middle_harms_nobody(sent: bytes, how: str) -> None:
    async with live(*ROUTES) as server:
        async with peer(server) as client:
            await client.send(sent)
            await trio.testing.wait_all_tasks_blocked(0.01)
            if how == "reset":
                client.reset()
            else:
                client.finish()
                await client.rest()
        async with peer(server) as client:
            assert (await client.ask("/")).body == b"hello"


@pytest.mark.upstream_bug(22)
async def test_a_body_that_ends_too_early_is_told_to_the_handler() -> None:
    """BUG 22 of upstream: it was a 413."""
    raised: list[BaseException] = []
    done = trio.Event()

    async def handler(c: Context, w: Writer) -> None:
        try:
            await c.req.body()
        except ClientDisconnected as exc:
            raised.append(exc)
            raise
        finally:
            done.set()

    async with live(("/", handler)) as server, peer(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        client.finish()
        await done.wait()
        await client.rest()
    assert len(raised) == 1


@pytest.mark.upstream_bug(28)
@pytest.mark.spec("AL-01")
@pytest.mark.parametrize("how", ["close", "reset", "finish"])
@pytest.mark.parametrize("behind", [b"", request("/pipelined")], ids=["alone", "behind pipelined bytes"])
@pytest.mark.parametrize("form", ["with", "for"])
async def test_alive_ends_when_the_peer_leaves(form: str, behind: bytes, how: str) -> None:
    """BUG 28 of upstream: a pipelined request hid the disconnect."""
    ended = trio.Event()
    seen: list[bool] = []

    async def never() -> AsyncIterator[int]:
        await trio.sleep_forever()
        yield 1

    async def handler(c: Context, w: Writer) -> None:
        w.write(b"started")
        if form == "with":
            async with w.alive():
                await trio.sleep_forever()
        else:
            async for _ in w.alive(never()):
                pass
        seen.append(w.disconnected)
        ended.set()

    async with live(("/", handler)) as server, peer(server) as client:
        await client.send(request() + behind)
        await client.until(b"started\r\n")
        if how == "close":
            client.sock.close()
        elif how == "reset":
            client.reset()
        else:
            client.finish()
        await ended.wait()
        assert seen == [True]


@pytest.mark.parametrize("behind", [b"", b"GET /"], ids=["alone", "behind pipelined bytes"])
async def test_disconnected_is_seen_without_alive(behind: bytes) -> None:
    """Behind bytes that nobody has read, a look cannot tell; a failing send does."""
    asked, left, done = trio.Event(), trio.Event(), trio.Event()
    seen: list[bool] = []

    async def handler(c: Context, w: Writer) -> None:
        seen.append(w.disconnected)
        asked.set()
        await left.wait()
        if behind:
            w.write(b"wakes the reset")
            while not w.disconnected:
                w.write(b"x")
                await trio.testing.wait_all_tasks_blocked(0.001)
        seen.append(w.disconnected)
        w.write(b"harmless")
        done.set()

    async with live(("/", handler)) as server, peer(server) as client:
        await client.send(request() + behind)
        await asked.wait()
        client.sock.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        left.set()
        await done.wait()
    assert seen == [False, True]


async def test_a_peer_that_does_not_keep_up_inside_alive_does_not_end_the_server() -> None:
    """Giving a peer up closes its socket under a handler that is watching it."""
    ended = trio.Event()

    async def handler(c: Context, w: Writer) -> None:
        async with w.alive():
            for _ in range(500):
                w.write(bytes(10_000))
            await trio.sleep_forever()
        ended.set()

    limits = Limits(write_timeout=0.05, max_unsent=10**8)
    async with live(("/stream", handler), ("/", hello), limits=limits) as server:
        async with peer(server, receive_buffer=4096) as client:
            await client.get("/stream")
            await ended.wait()
        async with peer(server) as client:
            assert (await client.ask("/")).body == b"hello"


# Slow peers


async def test_a_slow_reader_gets_everything_in_order_and_slows_the_handler() -> None:
    total = 10_000_000
    block = hashlib.shake_128(b"block").digest(100_000)
    most = 0

    async def handler(c: Context, w: Writer) -> None:
        nonlocal most
        connection = w._peer._connection  # type: ignore[attr-defined]
        for n in range(total // len(block)):
            w.write(n.to_bytes(4, "big") + block)
            most = max(most, connection.outbox.unsent)
            await w.drain()
        w.end()

    async with live(("/", handler), limits=Limits(high_water=200_000)) as server:
        async with peer(server, receive_buffer=8192) as client:
            await client.get("/")
            answer = await client.answer()
        assert [int.from_bytes(piece[:4], "big") for piece in answer.pieces] == list(range(100))
        assert all(piece[4:] == block for piece in answer.pieces)
    assert 100_000 < most < 200_000 + 2 * len(block)


async def test_drain_tells_when_it_is_not_worth_going_on() -> None:
    """Not when the peer has closed its half, but when nothing reaches it any more."""
    ended = trio.Event()
    told: list[bool] = []

    async def handler(c: Context, w: Writer) -> None:
        w.write(b"1")
        async with w.alive():
            await trio.sleep_forever()
        told.append(await w.drain())
        w.write(b"2")
        entered.set()
        while await w.drain():
            w.write(bytes(100_000))
        ended.set()

    entered = trio.Event()
    async with live(("/", handler), limits=Limits(high_water=200_000)) as server, peer(server) as client:
        await client.get("/")
        await client.stream.send_eof()
        await entered.wait()
        assert not ended.is_set()
        await client.stream.aclose()
        await ended.wait()
    assert told == [True]


async def test_a_whole_response_of_10_mb_is_exact() -> None:
    body = hashlib.shake_128(b"whole").digest(10_000_000)

    async def handler(c: Context, w: Writer) -> None:
        w.respond(body, b"application/octet-stream")

    async with live(("/", handler), ("/hello", hello)) as server, peer(server, receive_buffer=8192) as client:
        await client.send(request("/") + request("/hello"))
        assert (await client.answer()).body == body
        assert (await client.answer()).body == b"hello"


async def test_a_peer_that_never_reads_is_closed_after_write_timeout(autojump_clock: object) -> None:
    async with stage(("/", lambda c, w: endless(w)), limits={"write_timeout": 30, "high_water": 1000}) as it:
        client = it.get("/", window=500)
        await client.wait_for(lambda: client.over)
        assert it.now == 30
        assert client.reset
        await trio.testing.wait_all_tasks_blocked()
        assert not it.worker.connections


async def endless(w: Writer) -> None:
    async for _ in w.alive():
        w.write(bytes(100))


@pytest.mark.upstream_bug(28)
async def test_a_peer_that_never_reads_costs_bounded_memory(autojump_clock: object) -> None:
    most = 0

    async def handler(c: Context, w: Writer) -> None:
        nonlocal most
        async for _ in w.alive():
            w.write(bytes(100))
            (connection,) = it.worker.connections
            most = max(most, connection.outbox.unsent)

    async with stage(("/", handler), limits={"high_water": 1000}) as it:
        client = it.get("/", window=0)
        await client.wait_for(lambda: client.over)
    assert 1000 <= most <= 1000 + 2 * 107


@pytest.mark.upstream_bug(28)
async def test_writing_without_waiting_raises_at_max_unsent(autojump_clock: object) -> None:
    raised: list[StarioError] = []
    written = 0

    async def handler(c: Context, w: Writer) -> None:
        nonlocal written
        try:
            while True:
                w.write(bytes(1000))
                written += 1000
        except StarioError as exc:
            raised.append(exc)
            raise

    async with stage(("/", handler), limits={"high_water": 1000, "max_unsent": 10_000}) as it:
        client = it.get("/", window=0)
        await client.wait_for(lambda: client.over)
        assert it.now == 0  # the response is cut at once
    assert len(raised) == 1
    assert "drain()" in str(raised[0])
    assert written <= 12_000


# Time


@pytest.mark.upstream_bug(23)
@pytest.mark.parametrize("first", [b"", request("/")], ids=["first request", "second request"])
async def test_a_head_that_takes_too_long_is_408(first: bytes, autojump_clock: object) -> None:
    """BUG 23 of upstream: after one byte there was no limit at all."""
    async with stage(("/", hello)) as it:
        client = it.connect(first + b"GET / HT")
        await client.wait_for(lambda: client.over)
        assert it.now == 10
        assert client.received.count(b"HTTP/1.1 408 Request Timeout\r\n") == 1
        assert b"connection: close" in client.received
        client.leave()
        other = it.get("/")
        await other.read_until(b"hello")
        other.leave()


@pytest.mark.upstream_bug(23)
async def test_a_head_that_trickles_is_408_too(autojump_clock: object) -> None:
    async with stage(("/", hello)) as it:
        client = it.connect()
        for byte in request("/")[:10]:
            client.send(bytes([byte]))
            await trio.sleep(0.999)
        await client.wait_for(lambda: client.over)
        assert it.now == 10
        assert b" 408 " in client.received
        client.leave()


async def test_a_body_that_stops_is_408(autojump_clock: object) -> None:
    async with stage(("/", echo), limits={"body_timeout": 30}) as it:
        client = it.connect(request("/", "Content-Length: 10", method="POST") + b"abc")
        await client.wait_for(lambda: client.over)
        assert it.now == 30
        assert b" 408 " in client.received
        assert b"connection: close" in client.received
        client.leave()


async def test_a_handler_that_asks_again_after_the_408_gets_it_at_once(autojump_clock: object) -> None:
    async def stubborn(c: Context, w: Writer) -> None:
        with pytest.raises(HttpException, match="the body stopped coming"):
            await c.req.body()
        await c.req.body()

    async with stage(("/", stubborn), limits={"body_timeout": 30}) as it:
        client = it.connect(request("/", "Content-Length: 10", method="POST") + b"abc")
        await client.wait_for(lambda: client.over)
        assert it.now == 30
        assert b" 408 " in client.received
        client.leave()


async def test_a_body_is_whole_after_a_timeout_of_the_handler(autojump_clock: object) -> None:
    async def impatient(c: Context, w: Writer) -> None:
        with trio.move_on_after(1) as wait:
            await c.req.body()
        w.text(f"{wait.cancelled_caught} {await c.req.json()}")

    async with stage(("/", impatient)) as it:
        client = it.connect(request("/", "Content-Length: 6", method="POST") + b"[1")
        await trio.sleep(2)
        client.send(b",2] ")
        await client.read_until(b"True [1, 2]")
        client.leave()


async def test_a_body_that_trickles_in_time_is_read(autojump_clock: object) -> None:
    async with stage(("/", echo), limits={"body_timeout": 30}) as it:
        client = it.connect(request("/", "Content-Length: 3", method="POST"))
        for byte in b"abc":
            await trio.sleep(29)
            client.send(bytes([byte]))
        await client.read_until(b"abc")
        client.leave()


@pytest.mark.parametrize("first", [b"", request("/")], ids=["never used", "used once"])
async def test_an_idle_connection_closes_silently_after_keep_alive(first: bytes, autojump_clock: object) -> None:
    async with stage(("/", hello), limits={"keep_alive": 5}) as it:
        client = it.connect(first)
        if first:
            await client.read_until(b"hello")
        got = bytes(client.received)
        await client.wait_for(lambda: client.over)
        assert it.now == 5
        assert bytes(client.received) == got
        assert not client.reset


async def test_a_request_in_the_last_moment_is_served_or_not_at_all(autojump_clock: object) -> None:
    """A handler that has started must not be cancelled because its connection was idle for too long before."""
    outcome: list[str] = []

    async def handler(c: Context, w: Writer) -> None:
        outcome.append("started")
        await trio.lowlevel.checkpoint()
        w.text("hello")
        outcome.append("done")

    async def attempt() -> None:
        async with stage(("/", handler), limits={"keep_alive": 5}) as it:
            client = it.connect()
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep_until(it.start + 5)
            if not client.over:
                client.send(request())
            await client.wait_for(lambda: client.over or b"hello" in client.received)
            client.leave()

    for _ in range(20):  # the order within one instant is random
        await attempt()
        assert outcome in ([], ["started", "done"])
        outcome.clear()


# Handlers that fail


async def test_a_failing_handler_is_a_500_and_the_connection_goes_on() -> None:
    async def fail(c: Context, w: Writer) -> None:
        raise ZeroDivisionError("a secret")

    async with live(("/", fail), ("/hello", hello)) as server, peer(server) as client:
        answer = await client.ask("/")
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert (await client.ask("/hello")).body == b"hello"


async def test_a_handler_that_fails_in_the_middle_cuts_the_response() -> None:
    async def fail(c: Context, w: Writer) -> None:
        w.write(b"the first part")
        raise ZeroDivisionError

    async with live(("/", fail)) as server, peer(server) as client:
        await client.get("/")
        rest = await client.rest()
        assert b"the first part" in rest
        assert not rest.endswith(b"0\r\n\r\n")


async def test_to_http_1_0_a_cut_response_is_a_reset() -> None:
    """Its body ends where the connection ends, so an ordinary close would make it look whole (SD-11)."""

    async def fail(c: Context, w: Writer) -> None:
        w.write(b"the first part")
        raise ZeroDivisionError

    async with live(("/", fail)) as server, peer(server) as client:
        await client.get("/", version="1.0")
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()


async def test_an_http_exception_is_its_answer() -> None:
    async def teapot(c: Context, w: Writer) -> None:
        raise HttpException(418, "short and stout")

    async with live(("/", teapot)) as server, peer(server) as client:
        answer = await client.ask("/")
        assert (answer.status, answer.body) == (418, b"short and stout")


async def test_a_source_that_fails_when_closed_does_not_end_the_server() -> None:
    """It is closed after the handler, where no handler catches its error any more."""

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise ZeroDivisionError

    async def handler(c: Context, w: Writer) -> None:
        async for _ in w.alive(source()):
            break
        w.text("done")

    async with live(("/", handler), ("/hello", hello)) as server:
        async with peer(server) as client:
            await client.get("/")
            await client.until(b"done")
        async with peer(server) as client:
            assert (await client.ask("/hello")).body == b"hello"


# Limits on connections


async def test_a_worker_accepts_no_more_than_its_limit() -> None:
    async with live(*ROUTES, limits=Limits(connections=2)) as server:  # noqa: SIM117
        async with peer(server) as first, peer(server) as second, peer(server) as third:
            assert (await first.ask("/")).body == b"hello"
            assert (await second.ask("/")).body == b"hello"
            await third.get("/")
            got: list[Any] = []

            async def wait() -> None:
                got.append(await third.answer())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert got == []
                first.sock.close()
            assert got[0].body == b"hello"


async def test_many_clients_at_once() -> None:
    async with live(*ROUTES) as server:
        served: list[int] = []

        async def one(n: int) -> None:
            async with peer(server) as client:
                for k in range(5):
                    assert (await client.ask(f"/where?{n}.{k}")).body == b"GET /where?%d.%d test 1.1" % (n, k)
                served.append(n)

        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(one, n)
        assert len(served) == 100
    assert server.report.workers[0].balanced


@pytest.mark.spec("AL-05")
@pytest.mark.parametrize("form", ["loop", "source"])
async def test_alive_entered_after_the_peer_has_left_begins_no_round(form: str) -> None:
    """Also in the very turn in which it is entered: no watch has had a chance to tell of the peer's end yet."""
    entered, left, done = trio.Event(), trio.Event(), trio.Event()
    rounds: list[object] = []

    async def endless() -> AsyncGenerator[int]:
        while True:
            yield 1

    async def handler(c: Context, w: Writer) -> None:
        entered.set()
        await left.wait()
        async for item in w.alive() if form == "loop" else w.alive(endless()):
            rounds.append(item)
        done.set()

    async with live(("/", handler)) as server:
        for _ in range(20):  # whoever only hears of it a turn later is late in about half of the orders
            entered, left, done = trio.Event(), trio.Event(), trio.Event()
            async with peer(server) as client:
                await client.get("/")
                await entered.wait()
            left.set()  # on loopback the end of the peer is in the kernel when its close has returned
            await done.wait()
    assert rounds == []
