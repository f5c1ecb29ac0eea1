"""The response as its peer reads it: framing, fields, and what happens when a program asks for the impossible."""

from __future__ import annotations

import json
import math
from array import array
from datetime import UTC, datetime, timedelta, timezone
from http.cookies import CookieError
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from stario_trio import NoopTracer, Stario
from stario_trio.datastar import sse
from stario_trio.exceptions import StarioError
from stario_trio.http.peer import Peer
from tests.support.peer import DATE, FakePeer, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.http.types import Context
    from stario_trio.http.writer import Writer


def response_to(write: Callable[[Writer], object], method: str = "GET") -> Response:
    """What the peer reads after `write`, on a connection that stays open; the response must end by itself."""
    peer = FakePeer()
    w = peer.writer(method)
    write(w)
    w.end()
    response = Response(peer.sent, method=method)
    assert response.complete
    assert response.rest == b""
    return response


def test_the_fake_peer_is_a_peer() -> None:
    peer: Peer = FakePeer()
    assert {name for name in vars(Peer) if not name.startswith("_")} <= set(dir(peer))


# Exact bytes


def test_a_one_shot_is_status_date_fields_and_body() -> None:
    peer = FakePeer()
    peer.writer().text("hello é")
    assert (
        bytes(peer.sent)
        == (
            f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 8\r\n"
            "\r\nhello é"
        ).encode()
    )


def test_fields_keep_the_order_in_which_they_were_set() -> None:
    response = response_to(lambda w: (w.headers.set("X-B", "1").set("x-a", "2"), w.cookie("c", "d"), w.text("")))
    assert [name for name, _ in response.fields] == [
        "date", "x-b", "x-a", "set-cookie", "content-type", "content-length",
    ]  # fmt: skip


def test_respond_takes_any_type_and_status() -> None:
    response = response_to(lambda w: w.respond(b"raw", b"image/png", 201))
    assert (response.status, response.reason, response.body) == (201, b"Created", b"raw")
    assert response.headers == {"date": DATE, "content-type": "image/png", "content-length": "3"}


def test_chunks_one_for_each_write() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.write(b"one").write(b"twotwotwotwotwo-" * 2)
    w.end()
    head, _, body = bytes(peer.sent).partition(b"\r\n\r\n")
    assert head == f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ntransfer-encoding: chunked".encode()
    assert body == b"3\r\none\r\n20\r\n" + b"twotwotwotwotwo-" * 2 + b"\r\n0\r\n\r\n"


def test_what_is_written_is_sent_at_once() -> None:
    peer = FakePeer()
    w = peer.writer().write(b"one")
    assert peer.sent.endswith(b"3\r\none\r\n")
    sent = len(peer.sent)
    w.write(b"two")
    assert peer.sent[sent:] == b"3\r\ntwo\r\n"


def test_write_headers_sends_the_head_alone() -> None:
    peer = FakePeer()
    w = peer.writer()
    assert w.write_headers(201) is w
    assert bytes(peer.sent) == f"HTTP/1.1 201 Created\r\ndate: {DATE}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    assert (w.started, w.completed, w.status_code) == (True, False, 201)


def test_nothing_written_is_204() -> None:
    response = response_to(lambda w: None)
    assert (response.status, response.headers) == (204, {"date": DATE})


def test_end_with_data_is_the_whole_response() -> None:
    response = response_to(lambda w: w.end(b"abc"))
    assert (response.status, response.body) == (200, b"abc")
    assert response.headers == {"date": DATE, "content-length": "3"}


def test_end_with_data_ends_a_stream() -> None:
    assert response_to(lambda w: w.write(b"one").end(b"two")).pieces == [b"one", b"two"]


def test_end_again_is_harmless() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.end(b"abc")
    sent = bytes(peer.sent)
    w.end()
    w.end(b"zz")
    assert peer.sent == sent


def test_the_date_is_the_servers() -> None:
    response = response_to(lambda w: (w.headers.set("Date", "yesterday"), w.text("")))
    assert response.fields[0] == ("date", DATE)
    assert response.headers["date"] == DATE


def test_transfer_encoding_is_the_framings_own() -> None:
    response = response_to(lambda w: (w.headers.set("transfer-encoding", "gzip"), w.write(b"x")))
    assert response.headers["transfer-encoding"] == "chunked"
    assert (
        "transfer-encoding" not in response_to(lambda w: (w.headers.set("transfer-encoding", "x"), w.text(""))).headers
    )


# Framing: every combination


