"""Server-sent events written by hand, as Stario's recorder offers them (WHATWG HTML standard, "Server-sent events")."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    import trio

    from stario_trio.testing.recorder import ResponseRecorder

__all__ = ["SSERecorder", "comment", "message", "retry"]

_LINE_END: Final = re.compile("\r\n|\r|\n")


def comment(text: str) -> bytes:
    """A comment, which no client looks at; its lines become comments of their own."""
    return b"".join(f": {line}\n".encode() for line in _LINE_END.split(text)) + b"\n"


def retry(milliseconds: int) -> bytes:
    """How long a client waits before it reconnects."""
    return b"retry: %d\n\n" % milliseconds


def message(data: Any, *, name: str | None = None, event_id: str | None = None) -> bytes:
    """One event; a dict or list as JSON, anything else as its text.

    Raises:
        StarioError: a line break in the name or the id.
    """
    lines = [f"{field}: {_one_line(field, value)}\n" for field, value in (("event", name), ("id", event_id)) if value]
    if isinstance(data, (dict, list)):
        data = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    lines += [f"data: {line}\n" for line in _LINE_END.split(str(data))]
    return "".join([*lines, "\n"]).encode()


def _one_line(field: str, value: str) -> str:
    if _LINE_END.search(value):
        raise StarioError(f"Invalid {field}", context={field: value}, help_text="It may have no line break.")
    return value


class SSERecorder:
    """What `with recorder.sse() as events:` gives: events by hand, kept in `recorder.sse_events` and its body.

    A `Writer` has no such methods: this is for tests that came with Stario.
    """

    __slots__ = ("_recorder",)

    def __init__(self, recorder: ResponseRecorder) -> None:
        self._recorder = recorder

    @property
    def disconnected(self) -> bool:
        """See `Writer.disconnected`."""
        return self._recorder.disconnected

    @property
    def disconnect(self) -> trio.Event:
        """See `ResponseRecorder.disconnect`."""
        return self._recorder.disconnect

    def send(self, data: Any, *, id: str | None = None) -> None:  # noqa: A002  (upstream's name)
        """Send an event without a name; raises as `event` does."""
        self._recorder.write(message(data, event_id=id))
        self._recorder.sse_events.append({"type": "message", "data": data, "id": id})

    def event(self, name: str, data: Any, *, id: str | None = None) -> None:  # noqa: A002  (the same)
        """Send an event.

        Raises:
            RuntimeError: the response is completed.
            StarioError: a line break in the name or the id.
        """
        self._recorder.write(message(data, name=name, event_id=id))
        self._recorder.sse_events.append({"type": name, "data": data, "id": id})

    def comment(self, text: str = "") -> None:
        """See `ResponseRecorder.comment`."""
        self._recorder.comment(text)

    def retry(self, milliseconds: int) -> None:
        """See `ResponseRecorder.retry`."""
        self._recorder.retry(milliseconds)
