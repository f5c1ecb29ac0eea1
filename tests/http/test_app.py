"""The application: hosts, error handlers, and what its peer and its span are told when a handler fails."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

import pytest
import trio

from stario_trio import NoopTracer, Stario
from stario_trio.exceptions import ClientDisconnected, HttpException, StarioError
from stario_trio.http.router import Router
from stario_trio.server.config import Limits
from stario_trio.server.server import Server
from stario_trio.telemetry.core import Span
from tests.support.peer import FakePeer, Response
from tests.support.stage import request, stage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from trio.testing import MockClock

    from stario_trio.http.types import Context, Handler, Middleware
    from stario_trio.http.writer import Writer


class Spans:
    """A tracer that keeps its root spans."""

    def __init__(self) -> None:
        self.roots: list[Span] = []

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        span = Span(self, name, attributes)
        self.roots.append(span)
        return span

    def notify(self, span: Span) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Exchange:
    """One request to an app, and what came of it."""

    def __init__(self, *, method: str = "GET", version: str = "1.1", peer: FakePeer | None = None) -> None:
        self.spans = Spans()
        self.app = Stario(self.spans)
        self.peer = peer or FakePeer()
        self.method = method
        self.w = self.peer.writer(method, version)

    async def ask(self, handler: Handler | None = None, path: str = "/", *, host: str = "") -> Exchange:
        if handler is not None:
            self.app.handle(self.method, path, handler)
        fields = [("host", host)] if host else []
        await self.app.handle_request(self.peer.request(self.method, path, *fields), self.w)
        return self

    @property
    def span(self) -> Span:
        [span] = self.spans.roots
        return span

    @property
    def response(self) -> Response:
        """The response, which must be complete and all there is."""
        response = Response(self.peer.sent, method=self.method)
        assert response.complete
        assert response.rest == b""
        assert self.w.completed
        assert not self.peer.aborted
        return response

    def is_500(self) -> bool:
        """Whether the peer got the plain 500, with nothing of the handler's."""
        assert (self.response.status, self.response.text) == (500, "Internal Server Error")
        assert set(self.response.headers) == {"date", "content-type", "content-length"}
        return True

    def is_cut(self) -> bool:
        """Whether the peer can tell that something is missing."""
        assert self.peer.aborted
        assert self.w.completed
        assert not self.w.keep_alive
        assert self.w.ends_by_close or not Response(self.peer.sent, method=self.method, closed=True).complete
        return True

    @property
    def exceptions(self) -> list[BaseException]:
        return [event.attributes["exc.stacktrace"] for event in self.span.events if event.name == "exception"]


def raising(error: BaseException, *before: Callable[[Writer], object]) -> Handler:
    async def handler(c: Context, w: Writer) -> None:
        for step in before:
            step(w)
        raise error

    return handler


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


def named(name: str) -> Router:
    router = Router()

    async def handler(c: Context, w: Writer) -> None:
        w.text(f"{name}:{c.req.subhost}")

    router.get("/", handler)
    return router


# One request


async def test_a_request_is_one_span() -> None:
    it = await Exchange(method="PUT").ask(hello, "/a b")
    assert it.response.text == "hello"
    assert (it.span.name, it.span.ok, it.span.finished, it.span.parent_id) == ("PUT", True, True, None)
    assert it.span.attributes == {"request.method": "PUT", "request.path": "/a b", "response.status_code": 200}
    assert it.span.events == []


async def test_a_handler_gets_a_context_of_its_own() -> None:
    async def handler(c: Context, w: Writer) -> None:
        assert (c.app, c.req.path, c.state, c.span.name) == (it.app, "/", {}, "GET")
        c["user.id"] = 7

    it = Exchange()
    await it.ask(handler)
    assert it.span["user.id"] == 7


async def test_a_handler_that_writes_nothing_answers_204() -> None:
    async def handler(c: Context, w: Writer) -> None: ...

    it = await Exchange().ask(handler)
    assert (it.response.status, it.span["response.status_code"], it.span.ok) == (204, 204, True)


async def test_a_stream_is_ended_with_its_handler() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.write(b"one").write(b"two")

    assert (await Exchange().ask(handler)).response.body == b"onetwo"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_is_not_routed_is_404_or_405_and_no_error(method: str) -> None:
    it = Exchange(method=method)
    it.app.get("/there", hello)
    await it.ask(path="/there" if method == "DELETE" else "/elsewhere")
    assert it.response.status == (405 if method == "DELETE" else 404)
    assert it.span.ok


def test_an_app_needs_a_tracer() -> None:
    with pytest.raises(TypeError):
        Stario()  # type: ignore[call-arg]


