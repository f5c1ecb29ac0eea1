"""The last resort against a handler that keeps a test from ever ending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio

__all__ = ["take_shields_away"]


def take_shields_away(task: trio.lowlevel.Task) -> None:
    """Let the cancel of a task reach it, and its children, in whatever scopes they are shielded.

    Anybody may set `CancelScope.shield`, but Trio does not tell which scopes another task is in. Should a Trio come
    that keeps them elsewhere, nothing happens: then the test hangs, as it would without this.
    """
    assert task.parent_nursery is not None, "no main task"
    status: Any = getattr(task, "_cancel_status", None)
    while status is not None and status._scope is not task.parent_nursery.cancel_scope:
        status._scope.shield = False
        status = status.parent
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            take_shields_away(child)
