"""What the server tells about itself: spans with attributes and events, handed to a tracer.

Read `core` first. `JsonTracer` writes a line per span, `RichTracer` shows them in a terminal, `NoopTracer`
forgets them. What the first two write goes through an `outlet`, so that no handler waits for a reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stario_trio.telemetry.core import Event, Link, Span, Tracer
from stario_trio.telemetry.json import JsonTracer
from stario_trio.telemetry.noop import NoopTracer

if TYPE_CHECKING:
    from stario_trio.telemetry.rich import RichTracer

__all__ = ["Event", "JsonTracer", "Link", "NoopTracer", "RichTracer", "Span", "Tracer"]


def __getattr__(name: str) -> object:
    """Import `RichTracer` when first asked for: Rich takes 130 ms to import, and a deployment logs JSON."""
    if name == "RichTracer":
        from stario_trio.telemetry.rich import RichTracer

        return RichTracer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
