"""A server in a process of its own, for tests that send it signals. It prints one line for each thing that happens."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import trio

# A script's own folder comes first on the path, and this one must not hide anything.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from stario_trio import NoopTracer, Server, Span, Stario  # noqa: E402  (found only now)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stario_trio import Context, Writer


def say(*words: object) -> None:
    print(*words, flush=True)


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


async def stream(c: Context, w: Writer) -> None:
    """Ends with the drain."""
    w.write(b"started")
    say("stream started")
    async for _ in w.alive(never()):
        pass
    say("stream ended")
    w.end(b"bye")


async def never() -> AsyncGenerator[None]:
    await trio.sleep_forever()
    yield None


async def stuck(c: Context, w: Writer) -> None:
    """Ends only when it is cancelled."""
    w.write(b"started")
    say("stuck started")
    try:
        await trio.sleep_forever()
    finally:
        say("stuck cancelled")


async def stubborn(c: Context, w: Writer) -> None:
    """Does not even end then."""
    say("stubborn started")
    try:
        await trio.sleep_forever()
    finally:
        say("stubborn cancelled")
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 600):
            await trio.sleep_forever()


async def die(c: Context, w: Writer) -> None:
    raise SystemExit(7)


async def events(c: Context, w: Writer) -> None:
    """Asks in each round."""
    async for _ in w.alive():
        w.write(b"tick")
        await trio.sleep(0.01)


async def endless(c: Context, w: Writer) -> None:
    """Asks nobody."""
    while True:
        w.write(b"tick")
        await trio.sleep(0.01)


async def echo(c: Context, w: Writer) -> None:
    """Takes as long as its body."""
    say("echo started")
    w.text((await c.req.body()).decode())


async def reluctant(c: Context, w: Writer) -> None:
    """Ends half a second after its cancellation."""
    say("reluctant started")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)
        say("reluctant cleaned up")


released = threading.Event()
"""Set by SIGUSR1."""


async def blocked(c: Context, w: Writer) -> None:
    """Hangs in a thread."""
    say("blocked started")
    await trio.to_thread.run_sync(released.wait)
    say("blocked ended")


async def big(c: Context, w: Writer) -> None:
    """More than the kernel takes for a peer that does not read."""
    w.respond(bytes(10_000_000), b"application/octet-stream")
    say("big ended")


class Telling(NoopTracer):
    """Says which steps of the shutdown have ended."""

    def __call__(self, name: str, attributes: dict[str, Any] | None = None) -> Span:
        if name == "server.shutdown":
            return Span(self, name, attributes)
        return super().__call__(name, attributes)

    def notify(self, span: Span) -> None:
        say("span", span.name)


class Listening:
    """What `run` tells when it listens. A nursery would do, but put every error into a group."""

    def started(self, addresses: Any = None) -> None:
        say("listening", 0 if isinstance(addresses[0], str) else addresses[0][1])


async def main(settings: argparse.Namespace) -> None:
    app = Stario(Telling())
    for handler in (hello, stream, stuck, stubborn, die, events, endless, reluctant, blocked, big):
        app.get(f"/{handler.__name__}", handler)
    app.post("/echo", echo)
    where: dict[str, Any] = {"unix_socket": settings.unix_socket} if settings.unix_socket else {"port": 0}
    server = Server(app, graceful_timeout=settings.graceful_timeout, cleanup_timeout=settings.cleanup_timeout, **where)
    signal.signal(signal.SIGUSR1, lambda *_: released.set())
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        await server.run(task_status=Listening())
    finally:
        after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        (worker,) = server.report.workers
        say(
            "report",
            json.dumps(
                {
                    "reason": server.report.reason,
                    "urgent": server.report.urgent,
                    "accepted_late": worker.accepted_late,
                    "closed_idle": worker.closed_idle,
                    "finished": worker.finished,
                    "force_closed": worker.force_closed,
                    "cancelled": worker.handlers_cancelled,
                    "abandoned": len(worker.abandoned),
                    "balanced": worker.balanced,
                    "handlers_are_back": before == after,
                }
            ),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--graceful-timeout", type=float, default=600)
    parser.add_argument("--cleanup-timeout", type=float, default=600)
    parser.add_argument("--unix-socket")
    trio.run(main, parser.parse_args())
