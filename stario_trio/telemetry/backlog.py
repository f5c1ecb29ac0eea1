"""What a tracer that shows whole trees has not shown yet."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Final

from stario_trio.telemetry.tree import Node, Tree

if TYPE_CHECKING:
    from stario_trio.telemetry.core import Span

__all__ = ["KNOWN", "Backlog"]

#: The mark of a span that is, or was, in a backlog.
KNOWN: Final = "known"


class Backlog:
    """The spans that are not shown yet: first as they come, then in a tree, then the roots that have ended."""

    def __init__(self) -> None:
        self.arrivals: deque[Span] = deque()
        self.tree: Tree = Tree()  # used with `printing` held, as is `ended`
        self.ended: deque[Node] = deque()
        self.printing: Lock = Lock()
        # Whoever is printing looks once more before it leaves, so that nobody has to wait for it.
        self.asked: bool = False
        self.given_up: bool = False

    def sort(self) -> None:
        """Move what has come so far into the tree."""
        for _ in range(len(self.arrivals)):  # no longer: spans may come as fast as they are sorted
            self.tree.add(self.arrivals.popleft())

    def __len__(self) -> int:
        """How many spans it holds, about: others may be at work on it."""
        new = {id(span) for span in self.arrivals.copy() if span.mark is KNOWN and span.id not in self.tree}
        return len(new) + len(self.tree) + sum(map(len, self.ended.copy()))
