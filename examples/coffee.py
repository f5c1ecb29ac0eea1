"""A form that the server answers while it is filled in: signals come in, HTML and signals go out.

It needs two packages more: htpy writes the HTML, and datastar-py the `data-*` attributes in it.

    pip install htpy datastar-py
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

import htpy as h
import trio
from datastar_py import attribute_generator as data

from stario_trio import Context, RichTracer, Stario, Writer
from stario_trio.datastar import js, s

# The client: one file from the Datastar project. A real program serves its own copy.
DATASTAR = "https://cdn.jsdelivr.net/gh/starfederation/datastar@v1.0.3/bundles/datastar.js"


@dataclass
class Order:
    """What the page knows. `await c.signals(Order)` makes one of what it sends."""

    name: str
    cups: int = 1
    milk: bool = False


EMPTY = Order("")


def summary(order: Order) -> h.Element:
    with_milk = " with milk" if order.milk else ""
    return h.p(id="summary")[f"{order.name or 'Nobody'} gets {order.cups} coffee{with_milk}."]


def page() -> h.Element:
    return h.html(lang="en")[
        h.head[h.meta(charset="utf-8"), h.title["Coffee"], h.script(type="module", src=DATASTAR)],
        h.body(data.signals(asdict(EMPTY)), data.on("input", "@get('/summary')").debounce("200ms"))[
            h.label["Name ", h.input(data.bind("name"))],
            h.label["Cups ", h.input(data.bind("cups"), type="number", min="1")],
            h.label["Milk ", h.input(data.bind("milk"), type="checkbox")],
            summary(EMPTY),
            # Expressions that the builder has no word for: `js` and `s` write what may stand in one.
            h.button(data.on("click", f"@post('/order', {js(headers=js({'X-From': s('the form')}))})"))["Order"],
        ],
    ]


async def home(_c: Context, w: Writer) -> None:
    w.html(page())


async def summarize(c: Context, w: Writer) -> None:
    w.patch(summary(await c.signals(Order)))


async def place_order(c: Context, w: Writer) -> None:
    order = await c.signals(Order)
    c["order.cups"] = order.cups
    w.sync(EMPTY)  # empties the form
    w.patch(h.p(id="summary")[f"Thank you, {order.name}!"])


async def main(port: int) -> None:
    with RichTracer() as tracer:
        app = Stario(tracer)
        app.get("/", home)
        app.get("/summary", summarize)
        app.post("/order", place_order)
        async with trio.open_nursery() as nursery:
            [(host, port), *_] = await nursery.start(app.serve, "127.0.0.1", port)
            print(f"Open http://{host}:{port} in a browser. Ctrl+C stops it.", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port (default: %(default)s)")
    trio.run(main, parser.parse_args().port)
