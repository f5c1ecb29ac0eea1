"""Handlers the scenarios are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stario_trio import Context, Handler, Writer


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


def takes(seconds: float) -> Handler:
    """Answers after some time, and sees nothing of a shutdown until then."""

    async def handler(c: Context, w: Writer) -> None:
        await trio.sleep(seconds)
        w.text("done")

    return handler


def swallows(seconds: float) -> Handler:
    """Never ends by itself, and takes some time for its cleanup when cancelled."""

    async def handler(c: Context, w: Writer) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True):
                await trio.sleep_forever()

    return handler


async def endless(c: Context, w: Writer) -> None:
    """A stream that asks nobody whether to go on."""
    while True:
        w.write(b"tick")
        await trio.sleep(1)


async def stream(c: Context, w: Writer) -> None:
    """A well-behaved SSE stream: a tick a second, and a last word."""
    async for _ in w.alive(ticks()):
        w.patch("tick", selector="#clock")
    w.patch("bye", selector="#clock")


async def ticks() -> AsyncGenerator[int]:
    n = 0
    while True:
        yield n
        n += 1
        await trio.sleep(1)