WAYS: dict[str, Callable[[Writer, int], object]] = {
    "one-shot": lambda w, status: w.respond(b"hello", b"text/plain", status),
    "empty": lambda w, status: w.empty(status),
    "pieces": lambda w, status: w.write_headers(status).write(b"he").write(b"").write(b"llo"),
    "counted": lambda w, status: (w.headers.set("content-length", "5"), w.write_headers(status).write(b"hello")),
    "event": lambda w, status: w.write_headers(status).remove("#a"),
    "head only": lambda w, status: w.write_headers(status),
}
BODIES = {"one-shot": b"hello", "pieces": b"hello", "counted": b"hello", "event": sse.remove("#a")}


@pytest.mark.parametrize(
    ("method", "version", "status", "way", "keep_alive"),
    list(product(("GET", "HEAD"), ("1.1", "1.0"), (200, 204, 304), WAYS, (True, False))),
)
def test_framing(method: str, version: str, status: int, way: str, keep_alive: bool) -> None:
    peer = FakePeer()
    w = peer.writer(method, version, keep_alive=keep_alive)
    WAYS[way](w, status)
    w.end()

    bodiless = method == "HEAD" or status in (204, 304)
    sized = way in ("one-shot", "empty", "counted")
    until_close = not bodiless and not sized and version == "1.0"
    response = Response(peer.sent, method=method, closed=until_close)
    assert (response.status, response.complete, response.rest) == (status, True, b"")
    assert response.body == (b"" if bodiless else BODIES.get(way, b""))

    fields = response.headers
    assert fields.get("content-length") == (
        None if status in (204, 304) or not sized else "0" if way == "empty" else "5"
    )
    chunked = not bodiless and not sized and version == "1.1"
    assert fields.get("transfer-encoding") == ("chunked" if chunked else None)

    stays = keep_alive and not until_close
    assert w.keep_alive is stays
    assert fields.get("connection") == ("close" if not stays else "keep-alive" if version == "1.0" else None)
    assert w.ends_by_close is until_close
    assert (w.started, w.completed, peer.aborted) == (True, True, False)


@pytest.mark.parametrize(("method", "version"), list(product(("GET", "HEAD"), ("1.1", "1.0"))))
def test_framing_of_nothing(method: str, version: str) -> None:
    peer = FakePeer()
    peer.writer(method, version).end()
    response = Response(peer.sent, method=method)
    assert (response.status, response.complete, response.rest) == (204, True, b"")
    assert response.headers == {"date": DATE} | ({"connection": "keep-alive"} if version == "1.0" else {})


@pytest.mark.upstream_bug(14)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [204, 304])
def test_bug_14_no_body_no_framing(method: str, status: int) -> None:
    for write in (lambda w: w.text("x", status), lambda w: w.write_headers(status), lambda w: w.empty(status)):
        response = response_to(write, method)
        assert (response.status, response.body) == (status, b"")
        assert not {"content-length", "transfer-encoding"} & set(response.headers)


@pytest.mark.upstream_bug(14)
def test_bug_14_head_says_what_get_would() -> None:
    get, head = (response_to(lambda w: w.html("<p>"), method) for method in ("GET", "HEAD"))
    assert get.headers == head.headers
    assert head.headers["content-length"] == str(len(get.body))
    assert head.body == b""


@pytest.mark.upstream_bug(24)
def test_bug_24_no_chunks_for_http_1_0() -> None:
    peer = FakePeer()
    w = peer.writer(version="1.0")
    w.write(b"one").write(b"two")
    w.end()
    assert peer.sent.endswith(b"connection: close\r\n\r\nonetwo")
    assert b"transfer-encoding" not in peer.sent


@pytest.mark.upstream_bug(33)
def test_bug_33_empty_chunk() -> None:
    response = response_to(lambda w: w.write(b"").write(b"one").write(b"").write(b"two"))
    assert response.pieces == [b"one", b"two"]


@pytest.mark.upstream_bug(33)
def test_bug_33_an_empty_write_still_sends_the_head() -> None:
    peer = FakePeer()
    w = peer.writer().write(b"")
    assert w.status_code == 200
    assert peer.sent.endswith(b"chunked\r\n\r\n")


@pytest.mark.upstream_bug(34)
def test_bug_34_write_sends_exactly_the_given_bytes() -> None:
    data = bytes(range(256)) * 8
    response = response_to(lambda w: w.write(data))
    assert response.body == data
    assert "content-encoding" not in response.headers


# A declared size


def counted(size: str, method: str = "GET") -> tuple[FakePeer, Writer]:
    peer = FakePeer()
    w = peer.writer(method)
    w.headers.set("content-length", size)
    return peer, w


@pytest.mark.upstream_bug(37)
def test_bug_37_too_much_raises_and_sends_nothing_of_it() -> None:
    peer, w = counted("4")
    w.write(b"abc")
    sent = bytes(peer.sent)
    with pytest.raises(RuntimeError, match="Too much body: content-length leaves 1 bytes, 2 were written"):
        w.write(b"de")
    with pytest.raises(RuntimeError, match="Too much body"):
        w.end(b"de")
    assert peer.sent == sent
    w.end(b"d")
    assert Response(peer.sent).body == b"abcd"


