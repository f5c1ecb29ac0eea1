from __future__ import annotations

import re
from typing import NoReturn
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.telemetry import Event, NoopTracer, Span, core
from stario_trio.telemetry.lines import (
    FRAMES,
    MAX_EVENTS,
    MAX_VALUE,
    attribute_lines,
    below,
    clean,
    colour,
    duration,
    heading,
)
from stario_trio.telemetry.tree import Node, Tree

MS = 1_000_000
S = 1_000 * MS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    clock = {"monotonic": 0}
    monkeypatch.setattr(core, "time_ns", lambda: 1_000_123 * MS + clock["monotonic"])
    monkeypatch.setattr(core, "perf_counter_ns", lambda: clock["monotonic"])
    return clock


def new(name: str) -> Span:
    return Span(NoopTracer(), name)


def shown(*spans: Span) -> list[str]:
    """The lines below the first span, of which the others are steps."""
    tree = Tree()
    for span in spans:
        tree.add(span)
    (node,) = tree.roots.values()
    return [line.plain for line in below(node)]


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        (0, "0 µs"), (310_400, "310 µs"), (999_499, "999 µs"), (999_500, "1 ms"),
        (20 * MS, "20 ms"), (999 * MS, "999 ms"), (999_600_000, "1.00 s"),
        (1500 * MS, "1.50 s"), (59_990 * MS, "59.99 s"), (59_999 * MS, "1:00 min"),
        (65 * S, "1:05 min"), (3599 * S, "59:59 min"), (3_599_900 * MS, "1:00:00"), (3723 * S, "1:02:03"),
    ],
)  # fmt: skip
def test_durations(ns: int, expected: str) -> None:
    assert duration(ns) == expected


@given(st.integers(0, 10**15))
def test_durations_stay_within_their_unit(ns: int) -> None:
    assert re.fullmatch(r"\d{1,3} [µm]s|[1-5]?\d\.\d\d s|[1-5]?\d:[0-5]\d min|\d+:[0-5]\d:[0-5]\d", duration(ns))


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_is_shown_moves_a_cursor_or_breaks_a_line(value: str) -> None:
    found = clean(value)
    found.encode()
    assert len(found.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", found)
    # What Unicode calls a "bidirectional" control: a name could look like another.
    assert not re.search(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", found)


def test_values_are_cleaned_and_cut() -> None:
    assert clean("/\x1b[2J\n\ud800ü") == "/\\x1b[2J\\n\\ud800ü"
    assert clean("x" * (MAX_VALUE + 1)) == "x" * MAX_VALUE + "…"
    assert clean("x" * MAX_VALUE) == "x" * MAX_VALUE
    assert clean(12) == "12"


def test_the_heading(clock: dict[str, int]) -> None:
    span = new("GET")
    tail = str(span.id)[-8:]
    assert re.fullmatch(rf"\d\d:\d\d:40\.123 {tail} GET \(open\)", heading(span).plain)
    clock["monotonic"] += 20 * MS
    span.end()
    assert heading(span).plain.endswith(f"{tail} GET (20 ms)")
    span.error = "bad\nline"
    assert heading(span).plain.endswith("GET (20 ms)  error: bad\\nline")


def test_the_heading_of_a_late_step() -> None:
    span = Span(NoopTracer(), "late", None, UUID(int=0xABCD1234))
    assert heading(span).plain.endswith("late (open)  step of abcd1234")


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, None, "green"), (302, None, "yellow"), (404, None, "yellow"), (500, None, "red"),
        (200, "bad", "red"), (None, None, "green"), (None, "", "red"), ("odd", None, "green"),
    ],
)  # fmt: skip
def test_the_colour_of_a_finished_root(status: object, error: str | None, expected: str) -> None:
    span = new("GET")
    span["response.status_code"] = status
    span.error = error
    assert colour(span) == "bright_black"
    span.end()
    assert colour(span) == expected


