"""The recorder: Stario's names on top, the real writer below."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import htpy
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import stario_trio
from stario_trio import Context, HttpException, Relay, Stario, StarioError, Writer
from stario_trio.server.tree import task_tree
from stario_trio.testing import RecordingTracer, ResponseRecorder, TestContext, TestRequest
from tests.support.peer import DATE, FakePeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

bug = pytest.mark.upstream_bug


# It is a Writer


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


@pytest.mark.upstream_bug(66)
@bug(66)
def test_it_has_every_member_of_a_writer() -> None:
    assert public(Writer) - public(ResponseRecorder) == set()
    assert issubclass(ResponseRecorder, Writer)


@pytest.mark.upstream_bug(66)
@bug(66)
@pytest.mark.parametrize("name", sorted(name for name in public(Writer) if inspect.isfunction(getattr(Writer, name))))
def test_a_method_takes_what_the_writers_takes(name: str) -> None:
    """The same parameters in the same places with the same defaults; what comes on top has a default too."""
    if name == "alive":  # a property, whose value is called
        return
    theirs = inspect.signature(getattr(Writer, name)).parameters
    ours = inspect.signature(getattr(ResponseRecorder, name)).parameters
    takes_more = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in ours.values())
    for parameter in theirs.values():
        if parameter.name not in ours:
            assert takes_more
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        elif parameter.default is not inspect.Parameter.empty:
            assert ours[parameter.name].default == parameter.default
    places = [each.name for each in theirs.values() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert list(ours)[: len(places)] == places
    for parameter in [each for each in ours.values() if each.name not in theirs]:
        assert parameter.default is not inspect.Parameter.empty or parameter.kind is inspect.Parameter.VAR_KEYWORD


calls = st.one_of(
    st.tuples(st.just("write"), st.tuples(st.binary(max_size=5) | st.just("text"))),
    st.tuples(st.just("end"), st.tuples() | st.tuples(st.binary(max_size=5) | st.none())),
    st.tuples(st.just("write_headers"), st.tuples(st.sampled_from([200, 204, 304, 404, 99]))),
    st.tuples(st.just("text"), st.tuples(st.text(max_size=3), st.sampled_from([200, 204, 500, 1000]))),
    st.tuples(st.just("html"), st.tuples(st.sampled_from(["<b>", htpy.p["x"], object()]))),
    st.tuples(st.just("json"), st.tuples(st.sampled_from([{"a": 1}, [1], float("nan"), object()]))),
    st.tuples(st.just("respond"), st.tuples(st.binary(max_size=5), st.sampled_from([b"image/png", b"a\nb"]))),
    st.tuples(st.just("redirect"), st.tuples(st.sampled_from(["/x", "/é x\r\n"]))),
    st.tuples(st.just("empty"), st.tuples() | st.tuples(st.sampled_from([204, 205]))),
    st.tuples(st.just("patch"), st.tuples(st.sampled_from(["<p>", htpy.p(id="x"), b"no"]))),
    st.tuples(st.just("sync"), st.tuples(st.sampled_from([{"n": 1}, {"n": float("inf")}, 5]))),
    st.tuples(st.just("navigate"), st.tuples(st.just("/next"))),
    st.tuples(st.just("execute"), st.tuples(st.just("alert('</script>')"))),
    st.tuples(st.just("remove"), st.tuples(st.sampled_from(["#x", "#x\n"]))),
    st.tuples(st.just("cookie"), st.tuples(st.sampled_from(["a", "b", "a b"]), st.just("v"))),
    st.tuples(st.just("delete_cookie"), st.tuples(st.just("a"))),
    st.tuples(st.just("abort"), st.tuples()),
    st.tuples(
        st.sampled_from(["headers.set", "headers.add"]),
        st.tuples(
            st.sampled_from(["X-A", "vary", "content-type", "content-length", "connection", "bad name"]),
            st.sampled_from(["1", "3", "close", "Cookie", "\r\n"]),
        ),
    ),
    st.tuples(st.just("headers.remove"), st.tuples(st.sampled_from(["x-a", "content-length"]))),
    st.tuples(st.just("headers.clear"), st.tuples()),
)


def outcome(w: Writer, name: str, args: tuple[Any, ...]) -> Any:
    target: Any = w
    for part in name.split("."):
        target = getattr(target, part)
    try:
        target(*args)
    except Exception as exc:  # the words may be Stario's
        return type(exc)
    return None


@bug(66)
@given(st.lists(calls, max_size=6))
def test_it_does_what_a_writer_does(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    peer = FakePeer()
    writer, recorder = peer.writer(), ResponseRecorder()
    for name, args in steps:
        assert outcome(recorder, name, args) is outcome(writer, name, args), name
        assert recorder.sent == bytes(peer.sent)
        assert recorder.started is writer.started
        assert recorder.completed is recorder.closed is writer.completed
        assert recorder.keep_alive is writer.keep_alive
        assert recorder.aborted is peer.aborted
        if writer.started:
            assert recorder.status_code == writer.status_code
        else:
            assert recorder.status_code == 200
            assert recorder.headers.field_lines() == writer.headers.field_lines()


async def real_handler(c: Context, w: Writer) -> None:
    """Whatever a handler may use of a writer."""
    w.headers.set("x-a", "1").add("x-a", "2")
    w.cookie("session", "abc", httponly=True).cookie("theme", "dark")
    assert (w.started, w.completed, w.shutting_down, w.disconnected) == (False, False, False, False)
    async for tick in w.alive():
        w.execute(f"tick({tick!r})")
        w.patch(htpy.p(id="n")["1"])
        await w.drain()
        break
    async for subject, data in w.alive(c.app.relay.subscribe("news")):  # type: ignore[attr-defined]
        w.sync({subject: data})
        break
    async with w.alive():
        w.remove("#n")
        await trio.sleep_forever()
    w.navigate("/bye")
    assert (w.started, w.status_code) == (True, 200)
    w.end()


@pytest.mark.upstream_bug(66)
@bug(66)
async def test_a_real_handler_runs_on_it(autojump_clock: object) -> None:
    app = Stario(RecordingTracer())
    app.relay = Relay[int]()  # type: ignore[attr-defined]
    w = ResponseRecorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(real_handler, TestContext(app=app), w)
        await wait_all_tasks_blocked()
        app.relay.publish("news", 7)  # type: ignore[attr-defined]
        await wait_all_tasks_blocked()
        w.disconnect.set()
    assert w.disconnected
    assert [event["type"] for event in w.datastar_events] == ["script", "patch", "sync", "remove", "navigate"]
    assert w.headers.getlist("x-a") == ["1", "2"]
    assert [value.split(";")[0] for value in w.headers.getlist("set-cookie")] == ["session=abc", "theme=dark"]
    assert w.text_body().count("event: ") == 5
    assert w.closed


async def test_a_whole_request_runs_on_it() -> None:
    """The app too takes it for a writer: routing, error handlers, the end."""
    tracer = RecordingTracer()
    app = Stario(tracer)

    async def teapot(_c: Context, w: Writer) -> None:
        w.headers.set("x-kept", "yes").set("content-language", "tea")
        raise HttpException(418, "short and stout")

    async def broken(_c: Context, w: Writer) -> None:
        w.headers.set("x-lost", "yes")
        raise KeyError("milk")

    async def nothing(_c: Context, _w: Writer) -> None: ...

    app.get("/teapot", teapot)
    app.get("/broken", broken)
    app.get("/nothing", nothing)
    w = ResponseRecorder()
    await app.handle_request(TestRequest(path="/teapot"), w)
    w.assert_status(418)
    assert (w.text_body(), w.headers["x-kept"]) == ("short and stout", "yes")
    assert "content-language" not in w.headers
    w = ResponseRecorder()
    await app.handle_request(TestRequest(path="/broken"), w)
    w.assert_status(500)
    assert "x-lost" not in w.headers
    w = ResponseRecorder()
    await app.handle_request(TestRequest(path="/nothing"), w)
    w.assert_status(204)
    assert [span.ok for span in tracer.spans] == [True, False, True]


# Without an event loop


def test_it_needs_no_event_loop() -> None:
    w = ResponseRecorder()
    assert (w.status_code, w.headers, w.body, w.sse_events, w.datastar_events) == (200, {}, bytearray(), [], [])
    assert (w.started, w.closed, w.disconnected) == (False, False, False)
    w.disconnect.set()
    assert w.disconnected
    w.shutdown.set()
    assert w.shutting_down


# One-shot responses


def test_one_shot_responses() -> None:
    w = ResponseRecorder()
    w.json({"é": [1]}, 201, {"X-Token": "t"})
    assert (w.status_code, w.started, w.closed) == (201, True, True)
    assert w.headers == {"x-token": "t", "content-type": "application/json; charset=utf-8"}
    assert w.body == '{"é":[1]}'.encode()
    w.assert_json({"é": [1]})

    w = ResponseRecorder()
    w.html("<b>", 202, {"x-a": "1"})
    assert (w.status_code, w.text_body(), w.headers["x-a"]) == (202, "&lt;b&gt;", "1")

    w = ResponseRecorder()
    w.text("plain", headers={"x-a": "1"})
    w.assert_header("Content-Type", "text/plain; charset=utf-8")

    w = ResponseRecorder()
    w.text("a,b", 206, {"x-a": "1"}, "text/csv")
    assert (w.status_code, w.headers["content-type"], w.headers["x-a"], w.text_body()) == (206, "text/csv", "1", "a,b")

    for content_type in (b"image/png", "image/png"):
        w = ResponseRecorder()
        w.respond(b"\x89PNG", content_type, 201, {"x-a": "1"})
        assert (w.status_code, bytes(w.body)) == (201, b"\x89PNG")
        assert w.headers == {"content-type": "image/png", "x-a": "1"}

    w = ResponseRecorder()
    w.redirect("/é", 303, {"x-a": "1"})
    assert (w.status_code, w.headers) == (303, {"location": "/%C3%A9", "x-a": "1"})

    w = ResponseRecorder()
    w.empty(304, {"etag": '"1"'})
    assert (w.status_code, w.headers["etag"], bytes(w.body)) == (304, '"1"', b"")


def test_the_headers_are_those_the_peer_got() -> None:
    """A content type set before a one-shot is overwritten, as the server does; Stario's recorder kept it."""
    w = ResponseRecorder()
    w.header("content-type", "application/xml").text("x")
    assert w.headers == {"content-type": "text/plain; charset=utf-8"}
    assert f"date: {DATE}".encode() in w.sent

    w = ResponseRecorder()
    w.headers.set("content-length", "3").set("date", "mine")
    w.write_headers(200).write(b"abc")
    assert w.headers == {"content-length": "3", "date": DATE}
    assert w.sent.endswith(b"\r\n\r\nabc")


