"""What one stop did, from its trace: plain data, times in seconds after the stop was asked for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from stario_trio.exceptions import StarioError
from stario_trio.report.trace import ABANDONED, HOW_TO_TRACE, PHASES, Record, Trace, printable
from stario_trio.server.config import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fate", "Request", "Shutdown", "Step", "Worker", "shutdown_of"]

#: Whichever of these comes first cuts the handlers that are left; an outer cancel knows only the last (SD-17).
_CUTTING: Final = PHASES[PHASES.index("force_closing") :]

_COUNT: Final = re.compile(r"server\.worker\.(\d+)\.(\w+)")


class Fate(Enum):
    """How a request ended, from the most usual to the most serious."""

    FINISHED = "finished"
    LEFT = "peer left"
    CUT = "cut and cancelled"
    ERROR = "error"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Step:
    """One phase of one worker."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker's phases, and its books as far as the trace has them."""

    id: int
    phases: list[Step]
    counts: dict[str, int]

    @property
    def cut(self) -> float | None:
        """When the handlers that were left lost their connections; None if none was left."""
        if not self.counts.get("handler_tasks_cancelled"):
            return None
        return min((step.start for step in self.phases if step.name in _CUTTING), default=None)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was in flight when the stop came, or began after it."""

    route: str
    worker: int | None
    """None where the trace does not tell which of several it was."""
    start: float
    end: float
    """Infinite where the trace does not tell."""
    fate: Fate
    cut: float | None = None
    """When its connection was closed under it."""
    detail: str = ""
    """The error, an unusual status, or the last event that its handler told after the stop."""
    stack: tuple[str, ...] = ()
    """Of an abandoned handler: where it waited, a line a frame, outermost first."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """One stop."""

    began_ns: int
    """Nanoseconds since the Unix epoch; every other time is seconds after it."""
    reason: str
    urgent: bool
    took: float
    graceful: float
    cleanup: float
    workers: list[Worker]
    requests: list[Request]

    @property
    def from_outside(self) -> bool:
        """Whether a cancel or an error made the stop, which has no grace then (SD-17)."""
        return not any(step.name == "draining" for worker in self.workers for step in worker.phases)

    @property
    def cut(self) -> float | None:
        """When the first handlers that were left lost their connections."""
        return min((worker.cut for worker in self.workers if worker.cut is not None), default=None)


def shutdown_of(trace: Trace, number: int | None = None, *, cleanup_timeout: float | None = None) -> Shutdown:
    """Gather what a trace tells about one of its stops.

    Args:
        trace: from `read_trace`.
        number: which, from 1; the last one if not given.
        cleanup_timeout: the server's, in seconds, for a trace that does not tell it; by default the server's default.

    Raises:
        StarioError: there is no such stop.
    """
    root = _root(trace, number)
    steps = trace.steps.get(root.id, [])
    workers = _workers(root, steps)
    cleanup = Config().cleanup_timeout if cleanup_timeout is None else cleanup_timeout
    attributes = root.attributes
    in_flight = [record for record in trace.requests if record.end > root.start and record.start < root.end]
    requests = [_request(record, root, workers) for record in in_flight]
    return Shutdown(
        began_ns=root.start,
        reason=printable(attributes.get("server.shutdown.reason", "")),
        urgent=attributes.get("server.shutdown.urgent") is True,
        took=_after(root, root.end),
        graceful=_seconds(attributes, "server.graceful_timeout", Config().graceful_timeout),
        cleanup=_seconds(attributes, "server.cleanup_timeout", cleanup),
        workers=workers,
        requests=_with_the_abandoned(requests, [step for step in steps if step.name == ABANDONED], root, workers),
    )


def _root(trace: Trace, number: int | None) -> Record:
    there = len(trace.shutdowns)
    if not there:
        begun = any(step.name in PHASES for steps in trace.steps.values() for step in steps)
        raise StarioError(
            "No server.shutdown in this trace" + (", although a stop has begun" if begun else ""),
            help_text=(
                "Its line is written when the server has stopped: wait for that, and do not kill the process."
                if begun
                else "Trace a server from its start to its stop, with a JsonTracer whose file stays open until then."
            ),
            example=None if begun else HOW_TO_TRACE,
        )
    if number is not None and not 1 <= number <= there:
        raise StarioError(f"No stop number {number} in this trace", help_text=f"It has {there}: see --list.")
    return trace.shutdowns[-1 if number is None else number - 1]


def _after(root: Record, ns: object) -> float:
    """Seconds after the stop."""
    return (ns - root.start) / 1e9 if isinstance(ns, int) else 0.0


def _seconds(attributes: Mapping[str, object], name: str, default: float) -> float:
    """A setting; JSON has no infinity, so that comes as text."""
    value = attributes.get(name)
    if isinstance(value, (int, float)):
        return float(value)
    return math.inf if value == "inf" else default


def _worker_of(record: Record) -> int | None:
    number = record.attributes.get("server.worker")
    return number if isinstance(number, int) else None


def _workers(root: Record, steps: list[Record]) -> list[Worker]:
    phases: dict[int, list[Step]] = {}
    counts: dict[int, dict[str, int]] = {}
    for name, value in root.attributes.items():
        if (found := _COUNT.fullmatch(name)) and isinstance(value, int):
            counts.setdefault(int(found[1]), {})[found[2]] = value
    for step in steps:
        if step.name in PHASES:
            times = Step(step.name, _after(root, step.start), _after(root, step.end))
            phases.setdefault(_worker_of(step) or 0, []).append(times)
    in_order = {name: place for place, name in enumerate(PHASES)}
    return [
        Worker(number, sorted(phases.get(number, []), key=lambda step: in_order[step.name]), counts.get(number, {}))
        for number in sorted({*phases, *counts})
    ]


def _request(record: Record, root: Record, workers: list[Worker]) -> Request:
    number = workers[0].id if len(workers) == 1 else _worker_of(record)
    # Nobody knows whose it was: then it was cut if it outlived the last cut of all.
    cuts = [worker.cut for worker in workers if number in (None, worker.id) and worker.cut is not None]
    cut = max(cuts, default=None)
    end = _after(root, record.end)
    fate = _fate(record, was_cut=cut is not None and end >= cut)
    return Request(
        route=printable(f"{record.attributes.get('request.method', record.name)} {record.attributes['request.path']}"),
        worker=number,
        start=_after(root, record.start),
        end=end,
        fate=fate,
        cut=cut if fate is Fate.CUT else None,
        detail=_detail(record, root, fate),
    )


def _fate(record: Record, *, was_cut: bool) -> Fate:
    """A handler that is cancelled, or swallows that, tells nothing of it; but it ends after the cut."""
    if record.error is not None:
        return Fate.ERROR
    if was_cut or any(event.get("name") == "cancelled" for event in record.events):
        return Fate.CUT
    told = [cast("dict[str, object]", event.get("attributes") or {}) for event in record.events]
    return Fate.LEFT if any(each.get("exc.type") == "ClientDisconnected" for each in told) else Fate.FINISHED


def _detail(record: Record, root: Record, fate: Fate) -> str:
    if record.error is not None:
        return printable(record.error)
    status = record.attributes.get("response.status_code")
    if fate is Fate.FINISHED and isinstance(status, int) and status >= 400:
        return str(status)
    told = [
        event.get("name")
        for event in record.events
        if _after(root, event.get("time_ns")) > 0 and event.get("name") not in ("exception", "cancelled")
    ]
    return printable(told[-1]) if told else ""


def _with_the_abandoned(
    requests: list[Request], steps: list[Record], root: Record, workers: list[Worker]
) -> list[Request]:
    """Mark the requests whose handlers were abandoned; one that never ends has no line, so its step stands for it."""
    left = list(requests)
    marked: list[Request] = []
    for step in steps:
        route, worker = printable(step.attributes.get("route", "?")), _worker_of(step)
        at = _after(root, step.start)
        stack = tuple(printable(line) for line in str(step.attributes.get("stack", "")).splitlines())
        found = next((each for each in left if each.route == route and each.end >= at), None)
        if found is not None:
            left.remove(found)
        start, end = (found.start, found.end) if found else (-math.inf, math.inf)
        cut = next((each.cut for each in workers if each.id == worker), None)
        marked.append(Request(route, worker, start, end, Fate.ABANDONED, cut, stack=stack))
    return left + marked
