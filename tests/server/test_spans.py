"""What the tracer is told of a start, a stop, and of what goes wrong in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import Server, Stario
from stario_trio.server.config import Config
from stario_trio.server.report import Report
from stario_trio.server.spans import ServerSpans
from stario_trio.server.supervisor import Supervisor
from stario_trio.testing import RecordingTracer as Recorder
from tests.support.live import PATIENCE, app_of, peer

if TYPE_CHECKING:
    from stario_trio import Context, Span, Writer


class Watcher(Recorder):
    """Says when the first span of a name has ended."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.told = trio.Event()

    def notify(self, span: Span) -> None:
        super().notify(span)
        if span.name == self.name and span.finished:
            self.told.set()


@pytest.mark.spec("SD-14", "SD-23")
async def test_a_stuck_handler_is_told_while_it_is_stuck() -> None:
    tracer = Watcher("handler abandoned")
    release = trio.Event()

    async def stuck(c: Context, w: Writer) -> None:
        entered.set()
        with trio.move_on_after(PATIENCE, shield=True):
            await release.wait()

    entered = trio.Event()
    server = Server(app_of(("/stuck", stuck), tracer=tracer), port=0, graceful_timeout=0, cleanup_timeout=0)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with peer(server) as client:
                await client.get("/stuck")
                await entered.wait()
                server.stop()
                await tracer.told.wait()
                (told,) = tracer.all("handler abandoned")
                assert told["route"] == "GET /stuck"
                assert "stuck" in told["stack"]
                (handler,) = server.report.abandoned
                assert handler.route == "GET /stuck"
                assert handler.worker == 0
                release.set()
    shutdown = tracer.named("server.shutdown")
    assert told.parent_id == shutdown.id
    assert shutdown["server.worker.0.handlers_abandoned"] == 1


@pytest.mark.spec("SK-07")
def test_trouble_is_told_once_and_at_once() -> None:
    tracer, report = Recorder(), Report()
    supervisor = Supervisor(Stario(tracer).handle_request, tracer, Config(), report)
    for _ in range(1000):
        supervisor.trouble("accepting pauses")
    supervisor.trouble("something else")
    assert report.errors == ["accepting pauses", "something else"]
    assert [span.error for span in tracer.all("server.trouble")] == report.errors
    assert all(span.finished for span in tracer.spans)


def test_without_a_stop_there_is_no_span_of_it() -> None:
    tracer: Any = Recorder()
    ServerSpans(tracer, Config(), Report()).stopped()
    assert tracer.spans == []
