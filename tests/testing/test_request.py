"""A handler's arguments, made by hand and without an event loop."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from stario_trio import NoopTracer, Request, Stario, StarioError
from stario_trio.testing import RecordingTracer, TestClient, TestContext, TestRequest


def test_nothing_here_is_collected_by_pytest() -> None:
    for each in (TestRequest, TestContext, TestClient):
        assert vars(each)["__test__"] is False


def test_the_smallest_request() -> None:
    request = TestRequest()
    assert isinstance(request, Request)
    assert (request.method, request.path, request.host, request.query_bytes) == ("GET", "/", "", b"")
    assert len(request.headers) == 0


async def test_a_request_with_everything() -> None:
    request = TestRequest(
        "POST",
        "/a b/é",
        headers={"X-Token": "t", "Cookie": "a=1"},
        body=b'{"n": 1}',
        query={"q": ["x y", "ü"], "page": 2},
    )
    assert (request.method, request.path) == ("POST", "/a b/é")
    assert request.headers.get("x-token") == "t"
    assert request.cookies == {"a": "1"}
    assert request.query.items() == [("q", "x y"), ("q", "ü"), ("page", "2")]
    assert [await request.json() for _ in range(2)] == [{"n": 1}] * 2
    assert [piece async for piece in request.stream()] == [b'{"n": 1}']


def test_the_path_is_the_decoded_one() -> None:
    assert TestRequest(path="/%41").path == "/%41"
    assert TestRequest(method="OPTIONS", path="*").path == "*"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": "a"}, "A path begins with a slash"),
        ({"path": ""}, "A path begins with a slash"),
        ({"path": "/a?b=1"}, 'query={"q": "trio"}'),
        ({"method": ""}, 'Give a method such as "GET"'),
        ({"method": "GET /"}, 'Give a method such as "GET"'),
        ({"body": "text"}, "encode text"),
        ({"body": {"n": 1}}, "json.dumps"),
        ({"query": "a=1"}, "Give a dict"),
    ],
)
def test_what_no_request_can_have_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(StarioError) as caught:
        TestRequest(**arguments)
    assert words in str(caught.value)


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid header"):
        TestRequest(headers={"a b": "1"})
    with pytest.raises(ValueError, match="Invalid header value"):
        TestRequest(headers={"a": "1\r\n"})


async def test_a_body_may_be_any_bytes() -> None:
    for body in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert await TestRequest(body=body).body() == b"abc"


def test_the_smallest_context() -> None:
    c = TestContext()
    assert (c.req.method, c.req.path, c.state) == ("GET", "/", {})
    c["user"] = 7
    with c.step("work"):
        c("done")
    assert c.span.name == "GET"
    assert c.span.attributes == {"user": 7}
    assert isinstance(c.app.tracer, RecordingTracer)
    assert [span.name for span in c.app.tracer.spans] == ["GET", "work"]


def test_a_context_with_everything() -> None:
    app, request = Stario(NoopTracer()), TestRequest("POST", "/x")
    c = TestContext(request, app, state={"user": "ann"})
    assert (c.app, c.req, c.state) == (app, request, {"user": "ann"})
    c["key"] = 1
    assert c["key"] == 1


def test_they_work_in_a_trio_run_too() -> None:
    async def main() -> str:
        return (await TestContext(TestRequest("POST", body=b"x")).req.body()).decode()

    assert trio.run(main) == "x"
