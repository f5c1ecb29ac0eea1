"""HTML from the objects a program already has: anything with `__html__()`, text, numbers, and lists of them.

There is no HTML language here. htpy elements, `markupsafe.Markup` and every other object that speaks the
`__html__()` convention are taken as they are; plain text is escaped, so that what a visitor typed stays text.
"""

from __future__ import annotations

from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Protocol, TypeAlias

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HtmlElement", "SupportsHtml", "render"]


if not TYPE_CHECKING:  # pragma: no branch  (checkers know by themselves what is not there)

    def __getattr__(name: str) -> object:
        # An ImportError for `html.Div` too: of an AttributeError, `from ... import Div` would not show the words.
        if name[:1].isupper():
            raise ImportError(
                f"Stario's HTML language is not here, nor its {name!r}. Write tags with `import htpy as h`, as in "
                "h.div(id='a')['text'], and put finished HTML into markupsafe.Markup(...).",
                name=__name__,
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SupportsHtml(Protocol):
    """An object that is HTML already and says so."""

    def __html__(self) -> str:
        """The object as HTML, ready to be sent."""
        ...


#: What `render` takes. A sequence is a list or a tuple: `bytes` passes the type and is refused when run.
HtmlElement: TypeAlias = "SupportsHtml | str | int | float | Decimal | Sequence[HtmlElement]"


def render(content: HtmlElement) -> str:
    """Turn a value into HTML.

    Args:
        content: an object with `__html__()` (taken as it is), a `str` or number (escaped), or a list or
            tuple of these (concatenated).

    Returns:
        The HTML as a plain `str`.

    Raises:
        StarioError: the value, or a part of it, is of another type. Nothing has been sent by then.
    """
    if type(content) is str:  # the most frequent leaf, and the exact type has no `__html__`
        return escape(content)
    method = getattr(content, "__html__", None)
    if method is not None and not isinstance(content, type):
        html = method()
        if not isinstance(html, str):
            raise StarioError(
                f"{type(content).__name__}.__html__() returned {type(html).__name__}",
                help_text="`__html__()` must return the finished HTML as a str.",
            )
        # A plain copy: str subclasses such as Markup change what `+` and `replace` do.
        return str.__str__(html)
    if isinstance(content, (list, tuple)):
        return "".join([render(part) for part in content])
    if isinstance(content, (str, int, float, Decimal)):
        return escape(str(content))
    raise StarioError(
        f"Cannot render element of type {type(content).__name__}",
        help_text="Give an object with `__html__()` (htpy, markupsafe.Markup), text, a number, or a list.",
    )
