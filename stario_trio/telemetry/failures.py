"""What an exception, or any other value, says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["error_text", "only_cancelled", "text", "unfold"]


def text(value: object) -> str:
    """Return `str(value)`, or a stand-in for a value whose `__str__` raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (telemetry must not fail because of what it describes)
        return f"<unprintable {type(value).__name__}>"


def error_text(exc: BaseException) -> str:
    """Return the message of `exc` with its notes, or the name of its type where the message is empty."""
    return "\n".join([text(exc) or type(exc).__name__, *[text(note) for note in _notes(exc)]])


def _notes(exc: BaseException) -> list[object]:
    """What `add_note` has added. An exception with a `__getattr__` of its own may give anything, or raise anything."""
    try:
        notes: object = getattr(exc, "__notes__", ())
        return list(cast("list[object]", notes)) if isinstance(notes, (list, tuple)) else []
    except Exception:  # noqa: BLE001  (telemetry must not fail because of what it describes)
        return []


def only_cancelled(exc: BaseException) -> bool:
    """Say whether `exc` is a Trio cancellation, or a group of nothing else."""
    return all(isinstance(each, (trio.Cancelled, BaseExceptionGroup)) for each in unfold(exc))


def unfold(exc: BaseException) -> Iterator[BaseException]:
    """Yield `exc`, then, for a group, its members at any depth: with nurseries the cause stands in there."""
    rest = [exc]
    while rest:  # no recursion: a retry that wraps what it catches nests deeper than Python nests calls
        each = rest.pop()
        yield each
        if isinstance(each, BaseExceptionGroup):
            rest += reversed(cast("BaseExceptionGroup[BaseException]", each).exceptions)
