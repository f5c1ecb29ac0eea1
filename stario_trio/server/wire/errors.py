"""The one error of this package: the peer broke the protocol, or a limit."""

from __future__ import annotations

__all__ = ["WireError"]


class WireError(Exception):
    """The peer sent what we cannot or will not read; the connection must close.

    Args:
        status: the response that says so: 400, 413, 414, 431, 501 or 505.
        detail: a short text for that response. It never repeats bytes of the request.
        disconnected: the bytes were good so far, but the peer sent its last one in the middle of them.
    """

    def __init__(self, status: int, detail: str, *, disconnected: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.disconnected = disconnected
