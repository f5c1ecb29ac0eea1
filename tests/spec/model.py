"""A small model of the specification: what must happen, in times and counts, to any mix of connections.

It knows the clauses and nothing of the server: no Trio, no task, no socket. `predict` computes the future from a
`Mix`; `tests/spec/test_model.py` plays the same mix on the real worker and compares everything.

No two causes fall into one instant (each kind of time has a fraction of its own), so nothing depends on an order
that the specification leaves open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "answers", "new", "half", "swallows", "endless", "endless 1.0", "stream", "slow reader", "pipelined", "leaves"
]


@dataclass(frozen=True)
class Conn:
    """One connection: what its client and its handler do. Seconds; `None` is never.

    answers: a handler that takes `a`. new: no byte until `a` after connecting. half: half a head, the rest after `a`.
    swallows: never ends, and cleans up for `a` when cancelled. endless: writes for ever. stream: `w.alive()`, and `a`
    for the code after it. slow reader: opens its window after `a`. pipelined: two handlers that take `a` and `b`.
    leaves: a handler that takes `a`, a client that leaves after `b`.
    """

    kind: Kind
    at: int = 0
    a: int | None = 0
    b: int = 0


@dataclass(frozen=True)
class Mix:
    """Connections, and when the stop, a second one without grace, and an outer cancel come (seconds; None: never)."""

    conns: tuple[Conn, ...] = ()
    stop: int = 3
    grace: float = 5
    cleanup: int = 5
    again: int | None = None
    """Seconds from the stop to the second signal."""
    cancel: int | None = None
    """Seconds from the start to the outer cancel."""


# The fraction of each kind of time: see above. A connection's own times carry its number.
STOP, GRACE, AGAIN, CANCEL, CLEANUP, SHIELD = 0.5, 0.06, 0.2, 0.75, 0.03, 0.3


def own(number: int) -> float:
    """The fraction in all times of one connection."""
    return 0.001 * (number + 1)


@dataclass
class Future:
    """What must happen. Times are seconds since the start."""

    trace: list[str] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)
    """Of each connection whose client stays: when it ended, and with which answers."""
    closed_idle: int = 0
    finished: int = 0
    force_closed: int = 0
    cancelled: int = 0
    abandoned: int = 0


@dataclass
class Course:
    """How one connection goes if nobody uses force.

    `end` is when the server ends it, because of the drain or by itself; `answers` what was received by then; `idle`
    whether it is closed as idle; `handling` the spans in which a handler runs; `shield` how long a cancelled handler
    stays; `waiting` the spans in which no request is under way; `partly` the answers at any earlier time.
    """

    start: float
    end: float
    answers: list[str]
    idle: bool = False
    handling: list[tuple[float, float]] = field(default_factory=list)
    shield: float = 0.0
    waiting: list[tuple[float, float]] = field(default_factory=list)
    partly: list[tuple[float, list[str]]] = field(default_factory=list)
    followed: bool = True

    def received(self, now: float) -> list[str]:
        """The answers when it is cut at `now`."""
        got: list[str] = []
        for since, answers in self.partly:
            if since < now:
                got = answers
        return got


def course(number: int, conn: Conn, stop: float) -> Course:
    """The course of one connection, given the time of the stop."""
    start = conn.at + own(number)
    never = conn.a is None
    first = start + (0 if conn.a is None else conn.a)
    match conn.kind:
        case "answers":
            return _answered(start, [(start, first)], stop)
        case "new":
            if never or first > stop + 1:
                return Course(start, stop + 1, [], idle=True, waiting=[(start, stop + 1)])  # SD-05
            spoken = _answered(start, [(first, first)], stop)
            spoken.waiting.append((start, first))
            return spoken
        case "half":
            if never:
                return Course(start, math.inf, [])
            return _answered(start, [(first, first)], stop)  # SD-06
        case "swallows":
            shield = (conn.a or 0) + SHIELD + own(number)
            return Course(start, math.inf, [], handling=[(start, math.inf)], shield=shield)
        case "endless":
            return Course(start, math.inf, [], handling=[(start, math.inf)], partly=[(start, ["200 cut"])])
        case "endless 1.0":
            return Course(
                start, math.inf, [], handling=[(start, math.inf)], partly=[(start, ["200 close cut", "reset"])]
            )
        case "stream":
            after = stop + (conn.a or 0) + own(number)  # SD-08
            return Course(start, after, ["200"], handling=[(start, after)], partly=[(start, ["200 cut"])])
        case "slow reader":
            partly = [(start, ["200 cut"])]
            if never:
                return Course(start, math.inf, [], handling=[(start, start)], partly=partly)
            if first < stop:
                partly.append((first, ["200"]))
                return Course(start, stop, ["200"], idle=True, waiting=[(first, stop)], partly=partly)
            return Course(start, first, ["200"], partly=partly)  # its head was sent before the stop
        case "pipelined":
            return _answered(start, [(start, first), (first, first + conn.b)], stop)
        case "leaves":
            done = first
            # The handler outside alive() goes on; its connection ends with it.
            return Course(start, done, [], handling=[(start, done)], followed=False)


def _answered(start: float, requests: list[tuple[float, float]], stop: float) -> Course:
    """Requests that are answered one after the other: idle in the end, or closed by the first answer in the drain."""
    answers: list[str] = []
    partly: list[tuple[float, list[str]]] = []
    handling: list[tuple[float, float]] = []
    for begins, ends in requests:
        handling.append((begins, ends))
        answers = [*answers, "200" if ends < stop else "200 close"]  # SD-07
        partly.append((ends, answers))
        if ends > stop:
            return Course(start, ends, answers, handling=handling, partly=partly)
    idle = [(requests[-1][1], stop)]
    return Course(start, stop, answers, idle=True, handling=handling, waiting=idle, partly=partly)  # SD-04


def predict(mix: Mix) -> Future:
    """What the specification says about a mix."""
    stop = mix.stop + STOP
    cancel = math.inf if mix.cancel is None else mix.cancel + CANCEL
    again = math.inf if mix.again is None else stop + mix.again + AGAIN
    grace_ends = stop + (mix.grace + GRACE if mix.grace else 0)
    courses = [course(n, conn, stop) for n, conn in enumerate(mix.conns)]
    # Nobody gets in once the listener is closed (SD-02), or the run is cancelled (SD-17).
    inside = {n: c for n, c in enumerate(courses) if c.start < min(stop, cancel)}
    last = max([stop, *(c.end for c in inside.values())])
    force = min(last, grace_ends, again)  # SD-10, SD-16
    outer = cancel < force  # SD-17
    cut_at = min(force, cancel)

    future = Future()
    over = cut_at
    for n, c in inside.items():
        if c.end <= cut_at and (c.end < cut_at or not outer):
            end, answers = c.end, c.answers
            if end >= min(stop, cancel):
                future.closed_idle += c.idle
                future.finished += not c.idle
        else:
            end, answers = cut_at, c.received(cut_at)
            idle = outer and any(begins < cut_at < ends for begins, ends in c.waiting)
            future.closed_idle += idle
            future.force_closed += not idle
            if any(begins < cut_at < ends for begins, ends in c.handling):
                future.cancelled += 1
                over = max(over, cut_at + c.shield)
                # After an outer cancel nobody is left to report: the canceller waits for what it cancelled.
                limit = cut_at + mix.cleanup + CLEANUP
                future.abandoned += not outer and cut_at + c.shield > limit and cancel > limit
        if c.followed:
            future.ends[str(n)] = f"{end:.3f} {', '.join(answers) or 'nothing'}"

    if not outer or cancel > stop:
        future.trace += [f"{stop:.3f} STOP_ACCEPTING", f"{stop:.3f} DRAINING"]
    if not outer:
        future.trace += [f"{force:.3f} FORCE_CLOSING", f"{force:.3f} CANCELLING"]
    future.trace += [f"{cut_at:.3f} AWAITING", f"{over:.3f} STOPPED"]
    return future
