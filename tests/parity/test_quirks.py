"""What is odd in Stario 2.2.1 but meant, or harmless, is as it was; and so is what it does by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from stario_trio import Context, Handler, Limits, Router, Stario, StaticAssets, Writer, asset
from stario_trio.datastar import parse_signals
from stario_trio.telemetry import NoopTracer, Span
from stario_trio.testing import ResponseRecorder, TestClient, TestRequest
from stario_trio.testing.tracer import RecordingTracer

if TYPE_CHECKING:
    from pathlib import Path


async def nothing(_c: Context, _w: Writer) -> None:
    """A handler that writes nothing."""


async def hello(_c: Context, w: Writer) -> None:
    w.text("hello")


async def ask(app: Stario, path: str = "/", method: str = "GET", **options: Any) -> Any:
    async with TestClient(app) as client:
        return await client.request(method, path, **options)


def new_app(path: str = "/", handler: Handler = hello) -> Stario:
    app = Stario(NoopTracer())
    app.get(path, handler)
    return app


def test_plain_text_is_escaped_as_html() -> None:
    w = ResponseRecorder()
    w.html('<b>"it\'s"</b>')
    assert w.text_body() == "&lt;b&gt;&quot;it&#x27;s&quot;&lt;/b&gt;"


async def test_head_and_options_are_not_derived_from_get() -> None:
    for method in ("HEAD", "OPTIONS"):
        response = await ask(new_app(), method=method)
        assert (response.status_code, response.headers["allow"]) == (405, "GET")


async def test_what_matches_decides_alone_even_when_it_lacks_the_method() -> None:
    app = new_app("/files/known")
    app.post("/files/*", hello)
    app.put("/files/deep/*", hello)
    assert (await ask(app, "/files/known", "POST")).status_code == 405
    assert (await ask(app, "/files/deep/x", "POST")).status_code == 405
    assert (await ask(app, "/files/x", "POST")).status_code == 200


async def test_host_routers_are_final_and_outside_of_middleware_as_are_404_and_405() -> None:
    passed: list[str] = []

    def note(handler: Handler) -> Handler:
        async def wrapped(c: Context, w: Writer) -> None:
            passed.append(c.req.host)
            await handler(c, w)

        return wrapped

    app = Stario(NoopTracer())
    app.use(note)
    app.get("/", hello)
    app.host("other.example", Router())
    assert (await ask(app, headers={"host": "other.example"})).status_code == 404
    assert (await ask(app, "/nowhere")).status_code == 404
    assert (await ask(app, method="POST")).status_code == 405
    assert passed == []
    await ask(app, headers={"host": "mine.example"})
    assert passed == ["mine.example"]


async def test_a_handler_that_writes_nothing_answers_204() -> None:
    assert (await ask(new_app(handler=nothing))).status_code == 204


def test_writing_to_a_peer_that_has_left_is_harmless() -> None:
    w = ResponseRecorder()
    w.write(b"one")
    w.disconnect.set()
    w.write(b"two").sync({"a": 1})
    w.end()


def test_an_attribute_that_a_span_lacks_is_none() -> None:
    span: Span = RecordingTracer()("work")
    assert span["absent"] is None
    with pytest.raises(KeyError):
        del span["absent"]


def test_a_one_shot_decides_its_content_type() -> None:
    w = ResponseRecorder()
    w.headers.set("content-type", "text/csv")
    w.json({})
    w.assert_header("content-type", "application/json; charset=utf-8")


def test_signals_that_do_not_fit_stay_as_they_came() -> None:
    @dataclass
    class Form:
        count: int
        share: float = 0.5

    form: Any = parse_signals({"count": "many", "share": "some"}, Form)
    assert (form.count, form.share) == ("many", "some")


async def test_static_files_are_named_without_their_mount_and_found_by_a_redirect(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("p {}")
    app = Stario(NoopTracer())
    static: StaticAssets = app.assets("/static", tmp_path, collection="quirks")
    assert asset("a.css", "quirks") == static.url("a.css")
    assert "/" not in static.url("a.css")
    response = await ask(app, "/static/a.css")
    assert response.status_code == 307
    assert response.headers["location"].endswith(static.url("a.css"))
    assert (await ask(app, f"/static/{static.url('a.css')}")).text == "p {}"


async def test_mount_copies_what_is_there() -> None:
    child = Router()
    child.get("/early", hello)
    app = Stario(NoopTracer())
    app.mount("/child", child)
    child.get("/late", hello)
    assert (await ask(app, "/child/early")).status_code == 200
    assert (await ask(app, "/child/late")).status_code == 404


def test_redirects_are_307_and_cookies_lax() -> None:
    w = ResponseRecorder()
    w.cookie("a", "b")
    w.redirect("/é x")
    assert (w.status_code, w.headers["location"]) == (307, "/%C3%A9%20x")
    assert w.headers["set-cookie"] == "a=b; Path=/; SameSite=lax"


def test_the_times_and_sizes_are_those_of_stario() -> None:
    limits = Limits()
    assert (limits.keep_alive, limits.body_timeout, limits.body_bytes) == (5.0, 30.0, 10 * 1024 * 1024)


async def test_a_request_without_a_body() -> None:
    request = TestRequest("POST")
    assert [piece async for piece in request.stream()] == [b""]
    assert await request.body() == b""


async def test_the_answers_of_the_router_to_the_letter() -> None:
    missing = await ask(new_app(), "/missing")
    assert (missing.text, missing.headers["content-type"]) == ("Not Found", "text/plain; charset=utf-8")
    assert (await ask(new_app(), method="PUT")).text == "Method Not Allowed"