@pytest.mark.upstream_bug(37)
def test_bug_37_too_little_raises_and_cuts() -> None:
    peer, w = counted("4")
    w.write(b"abc")
    with pytest.raises(RuntimeError, match="Too little body: content-length promised 1 more bytes"):
        w.end()
    assert (peer.aborted, w.completed, w.keep_alive) == (True, True, False)
    assert not Response(peer.sent, closed=True).complete


@pytest.mark.upstream_bug(37)
def test_bug_37_what_could_not_be_sent_is_still_owed() -> None:
    peer, w = counted("4")
    w.write(b"ab")
    peer.full = StarioError("too far behind")
    with pytest.raises(StarioError, match="too far behind"):
        w.write(b"cd")
    peer.full = None
    with pytest.raises(RuntimeError, match="promised 2 more bytes"):
        w.end()
    assert peer.aborted


def test_a_piece_that_could_not_be_sent_may_be_sent_again() -> None:
    peer, w = counted("4")
    w.write(b"ab")
    peer.full = StarioError("too far behind")
    with pytest.raises(StarioError):
        w.write(b"cd")
    peer.full = None
    w.write(b"cd").end()
    assert Response(peer.sent).body == b"abcd"


@pytest.mark.parametrize("size", ["", "-1", "+1", "1.0", "0x10", "five", "1, 1", "²"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    peer, w = counted(size)
    with pytest.raises(StarioError, match="Invalid content-length"):
        w.write(b"x")
    assert (bytes(peer.sent), w.started) == (b"", False)


def test_a_one_shot_says_its_own_size() -> None:
    assert (
        response_to(lambda w: (w.headers.set("content-length", "99"), w.text("abc"))).headers["content-length"] == "3"
    )


def test_head_need_not_write_what_it_declares() -> None:
    peer, w = counted("1000", "HEAD")
    w.write_headers(200).end()
    assert Response(peer.sent, method="HEAD").headers["content-length"] == "1000"
    assert not peer.aborted


# The connection


@pytest.mark.parametrize("option", ["close", "Close", "CLOSE", "keep-alive, close"])
def test_a_handler_can_close_the_connection(option: str) -> None:
    peer = FakePeer()
    w = peer.writer()
    w.headers.set("connection", option)
    w.text("bye")
    assert not w.keep_alive
    assert Response(peer.sent).headers["connection"] == "close"


def test_a_handler_can_close_the_connection_with_a_field_of_its_own_line() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.headers.add("connection", "x-hop").add("connection", "close")
    w.text("bye")
    assert not w.keep_alive


@pytest.mark.parametrize("option", ["keep-alive", "closed"])
def test_other_options_do_not_close_it(option: str) -> None:
    peer = FakePeer()
    w = peer.writer()
    w.headers.set("connection", option)
    w.text("x")
    assert w.keep_alive
    assert Response(peer.sent).headers["connection"] == option


@pytest.mark.spec("SD-07")
@pytest.mark.parametrize("preset", [None, "keep-alive"])
def test_the_head_says_that_the_connection_ends(preset: str | None) -> None:
    peer = FakePeer()
    peer.shut_down()
    w = peer.writer()
    if preset:
        w.headers.set("connection", preset)
    w.text("last words")
    assert w.shutting_down
    assert not w.keep_alive
    assert Response(peer.sent).headers["connection"] == "close"


@pytest.mark.spec("SD-07")
def test_a_head_that_is_sent_already_is_completed_as_it_is() -> None:
    peer = FakePeer()
    w = peer.writer().write(b"before ")
    peer.shut_down()
    w.write(b"after").end()
    assert Response(peer.sent).body == b"before after"


# One-shots


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ({"a": [1, None, True]}, b'{"a":[1,null,true]}'),
        ("é", '"é"'.encode()),
        ([], b"[]"),
    ],
)
def test_json_is_compact_and_in_utf_8(data: object, body: bytes) -> None:
    response = response_to(lambda w: w.json(data, 202))
    assert (response.status, response.body) == (202, body)
    assert response.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("data", [math.nan, math.inf, {"a": [-math.inf]}])
def test_nan_is_no_json(data: object) -> None:
    peer = FakePeer()
    w = peer.writer()
    with pytest.raises(ValueError, match="Out of range float"):
        w.json(data)
    assert (bytes(peer.sent), w.started) == (b"", False)


def test_what_json_cannot_say_raises_before_anything_is_sent() -> None:
    peer = FakePeer()
    with pytest.raises(TypeError):
        peer.writer().json({1, 2})
    assert not peer.sent


