"""The accept loop, without a worker around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.server.listener import accept_loop, accept_now
from stario_trio.testing.listener import MemoryListener

if TYPE_CHECKING:
    from stario_trio.server.transport import Transport


async def plenty_of_room() -> None: ...


@pytest.mark.spec("SD-02")
async def test_it_ends_when_its_listener_is_closed(autojump_clock: object) -> None:
    listener = MemoryListener()
    admitted: list[Transport] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted.append, plenty_of_room, pytest.fail)
        await trio.testing.wait_all_tasks_blocked()
        client = listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert admitted == [client.transport]
        listener.close()


async def test_everybody_else_gets_a_turn_between_many_connections(autojump_clock: object) -> None:
    listener = MemoryListener()
    for _ in range(200):
        listener.connect()
    admitted: list[Transport] = []
    seen: set[int] = set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted.append, plenty_of_room, pytest.fail)
        while len(admitted) < 200:
            await trio.lowlevel.checkpoint()
            seen.add(len(admitted))
        nursery.cancel_scope.cancel()
    assert seen & {64, 128, 192}  # not all in one go; which of them is seen is chance


@pytest.mark.spec("SD-02")
async def test_what_the_kernel_has_completed_is_bounded() -> None:
    listener = MemoryListener()
    clients = [listener.connect() for _ in range(5)]
    taken = list(accept_now(listener, 3, pytest.fail))
    assert taken == [client.transport for client in clients[:3]]
    assert list(accept_now(listener, 3, pytest.fail)) == [client.transport for client in clients[3:]]