def test_a_failing_one_shot_leaves_it_open() -> None:
    w = ResponseRecorder()
    with pytest.raises(TypeError):
        w.json(object())
    assert (w.started, w.sent) == (False, b"")
    w.text("instead")
    assert w.text_body() == "instead"


# Stario's words


def started_by(*calls: Callable[[ResponseRecorder], object]) -> ResponseRecorder:
    w = ResponseRecorder()
    for call in calls:
        call(w)
    return w


ONE_SHOTS: list[Callable[[ResponseRecorder], object]] = [
    lambda w: w.text(""),
    lambda w: w.html(""),
    lambda w: w.json(1),
    lambda w: w.respond(b"", b"a/b"),
    lambda w: w.redirect("/"),
    lambda w: w.empty(),
]
EVENTS: list[Callable[[ResponseRecorder], object]] = [
    lambda w: w.patch("x"),
    lambda w: w.sync({}),
    lambda w: w.navigate("/"),
    lambda w: w.execute("1"),
    lambda w: w.script("1"),
    lambda w: w.remove("#x"),
    lambda w: w.retry(5),
    lambda w: w.comment(),
]

SSE_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "connection": "keep-alive"}


@pytest.mark.parametrize("first", [*ONE_SHOTS, *EVENTS, lambda w: w.write(b"x"), lambda w: w.close()])
def test_what_comes_after_the_start(first: Callable[[ResponseRecorder], object]) -> None:
    w = started_by(first)
    assert w.started
    with pytest.raises(RuntimeError, match="Cannot set status after response started"):
        w.status(201)
    with pytest.raises(RuntimeError, match="Cannot set headers after response started"):
        w.header("x-a", "1")
    with pytest.raises(RuntimeError, match=r"[Rr]esponse already started"):
        w.cookie("a", "b")
    with pytest.raises(RuntimeError, match="The head of the response is sent"):
        w.headers["x-a"] = "1"
    assert "x-a" not in w.headers