def test_a_lone_surrogate_breaks_no_response() -> None:
    """A visitor can send one in JSON, and another one is shown it."""
    assert response_to(lambda w: w.text("a\ud800")).body.decode() == "a\ufffd"
    assert response_to(lambda w: w.html("a\ud800")).body.decode() == "a\ufffd"
    assert json.loads(response_to(lambda w: w.json("a\ud800")).body) == "a\ud800"


def test_html_is_escaped_if_it_is_a_plain_str() -> None:
    response = response_to(lambda w: w.html("""<b>&'"</b>"""))
    assert response.text == "&lt;b&gt;&amp;&#x27;&quot;&lt;/b&gt;"
    assert response.headers["content-type"] == "text/html; charset=utf-8"


def test_html_that_says_it_is_html_is_sent_as_it_is() -> None:
    assert response_to(lambda w: w.html(Markup("<b>é</b>"), 404)).body == "<b>é</b>".encode()


class Broken:
    def __html__(self) -> str:
        raise LookupError("no template")


@pytest.mark.parametrize(("content", "error"), [(Broken(), LookupError), (None, StarioError), (b"x", StarioError)])
def test_html_that_cannot_be_rendered_sends_nothing(content: Any, error: type[Exception]) -> None:
    for send in ("html", "patch"):
        peer = FakePeer()
        w = peer.writer()
        with pytest.raises(error):
            getattr(w, send)(content)
        assert (bytes(peer.sent), w.started) == (b"", False)
        w.text("sorry", 500)
        assert Response(peer.sent).headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "begin", [lambda w: w.write(b"x"), lambda w: w.text("x"), lambda w: w.sync({}), lambda w: w.empty()]
)
@pytest.mark.parametrize("used_before", [True, False])
def test_fields_cannot_be_changed_after_the_head(begin: Callable[[Writer], object], used_before: bool) -> None:
    """In Stario such a change was lost without a word."""
    w = FakePeer().writer()
    kept = w.headers.set("x", "1") if used_before else None
    begin(w)
    with pytest.raises(RuntimeError, match="head of the response is sent"):
        w.headers.set("x", "2")
    with pytest.raises(RuntimeError, match="head of the response is sent"):
        (kept or w.headers).add("x", "2")
    assert w.headers.get("x") == ("1" if used_before else None)


def test_a_one_shot_overwrites_the_content_type() -> None:
    for send in (lambda w: w.text("x"), lambda w: w.html("x"), lambda w: w.json("x")):
        response = response_to(lambda w, send=send: (w.headers.set("content-type", "image/png"), send(w)))  # type: ignore[misc]
        assert response.headers["content-type"] != "image/png"


def test_without_a_content_end_and_write_keep_the_content_type() -> None:
    response = response_to(lambda w: (w.headers.set("content-type", "image/png"), w.end(b"x")))
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize("content_type", [b"text/html\r\nset-cookie: a=b", b"text/html\n", b"a\0", "text/html\r\nx: y"])
@pytest.mark.parametrize("with_fields", [True, False])
def test_a_content_type_cannot_bring_a_field_of_its_own(content_type: Any, with_fields: bool) -> None:
    peer = FakePeer()
    w = peer.writer()
    if with_fields:
        w.headers.set("x", "y")
    with pytest.raises(ValueError, match="Invalid header value"):
        w.respond(b"", content_type)
    assert not peer.sent


@pytest.mark.parametrize("with_fields", [True, False])
def test_a_content_type_may_be_text(with_fields: bool) -> None:
    def write(w: Writer) -> None:
        if with_fields:
            w.headers.set("x", "y")
        w.respond(b"", cast("bytes", "image/png"))

    assert response_to(write).headers["content-type"] == "image/png"


def test_a_raw_field_cannot_bring_another_one() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.headers.rset(b"x", b"y\r\nz: z")
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        w.write(b"body")
    assert (bytes(peer.sent), w.started) == (b"", False)


def test_a_head_that_was_refused_can_be_mended() -> None:
    """A write behind the failed one must not go out as a body without a head."""
    peer = FakePeer()
    w = peer.writer()
    w.headers.rset(b"x", b"y\r\nz: z")
    for _ in range(2):
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            w.write(b"body")
    w.headers.clear()
    w.write(b"body").end()
    assert Response(peer.sent).body == b"body"


@pytest.mark.parametrize("body", ["text", None, 5, [1], ""])
def test_a_body_that_is_not_bytes_is_refused_before_anything_is_sent(body: Any) -> None:
    peer = FakePeer()
    w = peer.writer()
    writes: list[Callable[[], object]] = [lambda: w.respond(body, b"text/plain"), lambda: w.write(body)]
    if body is not None:  # no data, to `end`
        writes.append(lambda: w.end(body))
    for write in writes:
        with pytest.raises(TypeError, match="A body is bytes"):
            write()
        assert (bytes(peer.sent), w.started) == (b"", False)


