"""The picture of a stop: what a trace tells, what is drawn of it, and what is said of a bad one."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio import StarioError
from stario_trio.report.__main__ import main
from stario_trio.report.model import Fate, Request, Shutdown, Worker, shutdown_of
from stario_trio.report.picture import Picture, cells, duration, fit, lanes, picture_of, ticks
from stario_trio.report.svg import to_svg
from stario_trio.report.text import GLYPHS, to_text
from stario_trio.report.trace import PHASES, read_trace

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
BEGAN = 1_800_000_000_000_000_000


# Traces, as `JsonTracer` writes them; times are seconds after the stop


def span(name: str, start: float, end: float, attributes: dict[str, Any] | None = None, **more: Any) -> str:
    record = {
        "span_id": f"{name} {start}",
        "name": name,
        "start_ns": BEGAN + round(start * 1e9),
        "end_ns": BEGAN + round(end * 1e9),
        "attributes": attributes or {},
    }
    return json.dumps(record | more)


def request(path: str, start: float, end: float, status: int = 200, **more: Any) -> str:
    about = {"request.method": "GET", "request.path": path, "response.status_code": status}
    return span("GET", start, end, about | more.pop("attributes", {}), **more)


def event(name: str, at: float, **attributes: Any) -> dict[str, Any]:
    return {"time_ns": BEGAN + round(at * 1e9), "name": name, "attributes": attributes}


def stop(
    took: float,
    drained: float | None = None,
    *,
    workers: int = 1,
    at: float = 0,
    reason: str = "SIGTERM",
    urgent: bool = False,
    outer: bool = False,
    abandoned: tuple[tuple[str, float], ...] = (),
    counts: dict[str, int] | None = None,
    **settings: Any,
) -> list[str]:
    """The lines of a stop that drained until then, and cut what was left."""
    until = took if drained is None else drained
    about: dict[str, Any] = {"server.graceful_timeout": 1.0, "server.shutdown.reason": reason}
    about |= {"server.shutdown.urgent": urgent}
    times = dict.fromkeys(PHASES, (until, until)) | {"stop_accepting": (0, 0), "draining": (0, until)}
    times["awaiting"] = (until, took)
    lines = []
    parent = f"server.shutdown {at}"
    for worker in range(workers):
        for name in PHASES:
            if not outer or name == "awaiting":
                start, end = (at + time for time in times[name])
                lines.append(span(name, start, end, {"server.worker": worker}, parent_id=parent))
        for name, count in ({"connections_at_shutdown": 0} if counts is None else counts).items():
            about[f"server.worker.{worker}.{name}"] = count
    for route, when in abandoned:
        stuck = {"server.worker": 0, "route": route, "stack": "app.py:1 main\napp.py:7 stuck"}
        lines.append(span("handler abandoned", when, when, stuck, parent_id=parent))
    about |= {f"server.{name}": value for name, value in settings.items()}
    return [*lines, span("server.shutdown", at, at + took, about)]


CUT = {"connections_at_shutdown": 9, "connections_force_closed": 2, "handler_tasks_cancelled": 2}


def told(*lines: str, **options: Any) -> Shutdown:
    return shutdown_of(read_trace(lines), **options)


def drawn(*lines: str, **options: Any) -> Picture:
    return picture_of(told(*lines), **options)


# What happened


def test_a_quiet_stop() -> None:
    shutdown = told(*stop(0.25, graceful_timeout=3.5, urgent=True), cleanup_timeout=7)
    assert (shutdown.began_ns, shutdown.took, shutdown.reason) == (BEGAN, 0.25, "SIGTERM")
    assert (shutdown.graceful, shutdown.cleanup, shutdown.urgent) == (3.5, 7, True)
    assert [step.name for step in shutdown.workers[0].phases] == PHASES
    assert shutdown.workers[0].phases[1].end == 0.25
    assert shutdown.requests == []


def test_settings_that_the_trace_tells_or_does_not() -> None:
    assert told(*stop(1)).cleanup == 5, "the server's own default"
    assert told(*stop(1, cleanup_timeout=2), cleanup_timeout=7).cleanup == 2, "the trace knows better"
    assert told(*stop(1, graceful_timeout="inf")).graceful == math.inf
    assert told(*stop(1, graceful_timeout=None)).graceful == 5


def test_only_requests_that_the_stop_has_met() -> None:
    lines = [
        request("/before", -2, -1),
        request("/there", -2, 0.5),
        request("/later", 0.2, 0.5),
        span("work", 0.1, 0.2),
        span("query", 0.1, 0.2, parent_id="x"),
        *stop(1),
        request("/after", 2, 3),
    ]
    assert [each.route for each in told(*lines).requests] == ["GET /there", "GET /later"]


@pytest.mark.parametrize(
    ("line", "fate", "detail"),
    [
        (request("/", -1, 0.5), Fate.FINISHED, ""),
        (request("/", -1, 0.5, 404), Fate.FINISHED, "404"),
        (request("/", -1, 0.5, events=[event("hello", -1), event("farewell", 0.2)]), Fate.FINISHED, "farewell"),
        (request("/", -1, 0.5, events=[event("hello", -1)]), Fate.FINISHED, ""),
        (request("/", -1, 0.5, error="boom\x1b[31m"), Fate.ERROR, "boom\\x1b[31m"),
        (request("/", -1, 1.5, 500, error="boom"), Fate.ERROR, "boom"),
        (request("/", -1, 0.5, events=[event("exception", 0.5, **{"exc.type": "ClientDisconnected"})]), Fate.LEFT, ""),
        (request("/", -1, 0.5, events=[event("exception", 0.5, **{"exc.type": "ValueError"})]), Fate.FINISHED, ""),
        (request("/", -1, 0.5, events=[{}]), Fate.FINISHED, ""),
        (request("/", -1, 0.5, events=[event("cancelled", 0.5)]), Fate.CUT, ""),
        (request("/", -1, 1.0), Fate.CUT, ""),
        (request("/", -1, 1.9, events=[event("exception", 1, **{"exc.type": "ClientDisconnected"})]), Fate.CUT, ""),
    ],
)
def test_the_fate_of_a_request(line: str, fate: Fate, detail: str) -> None:
    (found,) = told(line, *stop(2, 1.0, counts=CUT)).requests
    assert (found.fate, found.detail) == (fate, detail)
    assert found.cut == (1.0 if fate is Fate.CUT else None)


def test_without_a_cancelled_handler_nothing_was_cut() -> None:
    (found,) = told(request("/", -1, 0.5), *stop(0.6, 0.4)).requests  # its clock has drifted since it began
    assert found.fate is Fate.FINISHED


def test_an_outer_cancel_cuts_at_once() -> None:
    shutdown = told(request("/", -1, 0.2), *stop(0.3, 0, outer=True, counts=CUT))
    assert (shutdown.from_outside, shutdown.cut, shutdown.requests[0].fate) == (True, 0, Fate.CUT)


def test_abandoned_handlers() -> None:
    lines = [
        request("/stuck", -1, 0.5),  # another one, which was quick
        request("/stuck", -1, 3.5),
        *stop(4, 1, counts=CUT, abandoned=(("GET /stuck", 3), ("GET /gone", 3))),
    ]
    other, stuck, gone = told(*lines).requests
    stack = ("app.py:1 main", "app.py:7 stuck")
    assert other.fate is Fate.FINISHED
    assert stuck == Request("GET /stuck", 0, -1, 3.5, Fate.ABANDONED, 1, stack=stack)
    assert gone == Request("GET /gone", 0, -math.inf, math.inf, Fate.ABANDONED, 1, stack=stack)


def test_workers_and_whose_a_request_was() -> None:
    lines = [
        request("/unknown", -1, 0.5),
        request("/cut", -1, 1.5),
        request("/mine", -1, 0.5, attributes={"server.worker": 1}),
        *stop(2, 1, workers=2, counts=CUT),
    ]
    shutdown = told(*lines)
    assert [worker.id for worker in shutdown.workers] == [0, 1]
    assert [(each.worker, each.fate) for each in shutdown.requests] == [
        (None, Fate.FINISHED),
        (None, Fate.CUT),
        (1, Fate.FINISHED),
    ]
    groups = picture_of(shutdown).groups
    assert [(group.title, [bar.label for bar in group.bars]) for group in groups] == [
        ("worker 0", []),
        ("worker 1", ["GET /mine"]),
        ("one of the workers", ["GET /unknown", "GET /cut"]),
    ]


def test_counts_without_phases_and_phases_without_counts() -> None:
    assert told(*stop(1, counts={})).workers[0].counts == {}
    lonely = span("server.shutdown", 0, 1, {"server.worker.3.handler_tasks_cancelled": 1, "server.worker.3.odd": "x"})
    assert told(lonely).workers == [Worker(3, [], {"handler_tasks_cancelled": 1})]
    assert told(lonely).workers[0].cut is None
    bare = drawn(span("server.shutdown", 0, 1), request("/", 0, 0.5))
    assert [bar.label for group in bare.groups for bar in group.bars] == ["GET /"]


# Lines that are none


def test_other_lines_may_stand_between() -> None:
    odd = [
        "Listening", "", "[1]", "7", "{}", '{"name": "x", "start_ns": 1}', "[" * 100_000,
        '{"name": "x", "start_ns": 1, "end_ns": 2, "attributes": []}',
        '{"name": "x", "start_ns": 1, "end_ns": 2, "events": {}}',
    ]  # fmt: skip
    trace = read_trace([*odd, *stop(1)])
    assert trace.strange == [1, 3, 4, 5, 6, 7, 8, 9]
    assert len(trace.shutdowns) == 1


@pytest.mark.parametrize(
    ("lines", "message", "mend"),
    [
        ([], "empty", "one span a line"),
        (["Traceback"], "No line of this is a span", "JsonTracer"),
        ([request("/", 0, 1)], "No server.shutdown in this trace\n", 'JsonTracer(open("trace.jsonl", "w"))'),
        (stop(1)[:-1], "although a stop has begun", "do not kill"),
    ],
)
def test_what_cannot_be_drawn_says_how_to_mend_it(lines: list[str], message: str, mend: str) -> None:
    with pytest.raises(StarioError) as raised:
        told(*lines)
    assert message in str(raised.value)
    assert mend in str(raised.value)


def test_one_of_several_stops() -> None:
    lines = [*stop(1, reason="first"), *stop(1, at=10, reason="second")]
    assert [told(*lines).reason, told(*lines, number=1).reason] == ["second", "first"]
    assert [step.name for step in told(*lines, number=2).workers[0].phases] == PHASES
    for number in (0, 3):
        with pytest.raises(StarioError, match=f"No stop number {number}") as raised:
            told(*lines, number=number)
        assert "It has 2" in str(raised.value)


# The sentence


def heading(*lines: str) -> str:
    return drawn(*lines).heading


def test_the_heading_says_what_happened() -> None:
    allowed = " (allowed: 1 s of grace + 5 s for cleanup)"
    late = " (beyond its bound: 1 s of grace + 5 s for cleanup)"
    finished, cut = request("/", -1, 0.5), request("/", -1, 1.0)
    assert heading(*stop(0.0402)) == f"SIGTERM stopped the server in 40 ms{allowed}: no request was in flight."
    assert heading(finished, *stop(1)) == f"SIGTERM stopped the server in 1.00 s{allowed}: 1 request finished."
    assert heading(cut, *stop(1.5, 1, counts=CUT)).endswith(": 1 request was cut and cancelled.")
    assert heading(cut, cut, *stop(1.5, 1, counts=CUT)).endswith(": 2 requests were cut and cancelled.")
    many = [finished, finished, cut, request("/", 0, 0.2, error="x")]
    assert heading(*many, *stop(1.5, 1, counts=CUT)).endswith(
        ": of 4 requests, 2 finished, 1 was cut and cancelled and 1 failed."
    )
    assert heading(*stop(7)).startswith(f"SIGTERM stopped the server in 7.00 s{late}")
    assert heading(*stop(0.1, graceful_timeout="inf")).startswith(
        "SIGTERM stopped the server in 100 ms, without a bound:"
    )
    assert heading(*stop(0.1, reason="cancelled", outer=True)).startswith(
        "A cancel from outside stopped the server in 100 ms:"
    )
    assert heading(*stop(0.1, reason="")).startswith("Somebody stopped")


# The picture


def words_of(picture: Picture) -> list[str]:
    return [bar.words for group in picture.groups for bar in group.bars]


def test_marks() -> None:
    def marks(*lines: str) -> list[tuple[float, str]]:
        return [(mark.at, mark.words) for mark in drawn(*lines).marks]

    assert marks(*stop(0.2)) == [(0, "stop"), (1, "the grace ends")]
    assert marks(*stop(2, 1, counts=CUT)) == [(0, "stop"), (1, "the grace ends"), (6, "time for cleanup ends")]
    assert marks(*stop(2, graceful_timeout="inf")) == [(0, "stop")]
    assert marks(*stop(2, 1, counts=CUT, cleanup_timeout="inf")) == [(0, "stop"), (1, "the grace ends")]
    assert marks(*stop(2, 0.5, urgent=True)) == [(0, "stop"), (0.5, "urgent: the grace ends")]
    assert marks(span("server.shutdown", 0, 1, {"server.shutdown.urgent": True}), *stop(1)[1:2]) == [(0, "stop")]
    assert marks(*stop(2, 0, outer=True)) == [(0, "cancelled")]


def test_the_axis_goes_on_to_a_deadline_that_is_not_far() -> None:
    assert 1 < drawn(*stop(0.7)).end < 1.1
    assert drawn(*stop(0.5)).end < 0.6
    assert drawn(*stop(0)).end > 0, "an axis has a length"


def test_bars_in_the_order_of_their_ends() -> None:
    lines = [
        request("/stubborn", -1, 1.8),
        request("/cut", -1, 1.001),
        request("/quick", -1, 0.1),
        request("/bad", 0, 0.5, error="boom"),
        *stop(8, 1, counts=CUT, abandoned=(("GET /stuck", 6), ("GET /gone", 6))),
        request("/stuck", -1, 7.999),
    ]
    assert words_of(drawn(*lines)) == [
        "finished at 0.10 s",
        "error at 0.50 s (boom)",
        "cut and cancelled at 1.00 s",
        "cut and cancelled, ended at 1.80 s",
        "abandoned, ended at 8.00 s",
        "abandoned, has not ended",
    ]
    assert words_of(drawn(request("/", -1, 0.1), *stop(0.2))) == ["finished at 100 ms"], "in the unit of the axis"


def test_hundreds_of_requests_share_bars() -> None:
    quick = [request(f"/{n}", -1, 0.001 * (n + 1)) for n in range(217)]
    slow = [request("/slow", -1, 0.9)]
    cut = [request("/cut", -1, 1 + n / 1000) for n in range(30)]
    picture = drawn(*quick, *slow, *cut, *stop(2, 1, counts=CUT))
    (group,) = picture.groups
    assert len(group.bars) <= 20
    shared = [bar for bar in group.bars if bar.ends]
    assert [(bar.label, bar.words) for bar in shared] == [
        ("217 requests", "finished within 217 ms of the stop"),
        ("30 requests", "cut and cancelled, within 1.03 s of the stop"),
    ]
    assert [bar.label for bar in group.bars] == ["217 requests", "GET /slow", "30 requests"]
    assert shared[1].cut == 1
    assert sum(len(bar.ends) or 1 for bar in group.bars) == 248, "nobody is lost"


def test_few_requests_have_a_bar_each() -> None:
    lines = [request(f"/{n}", -1, 0.01) for n in range(20)]
    assert len(words_of(drawn(*lines, *stop(1)))) == 20
    assert words_of(drawn(*lines, *stop(1), most_bars=19)) == ["finished within 10 ms of the stop"]


def test_the_rare_fates_keep_their_bars() -> None:
    lines = [request("/", -1, n / 1000) for n in range(1, 100)]
    bars = drawn(*lines, request("/bad", -1, 0.5, error="boom"), *stop(1)).groups[0].bars
    assert "GET /bad" in [bar.label for bar in bars]


def test_handlers_that_never_end_share_a_bar() -> None:
    stuck = tuple(("GET /stuck", 6.0) for _ in range(30))
    assert words_of(drawn(*stop(8, 1, counts=CUT, abandoned=stuck))) == ["abandoned, some have not ended"]


@given(
    st.lists(st.tuples(st.floats(-2, 1.9), st.floats(0.001, 2), st.sampled_from(["", "cancelled"])), max_size=60),
    st.integers(1, 12),
)
def test_no_request_is_lost(requests: list[tuple[float, float, str]], most: int) -> None:
    lines = [
        request(f"/{n}", start, max(start, end), events=[event(told, 0)] if told else [])
        for n, (start, end, told) in enumerate(requests)
    ]
    shutdown = told(*lines, *stop(2, 1, counts=CUT))
    bars = picture_of(shutdown, most).groups[0].bars
    assert sum(len(bar.ends) or 1 for bar in bars) == len(shutdown.requests) == len(lines)
    assert len(bars) <= max(most, 4), "each fate has two rows at least"
    for row in to_text(picture_of(shutdown, most), 80).splitlines():
        assert cells(row) <= 80


def test_notes_of_what_has_no_bar() -> None:
    def notes(**counts: int) -> list[str]:
        return drawn(*stop(1, counts=counts)).groups[0].notes

    assert notes() == []
    assert notes(connections_at_shutdown=0) == ["Connections: 0 open at the stop."]
    assert notes(connections_at_shutdown=1, connections_closed_idle=1) == [
        "Connections: 1 open at the stop; 1 idle and closed at once."
    ]
    assert notes(
        connections_at_shutdown=1200,
        connections_accepted_late=2,
        connections_closed_idle=1000,
        connections_force_closed=3,
        handler_tasks_cancelled=2,
        handlers_abandoned=1,
    ) == [
        (
            "Connections: 1,200 open at the stop and 2 accepted after it; "
            "1,000 idle and closed at once, 199 ended by themselves and 3 force-closed."
        ),
        "Handlers: 2 cancelled, 1 abandoned.",
    ]
    assert notes(connections_at_shutdown=1, handler_tasks_cancelled=1)[1:] == ["Handlers: 1 cancelled."]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "<0.1 ms"), (0.0002, "0.2 ms"), (0.00996, "10 ms"), (0.04, "40 ms"), (0.9994, "999 ms"),
        (0.9996, "1.00 s"), (2.014, "2.01 s"), (300, "300.00 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(1e-3, 1e6))
def test_ticks_are_few_and_round(end: float) -> None:
    found = ticks(end)
    assert 2 <= len(found) <= 7
    assert found[0].at == 0
    assert found[-1].at <= end * (1 + 1e-9)
    assert [mark.words for mark in ticks(2)] == ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]
    assert ticks(0.04)[1].words == "10 ms"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20))))
def test_no_label_stands_on_another(labels: list[tuple[int, int]]) -> None:
    spans = [(float(start), float(start + width)) for start, width in labels]
    taken: dict[int, list[tuple[float, float]]] = {}
    for lane, (start, end) in zip(lanes(spans), spans, strict=True):
        for other_start, other_end in taken.setdefault(lane, []):
            assert end < other_start or other_end < start
        taken[lane].append((start, end))


@pytest.mark.parametrize(
    ("text", "width", "fitted"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 6, "日本語"), ("日本語", 5, "日本…"), ("日本語", 4, "日…")],
)
def test_text_is_fitted_by_the_columns_it_takes(text: str, width: int, fitted: str) -> None:
    assert fit(text, width) == fitted
    assert cells(fitted) <= width


# As text

EVERYTHING = [
    request("/quick", -1, 0.1),
    request("/日本", 0.25, 0.4),
    request("/bad", -1, 0.5, error="boom"),
    request("/stubborn", -1, 1.8),
    *stop(2, 1, counts=CUT, cleanup_timeout=1.25, abandoned=(("GET /gone", 2),)),
]


def test_the_whole_text() -> None:
    assert (
        to_text(drawn(*EVERYTHING), 90)
        == """\
