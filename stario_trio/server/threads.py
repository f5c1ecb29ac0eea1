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
from typing import TYPE_CHECKING, Final

import outcome
import trio

from stario_trio.server.worker import run_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio.server.phases import Phase
    from stario_trio.server.report import Abandoned
    from stario_trio.server.worker import Observer, Worker

__all__ = ["FromThread", "WorkerThread"]

# What a worker gets beyond its own two deadlines before its thread is left behind (SD-14): time for a busy machine to
# schedule it, which no correct worker needs.
_SLACK: Final = 1.0


class WorkerThread:
    """One worker in a thread, as its supervisor sees it. All methods are for the supervisor's run.

    Args:
        worker: made in the supervisor's run, and not yet running.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.left_behind = False
        """Whether the thread did not end in its time."""
        self._home = trio.lowlevel.current_trio_token()
        self._run_token: trio.lowlevel.TrioToken | None = None
        self._run_scope = trio.CancelScope()
        self._words: deque[Callable[[], object]] = deque()
        self._outcome: outcome.Outcome[None] | None = None
        self._ended = trio.Event()
        self._stop_asked = trio.Event()
        self._patience = trio.CancelScope()
        # A daemon: the interpreter does not wait for a thread that was left behind.
        self._thread = threading.Thread(target=self._run, name=f"stario-worker-{worker.report.id}", daemon=True)

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
            self._hand_over(lambda: self._run_scope.cancel(reason="the server was cancelled"))
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
            self._thread.join()  # it has nothing left to do
            self._outcome.unwrap()

    def ask_to_stop(self, why: str, *, now: bool) -> None:
        """Hand the word over, and give the worker what its deadlines need from now on."""
        self._hand_over(lambda: self.worker.ask_to_stop(why, now=now))
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
        frame = sys._current_frames().get(self._thread.ident or 0)
        return [] if frame is None else [line.rstrip() for line in traceback.format_stack(frame)]

    def _hand_over(self, word: Callable[[], object]) -> None:
        """Have `word` called in the worker's run; before its first step, if it has not begun."""
        self._words.append(word)
        if self._run_token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._run_token.run_sync_soon(self._take_words)

    # In the thread

    def _run(self) -> None:
        self._outcome = outcome.capture(trio.run, self._main)
        with contextlib.suppress(trio.RunFinishedError):  # the supervisor did not wait for this one
            self._home.run_sync_soon(self._thread_ended)

    async def _main(self) -> None:
        """Run the worker.

        Ends when: the worker has ended.
        Cancelled by: an outer cancel of the supervisor, handed over.
        """
        with self._run_scope:
            self._run_token = trio.lowlevel.current_trio_token()
            self._take_words()
            await run_worker(self.worker)

    def _take_words(self) -> None:
        while self._words:
            self._words.popleft()()

    # Back home

    def _thread_ended(self) -> None:
        self._ended.set()
        self._stop_asked.set()


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
