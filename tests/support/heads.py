"""The plain reader next to the law."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from stario_trio.server.wire import Head
from stario_trio.server.wire.head import parse_head
from stario_trio.server.wire.plain import read_plain

if TYPE_CHECKING:
    from stario_trio.server.config import Limits

__all__ = ["known", "read_plain_and_compare"]


def known(head: Head) -> dict[str, object]:
    """All there is to know about a head, types included."""
    values: dict[str, object] = {
        field.name: (type(value), value) for field in fields(Head) if (value := getattr(head, field.name)) is not None
    }
    values["headers"] = head.headers.items(), head.headers._data
    return values


def read_plain_and_compare(block: bytes, limits: Limits) -> Head | None:
    """`read_plain`, and a failure if `parse_head` refuses what it has read, or reads it otherwise."""
    head = read_plain(block, limits)
    if head is not None:
        assert known(head) == known(parse_head(block, limits))
    return head
