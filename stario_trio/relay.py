"""Publish and subscribe inside one process, across worker threads.

Publishing is synchronous, never waits and may be done anywhere: in a handler, in a plain thread, with no Trio
at all. Reading is an `async for` in a Trio run. Nobody remembers a message for those who come later.

    publish --+-- the hub of this run -------------> mailbox, mailbox, ...    at once
              +-- the inbox of another run's hub --> mailbox, ...             when that run takes its turn

A hub belongs to one relay in one Trio run and is touched in that run's thread only. So a message takes no
lock of ours, and crosses into a run once, however many subscribers wait there.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import trio
from trio.lowlevel import Abort, Task, TrioToken

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")  # `default=` needs Python 3.13; type checkers know it before

__all__ = ["Msg", "Relay", "Subscription"]

#: What a subscription yields: the subject and the data.
Msg: TypeAlias = tuple[str, T]

#: Messages that may wait at the door of another run: bursts pass, and memory is bounded while that run is
#: blocked. 64 times what one subscription keeps by default.
INBOX_SIZE = 65_536


class Relay(Generic[T]):
    """Carries messages from publishers to the subscriptions whose pattern matches.

    A pattern is a subject (`"room.1"`), all below a subject (`"room.1.*"`: what begins with `"room.1."`), or
    `"*"` for everything. A star anywhere else is an ordinary character.

    Messages of one publisher arrive in their order. A subscription that does not keep up loses its oldest
    messages and counts them in `dropped`; it never slows a publisher or another subscription.

    Args:
        maxsize: messages one subscription keeps for its reader, 1 or more.

    Raises:
        StarioError: `maxsize` is not a whole number of at least 1.
    """

    def __init__(self, maxsize: int = 1024) -> None:
        if not _is_count(maxsize):
            raise StarioError(
                "Invalid maxsize",
                context={"maxsize": maxsize},
                help_text="Give the number of messages one subscription may keep, 1 or more.",
            )
        self._table: _Table[T] = _Table(maxsize)

    def publish(self, subject: str, data: T) -> None:
        """Give a message to every subscription that matches now.

        Never waits, and never fails because of a subscriber. From any thread, but not from a signal handler.

        Raises:
            StarioError: the subject is no text.
        """
        if not isinstance(subject, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may be untyped)
            raise _no_text("subject", subject)
        hubs = self._table.hubs
        if not hubs:
            return
        patterns = _matching_patterns(subject)
        message = (subject, data)
        here = _current_run()
        for hub in hubs:
            if hub.token is here:
                hub.deliver(patterns, message)
            elif any(pattern in hub.mailboxes for pattern in patterns):
                hub.post(patterns, message)

    def subscribe(self, pattern: str) -> Subscription[T]:
        """Subscribe to a pattern.

        Inside a Trio run the subscription receives from this call on. Outside of one it is registered in the
        run that first iterates or enters it, and receives from then on.

        Raises:
            StarioError: the pattern is no text.
        """
        if not isinstance(pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may be untyped)
            raise _no_text("pattern", pattern)
        return Subscription(self._table, pattern)

    @property
    def _subs(self) -> dict[str, int]:
        """How many subscriptions are open, by pattern."""
        count: Counter[str] = Counter()
        for hub in self._table.hubs:
            for pattern, mailboxes in hub.mailboxes.copy().items():
                count[pattern] += sum(not mailbox.closed for mailbox in mailboxes.copy())
        return {pattern: number for pattern, number in count.items() if number}


class Subscription(Generic[T]):
    """The messages of one pattern, as an async iterator of `(subject, data)`.

    It is closed by `close()`, by the end of an `async with` block, or by dropping it: to leave
    `async for ... in relay.subscribe(...)` by `break`, an exception or a cancellation is enough. It belongs
    to the Trio run that registered it, and one task at a time may wait for its next message.
    """

    __slots__ = ("__weakref__", "_hub", "_mailbox", "_reading", "_table")

    def __init__(self, table: _Table[T], pattern: str) -> None:
        self._table = table
        # The hub knows the mailbox and not the subscription, so that a dropped subscription can be noticed.
        self._mailbox: _Mailbox[T] = _Mailbox(pattern, table.maxsize)
        self._hub: _Hub[T] | None = None
        self._reading = False
        token = _current_run()
        if token is not None:
            self._hub = table.join(token, self._mailbox)

    @property
    def dropped(self) -> int:
        """Messages lost because the reader did not keep up."""
        return self._mailbox.dropped

    def close(self) -> None:
        """Stop receiving. A task that waits for a message leaves its loop; what was not read is gone.

        May be called again, and from any thread.
        """
        mailbox = self._mailbox
        if not mailbox.closed:
            mailbox.closed = True
            if self._hub is not None:
                self._hub.retire(mailbox)

    async def aclose(self) -> None:
        """Do what `close()` does, and checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        self._attach()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __aiter__(self) -> Self:
        self._attach()
        return self

    async def __anext__(self) -> tuple[str, T]:
        """Wait for the next message; always a checkpoint. A cancelled wait takes no message.

        Raises:
            StopAsyncIteration: the subscription is closed.
            StarioError: this is not the subscription's Trio run.
            trio.BusyResourceError: another task is waiting for the next message.
        """
        self._attach()
        if self._reading:
            raise trio.BusyResourceError("another task is reading this subscription")
        mailbox = self._mailbox
        self._reading = True
        try:
            if mailbox.closed or mailbox.messages:
                await trio.lowlevel.checkpoint()
            else:
                mailbox.reader = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(mailbox.abort)
        finally:
            self._reading = False
        if mailbox.closed:
            raise StopAsyncIteration
        return mailbox.messages.popleft()

    def _attach(self) -> None:
        """Register in the current run, or make sure that it is the run of the registration."""
        token = _current_run()
        if token is None:
            raise StarioError(
                "A subscription is read inside a Trio run",
                help_text="Iterate it in a handler or another task of Trio; `publish` works everywhere.",
            )
        if self._hub is None:
            self._hub = self._table.join(token, self._mailbox)
            if self._mailbox.closed:  # before there was a hub to tell
                self._hub.retire(self._mailbox)
        elif self._hub.token is not token:
            raise StarioError(
                "This subscription belongs to another Trio run",
                context={"pattern": self._mailbox.pattern},
                help_text="Each worker thread is a run of its own: subscribe in the handler that reads.",
            )


