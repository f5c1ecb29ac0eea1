from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self
from uuid import UUID, uuid4

import pytest
import trio

from stario_trio.telemetry import Event, Link, Span, Tracer, core

if TYPE_CHECKING:
    from types import TracebackType


class Recorder:
    """Keeps what it is told: the span and what it looked like at that moment."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def __call__(self, name: str, attributes: dict[str, object] | None = None) -> Span:
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None:
        self.told.append((span.name, span.finished))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class EndsOnly(Recorder):
    wants_changes = False


class Raising(Recorder):
    def notify(self, span: Span) -> None:
        super().notify(span)
        raise RuntimeError("broken tracer")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Two clocks under the test's control."""
    clock = {"wall": 1_000_000, "monotonic": 50}
    monkeypatch.setattr(core, "time_ns", lambda: clock["wall"])
    monkeypatch.setattr(core, "perf_counter_ns", lambda: clock["monotonic"])
    return clock


def test_a_recorder_is_a_tracer() -> None:
    tracer: Tracer = Recorder()
    with tracer as entered:
        assert entered is tracer


def test_a_new_span() -> None:
    span = Span(Recorder(), "GET")
    assert (span.name, span.parent_id, span.error) == ("GET", None, None)
    assert (span.attributes, span.events, span.links) == ({}, [], [])
    assert (span.end_ns, span.duration_ns) == (None, None)
    assert span.in_progress
    assert not span.finished
    assert span.ok
    assert not span.failed
    assert span.mark is None


def test_it_has_no_dict() -> None:
    assert not hasattr(Span(Recorder(), "GET"), "__dict__")


def test_attributes() -> None:
    given = {"a": 1}
    span = Span(Recorder(), "GET", given)
    span["b"] = 2
    assert given == {"a": 1}
    assert (span["a"], span["b"], span["c"]) == (1, 2, None)
    assert (span.get("b"), span.get("c"), span.get("c", 3)) == (2, None, 3)
    assert "a" in span
    assert "c" not in span
    del span["a"]
    assert span.attributes == {"b": 2}
    span.attributes["live"] = True
    assert span["live"] is True
    with pytest.raises(KeyError):
        del span["a"]


def test_the_id_is_made_once() -> None:
    span = Span(Recorder(), "GET")
    assert span.id is span.id
    assert span.id.version == 7


def test_a_thread_that_is_overtaken_takes_the_id_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    span = Span(Recorder(), "GET")
    first: list[UUID] = []

    def overtaken() -> UUID:
        monkeypatch.undo()
        first.append(span.id)
        return uuid4()

    monkeypatch.setattr(core, "uuid7", overtaken)
    assert [span.id] == first == [span.id]


def test_threads_that_ask_first_at_once_get_the_same() -> None:
    together = threading.Barrier(4)
    spans = [Span(Recorder(), "GET") for _ in range(200)]
    found: list[list[tuple[UUID, int, int]]] = []

    def ask() -> None:
        together.wait()
        found.append([(span.id, id(span.events), id(span.links)) for span in spans])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[1:] == [found[0]] * 3


def test_events(clock: dict[str, int]) -> None:
    span = Span(Recorder(), "GET")
    clock["monotonic"] += 7
    given = {"n": 1}
    event = span("saved", given)
    assert event == Event(1_000_007, "saved", {"n": 1})
    assert span.events == [event]
    given["n"] = 2
    assert event.attributes == {"n": 1}
    assert span("bare").attributes == {}
    assert Event(1, "own").attributes == {}


def test_an_exception_is_an_event_and_no_error() -> None:
    span = Span(Recorder(), "GET")
    boom = ValueError("boom")
    event = span(boom, {"try": 2})
    assert event.name == "exception"
    assert event.attributes == {
        "try": 2, "exc.type": "ValueError", "exc.message": "boom", "exc.stacktrace": boom,
    }  # fmt: skip
    assert span.ok


def test_links() -> None:
    span, other, some_id = Span(Recorder(), "a"), Span(Recorder(), "b"), uuid4()
    assert span.link(other, {"why": "retry"}) == Link(other.id, {"why": "retry"})
    assert span.link(some_id) == Link(some_id)
    assert span.links == [Link(other.id, {"why": "retry"}), Link(some_id)]


def test_steps_and_roots() -> None:
    tracer = Recorder()
    span = Span(tracer, "GET")
    step = span.step("query", {"n": 1})
    root = span.root("job", {"n": 2})
    assert (step.name, step.parent_id, step["n"]) == ("query", span.id, 1)
    assert (root.name, root.parent_id, root["n"]) == ("job", None, 2)
    assert tracer.told == [("GET", False), ("query", False), ("job", False)]


def test_error() -> None:
    span = Span(Recorder(), "GET")
    span.error = ""
    assert span.failed
    assert not span.ok
    span.error = None
    assert span.ok


def test_fail_keeps_the_first_error() -> None:
    """BUG 62: also where the exception has no message."""
    span = Span(Recorder(), "GET")
    span.fail(ValueError())
    span.fail(KeyError("later"))
    assert span.error == "ValueError"
    assert [event.attributes["exc.type"] for event in span.events] == ["ValueError", "KeyError"]


def test_end_counts_once(clock: dict[str, int]) -> None:
    span = Span(Recorder(), "GET")
    clock["monotonic"] += 20
    span.end()
    clock["monotonic"] += 20
    span.end()
    assert (span.start_ns, span.end_ns, span.duration_ns) == (1_000_000, 1_000_020, 20)
    assert span.finished
    assert not span.in_progress


