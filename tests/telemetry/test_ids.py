from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from stario_trio.telemetry import ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

both = pytest.mark.parametrize("make", [ids.uuid7, ids.stateless_uuid7])


@both
def test_version_variant_and_time(make: Callable[[], UUID]) -> None:
    before = time.time_ns() // 1_000_000
    made = make()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= after


@both
def test_no_two_are_alike(make: Callable[[], UUID]) -> None:
    assert len({make() for _ in range(1000)}) == 1000


def test_the_bits_stand_where_rfc_9562_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # The timestamp of the example in appendix A.6, half a millisecond later, with random bits all set.
    monkeypatch.setattr(time, "time_ns", lambda: 0x017F22E279B0 * 1_000_000 + 500_000)
    monkeypatch.setattr(os, "urandom", lambda size: b"\xff" * size)
    assert str(ids.stateless_uuid7()) == "017f22e2-79b0-7800-bfff-ffffffffffff"


def test_order_follows_the_time_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1_000_000_000, 1_002_000_000, 1_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(now))
    made = [ids.stateless_uuid7() for _ in range(2000)]
    assert made == sorted(made)


def test_the_standard_library_is_preferred() -> None:
    assert ids.uuid7 is getattr(uuid, "uuid7", ids.stateless_uuid7)
