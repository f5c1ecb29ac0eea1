"""`Context`: the current step is that of the task, and the rest is what it looks like."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type, cast

import pytest
import trio
import trio.testing

from stario_trio.exceptions import HttpException
from stario_trio.http import app, types
from stario_trio.http.headers import Headers
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.types import Context, ErrorHandler, Handler, Middleware
from stario_trio.http.writer import Writer
from stario_trio.telemetry.core import Span
from stario_trio.telemetry.noop import NOOP_SPAN, NoopTracer
from tests.support.peer import FakePeer, Response

if typing.TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from stario_trio.http.app import Stario


class Spans:
    """A tracer that remembers, in the order of their start."""

    def __init__(self) -> None:
        self.started: list[Span] = []

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        if not any(span is known for known in self.started):
            self.started.append(span)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        return None


APP = cast("Stario", "the app")


def a_context(path: str = "/") -> Context:
    request = Request(path=path, headers=Headers(), body=BodyReader.of(b""))
    return Context(APP, request, Spans()(path))


# Construction


def test_construction_by_position_and_by_keyword() -> None:
    span, state = Spans()("GET"), {"user": 1}
    request = Request(headers=Headers(), body=BodyReader.of(b""))
    for c in (Context(APP, request, span, state), Context(app=APP, req=request, span=span, state=state)):
        assert (c.app, c.req, c.span) == (APP, request, span)
        assert c.state is state
        assert repr(c) == f"Context(app='the app', req=<Request GET />, span={span!r}, state={{'user': 1}})"


def test_it_is_a_dataclass() -> None:
    c = a_context()
    assert [field.name for field in dataclasses.fields(c)] == ["app", "req", "span", "state", "_unspanned"]
    with c.step("middleware") as step:
        inner = dataclasses.replace(c, state={"user": 1})
        assert (inner.app, inner.req, inner.span, inner.state) == (c.app, c.req, c.span, {"user": 1})
        assert inner.current is step
    assert c.state == {}
    match c:
        case Context(app, req, span, state):
            assert (app, req, span, state) == (c.app, c.req, c.span, c.state)
    assert c != inner
    assert len({c, inner, c}) == 2, "each is itself, whatever it holds"


def test_state_is_a_fresh_dict() -> None:
    one, two = a_context(), a_context()
    one.state["x"] = 1
    assert one.state == {"x": 1}
    assert two.state == {}
    given: dict[str, Any] = {}
    assert Context(APP, one.req, one.span, given).state is given
    two.state = {"y": 2}
    assert two.state == {"y": 2}


def test_there_are_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        setattr(a_context(), "user", 1)  # noqa: B010


# BUG 2 of the original: annotations that cannot be resolved


@pytest.mark.upstream_bug(2)
def test_annotations_resolve() -> None:
    assert list(inspect.signature(Context).parameters) == ["app", "req", "span", "state"]
    assert typing.get_type_hints(Context)["app"] is app.Stario
    hints = typing.get_type_hints(Context.__init__)
    assert hints["app"] is app.Stario
    assert hints["req"] is Request
    assert hints["span"] is Span
    for name in ("__call__", "step", "signals", "__getitem__", "__setitem__", "__contains__"):
        typing.get_type_hints(getattr(Context, name))


def test_aliases_resolve_where_they_are_used() -> None:
    def uses(handler: Handler, middleware: Middleware, on_error: ErrorHandler[KeyError]) -> None: ...

    hints = typing.get_type_hints(uses, globalns=dict(vars(types)))
    assert typing.get_args(hints["handler"])[0] == [Context, Writer]
    assert typing.get_args(hints["middleware"]) == ([hints["handler"]], hints["handler"])
    assert typing.get_args(hints["on_error"])[0] == [Context, Writer, KeyError]


# Events and attributes


def test_events_go_to_the_current_step() -> None:
    c = a_context()
    outside = c("started", {"n": 1})
    with c.step("work") as span:
        inside = c("hit")
        failure = c(ValueError("no"), {"n": 2})
    assert c.span.events == [outside]
    assert span.events == [inside, failure]
    assert (outside.name, outside.attributes) == ("started", {"n": 1})
    assert failure.name == "exception"
    assert failure.attributes["exc.message"] == "no"
    assert failure.attributes["n"] == 2
    assert span.ok


def test_attributes_go_to_the_current_step() -> None:
    c = a_context()
    c["user"] = "ada"
    with c.step("work", {"n": 1}) as span:
        c["rows"] = 3
        assert c["rows"] == 3
        assert c["user"] is None
        assert "rows" in c
        assert "user" not in c
    assert c.span.attributes == {"user": "ada"}
    assert span.attributes == {"n": 1, "rows": 3}


def test_a_tracer_that_keeps_nothing_changes_nothing() -> None:
    """The seed's `users.discard(c["user_id"])` must not depend on who traces."""
    request = Request(path="/", headers=Headers(), body=BodyReader.of(b""))
    c, other = Context(APP, request, NOOP_SPAN), Context(APP, request, NOOP_SPAN)
    assert c["user_id"] is None
    assert "user_id" not in c
    c["user_id"] = 7
    with c.step("load"):
        assert c["user_id"] == 7
    assert "user_id" in c
    assert "user_id" not in other
    assert NOOP_SPAN["user_id"] is None


