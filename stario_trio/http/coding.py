"""Whether one response is compressed, and what its head says then (RFC 9110 sections 8.4, 8.8.3 and 12.5.5).

A response is left alone if the handler has said how it is coded, if its bytes are compressed already, if it is only a
part, or if nobody may transform it. Every other one that is long enough depends on what the client accepts, and says so
in Vary, also where this client accepts nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from stario_trio.http.compression import CompressionConfig, Compressor, is_compressed

if TYPE_CHECKING:
    from stario_trio.http.headers import Headers

__all__ = [
    "UNCODED",
    "Offer",
    "Said",
    "accept_encoding",
    "encode",
    "encode_events",
    "encode_not_modified",
    "vary_by_coding",
]

Offer: TypeAlias = "tuple[CompressionConfig, Headers]"
"""What the app compresses with, and the fields of the request."""

#: RFC 9110 section 8.8.3, as loosely as a client may write it: the tags are only compared with one that is known.
_ENTITY_TAG: Final = re.compile(rb'(?:W/)?"[^"]*"')


class Said(NamedTuple):
    """What a head says because of the coding.

    Attributes:
        lines: further field lines.
        changes: new values of fields that the handler has set, by name. They are made when the head is known to be
            right, so that a response that fails leaves nothing behind for the next try.
    """

    lines: bytes
    changes: dict[bytes, bytes]


UNCODED: Final = Said(b"", {})
"""Of a response that does not depend on what the client accepts."""


def encode(offer: Offer, fields: Headers | None, body: bytes, content_type: bytes, status: int) -> tuple[bytes, Said]:
    """Compress a whole body, if that is right and makes it smaller.

    Args:
        offer: between the app and the client.
        fields: what the handler has set.
        body: of at least `min_size` bytes.
        content_type: of the body.
        status: of the response.

    Returns:
        The body to send, and what its head says: Vary is merged, and an ETag becomes weak.
    """
    if status in (204, 206, 304) or not _may_be_coded(fields, content_type):
        return body, UNCODED
    compressor = _select(offer)
    if compressor is not None:
        compressed = compressor.frame(body)
        if len(compressed) < len(body):
            return compressed, _say(fields, compressor)
    return body, _say(fields, None)


def encode_events(offer: Offer, fields: Headers | None) -> tuple[Compressor | None, Said]:
    """Choose how a stream of events is compressed; `fields` as in `encode`.

    Returns:
        The compressor, if there is one, and what the head says.
    """
    if not _may_be_coded(fields, b"text/event-stream"):
        return None, UNCODED
    compressor = _select(offer)
    return compressor, _say(fields, compressor)


def encode_not_modified(offer: Offer, fields: Headers | None) -> Said:
    """What the head of a 304 says: what that of the 200 said for which it stands, as far as can be known."""
    content_type = None if fields is None else fields.rget(b"content-type")
    if not _may_be_coded(fields, content_type or b""):
        return UNCODED
    # A 304 has the ETag that the 200 would have (RFC 9110 section 15.4.5): a cache takes any other one for that of
    # another response than it has stored, and drops the news (RFC 9111 section 4.3.4). But whether this 200 would be
    # compressed, and so its tag be weak, depends on a body that nobody has made. The client knows: If-None-Match lists
    # the tags of what it has, as they came. The strong tag alone means that it was sent the handler's own bytes (the
    # comparison there is a weak one, so this says nothing of which bytes it would take); beside the weak one, or where
    # the client names neither, it is what the client accepts now that counts.
    if _select(offer) is None or _has_strong_only(offer[1], fields):
        return _vary(fields)
    lines, changes = _vary(fields)
    return Said(lines, changes | _weak_etag(fields))


def accept_encoding(request: Headers) -> str | None:
    """What the client accepts, for `negotiate`: the lines of the field as one, None if there is none."""
    if request.rget(b"accept-encoding") is None:
        return None
    return ",".join(request.getlist("accept-encoding"))


def vary_by_coding(fields: Headers) -> None:
    """Add `accept-encoding` to Vary, beside what a handler or a middleware has set."""
    for name, value in _merged_vary(fields).items():
        fields.rset(name, value)


def _select(offer: Offer) -> Compressor | None:
    config, request = offer
    accepted = accept_encoding(request)
    return None if accepted is None else config.select(accepted)


def _may_be_coded(fields: Headers | None, content_type: bytes) -> bool:
    if is_compressed(content_type):
        return False
    if fields is None:
        return True
    if fields.rget(b"content-encoding") is not None or fields.rget(b"content-range") is not None:
        return False
    return not any(b"no-transform" in value.lower() for value in fields.rgetlist(b"cache-control"))


def _say(fields: Headers | None, compressor: Compressor | None) -> Said:
    lines, changes = _vary(fields)
    if compressor is None:
        return Said(lines, changes)
    return Said(b"content-encoding: %s\r\n%s" % (compressor.encoding, lines), changes | _weak_etag(fields))


def _vary(fields: Headers | None) -> Said:
    """Say that the response depends on Accept-Encoding: in the handler's own Vary, or in a line."""
    if fields is None or fields.rget(b"vary") is None:
        return Said(b"vary: accept-encoding\r\n", {})
    return Said(b"", _merged_vary(fields))


def _merged_vary(fields: Headers) -> dict[bytes, bytes]:
    names = b", ".join([*fields.rgetlist(b"vary"), b"accept-encoding"])
    if {b"*", b"accept-encoding"} & {name.strip() for name in names.lower().split(b",")[:-1]}:
        return {}
    return {b"vary": names}


def _weak_etag(fields: Headers | None) -> dict[bytes, bytes]:
    """The bytes are no longer those that the handler has named, so a strong ETag would name two things."""
    etag = None if fields is None else fields.rget(b"etag")
    return {} if etag is None or etag.startswith(b"W/") else {b"etag": b"W/" + etag}


def _has_strong_only(request: Headers, fields: Headers | None) -> bool:
    """Whether the client has the response under the handler's ETag, and not under the weak form of it."""
    etag = None if fields is None else fields.rget(b"etag")
    held = {tag for value in request.rgetlist(b"if-none-match") for tag in _ENTITY_TAG.findall(value)}
    return etag is not None and etag in held and b"W/" + etag not in held
