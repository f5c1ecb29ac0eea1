"""One request as a handler sees it, and its body."""

from __future__ import annotations

import gc
import re
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.exceptions import ClientDisconnected, HttpException
from stario_trio.http.headers import Headers
from stario_trio.http.request import (
    DEFAULT_BODY_TIMEOUT,
    DEFAULT_MAX_BODY_SIZE,
    HIGH_WATER_MARK,
    LOW_WATER_MARK,
    BodyReader,
    Request,
)
from stario_trio.server.config import Limits
from tests.support.peer import FakePeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable


def with_body(*pieces: bytes) -> Request:
    """A request whose body arrives in these pieces."""
    return FakePeer(*pieces).request("POST")


def whole(body: bytes) -> Request:
    """A request whose body is there already."""
    return Request(headers=Headers(), body=BodyReader.of(body))


async def all_of(pieces: AsyncIterator[bytes]) -> list[bytes]:
    return [piece async for piece in pieces]


def test_the_defaults_of_a_request() -> None:
    headers = Headers()
    req = Request(headers=headers, body=BodyReader.of(b""))
    assert (req.method, req.path, req.query_bytes, req.protocol_version, req.keep_alive) == (
        "GET",
        "/",
        b"",
        "1.1",
        True,
    )
    assert (req.tail, req.subhost) == ("", "")
    assert req.headers is headers
    assert repr(req) == "<Request GET />"


def test_a_request_is_what_it_was_made_of() -> None:
    req = Request(
        method="PUT",
        path="/a b",
        query_bytes=b"a=1",
        protocol_version="1.0",
        keep_alive=False,
        headers=Headers(),
        body=BodyReader.of(b""),
    )
    assert (req.method, req.path, req.query_bytes, req.protocol_version, req.keep_alive) == (
        "PUT", "/a b", b"a=1", "1.0", False,
    )  # fmt: skip
    assert repr(req) == "<Request PUT /a b>"