@pytest.mark.parametrize("wrong", [None, "x", 5, NoopTracer, Span])
def test_what_makes_no_span_is_no_tracer(wrong: Any) -> None:
    """A class of tracers can be called with a name, too; but what it makes of it is a tracer."""
    with pytest.raises(StarioError, match="Invalid tracer") as caught:
        Stario(wrong)
    name = getattr(wrong, "__name__", "JsonTracer")
    assert f"with {name}() as tracer:" in str(caught.value)


async def test_a_tracer_that_raises_changes_nothing() -> None:
    def tracer(name: str) -> Span:
        raise LookupError

    app = Stario(tracer)
    app.get("/", hello)
    peer = FakePeer()
    await app.handle_request(peer.request(), peer.writer())
    assert Response(peer.sent).text == "hello"


# A handler fails: nobody takes care


async def test_a_failure_before_the_head_is_a_clean_500() -> None:
    error = LookupError("secret")
    it = await Exchange().ask(raising(error))
    assert it.is_500()
    assert b"secret" not in it.peer.sent
    assert (it.span.error, it.exceptions, it.span["response.status_code"]) == ("secret", [error], 500)
    assert it.span.finished


@pytest.mark.upstream_bug(62)
async def test_bug_62_a_failure_without_words_is_a_failure() -> None:
    it = await Exchange().ask(raising(LookupError()))
    assert (it.span.failed, it.span.error) == (True, "LookupError")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise LookupError


async def test_a_failure_that_cannot_be_printed_harms_nobody() -> None:
    it = await Exchange().ask(raising(Unprintable()))
    assert it.is_500()
    assert it.span.failed
    assert it.span.finished


@pytest.mark.upstream_bug(67)
async def test_bug_67_no_field_of_the_handler_leaks_into_the_500() -> None:
    def fields(w: Writer) -> None:
        w.headers.update({"content-encoding": "gzip", "cache-control": "public, immutable", "etag": "x", "x-mine": "1"})
        w.cookie("session", "secret")

    it = await Exchange().ask(raising(LookupError(), fields))
    assert it.is_500()


@pytest.mark.upstream_bug(8)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(lambda w: w.write(b"half"), id="chunks"),
        pytest.param(lambda w: (w.headers.set("content-length", "100"), w.write(b"half")), id="counted"),
        pytest.param(lambda w: w.remove("#a"), id="events"),
        pytest.param(lambda w: w.write_headers(200), id="head"),
    ],
)
async def test_bug_8_a_failure_after_the_head_cuts(begin: Callable[[Writer], object], version: str) -> None:
    error = LookupError("late")
    it = await Exchange(version=version).ask(raising(error, begin))
    assert it.is_cut()
    assert b"500" not in it.peer.sent
    assert not it.peer.sent.endswith(b"0\r\n\r\n")
    assert (it.span.error, it.exceptions, it.span["response.status_code"]) == ("late", [error], 200)


async def test_a_failure_after_a_complete_response_is_told_to_the_span_only() -> None:
    it = await Exchange().ask(raising(LookupError("late"), lambda w: w.text("fine")))
    assert (it.response.text, it.span.error) == ("fine", "late")


@pytest.mark.upstream_bug(37)
async def test_bug_37_a_body_that_is_too_short_is_the_handlers_failure() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.headers.set("content-length", "100")
        w.write(b"half")

    it = await Exchange().ask(handler)
    assert it.is_cut()
    assert it.span.error is not None
    assert it.span.error.startswith("Too little body")


@pytest.mark.upstream_bug(37)
async def test_bug_37_a_body_that_is_too_long_is_the_handlers_failure() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.headers.set("content-length", "6")
        w.write(b"four").write(b"four")

    it = await Exchange().ask(handler)
    assert it.is_cut()
    assert it.peer.sent.endswith(b"\r\n\r\nfour")


async def test_a_field_that_breaks_the_head_gives_a_clean_500() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.headers.rset(b"x", b"y\r\nz: z")

    it = await Exchange().ask(handler)
    assert it.is_500()


async def test_html_that_does_not_render_gives_a_clean_500() -> None:
    class Page:
        def __html__(self) -> str:
            raise LookupError("template")

    async def handler(c: Context, w: Writer) -> None:
        w.headers.set("x-mine", "1")
        w.html(Page())

    assert (await Exchange().ask(handler)).is_500()


async def test_events_after_a_one_shot_are_refused_and_the_one_shot_stands() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.text("fine")
        w.patch("late")

    it = await Exchange().ask(handler)
    assert it.response.text == "fine"
    assert it.span.error is not None
    assert it.span.error.startswith("Cannot send SSE events")


# HttpException


async def test_an_http_exception_is_an_answer_and_no_error() -> None:
    it = await Exchange().ask(raising(HttpException(404, "no such room")))
    assert (it.response.status, it.response.text) == (404, "no such room")
    assert (it.span.ok, it.span.events, it.span["response.status_code"]) == (True, [], 404)


