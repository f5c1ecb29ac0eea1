"""Behind nginx, as it is deployed: what the server promises at a stop reaches the browser."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.live import Peer, live
from tests.support.nginx import needs_nginx, nginx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from stario_trio import Context, Writer

APP = """
    upstream app {{ server unix:{folder}/app.sock; keepalive 4; }}
    server {{
        listen unix:{folder}/nginx.sock;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
"""


@asynccontextmanager
async def browser(folder: Path) -> AsyncGenerator[Peer]:
    async with await trio.open_unix_socket(folder / "nginx.sock") as stream:
        yield Peer(stream)


@needs_nginx
@pytest.mark.spec("SD-07", "SD-08", "SD-11")
async def test_a_stop_behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("n")  # a short path, which a socket needs
    answering, go_on = trio.Event(), trio.Event()

    async def slow(c: Context, w: Writer) -> None:
        answering.set()
        await go_on.wait()
        w.text("slow")

    async def stream(c: Context, w: Writer) -> None:
        w.write(b"first")
        async with w.alive():
            await trio.sleep_forever()
        w.write(b"last")

    async def endless(c: Context, w: Writer) -> None:
        w.write(b"first")
        await trio.sleep_forever()

    routes = (("/slow", slow), ("/stream", stream), ("/endless", endless))
    where = {"unix_socket": str(folder / "app.sock"), "graceful_timeout": 600}
    async with live(*routes, **where) as server, nginx(folder, APP.format(folder=folder)):  # noqa: SIM117  (one thing a line)
        async with browser(folder) as one, browser(folder) as two, browser(folder) as three:
            await one.get("/slow")
            await answering.wait()
            await two.get("/stream")
            await two.until(b"first\r\n")
            await three.get("/endless")
            await three.until(b"first\r\n")
            server.stop()
            await two.until(b"last\r\n")
            await two.until(b"0\r\n\r\n")  # complete
            go_on.set()
            assert (await one.until(b"slow")).startswith(b"HTTP/1.1 200 ")
            server.stop(now=True)
            assert await three.rest() == b""  # cut, and seen to be
    assert server.report.workers[0].balanced
