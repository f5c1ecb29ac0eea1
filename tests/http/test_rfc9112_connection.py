"""RFC 9112 sections 9 and 11: connections that persist, and requests hidden in requests."""

from __future__ import annotations

import pytest

from stario_trio.server.config import Limits
from stario_trio.server.wire import Head, RequestReader, WireError


def read(data: bytes) -> list[tuple[Head, bytes]]:
    """Read all requests and the end of the connection."""
    reader = RequestReader(Limits())
    reader.feed(data)
    reader.feed_eof()
    found: list[tuple[Head, bytes]] = []
    read_all(reader, found)
    return found


def read_all(reader: RequestReader, found: list[tuple[Head, bytes]]) -> None:
    """Add the requests that are complete."""
    while head := reader.next_head():
        body = bytearray()
        while piece := reader.next_body():
            body += piece
        found.append((head, bytes(body)))
        reader.next_cycle()


def request(*fields: bytes, version: bytes = b"1.1", path: bytes = b"/", body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST %s HTTP/%s" % (path, version), b"Host: a", *fields, b"", body])


# 9.3 Persistence


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection: Upgrade"], True),
        (b"1.1", [b"Connection: closed, close-not"], True),
        (b"1.1", [b"Connection:"], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: CLOSE"], False),
        (b"1.1", [b"Connection: keep-alive, close"], False),
        (b"1.1", [b"Connection: x\t,\tclose ,y"], False),
        (b"1.1", [b"Connection: keep-alive", b"Connection: close"], False),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: Keep-Alive, x"], True),
        (b"1.0", [b"Connection: x", b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: close"], False),
        (b"1.0", [b"Connection: keep-alive, close"], False),
        (b"1.0", [b"Keep-Alive: timeout=5"], False),
    ],
)
def test_9_3_what_the_request_asks_of_the_connection(version: bytes, fields: list[bytes], *, keep_alive: bool) -> None:
    ((head, _),) = read(request(*fields, version=version))
    assert head.keep_alive is keep_alive


# 9.3.2 Pipelining


def test_9_3_2_pipelined_requests_are_read_in_order() -> None:
    found = read(
        request(path=b"/1")
        + request(b"Content-Length: 3", path=b"/2", body=b"abc")
        + request(b"Transfer-Encoding: chunked", path=b"/3", body=b"2\r\nde\r\n0\r\nX: y\r\n\r\n")
        + b"\r\n"
        + request(b"Content-Length: 0", path=b"/4")
    )
    assert [(head.path, body) for head, body in found] == [("/1", b""), ("/2", b"abc"), ("/3", b"de"), ("/4", b"")]


def test_9_3_2_a_bad_request_does_not_harm_the_ones_before_it() -> None:
    reader = RequestReader(Limits())
    reader.feed(request(path=b"/1") + b"BAD\r\n\r\n" + request(path=b"/3"))
    head = reader.next_head()
    assert head is not None
    assert head.path == "/1"
    reader.next_cycle()
    with pytest.raises(WireError):
        reader.next_head()


# 9.6 Tear-down


def test_9_6_the_peer_may_end_between_two_requests() -> None:
    assert read(b"") == []
    assert len(read(request())) == 1
    assert len(read(request() + b"\r\n")) == 1


@pytest.mark.parametrize("size", range(1, len(request(b"X: y"))))
def test_9_6_the_end_within_a_head_is_400(size: int) -> None:
    with pytest.raises(WireError) as info:
        read(request() + request(b"X: y")[:size])
    assert (info.value.status, info.value.disconnected) == (400, True)


# 11.2 Request Smuggling: whatever two recipients could read differently is refused.

_HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        # CL.TE and TE.CL, in disguises that a proxy may miss.
        request(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n"),
        request(b"Content-Length: 6", b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b" Transfer-Encoding: chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"X: y\r\n\tTransfer-Encoding: chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"Transfer-Encoding\x00: chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Content-Length: 6", b"Transfer-Encoding: x", body=b"0\r\n\r\n" + _HIDDEN),
        # TE.TE
        request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", b"Transfer-encoding: identity", body=b"0\r\n\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + _HIDDEN),
        # CL.CL
        request(b"Content-Length: 0", b"Content-Length: 33", body=_HIDDEN),
        request(b"Content-Length: 0,33", body=_HIDDEN),
        # A recipient that does not know chunked.
        request(b"Transfer-Encoding: chunked", version=b"1.0", body=b"0\r\n\r\n" + _HIDDEN),
        # Chunks whose ends are read differently.
        request(b"Transfer-Encoding: chunked", body=b"0\r\n\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", body=b"0\n\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", body=b"0\r\nX: y\n\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", body=b"0\r\nX: y\n\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", body=b"2;\nxx\r\n21\r\n0\r\n\r\n" + _HIDDEN + b"\r\n0\r\n\r\n"),
        request(b"Transfer-Encoding: chunked", body=b"5\r\nAAAAAXX22\r\n" + _HIDDEN + b"\r\n0\r\n\r\n"),
        request(b"Transfer-Encoding: chunked", body=b"1\r\nZ\r\nQ\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", body=b"10000000000000000\r\n0\r\n\r\n" + _HIDDEN),
        request(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff0\r\n" + _HIDDEN),
        # Heads whose ends are read differently.
        b"GET / HTTP/1.1\r\nHost: a\n\n" + _HIDDEN,
        b"GET / HTTP/1.1\r\nHost: a\r\n\n" + _HIDDEN,
        b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n" + _HIDDEN,
        # A host in two places.
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        b"GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_11_2_nothing_hidden_is_served(data: bytes) -> None:
    reader = RequestReader(Limits())
    reader.feed(data)
    found: list[tuple[Head, bytes]] = []
    with pytest.raises(WireError) as info:
        read_all(reader, found)
    assert found == []
    assert info.value.status in (400, 413, 501)
    assert not info.value.disconnected


# RFC 9110 sections that the reader decides


@pytest.mark.parametrize(
    ("version", "fields", "expects"),
    [
        (b"1.1", [b"Expect: 100-continue", b"Content-Length: 3"], True),
        (b"1.1", [b"expect: 100-Continue", b"Content-Length: 3"], True),
        (b"1.1", [b"Expect: x, 100-continue", b"Content-Length: 3"], True),
        (b"1.1", [b"Expect: x", b"Expect: 100-continue", b"Transfer-Encoding: chunked"], True),
        (b"1.1", [b"Expect: 100-continue"], False),
        (b"1.1", [b"Expect: 100-continue", b"Content-Length: 0"], False),
        (b"1.1", [b"Expect: 200-ok", b"Content-Length: 3"], False),
        (b"1.1", [b"Expect: 100-continued", b"Content-Length: 3"], False),
        (b"1.1", [b"Content-Length: 3"], False),
        (b"1.0", [b"Expect: 100-continue", b"Content-Length: 3"], False),
    ],
)
def test_rfc9110_10_1_1_expect_continue(version: bytes, fields: list[bytes], *, expects: bool) -> None:
    reader = RequestReader(Limits())
    reader.feed(request(*fields, version=version))
    head = reader.next_head()
    assert head is not None
    assert head.expects_continue is expects


def test_rfc9110_7_8_upgrade_is_ignored() -> None:
    found = read(
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c, websocket", b"Content-Length: 1", body=b"a")
        + request(path=b"/2")
    )
    assert [(head.path, body, head.keep_alive) for head, body in found] == [("/", b"a", True), ("/2", b"", True)]
