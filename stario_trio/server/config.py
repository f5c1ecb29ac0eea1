"""Every setting and limit of the server, checked when constructed.

Nothing is bound, opened or started before a `Config` exists, and a `Config` that exists is right: a bad value is a
`StarioError` that says what would be right. Times are seconds, sizes are bytes.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass, field, fields
from typing import Final

from stario_trio.exceptions import StarioError
from stario_trio.http.request import DEFAULT_BODY_TIMEOUT, DEFAULT_MAX_BODY_SIZE

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "Config", "Limits"]


class _DefaultHost(str):
    """A host nobody asked for: equal to its text, but told apart from the same text given by a caller."""

    __slots__ = ()


class _DefaultPort(int):
    """A port nobody asked for (see `_DefaultHost`)."""

    __slots__ = ()


# SK-06 forbids `unix_socket` beside an *explicit* host or port, so "not given" must be recognisable while the
# signature still shows the seed's defaults.
DEFAULT_HOST: Final[str] = _DefaultHost("127.0.0.1")
DEFAULT_PORT: Final[int] = _DefaultPort(8000)


def _bad(setting: str, value: object, help_text: str) -> StarioError:
    return StarioError(f"Invalid {setting}", context={setting: value}, help_text=help_text)


def _check_seconds(setting: str, value: object, *, least: float = 0.0) -> None:
    """A duration: a real number of seconds, `math.inf` for "no limit"."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < least:
        at_least = "0 or more" if least == 0 else f"at least {least:g}"
        raise _bad(setting, value, f"Give seconds as a number, {at_least}; math.inf means no limit.")


def _check_count(setting: str, value: object, *, least: int, most: int | None = None, inf: bool = False) -> None:
    """A whole number in a range; `inf` says whether `math.inf` may stand for "no limit"."""
    if inf and value == math.inf:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        upper = f" to {most:,}" if most is not None else " or more"
        or_inf = "; math.inf means no limit" if inf else ""
        raise _bad(setting, value, f"Give a whole number, {least:,}{upper}{or_inf}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may ask of the server, and for how long.

    Every limit has a response or a close of its own, and the server is unharmed after it.
    """

    header_bytes: int = 64 * 1024
    """Request line and fields together; more is 431. 64 KiB as in h11 and nginx's largest usual setting."""
    header_fields: int = 100
    """Field lines of one request; more is 431. 100 as in Apache and Go's usual proxies."""
    target_bytes: int = 8 * 1024
    """Bytes of the request target; more is 414 (RFC 9110 section 4.1 asks for 8,000 at least)."""
    body_bytes: float = DEFAULT_MAX_BODY_SIZE
    """Bytes of a request body; more is 413, also when only declared. `math.inf` means no limit."""
    header_timeout: float = 10.0
    """Seconds from the first byte of a request to the end of its head; later is 408."""
    keep_alive: float = 5.0
    """Seconds a connection may wait without a byte, before its first request and between requests."""
    body_timeout: float = DEFAULT_BODY_TIMEOUT
    """Seconds between two pieces of a request body; later is 408."""
    write_timeout: float = 30.0
    """Seconds in which a peer must take at least one byte of what waits for it; later it is closed."""
    connections: float = math.inf
    """Open connections of one worker; at the limit it stops accepting until one closes."""
    high_water: int = 1024 * 1024
    """Unsent bytes of one connection above which `w.alive()` and `w.drain()` wait."""
    max_unsent: float = 16 * 1024 * 1024
    """Unsent bytes of one connection above which a further write raises in the handler."""

    def __post_init__(self) -> None:
        """Check every limit.

        Raises:
            StarioError: names the first bad one and says what would be right.
        """
        # h11 needs room for the shortest possible request, and RFC 9112 section 3 asks for 8,000 bytes of line.
        _check_count("header_bytes", self.header_bytes, least=1024)
        _check_count("header_fields", self.header_fields, least=1)
        _check_count("target_bytes", self.target_bytes, least=1)
        _check_count("body_bytes", self.body_bytes, least=0, inf=True)
        _check_count("connections", self.connections, least=1, inf=True)
        _check_count("high_water", self.high_water, least=1)
        _check_count("max_unsent", self.max_unsent, least=1, inf=True)
        for setting in ("header_timeout", "keep_alive", "body_timeout", "write_timeout"):
            _check_seconds(setting, getattr(self, setting))
            if getattr(self, setting) == 0:
                raise _bad(setting, 0, "Give more than 0 seconds; math.inf means no limit.")
        if self.max_unsent < self.high_water:
            raise StarioError(
                "Invalid max_unsent",
                context={"max_unsent": self.max_unsent, "high_water": self.high_water},
                help_text="Handlers wait at high_water and fail at max_unsent: max_unsent must not be the lower one.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one `Server`; the first six are the seed's table."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    unix_socket: str | None = None
    workers: int = 1
    graceful_timeout: float = 5.0
    backlog: int = 2048
    cleanup_timeout: float = 5.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Check every setting, before anything is bound.

        Raises:
            StarioError: names the first bad one and says what would be right.
        """
        if not isinstance(self.host, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may be untyped)
            raise _bad("host", self.host, 'Give a name or an address as text, such as "127.0.0.1" or "::1".')
        _check_count("port", self.port, least=0, most=65535)
        _check_count("workers", self.workers, least=1)
        _check_count("backlog", self.backlog, least=1, most=2**31 - 1)
        _check_seconds("graceful_timeout", self.graceful_timeout)
        _check_seconds("cleanup_timeout", self.cleanup_timeout)
        if not isinstance(self.limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]  (the same)
            raise _bad("limits", self.limits, "Give a stario_trio.Limits(...).")
        if self.unix_socket is not None:
            self._check_unix_socket(self.unix_socket)
        elif self.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
            raise StarioError(  # SK-01
                f"Cannot use {self.workers} workers (SO_REUSEPORT unavailable)",
                context={"workers": self.workers},
                help_text="This platform cannot share a TCP port between workers. Use workers=1, or a unix_socket.",
            )
        # From here on it does not matter who has chosen them, and not everybody takes a subclass (`getaddrinfo` did
        # not before 3.14).
        object.__setattr__(self, "host", str(self.host))
        object.__setattr__(self, "port", int(self.port))

    def _check_unix_socket(self, path: object) -> None:
        if not isinstance(path, str) or not path or "\0" in path:
            raise _bad("unix_socket", path, 'Give a path as text, such as "/run/myapp/server.sock".')
        explicit = {
            name: value
            for name, value, default in (("host", self.host, DEFAULT_HOST), ("port", self.port, DEFAULT_PORT))
            if value is not default
        }
        if explicit:  # SK-06
            raise StarioError(
                f"unix_socket cannot be combined with {' and '.join(explicit)}",
                context={"unix_socket": path, **explicit},
                help_text="Listen on a Unix socket or on TCP: give unix_socket alone, or host and port.",
            )

    def items(self) -> list[tuple[str, object]]:
        """Every setting with its value, in the order of the docs' table."""
        return [(f.name, getattr(self, f.name)) for f in fields(self)]
