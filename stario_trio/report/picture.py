"""What a picture of a stop shows, row by row, whatever it is drawn with: times are seconds after the stop."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stario_trio.report.model import Fate

if TYPE_CHECKING:
    from stario_trio.report.model import Request, Shutdown, Step, Worker

__all__ = ["MOST_BARS", "Bar", "Group", "Mark", "Picture", "cells", "duration", "fit", "lanes", "picture_of", "ticks"]

#: Bars of one group that fit a screen; of more requests, the alike ones share a bar.
MOST_BARS: Final = 20

#: The axis goes on to a deadline that has begun, unless that would squeeze everything that happened into less.
_MOST_WAITING: Final = 1.5


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that everybody waits for: a vertical line."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One request, or several alike."""

    label: str
    start: float
    end: float
    """Infinite where the bar goes on beyond what the trace tells."""
    fate: Fate
    words: str
    cut: float | None = None
    """From here on the handler was cancelled, and had no connection."""
    ends: tuple[float, ...] = ()
    """Of several: when each ended."""
    stack: tuple[str, ...] = ()
    """Of an abandoned handler."""


@dataclass(frozen=True, slots=True)
class Group:
    """One worker, or the requests of which no worker is known."""

    title: str
    phases: list[Step] = field(default_factory=list["Step"])
    bars: list[Bar] = field(default_factory=list[Bar])
    notes: list[str] = field(default_factory=list[str])
    """What has no bar."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything there is to draw."""

    heading: str
    start: float
    end: float
    """The axis goes from `start` to `end`; the stop is 0."""
    marks: list[Mark]
    groups: list[Group]


def duration(seconds: float) -> str:
    """A time in three digits or so: `<0.1 ms`, `0.2 ms`, `40 ms`, `2.01 s`."""
    ms = seconds * 1000
    if ms < 0.1:
        return "<0.1 ms"
    if round(ms, 1) < 10:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if round(ms) < 1000 else f"{seconds:.2f} s"


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def fit(text: str, width: int) -> str:
    """The text, or its beginning where it is wider."""
    if cells(text) <= width:
        return text
    while cells(text) > width - 1:
        text = text[:-1]
    return text + "…"


def ticks(end: float) -> list[Mark]:
    """Round times from 0 to `end`, five or so, in one unit."""
    rough = end / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * each for each in (1, 2, 5, 10) if magnitude * each >= rough)
    unit, words = (1, "s") if end >= 1 else (1000, "ms")
    return [Mark(n * step, f"{round(n * step * unit, 6):g} {words}") for n in range(math.floor(end / step) + 1)]


def lanes(labels: list[tuple[float, float]]) -> list[int]:
    """For labels that go from here to there: the line of each, so that none stands on another."""
    ends: list[float] = []
    found: list[int] = []
    for start, end in labels:
        lane = next((lane for lane, taken in enumerate(ends) if taken < start), len(ends))
        ends[lane : lane + 1] = [end]
        found.append(lane)
    return found


def picture_of(shutdown: Shutdown, most_bars: int = MOST_BARS) -> Picture:
    """Lay out one stop.

    Args:
        shutdown: what happened.
        most_bars: of each worker; more requests share bars.
    """
    marks = _marks(shutdown)
    end = max(shutdown.took, 1e-3)
    end = max(end, *(mark.at for mark in marks if mark.at <= end * _MOST_WAITING))
    margin = end * 0.06
    return Picture(_heading(shutdown), -margin, end + margin / 2, marks, _groups(shutdown, most_bars, end))


def _marks(shutdown: Shutdown) -> list[Mark]:
    """The stop, and the deadlines that somebody waited for. Those beyond the axis are told at its end."""
    marks = [Mark(0.0, "cancelled" if shutdown.from_outside else "stop")]
    if not shutdown.from_outside:
        if shutdown.urgent:
            forced = [step.start for each in shutdown.workers for step in each.phases if step.name == "force_closing"]
            marks += [Mark(min(forced), "urgent: the grace ends")] if forced else []
        elif math.isfinite(shutdown.graceful):
            marks.append(Mark(shutdown.graceful, "the grace ends"))
    if shutdown.cut is not None and math.isfinite(shutdown.cleanup):
        marks.append(Mark(shutdown.cut + shutdown.cleanup, "time for cleanup ends"))
    return marks


# The sentence


def _heading(shutdown: Shutdown) -> str:
    """What happened, in one sentence."""
    who = {"cancelled": "A cancel from outside", "": "Somebody"}.get(shutdown.reason, shutdown.reason)
    fates = Counter(request.fate for request in shutdown.requests)
    story = [(fates[fate], f"{_was(fate, fates[fate])}{_VERBS[fate]}") for fate in Fate if fates[fate]]
    if not story:
        told = "no request was in flight"
    elif len(story) == 1:
        told = f"{_requests(story[0][0])} {story[0][1]}"
    else:
        told = f"of {_requests(len(shutdown.requests))}, {_listed([f'{count:,} {verb}' for count, verb in story])}"
    return f"{who} stopped the server in {duration(shutdown.took)}{_bound(shutdown)}: {told}."


