"""Datastar events, each as the bytes of one server-sent event.

The shape of an event follows the official SDKs (Datastar 1.0); its framing follows the WHATWG HTML standard,
section "Server-sent events". A reader of such a stream ends a line at LF, CR or CRLF, so no value may bring
one into it: a field that is one line refuses them, HTML is cut at each of them.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from stario_trio.datastar.format import SignalData, signal_to_dict
from stario_trio.exceptions import StarioError
from stario_trio.html import HtmlElement, render
from stario_trio.text import json_text, utf8

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Namespace",
    "PatchMode",
    "SignalData",
    "patch",
    "redirect",
    "remove",
    "script",
    "signals",
]

#: Where the HTML goes, seen from the element it targets. Taking an element away is `remove()`.
PatchMode: TypeAlias = Literal["outer", "inner", "replace", "prepend", "append", "before", "after"]
#: The language of the elements. SVG and MathML parts need it, or the browser reads them as unknown HTML.
Namespace: TypeAlias = Literal["html", "svg", "mathml"]

MODES: Final[tuple[str, ...]] = get_args(PatchMode)
NAMESPACES: Final[tuple[str, ...]] = get_args(Namespace)
#: The reconnection delay of a Datastar client that was told nothing, in milliseconds; SDKs leave it out.
DEFAULT_RETRY: Final = 1000

NOT_ONE_LINE: Final = re.compile("[\r\n\0]")
#: HTML standard, "Attributes"; `<` is legal there but never meant.
ATTRIBUTE_NAME: Final = re.compile(r"""[^\s"'<>/=\x00-\x1f\x7f]+""")
#: What ends a script element, or begins the state in which its end is not seen.
SCRIPT_END: Final = re.compile("</(?=script)", re.ASCII | re.IGNORECASE)


def patch(
    element: HtmlElement,
    *,
    mode: PatchMode = "outer",
    selector: str | None = None,
    use_view_transition: bool = False,
    view_transition_selector: str | None = None,
    namespace: Namespace | None = None,
    event_id: str | None = None,
    retry_duration: int | None = None,
) -> bytes:
    """An event that puts HTML into the page.

    Args:
        element: the HTML, see `render`; a plain `str` is escaped.
        mode: what the HTML does to its target: replace it by morphing (`outer`), fill it (`inner`) and so on.
        selector: CSS selector of the target. Without one, each element finds its target by its own id.
        use_view_transition: let the browser animate the change (View Transition API).
        view_transition_selector: CSS selector of the part to animate, instead of the whole page; it has no effect
            without `use_view_transition`.
        namespace: `svg` or `mathml` for elements of these languages.
        event_id: the event's id, which a reconnecting client sends back as `Last-Event-ID`.
        retry_duration: how long a client waits before it reconnects, in milliseconds.

    Returns:
        One event, UTF-8, with its closing blank line.

    Raises:
        StarioError: a value that cannot be sent: an unknown mode or namespace, a line break in a one-line
            field, something that is not HTML.
    """
    _check_choice("mode", mode, MODES, "Use `remove(selector)` to take an element away.")
    return _patch_elements(
        render(element),
        mode=mode,
        selector=selector,
        view_transition=use_view_transition,
        view_transition_selector=view_transition_selector,
        namespace=namespace,
        event_id=event_id,
        retry_duration=retry_duration,
    )


def remove(
    selector: str,
    *,
    use_view_transition: bool = False,
    view_transition_selector: str | None = None,
    event_id: str | None = None,
    retry_duration: int | None = None,
) -> bytes:
    """An event that takes the elements the selector names out of the page.

    Returns:
        One event, see `patch`.

    Raises:
        StarioError: the selector is empty or has a line break.
    """
    if not selector:
        raise StarioError("remove() needs a selector", help_text="Name the elements to take away: remove('#id').")
    return _patch_elements(
        None,
        mode="remove",
        selector=selector,
        view_transition=use_view_transition,
        view_transition_selector=view_transition_selector,
        event_id=event_id,
        retry_duration=retry_duration,
    )


def signals(
    data: SignalData,
    *,
    only_if_missing: bool = False,
    event_id: str | None = None,
    retry_duration: int | None = None,
) -> bytes:
    """An event that sets signals in the page; `None` removes one.

    Args:
        data: a mapping, a dataclass instance, a pydantic model or a msgspec struct.
        only_if_missing: keep the values the page has already.
        event_id: see `patch`.
        retry_duration: see `patch`.

    Returns:
        One event, see `patch`.

    Raises:
        StarioError: `data` is none of these.
        TypeError: a value has no JSON form (a date, a set, a Decimal).
        ValueError: a number has no JSON form (NaN, Infinity).
    """
    lines = "data: onlyIfMissing true\n" if only_if_missing else ""
    lines += f"data: signals {json_text(signal_to_dict(data))}\n"
    return _event("datastar-patch-signals", lines, event_id, retry_duration)