@pytest.mark.upstream_bug(1)
@pytest.mark.parametrize(
    ("status", "detail", "body"),
    [(300, "choose", b"choose"), (302, "/login", b""), (204, "x", b""), (304, "x", b""), (418, "", b"Error")],
)
async def test_bug_1_each_status_is_answered_in_its_own_way(status: int, detail: str, body: bytes) -> None:
    it = await Exchange().ask(raising(HttpException(status, detail)))
    assert (it.response.status, it.response.body, it.span.ok) == (status, body, True)
    assert it.response.headers.get("location") == (detail if status == 302 else None)


@pytest.mark.upstream_bug(67)
async def test_bug_67_the_answer_keeps_what_holds_for_an_error_too() -> None:
    def fields(w: Writer) -> None:
        w.headers.update({
            "content-encoding": "gzip", "content-language": "de", "content-length": "7", "etag": '"1"',
            "last-modified": "x", "cache-control": "public", "transfer-encoding": "gzip",
            "www-authenticate": "Basic", "x-mine": "1",
        })  # fmt: skip
        w.cookie("a", "b")

    it = await Exchange().ask(raising(HttpException(401, "who?"), fields))
    assert it.response.fields[1:] == [
        ("www-authenticate", "Basic"),
        ("x-mine", "1"),
        ("set-cookie", "a=b; Path=/; SameSite=lax"),
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "4"),
    ]


@pytest.mark.upstream_bug(67)
@pytest.mark.parametrize("name", sorted([
    "content-type", "content-length", "content-encoding", "content-language", "content-location", "content-range",
    "content-disposition", "content-md5", "content-digest", "repr-digest", "etag", "last-modified", "transfer-encoding",
]))  # fmt: skip
async def test_bug_67_no_field_of_the_content_is_the_errors(name: str) -> None:
    it = await Exchange().ask(raising(HttpException(404, "no"), lambda w: w.headers.rset(name.encode(), b"7")))
    assert it.response.headers.get(name) == {"content-type": "text/plain; charset=utf-8", "content-length": "2"}.get(
        name
    )


@pytest.mark.parametrize("name", ["content-security-policy", "content-security-policy-report-only", "vary", "expires"])
async def test_an_error_keeps_the_fields_that_only_sound_alike(name: str) -> None:
    it = await Exchange().ask(raising(HttpException(404, "no"), lambda w: w.headers.set(name, "x")))
    assert it.response.headers[name] == "x"


async def test_a_raised_304_says_what_a_304_that_is_sent_says() -> None:  # RFC 9110 section 15.4.5
    fields = {
        "etag": '"v1"',
        "cache-control": "max-age=60",
        "last-modified": "x",
        "content-location": "/a",
        "expires": "x",
    }
    raised = await Exchange().ask(raising(HttpException(304), lambda w: w.headers.update(fields)))

    async def sends(c: Context, w: Writer) -> None:
        w.headers.update(fields)
        w.empty(304)

    sent = await Exchange().ask(sends)
    assert raised.response.fields == sent.response.fields
    assert fields.items() <= raised.response.headers.items()


@pytest.mark.parametrize("status", [301, 404])
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (["no-store"], "no-store"),
        (["private, max-age=3600"], "private"),
        (["max-age=3600", "No-Cache"], "no-cache"),
        (['private="x-mine, x-other", NO-STORE'], "no-store, private"),
        (["public, max-age=3600, immutable"], None),
        (["x-private, no-storey"], None),
    ],
)
async def test_what_must_not_be_stored_stays_so(status: int, said: list[str], kept: str | None) -> None:
    """Caches may store a 301 or a 404 that says nothing of it (RFC 9111 section 4.2.2)."""

    def fields(w: Writer) -> None:
        for value in said:
            w.headers.add("cache-control", value)

    it = await Exchange().ask(raising(HttpException(status, "/x"), fields))
    assert it.response.headers.get("cache-control") == kept


async def test_an_error_handler_may_set_what_was_dropped() -> None:
    it = Exchange()

    def caches(_c: Context, w: Writer, _exc: LookupError) -> None:
        w.headers.set("cache-control", "max-age=1")
        w.text("gone", 410)

    it.app.on_error(LookupError, caches)
    await it.ask(raising(LookupError(), lambda w: w.headers.set("cache-control", "max-age=99")))
    assert it.response.headers["cache-control"] == "max-age=1"


async def test_an_http_exception_with_a_status_that_does_not_exist_is_a_500() -> None:
    error = HttpException(99999, "x")
    it = await Exchange().ask(raising(error))
    assert it.is_500()
    assert isinstance(it.exceptions[0], StarioError)
    assert it.exceptions[1] is error