def test_attributes_are_grouped() -> None:
    span = new("GET")
    for key, value in {"flat": 1, "request.method": "GET", "a.b.c": 2, "request.path": "/\n"}.items():
        span[key] = value
    assert [line.plain for line in attribute_lines(span)] == [
        "request",
        "  .method: GET",
        "  .path: /\\n",
        "a",
        "  .b.c: 2",
        "flat: 1",
    ]


def test_a_shutdown_is_a_list_of_its_phases(clock: dict[str, int]) -> None:
    span = new("server.shutdown")
    steps: list[Span] = []
    for name, took in {"stop_accepting": 0, "draining": 1200 * MS, "cancelling": 40 * MS}.items():
        with span.step(name) as step:
            clock["monotonic"] += took
        steps.append(step)
    assert shown(span, *steps) == ["● stop_accepting  0 µs", "● draining  1.20 s", "● cancelling  40 ms"]


def test_events_and_steps_stand_in_the_order_of_their_times(clock: dict[str, int]) -> None:
    span = new("GET")
    clock["monotonic"] += 5 * MS
    step = span.step("query", {"sql": "select"})
    clock["monotonic"] += 2 * MS
    step("row", {"n": 1})
    span("between")
    deeper = step.step("parse")
    deeper.error = "bad"
    deeper.end()
    clock["monotonic"] += 1 * MS
    span("last")
    assert shown(span, step, deeper) == [
        "○ query  open  sql: select",
        "│ ◆ +2 ms row  n: 1",
        "│ ✗ parse  0 µs  error: bad",
        "◆ +7 ms between",
        "◆ +8 ms last",
    ]


def test_an_event_before_its_span_is_no_negative_time() -> None:
    span = new("GET")
    span.events.append(Event(0, "early"))
    assert shown(span) == ["◆ +0 µs early"]


def dig(depth: int) -> NoReturn:
    if depth:
        dig(depth - 1)
    raise ValueError


def test_an_exception_has_its_last_frames() -> None:
    span = new("GET")
    try:
        dig(8)
    except ValueError as exc:
        span(exc, {"try": 2})
    first, *frames = shown(span)
    assert re.fullmatch(r"✗ \+\d+ [µm]s exception  ValueError: ValueError  try: 2", first)
    assert len(frames) == FRAMES
    assert re.fullmatch(r"  .*test_lines\.py:\d+ in dig  raise ValueError", frames[-1])


def test_the_members_of_a_group_follow_it() -> None:
    span = new("GET")
    try:
        dig(0)
    except ValueError as exc:
        span(ExceptionGroup("nursery", [exc]))
    group, member, frame, *_ = shown(span)
    assert group.endswith("exception  ExceptionGroup: nursery (1 sub-exception)")
    assert member == "  ValueError: ValueError"
    assert "in test_the_members_of_a_group_follow_it" in frame


def test_what_is_left_out_is_counted() -> None:
    node = Node(new("stream"))
    node.left_out = 1234
    assert [line.plain for line in below(node)] == ["… 1,234 earlier steps"]


def test_marks_that_turn_a_text_are_shown_as_what_they_are() -> None:
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert clean(f"a{marks}b") == "a" + marks.encode("unicode_escape").decode() + "b"


def test_the_name_of_an_exception_is_cleaned() -> None:
    span = new("a")
    span(type("\x1b[35mEvil", (Exception,), {})("boom"))
    assert "\\x1b[35mEvil: boom" in shown(span)[0]


def test_of_many_events_the_last_are_shown() -> None:
    span = new("a")
    for n in range(MAX_EVENTS):
        span(f"event-{n}")
    assert len(shown(span)) == MAX_EVENTS
    span("last")
    found = shown(span)
    assert found[0] == "… 1 earlier events"
    assert len(found) == MAX_EVENTS + 1
    assert "event-1" in found[1]
    assert "last" in found[-1]