def script(
    code: str,
    *,
    auto_remove: bool = True,
    attributes: Mapping[str, str] | None = None,
    event_id: str | None = None,
    retry_duration: int | None = None,
) -> bytes:
    r"""An event that runs JavaScript in the page, as a script element at the end of the body.

    Inside the code `</script` is sent as `<\/script` and `<!--` as `<\!--`: the same text in a JavaScript
    string, and no end of the element. It is still code: what a visitor typed belongs in signals.

    Args:
        code: JavaScript.
        auto_remove: take the script element away once it has run.
        attributes: further attributes of the element, such as `{"type": "module"}`; the values are escaped.
        event_id: see `patch`.
        retry_duration: see `patch`.

    Returns:
        One event, see `patch`.

    Raises:
        StarioError: the code is no text, or an attribute name is not one, or its value is no text.
    """
    tag = "<script"
    if auto_remove:
        tag += ' data-effect="el.remove()"'
    for name, value in (attributes or {}).items():
        tag += _attribute(name, value)
    try:
        safe = SCRIPT_END.sub(r"<\\/", code).replace("<!--", r"<\!--")
    except TypeError:
        raise _no_text("code", code) from None
    return _patch_elements(
        f"{tag}>{safe}</script>",
        mode="append",
        selector="body",
        event_id=event_id,
        retry_duration=retry_duration,
    )


def redirect(url: str, *, event_id: str | None = None, retry_duration: int | None = None) -> bytes:
    """An event that sends the browser to another page.

    The URL is taken as it is, and `javascript:` is a URL too: check one that comes from outside.

    Returns:
        One event, see `patch`.
    """
    target = json.dumps(url).replace("<", r"\u003c")  # no `</script>` and no `<!--` whatever the URL
    return script(f"setTimeout(() => window.location = {target});", event_id=event_id, retry_duration=retry_duration)


def _attribute(name: str, value: str) -> str:
    try:
        if ATTRIBUTE_NAME.fullmatch(name):
            return f' {name}="{escape(value)}"'
    except (AttributeError, TypeError):  # of a value that is no text, and of such a name
        raise StarioError(
            "Attributes are text",
            context={"name": name, "value": value},
            help_text="Give both as str; to one that needs no value, give the empty text.",
            example="w.execute(code, attributes={'async': ''})",
        ) from None
    raise StarioError(
        "Invalid attribute name",
        context={"name": name},
        help_text="A name has no spaces, quotes, `<`, `>`, `/`, `=` or control characters.",
    )


def _patch_elements(
    html: str | None,
    *,
    mode: str,
    selector: str | None,
    view_transition: bool = False,
    view_transition_selector: str | None = None,
    namespace: str | None = None,
    event_id: str | None,
    retry_duration: int | None,
) -> bytes:
    lines = ""
    if selector:
        lines += f"data: selector {_one_line('selector', selector)}\n"
    if mode != "outer":
        lines += f"data: mode {mode}\n"
    if view_transition:
        lines += "data: useViewTransition true\n"
        if view_transition_selector:
            lines += f"data: viewTransitionSelector {_one_line('view_transition_selector', view_transition_selector)}\n"
    if namespace is not None:
        _check_choice("namespace", namespace, NAMESPACES)
        if namespace != "html":
            lines += f"data: namespace {namespace}\n"
    if html is not None:
        if "\r" in html:
            html = html.replace("\r\n", "\n").replace("\r", "\n")
        lines += "data: elements " + html.replace("\n", "\ndata: elements ") + "\n"
    return _event("datastar-patch-elements", lines, event_id, retry_duration)


def _event(name: str, lines: str, event_id: str | None, retry_duration: int | None) -> bytes:
    """Frame data lines, each of which ends in LF, as one event."""
    head = f"event: {name}\n"
    if event_id:
        head += f"id: {_one_line('event_id', event_id)}\n"
    if retry_duration is not None:
        if not _is_count(retry_duration):
            raise StarioError(
                "Invalid retry_duration",
                context={"retry_duration": retry_duration},
                help_text="Give whole milliseconds, 1 or more.",
            )
        if retry_duration != DEFAULT_RETRY:
            head += f"retry: {retry_duration}\n"
    return utf8(f"{head}{lines}\n")


def _one_line(field: str, value: str) -> str:
    """Refuse what would begin a line of its own; a NUL besides makes a browser ignore an id."""
    try:
        broken = NOT_ONE_LINE.search(value)
    except TypeError:
        raise _no_text(field, value) from None
    if broken:
        raise StarioError(f"Invalid {field}", context={field: value}, help_text="It may have no line break and no NUL.")
    return value


def _no_text(field: str, value: object) -> StarioError:
    return StarioError(
        f"Invalid {field}", context={field: value}, help_text="It is text: decode bytes, and of others give the str()."
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_choice(field: str, value: str, choices: tuple[str, ...], help_text: str = "") -> None:
    if value not in choices:
        one_of = "Use one of: " + ", ".join(choices) + "."
        raise StarioError(f"Invalid {field}", context={field: value}, help_text=f"{one_of} {help_text}".rstrip())
