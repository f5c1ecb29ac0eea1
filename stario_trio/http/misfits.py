"""What cannot be a handler or a middleware is refused when it is registered, not at the first request."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MethodType
from typing import TYPE_CHECKING

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_handler", "check_middleware"]


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
