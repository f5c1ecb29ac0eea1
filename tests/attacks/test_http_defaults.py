"""The first program of the seed gives no address at all."""

from __future__ import annotations

import sys

import pytest

from stario_trio.server import config, sockets


@pytest.mark.xfail(
    sys.version_info < (3, 14),
    strict=True,
    reason="sockets.py: before Python 3.14, getaddrinfo takes no subclass of int for a port",
)
async def test_the_port_nobody_gave_can_be_bound() -> None:
    """DEFAULT_PORT is an int of its own kind; 0 of that kind asks for a free port, so that the test needs none."""
    any_port = type(config.DEFAULT_PORT)(0)
    for listener in await sockets.bind(config.Config(port=any_port)):
        listener.close()
