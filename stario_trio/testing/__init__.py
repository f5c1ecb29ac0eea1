"""What tests of an application need: a handler called by hand, or the whole app served in memory.

* `ResponseRecorder`, `TestRequest`, `TestContext`: `await handler(TestContext(), w)`, then look at `w`.
* `TestClient`: an httpx2 (or httpx) client of an app in memory, through the real worker, wire and writer.
* `serving_in_memory`, `MemoryStream`: the same server for tests that speak bytes.
* `RecordingTracer`: a tracer that keeps its spans.

Everything runs on any clock, so timeouts and stops can be tested with `trio.testing.MockClock` in no time.
"""

from __future__ import annotations

from stario_trio.testing.client import Client, TestClient
from stario_trio.testing.memory import MemoryStream
from stario_trio.testing.recorder import ResponseRecorder
from stario_trio.testing.request import TestContext, TestRequest
from stario_trio.testing.server import MemoryServer, serving_in_memory
from stario_trio.testing.sse import SSERecorder
from stario_trio.testing.tracer import RecordingTracer

__all__ = [
    "Client",
    "MemoryServer",
    "MemoryStream",
    "RecordingTracer",
    "ResponseRecorder",
    "SSERecorder",
    "TestClient",
    "TestContext",
    "TestRequest",
    "serving_in_memory",
]
