"""From method and path to handler: exact paths first, then the longest catch-all prefix."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from stario_trio.exceptions import StarioError
from stario_trio.http.headers import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.http.types import Context, Handler, Middleware
    from stario_trio.http.writer import Writer

__all__ = ["MethodNotAllowed", "Router", "drop_trailing_slash", "not_found"]

#: What a path shows unescaped besides letters, digits and `-._~` (RFC 3986 section 3.3).
PATH_SAFE: Final = "/!$&'()*+,;=:@"
#: A query takes `?` as well, and comes escaped already.
QUERY_SAFE: Final = PATH_SAFE + "?%"


class Router:
    """Routes by method and path.

    Paths are compared with the percent-decoded request path, case-sensitive, so register `"/sp ace"`. A path
    that ends in `/*` is a catch-all: it serves its prefix and everything below, and the handler finds the
    rest in `c.req.tail`. HEAD and OPTIONS are not derived from other methods. Register before serving:
    several threads read the tables unlocked.
    """

    __slots__ = ("_catchall", "_exact", "_middleware")

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._catchall: list[tuple[str, dict[str, Handler]]] = []  # longest prefix first
        self._middleware: tuple[Middleware, ...] = ()

    @property
    def empty(self) -> bool:
        """True while no route is registered."""
        return not self._exact and not self._catchall

    def use(self, *middleware: Middleware) -> None:
        """Wrap every route registered from now on; the first one added is the outermost.

        It runs around handlers only: redirects, 404 and 405 of the router itself do not pass it.

        Raises:
            StarioError: there are routes already, which it would not wrap; or it is no plain function.
        """
        if not self.empty:
            raise StarioError(
                "Middleware must be registered before routes",
                context={"routes_registered": len(self._exact) + len(self._catchall)},
                help_text="Call use() first, or give it to single routes: get(path, handler, middleware).",
            )
        for factory in middleware:
            _check_middleware(factory)
        self._middleware += middleware

    def handle(self, method: str, path: str, handler: Handler, *middleware: Middleware) -> None:
        """Register a handler.

        Args:
            method: in upper case. Methods are case-sensitive (RFC 9110 section 9.1), so nobody would ever ask
                for `"get"`, and it is refused.
            path: outer slashes do not matter: `"a"`, `"/a"` and `"/a/"` are the same.
            handler: `async def handler(c, w)`.
            middleware: for this route, inside of that from `use`; the first is the outermost.

        Raises:
            StarioError: the route exists, or an argument cannot work.
        """
        if TOKEN.fullmatch(method) is None or method != method.upper():
            raise StarioError(
                "Method is not an upper-case token",
                context={"method": method, "path": path},
                help_text=f"Write {method.upper()!r}, or use get(), post() and the like.",
            )
        _check_handler(handler, method, path)
        path = _normalize_path(path)
        wrapped = _wrap(handler, (*self._middleware, *middleware))
        if path.endswith("/*"):
            self._add_catchall(method, _normalize_path(path[:-2]), wrapped)
        else:
            self._add_exact(method, path, wrapped)

    def get(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for GET."""
        self.handle("GET", path, handler, *middleware)

    def post(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for POST."""
        self.handle("POST", path, handler, *middleware)

    def put(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for PUT."""
        self.handle("PUT", path, handler, *middleware)

    def delete(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for DELETE."""
        self.handle("DELETE", path, handler, *middleware)

    def patch(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for PATCH."""
        self.handle("PATCH", path, handler, *middleware)

    def head(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for HEAD."""
        self.handle("HEAD", path, handler, *middleware)

    def options(self, path: str, handler: Handler, *middleware: Middleware) -> None:
        """`handle` for OPTIONS."""
        self.handle("OPTIONS", path, handler, *middleware)

    def mount(self, prefix: str, router: Router) -> None:
        """Copy the routes of another router below a prefix, wrapped in the middleware of this one.

        Routes that the other router gets later are not seen. Handlers find the whole path in `c.req.path`.

        Raises:
            StarioError: one of the routes exists here.
        """
        prefix = _normalize_path(prefix)
        for path, methods in list(router._exact.items()):
            for method, handler in list(methods.items()):
                self._add_exact(method, _join(prefix, path), _wrap(handler, self._middleware))
        for path, methods in router._catchall:
            for method, handler in list(methods.items()):
                self._add_catchall(method, _join(prefix, path), _wrap(handler, self._middleware))

    def match(self, method: str, path: str) -> tuple[Handler, str]:
        """Find what answers a request. There is always something: refusals are handlers, too.

        The table that serves the path decides alone: an exact path without the method is a 405, although a
        catch-all may have it, and so is the longest prefix without it.

        Returns:
            The handler and the tail. The handler may be `not_found`, a `MethodNotAllowed` or
            `drop_trailing_slash`; the tail is the path below a catch-all prefix, without slashes in front,
            otherwise `""`.
        """
        try:
            methods = self._exact[path]
        except KeyError:
            pass
        else:
            return _choose(methods, method), ""
        # Looking for an exact path first takes nothing away: but for "/", none ends in a slash.
        if path.endswith("/") and path != "/":
            return drop_trailing_slash, ""
        for prefix, methods in self._catchall:
            tail = _below(prefix, path)
            if tail is not None:
                return _choose(methods, method), tail
        return not_found, ""

    async def dispatch(self, c: Context, w: Writer) -> None:
        """Answer one request."""
        handler, c.req.tail = self.match(c.req.method, c.req.path)
        await handler(c, w)

    def _add_exact(self, method: str, path: str, handler: Handler) -> None:
        methods = self._exact.setdefault(path, {})
        if method in methods:
            raise _already_registered(method, path, {"method": method, "path": path})
        methods[method] = handler

    def _add_catchall(self, method: str, prefix: str, handler: Handler) -> None:
        for known, methods in self._catchall:
            if known == prefix:
                if method in methods:
                    raise _already_registered(method, _join(prefix, "/*"), {"method": method, "prefix": prefix})
                methods[method] = handler
                return
        # A new list, as others may be reading: a list is empty for them while it is being sorted.
        entries = [*self._catchall, (prefix, {method: handler})]
        self._catchall = sorted(entries, key=lambda entry: len(entry[0]), reverse=True)


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
    path is escaped again.
    """
    location = quote("/" + c.req.path.strip("/"), safe=PATH_SAFE)
    if c.req.query_bytes:
        location += "?" + quote(c.req.query_bytes, safe=QUERY_SAFE)
    w.redirect(location, 301 if c.req.method in ("GET", "HEAD") else 308)


def _choose(methods: dict[str, Handler], method: str) -> Handler:
    try:
        return methods[method]
    except KeyError:
        return MethodNotAllowed(", ".join(methods))


def _below(prefix: str, path: str) -> str | None:
    """The rest of a path below a prefix, None if it is elsewhere: `/a` holds `/a/x`, not `/about`."""
    if not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    if rest and rest[0] != "/" and prefix != "/":
        return None
    return rest.lstrip("/")


def _normalize_path(path: str) -> str:
    return "/" + path.strip("/")


def _join(prefix: str, path: str) -> str:
    """Put one normalised path below another."""
    if path == "/":
        return prefix
    return path if prefix == "/" else prefix + path


def _wrap(handler: Handler, middleware: tuple[Middleware, ...]) -> Handler:
    for factory in reversed(middleware):
        _check_middleware(factory)
        handler = factory(handler)
        if not callable(handler):
            raise StarioError(
                "Middleware did not return a handler",
                context={"middleware": factory, "returned": handler},
                help_text="A middleware takes a handler and returns one. Is its `return` missing?",
            )
    return handler


def _check_middleware(factory: object) -> None:
    if not callable(factory) or inspect.iscoroutinefunction(factory):
        raise StarioError(
            "Middleware is not a plain function",
            context={"middleware": factory},
            help_text="It is called once, at registration, with a handler, and returns the one to use.",
            example=(
                "def timed(handler):\n"
                "    async def inner(c, w):\n"
                '        with c.step("timed"):\n'
                "            await handler(c, w)\n"
                "    return inner"
            ),
        )


def _check_handler(handler: object, method: str, path: str) -> None:
    """Refuse what cannot be awaited: at the start, not at the first request."""
    if inspect.isclass(handler):
        help_text = "It is a class. Pass an instance that has `async def __call__(self, c, w)`."
    elif not callable(handler):
        help_text = "It is not callable. The arguments are (path, handler, *middleware)."
    elif _is_plain_function(handler):
        help_text = "Write `async def`. (A function that only returns an awaitable: wrap it in a lambda.)"
    else:
        return
    raise StarioError(
        "Handler is not an async function",
        context={"method": method, "path": path, "handler": handler},
        help_text=help_text,
        example="async def hello(c, w):\n    w.text('hello')",
    )


def _is_plain_function(handler: Callable[..., object]) -> bool:
    """Known to be the mistake. A lambda, a built-in or a compiled function may well return an awaitable."""
    call = handler
    if inspect.iscoroutinefunction(call):
        return False
    if isinstance(call, functools.partial):  # one of a partial is flat
        call = call.func
    call = inspect.unwrap(call)
    if not isinstance(call, FunctionType | MethodType):
        call = type(call).__call__
    return (
        isinstance(call, FunctionType | MethodType)
        and not inspect.iscoroutinefunction(call)
        and call.__name__ != "<lambda>"
    )


def _already_registered(method: str, path: str, context: dict[str, object]) -> StarioError:
    return StarioError(
        f"Route already registered: {method} {path}",
        context=context,
        help_text="Each method of a path has one handler. Remove one of the two, or change its path.",
    )
