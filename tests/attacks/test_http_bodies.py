"""Bodies that are made to cost much, and peers that do not wait for what they asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.support.answers import answers
from tests.support.live import live, peer
from tests.support.stage import request, stage

if TYPE_CHECKING:
    from stario_trio import Context, Writer

PIECES = 10_000
"""One-byte chunks that all come in one read of 64 KiB."""


async def test_one_byte_chunks_leave_others_their_turn() -> None:
    turns = 0
    taken = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def handler(c: Context, w: Writer) -> None:
        nonlocal taken
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await trio.lowlevel.checkpoint()
            before = turns
            w.text(str(len(await c.req.body())))
            taken = turns - before
            nursery.cancel_scope.cancel()

    async with live(("/", handler)) as server, peer(server) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\na\r\n" * PIECES
            + b"0\r\n\r\n"
        )
        assert (await client.answer()).body == str(PIECES).encode()
    assert taken >= PIECES / 100  # no more than 100 pieces in a row


async def test_a_body_that_did_not_wait_for_continue_does_not_cost_the_connection() -> None:
    """RFC 9110 section 10.1.1: the 100 may be left out when some of the content is there already."""

    async def echo(c: Context, w: Writer) -> None:
        w.respond(await c.req.body(), b"text/plain")

    async with live(("/", echo)) as server, peer(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"abc")
        assert "connection" not in answer.fields
        assert (await client.ask("/")).status == 200


async def test_an_early_answer_survives_a_large_upload(autojump_clock: object) -> None:
    """A proxy that is still sending sees the reset before the answer, and makes a 502 of a 200.

    It need not be read to its end: a peer whose bytes are not taken stops sending, and looks at what it was sent.
    """

    async def early(c: Context, w: Writer) -> None:
        w.text("early")

    async with stage(("/", early)) as it:
        client = it.connect(request("/", "Content-Length: 2000000", method="POST") + bytes(1_000_000))
        await trio.sleep(0.99)
        assert answers(bytes(client.received)) == ["200"]
        assert not client.transport.closed_by_server
        await trio.sleep(0.02)
        assert client.transport.closed_by_server