@pytest.mark.parametrize(
    ("field", "host"),
    [
        (None, ""),
        ("", ""),
        ("example.com", "example.com"),
        ("EXAMPLE.com:8000", "example.com"),
        ("example.com:", "example.com"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("[FE80::A]", "[fe80::a]"),
    ],
)
def test_the_host_has_no_port_and_is_lower_case(field: str | None, host: str) -> None:
    req = FakePeer().request("GET", "/", *([("Host", field)] if field is not None else []))
    assert req.host == host


def test_host_query_and_cookies_are_read_once() -> None:
    req = FakePeer().request("GET", "/", ("Host", "a"), ("Cookie", "a=1"))
    req.query_bytes = b"q=1"
    first = (req.host, req.query, req.cookies)
    req.headers.set("host", "b").set("cookie", "a=2")
    req.query_bytes = b"q=2"
    assert (req.host, req.query, req.cookies) == first
    assert req.query is first[1]
    assert (first[0], first[1].get("q"), first[2]) == ("a", "1", {"a": "1"})


def test_cookies_come_from_every_field() -> None:
    req = FakePeer().request("GET", "/", ("Cookie", 'a=1; b="q\\"uo\\073"; flag'), ("Cookie", "a=2; c=%20"))
    assert req.cookies == {"a": "2", "b": 'q"uo;', "": "flag", "c": "%20"}
    assert FakePeer().request().cookies == {}


# The body


async def test_the_body_is_everything_and_can_be_read_again() -> None:
    req = with_body(b"one ", b"two")
    assert await req.body() == b"one two"
    assert await req.body() == b"one two"


async def test_no_body_is_empty() -> None:
    assert await with_body().body() == b""


async def test_nothing_is_read_before_a_handler_asks() -> None:
    peer = FakePeer(b"one", b"two")
    req = peer.request("POST")
    pieces = req.stream()
    assert peer.body == [b"one", b"two"]
    assert await anext(pieces) == b"one"
    assert peer.body == [b"two"]


async def test_a_stream_gives_the_pieces_as_they_come_and_ends() -> None:
    pieces = with_body(b"one", b"two").stream()
    assert await all_of(pieces) == [b"one", b"two"]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


async def test_a_stream_may_be_abandoned() -> None:
    async for piece in with_body(b"one", b"two").stream():
        assert piece == b"one"
        break
    gc.collect()  # Trio would warn of an abandoned generator, and warnings are errors


async def test_a_body_that_was_read_whole_streams_in_one_piece_again_and_again() -> None:
    req = with_body(b"one", b"two")
    await req.body()
    for _ in range(2):
        assert await all_of(req.stream()) == [b"onetwo"]


@pytest.mark.parametrize("body", [b"", b"there"])
async def test_a_body_that_is_there_already_streams_in_one_piece(body: bytes) -> None:
    req = whole(body)
    assert await all_of(req.stream()) == [body]
    assert await all_of(req.stream()) == [body]
    assert await req.body() == body


async def test_a_body_that_is_not_there_streams_one_empty_piece_again_and_again() -> None:
    req = with_body()
    for _ in range(2):
        assert await all_of(req.stream()) == [b""]
    assert await req.body() == b""


def test_the_constants_are_those_of_the_limits() -> None:
    assert Limits().body_bytes == DEFAULT_MAX_BODY_SIZE == 10_485_760
    assert Limits().body_timeout == DEFAULT_BODY_TIMEOUT == 30.0
    assert (LOW_WATER_MARK, HIGH_WATER_MARK) == (16_384, 65_536)


async def test_a_reader_can_accept_less_than_the_server() -> None:
    for reader in (BodyReader.of(b"12345"), BodyReader(FakePeer(b"123", b"45").receive)):
        assert await reader.read(max_size=5) == b"12345"
        with pytest.raises(HttpException) as info:
            await reader.read(max_size=4)
        assert (info.value.status_code, info.value.detail) == (413, "Request body too large")
        assert await reader.read() == b"12345"


async def test_what_is_too_large_is_not_read_to_its_end() -> None:
    peer = FakePeer(b"123", b"45", b"678")
    with pytest.raises(HttpException) as info:
        await BodyReader(peer.receive).read(max_size=4)
    assert info.value.status_code == 413
    assert peer.body == [b"678"]


@pytest.mark.upstream_bug(22)
@pytest.mark.parametrize("error", [ClientDisconnected("gone"), HttpException(408), HttpException(413)])
async def test_bug_22_what_ends_a_body_early_comes_out_as_itself(error: Exception) -> None:
    async def receive() -> bytes:
        raise error

    for read in (Request.body, Request.json):
        with pytest.raises(type(error)) as info:
            await read(Request(headers=Headers(), body=BodyReader(receive)))
        assert info.value is error


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9))
async def test_any_pieces_make_the_body(pieces: list[bytes]) -> None:
    assert await with_body(*pieces).body() == b"".join(pieces)
    assert await all_of(with_body(*pieces).stream()) == (pieces or [b""])


# A body that is read twice


GONE = r"The beginning of the body is gone: .* no more than 65536 bytes .* `await c.req.body\(\)` first"


async def leave_early(req: Request) -> None:
    async for _ in req.stream():
        break


async def stream_twice(req: Request) -> None:
    await all_of(req.stream())
    assert b"".join(await all_of(req.stream())) == await req.body()


async def stream_all(req: Request) -> None:
    await all_of(req.stream())


async def time_out(req: Request) -> None:
    with trio.CancelScope() as scope:
        scope.cancel(reason="as a timeout would")
        await req.body()
    assert scope.cancelled_caught


LOOKS = [leave_early, stream_all, stream_twice, time_out]


@pytest.mark.parametrize("look", LOOKS)
async def test_a_body_that_was_looked_at_is_still_whole(look: Callable[[Request], Awaitable[None]]) -> None:
    req = with_body(b'{"a"', b": 1", b"}")
    await look(req)
    assert await req.json() == {"a": 1}
    assert await req.body() == b'{"a": 1}'
    assert await all_of(req.stream()) == [b'{"a": 1}']

    req = with_body(b'{"a"', b": 1", b"}")
    await look(req)
    assert b"".join(await all_of(req.stream())) == b'{"a": 1}'


