from __future__ import annotations

import gc
import io
import json
import sys
import threading
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.telemetry import JsonTracer, Span, Tracer, forks, outlet
from stario_trio.telemetry.json import MAX_DEPTH

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio.telemetry import Event, Link


class Hostile:
    """Nothing can be learnt about it, and it may be a key."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class HostileDict(dict[Any, Any]):
    def copy(self) -> NoReturn:
        raise RuntimeError("no")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "stario-json-tracer"]


class Status(IntEnum):
    OK = 200


def parse(line: str) -> dict[str, Any]:
    """Parse a line, strictly: `NaN` and `Infinity` are not JSON, and the line must be Unicode."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    line.encode()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    parsed: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return parsed


def one(output: io.StringIO) -> dict[str, Any]:
    return parse(output.getvalue())


def written(value: Any) -> Any:
    """What becomes of an attribute."""
    output = io.StringIO()
    span = JsonTracer(output)("a", {"value": value})
    span.end()
    return one(output)["attributes"]["value"]


def test_the_least_line() -> None:
    output = io.StringIO()
    tracer: Tracer = JsonTracer(output)
    span = tracer("GET")
    span.end()
    assert output.getvalue() == (
        f'{{"span_id":"{span.id}","name":"GET","start_ns":{span.start_ns},"end_ns":{span.end_ns},'
        f'"duration_ns":{span.duration_ns},"status":"ok"}}\n'
    )


def test_all_keys_in_order() -> None:
    output = io.StringIO()
    tracer = JsonTracer(output)
    span = Span(tracer, "ü", {"a": 1}, UUID(int=1))
    span("saved", {"n": 1})
    span("bare")
    span.link(UUID(int=2), {"why": "x"})
    span.link(UUID(int=3))
    span.error = "bad"
    span.end()
    record = one(output)
    assert list(record) == [
        "span_id", "name", "start_ns", "end_ns", "duration_ns", "status",
        "parent_id", "error", "attributes", "events", "links",
    ]  # fmt: skip
    assert "ü" in output.getvalue()
    assert record["status"] == "error"
    assert record["parent_id"] == "00000000-0000-0000-0000-000000000001"
    assert record["error"] == "bad"
    assert record["attributes"] == {"a": 1}
    saved, bare = span.events
    assert record["events"] == [
        {"time_ns": saved.time_ns, "name": "saved", "attributes": {"n": 1}},
        {"time_ns": bare.time_ns, "name": "bare", "attributes": {}},
    ]
    assert record["links"] == [
        {"span_id": str(UUID(int=2)), "attributes": {"why": "x"}},
        {"span_id": str(UUID(int=3)), "attributes": {}},
    ]


def test_children_are_lines_of_their_own() -> None:
    output = io.StringIO()
    with JsonTracer(output)("parent") as parent, parent.step("child"):
        pass
    child, own = (parse(line) for line in output.getvalue().splitlines(keepends=True))
    assert (child["name"], own["name"]) == ("child", "parent")
    assert child["parent_id"] == own["span_id"]


def test_an_open_span_is_never_written() -> None:
    output = io.StringIO()
    with JsonTracer(output) as tracer:
        tracer.notify(tracer("open"))
    assert output.getvalue() == ""


@pytest.mark.upstream_bug(61)
def test_a_span_has_one_line_whatever_happens_later() -> None:
    """BUG 61."""
    output = io.StringIO()
    tracer = JsonTracer(output)
    span = tracer("once")
    span.end()
    span["late"] = 1
    span("late")
    span.error = "late"
    with span:
        span.end()
    tracer.notify(span)
    assert "late" not in output.getvalue()
    assert one(output)["name"] == "once"


