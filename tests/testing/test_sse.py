"""Events by hand, for tests that came with Stario."""

from __future__ import annotations

import pytest

from stario_trio import StarioError
from stario_trio.testing import ResponseRecorder, SSERecorder


def test_what_it_sends_and_keeps() -> None:
    w = ResponseRecorder()
    with w.sse() as events:
        assert isinstance(events, SSERecorder)
        events.send("one\ntwo")
        events.send({"é": 1}, id="7")
        events.event("tick", [1], id="8")
        events.event("tock", 5)
        events.comment("still here")
        events.comment()
        events.retry(250)
        assert not w.closed
    assert w.closed
    assert w.headers["content-type"] == "text/event-stream"
    assert w.sse_events == [
        {"type": "message", "data": "one\ntwo", "id": None},
        {"type": "message", "data": {"é": 1}, "id": "7"},
        {"type": "tick", "data": [1], "id": "8"},
        {"type": "tock", "data": 5, "id": None},
        {"type": "comment", "data": "still here"},
        {"type": "comment", "data": ""},
        {"type": "retry", "data": 250},
    ]
    assert w.text_body() == (
        "data: one\ndata: two\n\n"
        'id: 7\ndata: {"é":1}\n\n'
        "event: tick\nid: 8\ndata: [1]\n\n"
        "event: tock\ndata: 5\n\n"
        ": still here\n\n"
        ": \n\n"
        "retry: 250\n\n"
    )


def test_no_value_brings_a_line_of_its_own() -> None:
    w = ResponseRecorder()
    with w.sse() as events:
        events.send("a\rb\r\nc")
        with pytest.raises(StarioError, match="Invalid event"):
            events.event("tick\ndata: x", 1)
        with pytest.raises(StarioError, match="Invalid id"):
            events.send(1, id="1\r")
    assert w.body == b"data: a\ndata: b\ndata: c\n\n"
    assert len(w.sse_events) == 1


def test_it_sees_the_peer_leave() -> None:
    w = ResponseRecorder()
    with w.sse() as events:
        assert not events.disconnected
        events.disconnect.set()
        assert events.disconnected
        assert w.disconnected


def test_it_begins_a_response_and_ends_it() -> None:
    w = ResponseRecorder()
    w.text("first")
    with pytest.raises(RuntimeError, match="Cannot set headers after response started"), w.sse():
        pytest.fail("not entered")
    w = ResponseRecorder()
    with w.sse() as events:
        pass
    assert (w.status_code, w.closed, w.body) == (200, True, bytearray())
    with pytest.raises(RuntimeError, match="already closed"):
        events.send("late")
    with pytest.raises(RuntimeError, match="after SSE streaming started"):
        w.text("second")
