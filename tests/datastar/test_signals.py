"""Where a request carries its signals, for `get_signals` and `c.signals()` alike."""

from __future__ import annotations

import json
import typing
from typing import Any, cast
from urllib.parse import quote, urlencode

import pytest
from datastar_py import _read_signals as official  # pyright: ignore[reportPrivateUsage]  # what its adapters call
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.datastar import FileSignal, get_signals, parse_signals
from stario_trio.datastar.signals import read_signals
from stario_trio.exceptions import ClientDisconnected, HttpException
from stario_trio.http.headers import Headers
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.types import Context
from stario_trio.telemetry.noop import NOOP_SPAN

if typing.TYPE_CHECKING:
    from stario_trio.http.app import Stario

IN_BODY = ["POST", "PUT", "PATCH", "OPTIONS", "QUERY"]


def request(method: str, *, query: str = "", body: bytes | BodyReader = b"") -> Request:
    reader = body if isinstance(body, BodyReader) else BodyReader.of(body)
    return Request(method=method, query_bytes=query.encode(), headers=Headers(), body=reader)


def context(req: Request) -> Context:
    return Context(cast("Stario", "the app"), req, NOOP_SPAN)


async def refused(req: Request) -> str:
    """The detail of the 400 for the signals of a request, whoever asks for them."""
    details = list[str]()
    for ask in (lambda: get_signals(req), lambda: read_signals(req), context(req).signals):
        with pytest.raises(HttpException) as info:
            await ask()
        assert info.value.status_code == 400
        details.append(info.value.detail)
    assert len(set(details)) == 1
    return details[0]


async def found(req: Request) -> object:
    """The signals of a request, whoever asks for them."""
    signals = await context(req).signals()
    assert await get_signals(req) == await read_signals(req) == signals
    return signals


# Where


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_signals_in_the_query(method: str) -> None:
    assert await found(request(method, query='a=1&datastar={"n":+1}&datastar={}')) == {"n": 1}
    assert await found(request(method, query="datastar=%7B%22s%22%3A%22%C3%A9%26%2B%22%7D")) == {"s": "é&+"}
    assert await found(request(method, query="datastar={}", body=b'{"not": "this"}')) == {}


@pytest.mark.upstream_bug(52)
async def test_bug_52_delete_takes_the_query_and_without_it_the_body() -> None:
    assert await found(request("DELETE", query='datastar={"n":1}')) == {"n": 1}
    assert await found(request("DELETE", query="other=1", body=b'{"n": 2}')) == {"n": 2}
    assert await found(request("DELETE", query='datastar={"n":1}', body=b"no JSON")) == {"n": 1}


@pytest.mark.parametrize("method", IN_BODY)
async def test_signals_in_the_body(method: str) -> None:
    assert await found(request(method, query='datastar={"not":"this"}', body='{"s": "é"}'.encode())) == {"s": "é"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", *IN_BODY])
async def test_no_signals_are_an_empty_dict(method: str) -> None:
    assert await found(request(method)) == {}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_body_is_not_read_where_none_is_meant(method: str) -> None:
    async def receive() -> bytes:
        raise AssertionError("read")

    assert await found(request(method, body=BodyReader(receive))) == {}


async def test_signals_can_be_asked_for_again() -> None:
    pieces = [b'{"n"', b": 1}", b""]

    async def receive() -> bytes:
        return pieces.pop(0)

    req = request("POST", body=BodyReader(receive))
    assert await found(req) == {"n": 1}
    assert await req.body() == b'{"n": 1}'


# What is wrong with them


@pytest.mark.upstream_bug(51)
@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("{", "Invalid JSON: Expecting property name enclosed in double quotes"),
        ("x", "Invalid JSON: Expecting value"),
        ('{"a":1} 2', "Invalid JSON: Extra data"),
        ("[" * 100_000, "Invalid JSON: nested too deeply"),
        ("9" * 5_000, "Invalid JSON: a number is too long"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
async def test_bug_51_no_json(method: str, text: str, detail: str) -> None:
    if method == "POST":
        assert await refused(request(method, body=text.encode())) == detail
    else:
        assert await refused(request(method, query=urlencode({"datastar": text}))) == detail


@pytest.mark.upstream_bug(51)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_bug_51_an_empty_parameter_is_no_json(method: str) -> None:
    assert await refused(request(method, query="datastar=")) == "Invalid JSON: Expecting value"


@pytest.mark.upstream_bug(29)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_bug_29_no_utf_8(method: str) -> None:
    assert await refused(request(method, body=b'{"a": "\xff"}')) == "Invalid JSON: not UTF-8"


async def test_no_utf_8_in_a_query_becomes_the_replacement_character() -> None:
    assert await found(request("GET", query="datastar=%7B%22a%22:%22%ff%22%7D")) == {"a": "\ufffd"}


@pytest.mark.upstream_bug(50)
@pytest.mark.parametrize("value", ["null", "[1]", '"x"', "3", "true"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_bug_50_json_that_is_no_object(method: str, value: str) -> None:
    req = request(method, query=urlencode({"datastar": value}), body=value.encode())
    with pytest.raises(HttpException, match=r"^Invalid signals: not a JSON object$") as info:
        await context(req).signals()
    assert info.value.status_code == 400
    assert await get_signals(req) == {}, "as in the original"


@pytest.mark.parametrize("error", [ClientDisconnected("gone"), HttpException(408), HttpException(413)])
async def test_what_ends_a_body_early_comes_out_as_itself(error: Exception) -> None:
    async def receive() -> bytes:
        raise error

    for ask in (lambda req: context(req).signals(), get_signals):
        with pytest.raises(type(error)) as info:
            await ask(request("POST", body=BodyReader(receive)))
        assert info.value is error


# What the client of Datastar sends


json_objects = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@given(json_objects, st.sampled_from(["GET", "DELETE", "POST", "PUT", "PATCH"]))
async def test_the_official_sdk_reads_the_same(signals: dict[str, Any], method: str) -> None:
    text = json.dumps(signals, ensure_ascii=False)
    if method in ("GET", "DELETE"):
        req = request(method, query=f"datastar={quote(text)}")
    else:
        req = request(method, body=text.encode())
    headers = {"Datastar-Request": "true", "Content-Type": "application/json"}
    params = {"datastar": text} if method in ("GET", "DELETE") else {}
    assert await found(req) == official(method, headers, params, text) == signals


async def test_a_file() -> None:
    sent = {"files": [{"name": "a.txt", "contents": "aGk=", "mime": "text/plain"}, {"name": "b", "contents": ""}]}
    found = await get_signals(request("POST", body=json.dumps(sent).encode()))
    files = cast("list[dict[str, Any]]", found["files"])
    first, second = [parse_signals(file, FileSignal) for file in files]
    assert first == {"name": "a.txt", "contents": "aGk=", "mime": "text/plain"}
    assert second == {"name": "b", "contents": ""}
    assert FileSignal.__required_keys__ >= {"name", "contents"}


def test_annotations_resolve() -> None:
    for function in (get_signals, read_signals):
        typing.get_type_hints(function)
