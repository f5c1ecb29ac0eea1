"""A program that was written for Stario, with `stario` replaced by `stario_trio`: imports, handlers and their tests.

Nothing here is shaped for this package. Where it had to be, a comment says so.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict

import pytest

import stario_trio
from stario_trio import (
    ClientDisconnected,
    CompressionConfig,
    Context,
    Event,
    Handler,
    HttpException,
    JsonTracer,
    Link,
    Middleware,
    Relay,
    Request,
    ResponseRecorder,
    RichTracer,
    Router,
    Span,
    Stario,
    StarioError,
    StaticAssets,
    TestRequest,
    Tracer,
    Writer,
    asset,
)
from stario_trio.datastar import FileSignal, get_signals, js, parse_signals, s, sse
from stario_trio.datastar.format import SignalData, SignalValue, signal_to_dict
from stario_trio.datastar.parse import FieldInfo, _coerce
from stario_trio.datastar.signals import SignalsDict
from stario_trio.http import Stario as StarioOfHttp
from stario_trio.http.app import Server
from stario_trio.http.headers import HEADER_LOOKUP, VALUE_LOOKUP, Headers, encode_value
from stario_trio.http.query import QueryParams
from stario_trio.http.request import BodyReader
from stario_trio.http.router import Router as RouterOfHttp
from stario_trio.http.router import _normalize_path
from stario_trio.http.staticassets import CONTENT_TYPES, CachedFile, _collections, fingerprint
from stario_trio.http.types import ErrorHandler
from stario_trio.http.writer import Compressor
from stario_trio.relay import Msg, _matching_patterns
from stario_trio.telemetry.core import Span as SpanOfCore
from stario_trio.telemetry.json import JsonTracer as JsonTracerOfJson
from stario_trio.testing import SSERecorder

if TYPE_CHECKING:
    from pathlib import Path

#: `stario.__all__`, but for `at` and `data`.
AT_THE_TOP = [
    *("Stario", "Router", "Request", "Writer", "CompressionConfig", "Context", "Handler", "Middleware"),
    *("StaticAssets", "asset", "Relay", "Tracer", "Span", "Event", "Link", "RichTracer", "JsonTracer"),
    *("HttpException", "ClientDisconnected", "StarioError", "TestRequest", "ResponseRecorder"),
]
#: What is there besides.
OURS = ["ErrorHandler", "Limits", "NoopTracer", "Server", "to_asyncio"]
MODULES = [
    "exceptions",
    "relay",
    "testing",
    "http",
    "http.app",
    "http.router",
    "http.types",
    "http.request",
    "http.headers",
    "http.query",
    "http.writer",
    "http.staticassets",
    "datastar",
    "datastar.sse",
    "datastar.format",
    "datastar.parse",
    "datastar.signals",
    "telemetry",
    "telemetry.core",
    "telemetry.json",
    "telemetry.rich",
]

# The imports


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_at_its_path(module: str) -> None:
    importlib.import_module(f"stario_trio.{module}")


def test_the_names_at_the_top() -> None:
    assert sorted(stario_trio.__all__) == sorted(AT_THE_TOP + OURS)
    assert stario_trio.__version__


def test_a_star_import_brings_them_all() -> None:
    namespace: dict[str, Any] = {}
    exec("from stario_trio import *", namespace)
    assert set(stario_trio.__all__) <= set(namespace)


def test_a_name_is_the_same_wherever_it_comes_from() -> None:
    assert StarioOfHttp is Stario
    assert RouterOfHttp is Router
    assert SpanOfCore is Span
    assert JsonTracerOfJson is JsonTracer
    assert len({Event, Link, Server, Compressor, CachedFile, SSERecorder, FieldInfo, BodyReader, Headers}) == 9
    assert all((Handler, Middleware, ErrorHandler, Msg, SignalData, SignalValue, SignalsDict, FileSignal))
    assert (fingerprint, asset, js, s) == (fingerprint, asset, stario_trio.datastar.js, stario_trio.datastar.s)
    assert issubclass(HttpException, Exception)
    assert issubclass(ClientDisconnected, Exception)


# The program

relay: Relay[str] = Relay()


async def home(c: Context, w: Writer) -> None:
    name = c.req.query.get("name", "World")
    w.headers.set("X-Page", "home")
    w.cookie("seen", "yes", max_age=60, httponly=True)
    w.text(f"Hello, {name}")


async def item(c: Context, w: Writer) -> None:
    if c.req.tail == "missing":
        raise HttpException(404, "no such item")
    w.json({"item": c.req.tail, "by": c.state.get("user")})


@dataclass
class Form:
    title: str
    count: int = 1


async def save(c: Context, w: Writer) -> None:
    form = await c.signals(Form)
    with c.step("save", {"title": form.title}) as step:
        step["count"] = form.count
        c("saved")
    relay.publish("items.saved", form.title)
    w.sync({"saved": True})
    w.patch("<b>not safe</b>", selector="#list", mode="append")
    w.execute("console.log(1)")
    w.navigate("/")
    w.remove("#form")


async def stream(_c: Context, w: Writer) -> None:
    async for _ in w.alive():
        w.sync({"tick": 1})
        break


def as_user(user: str) -> Middleware:
    def middleware(handler: Handler) -> Handler:
        async def wrapped(c: Context, w: Writer) -> None:
            c.state["user"] = user
            await handler(c, w)

        return wrapped

    return middleware


class Tracing(list[Span]):
    """A tracer of the program's own."""

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        if span.finished and span not in self:
            self.append(span)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def make_app(tracer: Tracer) -> Stario:
    app = Stario(tracer, CompressionConfig(min_size=10_000))
    app.use(as_user("ada"))
    app.get("/", home)
    items = Router()
    items.get("/*", item)
    items.post("/", save)
    app.mount("/items", items)
    app.get("/stream", stream)
    app.on_error(KeyError, lambda _c, w, exc: w.text(f"lost {exc}", 410))
    return app


