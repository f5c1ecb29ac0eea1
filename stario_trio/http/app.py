"""The application: routes, hosts, error handlers, and the door to the server."""

from __future__ import annotations

import inspect
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from stario_trio.exceptions import ClientDisconnected, HttpException, StarioError, sole_leaf
from stario_trio.http import types
from stario_trio.http.compression import CompressionConfig
from stario_trio.http.misfits import check_error_handler, check_tracer
from stario_trio.http.router import Router, check_router
from stario_trio.http.types import Context
from stario_trio.server.config import DEFAULT_HOST, DEFAULT_PORT, Limits
from stario_trio.server.server import Server
from stario_trio.telemetry.failures import only_cancelled, text, unfold
from stario_trio.telemetry.noop import start_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from stario_trio.http.headers import Headers
    from stario_trio.http.request import Request
    from stario_trio.http.types import ErrorHandler
    from stario_trio.http.writer import Writer
    from stario_trio.server.sockets import Address
    from stario_trio.telemetry import Span

__all__ = ["Server", "Stario"]

E = TypeVar("E", bound=Exception)

# What ends more than one request. Whatever else comes out of a handler is its own error, also if it is no `Exception`:
# an asyncio.CancelledError in a Trio handler, say.
_NOT_THE_HANDLERS = (trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit)

_TWO_WAYS_OUT = (
    "Handlers run on Trio, where asyncio has no loop. Use Trio's own functions (trio.sleep, trio.to_thread.run_sync), "
    "or, in a server that was started under asyncio, `await to_asyncio(fn, *args)`."
)

_DEFAULT_COMPRESSION = CompressionConfig()

#: What `Request.host` can be: nothing, a name or an IPv4 address, or an IPv6 address in brackets.
_HOST_PATTERN = re.compile(r"(?:\*\.)?[^\s*/:@\[\]]+|\[[^\s\[\]]+\]|")

#: Fields that describe the response the handler meant to send, not the error that is sent instead. Others whose names
#: begin in the same way, such as Content-Security-Policy, hold for both.
_OF_THE_CONTENT = (
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-range",
    b"content-disposition",
    b"content-md5",
    b"content-digest",
    b"repr-digest",
    b"transfer-encoding",
    b"etag",
    b"last-modified",
)

#: What Cache-Control may forbid (RFC 9111 section 5.2.2). Without it, caches may keep a 301, a 404 or a 410 (section
#: 4.2.2).
_FORBIDS_STORING = (b"no-store", b"no-cache", b"private")


