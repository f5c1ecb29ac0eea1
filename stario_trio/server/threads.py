"""Workers in threads of their own: the only file that knows threads.

The supervisor's run and a worker's run share nothing but a few words, each handed over with
`TrioToken.run_sync_soon`, which never waits: so a worker that is blocked in synchronous code delays nobody (SD-01).
Durations are handed over, never times, because the clocks of two Trio runs have nothing to do with each other.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, TypeVar

import outcome
import trio

from stario_trio.server.worker import run_worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stario_trio.server.phases import Phase
    from stario_trio.server.report import Abandoned
    from stario_trio.server.worker import Observer, Worker

__all__ = ["FromThread", "TrioThread", "WorkerThread"]

T = TypeVar("T")

# What a worker gets beyond its own two deadlines before its thread is left behind (SD-14): time for a busy machine to
# schedule it, which no correct worker needs.
_SLACK: Final = 1.0


class TrioThread:
    """A thread that runs Trio, and takes words from other threads.

    Args:
        name: of the thread.
        main: what is run; the caller's context variables are visible in it.
        tell_of_the_end: called in the thread, as its last act, with what came out of `main`.
    """

    def __init__(
        self, name: str, main: Callable[[], Awaitable[None]], tell_of_the_end: Callable[[outcome.Outcome[None]], None]
    ) -> None:
        self.name: str = name
        self._main = main
        self._tell_of_the_end = tell_of_the_end
        self._token: trio.lowlevel.TrioToken | None = None
        self._words: deque[Callable[[], object]] = deque()
        # A daemon: the interpreter does not wait for a thread that was left behind.
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for a thread that has told of its end, and has nothing left to do."""
        self._thread.join()

    def hand_over(self, word: Callable[[], object]) -> None:
        """Have `word` called in the thread's run; before its first step, if it has not begun."""
        self._words.append(word)
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._take_words)

    def stack(self) -> list[str]:
        """Where the thread is just now."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  (documented in spite of its name)
        frame = frames.get(self._thread.ident or 0)
        return [] if frame is None else [line.rstrip() for line in traceback.format_stack(frame)]

    def _run(self) -> None:
        self._tell_of_the_end(outcome.capture(trio.run, self._begin))

    async def _begin(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._take_words()
        await self._main()

    def _take_words(self) -> None:
        while self._words:
            self._words.popleft()()


class WorkerThread:
    """One worker in a thread, as its supervisor sees it. All methods are for the supervisor's run.

    Args:
        worker: made in the supervisor's run, and not yet running.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker: Worker = worker
        self.left_behind: bool = False
        """Whether the thread did not end in its time."""
        self._home = trio.lowlevel.current_trio_token()
        self._run_scope = trio.CancelScope()
        self._outcome: outcome.Outcome[None] | None = None
        self._ended = trio.Event()
        self._stop_asked = trio.Event()
        self._patience = trio.CancelScope()
        self._looking: set[trio.Event] = set()
        self._thread = TrioThread(f"stario-worker-{worker.report.id}", self._main, self._tell_of_the_end)

    async def tend(self) -> None:
        """Start the thread and wait for its end.

        Raises:
            BaseException: what ended the worker, or kept its thread from starting (SD-21).

        Ends when: the worker's run has ended, or its time after a stop is over and it is left behind (SD-14).
        Cancelled by: an outer cancel, which is handed over first (SD-17).
        """
        try:
            self._thread.start()
        except BaseException:
            for listener in self.worker.listeners:  # nobody else will
                listener.close()
            raise
        try:
            await self._stop_asked.wait()
            with self._patience:
                await self._ended.wait()
        except trio.Cancelled:
            self._thread.hand_over(lambda: self._run_scope.cancel(reason="the server was cancelled"))
            with trio.move_on_after(self.worker.config.cleanup_timeout + _SLACK, shield=True):
                await self._ended.wait()
            raise
        finally:
            self._take_end()  # an error counts more than a cancellation that came meanwhile

    def _take_end(self) -> None:
        if self._outcome is None:
            self.left_behind = True
            for listener in self.worker.listeners:
                listener.shut()
        else:
            self._thread.join()
            self._outcome.unwrap()

    def ask_to_stop(self, why: str, *, now: bool) -> None:
        """Hand the word over, and give the worker what its deadlines need from now on."""
        self._thread.hand_over(lambda: self.worker.ask_to_stop(why, now=now))
        config = self.worker.config
        grace = 0.0 if now else config.graceful_timeout
        enough = trio.current_time() + grace + config.cleanup_timeout + _SLACK
        self._patience.deadline = min(self._patience.deadline, enough)
        self._stop_asked.set()

    @property
    def name(self) -> str:
        """The thread's name: `stario-worker-0`."""
        return self._thread.name

    def stack(self) -> list[str]:
        """What a thread that was left behind hangs in: its abandoned handlers, or the code it is blocked in."""
        if abandoned := self.worker.report.abandoned:
            return [line for handler in abandoned for line in (handler.route, *handler.stack)]
        return self._thread.stack()

    async def look(self, at: Callable[[], T]) -> T | None:
        """What `at` returns when it is called in the worker's run, None if that has ended.

        Ends when: the worker has answered, or its run has ended; one that is blocked is waited for.
        Cancelled by: any scope around it.
        """
        if self._ended.is_set():
            return None
        seen: list[T] = []
        answered = trio.Event()
        self._looking.add(answered)

        def answer() -> None:
            seen.append(at())
            with contextlib.suppress(trio.RunFinishedError):
                self._home.run_sync_soon(answered.set)

        self._thread.hand_over(answer)
        try:
            await answered.wait()
        finally:
            self._looking.remove(answered)
        return seen[0] if seen else None

    # In the thread

    async def _main(self) -> None:
        """Run the worker.

        Ends when: the worker has ended.
        Cancelled by: an outer cancel of the supervisor, handed over.
        """
        with self._run_scope:
            await run_worker(self.worker)

    def _tell_of_the_end(self, result: outcome.Outcome[None]) -> None:
        self._outcome = result
        with contextlib.suppress(trio.RunFinishedError):  # the supervisor did not wait for this one
            self._home.run_sync_soon(self._thread_ended)

    # Back home

    def _thread_ended(self) -> None:
        self._ended.set()
        self._stop_asked.set()
        for answered in self._looking:
            answered.set()


class FromThread:
    """An `Observer` in a worker's thread that tells one in the supervisor's run."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._home = trio.lowlevel.current_trio_token()

    def phase_came(self, worker: Worker, phase: Phase) -> None:
        """See `Observer.phase_came`."""
        self._tell(lambda: self._observer.phase_came(worker, phase))

    def abandoned(self, handler: Abandoned) -> None:
        """See `Observer.abandoned`."""
        self._tell(lambda: self._observer.abandoned(handler))

    def trouble(self, words: str) -> None:
        """See `Observer.trouble`."""
        self._tell(lambda: self._observer.trouble(words))

    def _tell(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # left behind
            self._home.run_sync_soon(what)
