"""nginx, as a user has it in front of a server or beside one."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.live import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

__all__ = ["needs_nginx", "nginx"]

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

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
    {http}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, http: str) -> AsyncGenerator[Path]:
    """Run nginx around a block; gives its socket. It goes into the background when it listens.

    Args:
        folder: for all that it writes.
        http: what its `http` block holds; a server there listens at `unix:{folder}/nginx.sock`.
    """
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must reach the folder
    config.write_text(CONFIG.format(user=user, folder=folder, http=http), encoding="utf-8")
    command = [str(NGINX), "-c", str(config), "-e", str(folder / "error.log")]
    await trio.run_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield folder / "nginx.sock"
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await trio.run_process([*command, "-s", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
