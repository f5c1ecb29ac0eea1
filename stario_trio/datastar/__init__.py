"""What a page with the Datastar client and its handlers say to each other (Datastar 1.0).

* `sse`: events for the page, as bytes; `w.patch`, `w.sync` and their like send them.
* `get_signals`, `parse_signals`: what the page says of itself; `await c.signals(...)` calls both.
* `js`, `s`: expressions for the attributes in the page.

HTML and `data-*` attributes are written with other packages, such as htpy and datastar-py.
"""

from __future__ import annotations

from stario_trio.datastar import sse
from stario_trio.datastar.format import js, s
from stario_trio.datastar.parse import parse_signals
from stario_trio.datastar.signals import FileSignal, get_signals

__all__ = ["FileSignal", "get_signals", "js", "parse_signals", "s", "sse"]