async def test_an_http_exception_after_the_head_cuts() -> None:
    it = await Exchange().ask(raising(HttpException(404, "late"), lambda w: w.write(b"half")))
    assert it.is_cut()
    assert it.span.error == "late"


# Error handlers


class Mine(LookupError):
    pass


def says(text: str) -> Callable[[Context, Writer, Exception], None]:
    def handler(c: Context, w: Writer, exc: Exception) -> None:
        w.text(f"{text}:{exc}", 422)

    return handler


def yielding(_c: Context, _w: Writer, _exc: Exception) -> Generator[None]:
    yield


@pytest.mark.parametrize(
    ("arguments", "help_text"),
    [
        ((404, says("x")), "To answer a status, register HttpException"),
        ((says("x"), ValueError), "The first argument is a class of exceptions"),
        ((ValueError(), says("x")), "The first argument"),
        ((str, says("x")), "The first argument"),
        ((ValueError, None), "The second argument is a function"),
        ((ValueError, "page"), "The second argument"),
        ((ValueError, Router), "The second argument"),
        ((ValueError, yielding), "It has a `yield`"),
    ],
)
def test_what_can_never_answer_an_error_is_refused(arguments: tuple[Any, Any], help_text: str) -> None:
    with pytest.raises(StarioError, match="Not an error handler") as caught:
        Stario(NoopTracer()).on_error(*arguments)
    assert help_text in (caught.value.help_text or "")
    assert "app.on_error(HttpException, on_http)" in str(caught.value)


async def test_an_error_handler_answers_and_leaves_no_trace() -> None:
    it = Exchange()
    it.app.on_error(LookupError, says("lookup"))
    await it.ask(raising(Mine("x")))
    assert (it.response.status, it.response.text) == (422, "lookup:x")
    assert (it.span.ok, it.span.events) == (True, [])


@pytest.mark.parametrize(
    ("types", "winner"),
    [
        ([Mine, LookupError, Exception], "Mine"),
        ([Exception, LookupError, Mine], "Mine"),
        ([Exception, LookupError], "LookupError"),
        ([Exception, KeyError], "Exception"),
    ],
)
async def test_the_most_derived_type_wins(types: list[type[Exception]], winner: str) -> None:
    it = Exchange()
    for exc_type in types:
        it.app.on_error(exc_type, says(exc_type.__name__))
    await it.ask(raising(Mine("x")))
    assert it.response.text == f"{winner}:x"


@pytest.mark.upstream_bug(5)
async def test_bug_5_exception_catches_all_the_rest() -> None:
    it = Exchange()
    it.app.on_error(Exception, says("any"))
    await it.ask(raising(ValueError("x")))
    assert it.response.text == "any:x"


@pytest.mark.upstream_bug(5)
async def test_bug_5_an_http_exception_still_answers_for_itself() -> None:
    it = Exchange()
    it.app.on_error(Exception, says("any"))
    await it.ask(raising(HttpException(404, "no such room")))
    assert it.response.text == "no such room"


async def test_a_later_handler_for_the_same_type_replaces() -> None:
    it = Exchange()
    it.app.on_error(HttpException, says("first"))
    it.app.on_error(HttpException, says("second"))
    await it.ask(raising(HttpException(404, "x")))
    assert (it.response.status, it.response.text) == (422, "second:x")


async def test_an_unrelated_handler_is_not_asked() -> None:
    it = Exchange()
    it.app.on_error(KeyError, says("key"))
    await it.ask(raising(ValueError("x")))
    assert it.is_500()


async def test_an_error_handler_may_be_async() -> None:
    async def handler(c: Context, w: Writer, exc: LookupError) -> None:
        await trio.lowlevel.checkpoint()
        w.text("async", 422)

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(LookupError()))
    assert it.response.text == "async"


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, w: Writer) -> None:
        self.w = w

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self._write().__await__()

    async def _write(self) -> None:
        await trio.lowlevel.checkpoint()
        self.w.text("awaited", 422)


@pytest.mark.upstream_bug(6)
async def test_bug_6_any_awaitable_is_awaited() -> None:
    def handler(c: Context, w: Writer, exc: LookupError) -> Awaitable[None]:
        return Later(w)

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(LookupError()))
    assert it.response.text == "awaited"


async def test_an_error_handler_that_writes_nothing_answers_204() -> None:
    it = Exchange()
    it.app.on_error(LookupError, lambda c, w, exc: None)
    await it.ask(raising(LookupError()))
    assert (it.response.status, it.span.ok) == (204, True)


async def test_an_error_handler_may_stream() -> None:
    def handler(c: Context, w: Writer, exc: LookupError) -> None:
        w.write(b"one").write(b"two")

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(LookupError()))
    assert it.response.body == b"onetwo"


