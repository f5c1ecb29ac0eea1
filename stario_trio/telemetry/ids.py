"""Span ids: UUIDs of version 7 (RFC 9562 section 5.7), which sort by the time they were made."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["uuid7"]

NS_PER_MS: Final = 1_000_000


def stateless_uuid7() -> UUID:
    """Make a UUIDv7 before Python 3.14, without a counter that threads would have to share.

    48 bits of Unix milliseconds; 12 bits of the fraction of the millisecond, so that ids keep their order
    down to about 250 ns (section 6.2, method 3); 62 random bits.
    """
    milliseconds, rest = divmod(time.time_ns(), NS_PER_MS)
    fraction = (rest << 12) // NS_PER_MS
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | random)


uuid7: Final[Callable[[], UUID]] = getattr(uuid, "uuid7", stateless_uuid7)
