"""The first program of the seed gives no address at all."""

from __future__ import annotations

from stario_trio.server.config import DEFAULT_PORT
from tests.support.live import live, peer


async def test_the_port_nobody_gave_can_be_bound() -> None:
    """DEFAULT_PORT is an int of its own kind; 0 of that kind takes a free port, so that the test needs none."""
    any_port = type(DEFAULT_PORT)(0)
    async with live(port=any_port) as server, peer(server) as client:
        assert (await client.ask("/")).status == 404
