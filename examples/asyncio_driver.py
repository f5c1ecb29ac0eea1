"""Visits counted in Redis: an asyncio program, a driver that only speaks asyncio, and handlers on Trio.

Start a Redis server, run this, and open the address it prints. Ctrl+C stops it.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from stario_trio import Context, RichTracer, Stario, Writer, to_asyncio

if TYPE_CHECKING:
    from stario_trio.server.sockets import Address


class Visits:
    """How often each page was seen."""

    def __init__(self, store: Redis) -> None:
        self.store = store

    async def count(self, page: str) -> int:
        """On the asyncio loop, like every call of the driver."""
        return int(await self.store.incr(f"visits:{page}"))

    async def show(self, c: Context, w: Writer) -> None:
        """On Trio, like every handler; for one line it goes over to the loop."""
        number = await to_asyncio(self.count, c.req.path)
        w.text(f"Visit {number} of {c.req.path}\n")


class WhenItListens:
    """Takes the place of a Trio nursery: the server says here where it listens."""

    def started(self, value: list[Address] | None = None) -> None:
        for address in value or []:
            print("Open http://{}:{} in a browser. Ctrl+C stops it.".format(*address), flush=True)


async def main(port: int, redis_port: int) -> None:
    # Nesting is the order of the end: no handler is left when the driver closes its connections.
    with RichTracer() as tracer:
        async with Redis(host="127.0.0.1", port=redis_port) as store:
            app = Stario(tracer)
            app.get("/*", Visits(store).show)
            await app.serve("127.0.0.1", port, task_status=WhenItListens())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port (default: %(default)s)")
    parser.add_argument("--redis-port", type=int, default=6379, help="where Redis listens (default: %(default)s)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.port, arguments.redis_port))