class Stario(Router):
    """An application: a router with hosts, error handlers and a tracer.

    Args:
        tracer: called with the name of each span, such as a `RichTracer` or a `JsonTracer`.
        compression: what responses are compressed with, if the client accepts it; None for nothing.

    Raises:
        StarioError: one of them is something else.
    """

    def __init__(
        self, tracer: Callable[[str], Span], compression: CompressionConfig | None = _DEFAULT_COMPRESSION
    ) -> None:
        super().__init__()
        check_tracer(tracer)
        self.tracer = tracer
        if not isinstance(compression, CompressionConfig | None):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may be untyped)
            raise StarioError(
                "Invalid compression",
                context={"compression": compression},
                help_text="Give a CompressionConfig(...), or None to compress nothing.",
            )
        # Asking for the codings loads their libraries, now and not in the first request.
        self._compression = compression if compression and compression.codings() else None
        self._hosts: dict[str, Router] = {}
        self._wildcard_hosts: dict[str, Router] = {}
        self._error_handlers: dict[type[Exception], ErrorHandler[Any]] = {HttpException: _respond}

    def on_error(self, exc_type: type[E], handler: ErrorHandler[E]) -> None:
        """Answer requests whose handler raised `exc_type` before the response started.

        The handler of the most derived type wins; `Exception` catches all the rest. A later registration replaces
        an earlier one for the same type. Of the fields that the handler had set, those of its content, its validators
        and its leave to be cached are gone by then.

        Raises:
            StarioError: no class of exceptions, or no function.
        """
        check_error_handler(exc_type, handler)
        self._error_handlers[exc_type] = handler

    def host(self, pattern: str, router: Router) -> None:
        """Let `router` answer for a host: an exact name, or `*.example.com` for every name below it.

        An exact name wins, then the longest wildcard; the app's own routes answer for every other host.

        Raises:
            StarioError: the pattern is a bare `*`, is registered already, or can never match; or this is no router.
        """
        check_router("host", pattern, router)
        pattern = pattern.lower()
        if pattern != "*" and _HOST_PATTERN.fullmatch(pattern) is None:
            raise StarioError(
                "Host pattern can never match",
                context={"pattern": pattern},
                help_text="A host is a name or an address without scheme, port or path, with IPv6 in brackets; the "
                "only wildcard is '*.' in front of a name.",
                example='app.host("example.com", router)\napp.host("*.example.com", router)',
            )
        if pattern.startswith("*."):
            suffix = pattern[1:]
            if suffix in self._wildcard_hosts:
                raise StarioError(f"Wildcard host already registered: {pattern}")
            self._wildcard_hosts[suffix] = router
            longest_first = sorted(self._wildcard_hosts.items(), key=lambda item: -len(item[0]))
            self._wildcard_hosts = dict(longest_first)
        elif pattern == "*":
            raise StarioError(
                "Invalid host pattern: '*'",
                help_text="The app's own routes answer for every other host. A wildcard looks like '*.example.com'.",
            )
        elif pattern in self._hosts:
            raise StarioError(f"Host already registered: {pattern}")
        else:
            self._hosts[pattern] = router

    def _host_router(self, req: Request) -> Router | None:
        host = req.host
        if host in self._hosts:
            return self._hosts[host]
        for suffix, router in self._wildcard_hosts.items():
            if host.endswith(suffix) and len(host) > len(suffix):
                req.subhost = host[: -len(suffix)]
                return router
        return None

    async def dispatch(self, c: Context, w: Writer) -> None:
        """Run the route that matches the request's host, method and path."""
        if self._hosts or self._wildcard_hosts:
            router = self._host_router(c.req)
            if router is not None:
                await router.dispatch(c, w)
                return
        await super().dispatch(c, w)

    async def handle_request(
        self, req: Request, w: Writer, *, on_failure: Callable[[BaseException], object] | None = None
    ) -> None:
        """Answer one request: run its handler, turn what it raises into a response, end the response and its span.

        Args:
            req: the request.
            w: its response.
            on_failure: told what the handler has raised and no error handler took care of; for tests.

        Raises:
            trio.Cancelled: the handler's time is over.
            BaseException: what is no `Exception` (such as `SystemExit`) is not for a response to tell.
        """
        span = start_span(self.tracer, req.method, {"request.method": req.method, "request.path": req.path})
        c = Context(self, req, span)
        if self._compression is not None:
            w.offer = (self._compression, req.headers)
        try:
            try:
                try:
                    await self.dispatch(c, w)
                finally:
                    if w.sources is not None:
                        await w.sources.aclose()  # noqa: ASYNC102  (each knows itself what its close may wait for)
                w.end()
            except BaseException as exc:  # noqa: ASYNC103  (told in the response and in the span)
                if _ends_more(exc):
                    raise
                error = await self._answer_failure(c, w, exc)  # noqa: ASYNC102  (not cancelled, as was just made sure)
                if error is not None and on_failure is not None:
                    on_failure(error)
        except BaseException as exc:  # noqa: ASYNC103, BLE001  (what is not the handler's goes on)
            w.abort()
            if _ends_more(exc):
                _raise_all_but_errors(exc, span)
            # Even telling of the failure has failed. That is the end of this request, and of nothing else.
        finally:
            _end(span, w.status_code)

    async def _answer_failure(self, c: Context, w: Writer, exc: BaseException) -> BaseException | None:
        """Decide what a handler's exception means for its response and its span.

        The one place that does: the peer gets an error handler's response, a 500, or a cut connection; the span is an
        error unless an error handler took care.

        Returns:
            The error, unless an error handler took care, or the peer is to blame.
        """
        error = sole_leaf(exc)
        if _calls_asyncio(error):
            with suppress(TypeError):  # of an exception that keeps something else where the notes go
                error.add_note(_TWO_WAYS_OUT)
        if isinstance(error, ClientDisconnected):  # nobody is left to answer, and nobody is to blame
            c.span(error)
            w.abort()
            return None
        try:
            if not w.started:
                _forget_the_content(w.headers, error)
                if await self._run_error_handler(c, w, error):
                    w.end()
                    return None
        except BaseException as second:  # noqa: ASYNC103  (the error handler failed: tell of both)
            if _ends_more(second):
                raise
            c.span(second)
        c.span.fail(error)
        if w.started:
            w.abort()  # the peer must not take what it has for the whole
        else:
            w.headers.clear()  # none of them was meant for this response
            w.offer = None  # compressing it may be what has failed
            w.text("Internal Server Error", 500)
        return error

    async def _run_error_handler(self, c: Context, w: Writer, error: BaseException) -> bool:
        """Run the handler of the most derived registered type. Returns whether there was one."""
        for exc_type in type(error).__mro__:
            if exc_type in self._error_handlers:
                result = self._error_handlers[exc_type](c, w, error)
                if inspect.isawaitable(result):
                    await result
                return True
        return False

    async def serve(  # noqa: ASYNC128  (`Server.run` calls started)
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        graceful_timeout: float = 5.0,
        workers: int = 1,
        unix_socket: str | None = None,
        backlog: int = 2048,
        *,
        cleanup_timeout: float = 5.0,
        limits: Limits | None = None,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until SIGINT, SIGTERM or a cancel: `trio.run(app.serve)`, or `await nursery.start(app.serve)`.

        Args:
            host: TCP address or name to bind; `""` means all interfaces.
            port: TCP port; 0 takes a free one.
            graceful_timeout: seconds a stop waits for connections and handlers; `math.inf` means no limit.
            workers: worker threads.
            unix_socket: path of a Unix socket, instead of host and port.
            backlog: connections the kernel may hold until they are accepted.
            cleanup_timeout: seconds a cancelled handler has for its cleanup before it is reported.
            limits: what one peer may ask of the server.
            task_status: gets the bound addresses, `(host, port)` or the path, when the server listens.

        Raises:
            StarioError: a bad setting, told before anything is bound.
            OSError: the address cannot be bound.
        """
        server = Server(
            self,
            host=host,
            port=port,
            workers=workers,
            graceful_timeout=graceful_timeout,
            backlog=backlog,
            unix_socket=unix_socket,
            cleanup_timeout=cleanup_timeout,
            limits=limits or Limits(),
        )
        await server.run(task_status=task_status)

    @asynccontextmanager
    async def serving(
        self, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, **settings: Any
    ) -> AsyncGenerator[Server]:
        """Serve around a block: `async with app.serving(port=0) as server: server.addresses`.

        Takes the settings of `serve`. Leaving the block asks for a graceful stop and waits for it; an exception or a
        cancel that leaves the block cancels the server at once (SD-17). A server that stops first, after a signal or
        `server.stop()`, ends the block as a cancel would, and the code after the block runs.

        Ends when: the block is done and the server has stopped.
        Cancelled by: an exception in the block, or the end of the server.
        """
        server = Server(self, host=host, port=port, **settings)
        async with server.running():
            yield server


def _ends_more(exc: BaseException) -> bool:
    return any(isinstance(each, _NOT_THE_HANDLERS) for each in unfold(exc))


def _end(span: Span, status: int | None) -> None:
    try:
        span["response.status_code"] = status
        span.end()
    except Exception:  # noqa: BLE001, S110  # SD-22: nor does a span of the program's own making
        pass


def _calls_asyncio(error: BaseException) -> bool:
    """Whether this is how asyncio, or Trio, says that asyncio was used where Trio runs."""
    words = text(error)
    if isinstance(error, RuntimeError):
        return words == "no running event loop" or words.startswith("There is no current event loop")
    if isinstance(error, AttributeError):  # before Python 3.14, asyncio.Event and the like look for a loop only so
        return words == "'NoneType' object has no attribute 'create_future'"
    return isinstance(error, TypeError) and "framework like asyncio" in words


def _respond(_c: Context, w: Writer, exc: HttpException) -> None:
    """The error handler every app starts with: an `HttpException` says itself what to answer."""
    exc.respond(w)


def _forget_the_content(headers: Headers, error: BaseException) -> None:
    """Keep of the handler's fields what holds for an error too, such as cookies and `www-authenticate`.

    This comes before the error's handler, which may set any of them anew, and so before there is a status. One is known
    all the same: a raised 304 is no error but says that the client has this very content, and all of it holds (RFC 9110
    section 15.4.5).
    """
    if isinstance(error, HttpException) and error.status_code == 304:
        return
    for name in _OF_THE_CONTENT:
        headers.remove(name)
    if "cache-control" in headers:
        directives = b",".join(headers.rgetlist(b"cache-control")).lower().split(b",")
        names = [directive.partition(b"=")[0].strip() for directive in directives]
        headers.remove("cache-control")
        if forbidden := [name for name in _FORBIDS_STORING if name in names]:
            headers.rset(b"cache-control", b", ".join(forbidden))


def _raise_all_but_errors(exc: BaseException, span: Span) -> None:
    """Raise what is not for the application to handle; put ordinary errors beside it into the span.

    A cancelled handler whose children fail raises both in one group. The cancel goes on, the errors end here.
    """
    going_on = exc
    if isinstance(exc, BaseExceptionGroup):
        errors, rest = cast("BaseExceptionGroup[BaseException]", exc).split(Exception)
        if errors is not None and rest is not None:
            span.fail(errors)
            going_on = rest
    if only_cancelled(going_on):
        span.fail(going_on)
    raise going_on


# `Context` names its application in an annotation and could not import it; from here on the name resolves.
types.__dict__["Stario"] = Stario
