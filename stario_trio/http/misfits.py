"""What cannot be a handler or a middleware is refused when it is registered, not at the first request."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Final

from stario_trio.exceptions import StarioError
from stario_trio.http.headers import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_error_handler", "check_handler", "check_method", "check_middleware", "check_tracer"]

_A_GENERATOR: Final = "It has a `yield`, so that calling it only makes a generator. Send with w.write() or w.patch()."


def check_middleware(factory: object) -> None:
    """Refuse what does not take a handler and return one.

    Raises:
        StarioError: not callable, or an async function.
    """
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


def check_handler(handler: object, method: str, path: str) -> None:
    """Refuse what cannot be awaited.

    Raises:
        StarioError: a class, a plain function, or nothing that can be called.
    """
    if inspect.isclass(handler):
        help_text = "It is a class. Pass an instance that has `async def __call__(self, c, w)`."
    elif not callable(handler):
        help_text = "It is not callable. The arguments are (path, handler, *middleware)."
    elif _yields(handler):
        help_text = _A_GENERATOR
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


def check_error_handler(exc_type: object, handler: object) -> None:
    """Refuse what no exception could ever be, and what cannot answer for one.

    Raises:
        StarioError: `exc_type` is no class of exceptions, or `handler` is a class, a generator or not callable.
    """
    if not (inspect.isclass(exc_type) and issubclass(exc_type, BaseException)):
        help_text = "The first argument is a class of exceptions. To answer a status, register HttpException."
    elif inspect.isclass(handler) or not callable(handler):
        help_text = "The second argument is a function, async or not, that takes (c, w, exc) and answers."
    elif _yields(handler):
        help_text = _A_GENERATOR
    else:
        return
    raise StarioError(
        "Not an error handler",
        context={"exc_type": exc_type, "handler": handler},
        help_text=help_text,
        example=(
            "def on_http(c, w, exc):\n"
            '    w.text(f"Sorry: {exc.detail}", exc.status_code)\n\n'
            "app.on_error(HttpException, on_http)"
        ),
    )


def check_method(method: object, path: str) -> None:
    """Refuse a method that nobody could ever ask for.

    Raises:
        StarioError: no token (RFC 9110 section 9.1), or not in upper case.
    """
    if not isinstance(method, str) or TOKEN.fullmatch(method) is None:
        help_text = "It is one word, such as 'GET'. For several methods, register the handler once for each."
    elif method != method.upper():
        help_text = f"Write {method.upper()!r}, or use get(), post() and the like."
    else:
        return
    raise StarioError(
        "Method is not an upper-case token", context={"method": method, "path": path}, help_text=help_text
    )


def check_tracer(tracer: object) -> None:
    """Refuse what makes no span. A class can be called, but what comes of it is a tracer.

    Raises:
        StarioError: a class, or nothing that can be called.
    """
    if not callable(tracer) or inspect.isclass(tracer):
        name = tracer.__name__ if inspect.isclass(tracer) else "JsonTracer"
        raise StarioError(
            "Invalid tracer",
            context={"tracer": tracer},
            help_text="Give a tracer, an object that is called with the name of each span; NoopTracer() for no traces.",
            example=f"with {name}() as tracer:\n    app = Stario(tracer)",
        )


def _yields(function: Callable[..., object]) -> bool:
    call = _innermost(function)
    return inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call)


def _is_plain_function(handler: Callable[..., object]) -> bool:
    """Known to be the mistake. A lambda, a built-in or a compiled function may well return an awaitable."""
    if inspect.iscoroutinefunction(handler):
        return False
    call = _innermost(handler)
    return (
        isinstance(call, FunctionType | MethodType)
        and not inspect.iscoroutinefunction(call)
        and call.__name__ != "<lambda>"
    )


def _innermost(call: Callable[..., object]) -> Callable[..., object]:
    """What runs in the end: below partials and decorators, and of an object its `__call__`."""
    if isinstance(call, functools.partial):  # one of a partial is flat
        call = call.func
    call = inspect.unwrap(call)
    return call if isinstance(call, FunctionType | MethodType) else type(call).__call__
