"""A tree of spans as lines of text, for people."""

from __future__ import annotations

import re
import time
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from stario_trio.telemetry.core import STACKTRACE, Event, Span
from stario_trio.telemetry.failures import error_text, text, unfold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stario_trio.telemetry.tree import Node

__all__ = ["attribute_lines", "below", "clean", "colour", "duration", "heading", "inline"]

#: The frames of a traceback that are shown: the last ones, where it happened.
FRAMES: Final = 4

#: Longer values are cut: a line should stay a line. The whole value is in the JSON log.
MAX_VALUE: Final = 500

#: The events of a span that are shown, the last ones: a stream that is open for a day has more than a screen.
MAX_EVENTS: Final = 100

# Control characters, line separators, lone surrogates, and marks that turn the direction of a text. Attributes hold
# what a peer sent, and a terminal would obey an escape sequence in a path.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(value: object) -> str:
    """Return the text of a value on one line, without anything a terminal would obey."""
    shown = text(value)
    if len(shown) > MAX_VALUE:
        shown = shown[:MAX_VALUE] + "…"
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), shown)


def duration(ns: int) -> str:
    """Return nanoseconds in the unit that fits: `310 µs`, `20 ms`, `1.50 s`, `1:05 min`, `1:02:03`."""
    # Each unit is rounded before it is judged: 999.9 ms is "1.00 s", never "1000 ms".
    if (us := round(ns / 1e3)) < 1000:
        return f"{us} µs"
    if (ms := round(ns / 1e6)) < 1000:
        return f"{ms} ms"
    if (cs := round(ns / 1e7)) < 6000:
        return f"{cs / 100:.2f} s"
    minutes, seconds = divmod(round(ns / 1e9), 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def elapsed(span: Span) -> str:
    """Return how long a span took, or that it is open."""
    return "open" if span.duration_ns is None else duration(span.duration_ns)


def heading(span: Span) -> Text:
    """Return the first line of a root: `HH:MM:SS.mmm <end of id> <name> (<duration>)  error: <message>`."""
    seconds, ns = divmod(span.start_ns, 1_000_000_000)
    started = time.strftime("%H:%M:%S", time.localtime(seconds))
    line = Text.assemble(
        (f"{started}.{ns // 1_000_000:03} ", "dim"),
        (f"{str(span.id)[-8:]} ", "dim"),
        (clean(span.name), "bold"),
        f" ({elapsed(span)})",
    )
    if span.parent_id is not None:  # it ended, or started, after its root was shown
        line.append(f"  step of {str(span.parent_id)[-8:]}", "dim")
    if span.error is not None:
        line.append(f"  error: {clean(span.error)}", "red")
    return line


def colour(span: Span) -> str:
    """Return the colour of a root: whether it is open, failed, and how it was answered."""
    if span.in_progress:
        return "bright_black"
    status = span["response.status_code"]
    if span.failed or (isinstance(status, int) and status >= 500):
        return "red"
    return "yellow" if isinstance(status, int) and status >= 300 else "green"


def inline(attributes: dict[str, Any]) -> Text:
    """Return attributes as the rest of a line."""
    line = Text()
    for key, value in attributes.copy().items():
        line.append(f"  {clean(key)}: ", "dim").append(clean(value))
    return line


def attribute_lines(span: Span) -> Iterator[Text]:
    """Yield attributes as lines: `request.*` below the word `request`, those without a dot last."""
    groups: dict[str, list[Text]] = {}
    flat: list[Text] = []
    for key, value in span.attributes.copy().items():
        group, dot, rest = clean(key).partition(".")
        if dot:
            line = Text.assemble((f"  .{rest}: ", "dim"), clean(value))
            groups.setdefault(group, []).append(line)
        else:
            flat.append(Text.assemble((f"{group}: ", "dim"), clean(value)))
    for group, lines in groups.items():
        yield Text(group, "dim")
        yield from lines
    yield from flat


def below(node: Node, indent: str = "") -> Iterator[Text]:
    """Yield the events and steps of a span in the order of their times, each step with what is below it."""
    if node.left_out:
        yield Text(f"{indent}… {node.left_out:,} earlier steps", "dim")
    events = node.span.events.copy()
    if len(events) > MAX_EVENTS:
        yield Text(f"{indent}… {len(events) - MAX_EVENTS:,} earlier events", "dim")
    entries: list[tuple[int, Event | Node]] = [(event.time_ns, event) for event in events[-MAX_EVENTS:]]
    entries += [(child.span.start_ns, child) for child in node.children]
    for _, entry in sorted(entries, key=lambda entry: entry[0]):
        if isinstance(entry, Event):
            yield from event_lines(entry, node.span, indent)
        else:
            yield step_line(entry.span, indent)
            yield from below(entry, indent + "│ ")


def step_line(span: Span, indent: str) -> Text:
    """Return the line of a step: `● <name>  <duration>`, with `✗` where it failed, `○` while it is open."""
    sign, style = ("✗", "red") if span.failed else ("○", "dim") if span.in_progress else ("●", "green")
    line = Text.assemble(indent, (sign, style), f" {clean(span.name)}  ", (elapsed(span), "cyan"))
    if span.error is not None:
        line.append(f"  error: {clean(span.error)}", "red")
    return line.append_text(inline(span.attributes))


def event_lines(event: Event, span: Span, indent: str) -> Iterator[Text]:
    """Yield the line of an event, and for an exception its traceback."""
    attributes = event.attributes.copy()
    exc = attributes.get(STACKTRACE)
    failed = isinstance(exc, BaseException)
    sign, style = ("✗", "red") if failed else ("◆", "cyan")
    # A live list may hold an event with a time of its own making.
    after = duration(max(0, event.time_ns - span.start_ns))
    line = Text.assemble(indent, (sign, style), f" +{after} {clean(event.name)}")
    if not isinstance(exc, BaseException):
        yield line.append_text(inline(attributes))
        return
    for key in ("exc.type", "exc.message", STACKTRACE):
        attributes.pop(key, None)
    yield line.append(f"  {failure(exc)}", "red").append_text(inline(attributes))
    yield from traceback_lines(exc, indent + "  ")


def failure(exc: BaseException) -> str:
    """Return `<type>: <message>`."""
    return f"{clean(type(exc).__name__)}: {clean(error_text(exc))}"


def traceback_lines(exc: BaseException, indent: str) -> Iterator[Text]:
    """Yield the last frames of an exception; the members of a group follow, each under a headline."""
    for each in unfold(exc):
        if each is not exc:
            yield Text(f"{indent}{failure(each)}", "red")
        for frame in extract_tb(each.__traceback__)[-FRAMES:]:
            where = f"{indent}{clean(frame.filename)}:{frame.lineno} in {clean(frame.name)}"
            yield Text.assemble((where, "dim"), f"  {clean(frame.line or '')}")