def test_two_threads_that_end_a_span_at_once_write_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes while the first makes the line."""
    output = io.StringIO()
    tracer = JsonTracer(output)
    line = tracer._line
    span = tracer("once")

    def overtaken(record: dict[str, Any]) -> bytes:
        monkeypatch.setattr(tracer, "_line", line)
        tracer.notify(span)
        return line(record)

    monkeypatch.setattr(tracer, "_line", overtaken)
    span.end()
    assert one(output)["name"] == "once"


@pytest.mark.upstream_bug(62)
def test_an_exception_with_an_empty_message_is_an_error() -> None:
    """BUG 62."""
    output = io.StringIO()
    with pytest.raises(ValueError, match=r"^$"), JsonTracer(output)("a"):
        raise ValueError
    assert (one(output)["status"], one(output)["error"]) == ("error", "ValueError")


@pytest.mark.upstream_bug(62)
def test_an_empty_error_is_an_error() -> None:
    output = io.StringIO()
    span = JsonTracer(output)("a")
    span.error = ""
    span.end()
    assert (one(output)["status"], one(output)["error"]) == ("error", "")


def test_a_traceback_is_a_list_of_frames() -> None:
    output = io.StringIO()
    with pytest.raises(ValueError, match="boom"), JsonTracer(output)("a"):
        raise ValueError("boom")
    (event,) = one(output)["events"]
    assert event["attributes"]["exc.type"] == "ValueError"
    (frame,) = event["attributes"]["exc.stacktrace"]
    assert "test_a_traceback_is_a_list_of_frames" in frame
    assert frame.endswith('raise ValueError("boom")')


def test_an_exception_that_was_never_raised_has_no_frames() -> None:
    output = io.StringIO()
    span = JsonTracer(output)("a")
    span(ValueError("boom"))
    span("odd", {"exc.stacktrace": "text"})
    span.end()
    never, odd = one(output)["events"]
    assert never["attributes"]["exc.stacktrace"] == []
    assert odd["attributes"]["exc.stacktrace"] == ["text"]


def test_the_members_of_a_group_are_told() -> None:
    def fail() -> NoReturn:
        raise ValueError

    output = io.StringIO()
    span = JsonTracer(output)("a")
    try:
        fail()
    except ValueError as exc:
        span(ExceptionGroup("nursery", [exc]))
    span.end()
    headline, _, frame = one(output)["events"][0]["attributes"]["exc.stacktrace"]
    assert headline == "ValueError: ValueError"
    assert "in fail" in frame


@pytest.mark.upstream_bug(63)
def test_what_json_cannot_say_becomes_text() -> None:
    """BUG 63."""
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    assert written(float("nan")) == "nan"
    assert written(float("-inf")) == "-inf"
    assert written(moment) == str(moment)
    assert written(b"x") == "b'x'"
    assert written(Status.OK) == 200
    assert written((1, [2, {"x": None}])) == [1, [2, {"x": None}]]
    assert written({1: "int", (2, 3): "tuple", None: True}) == {"1": "int", "(2, 3)": "tuple", "None": True}
    assert written(Hostile()) == "<unprintable Hostile>"
    assert written({Hostile(): 1}) == {"<unprintable Hostile>": 1}
    assert written(HostileDict(a=1)) == "{'a': 1}"
    assert written(10**600) == 10**600
    assert written(10**5000) == hex(10**5000)


def test_a_container_within_itself_ends() -> None:
    loop: list[Any] = [1]
    loop.extend([loop, loop])
    assert written(loop) == [1, "[1, [...], [...]]", "[1, [...], [...]]"]
    shared = [1]
    assert written([shared, shared]) == [[1], [1]]


def test_deep_containers_end_as_text() -> None:
    deep: Any = "bottom"
    for _ in range(MAX_DEPTH + 5):
        deep = [deep]
    found, depth = written(deep), 0
    while isinstance(found, list):
        (found,) = found
        depth += 1
    assert depth == MAX_DEPTH - 1  # the attributes themselves are the first container
    assert "bottom" in found
    bottomless: Any = []
    for _ in range(100_000):
        bottomless = [bottomless]
    assert "<unprintable list>" in str(written(bottomless))


def test_lone_surrogates_are_escaped() -> None:
    output = io.StringIO()
    JsonTracer(output)("\ud800").end()
    assert "\\ud800" in output.getvalue()
    assert one(output)["name"] == "\ud800"


def test_an_output_that_is_not_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="latin-1")
    JsonTracer(output)("€").end()
    assert json.loads(raw.getvalue())["name"] == "€"
    assert raw.getvalue().isascii()


any_text = st.text(st.characters(exclude_categories=()), max_size=10)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), any_text, st.binary(max_size=10), st.datetimes(),
    st.uuids(), st.complex_numbers(), st.builds(Hostile), st.builds(pow, st.just(10), st.just(5000)),
)  # fmt: skip
values = st.recursive(
    scalars | st.frozensets(scalars, max_size=3),
    lambda inside: (
        st.lists(inside, max_size=3) | st.tuples(inside, inside) | st.dictionaries(scalars, inside, max_size=3)
    ),
    max_leaves=8,
)
attributes = st.dictionaries(any_text, values, max_size=4)


@pytest.mark.upstream_bug(63)
@given(
    name=any_text,
    attributes=attributes,
    event=attributes,
    link=attributes,
    error=st.none() | any_text,
)
def test_every_span_is_one_line_of_valid_json(
    name: str, attributes: dict[str, Any], event: dict[str, Any], link: dict[str, Any], error: str | None
) -> None:
    output = io.StringIO()
    span = JsonTracer(output)(name, attributes)
    span(name, event)
    span.link(span, link)
    span.error = error
    span.end()
    record = one(output)
    assert record["name"] == name
    assert record.get("error") == error
    assert set(record.get("attributes", {})) == set(attributes)
    assert set(record["events"][0]["attributes"]) == set(event)
    assert set(record["links"][0]["attributes"]) == set(link)


json_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(
    json_scalars,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=4))
def test_what_json_can_say_is_said_as_it_is(attributes: dict[str, Any]) -> None:
    output = io.StringIO()
    JsonTracer(output)("a", attributes).end()
    assert one(output)["attributes"] == attributes


def test_lines_of_many_threads_do_not_mix() -> None:
    class Dribble(io.StringIO):
        """Writes a character at a time, so that only the lock keeps lines whole."""

        def write(self, text: str) -> int:
            return sum(super(Dribble, self).write(char) for char in text)

    output = Dribble()
    tracer = JsonTracer(output)
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        for n in range(50):
            tracer("work", {"n": n}).end()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    records = [parse(line) for line in output.getvalue().splitlines(keepends=True)]
    assert len({record["span_id"] for record in records}) == len(records) == 200


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


@pytest.mark.spec("SD-22")
def test_a_closed_or_broken_output_harms_nobody() -> None:
    closed = io.StringIO()
    closed.close()
    for output in (closed, Broken()):
        with JsonTracer(output) as tracer, tracer("a"):
            pass


def test_the_output_is_standard_output_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    tracer = JsonTracer()
    monkeypatch.undo()
    tracer("a").end()
    assert one(output)["name"] == "a"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_has_every_line_when_the_block_ends(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with path.open("w", encoding=encoding) as output, JsonTracer(output) as tracer:
        for n in range(1000):
            tracer("ü", {"n": n}).end()
        assert threads() == ["stario-json-tracer"]
    assert threads() == []
    with path.open(encoding=encoding) as lines:
        assert [parse(line)["attributes"]["n"] for line in lines] == list(range(1000))


def test_a_line_is_the_span_as_it_was_at_its_end(tmp_path: Path) -> None:
    """BUG 61, also where the line is written later."""
    path = tmp_path / "trace.jsonl"
    with path.open("w") as output, JsonTracer(output) as tracer:
        for _ in range(50):
            shared = {"k": ["early"]}
            span = tracer("span", shared)
            span.end()
            span["k"].append("late")
            span["late"] = 1
    assert "early" in path.read_text()
    assert "late" not in path.read_text()


def test_what_is_lost_is_told_in_a_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.jsonl"
    monkeypatch.setattr(outlet, "MAX_BACKLOG", 0)
    with path.open("w") as output, JsonTracer(output) as tracer:
        tracer("lost").end()
        tracer("lost").end()
        monkeypatch.undo()
        tracer("kept").end()
    kept, dropped = map(parse, path.read_text().splitlines(keepends=True))
    assert kept["name"] == "kept"
    assert (dropped["name"], dropped["status"]) == ("telemetry.dropped", "error")
    assert dropped["attributes"] == {"telemetry.dropped": 2}
    assert dropped["start_ns"] <= kept["start_ns"]
    assert dropped["end_ns"] >= kept["start_ns"]


def test_no_thread_before_the_first_span_has_ended(tmp_path: Path) -> None:
    with (tmp_path / "trace.jsonl").open("w") as output, JsonTracer(output) as tracer:
        tracer("open")
        assert threads() == []


def test_what_does_not_belong_into_a_span_is_no_reason_to_lose_it() -> None:
    """BUG 63."""
    output = io.StringIO()
    tracer = JsonTracer(output)
    span = Span(tracer, "odd", parent_id=cast("UUID", "a parent"))
    span.events.append(cast("Event", "no event"))
    span.links.append(cast("Link", 7))
    span.error = cast("str", 5)
    span.end()
    record = one(output)
    assert (record["parent_id"], record["error"]) == ("a parent", 5)
    assert record["events"] == [{"name": "no event", "attributes": {}}]
    assert record["links"] == [{"name": "7", "attributes": {}}]


def test_no_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `pythonw`."""
    monkeypatch.setattr(sys, "stdout", None)
    with JsonTracer() as tracer:
        tracer("a").end()


