"""Field names and values that programs write often, and the tables made of them.

The tables are made once and never change, so any number of threads read them without a lock, and no client can
fill them. What they do not hold is worked out and checked when it is asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

__all__ = [
    "ACCEPT_RANGES_VALUES",
    "ACCESS_CONTROL_VALUES",
    "ALL_HEADERS",
    "ALL_VALUES",
    "CACHE_CONTROL_VALUES",
    "CONNECTION_VALUES",
    "CONTENT_DISPOSITION_VALUES",
    "CONTENT_TYPES",
    "CROSS_ORIGIN_VALUES",
    "ENCODINGS",
    "HEADER_LOOKUP",
    "HEADER_RE",
    "HEADER_VALUE_RE",
    "HTTP_METHODS",
    "REFERRER_POLICY_VALUES",
    "REQUEST_HEADERS",
    "RESPONSE_HEADERS",
    "TOKEN",
    "TRANSFER_ENCODING_VALUES",
    "VALUE_LOOKUP",
    "VARY_VALUES",
    "X_CONTENT_TYPE_OPTIONS_VALUES",
    "X_FRAME_OPTIONS_VALUES",
]

#: A field name is a token: RFC 9110 section 5.6.2.
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: A byte that no name may hold; the other side of `TOKEN`.
HEADER_RE: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
#: A byte that no value may hold: control characters but tab (RFC 9110 section 5.5). CR and LF would end the field.
HEADER_VALUE_RE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

REQUEST_HEADERS: Final[tuple[str, ...]] = tuple(
    """
    Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Length
    Content-Type Cookie DNT Expect Forwarded From Host If-Match If-Modified-Since If-None-Match If-Range
    If-Unmodified-Since Max-Forwards Origin Pragma Proxy-Authorization Range Referer Sec-CH-UA Sec-CH-UA-Mobile
    Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User TE Upgrade
    Upgrade-Insecure-Requests User-Agent Via X-Correlation-ID X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto
    X-Real-IP X-Request-ID X-Requested-With
    """.split()  # noqa: SIM905  (one name a line would be a page)
)
RESPONSE_HEADERS: Final[tuple[str, ...]] = tuple(
    """
    Accept-Ranges Access-Control-Allow-Credentials Access-Control-Allow-Headers Access-Control-Allow-Methods
    Access-Control-Allow-Origin Access-Control-Expose-Headers Access-Control-Max-Age Age Allow Alt-Svc Cache-Control
    Clear-Site-Data Connection Content-Disposition Content-Encoding Content-Language Content-Length Content-Location
    Content-Range Content-Security-Policy Content-Security-Policy-Report-Only Content-Type
    Cross-Origin-Embedder-Policy Cross-Origin-Opener-Policy Cross-Origin-Resource-Policy Date ETag Expires
    Last-Modified Link Location NEL Permissions-Policy Pragma Proxy-Authenticate Referrer-Policy Retry-After Server
    Server-Timing Set-Cookie Strict-Transport-Security Timing-Allow-Origin Trailer Transfer-Encoding Upgrade Vary Via
    WWW-Authenticate X-Content-Type-Options X-DNS-Prefetch-Control X-Frame-Options X-Powered-By X-XSS-Protection
    """.split()  # noqa: SIM905  (one name a line would be a page)
)
#: Both, each name once.
ALL_HEADERS: Final[tuple[str, ...]] = tuple(dict.fromkeys(REQUEST_HEADERS + RESPONSE_HEADERS))

_UTF_8: Final = "; charset=utf-8"
#: Media types. Those that are text are here without and with their charset.
CONTENT_TYPES: Final[tuple[str, ...]] = tuple(
    """
    application/gzip application/ld+json application/manifest+json application/octet-stream application/pdf
    application/vnd.api+json application/x-www-form-urlencoded application/zip audio/mpeg audio/ogg audio/wav
    audio/webm font/otf font/ttf font/woff font/woff2 image/avif image/gif image/jpeg image/png image/svg+xml
    image/webp image/x-icon multipart/form-data text/csv text/event-stream text/markdown text/xml video/mp4 video/ogg
    video/webm
    """.split()  # noqa: SIM905  (one name a line would be a page)
) + tuple(
    media_type + charset
    for media_type in (
        "application/javascript",
        "application/json",
        "application/xml",
        "text/css",
        "text/html",
        "text/javascript",
        "text/plain",
    )
    for charset in ("", _UTF_8)
)
#: Content codings, alone and as browsers list them.
ENCODINGS: Final[tuple[str, ...]] = (
    "br",
    "deflate",
    "gzip",
    "identity",
    "zstd",
    "gzip, br",
    "gzip, deflate",
    "gzip, deflate, br",
    "gzip, deflate, br, zstd",
    "zstd, br, gzip, deflate",
)
CACHE_CONTROL_VALUES: Final[tuple[str, ...]] = (
    "max-age=0",
    "max-age=3600",
    "max-age=31536000",
    "max-age=31536000, immutable",
    "no-cache",
    "no-cache, no-store",
    "no-cache, no-store, must-revalidate",
    "no-store",
    "private",
    "private, max-age=0",
    "private, no-cache",
    "public",
    "public, max-age=31536000",
    "public, max-age=31536000, immutable",
)
CONNECTION_VALUES: Final[tuple[str, ...]] = ("close", "keep-alive", "upgrade")
TRANSFER_ENCODING_VALUES: Final[tuple[str, ...]] = ("chunked", "compress", "deflate", "gzip", "identity")
VARY_VALUES: Final[tuple[str, ...]] = (
    "*",
    "Accept",
    "Accept-Encoding",
    "Accept-Encoding, Accept-Language",
    "Accept-Language",
    "Cookie",
    "Origin",
    "User-Agent",
)
ACCESS_CONTROL_VALUES: Final[tuple[str, ...]] = ("*", "false", "true")
X_CONTENT_TYPE_OPTIONS_VALUES: Final[tuple[str, ...]] = ("nosniff",)
X_FRAME_OPTIONS_VALUES: Final[tuple[str, ...]] = ("DENY", "SAMEORIGIN")
REFERRER_POLICY_VALUES: Final[tuple[str, ...]] = (
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
)
#: Of `crossorigin`, and of the policies for resources, embedders and openers.
CROSS_ORIGIN_VALUES: Final[tuple[str, ...]] = (
    "anonymous",
    "credentialless",
    "cross-origin",
    "require-corp",
    "same-origin",
    "same-site",
    "unsafe-none",
    "use-credentials",
)
ACCEPT_RANGES_VALUES: Final[tuple[str, ...]] = ("bytes", "none")
#: Methods, alone and as `Access-Control-Allow-Methods` lists them.
HTTP_METHODS: Final[tuple[str, ...]] = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "HEAD",
    "OPTIONS",
    "CONNECT",
    "TRACE",
    "GET, POST",
    "GET, POST, PUT, DELETE",
    "GET, POST, PUT, DELETE, PATCH",
    "GET, POST, PUT, DELETE, PATCH, OPTIONS",
)
CONTENT_DISPOSITION_VALUES: Final[tuple[str, ...]] = ("inline", "attachment")
#: All of the values above; some stand in several of the lists.
ALL_VALUES: Final[tuple[str, ...]] = (
    *CONTENT_TYPES,
    *ENCODINGS,
    *CACHE_CONTROL_VALUES,
    *CONNECTION_VALUES,
    *TRANSFER_ENCODING_VALUES,
    *VARY_VALUES,
    *ACCESS_CONTROL_VALUES,
    *X_CONTENT_TYPE_OPTIONS_VALUES,
    *X_FRAME_OPTIONS_VALUES,
    *REFERRER_POLICY_VALUES,
    *CROSS_ORIGIN_VALUES,
    *ACCEPT_RANGES_VALUES,
    *HTTP_METHODS,
    *CONTENT_DISPOSITION_VALUES,
)


class _Table(dict[str, bytes]):
    """A table that also answers for the bytes of its keys, which are str: Python looks up nothing faster."""

    __slots__ = ()

    if TYPE_CHECKING:  # bytes are never stored, `__missing__` answers them

        def __getitem__(self, key: str | bytes) -> bytes: ...


class _Names(_Table):
    """`HEADER_LOOKUP["Content-Type"] == b"content-type"`; an unknown name is checked each time."""

    __slots__ = ()

    def __missing__(self, name: str | bytes) -> bytes:
        if isinstance(name, bytes):
            return self[name.decode("latin-1")]
        try:
            token = TOKEN.fullmatch(name)
        except TypeError:
            raise TypeError(f"A header name is str or bytes, not {type(name).__name__}: {name!r}.") from None
        if token is None:
            raise ValueError(
                f"Invalid header name: {name!r}. A name is letters, digits and any of !#$%&'*+-.^_`|~, "
                "at least one of them (RFC 9110 section 5.6.2)."
            )
        return name.lower().encode("ascii")


class _Values(_Table):
    """`VALUE_LOOKUP["gzip"] == b"gzip"`; an unknown value is a KeyError."""

    __slots__ = ()

    def __missing__(self, value: str | bytes) -> bytes:
        if isinstance(value, bytes):
            return self[value.decode("latin-1")]
        raise KeyError(value)


#: The lower-case bytes of a header name, in any case, as str or bytes. ValueError for what cannot be a name.
HEADER_LOOKUP: Final = _Names(
    {spelling: name.lower().encode("ascii") for name in ALL_HEADERS for spelling in (name, name.lower())}
)
#: The bytes of a common value.
VALUE_LOOKUP: Final = _Values({value: value.encode("ascii") for value in ALL_VALUES})
