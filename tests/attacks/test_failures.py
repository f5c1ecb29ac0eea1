"""Failures while a failure is answered: they end their request, and nothing else."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from stario_trio import CompressionConfig, Context, JsonTracer, NoopTracer, Span, Stario, Writer
from stario_trio.http import compression
from stario_trio.testing import RecordingTracer, TestClient, serving_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.http.types import Handler


class ApiError(Exception):
    """As clients of services write them: its attributes are those of the answer."""

    def __init__(self, payload: dict[str, Any]) -> None:
        super().__init__(payload)
        self.payload = payload

    def __getattr__(self, name: str) -> Any:
        return self.payload[name]


class Notes(RuntimeError):
    __notes__ = "no list"  # type: ignore[assignment]


class Unprintable(BaseException):
    def __str__(self) -> str:
        raise BaseException(self)


def nested(depth: int) -> Exception:
    exc: Exception = ValueError("leaf")
    for _ in range(depth):
        exc = ExceptionGroup("again", [exc])
    return exc


async def fine(c: Context, w: Writer) -> None:
    w.text("fine")


def raises(exc: BaseException) -> Handler:
    async def handler(c: Context, w: Writer) -> None:
        raise exc

    return handler


async def status_of(app: Stario, **headers: str) -> int | None:
    """The status of `/`, None if the connection is cut; the server must still be there afterwards.

    Some of these exceptions break pytest's own report, so only the name of what comes out of the server is shown.
    """
    app.get("/fine", fine)
    status = None
    end = "the server is still there"
    try:
        async with TestClient(app, raise_handler_errors=False) as client:
            with suppress(httpx2.RemoteProtocolError):
                status = (await client.get("/", headers=headers)).status_code
            assert (await client.get("/fine")).text == "fine"
    except BaseException as exc:  # noqa: ASYNC103
        end = type(exc).__name__
    assert end == "the server is still there"
    return status


@pytest.mark.parametrize(
    "exc",
    [
        ApiError({"code": 1}),
        nested(3000),
        ExceptionGroup("two", [nested(3000), nested(3000)]),
        Notes("no running event loop"),
    ],
    ids=["its own __getattr__", "nested deeply", "nested twice", "notes that are no list"],
)
@pytest.mark.parametrize("tracer", [RecordingTracer, lambda: JsonTracer(io.StringIO())], ids=["recording", "json"])
async def test_an_odd_exception_is_a_500(exc: Exception, tracer: Callable[[], Any]) -> None:
    app = Stario(tracer())
    app.get("/", raises(exc))
    assert await status_of(app) == 500


@pytest.mark.parametrize(
    "exc",
    [GeneratorExit(), BaseExceptionGroup("g", [GeneratorExit()]), Unprintable()],
    ids=["GeneratorExit", "group", "unprintable"],
)
async def test_what_cannot_be_told_is_cut(exc: BaseException) -> None:
    app = Stario(RecordingTracer())
    app.get("/", raises(exc))
    assert await status_of(app) is None


async def test_what_belongs_to_no_scope_is_told() -> None:
    app = Stario(NoopTracer())
    app.get("/", raises(GeneratorExit()))
    async with serving_in_memory(app, raise_handler_errors=False) as server:
        stream = server.connect(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert await stream.receive_some() == b""
    assert server.troubles == ["a handler raised a cancellation that was not for it: GeneratorExit"]


@pytest.mark.upstream_bug(7)
@pytest.mark.parametrize(
    "second", [asyncio.CancelledError(), Unprintable(), ApiError({})], ids=["asyncio cancel", "unprintable", "its own"]
)
async def test_an_error_handler_that_fails_in_an_odd_way(second: BaseException) -> None:
    tracer = RecordingTracer()
    app = Stario(tracer)
    app.get("/", raises(ValueError("first")))

    def on_error(c: Context, w: Writer, exc: ValueError) -> None:
        raise second

    app.on_error(ValueError, on_error)
    told = not isinstance(second, Unprintable)
    assert await status_of(app) == (500 if told else None)
    if told:
        assert [span.error for span in tracer.spans if span["request.path"] == "/"] == ["first"]


async def test_a_compressor_that_would_fail_on_the_500_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, data: bytes) -> bytes:
        raise OSError("broken")

    monkeypatch.setattr(compression._Gzip, "frame", broken)
    app = Stario(RecordingTracer(), CompressionConfig(min_size=0))
    app.get("/", fine)
    app.get("/fine", fine)
    async with TestClient(app, raise_handler_errors=False) as client:
        for _ in range(2):
            answer = await client.get("/", headers={"accept-encoding": "gzip"})
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")


@pytest.mark.spec("SD-22")
@pytest.mark.parametrize("method", ["__setitem__", "end"])
async def test_a_span_of_the_programs_own_that_raises(method: str) -> None:
    def bad(self: Span, *_: object) -> None:
        raise ValueError("a bug of this class")

    class Tracer(RecordingTracer):
        def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
            return type("Bad", (Span,), {"__slots__": (), method: bad})(self, name, attributes)  # type: ignore[no-any-return]

    app = Stario(Tracer())
    app.get("/", fine)
    assert await status_of(app) == 200


@pytest.mark.parametrize("tell", [False, True], ids=["with step", "fail"])
def test_a_span_ends_and_lets_the_exception_out_as_itself(tell: bool) -> None:
    out = io.StringIO()
    span = JsonTracer(out)("work")
    error = ApiError({})
    with pytest.raises(ApiError) as raised, span:
        if tell:
            span.fail(error)
        raise error
    assert raised.value is error
    line = json.loads(out.getvalue())
    assert (line["status"], line["error"]) == ("error", "{}")


def test_a_span_ends_although_its_failure_cannot_be_told() -> None:
    out = io.StringIO()
    with pytest.raises(BaseException) as raised, JsonTracer(out)("work"):  # noqa: PT011
        raise Unprintable
    assert type(raised.value) is BaseException
    assert json.loads(out.getvalue())["name"] == "work"