async def test_an_error_handler_is_not_asked_after_the_head() -> None:
    it = Exchange()
    it.app.on_error(LookupError, says("late"))
    await it.ask(raising(LookupError("x"), lambda w: w.write(b"half")))
    assert it.is_cut()
    assert it.span.error == "x"


@pytest.mark.upstream_bug(67)
async def test_bug_67_an_error_handlers_page_is_not_described_by_the_failed_ones_fields() -> None:
    it = Exchange()
    it.app.on_error(LookupError, says("page"))
    await it.ask(raising(LookupError("x"), lambda w: w.headers.update({"content-encoding": "gzip", "x-mine": "1"})))
    assert "content-encoding" not in it.response.headers
    assert it.response.headers["x-mine"] == "1"


@pytest.mark.upstream_bug(7)
async def test_bug_7_an_error_handler_that_fails_gives_the_500_and_both_are_told() -> None:
    first, second = LookupError("first"), ValueError("second")

    async def handler(c: Context, w: Writer, exc: LookupError) -> None:
        w.headers.set("x-mine", "1")
        raise second

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(first))
    assert it.is_500()
    assert it.exceptions == [second, first]
    assert it.span.error == "first"


@pytest.mark.upstream_bug(7)
@pytest.mark.parametrize(
    "begin", [lambda w: w.write(b"half"), lambda w: (w.headers.set("content-length", "9"), w.write(b"x"))]
)
async def test_bug_7_an_error_handler_that_fails_after_the_head_cuts(begin: Callable[[Writer], object]) -> None:
    first, second = LookupError("first"), ValueError("second")

    def handler(c: Context, w: Writer, exc: LookupError) -> None:
        begin(w)
        raise second

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(first))
    assert it.is_cut()
    assert it.exceptions == [second, first]
    assert it.span.error == "first"
    assert it.span.finished


async def test_an_error_handler_that_writes_too_little_cuts() -> None:
    def handler(c: Context, w: Writer, exc: LookupError) -> None:
        w.headers.set("content-length", "9")
        w.write(b"x")

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(LookupError("first")))
    assert it.is_cut()
    assert it.span.error == "first"


async def test_an_error_handler_may_answer_with_another_exception_only_by_a_500() -> None:
    """One round: an `HttpException` out of an error handler is a failure, not an answer."""

    def handler(c: Context, w: Writer, exc: LookupError) -> None:
        raise HttpException(404)

    it = Exchange()
    it.app.on_error(LookupError, handler)
    await it.ask(raising(LookupError()))
    assert it.is_500()


# Groups


async def test_a_group_of_one_is_its_leaf() -> None:
    it = await Exchange().ask(raising(ExceptionGroup("a", [ExceptionGroup("b", [HttpException(404, "inside")])])))
    assert (it.response.status, it.response.text, it.span.ok) == (404, "inside", True)