@pytest.mark.parametrize("size", [None, "12"])
def test_what_is_like_bytes_is_counted_in_bytes(size: str | None) -> None:
    """The length of a memoryview is not its size: a chunk of a wrong size would let its content frame the rest."""
    numbers: Any = memoryview(array("I", [1, 2, 3]))

    def write(w: Writer) -> None:
        if size is not None:
            w.headers.set("content-length", size)
        w.write(numbers)

    assert numbers.nbytes == 12
    assert response_to(write).body == bytes(numbers)
    assert response_to(lambda w: w.respond(numbers, b"image/png")).body == bytes(numbers)
    assert response_to(lambda w: w.end(numbers)).body == bytes(numbers)


def test_a_buffer_may_be_used_again_after_the_write() -> None:
    """What the kernel does not take waits in the outbox, which must not hold the handler's own buffer."""
    sent: list[bytes] = []

    class Keeps(FakePeer):
        def send(self, data: bytes, *, last: bool = False) -> None:
            sent.append(data)

    w = Keeps().writer()
    w.headers.set("content-length", "4")
    buffer: Any = bytearray(b"body")
    w.write(buffer)
    buffer[:] = b"EVIL"
    assert sent[-1] == b"body"


@pytest.mark.parametrize("status", [99, 199, 600, 99999])
def test_a_status_that_does_not_exist_is_refused_before_anything_is_sent(status: int) -> None:
    writes: list[Callable[[Writer], object]] = [
        lambda w: w.text("x", status),
        lambda w: w.write_headers(status),
        lambda w: w.empty(status),
        lambda w: w.redirect("/", status),
    ]
    for write in writes:
        peer = FakePeer()
        w = peer.writer()
        with pytest.raises(StarioError, match="Invalid status"):
            write(w)
        assert (bytes(peer.sent), w.started, w.status_code) == (b"", False, None)


@pytest.mark.parametrize("write", [lambda w: w.text("x"), lambda w: w.write(b"x"), lambda w: w.sync({"a": 1})])
def test_a_head_that_could_not_be_sent_is_the_end_of_its_response(write: Callable[[Writer], object]) -> None:
    """Whatever came after it would reach the peer without a head."""
    peer = FakePeer()
    w = peer.writer()
    peer.full = StarioError("full")
    with pytest.raises(StarioError, match="full"):
        write(w)
    assert peer.aborted
    peer.full = None
    with pytest.raises(RuntimeError):
        w.sync({"a": 2})
    w.end()
    assert peer.sent == b""


# Redirects


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/login", "/login"),
        ("/é x", "/%C3%A9%20x"),
        ("/done%20already", "/done%20already"),
        ("https://e.com:8/a?b=c&d=[1]#f", "https://e.com:8/a?b=c&d=[1]#f"),
        ("/a\r\nset-cookie: x=y", "/a%0D%0Aset-cookie:%20x=y"),
        ("/a\0", "/a%00"),
        ("/<\"'>\\", "/%3C%22'%3E%5C"),
        ("", ""),
    ],
)
def test_a_redirect_quotes_what_a_url_may_not_hold(url: str, location: str) -> None:
    response = response_to(lambda w: w.redirect(url))
    assert (response.status, response.body) == (307, b"")
    assert response.headers == {"date": DATE, "location": location, "content-length": "0"}


def test_a_redirect_has_the_status_it_is_given() -> None:
    assert response_to(lambda w: w.redirect("/x", 303)).status == 303


@given(st.text(st.characters(exclude_categories=())))
def test_no_url_brings_a_field_of_its_own(url: str) -> None:
    peer = FakePeer()
    try:
        peer.writer().redirect(url)
    except UnicodeEncodeError:  # a lone surrogate has no bytes
        assert not peer.sent
    else:
        assert set(Response(peer.sent).headers) == {"date", "location", "content-length"}


# Cookies


def cookies(write: Callable[[Writer], object]) -> list[str]:
    response = response_to(lambda w: (write(w), w.text("")))
    return [value for name, value in response.fields if name == "set-cookie"]


def test_each_cookie_has_a_line_of_its_own() -> None:
    assert cookies(lambda w: w.cookie("a", "b").cookie("c", "d").delete_cookie("z")) == [
        "a=b; Path=/; SameSite=lax",
        "c=d; Path=/; SameSite=lax",
        'z=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=lax',
    ]


def test_a_cookie_with_everything() -> None:
    assert cookies(
        lambda w: w.cookie(
            "s", "tok en;é", max_age=60, path="/p", domain="e.com", secure=True, httponly=True, samesite="strict"
        )
    ) == [r's="tok en\073\351"; Domain=e.com; HttpOnly; Max-Age=60; Path=/p; SameSite=strict; Secure']


