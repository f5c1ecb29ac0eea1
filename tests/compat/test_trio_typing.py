"""Programs written with trio-typing's names run unchanged.

Only the `compat` session installs trio-typing: its stubs would replace Trio's own types for every checker.
"""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import trio

from stario_trio import Context, NoopTracer, Stario, Writer

trio_typing: Any = pytest.importorskip("trio_typing", reason="trio-typing is installed by `nox -s compat` only")


async def hello(_c: Context, w: Writer) -> None:
    w.text("hello")


def make_app() -> Stario:
    app = Stario(NoopTracer())
    app.get("/", hello)
    return app


async def test_serve_reports_to_a_task_status_of_trio_typing() -> None:
    class Recorder(trio_typing.TaskStatus[object]):  # type: ignore[misc]  # the base is Any where it is not installed
        def started(self, value: object = None) -> None:
            listening.send_nowait(value)

    listening, addresses = trio.open_memory_channel[Any](1)
    app = make_app()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await app.serve(port=0, task_status=Recorder())

            nursery.start_soon(serve)
            [(host, port)] = await addresses.receive()
            async with httpx2.AsyncClient(timeout=30) as client:
                assert (await client.get(f"http://{host}:{port}/")).text == "hello"
            nursery.cancel_scope.cancel(reason="the test is done")


async def test_a_service_typed_with_trio_typing_starts_the_server() -> None:
    """`nursery.start` gives such a service a status that `isinstance` knows, and `serve` takes it on."""
    app = make_app()

    async def service(  # noqa: ASYNC114, ASYNC128  (`serve` calls `started`)
        *, task_status: trio_typing.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        assert isinstance(task_status, trio_typing.TaskStatus)
        await app.serve(port=0, task_status=task_status)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            [(host, port)] = await nursery.start(service)
            assert host == "127.0.0.1"
            assert port > 0
            nursery.cancel_scope.cancel(reason="the test is done")


async def test_a_handler_typed_with_trio_typing_answers() -> None:
    async def gather(_c: Context, w: Writer) -> None:
        words = list[str]()

        async def say(word: str, nursery: trio_typing.Nursery) -> None:
            assert isinstance(nursery, trio_typing.Nursery)
            words.append(word)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, "one", nursery)
            nursery.start_soon(say, "two", nursery)
        w.text(" ".join(sorted(words)))

    app = make_app()
    app.get("/gather", gather)
    with trio.fail_after(30):
        async with app.serving(port=0) as server, httpx2.AsyncClient(timeout=30) as client:
            [address] = server.addresses
            assert not isinstance(address, str)
            host, port = address
            assert (await client.get(f"http://{host}:{port}/gather")).text == "one two"
