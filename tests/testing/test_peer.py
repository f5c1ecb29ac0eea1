"""A peer that is made up."""

from __future__ import annotations

import pytest
import trio

from stario_trio import StarioError
from stario_trio.testing.peer import DATE, RecordingPeer


async def test_it_writes_down_what_it_is_sent() -> None:
    peer = RecordingPeer()
    peer.send(b"one")
    peer.full = StarioError("too far behind")
    with pytest.raises(StarioError, match="too far behind"):
        peer.send(b"lost")
    peer.send(b"two", last=True)
    assert peer.sent == b"onetwo"
    assert peer.date == f"date: {DATE}\r\n".encode()
    peer.abort()
    assert peer.aborted


async def test_it_leaves_or_hears_of_a_stop_when_told_to() -> None:
    for tell, left in ((RecordingPeer.leave, True), (RecordingPeer.shut_down, False)):
        peer = RecordingPeer()
        assert (peer.disconnected, peer.shutting_down, peer.closing) == (False, False, False)
        with peer.alive():
            tell(peer)
            await trio.sleep_forever()
        assert (peer.disconnected, peer.shutting_down, peer.closing) == (left, not left, not left)
        assert peer.open_scopes == []
        with peer.alive():
            await trio.sleep_forever()


async def test_it_takes_its_time_and_sends_a_body(autojump_clock: object) -> None:
    peer = RecordingPeer(b"one", b"two")
    await peer.drain()
    peer.room = trio.Event()
    with trio.move_on_after(1) as scope:
        await peer.drain()
    assert scope.cancelled_caught
    assert [await peer.receive() for _ in range(4)] == [b"one", b"two", b"", b""]
