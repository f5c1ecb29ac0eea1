"""Draw a real stop: `python docs/pictures/stop.py` serves, stops, and renews `docs/pictures/stop.svg`.

Every kind of request is there when the stop comes: a quick one, one whose head is not complete yet, a stream that says
farewell, a slow one, one that never ends, and one that will not let itself be cancelled for a while. A test runs this
and compares the rows.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import trio

from stario_trio import Context, JsonTracer, Server, Stario, Writer
from stario_trio.report.model import Shutdown, shutdown_of
from stario_trio.report.picture import picture_of
from stario_trio.report.svg import to_svg
from stario_trio.report.trace import read_trace

PICTURE = Path(__file__).with_name("stop.svg")
GRACE, CLEANUP = 1.0, 1.3


async def quick(_c: Context, w: Writer) -> None:
    await trio.sleep(0.25)
    w.text("done")


async def slow(_c: Context, w: Writer) -> None:
    await trio.sleep(0.95)
    w.text("done, and in time")


async def late(_c: Context, w: Writer) -> None:
    await trio.sleep(0.15)
    w.text("it came in time")


async def events(c: Context, w: Writer) -> None:
    """A page that stays up to date; it says farewell when the server stops."""
    w.patch('<p id="news">hello</p>')
    async with w.alive():
        await trio.sleep_forever()
    c.span("says farewell")
    w.patch('<p id="news">back in a moment</p>')
    await trio.sleep(0.6)


async def endless(_c: Context, w: Writer) -> None:
    """Does not look at `w.alive()`, so only a cancellation ends it."""
    w.write(b"a beginning")
    await trio.sleep_forever()


async def stubborn(_c: Context, w: Writer) -> None:
    """Has something to finish, and takes its time for it."""
    w.write(b"a beginning")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await trio.sleep_forever()


async def ask(stream: trio.SocketStream, path: str) -> None:
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: demo\r\n\r\n".encode())


async def read_to_the_end(stream: trio.SocketStream) -> None:
    async with stream:
        async for _ in stream:
            pass


async def run() -> Shutdown:
    """Serve, ask for everything, stop, and say what happened."""
    output = io.StringIO()
    with JsonTracer(output) as tracer:
        app = Stario(tracer)
        for handler in (quick, slow, late, events, endless, stubborn):
            app.get(f"/{handler.__name__}", handler)
        server = Server(app, port=0, graceful_timeout=GRACE, cleanup_timeout=CLEANUP)
        async with trio.open_nursery() as nursery:
            [(_, port)] = await nursery.start(server.run)
            idle, half, *others = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(7)]
            for path, peer in zip(("/events", "/endless", "/stubborn", "/slow", "/quick"), others, strict=True):
                await ask(peer, path)
            await ask(idle, "/nowhere")
            await half.send_all(b"GET /late HTTP/1.1\r\n")
            for peer in (idle, *others[:3]):
                await peer.receive_some()  # the answer of the one, the beginning of the others
            await trio.sleep(0.15)

            server.stop()
            for peer in (idle, half, *others):
                nursery.start_soon(read_to_the_end, peer)
            await trio.sleep(0.25)
            await half.send_all(b"Host: demo\r\n\r\n")  # the rest of its head
    return shutdown_of(read_trace(output.getvalue().splitlines()), cleanup_timeout=CLEANUP)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=PICTURE, help="(default: %(default)s)")
    output: Path = parser.parse_args().output
    output.write_text(to_svg(picture_of(trio.run(run))), encoding="utf-8")
