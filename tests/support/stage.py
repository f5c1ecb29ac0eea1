"""A worker on a virtual clock, without thread and socket, and a trace of what happens to it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from stario_trio import NoopTracer, Stario
from stario_trio.server.config import Config, Limits
from stario_trio.server.phases import Phase
from stario_trio.testing import MemoryServer
from tests.support.answers import answers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from stario_trio import Handler, Span
    from stario_trio.server.report import Abandoned
    from stario_trio.server.worker import Worker
    from stario_trio.testing.memory import MemoryStream as Client


class Stage(MemoryServer):
    """One worker that serves an app in memory.

    `trace` holds lines such as `2.500 DRAINING`: what happened, at which virtual second since the start. `ends`
    holds for each client that is followed when its connection ended, and with which answers.
    """

    def __init__(self, nursery: trio.Nursery, tracer: Callable[[str], Span] | None = None, **settings: Any) -> None:
        limits = Limits(**settings.pop("limits", {}))
        super().__init__(Stario(tracer or NoopTracer()), Config(limits=limits, **settings))
        self.trace: list[str] = []
        self.ends: dict[str, str] = {}
        self.nursery = nursery
        self.outer = trio.CancelScope()
        self.start = trio.current_time()

    async def run(self) -> None:
        """Run the worker in a scope that a test may cancel from outside, without its clients."""
        with self.outer:
            await super().run()

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return round(trio.current_time() - self.start, 6)

    @property
    def phase(self) -> Phase:
        return self.worker.lifecycle.phase

    def log(self, what: str) -> None:
        self.trace.append(f"{self.now:.3f} {what}")

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        self.log(phase.name)

    def abandoned(self, handler: Abandoned) -> None:
        self.log(f"abandoned {handler.route}")

    def get(self, path: str = "/", *, window: float = float("inf")) -> Client:
        """Connect and send one request."""
        return self.connect(request(path), window=window)

    def follow(self, name: str, client: Client, *, stubborn: bool = False) -> Client:
        """Note in `ends[name]` when the server ends this connection, and what it has answered until then.

        A `stubborn` client never closes its own side; any other does so at once, as clients do.
        """
        self.nursery.start_soon(self._follow, name, client, stubborn)
        return client

    async def _follow(self, name: str, client: Client, stubborn: bool) -> None:
        await client.wait_for(lambda: client.over)
        got = answers(bytes(client.received), ended=client.ended and not client.reset)
        if client.reset:
            got.append("reset")
        self.ends[name] = f"{self.now:.3f} {', '.join(got) or 'nothing'}"
        if not stubborn:
            client.leave()

    def stop(self, *, now: bool = False) -> None:
        self.worker.ask_to_stop("test", now=now)


def request(path: str = "/", *fields: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    """One HTTP/1.x request."""
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def stage(*routes: tuple[str, Handler], **settings: Any) -> AsyncGenerator[Stage]:
    """Serve around a block; the worker is stopped at its end and must have balanced books.

    Ends when: the block is done and the worker has stopped.
    Cancelled by: an exception in the block.
    """
    # Virtual seconds: who waits for ever fails at once.
    with trio.fail_after(1_000_000):
        async with trio.open_nursery() as nursery:
            it = Stage(nursery, **settings)
            for path, handler in routes:
                for method in ("GET", "POST", "HEAD"):
                    it.app.handle(method, path, handler)
            nursery.start_soon(it.run)
            await trio.testing.wait_all_tasks_blocked()
            yield it
            it.stop()
    assert it.phase is Phase.STOPPED
    assert it.worker.report.balanced, it.worker.report
    assert not it.worker.connections
    assert not it.worker.lifecycle.rings