def test_a_context_is_not_iterable() -> None:
    c: Any = a_context()
    with pytest.raises(TypeError):
        iter(c)


# Steps


def test_steps_nest() -> None:
    c = a_context()
    assert c.current is c.span
    with c.step("outer") as outer:
        assert c.current is outer
        assert outer.parent_id == c.span.id
        with c.step("inner") as inner:
            assert c.current is inner
            assert inner.parent_id == outer.id
        assert c.current is outer
        assert inner.finished
        assert not outer.finished
    assert c.current is c.span
    assert not c.span.finished


def test_a_step_starts_with_its_block() -> None:
    c = a_context()
    step = c.step("later")
    with c.step("outer") as outer, step as span:
        assert span.parent_id == outer.id


def test_a_failing_step_is_recorded_and_left() -> None:
    c = a_context()
    failing = c.step("failing")
    with pytest.raises(ValueError, match="no luck"), failing as span:
        raise ValueError("no luck")
    assert span.error == "no luck"
    assert [event.name for event in span.events] == ["exception"]
    assert c.current is c.span
    assert c.span.ok


def test_steps_may_end_in_any_order() -> None:
    c = a_context()
    first, second = c.step("first"), c.step("second")
    first.__enter__()
    span = second.__enter__()
    first.__exit__(None, None, None)
    assert c.current is span
    second.__exit__(None, None, None)
    assert c.current is c.span


def test_two_requests_in_one_task_do_not_mix() -> None:
    one, two = a_context("/one"), a_context("/two")
    with one.step("a") as a:
        assert two.current is two.span
        with two.step("b") as b:
            assert one.current is a
            assert two.current is b
            with one.step("c") as c:
                assert c.parent_id == a.id
            assert two.current is b
        assert one.current is a


async def test_tasks_of_one_request_do_not_see_each_others_steps() -> None:
    c = a_context()
    at_once = trio.testing.Sequencer()

    async def child(name: str, places: tuple[int, int]) -> None:
        async with at_once(places[0]):
            assert c.current is outer
            step = c.step(name)
            span = step.__enter__()
        async with at_once(places[1]):
            assert c.current is span
            assert span.parent_id == outer.id
            step.__exit__(None, None, None)
            assert c.current is outer

    with c.step("outer") as outer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "a", (0, 3))
            nursery.start_soon(child, "b", (1, 4))
            async with at_once(2):
                assert c.current is outer


async def test_a_task_that_outlives_its_step_falls_back() -> None:
    c = a_context()
    step_left = trio.Event()

    async def child() -> None:
        assert c.current is inner
        await step_left.wait()
        assert c.current is outer

    with c.step("outer") as outer:
        async with trio.open_nursery() as nursery:
            with c.step("inner") as inner:
                nursery.start_soon(child)
                await trio.testing.wait_all_tasks_blocked()
            step_left.set()


async def test_a_thread_works_below_the_step_that_called_it() -> None:
    c = a_context()

    def in_thread() -> Span:
        with c.step("thread") as span:
            assert c.current is span
        return span

    with c.step("outer") as outer:
        span = await trio.to_thread.run_sync(in_thread)
        assert c.current is outer
    assert span.parent_id == outer.id


# Signals; where they come from is tests/datastar/test_signals.py


@dataclass
class Search:
    text: str
    page: int = 1


class Filter(TypedDict):
    active: bool


def a_context_with(signals: object) -> Context:
    request = Request(method="POST", headers=Headers(), body=BodyReader.of(json.dumps(signals).encode()))
    return Context(APP, request, NOOP_SPAN)


async def test_signals_and_their_types() -> None:
    """Type checkers read this as well: the result is an instance of the schema."""
    c = a_context_with({"text": "x", "page": "2", "active": "on"})
    signals = await c.signals()
    assert_type(signals, dict[str, Any])
    assert signals == {"text": "x", "page": "2", "active": "on"}
    search = await c.signals(Search)
    assert_type(search, Search)
    assert search == Search("x", 2)
    filters = await c.signals(Filter)
    assert_type(filters, Filter)
    assert filters == {"active": True}
    assert await c.signals(schema=Search) == search


@pytest.mark.upstream_bug(50)
async def test_bug_50_signals_that_do_not_fit() -> None:
    wrong: list[tuple[object, str]] = [([1], "not a JSON object"), ({}, "missing text")]
    for signals, detail in wrong:
        with pytest.raises(HttpException) as info:
            await a_context_with(signals).signals(Search)
        assert (info.value.status_code, info.value.detail) == (400, f"Invalid signals: {detail}")


async def test_a_handler_that_asks_for_signals_answers_400() -> None:
    async def handler(c: Context, w: Writer) -> None:
        search = await c.signals(Search)
        w.text(f"{search.text} {search.page}")

    stario = app.Stario(NoopTracer())
    stario.post("/", handler)
    for body, status, text in (
        (b'{"text": "x", "page": "2"}', 200, "x 2"),
        (b'{"page": "2"}', 400, "Invalid signals: missing text"),
        (b"{", 400, "Invalid JSON: Expecting property name enclosed in double quotes"),
    ):
        peer = FakePeer(body)
        w = peer.writer("POST")
        await stario.handle_request(peer.request("POST"), w)
        response = Response(peer.sent, method="POST")
        assert (response.status, response.text) == (status, text)