class _Mailbox(Generic[T]):
    """What a hub knows of a subscription. Only `closed` is written in other threads."""

    __slots__ = ("closed", "dropped", "messages", "pattern", "reader")

    def __init__(self, pattern: str, maxsize: int) -> None:
        self.pattern: str = pattern
        self.messages: deque[tuple[str, T]] = deque(maxlen=maxsize)
        self.dropped: int = 0
        self.closed: bool = False
        self.reader: Task | None = None  # the task that is parked until there is something to read

    def put(self, message: tuple[str, T]) -> None:
        messages = self.messages
        if len(messages) == messages.maxlen:
            self.dropped += 1  # the append pushes the oldest one out
        messages.append(message)
        if self.reader is not None:
            self.wake()

    def wake(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader)

    def abort(self, _raise_cancel: object) -> Abort:
        self.reader = None
        return Abort.SUCCEEDED


class _Hub(Generic[T]):
    """The mailboxes of one relay in one Trio run.

    `deliver`, `add` and `drain` run in that run's thread. `post` and `retire` run anywhere, `retire` even in
    the garbage collector: they touch deques, whose operations are atomic, and `TrioToken.run_sync_soon`.
    """

    def __init__(self, table: _Table[T], token: TrioToken) -> None:
        self.table = table
        self.token = token
        # By pattern; the inner dict is a set that keeps the order of subscribing.
        self.mailboxes: dict[str, dict[_Mailbox[T], None]] = {}
        self.inbox: deque[tuple[tuple[str, ...], tuple[str, T]]] = deque()
        self.inbox_size: int = max(INBOX_SIZE, table.maxsize)
        self.retired: deque[_Mailbox[T]] = deque()
        self.shed: Counter[tuple[str, ...]] = Counter()  # how many were dropped from the inbox, by patterns

    def deliver(self, patterns: tuple[str, ...], message: tuple[str, T]) -> None:
        """Give a message to the mailboxes of these patterns, after all that was posted before it."""
        if self.inbox:
            self.take_inbox()
        for mailbox in self.matching(patterns):
            mailbox.put(message)

    def post(self, patterns: tuple[str, ...], message: tuple[str, T]) -> None:
        """Leave a message for the hub's run."""
        self.inbox.append((patterns, message))
        if len(self.inbox) > self.inbox_size:
            self.shed_oldest()
        self.poke()

    def retire(self, mailbox: _Mailbox[T]) -> None:
        """Have a closed mailbox removed and its reader woken."""
        self.retired.append(mailbox)
        self.poke()

    def poke(self) -> None:
        """Make the run call `drain`; a run that is over needs no hub."""
        try:
            self.token.run_sync_soon(self.drain, idempotent=True)
        except trio.RunFinishedError:
            self.table.forget(self)

    def drain(self) -> None:
        """Do in the hub's run what other threads, and closed subscriptions, have left for it."""
        self.take_inbox()
        for _ in range(len(self.retired)):
            self.remove(self.retired.popleft())
        if not self.mailboxes:
            self.table.forget(self)

    def add(self, mailbox: _Mailbox[T]) -> None:
        self.take_inbox()  # what was published before is not for this one
        self.mailboxes.setdefault(mailbox.pattern, {})[mailbox] = None

    def remove(self, mailbox: _Mailbox[T]) -> None:
        same_pattern = self.mailboxes.get(mailbox.pattern, {})
        same_pattern.pop(mailbox, None)  # two threads may have closed it at once
        if not same_pattern:
            self.mailboxes.pop(mailbox.pattern, None)
        mailbox.messages.clear()
        mailbox.wake()

    def matching(self, patterns: tuple[str, ...]) -> list[_Mailbox[T]]:
        """The mailboxes of these patterns. A list: what a delivery pushes out may run a destructor."""
        mailboxes = self.mailboxes
        return [box for pattern in patterns if pattern in mailboxes for box in mailboxes[pattern]]

    def take_inbox(self) -> None:
        if self.shed:
            with self.table.lock:
                shed, self.shed = self.shed, Counter()
            for patterns, number in shed.items():
                for mailbox in self.matching(patterns):
                    mailbox.dropped += number
        for _ in range(len(self.inbox)):  # not those posted meanwhile: their `poke` brings us back
            try:
                patterns, message = self.inbox.popleft()
            except IndexError:  # another thread shed some, or a destructor published and came here first
                return
            for mailbox in self.matching(patterns):
                mailbox.put(message)

    def shed_oldest(self) -> None:
        """Drop the message that has waited longest, for the run to count: it is not taking its turn."""
        with self.table.lock:
            try:
                patterns, _ = self.inbox.popleft()
            except IndexError:  # the run took its turn after all
                return
            self.shed[patterns] += 1


