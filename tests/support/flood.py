"""Many clients that connect as fast as they can, while the server stops."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.live import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"
# An address that answers does so at once. Linux would ask an address that is silent again after a second.
_CONNECTS_IN = 0.5


def flood(address: tuple[str, int] | str, most: int, connected: Callable[[int], object]) -> Counter[str]:
    """Connect and ask, until nobody is there any more; then read all the answers. To be run in a thread.

    Args:
        address: of TCP, or the path of a Unix socket.
        most: connections.
        connected: told how many there are, after each.

    Returns:
        How many were `answered`, or got an `end` or a `reset` instead.
    """
    clients: list[socket.socket] = []
    became: Counter[str] = Counter()
    for number in range(1, most + 1):
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        client.settimeout(_CONNECTS_IN)
        try:
            client.connect(address)
        except BlockingIOError:
            client.close()
            continue  # the backlog of a Unix socket is full
        except OSError:
            client.close()
            break
        client.settimeout(PATIENCE)
        clients.append(client)
        try:
            client.sendall(REQUEST)
        except ConnectionError:
            pass  # reading tells which
        connected(number)
    for client in clients:
        with client:
            became[_read(client)] += 1
    return became


def _read(client: socket.socket) -> str:
    received = b""
    try:
        while data := client.recv(65536):
            received += data
            if received.endswith(b"\r\n\r\nhello"):
                return "answered"
    except ConnectionError:
        return "reset"
    return f"cut after {len(received)} bytes" if received else "end"
