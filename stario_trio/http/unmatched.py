"""The answers of a router to what it has no handler for: they are handlers themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from stario_trio.http.types import Context
    from stario_trio.http.writer import Writer

__all__ = ["MethodNotAllowed", "drop_trailing_slash", "location", "not_found"]

#: What a path shows unescaped besides letters, digits and `-._~` (RFC 3986 section 3.3).
PATH_SAFE: Final = "/!$&'()*+,;=:@"
#: A query takes `?` as well, and comes escaped already.
QUERY_SAFE: Final = PATH_SAFE + "?%"


async def not_found(_c: Context, w: Writer) -> None:
    """404: no route for the path."""
    w.text("Not Found", 404)


class MethodNotAllowed:
    """405: the path is served, but not for the method.

    Attributes:
        allow: the methods it is served for, in the order of their registration.
    """

    __slots__ = ("allow",)

    def __init__(self, allow: str) -> None:
        self.allow: str = allow

    async def __call__(self, _c: Context, w: Writer) -> None:
        """Answer with the methods there are (RFC 9110 section 15.5.6)."""
        w.headers.set("allow", self.allow)
        w.text("Method Not Allowed", 405)


async def drop_trailing_slash(c: Context, w: Writer) -> None:
    """Redirect to the same path without slashes at its end.

    GET and HEAD get the cacheable 301; others get 308, which keeps method and body (RFC 9110 section 15.4.9).
    Slashes in front become one, as `//name` would lead to another host, and so would a raw backslash: the
    path is escaped again (see `location`).
    """
    w.redirect(location(c.req.path, c.req.query_bytes), 301 if c.req.method in ("GET", "HEAD") else 308)


def location(path: str, query: bytes) -> str:
    """A redirect target on this host, whatever the path: escaped, without outer slashes but the first one.

    Args:
        path: decoded.
        query: raw.
    """
    target = quote("/" + path.strip("/"), safe=PATH_SAFE)
    return target + "?" + quote(query, safe=QUERY_SAFE) if query else target
