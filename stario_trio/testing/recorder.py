"""A response that is kept for a test to look at, instead of being sent.

The recorder is a `Writer`: everything it shows has gone through the framing of the server, and was read back by h11. On
top of it come the names of Stario's recorder.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stario_trio.http.headers import encode_value
from stario_trio.http.writer import Writer
from stario_trio.testing import sse as events
from stario_trio.testing.alive import CallableAlive, WatchfulPeer
from stario_trio.testing.headers import RecordedHeaders
from stario_trio.testing.reader import ResponseReader

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Literal, Self

    import trio

    from stario_trio.datastar.sse import PatchMode, SignalData
    from stario_trio.html import HtmlElement

__all__ = ["ResponseRecorder"]

_NOT_BOTH = "Use one of text(), html(), json(), redirect(), empty() and respond(), or patch(), sync() and their like."
_ONE_SHOT_AFTER_EVENTS = f"Cannot send one-shot response after SSE streaming started. {_NOT_BOTH}"
_EVENTS_AFTER_ONE_SHOT = f"Cannot stream after one-shot response started. {_NOT_BOTH}"


class ResponseRecorder(Writer):
    """A `Writer` for unit tests: `await handler(c, w)`, then look at what `w` holds. Needs no event loop.

    `async with ResponseRecorder() as w:` around the handler does what the server does when a handler has ended: it
    closes what `w.alive(source)` has opened and a `break` has left open, and ends the response.

    `w.disconnect.set()` is the peer leaving, and `w.shutdown.set()` the server's stop.

    Args:
        method: of the request; a HEAD is answered without a body.
    """

    def __init__(self, *, method: str = "GET") -> None:
        self._reader = ResponseReader(method)
        self._recording = WatchfulPeer(self._sent)
        super().__init__(self._recording, method=method)
        self._view = RecordedHeaders(super().headers)
        self._chosen: int | None = None
        self._streams_events = False
        self._answered_at_once = False
        self.sse_events: list[dict[str, Any]] = []
        """Comments, retries and what `sse()` has sent."""
        self.datastar_events: list[dict[str, Any]] = []
        """Datastar events as they were given: `{"type": "navigate", "url": ...}`, and with more keys the others."""

    def _sent(self, data: bytes) -> None:
        reader = self._reader
        head_is_new = not reader.status
        reader.feed(data)
        if head_is_new and reader.status:
            self._view.show(reader.fields)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.sources is not None:
            await self.sources.aclose()  # noqa: ASYNC102  (each knows itself what its close may wait for)
        if exc is None:
            self.end()

    # What a test looks at

    @property
    def sent(self) -> bytes:
        """The response as it went to the peer, head and framing included."""
        return bytes(self._recording.sent)

    @property
    def status_code(self) -> int:
        """The status that was sent; before, the one that was chosen with `status`, or 200."""
        sent = super().status_code
        return (self._chosen or 200) if sent is None else sent

    @property
    def headers(self) -> RecordedHeaders:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  (a dict, for tests; it has all that Headers has)
        """The response's fields; see `RecordedHeaders`."""
        return self._view

    @property
    def body(self) -> bytearray:
        """The body so far, without its framing."""
        return self._reader.body

    @property
    def closed(self) -> bool:
        """The same as `completed`."""
        return self.completed

    @property
    def aborted(self) -> bool:
        """Whether the response was given up with `abort`, or by a body that is shorter than `content-length`."""
        return self._recording.aborted

    def json_body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def text_body(self) -> str:
        """The body as text."""
        return self.body.decode()

    def assert_status(self, expected: int) -> None:
        """Check the status.

        Raises:
            AssertionError: it is another one.
        """
        _expect(expected, self.status_code)

    def assert_json(self, expected: Any) -> None:
        """Check the body as JSON; raises as `assert_status` does."""
        _expect(expected, self.json_body())

    def assert_header(self, name: str, expected: str) -> None:
        """Check the first value of a field; raises as `assert_status` does."""
        _expect(f"{name}={expected}", f"{name}={self.headers.get(name)}")

    # The peer

    @property
    def disconnect(self) -> trio.Event:
        """Set it, and the peer has left: `alive` ends."""
        return self._recording.disconnect

    @property
    def shutdown(self) -> trio.Event:
        """Set it, and the server stops: `alive` ends."""
        return self._recording.shutdown

    @property
    def alive(self) -> CallableAlive:  # pyright: ignore[reportIncompatibleMethodOverride]  (it can be called too)
        """See `Writer.alive`. Stario's recorder wants it without the parentheses, so that works too."""
        return CallableAlive(super().alive)

    # The head

    def status(self, code: int) -> Self:
        """Choose the status of a response that is written piece by piece; a `Writer` has `write_headers` for it.

        Raises:
            RuntimeError: the head is sent already.
        """
        if self.started:
            raise RuntimeError("Cannot set status after response started. Choose it before the first write().")
        self._chosen = code
        return self

    def header(self, name: str | bytes, value: str | bytes) -> Self:
        """Set a field; raises as `status` does. A `Writer` has `headers.set` for it."""
        if self.started:
            raise RuntimeError("Cannot set headers after response started. Set them before the first write().")
        self.headers.set(name, value)
        return self

    def cookie(
        self,
        name: str,
        value: str | float = "",
        *,
        max_age: int | str | None = None,
        expires: datetime | str | int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> Self:
        """See `Writer.cookie`."""
        return super().cookie(
            name,
            value,
            max_age=max_age,
            expires=expires,
            path=path or "",
            domain=domain,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
        )

    def delete_cookie(self, name: str, *, path: str | None = "/", domain: str | None = None) -> Self:
        """See `Writer.delete_cookie`."""
        return super().delete_cookie(name, path=path or "", domain=domain)

    # The body, piece by piece

    def write(self, data: bytes) -> Self:
        """See `Writer.write`."""
        if self.completed:
            raise RuntimeError("Response already closed. Cannot write after close(), end() or a one-shot method.")
        if self._chosen is not None and not self.started:
            self.write_headers(self._chosen)
        return super().write(data)

    def end(self, data: bytes | None = None) -> None:
        """See `Writer.end`."""
        if self._chosen is not None and not self.started:
            self.headers.set("content-length", str(len(data or b"")))
            self.write_headers(self._chosen)
        super().end(data)

    def close(self) -> None:
        """See `Writer.end`."""
        self.end()

    # The whole response at once

    @contextmanager
    def _at_once(self, headers: Mapping[str, str] | None) -> Generator[None]:
        if headers and not self.started:
            self.headers.update(headers)
        try:
            yield
        except RuntimeError as exc:
            if self._streams_events:
                raise RuntimeError(_ONE_SHOT_AFTER_EVENTS) from exc
            raise
        self._answered_at_once = True

    def respond(
        self, body: bytes, content_type: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """See `Writer.respond`."""
        with self._at_once(headers):
            super().respond(body, encode_value(content_type), status)

    def text(
        self,
        content: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> None:
        """See `Writer.text`."""
        if content_type is not None:
            self.respond(content.encode(), content_type, status, headers)
            return
        with self._at_once(headers):
            super().text(content, status)

    def html(self, content: HtmlElement, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """See `Writer.html`."""
        with self._at_once(headers):
            super().html(content, status)

    def json(self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """See `Writer.json`."""
        with self._at_once(headers):
            super().json(data, status)

    def redirect(self, url: str, status: int = 307, headers: Mapping[str, str] | None = None) -> None:
        """See `Writer.redirect`."""
        with self._at_once(headers):
            super().redirect(url, status)

    def empty(self, status: int = 204, headers: Mapping[str, str] | None = None) -> None:
        """See `Writer.empty`."""
        with self._at_once(headers):
            super().empty(status)

    # Events. What they take besides is the Writer's to say.

    @contextmanager
    def _datastar(self, **event: Any) -> Generator[None]:
        with self._events():
            yield
        self.datastar_events.append(event)

    @contextmanager
    def _events(self) -> Generator[None]:
        try:
            yield
        except RuntimeError as exc:
            if self._answered_at_once:
                raise RuntimeError(_EVENTS_AFTER_ONE_SHOT) from exc
            raise
        self._streams_events = True

    def patch(
        self, element: HtmlElement, *, mode: PatchMode = "outer", selector: str | None = None, **more: Any
    ) -> None:
        """See `Writer.patch`."""
        with self._datastar(type="patch", element=element, mode=mode, selector=selector):
            super().patch(element, mode=mode, selector=selector, **more)

    def sync(self, data: SignalData, *, only_if_missing: bool = False, **more: Any) -> None:
        """See `Writer.sync`."""
        with self._datastar(type="sync", data=data, only_if_missing=only_if_missing):
            super().sync(data, only_if_missing=only_if_missing, **more)

    def navigate(self, url: str, **more: Any) -> None:
        """See `Writer.navigate`."""
        with self._datastar(type="navigate", url=url):
            super().navigate(url, **more)

    def execute(self, code: str, *, auto_remove: bool = True, **more: Any) -> None:
        """See `Writer.execute`."""
        with self._datastar(type="script", code=code, auto_remove=auto_remove):
            super().execute(code, auto_remove=auto_remove, **more)

    def script(self, code: str, *, auto_remove: bool = True) -> None:
        """See `Writer.execute`: the name it has in Stario's recorder."""
        self.execute(code, auto_remove=auto_remove)

    def remove(self, selector: str, **more: Any) -> None:
        """See `Writer.remove`."""
        with self._datastar(type="remove", selector=selector):
            super().remove(selector, **more)

    def retry(self, milliseconds: int) -> None:
        """Tell the client how long to wait before it reconnects; a `Writer` has `retry_duration` for it."""
        self._sse_by_hand(events.retry(milliseconds))
        self.sse_events.append({"type": "retry", "data": milliseconds})

    def comment(self, text: str = "") -> None:
        """Send a comment; a `Writer` has no such method."""
        self._sse_by_hand(events.comment(text))
        self.sse_events.append({"type": "comment", "data": text})

    def _event(self, event: bytes) -> None:
        if self._chosen is not None and not self.started:
            self._begin_events()
            self.write_headers(self._chosen)
        super()._event(event)

    def _sse_by_hand(self, data: bytes) -> None:
        with self._events():
            self._begin_events()
            self.write(data)

    def _begin_events(self) -> None:
        if not self.started:
            self.headers.update(
                {"content-type": "text/event-stream", "cache-control": "no-cache", "connection": "keep-alive"}
            )

    @contextmanager
    def sse(self) -> Generator[events.SSERecorder]:
        """Send events by hand and end the response with the block; a `Writer` has no such method.

        Raises:
            RuntimeError: the head is sent already.
        """
        self.header("content-type", "text/event-stream")
        with self._events():
            self._begin_events()
            self.write_headers(self._chosen or 200)
        yield events.SSERecorder(self)
        self.close()


def _expect(expected: Any, got: Any) -> None:
    if expected != got:
        raise AssertionError(f"Expected {expected}, got {got}")