async def test_a_nursery_around_an_answer_does_not_hide_it() -> None:
    async def find() -> None:
        raise HttpException(404, "inside")

    async def handler(c: Context, w: Writer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(find)

    assert (await Exchange().ask(handler)).response.text == "inside"


async def test_a_group_of_several_is_a_failure() -> None:
    it = await Exchange().ask(raising(ExceptionGroup("both", [HttpException(404), LookupError()])))
    assert it.is_500()
    assert it.span.error == "both (2 sub-exceptions)"


@pytest.mark.parametrize("exc_type", [ExceptionGroup, Exception])
async def test_a_group_of_several_has_handlers_by_its_own_type(exc_type: type[Exception]) -> None:
    it = Exchange()
    it.app.on_error(exc_type, says("group"))
    await it.ask(raising(ExceptionGroup("both", [HttpException(404), LookupError()])))
    assert it.response.text == "group:both (2 sub-exceptions)"


# The peer has left


async def test_a_peer_that_left_is_nobodys_fault() -> None:
    error = ClientDisconnected("gone")
    it = await Exchange().ask(raising(error))
    assert it.is_cut()
    assert not it.peer.sent
    assert (it.span.ok, it.exceptions, it.span["response.status_code"]) == (True, [error], None)


async def test_a_peer_that_left_inside_a_group_is_nobodys_fault() -> None:
    it = await Exchange().ask(raising(ExceptionGroup("a", [ClientDisconnected()]), lambda w: w.write(b"half")))
    assert it.is_cut()
    assert it.span.ok


async def test_a_peer_that_left_has_no_error_handler() -> None:
    it = Exchange()
    it.app.on_error(Exception, says("any"))
    await it.ask(raising(ClientDisconnected()))
    assert not it.peer.sent


# Cancelled, and other exceptions that are not for the app


@pytest.mark.upstream_bug(9)
@pytest.mark.parametrize("begin", [lambda w: None, lambda w: w.headers.set("x", "y"), lambda w: w.write(b"half")])
async def test_bug_9_a_cancelled_handler_sends_nothing_more(begin: Callable[[Writer], object]) -> None:
    sent = bytearray()

    async def handler(c: Context, w: Writer) -> None:
        begin(w)
        sent.extend(it.peer.sent)
        scope.cancel()
        await trio.sleep_forever()

    it = Exchange()
    with trio.CancelScope() as scope:
        await it.ask(handler)
    assert scope.cancelled_caught
    assert it.is_cut()
    assert it.peer.sent == sent
    assert (it.span.ok, [event.name for event in it.span.events], it.span.finished) == (True, ["cancelled"], True)
    assert it.span["response.status_code"] == it.w.status_code


async def test_a_handler_that_is_cancelled_after_its_response_has_answered() -> None:
    async def handler(c: Context, w: Writer) -> None:
        w.text("fine")
        scope.cancel()
        await trio.sleep_forever()

    it = Exchange()
    with trio.CancelScope() as scope:
        await it.ask(handler)
    assert (it.response.text, it.span.ok, it.span["response.status_code"]) == ("fine", True, 200)


@pytest.mark.upstream_bug(9)
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("grouped", [False, True])
async def test_bug_9_what_is_no_exception_passes(error: BaseException, grouped: bool) -> None:
    it = Exchange()
    it.app.on_error(Exception, says("any"))
    thrown = BaseExceptionGroup("group", [error]) if grouped else error
    with pytest.raises(type(thrown)) as info:
        await it.ask(raising(thrown))
    assert info.value is thrown
    assert it.is_cut()
    assert not it.peer.sent
    assert it.span.finished


async def test_a_cancellation_of_another_library_is_an_error_like_any_other() -> None:
    """A stray `asyncio.CancelledError` is no `Exception`, and no reason to end the server."""
    it = Exchange()
    await it.ask(raising(asyncio.CancelledError()))
    assert it.response.status == 500
    assert it.span.error == "CancelledError"


async def failing_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise LookupError("cleanup")


async def test_errors_beside_a_cancel_are_told_and_end_here() -> None:
    async def handler(c: Context, w: Writer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

    it = Exchange()
    with trio.CancelScope() as scope:
        await it.ask(handler)
    assert scope.cancelled_caught
    assert it.is_cut()
    assert not it.peer.sent
    [errors] = it.exceptions
    assert pytest.RaisesGroup(LookupError, flatten_subgroups=True).matches(errors)


async def test_errors_beside_a_system_exit_are_told_and_end_here() -> None:
    it = Exchange()
    with pytest.RaisesGroup(SystemExit):
        await it.ask(raising(BaseExceptionGroup("both", [SystemExit(3), LookupError()])))
    assert it.span.failed


async def test_an_error_handler_that_is_cancelled_sends_nothing() -> None:
    async def handler(c: Context, w: Writer, exc: LookupError) -> None:
        scope.cancel()
        await trio.sleep_forever()

    it = Exchange()
    it.app.on_error(LookupError, handler)
    with trio.CancelScope() as scope:
        await it.ask(raising(LookupError()))
    assert scope.cancelled_caught
    assert it.is_cut()
    assert not it.peer.sent
    assert it.span.finished


async def test_errors_beside_the_cancel_of_an_error_handler_end_here() -> None:
    async def handler(c: Context, w: Writer, exc: LookupError) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

    it = Exchange()
    it.app.on_error(LookupError, handler)
    with trio.CancelScope() as scope:
        await it.ask(raising(LookupError("first")))
    assert scope.cancelled_caught
    assert it.is_cut()
    assert it.span.failed


async def test_a_system_exit_out_of_an_error_handler_passes() -> None:
    def handler(c: Context, w: Writer, exc: LookupError) -> None:
        raise SystemExit(3)

    it = Exchange()
    it.app.on_error(LookupError, handler)
    with pytest.raises(SystemExit):
        await it.ask(raising(LookupError()))
    assert it.is_cut()


# What `w.alive()` has opened


class Source:
    """Gives 0 for ever, and has something to say when it is closed."""

    def __init__(self, on_close: Callable[[], object]) -> None:
        self.on_close = on_close

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        return 0

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.on_close()


@pytest.mark.spec("AL-02")
@pytest.mark.parametrize("failing", [False, True])
async def test_sources_that_were_left_are_closed_before_the_response_ends(failing: bool) -> None:
    async def handler(c: Context, w: Writer) -> None:
        for name in ("first", "second"):
            async for _ in w.alive(Source(lambda name=name: closed.append((name, w.completed)))):  # type: ignore[misc]
                break
        w.write(b"x")
        if failing:
            raise LookupError

    closed: list[tuple[str, bool]] = []
    it = await Exchange().ask(handler)
    assert closed == [("second", False), ("first", False)]
    assert it.is_cut() if failing else it.response.body == b"x"


def fail() -> None:
    raise LookupError("in aclose")


@pytest.mark.parametrize("started", [False, True])
async def test_a_source_that_fails_to_close_is_the_handlers_failure(started: bool) -> None:
    async def handler(c: Context, w: Writer) -> None:
        async for _ in w.alive(Source(fail)):
            break
        if started:
            w.write(b"half")

    it = await Exchange().ask(handler)
    assert it.is_cut() if started else it.is_500()
    assert it.span.error == "in aclose"


async def test_a_source_that_fails_to_close_does_not_end_the_server(autojump_clock: MockClock) -> None:
    async def handler(c: Context, w: Writer) -> None:
        async for _ in w.alive(Source(fail)):
            break

    async with stage(("/", handler), ("/fine", hello)) as it:
        for path, status in (("/", 500), ("/fine", 200)):
            client = it.connect(request(path, "Connection: close"))
            assert Response(await client.read_to_end()).status == status


async def test_the_sources_of_a_cancelled_handler_are_closed_as_far_as_that_needs_no_waiting() -> None:
    async def source() -> AsyncGenerator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append("closed")

    async def handler(c: Context, w: Writer) -> None:
        async for _ in w.alive(source()):
            scope.cancel()
            await trio.sleep_forever()

    closed: list[str] = []
    it = Exchange()
    with trio.CancelScope() as scope:
        await it.ask(handler)
    assert scope.cancelled_caught
    assert closed == ["closed"]
    assert it.is_cut()
    assert it.span.ok


# Hosts


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("a.com", "exact:"),
        ("A.com:8000", "exact:"),
        ("b.example.com", "wild:b"),
        ("a.b.example.com", "wild:a.b"),
        ("x.deep.example.com", "deep:x"),
        ("deep.example.com", "wild:deep"),
        ("www.example.com", "www:"),
        ("example.com", "own:"),
        (".example.com", "own:"),
        ("xexample.com", "own:"),
        ("b.example.com.", "own:"),
        ("", "own:"),
    ],
)
async def test_a_host_has_its_router(host: str, answer: str) -> None:
    it = Exchange()
    it.app.mount("/", named("own"))
    it.app.host("*.Example.com", named("wild"))
    it.app.host("*.deep.example.com", named("deep"))
    it.app.host("A.com", named("exact"))
    it.app.host("www.example.com", named("www"))
    await it.ask(host=host)
    assert it.response.text == answer


