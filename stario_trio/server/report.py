"""What one shutdown did: plain data, filled in while it happens (SD-23)."""

from __future__ import annotations

from dataclasses import dataclass, field

from stario_trio.server.phases import Phase

__all__ = ["Abandoned", "Report", "WorkerReport"]


@dataclass(slots=True)
class Abandoned:
    """A handler that was still there after the cleanup timeout (SD-14)."""

    worker: int
    route: str
    """Method and path of its request."""
    stack: list[str]
    """Where it waits: one entry a frame, outermost first, as in a traceback."""


@dataclass(slots=True)
class WorkerReport:
    """The books of one worker (SD-24).

    `connections_at_shutdown + accepted_late == closed_idle + finished + force_closed` once it has stopped.
    """

    id: int
    connections_at_shutdown: int = 0
    """Open connections when the stop was asked for."""
    accepted_late: int = 0
    """Connections the kernel had completed, taken in STOP_ACCEPTING."""
    closed_idle: int = 0
    """Closed by the server while no request was under way."""
    finished: int = 0
    """Ended by themselves: the response was completed, or the peer left."""
    force_closed: int = 0
    """Closed by the server with a request under way."""
    handlers_cancelled: int = 0
    abandoned: list[Abandoned] = field(default_factory=list["Abandoned"])
    durations: dict[Phase, float] = field(default_factory=dict[Phase, float])
    """Seconds spent in each phase of the stop."""

    @property
    def balanced(self) -> bool:
        """Whether nothing is lost from the books."""
        opened = self.connections_at_shutdown + self.accepted_late
        return opened == self.closed_idle + self.finished + self.force_closed


@dataclass(slots=True)
class Report:
    """What happened from the start to the end of one `Server.run`."""

    reason: str = ""
    """Who asked for the stop: `SIGINT`, `SIGTERM`, `stop()`, `cancelled`, or the error that ended a worker."""
    urgent: bool = False
    """Whether the stop was made without the rest of its grace."""
    workers: list[WorkerReport] = field(default_factory=list[WorkerReport])
    left_behind: list[str] = field(default_factory=list[str])
    """The threads that did not end in their time, with what they hang in (SD-14)."""
    errors: list[str] = field(default_factory=list[str])
    """What went wrong beside the requests, in words, such as a pause of the accept loop."""

    @property
    def abandoned(self) -> list[Abandoned]:
        """The handlers that stayed, of all workers."""
        return [handler for worker in self.workers for handler in worker.abandoned]
