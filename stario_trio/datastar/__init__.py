"""What a page with the Datastar client and its handlers say to each other (Datastar 1.0).

* `sse`: events for the page, as bytes; `w.patch`, `w.sync` and their like send them.
* `get_signals`, `parse_signals`: what the page says of itself; `await c.signals(...)` calls both.
* `js`, `s`: expressions for the attributes in the page.

HTML and `data-*` attributes are written with other packages, such as htpy and datastar-py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stario_trio.datastar import sse
from stario_trio.datastar.format import js, s
from stario_trio.datastar.parse import parse_signals
from stario_trio.datastar.signals import FileSignal, get_signals

__all__ = ["FileSignal", "get_signals", "js", "parse_signals", "s", "sse"]

#: What a program written for Stario imports, and what to write for it.
_LEFT_OUT = {
    "at": 'Write the action itself: data.on("click", "@get(\'/path\')").',
    "data": "Write `from datastar_py import attribute_generator as data`.",
}

if not TYPE_CHECKING:  # pragma: no branch  (checkers know by themselves what is not there)

    def __getattr__(name: str) -> object:
        # An ImportError for `datastar.at` too: of an AttributeError, `from ... import at` would not show the words.
        if name in _LEFT_OUT:
            raise ImportError(f"Stario's {name!r} is not here. {_LEFT_OUT[name]}", name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
