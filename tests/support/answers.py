"""What a client got, in one word: read by h11, so that a test does not believe our own framing."""

from __future__ import annotations

import h11


def answers(received: bytes, *, method: str = "GET", ended: bool = True) -> list[str]:
    """Each response as its status: `200`, `200 close` if it says so, `200 cut` if its body never ended."""
    found: list[str] = []
    rest = received
    while rest:
        peer = h11.Connection(h11.CLIENT)
        peer.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        peer.send(h11.EndOfMessage())
        peer.receive_data(rest)
        if ended:
            peer.receive_data(b"")
        status = "cut head"
        try:
            while not isinstance(event := peer.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    closes = (b"connection", b"close") in [(n, v.lower()) for n, v in event.headers]
                    status = f"{event.status_code}{' close' if closes else ''}"
                elif event is h11.NEED_DATA or event is h11.PAUSED:
                    raise h11.RemoteProtocolError("no more data")
        except h11.RemoteProtocolError:
            found.append(f"{status} cut")
            break
        found.append(status)
        rest = peer.trailing_data[0]
    return found
