"""What a forked child must not inherit: locks that threads of its parent held, and the work of those threads."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forked", "follow"]


class Forked(Protocol):
    """Has something to renew in a forked child."""

    def reset(self) -> None:
        """Begin anew: in a child only the thread that forked goes on."""
        ...


_followed: WeakSet[Forked] = WeakSet()


def follow(thing: Forked) -> None:
    """Reset `thing` in each forked child, as long as it lives."""
    _followed.add(thing)


def after_fork() -> None:
    """Reset everything."""
    for thing in list(_followed):
        thing.reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch  (Windows has no fork)
    os.register_at_fork(after_in_child=after_fork)