def context(app: Stario, request: Request) -> Context:
    return Context(app=app, req=request, span=app.tracer("test"), state={})


# Its tests


async def ask(request: Request) -> ResponseRecorder:
    app = make_app(Tracing())
    w = ResponseRecorder()
    await app.dispatch(context(app, request), w)
    return w


async def test_a_page() -> None:
    w = await ask(TestRequest(query={"name": "Ada"}))
    w.assert_status(200)
    w.assert_header("x-page", "home")
    assert w.text_body() == "Hello, Ada"
    assert w.headers["set-cookie"] == "seen=yes; HttpOnly; Max-Age=60; Path=/; SameSite=lax"
    assert w.headers["content-type"] == "text/plain; charset=utf-8"


async def test_json_and_middleware() -> None:
    w = await ask(TestRequest("GET", "/items/7"))
    w.assert_json({"item": "7", "by": "ada"})


async def test_an_exception_is_for_the_app() -> None:
    with pytest.raises(HttpException) as caught:
        await ask(TestRequest("GET", "/items/missing"))
    assert (caught.value.status_code, caught.value.detail) == (404, "no such item")


async def test_events_in_their_order_and_as_given() -> None:
    body = json.dumps({"title": "tea", "count": "3", "unknown": 1}).encode()
    w = await ask(TestRequest("POST", "/items", body=body))
    kinds = [event["type"] for event in w.datastar_events]
    assert kinds == ["sync", "patch", "script", "navigate", "remove"]
    assert w.datastar_events[0]["data"] == {"saved": True}
    assert w.datastar_events[1]["mode"] == "append"
    assert w.datastar_events[3]["url"] == "/"
    w.assert_header("content-type", "text/event-stream")


async def test_a_stream_and_its_end() -> None:
    w = await ask(TestRequest("GET", "/stream"))
    assert [event["data"] for event in w.datastar_events] == [{"tick": 1}]


async def test_what_is_not_there() -> None:
    assert (await ask(TestRequest("GET", "/nowhere"))).status_code == 404
    w = await ask(TestRequest("PUT", "/"))
    w.assert_status(405)
    w.assert_header("allow", "GET")


async def test_spans_and_the_whole_app() -> None:
    tracer = Tracing()
    app = make_app(tracer)
    w = ResponseRecorder()
    await app.handle_request(TestRequest("POST", "/items", body=b'{"title": "tea"}'), w)
    step, request = tracer
    assert (step.name, step.parent_id) == ("save", request.id)
    assert request.attributes["request.path"] == "/items"
    assert request.attributes["response.status_code"] == 200
    assert [event.name for event in step.events] == ["saved"]


async def test_an_error_handler_of_its_own() -> None:
    async def lose(_c: Context, _w: Writer) -> None:
        raise KeyError("key")

    app = make_app(Tracing())
    app.get("/lose", lose)
    w = ResponseRecorder()
    await app.handle_request(TestRequest("GET", "/lose"), w)
    assert (w.status_code, w.text_body()) == (410, "lost 'key'")