@pytest.mark.parametrize("second", ONE_SHOTS)
def test_a_one_shot_that_comes_second(second: Callable[[ResponseRecorder], object]) -> None:
    for first in (*ONE_SHOTS, lambda w: w.write(b"x"), lambda w: w.close()):
        with pytest.raises(RuntimeError, match="Response already started"):
            second(started_by(first))
    for first in EVENTS:
        with pytest.raises(RuntimeError, match="Cannot send one-shot response after SSE streaming started"):
            second(started_by(first))


@pytest.mark.parametrize("second", EVENTS)
def test_an_event_that_comes_second(second: Callable[[ResponseRecorder], object]) -> None:
    for first in ONE_SHOTS:
        w = started_by(first)
        with pytest.raises(RuntimeError, match="Cannot stream after one-shot response started"):
            second(w)
        assert (w.datastar_events, w.sse_events) == ([], [])
    for first in EVENTS:
        second(started_by(first))
    second(started_by(lambda w: w.write(b"not an event")))  # as the writer does


def test_writing_to_a_closed_response() -> None:
    firsts: list[Callable[[ResponseRecorder], object]] = [
        *ONE_SHOTS,
        lambda w: w.write(b"x").end(),
        lambda w: w.close(),
    ]
    for first in firsts:
        with pytest.raises(RuntimeError, match="Response already closed"):
            started_by(first).write(b"y")


