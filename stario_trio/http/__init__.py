"""Requests and responses: the application side. It knows no socket, no thread and no signal."""

from __future__ import annotations

from stario_trio.http.app import Stario
from stario_trio.http.request import Request
from stario_trio.http.router import Router
from stario_trio.http.staticassets import StaticAssets, asset
from stario_trio.http.types import Context, Handler, Middleware
from stario_trio.http.writer import Writer

__all__ = [
    "Context",
    "Handler",
    "Middleware",
    "Request",
    "Router",
    "Stario",
    "StaticAssets",
    "Writer",
    "asset",
]
