"""Cookies on the wire (RFC 6265): the `Cookie` request header in, `Set-Cookie` values out.

`http.cookies` would do most of it, but what it lets through differs between Python releases, and an attribute
can smuggle in another one. So the bytes are the same as its bytes, and the checks are our own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from http.cookies import CookieError
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SameSite", "delete_cookie", "parse_cookies", "set_cookie"]

SameSite: TypeAlias = Literal["lax", "strict", "none"]

#: A name, or a value that needs no quotes: a token, and `:` which browsers and `http.cookies` take as well.
PLAIN: Final = re.compile(r"[!#$%&'*+\-.^_`|~:0-9A-Za-z]+")
#: What a quoted value shows as it is; all else is written as `\ooo`, so that no parser splits at it.
QUOTED_AS_IS: Final = re.compile(r"""[^!#$%&'*+\-.^_`|~:0-9A-Za-z ()/<=>?@\[\]{}]""")
#: What `quote` leaves alone in a path: all that a browser leaves alone in a URL's, and `;`, which is refused.
PATH: Final = "!$%&'()*+,-./:;=@[\\]^_|~"
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
ESCAPED: Final = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")

#: What has a `str()` that nobody means to send.
TEXTLESS: Final[tuple[type, ...]] = (type(None), bytes, bytearray, memoryview, list, tuple, dict, set, frozenset)

#: RFC 2109 parsers, Python's among them, read a cookie of such a name as an attribute of the one before.
RESERVED: Final = frozenset(
    (
        "comment",
        "domain",
        "expires",
        "httponly",
        "max-age",
        "partitioned",
        "path",
        "samesite",
        "secure",
        "version",
    )
)


def parse_cookies(values: Iterable[bytes | str]) -> dict[str, str]:
    """Read all `Cookie` headers of a request.

    A later cookie of the same name wins. A part without `=` is a value with the name `""`, as browsers send
    it. Quoted values lose their quotes and escapes; nothing is percent-decoded.

    Args:
        values: the value of each header; bytes are latin-1.

    Returns:
        Values by name. Never fails: a client can send anything.
    """
    cookies: dict[str, str] = {}
    for value in values:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        for part in text.split(";"):
            name, equals, content = part.partition("=")
            if not equals:
                name, content = "", name
            name, content = name.strip(), content.strip()
            if name or content:
                cookies[name] = _unquote(content)
    return cookies


def set_cookie(
    name: str,
    value: str | float,
    *,
    max_age: int | str | None = None,
    expires: datetime | str | int | None = None,
    path: str = "/",
    domain: str | None = None,
    secure: bool = False,
    httponly: bool = False,
    samesite: SameSite | None = "lax",
) -> bytes:
    """Build the value of one `Set-Cookie` header.

    Args:
        name: a token.
        value: latin-1 text without control characters; quoted and escaped when needed. Of what is no text, its `str()`.
        max_age: whole seconds from now; 0 or less deletes the cookie.
        expires: the end as an aware datetime, as Unix time in seconds, or as a ready HTTP date.
        path: where the cookie is sent; `""` means the directory of the request path. Browsers compare it with the path
            of the URL as they send it, so what cannot stand there is percent-encoded.
        domain: also send it to subdomains of this one.
        secure: only over HTTPS.
        httponly: hide it from scripts.
        samesite: which requests from other sites carry it; None leaves the choice to the browser.

    Raises:
        CookieError: the name is not a token or is that of an attribute; a control character anywhere.
        TypeError: no text where it must be, or a value that has none (None, bytes, a container).
        ValueError: a value outside latin-1 (UnicodeEncodeError), a naive or impossible time, `;` in an attribute or
            non-ASCII in the domain, an unknown `samesite`, or `"none"` without `secure`.
    """
    for what, text in (("name", name), ("path", path or ""), ("domain", domain or "")):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may be untyped)
            raise TypeError(f"A cookie's {what} is str, not {type(text).__name__}.")
    if not isinstance(value, str):
        value = _text_of(value)
    if PLAIN.fullmatch(name) is None:
        raise CookieError(f"Illegal cookie name: {name!r}. A name is letters, digits and any of !#$%&'*+-.^_`|~:")
    if name.lower() in RESERVED:
        raise CookieError(f"Illegal cookie name: {name!r} is the name of a cookie attribute. Choose another one.")
    _refuse_control("value", value)
    # Attributes in the order of http.cookies: sorted by name, whatever their case.
    parts = [f"{name}={_quote(value)}"]
    if domain:
        parts.append(f"Domain={_attribute('domain', domain)}")
    if expires is not None:
        parts.append(f"expires={_date(expires)}")
    if httponly:
        parts.append("HttpOnly")
    if max_age is not None:
        parts.append(f"Max-Age={_seconds(max_age)}")
    if path:
        _refuse_control("path", path)  # which would be percent-encoded otherwise
        parts.append(f"Path={_attribute('path', path if path == '/' else quote(path, safe=PATH))}")
    if samesite is not None:
        parts.append(f"SameSite={_same_site(samesite, secure=secure)}")
    if secure:
        parts.append("Secure")
    return "; ".join(parts).encode("ascii")


