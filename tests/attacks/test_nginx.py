"""Behind nginx, as it is deployed: what the server promises at a stop reaches the browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.live import PATIENCE, Peer, live

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from stario_trio import Context, Writer

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

CONFIG = """\
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
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
}}
"""


@asynccontextmanager
async def nginx(folder: Path) -> AsyncGenerator[None]:
    """Run nginx around a block. It goes into the background when it listens."""
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must reach the folder
    config.write_text(CONFIG.format(folder=folder, user=user), encoding="utf-8")
    command = [str(NGINX), "-c", str(config), "-e", str(folder / "error.log")]
    await trio.run_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await trio.run_process([*command, "-s", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def browser(folder: Path) -> AsyncGenerator[Peer]:
    async with await trio.open_unix_socket(folder / "nginx.sock") as stream:
        yield Peer(stream)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
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
    async with live(*routes, **where) as server, nginx(folder):  # noqa: SIM117  (one thing a line)
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