async def test_a_wildcard_works_alone_and_an_exact_host_too() -> None:
    for pattern in ("a.com", "*.com"):
        it = Exchange()
        it.app.host(pattern, named("host"))
        await it.ask(host="a.com")
        assert it.response.text.startswith("host:")


async def test_a_host_router_is_final_and_outside_the_apps_middleware() -> None:
    def middleware(handler: Handler) -> Handler:
        async def wrapped(c: Context, w: Writer) -> None:
            w.headers.set("x-app", "1")
            await handler(c, w)

        return wrapped

    def app() -> Exchange:
        it = Exchange()
        use: Middleware = middleware
        it.app.use(use)
        it.app.get("/here", hello)
        it.app.host("a.com", named("host"))
        return it

    it = await app().ask(host="a.com")
    assert (it.response.text, "x-app" in it.response.headers) == ("host:", False)
    assert (await app().ask(path="/here", host="a.com")).response.status == 404
    assert (await app().ask(path="/here", host="b.com")).response.headers["x-app"] == "1"


async def test_a_host_router_may_get_routes_later() -> None:
    it = Exchange()
    router = Router()
    it.app.host("a.com", router)
    router.get("/", hello)
    await it.ask(host="a.com")
    assert it.response.text == "hello"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*", r"Invalid host pattern: '\*'"),
        ("a.COM", "Host already registered: a.com"),
        ("*.e.COM", r"Wildcard host already registered: \*.e.com"),
    ],
)
def test_a_host_that_cannot_be_registered(pattern: str, message: str) -> None:
    app = Stario(NoopTracer())
    app.host("a.com", Router())
    app.host("*.e.com", Router())
    with pytest.raises(StarioError, match=message):
        app.host(pattern, Router())


