"""A clock and a counter that every open tab shares.

Run it, open the address it prints in two tabs, and press the button. Ctrl+C ends everything at once and
in order.
"""

from __future__ import annotations

import argparse
import time

import trio

from stario_trio import Context, Relay, RichTracer, Stario, Writer


class Html(str):
    """Text that is HTML already. Any object with `__html__` will do: htpy, markupsafe, Jinja2."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


# The script stands in for the Datastar client, so that the page needs nothing from elsewhere. It shows the
# idea: the server sends HTML, and each element replaces the one with the same id. The client does much more.
PAGE = Html("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Hello from Trio</title>
<style>
  body { display: grid; place-content: center; justify-items: center; min-height: 100vh; margin: 0;
         font: 1.2rem system-ui, sans-serif; background: #14161d; color: #eae7dd }
  #clock { margin: 0; font: 200 5rem ui-monospace, monospace }
  button { padding: .6em 1.4em; border: 0; border-radius: 2em; font: inherit; background: #f2b84b }
</style>
<p id="clock">--:--:--</p>
<p id="counter">Connecting</p>
<button onclick="fetch('/click', {method: 'POST'})">One more</button>
<script>
  new EventSource("/events").addEventListener("datastar-patch-elements", event => {
    const html = event.data.replace(/^elements /gm, "")
    const elements = document.createRange().createContextualFragment(html).children
    for (const element of [...elements]) document.getElementById(element.id).replaceWith(element)
  })
</script>
""")

relay: Relay[Html] = Relay()
clicks = {"all tabs": 0}


def clock() -> Html:
    return Html(f'<p id="clock">{time.strftime("%H:%M:%S")}</p>')


def counter() -> Html:
    return Html(f'<p id="counter">All tabs together: {clicks["all tabs"]}</p>')


async def home(_c: Context, w: Writer) -> None:
    w.html(PAGE)


async def click(_c: Context, w: Writer) -> None:
    clicks["all tabs"] += 1
    relay.publish("page.counter", counter())
    w.empty()


async def events(_c: Context, w: Writer) -> None:
    """One open tab: the page as it is now, then every change to it."""
    changes = relay.subscribe("page.*")
    w.patch(clock())
    w.patch(counter())
    async for _subject, element in w.alive(changes):
        w.patch(element)
    # The tab was closed, or the server is stopping: `w.alive` ended the loop, and code here still runs.


async def tick() -> None:
    while True:
        await trio.sleep(1)
        relay.publish("page.clock", clock())


async def main(port: int) -> None:
    with RichTracer() as tracer:
        app = Stario(tracer)
        app.get("/", home)
        app.get("/events", events)
        app.post("/click", click)

        # Nesting is the order of the end: first the server, then the clock, then the tracer.
        async with trio.open_nursery() as background:
            background.start_soon(tick)
            async with trio.open_nursery() as nursery:
                [(host, port), *_] = await nursery.start(app.serve, "127.0.0.1", port)
                print(f"Open http://{host}:{port} in a browser. Ctrl+C stops it.", flush=True)
            background.cancel_scope.cancel(reason="the server has stopped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port (default: %(default)s)")
    trio.run(main, parser.parse_args().port)
