from __future__ import annotations

from stario_trio.telemetry import NoopTracer, Span
from stario_trio.telemetry.backlog import KNOWN, Backlog
from stario_trio.telemetry.tree import SHOWN


def known(name: str, parent: Span | None = None) -> Span:
    span = Span(NoopTracer(), name, parent_id=None if parent is None else parent.id)
    span.mark = KNOWN
    return span


def test_its_length_counts_each_span_once_wherever_it_is() -> None:
    backlog = Backlog()
    root = known("root")
    step = known("step", root)
    backlog.arrivals.extend([root, step, step])
    assert len(backlog) == 2
    backlog.sort()
    assert not backlog.arrivals
    assert len(backlog.tree) == len(backlog) == 2
    root.end()
    backlog.arrivals.append(root)
    assert len(backlog) == 2
    backlog.sort()
    backlog.ended.extend(backlog.tree.take_finished())
    assert len(backlog.tree) == 0
    assert len(backlog) == 2


def test_what_was_shown_does_not_count() -> None:
    backlog = Backlog()
    late = known("late")
    late.mark = SHOWN
    backlog.arrivals.append(late)
    assert len(backlog) == 0
