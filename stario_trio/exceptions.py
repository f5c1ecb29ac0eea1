"""The errors a program can meet, by who is to blame.

* `StarioError`: the program's own configuration or use of the API. Raised as early as possible, with help.
* `HttpException`: the answer to one request, chosen by a handler (or by a limit). Becomes a response.
* `ClientDisconnected`: the peer left while a handler was reading its body. Nobody is left to answer.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from stario_trio.http.writer import Writer

__all__ = ["ClientDisconnected", "HttpException", "StarioError", "sole_leaf", "without_groups", "without_own_group"]

#: The statuses whose `Location` a client follows (RFC 9110 section 15.4); 300, 304 to 306 are not among them.
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class StarioError(Exception):
    """A mistake in the program or its settings, told with the way to mend it.

    Args:
        message: what is wrong, in one line.
        context: the values that matter, shown as `k=repr(v)`.
        help_text: what to do about it.
        example: code that does it right.
    """

    def __init__(
        self,
        message: str,
        *,
        context: dict[str, Any] | None = None,
        help_text: str | None = None,
        example: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.context: dict[str, Any] = context or {}
        self.help_text = help_text
        self.example = example

    def __str__(self) -> str:
        lines = [self.message]
        if self.context:
            lines.append("  Context: " + ", ".join(f"{key}={value!r}" for key, value in self.context.items()))
        if self.help_text:
            lines.append(f"  Help: {self.help_text}")
        if self.example:
            lines.append(f"  Example:\n{self.example}")
        return "\n".join(lines)


class HttpException(Exception):  # noqa: N818  (upstream's name)
    """Raise it in a handler to answer with a status instead of the usual response.

    `HttpException(404, "no such room")` answers in plain text; `HttpException(302, "/login")` redirects, for
    the statuses a client follows (301, 302, 303, 307, 308); 204 and 304 answer without a body.
    """

    def __init__(self, status_code: int, detail: str = "") -> None:
        super().__init__(detail)
        self.status_code = status_code
        self.detail = detail

    def respond(self, w: Writer) -> None:
        """Write the response this exception stands for."""
        if self.status_code in REDIRECTS:
            w.redirect(self.detail, self.status_code)
        elif self.status_code in (204, 304):
            w.empty(self.status_code)
        else:
            w.text(self.detail or "Error", self.status_code)


class ClientDisconnected(Exception):  # noqa: N818  (upstream's name)
    """The peer left in the middle of its own request: there is nobody to answer."""


def sole_leaf(exc: BaseException) -> BaseException:
    """The exception inside groups of one, as nurseries make them; a group of several stays a group."""
    leaf = exc
    while isinstance(leaf, BaseExceptionGroup):
        inside = cast("Sequence[BaseException]", leaf.exceptions)
        if len(inside) > 1:
            return cast("BaseException", leaf)
        leaf = inside[0]
    return leaf


@contextmanager
def without_groups() -> Generator[None]:
    """Around a nursery whose failure has one cause: let it out as itself, with its own cause and context."""
    try:
        yield
    except BaseExceptionGroup as group:
        _raise_as_itself(sole_leaf(cast("BaseException", group)))


@contextmanager
def without_own_group() -> Generator[None]:
    """Around `trio.open_nursery(strict_exception_groups=True)`: undo the group it makes of one failure.

    Nothing but that: a group in it is somebody's own.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        inside = cast("Sequence[BaseException]", group.exceptions)
        if len(inside) > 1:
            raise
        _raise_as_itself(inside[0])


def _raise_as_itself(exc: BaseException) -> NoReturn:
    context = exc.__context__
    try:
        raise exc
    finally:
        exc.__context__ = context  # not the group it was in