async def test_streams_beside_each_other_all_give_the_whole() -> None:
    req = with_body(b"one", b"two", b"three")
    first, second = req.stream(), req.stream()
    assert [await anext(first), await anext(second)] == [b"one", b"one"]
    assert [await anext(first), await anext(first)] == [b"two", b"three"]
    assert await all_of(second) == [b"twothree"]
    assert await all_of(first) == []


async def test_a_middleware_may_hash_the_body_by_streaming_it() -> None:
    body = b"[" + b" " * (HIGH_WATER_MARK - 2) + b"]"
    req = with_body(body[:40_000], body[40_000:])
    assert len(b"".join(await all_of(req.stream()))) == HIGH_WATER_MARK
    assert await req.json() == []


async def test_of_more_than_is_kept_the_beginning_is_gone() -> None:
    pieces = bytes(HIGH_WATER_MARK), b"!"
    req = with_body(*pieces, b"more")
    stream = req.stream()
    assert [await anext(stream), await anext(stream)] == [*pieces]
    for again in (req.body, req.json, req.stream().__anext__):
        with pytest.raises(RuntimeError, match=GONE):
            await again()
    assert await all_of(stream) == [b"more"], "it goes on where it is"
    for again in (req.body, req.json, req.stream().__anext__):
        with pytest.raises(RuntimeError, match=GONE):
            await again()


async def test_what_body_has_read_can_be_streamed_whatever_its_size() -> None:
    req = with_body(*[bytes(HIGH_WATER_MARK)] * 5)
    await req.body()
    assert [[len(piece) for piece in await all_of(req.stream())] for _ in range(2)] == [[5 * HIGH_WATER_MARK]] * 2


async def test_body_goes_on_from_where_a_timeout_ended_it_whatever_its_size() -> None:
    pieces = [bytes([n]) * HIGH_WATER_MARK for n in range(4)]
    peer = Uncertain(pieces, stalls=[3])
    req = Request(headers=Headers(), body=BodyReader(peer.receive))
    with peer.patience:
        await req.body()
    assert peer.given == 3 * HIGH_WATER_MARK
    assert await req.body() == b"".join(pieces)


async def test_two_tasks_cannot_wait_for_one_body() -> None:
    more = trio.Event()

    async def receive() -> bytes:
        await more.wait()
        return b""

    req = Request(headers=Headers(), body=BodyReader(receive))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(all_of, req.stream())
        await trio.testing.wait_all_tasks_blocked()
        for read in (req.body, req.stream().__anext__):
            with (
                pytest.raises(RuntimeError, match="Body already streaming: another task waits for it"),
                trio.fail_after(1),
            ):
                await read()
        more.set()
    assert await req.body() == b""


@pytest.mark.parametrize("error", [ClientDisconnected("gone"), HttpException(408), HttpException(413)])
async def test_what_has_ended_a_body_is_raised_again_at_once(error: Exception) -> None:
    peer = Uncertain([b"one"], failure=error)
    req = Request(headers=Headers(), body=BodyReader(peer.receive))
    stream = req.stream()
    assert await anext(stream) == b"one"
    for read in (stream.__anext__, req.stream().__anext__, req.body, req.json, stream.__anext__):
        with pytest.raises(type(error)) as info:
            await read()
        assert info.value is error
    assert peer.asked == 2, "nobody waited for more"


async def test_an_upload_of_any_size_needs_no_memory() -> None:
    size = 0

    async def receive() -> bytes:
        nonlocal size
        size += HIGH_WATER_MARK
        return bytes(HIGH_WATER_MARK) if size <= 400 * HIGH_WATER_MARK else b""

    req = Request(headers=Headers(), body=BodyReader(receive))
    tracemalloc.start()
    try:
        async for piece in req.stream():
            assert len(piece) == HIGH_WATER_MARK
            del piece
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 400 * HIGH_WATER_MARK
    assert peak < 4 * HIGH_WATER_MARK