@pytest.mark.parametrize("arguments", [("a.com", hello), ("a.com", None), (Router(), "a.com"), (None, Router())])
def test_a_host_has_a_router_and_nothing_else(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(StarioError, match=r"host\(\) takes a pattern and a router") as caught:
        Stario(NoopTracer()).host(*arguments)
    assert 'app.host("example.com", api)' in str(caught.value)


@pytest.mark.parametrize("pattern", ["a.com", "*.a.com", "", "127.0.0.1", "[::1]", "localhost", "a.com.", "xn--a_b"])
def test_a_host_that_can_be_asked_for(pattern: str) -> None:
    Stario(NoopTracer()).host(pattern, Router())


@pytest.mark.parametrize(
    "pattern", ["a.com:80", "foo.*.com", "*.", "*com", "**.a.com", "http://a.com", "a.com/x", "::1", "a b", "u@a.com"]
)
def test_a_host_that_nobody_can_ask_for_is_refused(pattern: str) -> None:
    with pytest.raises(StarioError, match="can never match") as caught:
        Stario(NoopTracer()).host(pattern, Router())
    assert "without scheme, port or path" in str(caught.value)


# The door to the server


def settings(server: Server) -> dict[str, object]:
    return {field.name: getattr(server, field.name) for field in fields(server) if field.init}


async def test_serve_passes_each_setting_on(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Server] = []

    async def run(server: Server, *, task_status: object) -> None:
        assert task_status is status
        served.append(server)

    monkeypatch.setattr(Server, "run", run)
    app = Stario(NoopTracer())
    limits = Limits(keep_alive=7)
    status: Any = object()
    await app.serve("::1", 80, 2.5, 1, None, 7, cleanup_timeout=1.5, limits=limits, task_status=status)
    await app.serve(unix_socket="/run/app.sock", task_status=status)
    assert [settings(server) for server in served] == [
        settings(Server(app, "::1", 80, graceful_timeout=2.5, backlog=7, cleanup_timeout=1.5, limits=limits)),
        settings(Server(app, unix_socket="/run/app.sock")),
    ]


async def test_an_app_serves_around_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def running(server: Server) -> AsyncGenerator[None]:
        states.append("running")
        yield
        states.append("stopped")

    states: list[str] = []
    monkeypatch.setattr(Server, "running", running)
    app = Stario(NoopTracer())
    async with app.serving("::1", 80, graceful_timeout=2.5) as server:
        assert settings(server) == settings(Server(app, "::1", 80, graceful_timeout=2.5))
        assert states == ["running"]
    assert states == ["running", "stopped"]


async def test_serve_refuses_a_bad_setting() -> None:
    with pytest.raises(StarioError, match="Invalid port"):
        await Stario(NoopTracer()).serve(port=-1)


# In a worker: what the peer sees on the wire


@pytest.mark.upstream_bug(8)
@pytest.mark.spec("SD-11")
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_peer_can_tell_a_cut_response(version: str, autojump_clock: MockClock) -> None:
    async with stage(("/", raising(LookupError(), lambda w: w.write(b"half")))) as it:
        client = it.connect(request("/", version=version))
        received = await client.read_to_end()
        assert b"half" in received
        assert client.reset is (version == "1.0")  # what ends with the connection needs a reset to be told apart
        assert version == "1.0" or not Response(received, closed=True).complete


@pytest.mark.spec("SD-12")
async def test_a_handler_that_is_cancelled_by_the_stop_answers_nothing(autojump_clock: MockClock) -> None:
    spans = Spans()

    async def handler(c: Context, w: Writer) -> None:
        await trio.sleep_forever()

    async with stage(("/", handler), tracer=spans, graceful_timeout=3) as it:
        client = it.get()
        await trio.testing.wait_all_tasks_blocked()
        it.stop()
        assert await client.read_to_end() == b""
        assert it.now == 3
    [span] = spans.roots
    assert (span.ok, span.finished, span["response.status_code"]) == (True, True, None)


@pytest.mark.spec("SD-03", "SD-07", "SD-08")
async def test_a_handler_hears_of_the_stop_and_writes_its_last_words(autojump_clock: MockClock) -> None:
    async def handler(c: Context, w: Writer) -> None:
        async with w.alive():
            await trio.sleep_forever()
        assert w.shutting_down
        await trio.sleep(1)
        w.text("last words")

    async with stage(("/", handler), graceful_timeout=3) as it:
        client = it.get()
        await trio.testing.wait_all_tasks_blocked()
        it.stop()
        response = Response(await client.read_to_end())
        assert it.now == 1
    assert (response.text, response.headers["connection"]) == ("last words", "close")


async def test_whoever_asks_is_told_of_the_errors_nobody_has_handled() -> None:
    app, told = Stario(NoopTracer()), list[BaseException]()

    async def broken(c: Context, w: Writer) -> None:
        raise errors.pop(0)

    app.on_error(KeyError, lambda _c, w, _exc: w.text("handled"))
    app.get("/", broken)
    handled: list[BaseException] = [KeyError(), HttpException(404), ClientDisconnected()]
    unhandled: list[BaseException] = [ValueError(), asyncio.CancelledError()]
    errors = [*handled, *unhandled]
    for _ in range(5):
        peer = FakePeer()
        await app.handle_request(peer.request(), peer.writer(), on_failure=told.append)
    assert told == unhandled