def test_a_cookie_is_deleted_where_it_was_set() -> None:
    [line] = cookies(lambda w: w.delete_cookie("z", path="/p", domain="e.com"))
    assert line.startswith('z=""; Domain=e.com; ')
    assert "; Path=/p; " in line


@pytest.mark.upstream_bug(39)
@pytest.mark.parametrize(
    "expires",
    [
        5,
        datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC),
        datetime(1970, 1, 1, 1, 0, 5, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_bug_39_expires_is_a_date(expires: int | datetime) -> None:
    [line] = cookies(lambda w: w.cookie("a", "b", expires=expires))
    assert "expires=Thu, 01 Jan 1970 00:00:05 GMT" in line


@pytest.mark.upstream_bug(40)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "a b"}, CookieError),
        ({"value": "a\r\nb"}, CookieError),
        ({"domain": "a; HttpOnly"}, ValueError),
        ({"path": "/; Secure"}, ValueError),
        ({"samesite": "bogus"}, ValueError),
        ({"samesite": "none"}, ValueError),
        ({"value": "\u20ac"}, UnicodeEncodeError),
    ],
)
def test_bug_40_a_cookie_cannot_smuggle(options: dict[str, Any], error: type[Exception]) -> None:
    w = FakePeer().writer()
    with pytest.raises(error):
        w.cookie(**{"name": "a", "value": "b", **options})
    assert "set-cookie" not in w.headers


# Datastar events


def test_the_first_event_opens_the_stream() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.patch(Markup("<p id=a>1</p>"))
    event = sse.patch(Markup("<p id=a>1</p>"))
    assert (
        bytes(peer.sent)
        == (
            f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
            f"connection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n{len(event):x}\r\n"
        ).encode()
        + event
        + b"\r\n"
    )


def test_each_event_is_a_chunk() -> None:
    def write(w: Writer) -> None:
        w.patch("1 < 2", mode="inner", selector="#a", use_view_transition=True, namespace="svg", event_id="7")
        w.remove("#b", use_view_transition=True, view_transition_selector="main")
        w.sync({"n": 1}, only_if_missing=True, retry_duration=5)
        w.navigate("/x", event_id="8")
        w.execute("go()", auto_remove=False, attributes={"type": "module"})
        w.remove("#b", retry_duration=9)

    assert response_to(write).pieces == [
        sse.patch("1 < 2", mode="inner", selector="#a", use_view_transition=True, namespace="svg", event_id="7"),
        sse.remove("#b", use_view_transition=True, view_transition_selector="main"),
        sse.signals({"n": 1}, only_if_missing=True, retry_duration=5),
        sse.redirect("/x", event_id="8"),
        sse.script("go()", auto_remove=False, attributes={"type": "module"}),
        sse.remove("#b", retry_duration=9),
    ]


def test_the_stream_overwrites_what_would_break_it() -> None:
    def write(w: Writer) -> None:
        w.headers.update({"content-type": "text/html", "cache-control": "public", "connection": "x", "x-mine": "1"})
        w.remove("#a")

    headers = response_to(write).headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["connection"] == "keep-alive"
    assert headers["x-mine"] == "1"


@pytest.mark.upstream_bug(38)
def test_bug_38_a_stream_has_no_content_length() -> None:
    response = response_to(lambda w: (w.headers.set("content-length", "10"), w.remove("#a")))
    assert "content-length" not in response.headers
    assert response.body == sse.remove("#a")


@pytest.mark.upstream_bug(38)
def test_bug_38_a_stream_on_a_connection_that_ends_says_so() -> None:
    for peer, version, keep_alive in ((FakePeer(), "1.1", False), (FakePeer(), "1.0", True), (FakePeer(), "1.1", True)):
        if version == "1.1" and keep_alive:
            peer.shut_down()
        w = peer.writer(version=version, keep_alive=keep_alive)
        w.remove("#a")
        w.end()
        response = Response(peer.sent, closed=True)
        assert response.headers["connection"] == "close"
        assert response.body == sse.remove("#a")


def test_events_may_follow_a_write() -> None:
    response = response_to(lambda w: (w.write(b": hello\n\n"), w.remove("#a")))
    assert response.body == b": hello\n\n" + sse.remove("#a")
    assert "content-type" not in response.headers


