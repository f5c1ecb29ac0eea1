"""One request as a handler sees it, and its body."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
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
    from collections.abc import AsyncIterator


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


async def test_a_body_streams_once() -> None:
    req = with_body(b"one", b"two")
    await anext(req.stream())
    with pytest.raises(RuntimeError, match="Body already streaming"):
        await anext(req.stream())
    with pytest.raises(RuntimeError, match="Body already streaming"):
        await req.body()


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
    assert await BodyReader.of(b"there").next_piece() == b""


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
