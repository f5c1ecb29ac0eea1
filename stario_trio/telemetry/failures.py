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
    notes: object = getattr(exc, "__notes__", ())  # anything, like every attribute of an exception
    lines = [text(note) for note in cast("list[object]", notes)] if isinstance(notes, (list, tuple)) else []
    return "\n".join([text(exc) or type(exc).__name__, *lines])


def only_cancelled(exc: BaseException) -> bool:
    """Say whether `exc` is a Trio cancellation, or a group of nothing else."""
    return all(isinstance(each, (trio.Cancelled, BaseExceptionGroup)) for each in unfold(exc))


def unfold(exc: BaseException) -> Iterator[BaseException]:
    """Yield `exc`, then, for a group, its members at any depth: with nurseries the cause stands in there."""
    yield exc
    if isinstance(exc, BaseExceptionGroup):
        for member in cast("BaseExceptionGroup[BaseException]", exc).exceptions:
            yield from unfold(member)