@pytest.mark.upstream_bug(45, 48)
@pytest.mark.parametrize(
    "send",
    [
        lambda w: w.patch("x", selector="#a\nevent: evil"),
        lambda w: w.patch("x", mode="outer\ndata: x"),
        lambda w: w.remove("#a\r\rdata: x"),
        lambda w: w.patch("x", event_id="1\n"),
        lambda w: w.sync([1]),
        lambda w: w.sync({"n": math.nan}),
        lambda w: w.sync({"n": {1}}),
        lambda w: w.execute("x", attributes={"a b": "c"}),
    ],
)
def test_bugs_45_and_48_an_event_that_cannot_be_sent_leaves_the_response_unstarted(
    send: Callable[[Any], object],
) -> None:
    peer = FakePeer()
    w = peer.writer()
    with pytest.raises((StarioError, ValueError, TypeError)):
        send(w)
    assert (bytes(peer.sent), w.started) == (b"", False)
    assert not len(w.headers)


# Too late


ONE_SHOTS: dict[str, Callable[[Writer], object]] = {
    "respond": lambda w: w.respond(b"x", b"text/plain"),
    "text": lambda w: w.text("x"),
    "html": lambda w: w.html("x"),
    "json": lambda w: w.json("x"),
    "redirect": lambda w: w.redirect("/"),
    "empty": lambda w: w.empty(),
    "write_headers": lambda w: w.write_headers(200),
    "cookie": lambda w: w.cookie("a", "b"),
    "delete_cookie": lambda w: w.delete_cookie("a"),
}
STARTS: dict[str, Callable[[Writer], object]] = {
    "one-shot": lambda w: w.text("first"),
    "write": lambda w: w.write(b"first"),
    "event": lambda w: w.remove("#first"),
    "end": lambda w: w.end(),
}


@pytest.mark.parametrize(("start", "late"), list(product(STARTS, ONE_SHOTS)))
def test_a_request_gets_one_response(start: str, late: str) -> None:
    peer = FakePeer()
    w = peer.writer()
    STARTS[start](w)
    sent = bytes(peer.sent)
    with pytest.raises(RuntimeError, match="Response already started"):
        ONE_SHOTS[late](w)
    assert peer.sent == sent
    w.end()
    assert Response(peer.sent).complete


@pytest.mark.parametrize("end", ["one-shot", "end"])
def test_nothing_is_written_behind_the_end(end: str) -> None:
    peer = FakePeer()
    w = peer.writer()
    STARTS[end](w)
    sent = bytes(peer.sent)
    with pytest.raises(RuntimeError, match="Cannot write after response is completed"):
        w.write(b"x")
    for name, argument in {"patch": "x", "sync": {}, "navigate": "/", "execute": "x", "remove": "#x"}.items():
        with pytest.raises(RuntimeError, match="Cannot send SSE events after response is completed"):
            getattr(w, name)(argument)
    assert peer.sent == sent


def test_a_field_that_comes_too_late_is_refused() -> None:
    peer = FakePeer()
    w = peer.writer().write(b"x")
    with pytest.raises(RuntimeError, match="head of the response is sent"):
        w.headers.set("x-late", "1")
    w.end()
    assert b"x-late" not in peer.sent


def test_a_writer_tells_where_it_stands() -> None:
    w = FakePeer().writer()
    assert (w.started, w.completed, w.status_code) == (False, False, None)
    w.write_headers(404)
    assert (w.started, w.completed, w.status_code) == (True, False, 404)
    w.end()
    assert (w.started, w.completed, w.status_code) == (True, True, 404)


# Abort, and a peer that left


def test_abort_cuts_what_is_not_complete() -> None:
    for start in (lambda w: None, lambda w: w.write(b"x")):
        peer = FakePeer()
        w = peer.writer()
        start(w)
        sent = bytes(peer.sent)
        w.abort()
        w.end(b"more")
        assert (peer.aborted, w.completed, w.keep_alive) == (True, True, False)
        assert peer.sent == sent


def test_abort_leaves_a_complete_response_alone() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.text("x")
    w.abort()
    assert (peer.aborted, w.keep_alive) == (False, True)


def test_a_peer_that_left_makes_writing_harmless() -> None:
    peer = FakePeer()
    w = peer.writer()
    assert (w.disconnected, w.shutting_down) == (False, False)
    peer.leave()
    assert (w.disconnected, w.shutting_down) == (True, False)
    w.remove("#a")
    w.write(b"x").end()


async def test_drain_waits_for_the_peer(autojump_clock: trio.testing.MockClock) -> None:
    peer = FakePeer()
    w = peer.writer()
    peer.room = trio.Event()
    with trio.move_on_after(10) as wait:
        await w.drain()
    assert wait.cancelled_caught
    peer.room.set()
    with trio.fail_after(1), trio.testing.assert_checkpoints():
        assert await w.drain()
    peer.leave()
    assert not await w.drain()


# Any sequence of calls


class Call(NamedTuple):
    """One call on the writer, by name."""

    name: str
    argument: Any = None


