"""The reader as its caller sees it: the contract, any split of the bytes, any bytes, and two oracles.

What RFC 9112 says is tested in `tests/http/test_rfc9112_*.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import h11
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stario_trio.server.config import Limits
from stario_trio.server.wire import Head, RequestReader, WireError, buffer
from stario_trio.server.wire.buffer import Buffer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

#: Small enough for random bytes to reach every one of them.
SMALL = Limits(header_bytes=1024, header_fields=4, target_bytes=40, body_bytes=20)


def read_on(reader: RequestReader) -> None:
    """Read what there is."""
    while reader.next_head() is not None:
        while reader.next_body():
            pass
        reader.next_cycle()


def refusal(reader: RequestReader) -> WireError:
    """Read on until the reader refuses."""
    with pytest.raises(WireError) as info:
        read_on(reader)
    return info.value


def state(reader: RequestReader) -> dict[str, bool]:
    return {"pending": reader.pending, "body_done": reader.body_done}


# The contract


def test_a_new_reader_waits_for_a_first_byte() -> None:
    reader = RequestReader(Limits())
    assert reader.next_head() is None
    assert (reader.pending, reader.eof, reader.body_done) == (False, False, True)
    assert reader.next_body() == b""


def test_the_end_of_an_idle_connection_is_no_error() -> None:
    reader = RequestReader(Limits())
    reader.feed_eof()
    assert reader.next_head() is None
    assert reader.eof


def test_a_request_without_body_is_done_at_once() -> None:
    reader = RequestReader(Limits())
    reader.feed(GET)
    assert reader.next_head() is not None
    assert reader.body_done
    assert not reader.pending
    assert reader.next_body() == b""
    reader.next_cycle()
    assert reader.next_head() is None


@pytest.mark.parametrize(("start", "rest"), [(POST, b"abcde"), (CHUNKED, b"5\r\nabcde\r\n0\r\n\r\n")])
def test_a_body_ends_with_the_empty_piece_and_ever_after(start: bytes, rest: bytes) -> None:
    reader = RequestReader(Limits())
    reader.feed(start)
    assert reader.next_head() is not None
    assert reader.next_body() is None
    reader.feed(rest)
    assert reader.next_body() == b"abcde"
    assert state(reader) == {"pending": False, "body_done": False}
    assert reader.next_body() == b""
    assert state(reader) == {"pending": False, "body_done": True}
    assert reader.next_body() == b""


def test_a_piece_is_what_has_come() -> None:
    reader = RequestReader(Limits())
    reader.feed(POST + b"ab")
    assert reader.next_head() is not None
    assert reader.next_body() == b"ab"
    assert reader.next_body() is None
    reader.feed(b"cdeGET")
    assert reader.next_body() == b"cde"
    assert reader.next_body() == b""


def test_pending_tells_reading_from_idle() -> None:
    reader = RequestReader(Limits())
    reader.feed(b"G")
    assert reader.next_head() is None
    assert state(reader)["pending"]
    reader.feed((GET + POST)[1:] + b"abcde" + GET)
    assert reader.next_head() is not None
    assert state(reader)["pending"]  # POST
    reader.next_cycle()
    assert reader.next_head() is not None
    assert not state(reader)["pending"]  # bytes of a body are no next request
    assert reader.next_body() == b"abcde"
    assert reader.next_body() == b""
    assert state(reader)["pending"]  # GET
    reader.next_cycle()
    assert reader.next_head() is not None
    assert not state(reader)["pending"]


def test_a_skipped_empty_line_leaves_the_connection_idle() -> None:
    reader = RequestReader(Limits())
    reader.feed(GET + b"\r\n")
    assert reader.next_head() is not None
    reader.next_cycle()
    assert reader.next_head() is None
    assert not reader.pending


def test_each_request_may_have_an_empty_line_before_it() -> None:
    data = b"\r\n" + GET + b"\r\n" + GET
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        found, end = drive(pieces)
        assert (len(found), end) == (2, None)


def test_the_next_head_needs_a_next_cycle() -> None:
    reader = RequestReader(Limits())
    reader.feed(GET + GET)
    assert reader.next_head() is not None
    with pytest.raises(RuntimeError, match="next_cycle"):
        reader.next_head()


def test_the_next_cycle_needs_the_end_of_the_body() -> None:
    reader = RequestReader(Limits())
    reader.feed(POST + b"abcde")
    assert reader.next_head() is not None
    with pytest.raises(RuntimeError, match="body"):
        reader.next_cycle()
    assert reader.next_body() == b"abcde"
    assert reader.next_body() == b""
    reader.next_cycle()


@pytest.mark.parametrize("data", [b"BAD\r\n\r\n" + GET, CHUNKED + b"x\r\n" + GET])
def test_after_an_error_nothing_is_read(data: bytes) -> None:
    reader = RequestReader(Limits())
    reader.feed(data)
    error = refusal(reader)
    reader.feed(GET)
    for read in (reader.next_head, reader.next_body):
        with pytest.raises(WireError) as info:
            read()
        assert info.value is error


def test_errors_do_not_repeat_the_request() -> None:
    reader = RequestReader(Limits())
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n<script> : x\r\n\r\n")
    error = refusal(reader)
    assert str(error) == error.detail == "Invalid HTTP request"
    assert isinstance(error.__cause__, h11.RemoteProtocolError)  # for the trace


def test_eof_leaves_complete_requests_readable() -> None:
    found, end = drive([GET + POST + b"abcde"])
    assert [body for _, body in found] == [b"", b"abcde"]
    assert end is None


# Linear work


def test_one_byte_at_a_time_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    class Counting(Buffer):
        __slots__ = ()

        def find(self, *args: Any) -> int:
            nonlocal looked_at
            _, start, end = args
            looked_at += min(len(self), end) - start
            return super().find(*args)

    class Pattern:
        def search(self, data: Buffer, start: int, end: int) -> re.Match[bytes] | None:
            nonlocal looked_at
            looked_at += min(len(data), end) - start
            return re.compile(rb"\n\r?\n").search(data, start, end)

    monkeypatch.setattr(buffer, "_BLANK_LINE", Pattern())
    monkeypatch.setattr("stario_trio.server.wire.reader.Buffer", Counting)
    data = (
        b"POST /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: " + b"b" * 5000 + b"\r\n"
        b"\r\n1;" + b"c" * 5000 + b"\r\nd\r\n0\r\nX: " + b"e" * 5000 + b"\r\n\r\n"
    )
    found, end = drive(data[i : i + 1] for i in range(len(data)))
    assert (len(found), end) == (1, None)
    # Each byte once, and at the ends of heads the two before it again.
    assert len(data) <= looked_at + 1024 <= 4 * len(data)


# Any split, any bytes


def drive(
    pieces: Iterable[bytes], limits: Limits | None = None
) -> tuple[list[tuple[Head, bytes]], tuple[int, str, bool] | None]:
    """Read everything, feeding a piece only when asked.

    Returns:
        The requests (the last one perhaps with a part of its body), and the error that ended the reading.
    """
    reader = RequestReader(limits or Limits())
    supply: Iterator[bytes] = iter(pieces)

    def more() -> None:
        # The contract: whoever feeds only when asked has no more than an unfinished head or line in memory.
        assert len(reader._buffer) < reader._limits.header_bytes + 18
        if piece := next(supply, b""):
            reader.feed(piece)
        else:
            assert not reader.eof, "asked for more after the end"
            reader.feed_eof()

    found: list[tuple[Head, bytes]] = []
    try:
        while True:
            while (head := reader.next_head()) is None:
                if reader.eof:
                    return found, None
                more()
            body = b""
            found.append((head, body))
            while (piece := reader.next_body()) != b"":
                if piece is None:
                    more()
                else:
                    body += piece
                    found[-1] = (head, body)
            reader.next_cycle()
    except WireError as error:
        return found, (error.status, error.detail, error.disconnected)


def facts(found: list[tuple[Head, bytes]]) -> list[tuple[object, ...]]:
    """Make heads comparable."""
    return [
        (
            head.method,
            head.path,
            head.query,
            head.version,
            head.headers.items(),
            head.keep_alive,
            head.content_length,
            head.expects_continue,
            body,
        )
        for head, body in found
    ]


_TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8).map(str.encode)
_VALUE = st.binary(max_size=12).map(lambda raw: re.sub(rb"[\x00-\x1f\x7f]", b"\t", raw).strip(b" \t"))
_PATH = st.text("abcXYZ019-._~!$&'()*+,;=:@/%2?", max_size=12).map(lambda text: b"/" + text.encode())
_SPACE = st.sampled_from([b"", b" ", b"\t", b"  \t"])
_EXTENSION = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"', b";a=b;c"])


@dataclass
class Sent:
    """One good request: its bytes, and what was meant by them."""

    data: bytes
    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes


@st.composite
def good_requests(draw: st.DrawFn) -> Sent:
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"M-SEARCH"]))
    target = draw(_PATH)
    fields = [(b"Host", draw(st.sampled_from([b"a", b"example.org:80", b"[::1]"])))]
    fields += [(b"X-" + name, value) for name, value in draw(st.lists(st.tuples(_TOKEN, _VALUE), max_size=4))]
    fields += draw(st.sampled_from([[], [], [(b"Connection", b"keep-alive, X-A")], [(b"Expect", b"100-continue")]]))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    version = b"1.1" if framing == "chunked" else draw(st.sampled_from([b"1.1", b"1.0"]))
    chunks = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3))
    body = b"" if framing == "none" else b"".join(chunks)
    coded = body
    if framing == "length":
        fields.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        fields.append((b"Transfer-Encoding", b"chunked"))
        coded = b"".join(
            b"%s%x%s\r\n%s\r\n" % (draw(st.sampled_from([b"", b"00"])), len(chunk), draw(_EXTENSION), chunk)
            for chunk in chunks
        )
        trailers = draw(st.lists(st.tuples(_TOKEN, _VALUE), max_size=2))
        coded += b"0%s\r\n" % draw(_EXTENSION) + b"".join(b"X-%s: %s\r\n" % pair for pair in trailers) + b"\r\n"
    fields = draw(st.permutations(fields))
    data = b"%s %s HTTP/%s\r\n" % (method, target, version)
    data += b"".join(name + b":" + draw(_SPACE) + value + draw(_SPACE) + b"\r\n" for name, value in fields)
    return Sent(data + b"\r\n" + coded, method, target, version, fields, body)


_PARTS = [
    b"GET / HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT a:80 HTTP/1.1\r\n",
    b"POST http://h:80/x?y HTTP/1.1\r\n",
    b"GET /" + b"a" * 39 + b" HTTP/1.1\r\n",
    b"GET /" + b"a" * 40 + b" HTTP/1.0\r\n",
    b"GET / HTTP/2.0\r\n",
    b"Host: a\r\n",
    b"Host: a b\r\n",
    b"X: y\r\n",
    b" y\r\n",
    b"X: " + b"y" * 900 + b"\r\n",
    b"Connection: close\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 21\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"abcde",
    b"5\r\nabcde\r\n",
    b"10;a=b\r\n0123456789abcdef\r\n",
    b"0\r\n\r\n",
    GET,
]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Requests in a row, most of them good, some with a few bytes changed."""
    data = bytearray(b"".join(sent.data for sent in draw(st.lists(good_requests(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        new = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b":", b"\0", b"0", b"%", b";"]) | st.binary(max_size=3)
        )
        data[at : at + draw(st.integers(0, 2))] = new
    return bytes(data)


def by_name(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Put together what has the same name, in order: the order of different names means nothing."""
    return sorted(fields, key=lambda pair: pair[0])


#: Anything: near to requests, or far from them.
noise = (
    streams()
    | st.lists(st.sampled_from(_PARTS) | st.binary(max_size=5), max_size=12).map(b"".join)
    | st.binary(max_size=60)
)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    at = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


@given(st.data(), noise)
def test_any_split_reads_the_same(data: st.DataObject, stream: bytes) -> None:
    whole, whole_end = drive([stream], SMALL)
    parts, parts_end = drive(data.draw(cuts(stream)), SMALL)
    bytewise, bytewise_end = drive((stream[i : i + 1] for i in range(len(stream))), SMALL)
    assert facts(whole) == facts(parts) == facts(bytewise)
    assert whole_end == parts_end == bytewise_end


@given(noise)
def test_any_bytes_end_in_requests_or_a_wire_error(stream: bytes) -> None:
    found, end = drive([stream], SMALL)
    assert end is None or end[0] in (400, 413, 414, 431, 501, 505)
    for head, body in found:
        assert len(body) <= 20
        assert head.headers.rget(b"host") is not None or head.version == "1.0"


@given(st.lists(good_requests(), max_size=3))
def test_good_requests_are_read_as_they_were_meant(sent: list[Sent]) -> None:
    found, end = drive([b"".join(one.data for one in sent)])
    assert end is None
    for one, (head, body) in zip(sent, found, strict=True):
        path, _, query = one.target.partition(b"?")
        assert (head.method.encode(), head.version.encode(), body) == (one.method, one.version, one.body)
        assert (head.path, head.query) == (unquote_to_bytes(path).decode("utf-8", "replace"), query)
        assert by_name(head.headers.items()) == by_name((name.lower(), value) for name, value in one.fields)


def test_any_amount_can_be_read_in_bounded_memory() -> None:
    big = b"%x\r\n%s\r\n" % (1 << 16, b"x" * (1 << 16))
    stream = GET * 1000 + CHUNKED + big * 100 + b"0\r\n\r\n" + GET
    found, end = drive(stream[i : i + 5000] for i in range(0, len(stream), 5000))
    assert (len(found), end) == (1002, None)
    assert len(found[1000][1]) == 100 << 16


# Oracles: whatever we accept, they accept, and read the same in it.


@given(streams())
@example(GET)
def test_h11_agrees(stream: bytes) -> None:
    found, end = drive([stream])
    assume(found)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    # h11 skips no empty line.
    connection.receive_data(stream.removeprefix(b"\r\n"))
    (head, body), *others = found
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method.decode() == head.method
    assert event.http_version.decode() == head.version
    if event.target.startswith(b"/"):
        assert by_name(event.headers) == by_name(head.headers.items())
    if not others and end is not None:
        return  # the body is bad or not complete
    read = b""
    while isinstance(event := connection.next_event(), h11.Data):
        read += event.data
    assert read == body
    assert isinstance(event, h11.EndOfMessage)
    rest, _ = drive([connection.trailing_data[0]])
    assert facts(rest) == facts(others)


@dataclass
class Llhttp:
    """What httptools tells about one request."""

    url: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    head_complete: bool = False
    complete: bool = False

    def on_url(self, data: bytes) -> None:
        self.url += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # else it is a trailer
            self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


#: llhttp knows a list of methods, parses chunk extensions, and takes no HTAB behind `chunked`. We pass on any method,
#: only look at the characters of an extension, and strip a value of all the whitespace section 5.1 names.
_ONLY_LLHTTP_REFUSES = re.compile(r"Invalid method|in chunk extensions|Request has invalid `Transfer-Encoding`")


@pytest.fixture(scope="module")
def httptools() -> Any:
    """A fixture, so that a skip does not look like an example that failed."""
    return pytest.importorskip("httptools", reason="httptools, a test oracle, is not installed")


@given(good_requests().map(lambda sent: sent.data) | streams())
@example(GET)
def test_llhttp_agrees(httptools: Any, stream: bytes) -> None:
    """httptools is llhttp, the parser of Node.js."""
    found, end = drive([stream])
    assume(len(found) == 1 and end is None)
    ((head, body),) = found
    seen = Llhttp()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(stream)
    except httptools.HttpParserError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert _ONLY_LLHTTP_REFUSES.search(refusal)
        assert "Transfer-Encoding" not in refusal or re.search(rb"chunked *\t", stream)
        return
    assert seen.complete
    assert parser.get_method().decode() == head.method
    assert parser.get_http_version() == head.version
    assert seen.body == body
    path, _, query = seen.url.partition(b"#")[0].partition(b"?")
    if path.startswith(b"/"):
        assert (unquote_to_bytes(path).decode("utf-8", "replace"), query) == (head.path, head.query)
        # llhttp leaves the whitespace behind a value.
        assert by_name((name, value.strip(b" \t")) for name, value in seen.fields) == by_name(head.headers.items())