async def test_signals_without_a_context() -> None:
    class Search(TypedDict):
        text: str

    request = TestRequest("GET", "/", query={"datastar": json.dumps({"text": 5, "more": 1})})
    signals = await get_signals(request)
    assert signals == {"text": 5, "more": 1}
    assert parse_signals(signals, Search) == {"text": "5"}


def test_events_as_bytes() -> None:
    assert sse.signals({"a": 1}) == b'event: datastar-patch-signals\ndata: signals {"a":1}\n\n'
    # In Stario the mode comes before the selector; the official SDKs have it the other way round.
    assert sse.remove("#a") == b"event: datastar-patch-elements\ndata: selector #a\ndata: mode remove\n\n"
    assert js({"a": 1, "b": None}) == "{'a':1,'b':null}"
    assert s("it's") == r"'it\'s'"
    assert signal_to_dict(Form("tea")) == {"title": "tea", "count": 1}


def test_headers_and_queries() -> None:
    headers = Headers().add("Accept", "text/html").add("accept", b"*/*")
    assert headers.getlist("ACCEPT") == ["text/html", "*/*"]
    assert headers.setdefault("x", "y") == "y"
    assert HEADER_LOOKUP["Content-Type"] == b"content-type"
    assert VALUE_LOOKUP["gzip"] == encode_value("gzip") == b"gzip"
    with pytest.raises(ValueError, match="Invalid header name"):
        headers.set("a b", "c")
    assert QueryParams(b"a=1&a=2") == {"a": ["1", "2"]}


def test_routes() -> None:
    router = Router()
    assert router.empty
    router.get("/a", home)
    with pytest.raises(StarioError, match="Route already registered"):
        router.get("a/", home)
    with pytest.raises(StarioError, match="Middleware must be registered before routes"):
        router.use(as_user("x"))


async def test_messages() -> None:
    async with relay.subscribe("items.*") as messages:  # in Stario: registered by the first `anext`
        relay.publish("items.saved", "tea")
        assert await anext(aiter(messages)) == ("items.saved", "tea")


def test_static_files(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("p {}")
    static = StaticAssets(tmp_path, collection="as-a-user")
    hashed = fingerprint(tmp_path / "style.css")
    assert static.url("style.css") == asset("style.css", "as-a-user") == f"style.{hashed}.css"
    assert CONTENT_TYPES[".css"] == b"text/css; charset=utf-8"
    with pytest.raises(StarioError, match="not found"):
        static.url("none.css")
    with pytest.raises(KeyError, match="not registered"):
        asset("style.css", "nowhere")
    with pytest.raises(StarioError, match="not found"):
        StaticAssets(tmp_path / "nowhere")


def test_tracers(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonTracer() as tracer:
        span = tracer("work")
        span.link(span.step("part", {"n": 1}))
        span.end()
    assert json.loads(capsys.readouterr().out)["name"] == "work"
    with RichTracer() as rich:
        rich("shown").end()
    assert "shown" in capsys.readouterr().out


def test_a_server_is_made_of_its_settings() -> None:
    server = Server(make_app(Tracing()), "127.0.0.1", 0, 1, 0.5, 100, None)
    assert (server.port, server.workers, server.graceful_timeout, server.backlog) == (0, 1, 0.5, 100)


def test_what_the_tests_of_stario_itself_reach_for(tmp_path: Path) -> None:
    patterns = _matching_patterns("a.b.c")
    assert (patterns[0], patterns[-1]) == ("a.b.c", "*")
    assert "a.b.*" in patterns
    assert "a.*" not in Relay[Any]()._subs
    assert _normalize_path("//a/") == "/a"
    router = Router()
    router.get("/a", home)
    router.get("/files/*", home)
    router.get("/files/deep/*", home)
    assert router._exact == {"/a": {"GET": home}}
    assert [prefix for prefix, *_ in router._catchall] == ["/files/deep", "/files"]
    assert _coerce("42", int) == 42
    (tmp_path / "a.css").write_text("p {}")
    static = StaticAssets(tmp_path, collection="reached")
    assert _collections["reached"] is static
    assert static._path_to_hash["a.css"] == static.url("a.css")
    assert isinstance(static._cache[static.url("a.css")], CachedFile)
