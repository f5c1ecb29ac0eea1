"""Whose error it is that a request fails with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpcore2
import httpx2
import pytest

from stario_trio.testing import TestClient
from stario_trio.testing.network import Asked
from stario_trio.testing.transport import Transport
from tests.support.live import app_of

if TYPE_CHECKING:
    from stario_trio import Context, Writer


async def broken(_c: Context, _w: Writer) -> None:
    raise ValueError("broken")


async def fail_with(error: Exception) -> None:
    raise error


async def test_a_failed_handler_is_told_instead_of_the_network_but_not_instead_of_a_timeout() -> None:
    async with TestClient(app_of(("/", broken))) as client:
        transport = Transport(client.server, httpx2, httpcore2)
        asked = Asked()
        with pytest.raises(httpx2.ReadError):
            await transport.attempt(asked, fail_with(httpcore2.ReadError()))
        asked.stream = client.server.connect(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        asked.number = 1
        await asked.stream.read_to_end()
        for error in (httpcore2.ReadTimeout, httpcore2.WriteTimeout, httpcore2.ConnectTimeout, httpcore2.PoolTimeout):
            with pytest.raises(getattr(httpx2, error.__name__)):
                await transport.attempt(asked, fail_with(error()))
        with pytest.raises(ValueError, match="broken"):
            await transport.attempt(asked, fail_with(httpcore2.ReadError()))
        with pytest.raises(httpx2.ReadError):
            await transport.attempt(asked, fail_with(httpcore2.ReadError()))
