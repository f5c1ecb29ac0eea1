"""The response: a synchronous writer over a sink, without I/O of its own.

A handler calls `w.html(...)` or `w.patch(...)`; the writer frames the bytes and hands them to its `Peer`, which sends
them in order. Nothing here waits, except where a handler asks for it (`w.drain()`, `w.alive()`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload
from urllib.parse import quote

from stario_trio.datastar import sse
from stario_trio.exceptions import StarioError
from stario_trio.html import HtmlElement, render
from stario_trio.http import coding, cookies, framing
from stario_trio.http.alive import Alive
from stario_trio.http.compression import CompressionConfig, Compressor
from stario_trio.http.headers import Headers, encode_value
from stario_trio.text import json_text, utf8

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
    from datetime import datetime

    from stario_trio.http.coding import Offer
    from stario_trio.http.framing import Framing
    from stario_trio.http.peer import Peer

__all__ = ["CompressionConfig", "Compressor", "Writer"]

T = TypeVar("T")

# What may stand in a Location unescaped: the reserved characters of RFC 3986, and % for what is escaped already.
_SAFE_IN_URL = ":/%#?=@[]!$&'()*+,;"

_STARTED = (
    "Response already started (headers sent). A request gets one response: call one of "
    "text/html/json/redirect/empty/respond once, or stream with write()."
)


class Writer:
    """Writes one response.

    Args:
        peer: where the bytes go, and what is known of the other end.
        method: of the request; HEAD gets no body.
        version: `"1.1"` or `"1.0"`; an HTTP/1.0 peer gets no chunks.
        keep_alive: whether the peer asked to use the connection again.
    """

    __slots__ = (
        "_compressor",
        "_framing",
        "_headers",
        "_keep_alive",
        "_method",
        "_peer",
        "_status",
        "_version",
        "completed",
        "offer",
        "sources",
    )

    def __init__(self, peer: Peer, *, method: str = "GET", version: str = "1.1", keep_alive: bool = True) -> None:
        self._peer = peer
        self._method = method
        self._version = version
        self._keep_alive = keep_alive
        self._headers: Headers | None = None
        self._framing: Framing | None = None
        self._status: int | None = None
        self._compressor: Compressor | None = None
        self.offer: Offer | None = None
        """What this response may be compressed with, as the app says before it calls the handler; None for nothing."""
        self.completed: bool = False
        """Whether the response has ended, in full or by `abort`."""
        self.sources: AsyncExitStack | None = None
        """What `alive` has opened, to be closed when the handler has ended."""

    @property
    def headers(self) -> Headers:
        """The response's fields; once the head is sent, changing them is a RuntimeError."""
        if self._headers is None:
            self._headers = Headers()
            if self.started:
                self._headers.seal()
        return self._headers

    @property
    def status_code(self) -> int | None:
        """The status that was sent; None before."""
        return self._status

    @property
    def started(self) -> bool:
        """Whether the head is sent."""
        return self._status is not None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another response after this one (known once it is completed)."""
        return self._keep_alive

    @property
    def ends_by_close(self) -> bool:
        """Whether the peer takes the end of the connection for the end of the body (RFC 9112 section 6.3, rule 8)."""
        return self._framing is not None and self._framing.until_close

    @property
    def disconnected(self) -> bool:
        """The peer has left, or will send no more. Writing is then harmless and may reach nobody."""
        return self._peer.disconnected

    @property
    def shutting_down(self) -> bool:
        """The server wants to stop: wrap up within the grace (SD-03)."""
        return self._peer.shutting_down

    @overload
    def alive(self) -> Alive[None]: ...

    @overload
    def alive(self, source: AsyncIterable[T]) -> Alive[T]: ...

    def alive(self, source: AsyncIterable[Any] | None = None) -> Alive[Any]:
        """For as long as the peer is there and the server does not stop: see `Alive`."""
        return Alive(self._peer, source, self._when_handled)

    def _when_handled(self, close: Callable[[], Awaitable[object]]) -> None:
        if self.sources is None:
            self.sources = AsyncExitStack()
        self.sources.push_async_callback(close)

    async def drain(self) -> bool:
        """Wait until the peer has taken enough of what was written (`Limits.high_water`). Always a checkpoint.

        Returns:
            Whether it is worth going on: False once nothing more can reach the peer. A peer that will only send no
            more itself (`disconnected`) may still be reading.
        """
        return await self._peer.drain()

    # The head

    def cookie(
        self,
        name: str,
        value: str | float,
        *,
        max_age: int | str | None = None,
        expires: datetime | str | int | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> Self:
        """Set a cookie (RFC 6265 section 4.1).

        A `value` that is no text is sent as its `str()`. `max_age` is in seconds; `expires` is an aware `datetime`, a
        Unix time in seconds, or the text to send. What a URL's path may not hold is percent-encoded in `path`.

        Raises:
            RuntimeError: the head is sent already.
            http.cookies.CookieError, TypeError, ValueError: what would be sent is not a cookie.
        """
        self._before_start("cookie()")
        self.headers.add(
            "set-cookie",
            cookies.set_cookie(
                name,
                value,
                max_age=max_age,
                expires=expires,
                path=path,
                domain=domain,
                secure=secure,
                httponly=httponly,
                samesite=samesite,
            ),
        )
        return self

    def delete_cookie(self, name: str, *, path: str = "/", domain: str | None = None) -> Self:
        """Tell the peer to forget a cookie; `path` and `domain` must be those it was set with."""
        self._before_start("delete_cookie()")
        self.headers.add("set-cookie", cookies.delete_cookie(name, path=path, domain=domain))
        return self

    def _before_start(self, what: str) -> None:
        if self.started:
            raise RuntimeError(f"Response already started (headers sent): {what} comes too late. Call it earlier.")

    def _start(
        self,
        status: int,
        size: int | None,
        body: bytes = b"",
        content_type: bytes | None = None,
        said: coding.Said = coding.UNCODED,
    ) -> None:
        """Choose the framing and send the head, with `body` behind it: all of it if `size` is its length.

        `said` belongs to this body only: nothing of it is kept for another try if this one fails.
        """
        if self.started:
            raise RuntimeError(_STARTED)
        head = [framing.status_line(status), self._peer.date]
        body_framing = self._choose_framing(status, size)
        fields = self._headers
        if (fields is not None and _says_close(fields)) or body_framing.until_close or self._peer.closing:
            self._keep_alive = False
        connection = self._connection_option()
        if status == 304 and self.offer is not None:
            said = coding.encode_not_modified(self.offer, fields)
        head.append(said.lines)
        if fields is not None:
            fields.remove("transfer-encoding").remove("content-length").remove("date")
            if connection is not None and "connection" in fields:
                fields.set("connection", connection)
                connection = None
            if fields.rget(b"content-encoding", b"").lower() == b"identity":  # RFC 9110 section 8.4.1 wants it unsaid
                fields.remove("content-encoding")
            if content_type is not None:
                fields.set("content-type", content_type)
            if said.changes:
                fields.field_lines()  # raises what the one below would
                for name, value in said.changes.items():
                    fields.rset(name, value)
            head.append(fields.field_lines())
        elif content_type is not None:
            head.append(b"content-type: %s\r\n" % content_type)
        if size is None:
            if body_framing.chunked:
                head.append(b"transfer-encoding: chunked\r\n")
        elif status not in (204, 304):  # RFC 9110 section 8.6: a 304 may only say the size that a 200 would have
            head.append(b"content-length: %d\r\n" % size)
        head.append(b"\r\n" if connection is None else b"connection: %s\r\n\r\n" % connection)
        head.append(body_framing.piece(body))
        whole = b"".join(head)
        # Only now, when nothing can be wrong with it any more, is the response this one.
        self._framing = body_framing
        self._status = status
        if fields is not None:
            fields.seal()
        try:
            self._peer.send(whole)
        except BaseException:
            self.abort()  # whatever came now would come without its head
            raise

    def _choose_framing(self, status: int, size: int | None) -> Framing:
        if self._method == "HEAD" or status in (204, 304):
            return framing.bodiless()
        if size is not None:
            return framing.counted(size)
        return framing.chunked() if self._version == "1.1" else framing.until_close()

    def _connection_option(self) -> bytes | None:
        """What the peer must be told of the connection (RFC 9112 section 9.3); None where the default says it."""
        if not self._keep_alive:
            return b"close"
        if self._version == "1.0":
            return b"keep-alive"
        return None

    def _declared_size(self) -> int | None:
        declared = None if self._headers is None else self._headers.get("content-length")
        if declared is None:
            return None
        if not (declared.isascii() and declared.isdigit()):
            raise StarioError(
                "Invalid content-length",
                context={"content-length": declared},
                help_text="Give the size of the body in bytes, or leave it out: the body is then chunked.",
            )
        return int(declared)

    # The body, piece by piece

    def write_headers(self, status_code: int) -> Self:
        """Send the head now; the body follows with `write` and ends with `end`.

        With `content-length` set, the body has exactly that size; otherwise it is chunked.

        Raises:
            RuntimeError: the head is sent already.
            StarioError: not a final status, or a `content-length` that is no number.
        """
        self._before_start("write_headers()")
        self._start(status_code, self._declared_size())
        return self

    def write(self, data: bytes) -> Self:
        """Send a piece of the body, after a 200 head if none was sent. One chunk a call.

        Raises:
            RuntimeError: the response is completed, or `content-length` promised less.
            TypeError: not bytes.
            StarioError: the peer is too far behind (`Limits.max_unsent`): `await w.drain()` between writes.
        """
        if self.completed:
            raise RuntimeError("Cannot write after response is completed. Write before end() and the one-shot methods.")
        data = _as_bytes(data)  # before the head is sent: what is no bytes can still become a 500
        if self._framing is None:
            self.write_headers(200)
        self._piece(data)
        return self

    def _piece(self, data: bytes) -> None:
        body = self._framing
        assert body is not None, "started"
        if self._compressor is not None:
            self._send_block(self._compressor.block(data), body)
            return
        remaining = body.remaining
        piece = body.piece(data)
        try:
            self._peer.send(piece)
        except BaseException:
            body.remaining = remaining  # it was not sent, so it is still owed
            raise

    def _send_block(self, block: bytes, body: Framing) -> None:
        try:
            self._peer.send(body.piece(block))
        except BaseException:
            self.abort()  # the blocks after one that is missing cannot be decoded
            raise

    def end(self, data: bytes | None = None) -> None:
        """End the response; again is harmless.

        Without a head so far, `data` is the whole body of a 200, and no data makes a 204.

        Raises:
            RuntimeError: `content-length` promised another size. If it promised more, the connection is cut, since
                the peer would take the next response for the rest of this one.
            TypeError: `data` is not bytes.
        """
        if self.completed:
            return
        if data is not None:
            data = _as_bytes(data)
        if self._framing is None:
            self._start(200 if data else 204, len(data or b""), data or b"")
        elif data:
            self._piece(data)
        assert self._framing is not None, "started"
        last = self._framing.end()
        if last is None:
            missing = self._framing.remaining
            self.abort()
            raise RuntimeError(f"Too little body: content-length promised {missing} more bytes than were written.")
        if self._compressor is not None:
            last = self._framing.piece(self._compressor.finish()) + last
        self._peer.send(last, last=True)
        self.completed = True

    def abort(self) -> None:
        """Give the response up so that the peer can tell: nothing ends the body, and the connection closes."""
        if not self.completed:
            self.completed = True
            self._keep_alive = False
            self._peer.abort()

    # The whole response at once

    def respond(self, body: bytes, content_type: bytes, status: int = 200) -> None:
        """Answer with `body`.

        Raises:
            RuntimeError: the head is sent already.
            StarioError: not a final status.
            TypeError: `body` is not bytes.
            ValueError: a control character in `content_type`.
        """
        self._respond(_as_bytes(body), encode_value(content_type), status)

    def _respond(self, body: bytes, content_type: bytes, status: int) -> None:
        said = coding.UNCODED
        if self.offer is not None and len(body) >= self.offer[0].min_size and not self.started:
            body, said = coding.encode(self.offer, self._headers, body, content_type, status)
        self._start(status, len(body), body, content_type, said)
        self.completed = True

    def text(self, content: str, status: int = 200) -> None:
        """Answer with plain text, in UTF-8; raises as `respond` does."""
        self._respond(utf8(content), b"text/plain; charset=utf-8", status)

    def html(self, content: HtmlElement, status: int = 200) -> None:
        """Answer with HTML: an object with `__html__()` as it is, a plain `str` escaped; raises as `respond` does.

        Raises:
            StarioError: `content` is no HTML. Nothing is sent.
        """
        self._respond(utf8(render(content)), b"text/html; charset=utf-8", status)

    def json(self, data: Any, status: int = 200) -> None:
        """Answer with JSON, compact and in UTF-8; raises as `respond` does.

        Raises:
            TypeError, ValueError: `data` is no JSON (NaN and infinities are not). Nothing is sent.
        """
        self._respond(utf8(json_text(data)), b"application/json; charset=utf-8", status)

    def redirect(self, url: str, status: int = 307) -> None:
        """Send the peer to `url`; what may not stand in a URL is percent-encoded."""
        self._before_start("redirect()")
        self.headers.set("location", quote(str(url), safe=_SAFE_IN_URL))
        self.empty(status)

    def empty(self, status: int = 204) -> None:
        """Answer without a body; raises as `respond` does."""
        self._start(status, 0)
        self.completed = True

    # Datastar events over SSE

    def patch(
        self,
        element: HtmlElement,
        *,
        mode: sse.PatchMode = "outer",
        selector: str | None = None,
        use_view_transition: bool = False,
        view_transition_selector: str | None = None,
        namespace: sse.Namespace | None = None,
        event_id: str | None = None,
        retry_duration: int | None = None,
    ) -> None:
        """Change the page: replace, or insert by `mode` and `selector`, the given HTML.

        Raises:
            RuntimeError: the response is completed.
            StarioError: no HTML, or a value that cannot stand in an event: nothing is sent. Or the peer is too far
                behind (see `write`); a compressed stream is then cut, as it cannot go on with a hole.
        """
        self._event(
            sse.patch(
                element,
                mode=mode,
                selector=selector,
                use_view_transition=use_view_transition,
                view_transition_selector=view_transition_selector,
                namespace=namespace,
                event_id=event_id,
                retry_duration=retry_duration,
            )
        )

    def sync(
        self,
        data: sse.SignalData,
        *,
        only_if_missing: bool = False,
        event_id: str | None = None,
        retry_duration: int | None = None,
    ) -> None:
        """Change the page's signals; raises as `patch` does."""
        self._event(
            sse.signals(data, only_if_missing=only_if_missing, event_id=event_id, retry_duration=retry_duration)
        )

    def navigate(self, url: str, *, event_id: str | None = None, retry_duration: int | None = None) -> None:
        """Send the page to `url`, by a script; a `javascript:` URL would run. Raises as `patch` does."""
        self._event(sse.redirect(url, event_id=event_id, retry_duration=retry_duration))

    def execute(
        self,
        code: str,
        *,
        auto_remove: bool = True,
        attributes: Mapping[str, str] | None = None,
        event_id: str | None = None,
        retry_duration: int | None = None,
    ) -> None:
        """Run JavaScript in the page; raises as `patch` does."""
        self._event(
            sse.script(
                code,
                auto_remove=auto_remove,
                attributes=attributes,
                event_id=event_id,
                retry_duration=retry_duration,
            )
        )

    def remove(
        self,
        selector: str,
        *,
        use_view_transition: bool = False,
        view_transition_selector: str | None = None,
        event_id: str | None = None,
        retry_duration: int | None = None,
    ) -> None:
        """Remove the elements that match; raises as `patch` does."""
        self._event(
            sse.remove(
                selector,
                use_view_transition=use_view_transition,
                view_transition_selector=view_transition_selector,
                event_id=event_id,
                retry_duration=retry_duration,
            )
        )

    def _event(self, event: bytes) -> None:
        if self.completed:
            raise RuntimeError("Cannot send SSE events after response is completed.")
        if self._framing is not None:
            self._piece(event)
            return
        fields = self.headers
        compressor, said = None, coding.UNCODED
        if self.offer is not None:
            compressor, said = coding.encode_events(self.offer, fields)
        if compressor is not None and self._method != "HEAD":
            event = compressor.block(event)  # before the head is sent: what fails here can still become a 500
        else:
            compressor = None
        fields.set("content-type", "text/event-stream")
        fields.set("cache-control", "no-cache")
        fields.set("connection", "keep-alive")
        self._start(200, None, event, said=said)
        self._compressor = compressor


def _as_bytes(data: object) -> bytes:
    """Bytes-like objects as bytes, with which framing counts and which nobody changes while they wait to be sent."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(cast("bytes", data))
    raise TypeError(f"A body is bytes, not {type(data).__name__}. Encode text first, or use text(), html() or json().")


def _says_close(fields: Headers) -> bool:
    """Whether the handler has asked for the end of the connection (RFC 9110 section 7.6.1)."""
    return "connection" in fields and any(
        option.strip() == "close" for value in fields.getlist("connection") for option in value.lower().split(",")
    )
