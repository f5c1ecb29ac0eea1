"""The Stario server on Trio: real-time hypermedia with a specified, bounded shutdown."""

from __future__ import annotations

from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from stario_trio.exceptions import ClientDisconnected, HttpException, StarioError
from stario_trio.http.app import Server, Stario
from stario_trio.http.compression import CompressionConfig
from stario_trio.http.request import Request
from stario_trio.http.router import Router
from stario_trio.http.staticassets import StaticAssets, asset
from stario_trio.http.types import Context, ErrorHandler, Handler, Middleware
from stario_trio.http.writer import Writer
from stario_trio.relay import Relay
from stario_trio.server.config import Limits
from stario_trio.telemetry import Event, JsonTracer, Link, NoopTracer, Span, Tracer

if TYPE_CHECKING:
    from stario_trio.server.asyncio_facade import to_asyncio
    from stario_trio.telemetry import RichTracer
    from stario_trio.testing import ResponseRecorder, TestRequest

__all__ = [
    "ClientDisconnected",
    "CompressionConfig",
    "Context",
    "ErrorHandler",
    "Event",
    "Handler",
    "HttpException",
    "JsonTracer",
    "Limits",
    "Link",
    "Middleware",
    "NoopTracer",
    "Relay",
    "Request",
    "ResponseRecorder",
    "RichTracer",
    "Router",
    "Server",
    "Span",
    "Stario",
    "StarioError",
    "StaticAssets",
    "TestRequest",
    "Tracer",
    "Writer",
    "asset",
    "to_asyncio",
]

__version__ = _version("stario-trio")


def __getattr__(name: str) -> Any:
    if name == "RichTracer":  # importing rich takes longer than everything else together
        from stario_trio.telemetry import RichTracer

        return RichTracer
    if name in ("ResponseRecorder", "TestRequest"):  # and what serves needs no tests
        from stario_trio import testing

        return getattr(testing, name)
    if name == "to_asyncio":  # and a Trio program need not import asyncio
        from stario_trio.server.asyncio_facade import to_asyncio

        return to_asyncio
    if name in ("at", "data"):  # which a program written for Stario is told about there
        from stario_trio import datastar

        return getattr(datastar, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