def test_the_chosen_status() -> None:
    w = started_by(lambda w: w.status(201).write(b"a").write(b"b"), lambda w: w.close())
    assert (w.status_code, bytes(w.body), w.closed) == (201, b"ab", True)
    w = started_by(lambda w: w.status(202).end(b"abc"))
    assert (w.status_code, bytes(w.body), w.closed) == (202, b"abc", True)
    w = started_by(lambda w: w.status(404).close())
    assert (w.status_code, bytes(w.body), w.closed) == (404, b"", True)
    assert started_by(lambda w: w.status(201)).status_code == 201
    assert started_by(lambda w: w.status(404).text("a one-shot has its own")).status_code == 200
    for event in EVENTS:
        w = started_by(lambda w: w.status(404), event)
        assert w.status_code == 404
        assert w.sent.startswith(b"HTTP/1.1 404 ")
        assert w.headers == SSE_HEADERS
    w = started_by(lambda w: w.status(404))
    with w.sse() as sse:
        sse.send("x")
    assert (w.status_code, w.text_body()) == (404, "data: x\n\n")
    w = started_by(lambda w: w.status(404))
    with pytest.raises(StarioError):
        w.remove("#x\n")
    assert (w.started, w.status_code) == (False, 404)
    assert started_by(lambda w: w.close()).status_code == 204


def test_checks_say_what_they_got() -> None:
    w = started_by(lambda w: w.json([1], 201))
    w.assert_status(201)
    w.assert_json([1])
    w.assert_header("content-type", "application/json; charset=utf-8")
    checks: list[tuple[Callable[[], None], str]] = [
        (lambda: w.assert_status(200), "Expected 200, got 201"),
        (lambda: w.assert_json([2]), "Expected [2], got [1]"),
        (lambda: w.assert_header("x-a", "1"), "Expected x-a=1, got x-a=None"),
    ]
    for check, words in checks:
        with pytest.raises(AssertionError, match=f"^{re.escape(words)}$"):
            check()


# Cookies


@pytest.mark.upstream_bug(66)
def test_cookies() -> None:
    w = ResponseRecorder()
    assert w.cookie("empty").cookie("a", "1", path=None, samesite=None, max_age=60) is w
    w.delete_cookie("gone", path=None).delete_cookie("old", domain="e.com")
    assert [value.replace(" ", "") for value in w.headers.getlist("set-cookie")] == [
        'empty="";Path=/;SameSite=lax',
        "a=1;Max-Age=60",
        'gone="";expires=Thu,01Jan197000:00:00GMT;Max-Age=0;SameSite=lax',
        'old="";Domain=e.com;expires=Thu,01Jan197000:00:00GMT;Max-Age=0;Path=/;SameSite=lax',
    ]


# Events


def test_datastar_events_are_kept_as_they_were_given() -> None:
    w = ResponseRecorder()
    element, data = htpy.p(id="x"), {"n": 1}
    w.patch(element, mode="inner", selector="#x", use_view_transition=True)
    w.patch("text")
    w.sync(data, only_if_missing=True, event_id="7")
    w.navigate("/next")
    w.execute("a()", auto_remove=False)
    w.script("b()")
    w.remove("#x")
    assert w.datastar_events == [
        {"type": "patch", "element": element, "mode": "inner", "selector": "#x"},
        {"type": "patch", "element": "text", "mode": "outer", "selector": None},
        {"type": "sync", "data": data, "only_if_missing": True},
        {"type": "navigate", "url": "/next"},
        {"type": "script", "code": "a()", "auto_remove": False},
        {"type": "script", "code": "b()", "auto_remove": True},
        {"type": "remove", "selector": "#x"},
    ]
    assert w.datastar_events[0]["element"] is element
    assert (w.status_code, w.started, w.closed) == (200, True, False)
    assert w.headers == SSE_HEADERS
    text = w.text_body()
    assert text.count("event: ") == 7
    assert "data: useViewTransition true\n" in text
    assert "id: 7\n" in text


