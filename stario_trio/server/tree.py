"""The tree of nurseries of a running server, as a picture: `print(task_tree())`.

Made by looking at the run, not by drawing what it should be: a nursery is named by the function that holds it open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["task_tree"]


def task_tree(root: trio.lowlevel.Task | None = None) -> str:
    """The tasks below `root` and the nurseries they hold open, one a line.

    Args:
        root: where to begin; by default the main task of this Trio run.
    """
    top = trio.lowlevel.current_root_task() if root is None else root
    assert top is not None, "in a Trio run"
    if root is None:  # beside the main task, Trio has tasks of its own, in angle brackets
        siblings = [task for nursery in top.child_nurseries for task in nursery.child_tasks]
        top = next(task for task in siblings if not task.name.startswith("<"))
    return "\n".join([top.name, *_below(top)])


def _below(task: trio.lowlevel.Task) -> list[str]:
    """The lines under one task: its nurseries are nested in each other, the outermost first."""
    lines: list[str] = []
    indent = ""
    for nursery in task.child_nurseries:
        lines.append(f"{indent}└─ [{_holder(task, nursery)}]")
        indent += "    "
        children = sorted(nursery.child_tasks, key=lambda child: child.name)
        for child in children:
            lines.append(f"{indent}├─ {child.name}")
            lines.extend(f"{indent}│   {line}" for line in _below(child))
    return lines


def _holder(task: trio.lowlevel.Task, nursery: trio.Nursery) -> str:
    """The function that opened a nursery: the first frame that knows it by name."""
    for frame in _frames(task):
        if any(value is nursery for value in frame.f_locals.values()):
            return frame.f_code.co_qualname
    return "?"


def _frames(task: trio.lowlevel.Task) -> Iterator[FrameType]:
    return (frame for frame, _ in task.iter_await_frames())
