"""Whether one response is compressed, and what its head says then (RFC 9110 sections 8.4, 8.8.3 and 12.5.5).

A response is left alone if the handler has said how it is coded, if its bytes are compressed already, if it is only a
part, or if nobody may transform it. Every other one that is long enough depends on what the client accepts, and says so
in Vary, also where this client accepts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from stario_trio.http.compression import CompressionConfig, Compressor, is_compressed

if TYPE_CHECKING:
    from stario_trio.http.headers import Headers

__all__ = ["Offer", "encode", "encode_events", "encode_not_modified", "vary_by_coding"]

Offer: TypeAlias = "tuple[CompressionConfig, Headers]"
"""What the app compresses with, and the fields of the request."""


def encode(offer: Offer, fields: Headers | None, body: bytes, content_type: bytes, status: int) -> tuple[bytes, bytes]:
    """Compress a whole body, if that is right and makes it smaller.

    Args:
        offer: between the app and the client.
        fields: what the handler has set; Vary is merged and an ETag made weak in there.
        body: of at least `min_size` bytes.
        content_type: of the body.
        status: of the response.

    Returns:
        The body to send, and the field lines to send with it.
    """
    if status in (204, 206, 304) or not _may_be_coded(fields, content_type):
        return body, b""
    compressor = _select(offer)
    if compressor is not None:
        compressed = compressor.frame(body)
        if len(compressed) < len(body):
            return compressed, _lines(fields, compressor)
    return body, _lines(fields, None)


def encode_events(offer: Offer, fields: Headers | None) -> tuple[Compressor | None, bytes]:
    """Choose how a stream of events is compressed; `fields` as in `encode`.

    Returns:
        The compressor, if there is one, and the field lines to send.
    """
    if not _may_be_coded(fields, b"text/event-stream"):
        return None, b""
    compressor = _select(offer)
    return compressor, _lines(fields, compressor)


def encode_not_modified(offer: Offer, fields: Headers | None) -> bytes:
    """The field lines of a 304: those of the 200 that it stands for (RFC 9110 section 15.4.5), as far as can be known.

    A cache takes a strong ETag here for that of another response than the weak one it has stored, and drops the news.
    """
    content_type = None if fields is None else fields.rget(b"content-type")
    if not _may_be_coded(fields, content_type or b""):
        return b""
    if _select(offer) is not None:
        _weaken_etag(fields)
    return _vary(fields)


def vary_by_coding(fields: Headers) -> None:
    """Add `accept-encoding` to Vary, beside what a handler or a middleware has set."""
    names = b", ".join([*fields.rgetlist(b"vary"), b"accept-encoding"])
    if not {b"*", b"accept-encoding"} & {name.strip() for name in names.lower().split(b",")[:-1]}:
        fields.rset(b"vary", names)


def _select(offer: Offer) -> Compressor | None:
    config, request = offer
    if request.rget(b"accept-encoding") is None:
        return None
    return config.select(b",".join(request.rgetlist(b"accept-encoding")).decode("latin-1"))


def _may_be_coded(fields: Headers | None, content_type: bytes) -> bool:
    if is_compressed(content_type):
        return False
    if fields is None:
        return True
    if fields.rget(b"content-encoding") is not None or fields.rget(b"content-range") is not None:
        return False
    return not any(b"no-transform" in value.lower() for value in fields.rgetlist(b"cache-control"))


def _lines(fields: Headers | None, compressor: Compressor | None) -> bytes:
    if compressor is None:
        return _vary(fields)
    _weaken_etag(fields)
    return b"content-encoding: %s\r\n%s" % (compressor.encoding, _vary(fields))


def _vary(fields: Headers | None) -> bytes:
    """Say that the response depends on Accept-Encoding: in the handler's own Vary, or in a line."""
    if fields is None or fields.rget(b"vary") is None:
        return b"vary: accept-encoding\r\n"
    vary_by_coding(fields)
    return b""


def _weaken_etag(fields: Headers | None) -> None:
    """The bytes are no longer those that the handler has named, so a strong ETag would name two things."""
    etag = None if fields is None else fields.rget(b"etag")
    if fields is not None and etag is not None and not etag.startswith(b"W/"):
        fields.rset(b"etag", b"W/" + etag)