CALLS = st.lists(
    st.one_of(
        st.builds(Call, st.just("write"), st.binary(max_size=20)),
        st.builds(Call, st.just("write"), st.binary(max_size=20)),
        st.builds(Call, st.just("event"), st.sampled_from(["#a", "#b", "#b\n"])),
        st.builds(Call, st.just("end"), st.none() | st.binary(max_size=20)),
        st.builds(Call, st.just("text"), st.text(max_size=20)),
        st.builds(Call, st.just("json"), st.sampled_from([1, "é", math.nan])),
        st.builds(Call, st.just("empty"), st.sampled_from([200, 204, 304, 404, 99])),
        st.builds(Call, st.just("write_headers"), st.sampled_from([200, 204, 304, 404, 600])),
        st.builds(Call, st.just("length"), st.integers(min_value=0, max_value=30)),
        st.builds(Call, st.just("cookie"), st.sampled_from(["a", "b c"])),
    ),
    max_size=6,
)


def play(calls: list[Call], w: Writer) -> None:
    for name, argument in calls:
        if name == "event":
            w.remove(argument)
        elif name == "length":
            w.headers.set("content-length", str(argument))
        elif name == "cookie":
            w.cookie(argument, "x")
        else:
            getattr(w, name)(argument)


class Model:
    """What a program means by its calls, in the words of the contract and nothing of the writer."""

    def __init__(self, method: str) -> None:
        self.head = method == "HEAD"
        self.status: int | None = None
        self.body = b""
        self.promised: int | None = None
        self.declared: int | None = None
        self.done = False
        self.failed = False

    def begin(self, status: int, *, promised: int | None = None) -> None:
        if self.status is not None or not 200 <= status <= 599:
            raise ValueError
        self.status, self.promised = status, promised

    @property
    def silent(self) -> bool:
        return self.head or self.status in (204, 304)

    def append(self, data: bytes) -> None:
        if not self.silent:
            if self.promised is not None and len(self.body) + len(data) > self.promised:
                raise ValueError
            self.body += data

    def whole(self, status: int, data: bytes) -> None:
        self.begin(status)
        self.append(data)
        self.done = True

    def call(self, name: str, argument: Any) -> None:
        if name == "length":
            if self.status is not None:
                raise ValueError
            self.declared = argument
        elif name == "cookie":
            if self.status is not None or " " in argument:
                raise ValueError
        elif name == "write_headers":
            self.begin(argument, promised=self.declared)
        elif name == "text":
            self.whole(200, argument.encode())
        elif name == "json":
            self.whole(200, json.dumps(argument, ensure_ascii=False, allow_nan=False).encode())
        elif name == "empty":
            self.whole(argument, b"")
        elif name == "end":
            self.end(argument)
        elif self.done:
            raise ValueError
        elif name == "write":
            if self.status is None:
                self.begin(200, promised=self.declared)
            self.append(argument)
        else:
            assert name == "event"
            event = sse.remove(argument)
            if self.status is None:
                self.begin(200)
            self.append(event)

    def end(self, data: bytes | None) -> None:
        if self.done:
            return
        if self.status is None:
            self.whole(200 if data else 204, data or b"")
            return
        self.append(data or b"")
        if not self.silent and self.promised is not None and len(self.body) < self.promised:
            raise ValueError
        self.done = True

    def run(self, calls: list[Call]) -> None:
        try:
            for name, argument in calls:
                self.call(name, argument)
            self.end(None)
        except Exception:
            self.failed = True
            if self.status is None:
                self.whole(500, b"Internal Server Error")


@settings(max_examples=500)
@given(CALLS, st.sampled_from(["GET", "HEAD"]), st.sampled_from(["1.1", "1.0"]), st.booleans())
def test_any_calls_give_the_intended_response_or_a_cut(
    calls: list[Call], method: str, version: str, keep_alive: bool
) -> None:
    async def handler(c: Context, w: Writer) -> None:
        play(calls, w)

    app = Stario(NoopTracer())
    app.handle(method, "/", handler)
    peer = FakePeer()
    w = peer.writer(method, version, keep_alive=keep_alive)
    trio.run(app.handle_request, peer.request(method), w)

    model = Model(method)
    model.run(calls)
    assert w.completed
    assert w.status_code == model.status
    if model.done:
        assert not peer.aborted
        response = Response(peer.sent, method=method, closed=w.ends_by_close)
        assert response.complete
        assert response.rest == b""
    else:  # cut: nothing ends the body, unless all that was promised had been sent before
        assert model.failed
        assert peer.aborted
        assert not w.keep_alive
        response = Response(peer.sent, method=method, closed=True)
        all_sent = model.silent or len(model.body) == model.promised
        assert response.complete is (w.ends_by_close or all_sent)
    assert response.status == model.status
    assert response.body == model.body
    if not w.keep_alive and model.done:
        assert ("connection", "close") in response.fields
