"""Requests that two readers could cut differently: one answer, and what is hidden behind them never runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.answers import answers
from tests.support.live import live, peer

if TYPE_CHECKING:
    from stario_trio import Context, Writer

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# Fields and content of a POST, each with a way to read it that sees a second request.
AMBIGUOUS = {
    "a size and chunks": (b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "chunks and a size": (CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + HIDDEN),
    "two sizes": (b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "two sizes in one field": (b"Content-Length: 0, %d\r\n" % len(HIDDEN), HIDDEN),
    "a size with a sign": (b"Content-Length: +0\r\n", HIDDEN),
    "a size in hexadecimal": (b"Content-Length: 0x0\r\n", HIDDEN),
    "a size with an underscore": (b"Content-Length: 0_0\r\n", HIDDEN),
    "a size that is empty": (b"Content-Length: \r\n", HIDDEN),
    "a space before the colon": (b"Content-Length : %d\r\n" % len(HIDDEN), HIDDEN),
    "an unknown coding": (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "chunked twice": (CHUNKED * 2, b"0\r\n\r\n" + HIDDEN),
    "chunked and identity": (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + HIDDEN),
    "a control character before chunked": (b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "chunked on a folded line": (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "a folded field": (b"X: a\r\n Content-Length: 5\r\n", HIDDEN),
    "a field behind a bare LF": (b"X: a\nContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "a field behind a bare CR": (b"X: a\rContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "a blank line of bare LFs": (b"X: a\n\n", HIDDEN),
    "a bare LF behind a chunk size": (CHUNKED, b"0\n\r\n" + HIDDEN),
    "a bare LF in a chunk extension": (CHUNKED, b"0;a\nb\r\n\r\n" + HIDDEN),
    "a bare CR in a chunk extension": (CHUNKED, b"0;a\rb\r\n\r\n" + HIDDEN),
    "a space behind a chunk size": (CHUNKED, b"0 \r\n\r\n" + HIDDEN),
    "a chunk size with a sign": (CHUNKED, b"+0\r\n\r\n" + HIDDEN),
    "a chunk size in hexadecimal": (CHUNKED, b"0x0\r\n\r\n" + HIDDEN),
    "a chunk size of 17 digits": (CHUNKED, b"1" + b"0" * 16 + b"\r\n\r\n" + HIDDEN),
    "a chunk longer than its size": (CHUNKED, b"1\r\nab\r\n0\r\n\r\n" + HIDDEN),
    "a bare LF behind a chunk": (CHUNKED, b"1\r\na\n0\r\n\r\n" + HIDDEN),
    "a bare LF in the trailers": (CHUNKED, b"0\r\nA: b\n\r\n" + HIDDEN),
    "a folded trailer": (CHUNKED, b"0\r\nA: b\r\n c\r\n\r\n" + HIDDEN),
    "trailers that end in a bare LF": (CHUNKED, b"0\r\nA: b\r\n\n" + HIDDEN),
}


@pytest.mark.parametrize("reads", [True, False], ids=["the handler reads", "the handler does not read"])
@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_what_is_hidden_behind_a_doubtful_request_never_runs(case: str, reads: bool) -> None:
    async def handler(c: Context, w: Writer) -> None:
        if reads:
            await c.req.body()
        w.text("ok")

    ran: list[str] = []

    async def hidden(c: Context, w: Writer) -> None:
        ran.append(c.req.path)
        w.text("hidden")

    fields, content = AMBIGUOUS[case]
    async with live(("/", handler), ("/hidden", hidden)) as server, peer(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\n" + fields + b"\r\n" + content)
        got = answers(await client.rest())
    assert ran == []
    # A handler that reads nothing has answered before the content turns out to be bad; then the close is the word.
    assert got in [["400 close"], ["501 close"]] or (not reads and got == ["200"])


async def test_http_1_0_has_no_chunks() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.text("ok")

    async with live(("/", handler), ("/hidden", handler)) as server, peer(server) as client:
        await client.send(
            b"POST / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN
        )
        assert answers(await client.rest()) == ["400 close"]


@pytest.mark.upstream_bug(26)
@pytest.mark.parametrize(
    "behind", [b"\x00\x01\x02 garbage", b"\r\n\r\n\r\n", b" " + HIDDEN, b"HTTP/1.1 200 OK\r\n\r\n"]
)
async def test_garbage_behind_a_request_is_refused_after_its_answer(behind: bytes) -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.write(b"one")
        async with w.alive():
            w.write(b"two")

    async with live(("/", handler)) as server, peer(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" + behind)
        client.finish()
        assert answers(await client.rest()) in [["200", "400 close"], ["200", "505 close"]]
