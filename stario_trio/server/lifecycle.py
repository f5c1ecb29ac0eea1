"""The shutdown machine in one Trio run, and the rings it ends.

A ring is a cancel scope with a phase written on it: `with lifecycle.until(Phase.DRAINING, "alive"): ...` runs until its
body is done or the worker reaches that phase. All rings of the server are opened here, so the picture in
`docs/reference/lifecycle.md` can be compared with the tags given to `until`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import trio

from stario_trio.server.phases import TRANSITIONS, Cause, Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["BrokenScopesError", "Lifecycle", "Ring"]


class BrokenScopesError(Exception):
    """A body has left a cancel scope open; Trio notices when the one around it closes."""


class Ring:
    """One cancel scope and the phase that ends it.

    `move` takes the scope to another ring without opening a new one: a connection has one scope for its whole life,
    ended by DRAINING while it is idle and by CANCELLING while a handler runs in it (a scope per request would cost
    about 4 us).

    Ends when: the body is done, the phase comes, the deadline passes, or `end` is called.
    Cancelled by: `Lifecycle.advance`, `end`.
    """

    __slots__ = ("_deadline", "_group", "_lifecycle", "_phase", "_scope", "late", "tag")

    def __init__(
        self,
        lifecycle: Lifecycle,
        phase: Phase,
        tag: str,
        late: float,
        deadline: float,
        group: dict[Ring, None] | None,
    ) -> None:
        self._lifecycle = lifecycle
        self._group = group
        self._phase = phase
        self._deadline = deadline
        self._scope = trio.CancelScope(deadline=deadline)
        self.late: float = late
        self.tag: str = tag

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._lifecycle.rings[self] = None
        if self._group is not None:
            self._group[self] = None
        self.move(self._phase, self.late)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        del self._lifecycle.rings[self]
        if self._group is not None:
            del self._group[self]
        try:
            return self._scope.__exit__(exc_type, exc, tb)
        except RuntimeError as error:
            raise BrokenScopesError(str(error)) from error

    @property
    def phase(self) -> Phase:
        """The phase that ends this ring."""
        return self._phase

    @property
    def ended(self) -> bool:
        """Whether the body has been told to end, by whichever cause."""
        return self._scope.cancel_called

    def move(self, phase: Phase, late: float = 0.0) -> None:
        """From now on, let `phase` end the body, `late` seconds after it comes; at once if it has come."""
        self._phase = phase
        if self.late:  # `phase_came` may have set a deadline; setting one costs 1 us, and this is done twice a request
            self._scope.deadline = self._deadline
        self.late = late
        if self._lifecycle.phase >= phase:
            self.phase_came()

    def phase_came(self) -> None:
        """End the body because its phase is here."""
        if self.late:
            self._scope.deadline = min(self._scope.deadline, self._lifecycle.since(self._phase) + self.late)
        else:
            self.end(f"{self._lifecycle.phase.name}: {self._lifecycle.why}")

    def end(self, reason: str) -> None:
        """End the body now."""
        self._scope.cancel(reason=reason)


class Lifecycle:
    """The phase of one worker, and everything that waits for a phase.

    Args:
        on_phase: told each new phase, after the rings of that phase were ended. Must not raise.
    """

    def __init__(self, on_phase: Callable[[Phase], None]) -> None:
        self.phase: Phase = Phase.SERVING
        self.why: str = ""
        """The reason of the stop, in words: what the cancel reasons of all rings say."""
        self.urgent: bool = False
        """Whether the stop leaves no grace (SD-16)."""
        #: Insertion ordered, so that two runs of one scenario end their rings in the same order.
        self.rings: dict[Ring, None] = {}
        self._on_phase = on_phase
        self._times: dict[Phase, float] = {}
        self._events: dict[Phase, trio.Event] = {}

    def since(self, phase: Phase) -> float:
        """The Trio time at which `phase` was entered or passed; `math.inf` while it has not come."""
        return self._times.get(phase, math.inf)

    def durations(self) -> dict[Phase, float]:
        """Seconds spent in each phase of a stop that is over."""
        phases = [phase for phase in Phase if phase in self._times]
        return {phase: self._times[then] - self._times[phase] for phase, then in pairwise(phases)}

    def advance(self, cause: Cause, why: str = "") -> None:
        """Take the step that `TRANSITIONS` has for this cause, and end the rings whose phase it reaches.

        Args:
            cause: what happened.
            why: the reason in words; the first one given is kept, since later causes only follow from it.
        """
        to = TRANSITIONS[self.phase, cause]
        self.why = self.why or why
        self.urgent = self.urgent or cause is Cause.URGENT
        if to is self.phase:
            return
        now = trio.current_time()
        for phase in list(Phase)[self.phase + 1 : to + 1]:
            self._times[phase] = now
        self.phase = to
        for ring in list(self.rings):
            if ring.phase <= to and not ring.ended:
                ring.phase_came()
        for phase, event in self._events.items():
            if phase <= to:
                event.set()
        self._on_phase(to)

    async def wait_phase(self, phase: Phase) -> None:
        """Return when `phase` has come or is past."""
        if self.phase < phase:
            await self._events.setdefault(phase, trio.Event()).wait()
        else:
            await trio.lowlevel.checkpoint()

    def until(
        self,
        phase: Phase,
        tag: str,
        *,
        late: float = 0.0,
        deadline: float = math.inf,
        group: dict[Ring, None] | None = None,
    ) -> Ring:
        """A block that `phase` ends.

        Args:
            phase: the phase that ends it.
            tag: its name in the picture of the rings.
            late: seconds it may go on after the phase came.
            deadline: the Trio time that ends it even before the phase.
            group: holds the ring while it is open, for somebody else who may end it.
        """
        return Ring(self, phase, tag, late, deadline, group)
