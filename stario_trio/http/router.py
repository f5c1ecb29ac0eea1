"""From method and path to handler: exact paths first, then the longest catch-all prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stario_trio.exceptions import StarioError
from stario_trio.http.misfits import check_handler, check_method, check_middleware
from stario_trio.http.staticassets import StaticAssets
from stario_trio.http.unmatched import MethodNotAllowed, drop_trailing_slash, not_found

if TYPE_CHECKING:
    from pathlib import Path

    from stario_trio.http.types import Context, Handler, Middleware
    from stario_trio.http.writer import Writer

__all__ = ["Router", "check_router"]


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
            check_middleware(factory)
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
        check_method(method, path)
        check_handler(handler, method, path)
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
            StarioError: one of the routes exists here, or this is no prefix and router.
        """
        check_router("mount", prefix, router)
        prefix = _normalize_path(prefix)
        for path, methods in list(router._exact.items()):
            for method, handler in list(methods.items()):
                self._add_exact(method, _join(prefix, path), _wrap(handler, self._middleware))
        for path, methods in router._catchall:
            for method, handler in list(methods.items()):
                self._add_catchall(method, _join(prefix, path), _wrap(handler, self._middleware))

    def assets(
        self,
        path: str,
        directory: str | Path,
        *middleware: Middleware,
        collection: str | None = None,
        cache_control: str = "public, max-age=31536000, immutable",
    ) -> StaticAssets:
        """Serve the files of a directory below a path, for GET and HEAD.

        Args:
            path: `"/static"` serves `directory/js/app.js` as `/static/js/app.<hash>.js`.
            directory: read once, now.
            middleware: for these routes, as in `handle`.
            collection: the name for `asset()`; without one, the first segment of the path, or `"static"`.
            cache_control: sent with the files; their names change with their content.

        Returns:
            The handler. `StaticAssets` itself has one more setting, for what is kept in memory.

        Raises:
            StarioError: the directory is missing or unreadable, or the routes exist.
        """
        path = path.removesuffix("/*")  # which is no part of the prefix, and easily written
        if collection is None:
            collection = path.strip("/").split("/")[0] or "static"
        static = StaticAssets(directory, collection, cache_control)
        self.get(f"{path}/*", static, *middleware)
        self.head(f"{path}/*", static, *middleware)
        return static

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


def check_router(method: str, text: object, router: object) -> None:
    """Refuse the wrong arguments, or the right ones in the wrong order, of `mount` and `host`.

    Raises:
        StarioError: not text and then a router.
    """
    if not isinstance(text, str) or not isinstance(router, Router):
        name, example = ("prefix", "/api") if method == "mount" else ("pattern", "example.com")
        raise StarioError(
            f"{method}() takes a {name} and a router",
            context={name: text, "router": router},
            help_text="To serve one handler, use get(), post() and the like.",
            example=f'api = Router()\napi.get("/", handler)\napp.{method}("{example}", api)',
        )


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
        check_middleware(factory)
        handler = factory(handler)
        if not callable(handler):
            raise StarioError(
                "Middleware did not return a handler",
                context={"middleware": factory, "returned": handler},
                help_text="A middleware takes a handler and returns one. Is its `return` missing?",
            )
    return handler


def _already_registered(method: str, path: str, context: dict[str, object]) -> StarioError:
    return StarioError(
        f"Route already registered: {method} {path}",
        context=context,
        help_text="Each method of a path has one handler. Remove one of the two, or change its path.",
    )
