from __future__ import annotations

import gc
import weakref
from typing import Any, cast

import pytest

from stario_trio.telemetry import NoopTracer, Span, Tracer
from stario_trio.telemetry.noop import NOOP_SPAN, start_span


def test_all_spans_are_one() -> None:
    tracer: Tracer = NoopTracer()
    with tracer as entered:
        assert entered is tracer
        span = tracer("GET", {"a": 1})
    tracer.notify(span)
    assert span is tracer("POST") is NOOP_SPAN
    assert isinstance(span, Span)
    assert span.step("x", {"a": 1}) is span
    assert span.root("x") is span


def test_nothing_changes_it() -> None:
    span = NoopTracer()("GET")
    before = (span.id, span.start_ns)
    span.name = "other"
    span.error = "bad"
    span["k"] = 1
    span("event", {"n": 1})
    span.link(span)
    span.attributes["k"] = 1
    del span["k"]
    span.end()
    with pytest.raises(ValueError, match="boom"), span:
        raise ValueError("boom")
    assert (span.name, span["k"], span.get("k", 2)) == ("noop", None, 2)
    assert str(span.error) == "None"  # (mypy believes the assignment above)
    assert (span.attributes, span.events, span.links) == ({}, [], [])
    assert span.ok
    assert span.in_progress
    assert before == (span.id, span.start_ns)
    assert (span.end_ns, span.duration_ns, span.id.version) == (None, None, 7)


def test_it_keeps_nothing_it_was_given() -> None:
    class Boom(Exception):
        pass

    boom = Boom()
    gone = weakref.ref(boom)
    NOOP_SPAN(boom)
    NOOP_SPAN["boom"] = boom
    NOOP_SPAN.fail(boom)
    del boom
    gc.collect()
    assert gone() is None


class Odd(NoopTracer):
    """Returns, or raises, what it is given; keeps what it is called with."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Span:
        self.calls.append((args, kwargs))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return cast("Span", self.answer)


def test_start_span_calls_with_one_argument_and_sets_the_attributes() -> None:
    span = Span(NoopTracer(), "GET")
    tracer = Odd(span)
    assert start_span(tracer, "GET", {"a": 1, "b": 2}) is span
    assert tracer.calls == [(("GET",), {})]
    assert span.attributes == {"a": 1, "b": 2}
    assert start_span(tracer, "GET") is span


@pytest.mark.spec("SD-22")
@pytest.mark.parametrize("answer", [ValueError("boom"), None, "a span", Span])
def test_start_span_replaces_what_is_no_span(answer: object) -> None:
    assert start_span(Odd(answer), "GET", {"a": 1}) is NOOP_SPAN
    assert start_span(Odd(answer), "GET") is NOOP_SPAN


@pytest.mark.spec("SD-22")
def test_start_span_replaces_a_span_that_takes_no_attributes() -> None:
    class Stubborn(Span):
        __slots__ = ()

        def __setitem__(self, key: str, value: Any) -> None:
            raise TypeError(key)

    assert start_span(Odd(Stubborn(NoopTracer(), "GET")), "GET", {"a": 1}) is NOOP_SPAN


def test_start_span_lets_an_interrupt_pass() -> None:
    with pytest.raises(KeyboardInterrupt):
        start_span(Odd(KeyboardInterrupt()), "GET")