@pytest.mark.parametrize(("flush_each", "while_open"), [(True, True), (False, False)])
def test_flushing(flush_each: bool, while_open: bool) -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="utf-8")
    with JsonTracer(output, flush_each=flush_each) as tracer:
        tracer("a").end()
        assert (raw.getvalue() != b"") is while_open
    assert raw.getvalue() != b""
    assert not output.closed


def test_a_line_is_one_whoever_splits_it() -> None:
    name = "".join(map(chr, range(0x300))) + "\u2028\u2029"
    output = io.StringIO()
    JsonTracer(output)(name).end()
    assert len(output.getvalue().splitlines()) == 1
    assert not any("\x80" <= character <= "\x9f" for character in output.getvalue())
    assert "\xe9" in output.getvalue()  # others stay as they are
    assert one(output)["name"] == name


def test_a_broken_output_in_memory_is_told_of_once(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        broken = True

        def write(self, text: str, /) -> int:
            if self.broken:
                raise OSError("no room")
            return super().write(text)

    output = Broken()
    complaint = "stario-json-tracer: no room; its output is lost until this is over\n"
    with JsonTracer(output) as tracer:
        tracer("a").end()
        tracer("a").end()
        assert capfd.readouterr().err == complaint
        output.broken = False
        tracer("b").end()
        output.broken = True
        tracer("a").end()
    assert capfd.readouterr().err == complaint
    assert output.getvalue().count("\n") == 1


def test_without_standard_output_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with JsonTracer() as tracer:
        tracer("a").end()
    assert capfd.readouterr().err == ""


def test_the_thread_of_a_tracer_that_nobody_has_ends(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        tracer = JsonTracer(file)
        tracer("a").end()
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "stario-json-tracer"]
        del tracer
        gc.collect()
        thread.join(10)
        assert not thread.is_alive()
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_tracer_that_was_not_made_is_collected_in_silence() -> None:
    JsonTracer.__new__(JsonTracer).__del__()


def test_after_a_fork_it_has_a_lock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    tracer = JsonTracer(output)
    monkeypatch.setattr(forks, "_followed", {tracer})
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with before:
            held.set()
            over.wait(10)

    before = tracer._lock
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    forks.after_fork()
    assert tracer._lock is not before
    tracer("a").end()
    over.set()
    holder.join()
    assert one(output)["name"] == "a"
