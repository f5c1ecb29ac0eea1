"""What outlives its request: a writer, a request and a context variable that are used when the next one is served."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import StarioError
from tests.support.live import live, peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from stario_trio import Context, Server, Writer
    from tests.support.live import Peer

LATE: dict[str, Callable[[Writer], Any]] = {
    "text": lambda w: w.text("EVIL"),
    "html": lambda w: w.html("EVIL"),
    "json": lambda w: w.json("EVIL"),
    "respond": lambda w: w.respond(b"EVIL", b"text/plain"),
    "redirect": lambda w: w.redirect("/EVIL"),
    "empty": lambda w: w.empty(),
    "write_headers": lambda w: w.write_headers(200),
    "write": lambda w: w.write(b"EVIL"),
    "end": lambda w: w.end(b"EVIL"),
    "patch": lambda w: w.patch("EVIL"),
    "sync": lambda w: w.sync({"EVIL": 1}),
    "navigate": lambda w: w.navigate("/EVIL"),
    "execute": lambda w: w.execute("EVIL"),
    "remove": lambda w: w.remove("#EVIL"),
    "cookie": lambda w: w.cookie("EVIL", "1"),
    "delete_cookie": lambda w: w.delete_cookie("EVIL"),
    "headers": lambda w: w.headers.set("EVIL", "1"),
    "abort": lambda w: w.abort(),
}


async def first_text(c: Context, w: Writer) -> None:
    w.text("first")


async def first_stream(c: Context, w: Writer) -> None:
    w.patch("first")


async def first_nothing(c: Context, w: Writer) -> None:
    return


async def first_fails(c: Context, w: Writer) -> None:
    raise ValueError


@pytest.mark.parametrize("when", ["before the next head", "in the middle of the next response"])
@pytest.mark.parametrize("first", [first_text, first_stream, first_nothing, first_fails])
async def test_a_kept_writer_never_writes_into_another_response(when: str, first: Any) -> None:
    kept: list[Writer] = []

    async def keep(c: Context, w: Writer) -> None:
        kept.append(w)
        await first(c, w)

    def use_it() -> None:
        for late in LATE.values():
            try:
                late(kept[0])
            except (RuntimeError, StarioError):
                pass

    async def second(c: Context, w: Writer) -> None:
        if when == "before the next head":
            use_it()
        w.write(b"seco")
        use_it()
        w.write(b"nd")

    async with live(("/first", keep), ("/second", second)) as server, peer(server) as client:
        await client.ask("/first")
        answer = await client.ask("/second")
        assert (answer.status, answer.pieces) == (200, [b"seco", b"nd"])
        assert set(answer.fields) == {"date", "transfer-encoding"}
        assert (await client.ask("/second")).body == b"second"


async def test_a_loop_of_a_request_that_is_over_ends_with_its_connection() -> None:
    ended = trio.Event()

    async def loop(w: Writer) -> None:
        async with w.alive():
            await trio.sleep_forever()
        ended.set()

    async with trio.open_nursery() as background:

        async def leaves_a_loop(c: Context, w: Writer) -> None:
            background.start_soon(loop, w)
            w.text("first")

        async def second(c: Context, w: Writer) -> None:
            async with w.alive():
                w.text("second")

        async with live(("/", leaves_a_loop), ("/second", second)) as server:
            async with peer(server) as client:
                assert (await client.ask("/")).body == b"first"
                assert (await client.ask("/second")).body == b"second"
                assert not ended.is_set()
            with trio.fail_after(10):
                await ended.wait()


async def test_tasks_of_one_handler_write_whole_chunks() -> None:
    async def many(c: Context, w: Writer) -> None:
        async def write(piece: bytes) -> None:
            for _ in range(20):
                w.write(piece)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(write, letter * 1000)

    async with live(("/", many)) as server, peer(server) as client:
        pieces = (await client.ask("/")).pieces
    assert sorted(pieces) == [letter * 1000 for letter in (b"a", b"b", b"c") for _ in range(20)]


@asynccontextmanager
async def with_a_body_read_late() -> AsyncGenerator[tuple[Server, Peer, list[bytes | Exception]]]:
    """A server whose `/first` answers at once and leaves the reading of its body to a task of its own."""
    read: list[bytes | Exception] = []

    async def read_late(c: Context) -> None:
        try:
            read.append(await c.req.body())
        except Exception as exc:
            read.append(exc)

    async with trio.open_nursery() as background:

        async def first(c: Context, w: Writer) -> None:
            background.start_soon(read_late, c)
            await trio.testing.wait_all_tasks_blocked()
            w.text("first")

        async def second(c: Context, w: Writer) -> None:
            w.respond(await c.req.body(), b"text/plain")

        async with live(("/first", first), ("/second", second)) as server, peer(server) as client:
            yield server, client, read


async def test_a_late_reader_of_a_body_does_not_end_the_server() -> None:
    async with with_a_body_read_late() as (server, client, _):
        await client.send(b"POST /first HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc")
        assert (await client.answer()).body == b"first"
        async with peer(server) as another:
            assert (await another.ask("/second")).status == 200


async def test_a_kept_request_never_reads_the_body_of_another() -> None:
    kept: list[Context] = []
    stolen: list[object] = []

    async def first(c: Context, w: Writer) -> None:
        kept.append(c)
        w.text("first")

    async def second(c: Context, w: Writer) -> None:
        try:
            stolen.append(await kept[0].req.body())
        except Exception as exc:
            stolen.append(type(exc))
        w.respond(await c.req.body(), b"text/plain")

    async with live(("/first", first), ("/second", second)) as server, peer(server) as client:
        await client.ask("/first")
        await client.send(b"POST /second HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nsecret")
        assert (await client.answer()).body == b"secret"
    assert b"secret" not in stolen


USER: ContextVar[str] = ContextVar("test.user", default="nobody")


async def test_a_context_variable_does_not_reach_the_next_request() -> None:
    """Behind a proxy that keeps its connections, the next request is somebody else's."""

    async def sign_in(c: Context, w: Writer) -> None:
        USER.set("alice")
        w.text(USER.get())

    async def who(c: Context, w: Writer) -> None:
        w.text(USER.get())

    async with live(("/in", sign_in), ("/who", who)) as server, peer(server) as client:
        assert (await client.ask("/in")).body == b"alice"
        assert (await client.ask("/who")).body == b"nobody"