def test_a_wall_clock_set_back_makes_no_negative_time(clock: dict[str, int]) -> None:
    span = Span(Recorder(), "GET")
    clock["wall"] = 5
    clock["monotonic"] += 20
    event = span("tick")
    span.end()
    assert event.time_ns == 1_000_020
    assert span.duration_ns == 20
    assert span.end_ns == 1_000_020


def test_a_block_ends_the_span_again(clock: dict[str, int]) -> None:
    span = Span(Recorder(), "GET")
    with span as entered:
        span.end()
        clock["monotonic"] += 9
    assert entered is span
    assert span.duration_ns == 9
    assert span.ok
    assert span.events == []


def test_a_block_records_its_exception_and_lets_it_pass() -> None:
    span = Span(Recorder(), "GET")
    with pytest.raises(ValueError, match="boom"), span:
        raise ValueError("boom")
    assert span.error == "boom"
    assert span.finished
    assert [event.name for event in span.events] == ["exception"]


def test_a_block_keeps_an_error_that_is_there() -> None:
    span = Span(Recorder(), "GET")
    span.error = "mine"
    with pytest.raises(ValueError, match="boom"), span:
        raise ValueError("boom")
    assert span.error == "mine"


async def test_a_cancellation_is_no_error() -> None:
    span = Span(Recorder(), "GET")
    with trio.CancelScope() as scope:
        scope.cancel(reason="the peer left")
        with span:
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert span.ok
    assert span.finished
    (event,) = span.events
    assert event.name == "cancelled"
    assert "the peer left" in event.attributes["reason"]


async def test_a_group_of_cancellations_is_no_error() -> None:
    span = Span(Recorder(), "GET")
    with trio.CancelScope() as scope, span:
        try:
            scope.cancel(reason="the peer left")
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            raise BaseExceptionGroup("nursery", [exc, exc]) from None
    assert span.ok
    assert "the peer left" in span.events[0].attributes["reason"]


async def test_an_error_beside_a_cancellation_is_an_error() -> None:
    span = Span(Recorder(), "GET")

    async def fail_while_cancelled() -> None:
        with trio.CancelScope() as scope, span:
            try:
                scope.cancel()
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                raise BaseExceptionGroup("nursery", [exc, ValueError("boom")]) from None

    with pytest.raises(BaseExceptionGroup) as raised:
        await fail_while_cancelled()
    assert raised.group_contains(ValueError)
    assert span.failed
    assert [event.name for event in span.events] == ["exception"]


def every_change(span: Span) -> None:
    span.name = "b"
    span["k"] = 1
    del span["k"]
    span("event")
    span.link(span)
    span.error = "bad"
    span.end()
    span.end()
    span("late")


def test_a_tracer_is_told_of_the_start_and_every_change() -> None:
    tracer = Recorder()
    every_change(tracer("a"))
    assert tracer.told == [("a", False), *[("b", False)] * 6, ("b", True), ("b", True)]


def test_a_tracer_without_interest_in_changes_is_told_of_the_end_alone() -> None:
    tracer = EndsOnly()
    span = tracer("a")
    every_change(span)
    with span:
        pass
    assert tracer.told == [("b", True)]


def test_a_block_tells_of_its_end() -> None:
    for tracer in (Recorder(), EndsOnly()):
        with tracer("a"):
            pass
        assert tracer.told[-1] == ("a", True)


@pytest.mark.spec("SD-22")
def test_a_tracer_that_raises_harms_nobody() -> None:
    tracer = Raising()
    span = tracer("a")
    every_change(span)
    with span.step("step"), span.root("root"):
        pass
    assert span.error == "bad"
    assert len(tracer.told) > 10


@pytest.mark.spec("SD-22")
def test_what_is_no_exception_passes() -> None:
    class Interrupted(Recorder):
        def notify(self, span: Span) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted()("a")


def test_a_span_may_end_in_another_thread() -> None:
    span = Span(Recorder(), "GET")
    thread = threading.Thread(target=span.end)
    thread.start()
    thread.join()
    assert span.finished


def test_a_tracer_needs_nothing_but_the_protocol() -> None:
    """Written from the protocol alone: it says what it is told, with what the span is in that moment."""

    class Lines:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def __call__(self, name: str, attributes: dict[str, object] | None = None) -> Span:
            return Span(self, name, attributes)

        def notify(self, span: Span) -> None:
            status = "open" if span.in_progress else "failed" if span.failed else "ok"
            self.lines.append(f"{span.name} {status} {span.attributes}")

        def __enter__(self) -> Self:
            self.lines.append("begin")
            return self

        def __exit__(
            self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
        ) -> None:
            self.lines.append("end")

    tracer: Tracer = (told := Lines())
    with tracer, pytest.raises(ValueError, match="boom"), tracer("GET", {"a": 1}) as span:
        span["b"] = 2
        with span.step("query"):
            pass
        raise ValueError("boom")
    assert told.lines == [
        "begin",
        "GET open {'a': 1}",
        "GET open {'a': 1, 'b': 2}",
        "query open {}",
        "query ok {}",
        "GET open {'a': 1, 'b': 2}",  # the event
        "GET open {'a': 1, 'b': 2}",  # the error
        "GET failed {'a': 1, 'b': 2}",
        "end",
    ]


def test_threads_may_share_a_span() -> None:
    span = Span(Recorder(), "GET")
    together = threading.Barrier(4)

    def work(name: str) -> None:
        together.wait()
        for n in range(200):
            span[f"{name}.{n}"] = n
            span(name)
            span.link(span)
            span.step(name).end()

    workers = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (len(span.attributes), len(span.events), len(span.links)) == (800, 800, 800)


def test_parent_id_may_be_given() -> None:
    parent = UUID(int=7)
    assert Span(Recorder(), "GET", parent_id=parent).parent_id is parent
