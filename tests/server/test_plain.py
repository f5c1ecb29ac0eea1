"""The plain reader is right or silent: what it reads, `parse_head` reads too, to the same `Head`.

The property is checked here on any bytes, and by a fixture in `tests/conftest.py` on every head that any test sends.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from stario_trio.server.config import Limits
from stario_trio.server.wire import RequestReader, WireError
from stario_trio.server.wire.head import parse_head
from stario_trio.server.wire.plain import read_plain
from tests.server.test_wire import SMALL, Llhttp, httptools, noise, streams  # noqa: F401  (httptools is a fixture)
from tests.support.heads import known, read_plain_and_compare

BROWSER = (
    b"GET /a/b%20c?d=e&f HTTP/1.1\r\n"
    b"Host: www.example.org:8080\r\n"
    b"Connection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0\r\n"
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language:de\r\n"
    b'Cookie:\tname="J\xfcrgen"; theme=dark\r\n'
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"X-Empty:\r\n"
    b"\r\n"
)


def head(line: bytes = b"GET / HTTP/1.1", *more: bytes) -> bytes:
    return b"\r\n".join([line, b"Host: a", *more, b"", b""])


# What is plain


def test_a_browsers_head_is_plain() -> None:
    found = read_plain(BROWSER, Limits())
    assert found is not None
    assert (found.method, found.path, found.query, found.version) == ("GET", "/a/b c", b"d=e&f", "1.1")
    assert (found.keep_alive, found.content_length, found.expects_continue) == (True, 0, False)
    assert found.headers.items() == [
        (b"host", b"www.example.org:8080"),
        (b"connection", b"keep-alive"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"),
        (b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
        (b"accept-language", b"de"),
        (b"cookie", b'name="J\xfcrgen"; theme=dark'),
        (b"upgrade-insecure-requests", b"1"),
        (b"x-empty", b""),
    ]
    assert known(found) == known(parse_head(BROWSER, Limits()))


PLAIN = [
    *(head(method + b" /a HTTP/1.1") for method in (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS")),
    head(b"GET /!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ HTTP/1.1"),
    head(b"GET //b HTTP/1.1"),
    head(b"GET /" + b"a" * 39 + b" HTTP/1.1"),
    head(b"POST / HTTP/1.1", b"Content-Length: 0"),
    head(b"POST / HTTP/1.1", b"content-LENGTH: 20"),
    head(b"POST / HTTP/1.1", b"Content-Length: 00000000000000000005"),
    head(b"GET / HTTP/1.1", b"Connection: close"),
    head(b"GET / HTTP/1.1", b"Connection: Keep-Alive,X , CLOSE"),
    head(b"GET / HTTP/1.1", b"Connection: x"),
    head(b"GET / HTTP/1.1", b"Connection:"),
    head(b"GET / HTTP/1.1", b"!#$%&'*+-.^_`|~09azAZ: \t a\tb  c"),
    head(b"GET / HTTP/1.1", b"A: 1", b"B: \xff", b"C: \x80"),
    b"GET / HTTP/1.1\r\nhOST: [::1]:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %41.example.org\r\n\r\n",
]


@pytest.mark.parametrize("block", PLAIN)
def test_a_simple_head_is_plain(block: bytes) -> None:
    found = read_plain(block, SMALL)
    assert found is not None
    assert known(found) == known(parse_head(block, SMALL))


# What is left to h11


NOT_PLAIN = [
    head(b"OPTIONS * HTTP/1.1"),
    head(b"GET http://b/ HTTP/1.1"),
    head(b"M-SEARCH / HTTP/1.1"),
    head(b"GET / HTTP/1.0"),
    head(b"GET / HTTP/1.1", b"X: 1", b"x: 2"),
    head(b"GET / HTTP/1.1", b"X: trailing "),
    head(b"GET / HTTP/1.1", b"X: trailing\t"),
    head(b"GET / HTTP/1.1", b"X: "),
    head(b"POST / HTTP/1.1", b"Content-Length: 5", b"Content-Length: 5"),
    head(b"POST / HTTP/1.1", b"Content-Length: 5, 5"),
    head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"),
    head(b"POST / HTTP/1.1", b"Content-Length: 5", b"Expect: 100-continue"),
    head(b"GET / HTTP/1.1", b"Connection: upgrade", b"Upgrade: websocket"),
]


@pytest.mark.parametrize("block", NOT_PLAIN)
def test_a_head_that_is_good_but_not_plain_is_left_to_h11(block: bytes) -> None:
    assert read_plain(block, SMALL) is None
    parse_head(block, SMALL)


BAD = [
    b"",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\n" + head(),
    b" " + head(),
    head(b"get / HTTP/1.1"),
    head(b"CONNECT / HTTP/1.1"),
    head(b"GET  / HTTP/1.1"),
    head(b"GET /\tHTTP/1.1"),
    head(b"GET /  HTTP/1.1"),
    head(b"GET / b HTTP/1.1"),
    head(b"GET /\x7f HTTP/1.1"),
    head(b"GET /\x80 HTTP/1.1"),
    head(b"GET /\0 HTTP/1.1"),
    head(b"GET a HTTP/1.1"),
    head(b"GET / HTTP/1x1"),
    head(b"GET / HTTP/1.1 "),
    head(b"GET / HTTP/1.1\r"),
    head(b"GET / HTTP/1.2"),
    head(b"GET / HTTP/1.1\nX: y"),
    head(b"GET / HTTP/1.1", b"X : y"),
    head(b"GET / HTTP/1.1", b": y"),
    head(b"GET / HTTP/1.1", b"X"),
    head(b"GET / HTTP/1.1", b"X\x80: y"),
    head(b"GET / HTTP/1.1", b"(X): y"),
    head(b"GET / HTTP/1.1", b" X: y"),
    head(b"GET / HTTP/1.1", b"X: y", b" folded"),
    head(b"GET / HTTP/1.1", b"X: y\r"),
    head(b"GET / HTTP/1.1", b"X: y\rz"),
    head(b"GET / HTTP/1.1", b"X: y\nZ: z"),
    head(b"GET / HTTP/1.1", b"X: y\0"),
    head(b"GET / HTTP/1.1", b"X: y\x0b"),
    head(b"GET / HTTP/1.1", b"X: y\x7f"),
    head()[:-1],
    head()[:-2],
    head()[:-2] + b"\n",
    head()[:-3] + b"\n",
    head() + b"\n",
    head() + b"X: y",
    head() + b"X: y\r\n\r\n",
    head(b"GET / HTTP/1.1", b"Host: a"),
    head(b"GET / HTTP/1.1", b"Host: b"),
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
    head(b"POST / HTTP/1.1", b"Content-Length:"),
    head(b"POST / HTTP/1.1", b"Content-Length: +5"),
    head(b"POST / HTTP/1.1", b"Content-Length: -5"),
    head(b"POST / HTTP/1.1", b"Content-Length: 5_0"),
    head(b"POST / HTTP/1.1", b"Content-Length: 0x5"),
    head(b"POST / HTTP/1.1", b"Content-Length: \xb2"),
    head(b"POST / HTTP/1.1", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    head(b"POST / HTTP/1.1", b"Transfer-Encoding: gzip"),
    # Beyond a limit
    head(b"GET /" + b"a" * 40 + b" HTTP/1.1"),
    head(b"GET / HTTP/1.1", b"A: 1", b"B: 2", b"C: 3", b"D: 4"),
    head(b"POST / HTTP/1.1", b"Content-Length: 21"),
    head(b"POST / HTTP/1.1", b"Content-Length: 000000000000000000005"),
    head(b"POST / HTTP/1.1", b"Content-Length: " + b"9" * 5000),
]


@pytest.mark.parametrize("block", BAD)
def test_what_is_not_good_is_left_to_h11(block: bytes) -> None:
    assert read_plain(block, SMALL) is None


_TCHAR = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VISIBLE = set(range(0x21, 0x7F))
#: Where the byte stands, and the bytes that may stand there.
PLACES = [
    (b"GET /a%cb HTTP/1.1\r\nHost: a\r\n\r\n", _VISIBLE),
    (b"GET / HTTP/1.1\r\na%cb: c\r\nHost: a\r\n\r\n", _TCHAR | {0x3A}),  # the colon ends the name
    (b"GET / HTTP/1.1\r\nHost: a\r\nb: c%cd\r\n\r\n", _VISIBLE | set(range(0x80, 0x100)) | {0x09, 0x20}),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1%c\r\n\r\n", set(b"0123456789")),
]


@pytest.mark.parametrize(("place", "good"), PLACES)
def test_every_byte_in_its_place(place: bytes, good: set[int]) -> None:
    assert {byte for byte in range(256) if read_plain_and_compare(place % byte, SMALL) is not None} == good


def test_h11_answers_at_a_limit() -> None:
    for block, status in zip(BAD[-5:], (414, 431, 413, 400, 413), strict=True):
        with pytest.raises(WireError) as info:
            parse_head(block, SMALL)
        assert info.value.status == status


def test_the_connection_reads_plain_heads_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stario_trio.server.wire.reader.parse_head", None)
    reader = RequestReader(Limits())
    reader.feed(BROWSER)
    assert reader.next_head() is not None


@pytest.mark.parametrize("byte", [b" ", b"\t", b"a", b":", b"\r", b"%"])
@pytest.mark.parametrize(
    "before", [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: "]
)
def test_the_work_is_linear_on_any_bytes(before: bytes, byte: bytes) -> None:
    """A repeat that gives back what it has taken would need minutes for these."""
    block = before + byte * 1_000_000 + b"\0\r\n\r\n"
    began = time.process_time()
    assert read_plain(block, Limits()) is None
    assert time.process_time() - began < 1


# Any bytes


_METHOD = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
_TARGET = st.text("abcXYZ019-._~!$&'()*+,;=:@/%2?#<\"", max_size=39).map(lambda text: b"/" + text.encode())
_NAME = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8).map(str.encode)
_VALUE = st.binary(max_size=12).map(lambda raw: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"x", raw).strip(b" \t"))
_COLON = st.sampled_from([b": ", b":", b":\t "])
#: What may be good, bad, plain or not; the plain ones first.
_SPECIAL = st.sampled_from(
    [
        b"Connection: close",
        b"Connection: keep-alive, X",
        b"Content-Length: 5",
        b"Content-Length: 020",
        b"Content-Length: 21",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length: " + b"0" * 20 + b"5",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Upgrade: websocket",
        b"Host: b",
        b"X: trailing ",
        b"X:  ",
    ]
)
_CHANGE = st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"/", b"\r\n\r\n"]) | st.binary(
    max_size=3
)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Heads: about half of them plain, others with something special, or with a few bytes changed."""
    host = draw(st.sampled_from([b"a", b"a", b"a.example:80", b"[::1]", b"", b"a,b", b"a b"]))
    lines = [b"Host" + draw(_COLON) + host]
    lines += [name + draw(_COLON) + draw(_VALUE) for name in draw(st.lists(_NAME, max_size=3, unique_by=bytes.lower))]
    lines += draw(st.lists(_SPECIAL, max_size=2) if draw(st.booleans()) else st.just([]))
    request_line = b"%b %b HTTP/1.1" % (draw(_METHOD), draw(_TARGET))
    block = bytearray(b"\r\n".join([request_line, *draw(st.permutations(lines)), b"", b""]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(block)))
        block[at : at + draw(st.integers(0, 2))] = draw(_CHANGE)
    return bytes(block)


@settings(max_examples=500)
@given(blocks())
@example(BROWSER)
def test_what_it_reads_is_what_h11_reads(block: bytes) -> None:
    event(f"plain: {read_plain_and_compare(block, SMALL) is not None}")


@given(noise)
def test_any_bytes_are_read_as_h11_reads_them_or_not_at_all(block: bytes) -> None:
    read_plain_and_compare(block, SMALL)
    read_plain_and_compare(block, Limits())


@given(blocks())
@example(BROWSER)
def test_what_it_reads_is_what_llhttp_reads(httptools: Any, block: bytes) -> None:  # noqa: F811
    found = read_plain(block, Limits())
    assume(found is not None)
    assert found is not None
    seen = Llhttp()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(block)
    assert seen.head_complete
    assert seen.complete == (found.content_length == 0)
    assert parser.get_method().decode() == found.method
    assert parser.get_http_version() == found.version
    path, _, query = seen.url.partition(b"#")[0].partition(b"?")
    assert (unquote(path.decode()), query) == (found.path, found.query)
    assert seen.fields == found.headers.items()
