"""A server in a process of its own, for tests that send it signals. It prints one line for each thing that happens."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import trio

# A script's own folder comes first on the path, and this one must not hide anything.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from stario_trio import NoopTracer, Server, Stario  # noqa: E402  (found only now)

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


class Listening:
    """What `run` tells when it listens. A nursery would do, but put every error into a group."""

    def started(self, addresses: Any = None) -> None:
        say("listening", addresses[0][1])


async def main(settings: argparse.Namespace) -> None:
    app = Stario(NoopTracer())
    for handler in (hello, stream, stuck, stubborn, die):
        app.get(f"/{handler.__name__}", handler)
    server = Server(app, port=0, graceful_timeout=settings.graceful_timeout, cleanup_timeout=settings.cleanup_timeout)
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
    trio.run(main, parser.parse_args())
