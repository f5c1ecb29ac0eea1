"""Text from a visitor in every place of a response that takes text: it never begins a line of its own."""

from __future__ import annotations

import re
from http.cookies import CookieError
from typing import TYPE_CHECKING, Any

import pytest

from stario_trio import HttpException, StarioError
from tests.support.peer import FakePeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio import Writer

BREAKS = ["\r\n", "\n", "\r", "\r\n\r\n", "\n\n", "\r\r", "\0\n", ";\r\n", "\u010a", "\u010d\u010a"]
"""The last two become CR and LF where somebody encodes by cutting each character to a byte."""

HEADS: dict[str, Callable[[Writer, Any], object]] = {
    "headers.set value": lambda w, evil: w.headers.set("x", evil),
    "headers.set name": lambda w, evil: w.headers.set(evil, "x"),
    "headers.add value": lambda w, evil: w.headers.add("x", evil),
    "headers.update": lambda w, evil: w.headers.update({"x": evil}),
    "headers.setdefault": lambda w, evil: w.headers.setdefault("x", evil),
    "headers.rset value": lambda w, evil: w.headers.rset(b"x", evil.encode()),
    "headers.rset name": lambda w, evil: w.headers.rset(evil.encode(), b"x"),
    "headers.radd value": lambda w, evil: w.headers.radd(b"x", evil.encode()),
    "cookie value": lambda w, evil: w.cookie("a", evil),
    "cookie name": lambda w, evil: w.cookie(evil, "a"),
    "cookie path": lambda w, evil: w.cookie("a", "b", path=evil),
    "cookie domain": lambda w, evil: w.cookie("a", "b", domain=evil),
    "cookie expires": lambda w, evil: w.cookie("a", "b", expires=evil),
    "cookie samesite": lambda w, evil: w.cookie("a", "b", samesite=evil),
    "delete_cookie name": lambda w, evil: w.delete_cookie(evil),
    "delete_cookie path": lambda w, evil: w.delete_cookie("a", path=evil),
    "redirect": lambda w, evil: w.redirect(evil),
    "an exception's redirect": lambda w, evil: HttpException(302, evil).respond(w),
    "content type": lambda w, evil: w.respond(b"", evil.encode()),
}

EVENTS: dict[str, Callable[[Writer, Any], object]] = {
    "patch": lambda w, evil: w.patch(evil),
    "patch selector": lambda w, evil: w.patch("x", selector=evil),
    "patch mode": lambda w, evil: w.patch("x", mode=evil),
    "patch namespace": lambda w, evil: w.patch("x", namespace=evil),
    "patch id": lambda w, evil: w.patch("x", event_id=evil),
    "patch retry": lambda w, evil: w.patch("x", retry_duration=evil),
    "remove": lambda w, evil: w.remove(evil),
    "sync name": lambda w, evil: w.sync({evil: 1}),
    "sync value": lambda w, evil: w.sync({"a": evil}),
    "execute": lambda w, evil: w.execute(evil),
    "execute attribute": lambda w, evil: w.execute("1", attributes={evil: "x"}),
    "execute attribute value": lambda w, evil: w.execute("1", attributes={"x": evil}),
    "navigate": lambda w, evil: w.navigate(evil),
}


def sent_by(write: Callable[[Writer, Any], object], text: str) -> bytes:
    """What the peer gets; nothing if the text is refused, which must happen before anything is sent."""
    peer = FakePeer()
    w = peer.writer()
    try:
        write(w, text)
        w.end()
    except (ValueError, CookieError, StarioError):
        assert bytes(peer.sent) == b""
    return bytes(peer.sent)


@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("place", HEADS)
def test_no_field_of_its_own(place: str, line_break: str) -> None:
    sent = sent_by(HEADS[place], f"a{line_break}evil: 1")
    assert not re.search(rb"[\r\n]evil", sent)
    assert sent.count(b"\r\n\r\n") <= 1
    assert b"\0" not in sent


@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("place", EVENTS)
def test_no_event_of_its_own(place: str, line_break: str) -> None:
    sent = sent_by(EVENTS[place], f"a{line_break}event: evil{line_break}data: evil{line_break}")
    # A browser ends a line at CR, at LF and at CRLF; the chunk's own CRLF stands before and behind the event.
    assert not re.search(rb"[\r\n](event|data): evil", sent)
    assert len(re.findall(rb"[\r\n]event: ", sent)) == (1 if sent else 0)