class Uncertain:
    """A peer whose pieces may not come in time, with an oracle for what can still be read.

    Args:
        pieces: of the body.
        stalls: before which pieces the caller loses its patience, each time it stands there.
        failure: instead of an end.
    """

    def __init__(self, pieces: list[bytes], *, stalls: Iterable[int] = (), failure: Exception | None = None) -> None:
        self.pieces: list[bytes] = pieces
        self.whole = b"".join(pieces)
        self.stalls = sorted(stalls, reverse=True)
        self.failure = failure
        self.patience = trio.CancelScope()
        self.streaming = False
        self.asked: int = 0
        self.given: int = 0
        self.at: int = 0
        self.failed = self.gone = False

    async def receive(self) -> bytes:
        self.asked += 1
        if self.stalls and self.stalls[-1] == self.at:
            self.stalls.pop()
            self.patience.cancel(reason="it takes too long")
        await trio.lowlevel.checkpoint()
        if self.at == len(self.pieces):
            if self.failure is not None:
                self.failed = True
                raise self.failure
            return b""
        piece = self.pieces[self.at]
        self.at += 1
        self.given += len(piece)
        self.gone |= self.streaming and self.given > HIGH_WATER_MARK
        return piece


async def read_some(req: Request, peer: Uncertain, most: int | None) -> bytes:
    """The body, or for a number what as many pieces of a stream have."""
    if most is None:
        return await req.body()
    got = b""
    stream = req.stream()
    for _ in range(most):
        piece = await anext(stream, b"")
        assert bytes(piece) == peer.whole[len(got) : len(got) + len(piece)]
        got += piece
    return got


SIZES = st.sampled_from([1, 2, 20_000, 40_000, HIGH_WATER_MARK])


@given(
    sizes=st.lists(SIZES, max_size=5),
    stalls=st.lists(st.integers(0, 5), max_size=4),
    fails=st.booleans(),
    steps=st.lists(st.none() | st.integers(1, 7), min_size=1, max_size=6),
)
async def test_whatever_was_read_before_it_is_the_whole_or_the_one_error(
    *, sizes: list[int], stalls: list[int], fails: bool, steps: list[int | None]
) -> None:
    peer = Uncertain(
        [bytes([65 + n]) * size for n, size in enumerate(sizes)],
        stalls=stalls,
        failure=ClientDisconnected("gone") if fails else None,
    )
    req = Request(headers=Headers(), body=BodyReader(peer.receive))
    for step in steps:
        was_gone, had_failed = peer.gone, peer.failed
        peer.streaming = step is not None
        peer.patience = trio.CancelScope()
        got: bytes | None = None
        raised: Exception | None = None
        with peer.patience:
            try:
                got = await read_some(req, peer, step)
            except (RuntimeError, ClientDisconnected) as exc:
                raised = exc
        if peer.patience.cancelled_caught:
            continue
        if peer.failed and (had_failed or raised):
            assert raised is peer.failure
        elif was_gone:
            assert isinstance(raised, RuntimeError)
            assert re.search(GONE, str(raised))
        elif step is None or step > len(sizes):
            assert got == peer.whole
        else:
            assert raised is None


# JSON


async def test_json_whatever_the_content_type() -> None:
    req = with_body(b'{"a": [1, "', "é".encode(), b'"]}')
    assert await req.json() == {"a": [1, "é"]}
    assert await req.json() == {"a": [1, "é"]}


@pytest.mark.upstream_bug(29)
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Invalid JSON: Expecting value"),
        (b"{", "Invalid JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": 1} x', "Invalid JSON: Extra data"),
        pytest.param(b'"\xff"', "Invalid JSON: not UTF-8", id="bug_29"),
        (b"[" * 200_000, "Invalid JSON: nested too deeply"),
        (b"9" * 5_000, "Invalid JSON: a number is too long"),
    ],
)
async def test_what_is_no_json_is_the_peers_fault(body: bytes, detail: str) -> None:
    with pytest.raises(HttpException) as info:
        await whole(body).json()
    assert (info.value.status_code, info.value.detail) == (400, detail)


@pytest.mark.upstream_bug(29)
@given(st.binary(max_size=60))
async def test_bug_29_no_body_makes_json_fail_in_another_way(body: bytes) -> None:
    statuses: list[int] = []
    try:
        await whole(body).json()
    except HttpException as exc:
        statuses.append(exc.status_code)
    assert statuses in ([], [400])
