from __future__ import annotations

import sys
from typing import Self

from stario_trio.telemetry import Span
from stario_trio.telemetry.tree import MAX_CHILDREN, MAX_DEPTH, SHOWN, Node, Tree


class Quiet:
    wants_changes = False

    def __call__(self, name: str, attributes: dict[str, object] | None = None) -> Span:
        return Span(self, name, attributes)

    def notify(self, span: Span) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


def names(nodes: list[Node]) -> list[str]:
    return [node.span.name for node in nodes]


def test_an_open_root_is_not_finished() -> None:
    tree, root = Tree(), Quiet()("root")
    tree.add(root)
    assert [*tree.roots] == [root.id]
    assert tree.take_finished() == []
    assert len(tree) == 1


def test_a_finished_root_is_taken_with_its_subtree_and_forgotten() -> None:
    tree, root = Tree(), Quiet()("root")
    child = root.step("child")
    grandchild = child.step("grandchild")
    for span in (root, child, grandchild):
        tree.add(span)
    for span in (grandchild, child, root):
        span.end()
        tree.add(span)
    (node,) = tree.take_finished()
    assert node.span is root
    assert names(list(node.children)) == ["child"]
    assert names(list(node.children[0].children)) == ["grandchild"]
    assert [span.mark for span in (root, child, grandchild)] == [SHOWN] * 3
    assert (len(tree), tree.roots) == (0, {})
    assert tree.take_finished() == []


def test_what_was_shown_does_not_come_back() -> None:
    tree, root = Tree(), Quiet()("root")
    root.end()
    tree.add(root)
    tree.take_finished()
    tree.add(root)
    assert (len(tree), tree.take_finished()) == (0, [])


def test_roots_are_taken_in_the_order_they_ended() -> None:
    tree, tracer = Tree(), Quiet()
    first, second = tracer("first"), tracer("second")
    for span in (first, second):
        tree.add(span)
    for span in (second, first):
        span.end()
        tree.add(span)
    assert names(tree.take_finished()) == ["second", "first"]


def test_a_finished_child_waits_for_its_root() -> None:
    tree, root = Tree(), Quiet()("root")
    child = root.step("child")
    child.end()
    for span in (root, child):
        tree.add(span)
    assert tree.take_finished() == []
    assert child.mark is None


def test_a_step_left_open_is_forgotten_and_comes_back_when_it_ends() -> None:
    tree, root = Tree(), Quiet()("root")
    child = root.step("child")
    for span in (root, child):
        tree.add(span)
    root.end()
    tree.add(root)
    assert names(tree.take_finished()) == ["root"]
    assert len(tree) == 0
    child.end()
    tree.add(child)
    assert names(tree.take_finished()) == ["child"]
    assert len(tree) == 0


def test_a_step_of_an_unknown_parent_is_a_root() -> None:
    tree, root = Tree(), Quiet()("root")
    tree.add(root.step("step"))
    assert names(list(tree.roots.values())) == ["step"]


def test_all_roots_can_be_taken() -> None:
    tree, tracer = Tree(), Quiet()
    first, second = tracer("first"), tracer("second")
    first.end()
    for span in (second, first):
        tree.add(span)
    assert names(tree.take_all()) == ["second", "first"]
    assert (first.mark, second.mark) == (SHOWN, None)
    assert (len(tree), tree.take_finished(), tree.take_all()) == (0, [], [])


def test_old_steps_of_a_long_span_are_dropped() -> None:
    tree, root = Tree(), Quiet()("stream")
    tree.add(root)
    for n in range(MAX_CHILDREN + 3):
        step = root.step(str(n))
        below = step.step("below")
        for span in (step, below):
            tree.add(span)
            span.end()
    (node,) = tree.roots.values()
    assert (node.left_out, len(node.children), node.children[0].span.name) == (3, MAX_CHILDREN, "3")
    assert len(tree) == 1 + 2 * MAX_CHILDREN


def test_steps_may_nest_deeper_than_python_nests_calls() -> None:
    tree, root = Tree(), Quiet()("root")
    tree.add(root)
    step = root
    for n in range(1, sys.getrecursionlimit() * 2):
        step = step.step(str(n))
        tree.add(step)
    (node,) = tree.roots.values()
    depth = 0
    while node.children:
        node, depth = node.children[-1], depth + 1
    assert (depth, node.span) == (MAX_DEPTH, step)
    assert len(tree) == MAX_DEPTH + MAX_CHILDREN
    root.end()
    tree.add(root)
    assert names(tree.take_finished()) == ["root"]
    assert len(tree) == 0


def test_a_step_that_is_too_deep_stands_beside_the_one_it_belongs_to() -> None:
    tree, root = Tree(), Quiet()("root")
    tree.add(root)
    step = root
    for n in range(1, MAX_DEPTH + 2):
        step = step.step(str(n))
        tree.add(step)
    (node,) = tree.roots.values()
    for _ in range(MAX_DEPTH - 1):
        (node,) = node.children
    assert names(list(node.children)) == [str(MAX_DEPTH), str(MAX_DEPTH + 1)]
