"""What a handler is called with, made by hand: `handler(TestContext(TestRequest(...)), ResponseRecorder())`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from stario_trio.exceptions import StarioError
from stario_trio.http.app import Stario
from stario_trio.http.headers import TOKEN, Headers
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.types import Context
from stario_trio.telemetry.noop import start_span
from stario_trio.testing.tracer import RecordingTracer

__all__ = ["TestContext", "TestRequest", "not_a_test"]

F = TypeVar("F", bound=Callable[..., object])


def not_a_test(function: F) -> F:
    """Tell pytest not to collect something whose name begins with `Test`."""
    vars(function)["__test__"] = False
    return function


@not_a_test
def TestRequest(  # noqa: N802  (upstream's name)
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    body: bytes | bytearray | memoryview = b"",
    query: Mapping[str, Any] | None = None,
) -> Request:
    """A request as a handler gets it. Needs no event loop.

    Args:
        method: as sent, usually upper-case.
        path: what `req.path` shall be: decoded, without the query.
        headers: the fields; nothing is added, neither `host` nor `content-length`.
        body: the whole body.
        query: the query by name; a list gives a name several values.

    Raises:
        StarioError: something that no request can have.
        ValueError: a header field that cannot be sent.
    """
    if TOKEN.fullmatch(method) is None:
        raise StarioError("Invalid method", context={"method": method}, help_text='Give a method such as "GET".')
    if not path.startswith("/") and path != "*":
        raise StarioError("Invalid path", context={"path": path}, help_text="A path begins with a slash.")
    if "?" in path:
        raise StarioError(
            "The path has a query in it",
            context={"path": path},
            help_text="Give the query apart; for a path with a real question mark, set `request.path` afterwards.",
            example='TestRequest(path="/search", query={"q": "trio"})',
        )
    if not isinstance(body, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may be untyped)
        raise StarioError(
            "Invalid body",
            context={"body": body},
            help_text="A body is bytes: encode text, and give JSON as `json.dumps(data).encode()`.",
        )
    if query is not None and not isinstance(query, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  (the same)
        raise StarioError("Invalid query", context={"query": query}, help_text='Give a dict, such as {"page": 2}.')
    return Request(
        method=method,
        path=path,
        query_bytes=urlencode(query or {}, doseq=True).encode("ascii"),
        headers=Headers().update(headers),
        body=BodyReader.of(bytes(body)),
    )


@not_a_test
def TestContext(  # noqa: N802  (a name beside TestRequest)
    request: Request | None = None, app: Stario | None = None, *, state: dict[str, Any] | None = None
) -> Context:
    """The `c` of a handler. Needs no event loop.

    Args:
        request: `c.req`; a GET of `/` if None.
        app: `c.app`; if None, an empty one with a `RecordingTracer`, so that `c.span` can be looked at afterwards.
        state: `c.state`, what a middleware would have put there.
    """
    req = TestRequest() if request is None else request
    app = Stario(RecordingTracer()) if app is None else app
    return Context(app, req, start_span(app.tracer, req.method), state)
