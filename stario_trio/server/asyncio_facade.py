"""Serving from asyncio: `await app.serve()` on a running asyncio or uvloop loop, and the way back for handlers.

A facade, not a second server: one thread runs Trio with the same supervisor, workers and phases as `trio.run` would;
the loop only waits for it, owns the signals, and is never blocked. Handlers always run on Trio.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import outcome
import trio

from stario_trio.exceptions import StarioError
from stario_trio.server.signals import stop_signals
from stario_trio.server.threads import TrioThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

__all__ = ["serve_from_asyncio", "to_asyncio"]

P = ParamSpec("P")
T = TypeVar("T")

#: The loop that embeds the server; every thread of the server inherits it.
_embedding_loop: ContextVar[asyncio.AbstractEventLoop] = ContextVar("stario_trio embedding loop")


async def serve_from_asyncio(run: Callable[[], Awaitable[None]], ask_to_stop: Callable[[str, bool], None]) -> None:
    """Run a server in a thread of its own, and wait for it on the running loop.

    Cancelling the waiting task is an outer cancel (SD-17): everything is released before the cancellation goes on.

    Args:
        run: the server's run, to be awaited under Trio.
        ask_to_stop: passes a signal on to it, from any thread.

    Raises:
        BaseException: what comes out of `run`.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise StarioError(
            "The server runs under Trio or asyncio",
            help_text="Start it with trio.run, or await it on an asyncio or uvloop loop.",
            example="trio.run(app.serve)",
        ) from None
    ended: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
    scope = trio.CancelScope()

    async def main() -> None:
        _embedding_loop.set(loop)
        with scope:
            await run()

    def tell_of_the_end(result: outcome.Outcome[None]) -> None:
        with contextlib.suppress(RuntimeError):  # nobody waits: the loop has been closed over us
            loop.call_soon_threadsafe(ended.set_result, result)

    thread = TrioThread("stario-server", main, tell_of_the_end)
    with _woken_by_signals(loop), stop_signals(ask_to_stop):
        thread.start()
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            thread.hand_over(lambda: scope.cancel(reason="the waiting asyncio task was cancelled"))
            while not ended.done():  # another cancel changes nothing: the first one is being obeyed
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ended)  # noqa: ASYNC102  (bounded by the server's own deadlines)
            thread.join()
            raise
        thread.join()
    ended.result().unwrap()


@contextmanager
def _woken_by_signals(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Let every signal wake the loop, whichever thread the system gives it to.

    Python runs signal handlers in the main thread, as soon as that runs Python code again. A loop that sleeps does not,
    unless its own thread was interrupted or something wrote to the loop: Python does, to its wakeup fd. uvloop has set
    one, and asyncio has when `add_signal_handler` is in use; then there is nothing to do.
    """
    ours, pythons = socket.socketpair()
    with ours, pythons:
        ours.setblocking(False)
        pythons.setblocking(False)
        try:
            theirs = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
        except ValueError:  # not the main thread: no handlers here either
            yield
            return
        if theirs != -1:
            signal.set_wakeup_fd(theirs)
            yield
            return
        loop.add_reader(ours, ours.recv, 4096)
        try:
            yield
        finally:
            now = signal.set_wakeup_fd(-1)
            if now != pythons.fileno():  # somebody who set another one meanwhile keeps it
                signal.set_wakeup_fd(now)
            with contextlib.suppress(RuntimeError):  # the loop has been closed over us
                loop.remove_reader(ours)


async def to_asyncio(fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function on the asyncio loop that embeds the server, and wait for it.

    For drivers that only speak asyncio. Works in every handler and every task of one, in any worker, also while the
    server drains. A cancel is passed on to the asyncio task, which is waited for.

    Returns:
        What `fn` returns.

    Raises:
        StarioError: no asyncio loop embeds this server, or it is closed; or the task on it was cancelled by others.
        BaseException: what `fn` raises.

    Cancelled by: any scope around it, as soon as the asyncio task has ended.
    """
    loop = _embedding_loop.get(None)
    if loop is None:
        raise StarioError(
            "No asyncio loop embeds this server",
            help_text="It is there when the server was started under asyncio or uvloop. Under trio.run, use Trio.",
            example="asyncio.run(main())  # with `await app.serve()` in main",
        )
    token, here = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
    task: asyncio.Task[T] | None = None
    cancelled: Callable[[], object] | None = None
    given_up = False

    async def call() -> T:
        return await fn(*args, **kwargs)  # in the task, so that whatever is wrong with the call comes out of it

    def start() -> None:  # on the loop
        nonlocal task
        task = loop.create_task(call())
        task.add_done_callback(lambda done: token.run_sync_soon(wake, done))

    def wake(done: asyncio.Task[T]) -> None:  # back in this run
        if not given_up:
            trio.lowlevel.reschedule(here, outcome.capture(_result, done, cancelled))

    def cancel(raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
        nonlocal cancelled, given_up
        cancelled = raise_cancel
        try:
            loop.call_soon_threadsafe(lambda: task is not None and task.cancel())
        except RuntimeError:  # the loop has been closed meanwhile: nothing on it will ever end
            given_up = True
            return trio.lowlevel.Abort.SUCCEEDED
        return trio.lowlevel.Abort.FAILED  # the task is waited for

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError as exc:
        raise StarioError("The asyncio loop that embeds this server is closed") from exc
    result: T = await trio.lowlevel.wait_task_rescheduled(cancel)
    return result


def _result(done: asyncio.Task[T], raise_cancel: Callable[[], object] | None) -> T:
    """What a finished task means to the one that waits for it."""
    if done.cancelled():
        if raise_cancel is not None:
            raise_cancel()
        raise StarioError("The asyncio task was cancelled, and not by this handler")
    return done.result()
