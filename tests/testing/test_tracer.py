"""The tracer that keeps its spans."""

from __future__ import annotations

import pytest

from stario_trio.testing import RecordingTracer


def test_it_keeps_every_span_once_in_the_order_of_their_start() -> None:
    with RecordingTracer() as tracer:
        with tracer("outer", {"a": 1}) as outer, outer.step("inner") as inner:
            inner["b"] = 2
        open_span = tracer("open")
    assert tracer.spans == [outer, inner, open_span]
    assert outer.attributes == {"a": 1}
    assert tracer.all("inner") == [inner]
    assert tracer.named("outer") is outer


def test_the_one_span_of_a_name_must_be_one() -> None:
    tracer = RecordingTracer()
    with pytest.raises(LookupError, match=r"0 spans are named 'GET', of \[\]"):
        tracer.named("GET")
    tracer("GET")
    tracer("GET")
    with pytest.raises(LookupError, match=r"2 spans are named 'GET', of \['GET', 'GET'\]"):
        tracer.named("GET")
