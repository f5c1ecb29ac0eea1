"""A page with a style sheet that browsers keep for a year, and that is new at once when it has changed.

Run it, open the address it prints, and look at the link of the style sheet in the page's source.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

from stario_trio import Context, RichTracer, Stario, Writer, asset


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


async def home(_c: Context, w: Writer) -> None:
    w.html(
        Html(f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Static files</title>
<link rel="stylesheet" href="/static/{asset("style.css")}">
<h1>Styled by a file</h1>
""")
    )


async def main(port: int) -> None:
    with RichTracer() as tracer:
        app = Stario(tracer)
        app.assets("/static", Path(__file__).parent / "static")
        app.get("/", home)
        async with trio.open_nursery() as nursery:
            [(host, port), *_] = await nursery.start(app.serve, "127.0.0.1", port)
            print(f"Open http://{host}:{port} in a browser. Ctrl+C stops it.", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port (default: %(default)s)")
    trio.run(main, parser.parse_args().port)
