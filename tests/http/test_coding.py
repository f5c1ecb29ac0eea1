"""When a response is compressed, and what its head says then."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from stario_trio import CompressionConfig, HttpException, NoopTracer, Stario, StarioError
from stario_trio.datastar import sse
from stario_trio.http.coding import vary_by_coding
from stario_trio.http.headers import Headers
from tests.support.decoders import CODINGS, Decoder, decode
from tests.support.live import app_of, live, peer
from tests.support.peer import DATE, FakePeer, Response
from tests.support.stage import request, stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio import Context, Handler, Server, Writer

coding = pytest.mark.parametrize("coding", CODINGS)

PAGE = "<p>All work and no play</p>\n" * 40
EVENT = sse.patch(Markup("<p id='a'>1</p>"))


def writer(peer: FakePeer, accept: str | None = "gzip", method: str = "GET", version: str = "1.1") -> Writer:
    """A writer as the app gives it to a handler, for a client that accepts this."""
    w = peer.writer(method, version)
    accepts = Headers()
    if accept is not None:
        accepts.add("accept-encoding", accept)
    w.offer = (CompressionConfig(), accepts)
    return w


def response_to(
    write: Callable[[Writer], object], accept: str | None = "gzip", method: str = "GET", version: str = "1.1"
) -> Response:
    """What the client reads, its body as it came."""
    peer = FakePeer()
    w = writer(peer, accept, method, version)
    write(w)
    w.end()
    response = Response(peer.sent, method=method, closed=w.ends_by_close)
    assert response.complete
    assert response.rest == b""
    return response


def with_fields(**fields: str) -> Callable[[Writer], Headers]:
    return lambda w: w.headers.update({name.replace("_", "-"): value for name, value in fields.items()})


# Whole bodies


def test_the_exact_head() -> None:
    peer = FakePeer()
    writer(peer).html(Markup(PAGE))
    head, _, body = bytes(peer.sent).partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 200 OK",
        f"date: {DATE}",
        "content-encoding: gzip",
        "vary: accept-encoding",
        "content-type: text/html; charset=utf-8",
        f"content-length: {len(body)}",
    ]
    assert decode("gzip", body).decode() == PAGE


@coding
@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.html(Markup(PAGE)),
        lambda w: w.text(PAGE),
        lambda w: w.json(PAGE),
        lambda w: w.respond(PAGE.encode(), b"application/octet-stream"),
        lambda w: w.text(PAGE, 500),
    ],
)
def test_each_one_shot_is_compressed(coding: str, write: Callable[[Writer], object]) -> None:
    plain, coded = response_to(write, None), response_to(write, coding)
    assert coded.headers["content-encoding"] == coding
    assert decode(coding, coded.body) == plain.body
    assert coded.status == plain.status


def test_min_size_is_the_least_that_is_compressed() -> None:
    below, at = (response_to(lambda w, size=size: w.text("a" * size)) for size in (255, 256))  # type: ignore[misc]
    assert "content-encoding" not in below.headers
    assert "vary" not in below.headers, "the same bytes for everybody"
    assert at.headers["content-encoding"] == "gzip"


@pytest.mark.upstream_bug(32)
@pytest.mark.parametrize("accept", ["br;q=0, zstd;q=0, gzip", "vibrant, gzip"])
def test_the_field_is_parsed(accept: str) -> None:
    assert response_to(lambda w: w.text(PAGE), accept).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in response_to(lambda w: w.text(PAGE), accept.replace("gzip", "gzip;q=0")).headers


def test_the_lines_of_the_field_count_as_one() -> None:
    peer = FakePeer()
    w = peer.writer()
    w.offer = (CompressionConfig(), Headers().add("accept-encoding", "gzip;q=0.5").add("accept-encoding", "identity"))
    w.text(PAGE)
    assert Response(peer.sent).text == PAGE


def test_what_gets_no_smaller_is_sent_as_it_is() -> None:
    noise = os.urandom(1000)
    response = response_to(lambda w: w.respond(noise, b"application/octet-stream"))
    assert response.body == noise
    assert response.headers["vary"] == "accept-encoding"
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("content_type", "compressed"),
    [(b"image/png", False), (b"font/woff2", False), (b"font/ttf", True), (b"font/otf", True), (b"image/svg+xml", True)],
)
def test_types_that_are_compressed_already(content_type: bytes, compressed: bool) -> None:
    headers = response_to(lambda w: w.respond(PAGE.encode(), content_type)).headers
    assert ("content-encoding" in headers) is ("vary" in headers) is compressed


@pytest.mark.parametrize(
    "fields",
    [
        {"content_encoding": "br"},
        {"content_range": "bytes 0-9/10"},
        {"cache_control": "public, no-transform"},
        {"cache_control": "No-Transform"},
    ],
)
@pytest.mark.parametrize("write", [lambda w: w.text(PAGE), lambda w: w.sync({"a": 1}), lambda w: w.empty(304)])
def test_the_handler_can_forbid_it(fields: dict[str, str], write: Callable[[Writer], object]) -> None:
    """Each of them holds for whole bodies and for events."""
    plain = response_to(lambda w: (with_fields(**fields)(w), write(w)), None)
    response = response_to(lambda w: (with_fields(**fields)(w), write(w)))
    assert response.fields == plain.fields
    assert response.body == plain.body
    assert "vary" not in response.headers


@pytest.mark.parametrize("write", [lambda w: w.text(PAGE), lambda w: w.sync({"a": 1}), lambda w: w.write(b"x")])
@pytest.mark.parametrize("word", ["identity", "Identity"])
def test_identity_forbids_it_and_is_not_sent(write: Callable[[Writer], object], word: str) -> None:
    plain = FakePeer()
    write(plain.writer())
    headers = response_to(lambda w: (with_fields(content_encoding=word)(w), write(w))).headers
    assert headers == Response(plain.sent).headers | headers
    assert not {"content-encoding", "vary"} & headers.keys()


@pytest.mark.parametrize("status", [204, 206, 304])
def test_statuses_without_a_whole_body(status: int) -> None:
    headers = response_to(lambda w: w.respond(PAGE.encode(), b"text/html", status)).headers
    assert "content-encoding" not in headers
    assert ("vary" in headers) is (status == 304)


# Vary


@pytest.mark.upstream_bug(36)
@pytest.mark.parametrize("accept", [None, "gzip", "identity"])
@pytest.mark.parametrize(
    ("held", "merged"),
    [
        ([], "accept-encoding"),
        (["Cookie"], "Cookie, accept-encoding"),
        (["Cookie", "Accept"], "Cookie, Accept, accept-encoding"),
        (["Cookie, Accept-Encoding"], "Cookie, Accept-Encoding"),
        (["x-accept-encoding"], "x-accept-encoding, accept-encoding"),
        (["*"], "*"),
    ],
)
def test_vary_is_merged_and_always_there(accept: str | None, held: list[str], merged: str) -> None:
    def set_vary(w: Writer) -> None:
        for value in held:
            w.headers.add("vary", value)

    assert response_to(lambda w: (set_vary(w), w.text(PAGE)), accept).headers["vary"] == merged
    assert response_to(lambda w: (set_vary(w), w.sync({"a": 1})), accept).headers["vary"] == merged


@pytest.mark.parametrize(
    "write",
    [lambda w: w.empty(), lambda w: w.redirect("/"), lambda w: w.end(PAGE.encode()), lambda w: w.write(PAGE.encode())],
)
def test_what_is_never_compressed_does_not_vary(write: Callable[[Writer], object]) -> None:
    assert "vary" not in response_to(write).headers


def test_a_handler_that_chooses_itself_can_say_so() -> None:
    assert vary_by_coding_of({}) == [(b"vary", b"accept-encoding")]
    assert vary_by_coding_of({b"vary": b"cookie"}) == [(b"vary", b"cookie, accept-encoding")]


def vary_by_coding_of(raw: dict[bytes, bytes | list[bytes]]) -> list[tuple[bytes, bytes]]:
    fields = Headers(raw)
    vary_by_coding(fields)
    vary_by_coding(fields)
    return fields.items()


# ETag, 304 and HEAD


@pytest.mark.parametrize(
    ("accept", "etag", "sent"),
    [("gzip", '"v1"', 'W/"v1"'), ("gzip", 'W/"v1"', 'W/"v1"'), (None, '"v1"', '"v1"'), ("br;q=0", '"v1"', '"v1"')],
)
def test_a_strong_etag_names_the_bytes_of_the_handler_only(accept: str | None, etag: str, sent: str) -> None:
    assert response_to(lambda w: (with_fields(etag=etag)(w), w.text(PAGE)), accept).headers["etag"] == sent
    headers = response_to(lambda w: (with_fields(etag=etag)(w), w.empty(304)), accept).headers
    assert (headers["etag"], headers["vary"]) == (sent, "accept-encoding")


def test_a_304_says_nothing_new_of_a_picture() -> None:
    fields = {"etag": '"v1"', "content_type": "image/png"}
    response = response_to(lambda w: (with_fields(**fields)(w), w.empty(304)))
    assert response.headers == {"date": DATE, "etag": '"v1"', "content-type": "image/png"}


@pytest.mark.parametrize(
    ("held", "sent"),
    [
        ('"v1"', '"v1"'),
        ('"v0", "v1"', '"v1"'),
        ('W/"v1"', 'W/"v1"'),
        ('"v1", W/"v1"', 'W/"v1"'),
        ('"v1,"', 'W/"v1"'),
        ("*", 'W/"v1"'),
        ('"a', 'W/"v1"'),
    ],
)
def test_a_304_names_what_the_client_has(held: str, sent: str) -> None:
    """Who has the strong tag alone was sent these bytes: the body was short, say, which a 304 cannot tell."""
    peer = FakePeer()
    w = writer(peer)
    assert w.offer is not None
    for line in held.split(", "):  # a list may come in several lines
        w.offer[1].add("if-none-match", line)
    w.headers.set("etag", '"v1"')
    w.empty(304)
    assert Response(peer.sent).headers == {"date": DATE, "etag": sent, "vary": "accept-encoding"}


@pytest.mark.parametrize("short", [True, False])
async def test_a_304_has_the_etag_of_the_200_before_it(short: bool) -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.headers.set("etag", '"v1"')
        if '"v1"' in c.req.headers.get("if-none-match", ""):
            raise HttpException(304)
        w.text("short" if short else PAGE)

    app = app_of(("/", handler))
    tags = list[str]()
    for _ in range(3):
        peer = FakePeer()
        fields = [("if-none-match", tag) for tag in tags[-1:]]
        await app.handle_request(peer.request("GET", "/", ("accept-encoding", "gzip"), *fields), peer.writer())
        response = Response(peer.sent)
        assert response.status == (304 if tags else 200)
        tags.append(response.headers["etag"])
    assert tags == ['"v1"' if short else 'W/"v1"'] * 3


@pytest.mark.parametrize("accept", [None, "gzip"])
@pytest.mark.parametrize("write", [lambda w: w.text(PAGE), lambda w: w.sync({"a": 1})])
def test_head_has_the_fields_of_get(accept: str | None, write: Callable[[Writer], object]) -> None:
    def fields_of(response: Response) -> list[tuple[str, str]]:
        return [field for field in response.fields if field[0] != "transfer-encoding"]

    head = response_to(write, accept, "HEAD")
    assert fields_of(head) == fields_of(response_to(write, accept))
    assert head.body == b""


def test_head_of_a_stream_compresses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> bytes:
        raise AssertionError("compressed")

    compressor = type(CompressionConfig().select("gzip"))
    monkeypatch.setattr(compressor, "block", work)
    monkeypatch.setattr(compressor, "finish", work)
    assert response_to(lambda w: w.sync({"a": 1}), method="HEAD").headers["content-encoding"] == "gzip"


# Raw writing


@pytest.mark.upstream_bug(34)
@coding
def test_raw_writing_sends_what_it_is_given(coding: str) -> None:
    response = response_to(lambda w: w.write(PAGE.encode()).end(b"end"), coding)
    assert response.pieces == [PAGE.encode(), b"end"]
    assert "content-encoding" not in response.headers
    assert response_to(lambda w: w.end(PAGE.encode()), coding).text == PAGE
    assert response_to(lambda w: (w.write(PAGE.encode()), w.sync({"a": 1})), coding).pieces[0] == PAGE.encode()


@coding
def test_raw_writing_into_a_compressed_stream_is_a_part_of_it(coding: str) -> None:
    """The head has promised the coding for the whole body."""

    def write(w: Writer) -> None:
        w.sync({"a": 1})
        w.write(b": comment\n\n").write(b"").end(b": end\n\n")

    response = response_to(write, coding)
    assert decode(coding, response.body) == sse.signals({"a": 1}) + b": comment\n\n: end\n\n"


# Events


@pytest.mark.upstream_bug(35)
@coding
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_stream_of_events_is_complete_at_its_end(coding: str, version: str) -> None:
    response = response_to(lambda w: (w.patch(Markup("<p id='a'>1</p>")), w.sync({"a": 1})), coding, version=version)
    assert response.headers["content-encoding"] == coding
    assert response.headers["vary"] == "accept-encoding"
    assert decode(coding, response.body) == EVENT + sse.signals({"a": 1})


def test_the_exact_head_of_a_stream() -> None:
    peer = FakePeer()
    writer(peer).sync({"a": 1})
    assert bytes(peer.sent).partition(b"\r\n\r\n")[0].decode().split("\r\n") == [
        "HTTP/1.1 200 OK",
        f"date: {DATE}",
        "content-encoding: gzip",
        "vary: accept-encoding",
        "content-type: text/event-stream",
        "cache-control: no-cache",
        "connection: keep-alive",
        "transfer-encoding: chunked",
    ]


@coding
@given(texts=st.lists(st.text(max_size=100), min_size=1, max_size=6))
def test_each_event_can_be_decoded_as_soon_as_it_is_sent(coding: str, texts: list[str]) -> None:
    peer, decoder = FakePeer(), Decoder(coding)
    w = writer(peer, coding)
    read = b""
    for number, text in enumerate(texts):
        w.sync({"text": text})
        pieces = Response(bytes(peer.sent) + b"0\r\n\r\n").pieces
        assert len(pieces) == number + 1, "one chunk an event"
        read = decoder.feed(pieces[-1])
        assert read == sse.signals({"text": text})


@pytest.mark.upstream_bug(33)
@coding
def test_a_block_of_no_bytes_does_not_end_the_body(coding: str) -> None:
    peer = FakePeer()
    w = writer(peer, coding)
    w.sync({"a": 1})
    w.write(b"").write(b"")
    assert not peer.sent.endswith(b"0\r\n\r\n")


@pytest.mark.upstream_bug(38)
def test_a_content_length_is_not_for_a_stream() -> None:
    response = response_to(lambda w: (with_fields(content_length="5")(w), w.sync({"a": 1})))
    assert "content-length" not in response.headers
    assert decode("gzip", response.body) == sse.signals({"a": 1})


@coding
def test_an_aborted_stream_has_no_end(coding: str) -> None:
    peer = FakePeer()
    w = writer(peer, coding)
    w.sync({"a": 1})
    sent = bytes(peer.sent)
    w.abort()
    w.end()
    assert bytes(peer.sent) == sent
    assert peer.aborted
    decoder = Decoder(coding)
    decoder.feed(Response(sent + b"0\r\n\r\n").body)
    assert not decoder.ended


def test_a_stream_with_a_hole_is_cut() -> None:
    """The next block could not be decoded."""
    peer = FakePeer()
    w = writer(peer)
    w.sync({"a": 1})
    peer.full = StarioError("full")
    with pytest.raises(StarioError, match="full"):
        w.sync({"a": 2})
    assert peer.aborted
    with pytest.raises(RuntimeError, match="completed"):
        w.sync({"a": 3})


def break_compressor(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("broken")

    monkeypatch.setattr(type(CompressionConfig().select("gzip")), method, fail)


def test_a_first_event_that_cannot_be_compressed_leaves_the_response_unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    break_compressor(monkeypatch, "block")
    peer = FakePeer()
    w = writer(peer)
    w.headers.set("etag", '"v1"').set("vary", "cookie")
    with pytest.raises(OSError, match="broken"):
        w.sync({"a": 1})
    assert (bytes(peer.sent), w.started) == (b"", False)
    assert w.headers.items() == [(b"etag", b'"v1"'), (b"vary", b"cookie")]
    w.text("short")
    assert Response(peer.sent).text == "short"


@pytest.mark.parametrize(("method", "min_size"), [("block", 256), ("frame", 0)])
async def test_a_compressor_that_fails_is_a_clean_500(
    monkeypatch: pytest.MonkeyPatch, method: str, min_size: int
) -> None:
    async def handler(_c: Context, w: Writer) -> None:
        if method == "block":
            w.sync({"a": 1})
        else:
            w.text("x")

    break_compressor(monkeypatch, method)
    response, _ = await answer_of(handler, "gzip", Stario(NoopTracer(), CompressionConfig(min_size=min_size)))
    assert (response.status, response.text) == (500, "Internal Server Error")


@pytest.mark.parametrize("accept", [None, "gzip"])
def test_the_head_and_the_first_event_are_sent_together(accept: str | None) -> None:
    peer = Counting()
    w = writer(peer, accept)
    w.sync({"a": 1})
    w.sync({"a": 2})
    assert peer.sends == 2


class Counting(FakePeer):
    sends = 0

    def send(self, data: bytes, *, last: bool = False) -> None:
        self.sends += 1
        super().send(data, last=last)


@pytest.mark.parametrize(
    "fail",
    [
        lambda w: w.text(PAGE, 99),
        lambda w: spoil(w, lambda: w.text(PAGE)),
        lambda w: spoil(w, lambda: w.sync({})),
        lambda w: spoil(w, lambda: w.empty(304)),
    ],
)
def test_a_try_that_fails_changes_no_field_of_the_handler(fail: Callable[[Writer], object]) -> None:
    peer = FakePeer()
    w = writer(peer)
    w.headers.set("etag", '"v1"').set("vary", "cookie")
    with pytest.raises((StarioError, ValueError)):
        fail(w)
    assert (w.headers.get("etag"), w.headers.get("vary")) == ('"v1"', "cookie")
    w.text("short")
    assert Response(peer.sent).headers["etag"] == '"v1"'


def spoil(w: Writer, write: Callable[[], object]) -> None:
    w.headers.rset(b"x-bad", b"a\r\nb")
    try:
        write()
    finally:
        w.headers.remove("x-bad")


# Anything at all


CALLS: dict[str, Callable[[Writer], object]] = {
    "raw": lambda w: w.write(b": raw\n\n"),
    "nothing": lambda w: w.write(b""),
    "head": lambda w: w.write_headers(200),
    "sync": lambda w: w.sync({"a": 1}),
    "patch": lambda w: w.patch(Markup(PAGE)),
    "text": lambda w: w.text(PAGE),
    "short": lambda w: w.text("short"),
    "not modified": lambda w: w.empty(304),
    "end": lambda w: w.end(),
    "end with": lambda w: w.end(b": end\n\n"),
    "vary": lambda w: w.headers.set("vary", "cookie"),
    "etag": lambda w: w.headers.set("etag", '"v1"'),
    "identity": lambda w: w.headers.set("content-encoding", "identity"),
    "close": lambda w: w.headers.set("connection", "close"),
}


@coding
@given(
    calls=st.lists(st.sampled_from(sorted(CALLS)), max_size=6),
    method=st.sampled_from(["GET", "HEAD"]),
    version=st.sampled_from(["1.1", "1.0"]),
)
def test_compression_changes_how_a_response_is_sent_and_nothing_else(
    coding: str, calls: list[str], method: str, version: str
) -> None:
    def after(w: Writer, peer: FakePeer) -> tuple[Response, list[str]]:
        errors = list[str]()
        for call in [*calls, "end"]:
            try:
                CALLS[call](w)
                errors.append("")
            except RuntimeError as error:
                errors.append(str(error))
        return Response(peer.sent, method=method, closed=w.ends_by_close), errors

    plain_peer, peer = FakePeer(), FakePeer()
    plain, errors = after(plain_peer.writer(method, version), plain_peer)
    coded, errors_too = after(writer(peer, coding, method, version), peer)
    assert errors_too == errors
    assert (coded.status, coded.complete, coded.rest) == (plain.status, plain.complete, plain.rest)
    if coded.headers.get("content-encoding") is None or method == "HEAD":
        assert coded.body == plain.body
    else:
        assert decode(coding, coded.body) == plain.body
    changing = ("content-length", "content-encoding", "vary", "etag")
    kept, kept_too = ([field for field in it.fields if field[0] not in changing] for it in (plain, coded))
    assert kept == kept_too
    assert plain.headers.get("vary", "") in coded.headers.get("vary", "")


# The application


async def answer_of(
    handler: Handler, accept: str = "gzip", app: Stario | None = None, **fields: str
) -> tuple[Response, FakePeer]:
    peer = FakePeer()
    app = app or Stario(NoopTracer())
    app.get("/", handler)
    w = peer.writer()
    await app.handle_request(peer.request("GET", "/", ("accept-encoding", accept)), w)
    return Response(peer.sent), peer


async def page(_c: Context, w: Writer) -> None:
    w.html(Markup(PAGE))


async def test_an_app_compresses_unless_it_is_told_not_to() -> None:
    response, _ = await answer_of(page)
    assert response.headers["content-encoding"] == "gzip"
    off = CompressionConfig(zstd_level=-1, brotli_level=-1, gzip_level=-1)
    for app in (Stario(NoopTracer(), None), Stario(NoopTracer(), off)):
        response, _ = await answer_of(page, app=app)
        assert response.text == PAGE
        assert "vary" not in response.headers


async def test_an_app_compresses_as_it_is_told() -> None:
    response, _ = await answer_of(page, "*", Stario(NoopTracer(), CompressionConfig(zstd_level=-1, brotli_level=-1)))
    assert response.headers["content-encoding"] == "gzip"
    response, _ = await answer_of(page, app=Stario(NoopTracer(), compression=CompressionConfig(min_size=len(PAGE) + 1)))
    assert response.text == PAGE


@pytest.mark.parametrize("wrong", [True, "gzip", CompressionConfig])
def test_an_app_says_what_it_wants(wrong: Any) -> None:
    with pytest.raises(StarioError, match="Invalid compression") as caught:
        Stario(NoopTracer(), wrong)
    assert "CompressionConfig(...)" in (caught.value.help_text or "")


@pytest.mark.upstream_bug(67)
async def test_an_error_is_not_said_to_be_coded() -> None:
    async def fails(_c: Context, w: Writer) -> None:
        w.headers.set("content-encoding", "br").set("etag", '"v1"')
        raise HttpException(418, PAGE)

    response, _ = await answer_of(fails)
    assert response.headers["content-encoding"] == "gzip"
    assert decode("gzip", response.body).decode() == PAGE
    assert "etag" not in response.headers


async def test_a_head_that_cannot_be_sent_leaves_no_coding_behind() -> None:
    async def retries(_c: Context, w: Writer) -> None:
        w.headers.rset(b"x-bad", b"a\r\nb")
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            w.html(Markup(PAGE))
        w.headers.remove("x-bad")
        w.text("short")

    response, _ = await answer_of(retries)
    assert response.text == "short"
    assert "content-encoding" not in response.headers


@pytest.mark.upstream_bug(8)
async def test_a_failed_stream_is_cut_and_not_finished() -> None:
    async def fails(_c: Context, w: Writer) -> None:
        w.sync({"a": 1})
        raise ZeroDivisionError

    app = app_of(("/", fails))
    fake = FakePeer()
    await app.handle_request(fake.request("GET", "/", ("accept-encoding", "gzip")), fake.writer())
    assert fake.aborted
    decoder = Decoder("gzip")
    decoder.feed(Response(bytes(fake.sent) + b"0\r\n\r\n").body)
    assert not decoder.ended


# Over sockets


async def events(_c: Context, w: Writer) -> None:
    for n in range(5):
        w.patch(Markup(f"<p id='a'>{n}</p>"))
        await trio.lowlevel.checkpoint()


ROUTES: list[tuple[str, Handler]] = [("/", page), ("/events", events)]
EVENTS = b"".join(sse.patch(Markup(f"<p id='a'>{n}</p>")) for n in range(5))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@coding
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
async def test_curl_decodes_it(coding: str, version: str) -> None:
    async with live(*ROUTES) as server:
        for path, content in (("/", PAGE.encode()), ("/events", EVENTS)):
            head, _, body = (await curl(server, path, version, "--header", f"Accept-Encoding: {coding}")).partition(
                b"\r\n\r\n"
            )
            if b"curl cannot" in body:
                pytest.skip(f"this curl cannot decode {coding}")
            assert f"content-encoding: {coding}\r\n".encode() in head
            assert body == content


async def curl(server: Server, path: str, *options: str) -> bytes:
    host, port = server.addresses[0]
    words = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--include", "--compressed"]
    done = await trio.run_process(
        [*words, *options, f"http://{host}:{port}{path}"], capture_stdout=True, capture_stderr=True, check=False
    )
    if done.returncode == 61:  # CURLE_BAD_CONTENT_ENCODING: built without the library
        return b"\r\n\r\ncurl cannot"
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_httpx2_decodes_it() -> None:
    async with live(*ROUTES) as server:
        host, port = server.addresses[0]
        async with httpx2.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, timeout=30) as client:
            whole = await client.get("/")
            assert whole.text == PAGE
            assert whole.headers["content-encoding"] in ("zstd", "br", "gzip")
            async with client.stream("GET", "/events") as stream:
                assert b"".join([piece async for piece in stream.aiter_bytes()]) == EVENTS


@coding
async def test_an_event_is_readable_before_the_next_one_is_written(coding: str) -> None:
    """The handler waits until the client says that it has read the last one."""
    read = trio.Semaphore(1)

    async def handler(_c: Context, w: Writer) -> None:
        for n in range(4):
            await read.acquire()
            w.sync({"n": n})
        await read.acquire()

    async with live(("/", handler)) as server, peer(server) as client:
        await client.get("/", f"Accept-Encoding: {coding}")
        assert f"content-encoding: {coding}\r\n".encode() in await client.until(b"\r\n\r\n")
        decoder = Decoder(coding)
        for n in range(4):
            size = int((await client.until(b"\r\n"))[:-2], 16)
            assert decoder.feed(await client.exactly(size)) == sse.signals({"n": n})
            await client.exactly(2)
            read.release()
        size = int((await client.until(b"\r\n"))[:-2], 16)
        assert decoder.feed(await client.exactly(size)) == b""
        assert decoder.ended
        assert await client.exactly(7) == b"\r\n0\r\n\r\n"


@pytest.mark.upstream_bug(35)
@coding
async def test_a_stream_that_a_stop_ends_is_complete(coding: str, autojump_clock: object) -> None:
    async def ticks(_c: Context, w: Writer) -> None:
        n = 0
        async with w.alive():
            while True:
                w.sync({"n": n})
                n += 1
                await trio.sleep(1)
        w.sync({"bye": True})

    async with stage(("/", ticks)) as s:
        client = s.connect(request("/", f"Accept-Encoding: {coding}"))
        await trio.sleep(2.5)
        s.stop()
        await client.wait_for(lambda: client.over)
    response = Response(client.received)
    assert response.complete
    assert decode(coding, response.body) == b"".join(
        sse.signals(data) for data in ({"n": 0}, {"n": 1}, {"n": 2}, {"bye": True})
    )


@coding
async def test_a_stream_that_the_deadline_cuts_is_not(coding: str, autojump_clock: object) -> None:
    async def deaf(_c: Context, w: Writer) -> None:
        w.sync({"n": 0})
        await trio.sleep_forever()

    async with stage(("/", deaf), graceful_timeout=2) as s:
        client = s.connect(request("/", f"Accept-Encoding: {coding}"))
        await trio.sleep(1)
        s.stop()
        await client.wait_for(lambda: client.over)
    assert not client.received.endswith(b"0\r\n\r\n")
    decoder = Decoder(coding)
    assert decoder.feed(Response(bytes(client.received) + b"0\r\n\r\n").body) == sse.signals({"n": 0})
    assert not decoder.ended
