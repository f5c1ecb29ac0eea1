"""Which spans are open and which belong together, for a tracer that shows whole trees."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

    from stario_trio.telemetry.core import Span

__all__ = ["MAX_DEPTH", "MAX_NODES", "SHOWN", "Node", "Tree"]

#: The mark of a span that has been shown as finished, or was given up: it concerns nobody any more.
SHOWN: Final = "shown"

#: A stream that stays open for a day and makes a step per message must not fill the memory: the oldest steps
#: of a span go first. More would not fit a screen.
MAX_CHILDREN: Final = 100

#: Spans in a tree, from which on no new ones should come: the open ones of a very busy server, or of a program that
#: forgets to end them.
MAX_NODES: Final = 20_000

#: A step deeper than this stands beside the step it belongs to. More indentation leaves no room on a line, and a
#: program may nest its steps deeper than Python nests calls.
MAX_DEPTH: Final = 20


@dataclass(slots=True, eq=False)
class Node:
    """A span and the steps below it, in the order they started."""

    span: Span
    depth: int = 0
    """How many steps it stands below its root, at most `MAX_DEPTH`."""
    children: deque[Node] = field(default_factory=deque["Node"])
    left_out: int = 0
    """How many older children are not kept."""

    def __len__(self) -> int:
        """How many spans these are."""
        count = 0
        rest: list[Node] = [self]
        while rest:
            count += 1
            rest += rest.pop().children
        return count


class Tree:
    """The spans not shown yet, each below its parent.

    Nothing is kept of a root that was taken. A step that was still open then comes back as a root of its own
    when it ends, and so does a step started later.
    """

    def __init__(self) -> None:
        self.roots: dict[UUID, Node] = {}
        self._nodes: dict[UUID, Node] = {}  # by the id of a span: where its steps go
        self._finished: dict[UUID, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, span_id: UUID) -> bool:
        return span_id in self._nodes

    def add(self, span: Span) -> None:
        """Take in a span that has started or ended; one that was shown already is ignored."""
        if span.mark is SHOWN:
            return
        if span.id not in self._nodes:
            self._attach(Node(span))
        if span.finished and span.id in self.roots:
            self._finished[span.id] = self.roots[span.id]

    def _attach(self, node: Node) -> None:
        parent_id = node.span.parent_id
        if parent_id is None or parent_id not in self._nodes:
            self._nodes[node.span.id] = node
            self.roots[node.span.id] = node
            return
        parent = self._nodes[parent_id]
        node.depth = parent.depth + 1
        self._nodes[node.span.id] = node if node.depth < MAX_DEPTH else parent
        if len(parent.children) == MAX_CHILDREN:
            self._forget(parent.children.popleft())
            parent.left_out += 1
        parent.children.append(node)

    def _forget(self, node: Node) -> None:
        del self._nodes[node.span.id]
        if node.span.finished:
            node.span.mark = SHOWN
        for child in node.children:
            self._forget(child)

    def take_finished(self) -> list[Node]:
        """Remove and return the roots that have ended, in the order they ended."""
        nodes = list(self._finished.values())
        self._finished.clear()
        self._take(nodes)
        return nodes

    def take_all(self) -> list[Node]:
        """Remove and return all roots, in the order they started."""
        nodes = list(self.roots.values())
        self._finished.clear()
        self._take(nodes)
        return nodes

    def _take(self, nodes: list[Node]) -> None:
        for node in nodes:
            del self.roots[node.span.id]
            self._forget(node)