def test_an_event_that_cannot_be_sent_is_not_kept() -> None:
    w = ResponseRecorder()
    with pytest.raises(StarioError):
        w.remove("#x\n")
    with pytest.raises(ValueError, match="JSON compliant"):
        w.sync({"n": float("nan")})
    assert (w.datastar_events, w.started) == ([], False)
    w.text("so this is fine")


def test_comments_and_retries() -> None:
    w = ResponseRecorder()
    w.retry(1500)
    w.comment("keep\nalive")
    w.comment()
    assert w.sse_events == [
        {"type": "retry", "data": 1500},
        {"type": "comment", "data": "keep\nalive"},
        {"type": "comment", "data": ""},
    ]
    assert w.headers["content-type"] == "text/event-stream"
    assert w.body == b"retry: 1500\n\n: keep\n: alive\n\n: \n\n"


# alive


async def once(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        yield item


@pytest.mark.upstream_bug(66)
@bug(66)
async def test_alive_bare_and_called() -> None:
    w = ResponseRecorder()
    rounds = 0
    async for nothing in w.alive:
        assert nothing is None
        rounds += 1
        if rounds == 3:
            w.disconnect.set()
    assert rounds == 3
    async for _ in w.alive():
        pytest.fail("the peer has left")
    w = ResponseRecorder()
    assert [item async for item in w.alive(once([1, 2, 3]))] == [1, 2, 3]


@bug(66)
@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("event", ["disconnect", "shutdown"])
async def test_an_alive_block_ends_when_the_event_is_set(*, called: bool, event: str) -> None:
    w = ResponseRecorder()
    after: list[bool] = []

    async def handler() -> None:
        async with w.alive() if called else w.alive:
            await trio.sleep_forever()
        after.append(w.disconnected)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handler)
        nursery.start_soon(handler)
        await wait_all_tasks_blocked()
        assert after == []
        getattr(w, event).set()
    assert after == [event == "disconnect"] * 2
    async with w.alive:
        await trio.sleep_forever()


async def test_an_alive_block_lets_errors_and_other_cancels_through() -> None:
    w = ResponseRecorder()
    with pytest.raises(KeyError):
        async with w.alive:
            raise KeyError
    with trio.move_on_after(0) as scope:
        async with w.alive:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert "watch the recorder's events" not in task_tree(), "nothing is left behind"
    async with w.alive:
        await wait_all_tasks_blocked()
        assert "watch the recorder's events" in task_tree()


# The public names


def test_the_package_exports_it_lazily() -> None:
    assert stario_trio.ResponseRecorder is ResponseRecorder
    assert stario_trio.TestRequest is TestRequest


async def typed_handler(_c: Context, w: Writer) -> None:
    w.json({"ok": True})


async def test_type_checkers_take_it_for_a_writer() -> None:
    w = ResponseRecorder()
    await typed_handler(TestContext(), w)
    assert json.loads(w.body) == w.json_body() == {"ok": True}


# Around a handler


async def test_as_a_context_manager_it_ends_what_the_handler_has_left() -> None:
    closed: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            for n in range(10):
                yield n
        finally:
            await trio.lowlevel.checkpoint()
            closed.append("source")

    async def listen(_c: Context, w: Writer) -> None:
        async for n in w.alive(source()):
            w.sync({"n": n})
            break

    async with ResponseRecorder() as w:
        await listen(TestContext(), w)
        assert not w.completed
        assert closed == []
    assert w.completed
    assert closed == ["source"]
    assert len(w.datastar_events) == 1


async def test_after_an_exception_the_response_is_not_ended() -> None:
    w = ResponseRecorder()
    with pytest.raises(HttpException):
        async with w:
            w.write(b"begun")
            raise HttpException(404)
    assert not w.completed
    async with ResponseRecorder() as w:
        pass
    w.assert_status(204)


async def test_a_head_has_no_body() -> None:
    async def page(_c: Context, w: Writer) -> None:
        w.text("hello")

    w = ResponseRecorder(method="HEAD")
    await page(TestContext(TestRequest("HEAD")), w)
    assert w.completed
    assert w.body == b""
    assert b"content-length: 5\r\n" in w.sent
    assert w.sent.endswith(b"\r\n\r\n")