def delete_cookie(name: str, *, path: str = "/", domain: str | None = None) -> bytes:
    """Build the `Set-Cookie` value that makes a browser forget a cookie.

    It must name the path and the domain that the cookie was set with: browsers keep a cookie for each.
    """
    return set_cookie(name, "", max_age=0, expires=0, path=path, domain=domain)


def _text_of(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, TEXTLESS):
        raise TypeError(
            f"A cookie's value is text or a number, not {kind}. Decode bytes, make text of a container "
            "(json.dumps, then urllib.parse.quote), and use delete_cookie() for none."
        )
    return str(value)


def _seconds(max_age: int | str) -> int:
    try:
        seconds = int(max_age)
        if isinstance(max_age, str) or seconds == max_age:  # a fraction would be lost
            return seconds
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"Cookie max_age={max_age!r} is no whole number of seconds. Of a timedelta, give int(delta.total_seconds())."
    )


def _quote(value: str) -> str:
    if PLAIN.fullmatch(value):
        return value
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as exc:
        exc.add_note("A cookie value holds latin-1 only; percent-encode the rest (urllib.parse.quote).")
        raise
    return '"' + QUOTED_AS_IS.sub(_escape, value) + '"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return f"\\{char}" if char in '"\\' else f"\\{ord(char):03o}"


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return ESCAPED.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value[1:-1])


def _refuse_control(what: str, text: str) -> None:
    if found := CONTROL.search(text):
        raise CookieError(f"Control character {found[0]!r} at index {found.start()} of the cookie's {what}. Remove it.")


def _attribute(what: str, text: str) -> str:
    """An attribute has no quoting: `;` would start another one, and browsers compare it with ASCII."""
    _refuse_control(what, text)
    if ";" in text or not text.isascii():
        remedy = "write an IDN in its xn-- form" if what == "domain" else "percent-encode it"
        raise ValueError(f"Cookie {what} {text!r} holds ';' or a character outside ASCII: {remedy}.")
    return text


def _date(when: datetime | str | int) -> str:
    """An HTTP date (RFC 9110 section 5.6.7)."""
    if isinstance(when, str):
        return _attribute("expires", when)
    if not isinstance(when, datetime):
        try:
            when = datetime.fromtimestamp(when, UTC)
        except (OverflowError, OSError, TypeError, ValueError) as exc:
            raise ValueError(f"Cookie expires={when!r} is no Unix time in seconds within the years 1 to 9999.") from exc
    if when.utcoffset() is None:
        raise ValueError(f"Cookie expires={when!r} has no time zone. Use an aware one, such as datetime.now(UTC) + ...")
    return format_datetime(when.astimezone(UTC), usegmt=True)


def _same_site(samesite: SameSite, *, secure: bool) -> str:
    known = str(samesite).lower()
    if known not in ("lax", "strict", "none"):
        raise ValueError(f"Unknown cookie samesite {samesite!r}. Use 'lax', 'strict', 'none', or None to leave it out.")
    if known == "none" and not secure:
        raise ValueError("A cookie with samesite='none' needs secure=True: browsers drop it otherwise.")
    return samesite