class _Table(Generic[T]):
    """The hubs of one relay.

    Publishers read the tuple without a lock; who changes it puts a new one in its place. The lock is
    re-entrant because a destructor may run under it, in a garbage collection, and need it too.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize: int = maxsize
        self.hubs: tuple[_Hub[T], ...] = ()
        self.lock: threading.RLock = threading.RLock()

    def join(self, token: TrioToken, mailbox: _Mailbox[T]) -> _Hub[T]:
        """Register a mailbox in the current run, whose token this is."""
        for hub in self.hubs:
            if hub.token is token:
                hub.add(mailbox)
                return hub
        hub = _Hub(self, token)
        hub.add(mailbox)
        with self.lock:
            self.hubs = (*self.hubs, hub)
        return hub

    def forget(self, hub: _Hub[T]) -> None:
        with self.lock:
            self.hubs = tuple(other for other in self.hubs if other is not hub)


def _matching_patterns(subject: str) -> tuple[str, ...]:
    """The patterns that match a subject: itself, then prefixes from the longest, then `*`; none twice."""
    patterns = [subject]
    dot = subject.rfind(".")
    while dot >= 0:
        patterns.append(subject[: dot + 1] + "*")
        dot = subject.rfind(".", 0, dot)
    patterns.append("*")
    if subject.endswith("*"):  # the subject may be one of these patterns itself
        return tuple(dict.fromkeys(patterns))
    return tuple(patterns)


def _current_run() -> TrioToken | None:
    return trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None


def _no_text(what: str, value: object) -> StarioError:
    return StarioError(
        f"A {what} is text",
        context={what: value},
        help_text='Give a str: relay.publish("room.1", data), relay.subscribe("room.*").',
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
