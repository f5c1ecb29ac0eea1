"""The lines of a trace, as far as they tell of stops."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from stario_trio.exceptions import StarioError
from stario_trio.server.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ABANDONED", "HOW_TO_TRACE", "PHASES", "Record", "Trace", "printable", "read_trace"]

#: The names of the steps of a stop, in its order.
PHASES: Final = [phase.name.lower() for phase in Phase if Phase.SERVING < phase < Phase.STOPPED]
#: The name of the step that tells of a handler.
ABANDONED: Final = "handler abandoned"

HOW_TO_TRACE: Final = """\
    with JsonTracer(open("trace.jsonl", "w")) as tracer:
        app = Stario(tracer)"""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a trace: a span that has ended. Times are nanoseconds since the Unix epoch."""

    id: str
    parent: str | None
    name: str
    start: int
    end: int
    error: str | None
    attributes: dict[str, object]
    events: list[dict[str, object]]


@dataclass(slots=True)
class Trace:
    """What a trace holds about stops."""

    shutdowns: list[Record] = field(default_factory=list[Record])
    steps: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])
    """By the id of their parent."""
    requests: list[Record] = field(default_factory=list[Record])
    strange: list[int] = field(default_factory=list[int])
    """The numbers of the lines that are no spans."""


def read_trace(lines: Iterable[str]) -> Trace:
    """Read what a `JsonTracer` wrote. Other lines may stand between, as where a program prints to the same output.

    Raises:
        StarioError: not one line is a span.
    """
    trace = Trace()
    spans = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            trace.strange.append(number)
            continue
        spans += 1
        if record.parent is not None:
            if record.name in PHASES or record.name == ABANDONED:
                trace.steps.setdefault(record.parent, []).append(record)
        elif record.name == "server.shutdown":
            trace.shutdowns.append(record)
        elif "request.path" in record.attributes:
            trace.requests.append(record)
    if not spans:
        raise StarioError(
            "No line of this is a span in JSON" if trace.strange else "This trace is empty",
            help_text="Give the file that a JsonTracer has written: one span a line.",
            example=HOW_TO_TRACE,
        )
    return trace


def _record(line: str) -> Record | None:
    """A line as a span; None if it is none."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    found = cast("dict[str, object]", parsed)
    name, start, end = found.get("name"), found.get("start_ns"), found.get("end_ns")
    attributes, events = found.get("attributes", {}), found.get("events", [])
    if not (
        isinstance(name, str)
        and isinstance(start, int)
        and isinstance(end, int)
        and isinstance(attributes, dict)
        and isinstance(events, list)
    ):
        return None
    return Record(
        id=str(found.get("span_id")),
        parent=str(found["parent_id"]) if "parent_id" in found else None,
        name=name,
        start=start,
        end=end,
        error=str(found["error"]) if "error" in found else None,
        attributes=cast("dict[str, object]", attributes),
        events=[cast("dict[str, object]", event) for event in cast("list[object]", events) if isinstance(event, dict)],
    )


def printable(value: object) -> str:
    """Text on one line, without anything a terminal would obey: a trace holds what peers sent."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))
