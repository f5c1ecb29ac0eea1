"""What comes out of the block around a server in memory."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stario_trio import Context, StarioError, Writer
from stario_trio.testing import MemoryServer, TestClient, serving_in_memory
from tests.support.live import app_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def broken(_c: Context, _w: Writer) -> None:
    raise ValueError("broken")


async def also_broken(_c: Context, _w: Writer) -> None:
    raise KeyError("also broken")


APP = app_of(("/", broken), ("/also", also_broken))


def request(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()


async def fail(server: MemoryServer, *paths: str) -> None:
    for path in paths:
        await server.connect(request(path)).read_to_end()


# Errors that no client has seen


async def test_an_error_that_no_request_has_seen_comes_out_of_the_block() -> None:
    with pytest.raises(ValueError, match="broken") as caught:
        async with serving_in_memory(APP) as server:
            await fail(server, "/")
            assert len(server.errors) == 1
    assert "broken" in [entry.name for entry in caught.traceback]


async def test_several_come_out_in_a_group() -> None:
    with pytest.raises(ExceptionGroup, match="no client of this server") as caught:
        async with serving_in_memory(APP) as server:
            await fail(server, "/", "/also")
    assert [type(each) for each in caught.value.exceptions] == [ValueError, KeyError]


async def test_the_tests_own_error_goes_first_and_has_a_note() -> None:
    with pytest.raises(AssertionError) as caught:
        async with serving_in_memory(APP) as server:
            await fail(server, "/", "/also")
            raise AssertionError
    [note] = caught.value.__notes__
    assert note.startswith("Meanwhile a handler has failed")
    assert "ValueError: broken" in note
    assert "KeyError: 'also broken'" in note
    assert "in also_broken" in note, "with the line where it was"


async def test_an_error_that_a_client_has_seen_is_not_told_again() -> None:
    with pytest.raises(AssertionError) as caught:
        async with TestClient(APP) as client:
            with pytest.raises(ValueError, match="broken"):
                await client.get("/")
            raise AssertionError
    assert not hasattr(caught.value, "__notes__")


async def test_nothing_is_raised_or_told_if_that_is_not_wanted() -> None:
    async with serving_in_memory(APP, raise_handler_errors=False) as server:
        await fail(server, "/")
    with pytest.raises(AssertionError) as caught:
        async with serving_in_memory(APP, raise_handler_errors=False) as server:
            await fail(server, "/")
            raise AssertionError
    assert not hasattr(caught.value, "__notes__")


async def test_what_takes_no_note_goes_first_all_the_same() -> None:
    class Odd(Exception):
        def __init__(self) -> None:
            self.__notes__ = "no list"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    with pytest.raises(Odd):
        async with serving_in_memory(APP) as server:
            await fail(server, "/")
            raise Odd


async def test_a_cancel_goes_through() -> None:
    with trio.CancelScope() as scope:
        async with serving_in_memory(APP) as server:
            await fail(server, "/")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


# Groups


async def test_a_group_of_the_tests_own_stays_as_it_is() -> None:
    error = ValueError()
    for around in (serving_in_memory(APP), TestClient(APP), app_of().serving(port=0)):
        with pytest.raises(ExceptionGroup) as caught:
            async with around:
                raise ExceptionGroup("mine", [error])
        assert caught.value.message == "mine"
        assert caught.value.exceptions == (error,)


async def test_a_nursery_in_the_block_makes_its_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with TestClient(APP) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "/")
    assert [type(each) for each in caught.value.exceptions] == [ValueError]


async def test_an_error_that_is_none_of_a_group_comes_out_as_itself() -> None:
    error = ValueError()
    for around in (serving_in_memory(APP), TestClient(APP), app_of().serving(port=0)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            async with around:
                raise error
        assert caught.value is error


# Handlers that do not end


async def shielded(_c: Context, w: Writer) -> None:
    w.write(b"begun")
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def shielded_again_and_again(_c: Context, w: Writer) -> None:
    w.write(b"begun")
    while True:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


async def shielded_cleanup(_c: Context, w: Writer) -> None:
    w.write(b"begun")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


async def shielded_child(c: Context, w: Writer) -> None:
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shielded, c, w)
            nursery.start_soon(trio.sleep_forever)


STUBBORN = [shielded, shielded_again_and_again, shielded_cleanup, shielded_child]


@pytest.mark.parametrize("handler", STUBBORN)
async def test_a_handler_that_does_not_end_is_named(
    handler: Callable[[Context, Writer], Awaitable[None]],
    autojump_clock: object,
    capfd: pytest.CaptureFixture[str],
) -> None:
    start = trio.current_time()
    with pytest.raises(StarioError, match="A cancelled handler does not end: GET /") as caught:
        async with serving_in_memory(app_of(("/", handler)), graceful_timeout=2.0, cleanup_timeout=3.0) as server:
            await server.connect(request()).read_until(b"begun")
    assert trio.current_time() - start == 5
    assert "trio.move_on_after(1, shield=True)" in str(caught.value)
    [note] = caught.value.__notes__
    assert note.startswith("It waits in:\n  ")
    assert handler.__name__ in note
    assert capfd.readouterr().err.startswith("A cancelled handler does not end: GET /\nIt waits in:\n  ")


@pytest.mark.parametrize("handler", STUBBORN)
async def test_nor_does_it_keep_a_test_that_has_failed(
    handler: Callable[[Context, Writer], Awaitable[None]],
    autojump_clock: object,
    capfd: pytest.CaptureFixture[str],
) -> None:
    start = trio.current_time()
    with pytest.raises(AssertionError) as caught:
        async with serving_in_memory(app_of(("/", handler)), graceful_timeout=2.0, cleanup_timeout=3.0) as server:
            await server.connect(request()).read_until(b"begun")
            raise AssertionError
    assert trio.current_time() - start == 3
    [note] = caught.value.__notes__
    assert handler.__name__ in note
    assert "does not end: GET /" in capfd.readouterr().err


async def test_a_shield_around_the_block_stays(autojump_clock: object, capfd: pytest.CaptureFixture[str]) -> None:
    with trio.CancelScope(shield=True) as mine:
        with suppress(StarioError):
            async with serving_in_memory(app_of(("/", shielded)), graceful_timeout=1.0, cleanup_timeout=1.0) as server:
                await server.connect(request()).read_until(b"begun")
        assert mine.shield
    assert "does not end" in capfd.readouterr().err


async def test_errors_and_handlers_that_do_not_end_come_out_together(
    autojump_clock: object, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with serving_in_memory(app_of(("/", broken), ("/shielded", shielded))) as server:
            await fail(server, "/")
            await server.connect(request("/shielded")).read_until(b"begun")
    assert [type(each) for each in caught.value.exceptions] == [ValueError, StarioError]
    assert "does not end" in capfd.readouterr().err


async def test_as_in_production_it_is_waited_for(autojump_clock: object, capfd: pytest.CaptureFixture[str]) -> None:
    release = trio.Event()

    async def stubborn(_c: Context, w: Writer) -> None:
        w.write(b"begun")
        with trio.CancelScope(shield=True):
            await release.wait()

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def much_later() -> None:
            await trio.sleep(100)
            release.set()

        async with serving_in_memory(app_of(("/", stubborn)), raise_handler_errors=False) as server:
            await server.connect(request()).read_until(b"begun")
    assert release.is_set()
    assert [handler.route for handler in server.report.abandoned] == ["GET /"]
    assert "does not end" in capfd.readouterr().err


async def test_a_cleanup_that_takes_its_time_is_nothing_to_tell_of(
    autojump_clock: object, capfd: pytest.CaptureFixture[str]
) -> None:
    async def tidy(_c: Context, w: Writer) -> None:
        w.write(b"begun")
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(4, shield=True):
                await trio.sleep_forever()

    async with serving_in_memory(app_of(("/", tidy))) as server:
        await server.connect(request()).read_until(b"begun")
    with pytest.raises(AssertionError):
        async with serving_in_memory(app_of(("/", tidy))) as server:
            await server.connect(request()).read_until(b"begun")
            raise AssertionError
    assert capfd.readouterr().err == ""


# Besides


async def test_troubles_are_kept() -> None:
    async with serving_in_memory(APP) as server:
        assert isinstance(server, MemoryServer)
        server.listener.fail(OSError("no descriptor is left"))
        await wait_all_tasks_blocked()
        assert len(server.troubles) == 1
        assert "no descriptor is left" in server.troubles[0]


async def test_what_ends_the_server_is_not_waited_for(autojump_clock: object) -> None:
    async def leave(_c: Context, _w: Writer) -> None:
        raise SystemExit(3)

    start = trio.current_time()
    with pytest.raises(SystemExit, match="3"):
        async with serving_in_memory(app_of(("/", leave))) as server, aclosing(server.connect(request())):
            await trio.sleep_forever()
    assert trio.current_time() == start