SIGTERM stopped the server in 2.00 s (allowed: 1 s of grace + 1.25 s for cleanup): of 5
requests, 2 finished, 1 was cut and cancelled, 1 failed and 1 was abandoned.

                stop            the grace ends      time for cleanup ends
phases          █▒ draining ▒▒▒▒█▓░ awaiting ░░░    ┊
GET /quick    ◀██               ┊                   ┊   finished at 0.10 s
GET /日本       ┊   ██          ┊                   ┊   finished at 0.40 s
GET /bad      ◀█████████        ┊                   ┊   error at 0.50 s (boom)
GET /stubborn ◀▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░░░░       ┊   cut and cancelled, ended at 1.80 s
GET /gone     ◀▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░░░░░░░░░░░░▶  abandoned, has not ended
              ──┴───────┴───────┴───────┴───────┴─────
                0 s     0.5 s   1 s     1.5 s   2 s

Phases: stop_accepting <0.1 ms, draining 1.00 s, force_closing <0.1 ms,
    cancelling <0.1 ms, awaiting 1.00 s.
Connections: 9 open at the stop; 7 ended by themselves and 2 force-closed.
Handlers: 2 cancelled.
"""
    )


def test_ascii_stands_in_the_same_places() -> None:
    plain = [line for line in EVERYTHING if "u65e5" not in line]
    text, ascii_text = (to_text(drawn(*plain), ascii_only=only) for only in (False, True))
    assert [len(line) for line in ascii_text.splitlines()] == [len(line) for line in text.splitlines()]
    assert "\nGET /gone     <%%%%" in ascii_text
    assert "\\u65e5" in to_text(drawn(*EVERYTHING), ascii_only=True)
    assert ascii_text.isascii()
    assert set(text) - set(ascii_text) <= set(GLYPHS)


def test_colour_changes_nothing_but_colour() -> None:
    coloured = to_text(drawn(*EVERYTHING), colour=True)
    assert "\x1b[31merror at 0.50 s (boom)\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == to_text(drawn(*EVERYTHING))


def test_a_narrow_terminal_gets_what_can_be_read() -> None:
    assert to_text(drawn(*EVERYTHING), 10) == to_text(drawn(*EVERYTHING), 60)
    long = to_text(drawn(request("/" + "x" * 200, -1, 0.5, error="y" * 200), *stop(1)), 60)
    assert max(len(line) for line in long.splitlines()) == 60


def test_a_wide_character_at_the_edge_is_not_cut_in_half() -> None:
    text = to_text(drawn(request("/", -1, 0.5, error="日" * 200), *stop(1)), 61)
    assert max(cells(line) for line in text.splitlines()) <= 61


def test_a_far_deadline_is_told_at_the_end_of_the_axis() -> None:
    text = to_text(drawn(*stop(0.3, graceful_timeout=30)))
    assert "the grace ends at 30 s →\n" in text
    tight = to_text(drawn(*stop(0.3, 0.29, counts=CUT, graceful_timeout=0.29, cleanup_timeout=0.05)))
    assert "the grace ends\n" in tight
    assert "time for cleanup ends\n" in tight
    narrow = drawn(request("/", -1, 1.1, error="y" * 99), *stop(1.2, 1.004, counts=CUT, cleanup_timeout=12345))
    assert "\ntime for cleanup ends at 12346 s →\n" in to_text(narrow, 60)


def test_where_round_times_have_no_room_some_are_left_out() -> None:
    picture = drawn(request("/" + "x" * 99, -1, 0.5, error="y" * 99), *stop(0.95, graceful_timeout=0.95))
    assert re.search(r"^ +0 ms +200 ms +400 ms +600 ms +800 ms$", to_text(picture, 160), re.MULTILINE)
    assert re.search(r"^ +0 ms +400 ms +800 ms$", to_text(picture, 60), re.MULTILINE)


def test_workers_have_groups_of_their_own() -> None:
    mine = request("/mine", -1, 0.5, attributes={"server.worker": 1})
    text = to_text(drawn(mine, request("/whose", -1, 0.5), *stop(1, workers=2)))
    assert re.findall(r"^(worker \d|one of the workers|phases|GET /\w+)", text, re.MULTILINE) == [
        "worker 0", "phases", "worker 1", "phases", "GET /mine", "one of the workers", "GET /whose",
        "worker 0", "worker 1", "one of the workers",
    ]  # fmt: skip
    assert "\n  Connections: 0 open" in text


# As SVG


def structure(svg: str) -> list[str]:
    """The phases and rows of a drawing, from top to bottom, without their times."""
    found: list[str] = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if "data-phase" in group.attrib:
            found.append(group.attrib["data-phase"])
        else:
            found.append(f"{group.attrib.get('data-route', 'several')}: {group.attrib['data-fate']}")
    return found


def test_the_structure_of_a_drawing() -> None:
    cut = [request("/cut", -1, 1 + n / 1000) for n in range(30)]
    assert structure(to_svg(drawn(*EVERYTHING, *cut))) == [
        *PHASES,
        "GET /quick: finished",
        "GET /日本: finished",
        "GET /bad: error",
        "several: cut",
        "GET /stubborn: cut",
        "GET /gone: abandoned",
    ]


def test_a_drawing_stands_alone_and_can_be_read_aloud() -> None:
    picture = drawn(*EVERYTHING)
    svg = to_svg(picture)
    root = ET.fromstring(svg)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == picture.heading
    assert (root.attrib["role"], root.attrib["aria-labelledby"]) == ("img", title.attrib["id"])
    assert all(group[0].tag == f"{SVG}title" for group in root.iter(f"{SVG}g"))
    assert "prefers-color-scheme: dark" in svg
    assert not [
        word for word in ("<script", "http:", "https:", "url(", "@import") if word in svg.replace(SVG[1:-1], "")
    ]
    (gone,) = [group for group in root.iter(f"{SVG}g") if group.get("data-route") == "GET /gone"]
    assert gone[0].text == "GET /gone: abandoned, has not ended\napp.py:1 main\napp.py:7 stuck"


def test_every_shape_and_word_stays_inside() -> None:
    long = request("/" + "x" * 200, -1, 0.5, error="y" * 200)
    tight = stop(0.3, 0.29, workers=2, counts=CUT, graceful_timeout=0.29, cleanup_timeout=0.01)
    for lines in ([long, *EVERYTHING], [long, *tight], stop(0.3, graceful_timeout=30), stop(60, graceful_timeout=90)):
        root = ET.fromstring(to_svg(drawn(*lines)))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for text in root.iter(f"{SVG}text"):
            size = cells(text.text or "") * (9 if text.get("class") == "heading" else 6.9)
            left = float(text.attrib["x"]) - (size / 2 if text.get("text-anchor") else 0)
            assert 0 <= left <= left + size <= width
            assert float(text.attrib["y"]) < height
        for rect in root.iter(f"{SVG}rect"):
            x, y = float(rect.get("x", "0")), float(rect.get("y", "0"))
            assert 0 <= x <= x + float(rect.attrib["width"]) <= width
            assert y + float(rect.attrib["height"]) <= height


def test_phases_without_length_are_ticks_side_by_side() -> None:
    root = ET.fromstring(to_svg(drawn(*stop(1))))
    rects = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g") if "data-phase" in group.attrib]
    sides = [(float(rect.attrib["x"]), float(rect.attrib["width"])) for rect in rects if rect is not None]
    assert len(sides) == 5
    assert all(width >= 3 for _, width in sides)
    assert all(x + width <= after + 0.1 for (x, width), (after, _) in pairwise(sides))


hostile = st.text(st.characters(), max_size=20)


@given(path=hostile, error=hostile, told=hostile)
def test_nothing_a_peer_sends_breaks_a_picture(path: str, error: str, told: str) -> None:
    lines = [
        request(f"/{path}", -1, 0.5, error=error),
        request(path, -1, 0.5, events=[event(told, 0.2)]),
        *stop(2, 1, reason=error, counts=CUT, abandoned=((told, 2),)),
    ]
    picture = drawn(*lines)
    svg = to_svg(picture)
    assert len([*ET.fromstring(svg).iter(f"{SVG}g")]) == 5 + 3
    assert svg.isascii()
    for text in (to_text(picture), to_text(picture, ascii_only=True)):
        assert "\x1b" not in text
        assert text.replace("\n", "").isprintable()


# The command


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join([*stop(1, reason="first", at=-100), "hello", *EVERYTHING]))
    return str(path)


def test_the_command_draws_the_last_stop(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([trace, "--width", "90"]) == 0
    assert capsys.readouterr().out == to_text(drawn(*EVERYTHING), 90)
    assert main([trace, "--last", "--format", "svg"]) == 0
    assert capsys.readouterr().out == to_svg(drawn(*EVERYTHING))
    assert main([trace, "--number", "1", "--ascii", "--cleanup-timeout", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("first stopped the server in 1.00 s (allowed: 1 s of grace + 2 s for cleanup)")
    assert out.isascii()


def test_the_command_lists_stops(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.localtime", __import__("time").gmtime)
    assert main([trace, "--list"]) == 0
    assert capsys.readouterr().out == "1  2027-01-15 07:58:20  1.00 s  first\n2  2027-01-15 08:00:00  2.00 s  SIGTERM\n"
    (tmp_path / "none.jsonl").write_text(request("/", 0, 1))
    assert main([str(tmp_path / "none.jsonl"), "--list"]) == 0
    assert capsys.readouterr().out == "No stop in this trace.\n"


def test_the_command_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(EVERYTHING)))
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["-"]) == 0
    assert capsys.readouterr().out == to_text(drawn(*EVERYTHING), 90)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, message in (("nowhere", "Cannot read"), (".", "Cannot read"), ("binary", "No line of this is a span")):
        (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
        assert main([str(tmp_path / name)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"error: {message}")
        assert 'JsonTracer(open("trace.jsonl", "w"))' in captured.err


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "no_color", "coloured"), [("utf-8", "", True), ("utf-8", "1", False), ("latin-1", "", True)]
)
def test_the_command_respects_the_terminal(
    trace: str, encoding: str, no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(raw, encoding=encoding, write_through=True))
    monkeypatch.setenv("NO_COLOR", no_color)
    assert main([trace]) == 0
    assert (b"\x1b[" in raw.getvalue()) is coloured
    assert raw.getvalue().isascii() is (encoding == "latin-1")


def test_it_is_a_program(trace: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stario_trio.report", trace, "--ascii"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("SIGTERM stopped the server in 2.00 s")
    assert done.stderr == "note: lines that are no spans: 1, the first is line 7\n"


# The picture in the docs


def test_the_picture_in_the_docs_is_one_of_a_real_stop(tmp_path: Path) -> None:
    again = tmp_path / "stop.svg"
    subprocess.run([sys.executable, str(ROOT / "docs/pictures/stop.py"), str(again)], check=True, timeout=60)
    rows = structure(again.read_text())
    assert rows == structure((ROOT / "docs/pictures/stop.svg").read_text())
    assert rows == [
        *PHASES,
        "GET /quick: finished",
        "GET /late: finished",
        "GET /events: finished",
        "GET /slow: finished",
        "GET /endless: cut",
        "GET /stubborn: cut",
    ]


def test_the_page_shows_the_picture_and_says_what_it_says() -> None:
    page = (ROOT / "docs/explanation/a-stop-in-a-picture.md").read_text()
    svg = (ROOT / "docs/pictures/stop.svg").read_text()
    assert "../pictures/stop.svg" in page
    for route in re.findall(r'data-route="GET (/\w+)"', svg):
        assert f"`{route}`" in page
    for phase in PHASES:
        assert f"`{phase}`" in page