_VERBS: Final = {
    Fate.FINISHED: "finished",
    Fate.LEFT: "lost the peer",
    Fate.CUT: "cut and cancelled",
    Fate.ERROR: "failed",
    Fate.ABANDONED: "abandoned",
}


def _was(fate: Fate, count: int) -> str:
    if fate not in (Fate.CUT, Fate.ABANDONED):
        return ""
    return "was " if count == 1 else "were "


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _bound(shutdown: Shutdown) -> str:
    if shutdown.from_outside:
        return ""
    bound = shutdown.graceful + shutdown.cleanup
    if not math.isfinite(bound):
        return ", without a bound"
    parts = f"{shutdown.graceful:g} s of grace + {shutdown.cleanup:g} s for cleanup"
    return f" ({'beyond its bound' if _late(shutdown, bound) else 'allowed'}: {parts})"


def _late(shutdown: Shutdown, bound: float) -> bool:
    return shutdown.took > bound + 0.1  # SD-15 leaves out what scheduling takes


# The rows


def _groups(shutdown: Shutdown, most_bars: int, end: float) -> list[Group]:
    several = len(shutdown.workers) > 1
    groups = [
        Group(
            f"worker {worker.id}" if several else "",
            worker.phases,
            _bars([each for each in shutdown.requests if each.worker == worker.id], most_bars, end),
            _notes(worker),
        )
        for worker in shutdown.workers
    ]
    others = [each for each in shutdown.requests if each.worker not in {worker.id for worker in shutdown.workers}]
    if others:
        groups.append(Group("one of the workers" if several else "", bars=_bars(others, most_bars, end)))
    return groups


def _bars(requests: list[Request], most_bars: int, end: float) -> list[Bar]:
    """A bar each, in the order of their ends; if there are too many, every fate gets its share of the rows."""
    bars: list[Bar] = []
    fates = Counter(request.fate for request in requests)
    for fate in fates:
        alike = sorted((each for each in requests if each.fate is fate), key=lambda each: each.end)
        share = max(2, most_bars // len(fates))
        if len(requests) > most_bars and len(alike) > share:
            together = len(alike) - share + 1  # the last to end have bars of their own
            near = alike[together - 1].end + end / 50
            while together < len(alike) and alike[together].end <= near:
                together += 1
            bars.append(_shared_bar(alike[:together]))
            alike = alike[together:]
        bars += [_bar(each, end) for each in alike]
    return sorted(bars, key=lambda bar: bar.end)


def _bar(request: Request, axis: float) -> Bar:
    words = request.fate.value
    ended = f"{request.end:.2f} s" if axis >= 1 else duration(request.end)  # in the unit of the axis
    if math.isinf(request.end):
        words += ", has not ended"
    elif request.fate is Fate.ABANDONED or (request.cut is not None and request.end - request.cut >= 0.01):
        words += f", ended at {ended}"
    else:
        words += f" at {ended}"
    if request.detail:
        words += f" ({request.detail})"
    return Bar(request.route, request.start, request.end, request.fate, words, request.cut, stack=request.stack)


def _shared_bar(requests: list[Request]) -> Bar:
    ends = tuple(request.end for request in requests)
    fate = requests[0].fate
    last = "some have not ended" if math.isinf(ends[-1]) else f"within {duration(ends[-1])} of the stop"
    words = f"{fate.value} {last}" if fate is Fate.FINISHED else f"{fate.value}, {last}"
    cut = min((each.cut for each in requests if each.cut is not None), default=None)
    start = min(request.start for request in requests)
    return Bar(_requests(len(requests)), start, ends[-1], fate, words, cut, ends)


def _notes(worker: Worker) -> list[str]:
    """The connections by their books (SD-24): most of them have no request, so no bar."""
    counts = worker.counts
    if "connections_at_shutdown" not in counts:
        return []
    late, idle = counts.get("connections_accepted_late", 0), counts.get("connections_closed_idle", 0)
    forced, cancelled = counts.get("connections_force_closed", 0), counts.get("handler_tasks_cancelled", 0)
    there = counts["connections_at_shutdown"]
    by_themselves = there + late - idle - forced
    ended = [
        words
        for count, words in (
            (idle, f"{idle:,} idle and closed at once"),
            (by_themselves, f"{by_themselves:,} ended by themselves"),
            (forced, f"{forced:,} force-closed"),
        )
        if count
    ]
    opened = f"{there:,} open at the stop" + (f" and {late:,} accepted after it" if late else "")
    notes = [f"Connections: {opened}" + (f"; {_listed(ended)}." if ended else ".")]
    if cancelled:
        abandoned = counts.get("handlers_abandoned", 0)
        notes.append(f"Handlers: {cancelled:,} cancelled" + (f", {abandoned:,} abandoned." if abandoned else "."))
    return notes
